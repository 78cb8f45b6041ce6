//! A decision applied to the pod as it came, and the JSON patch that says the same.
//!
//! The pod is changed as JSON, not as a typed object, so that fields which this version does not know stay as they are.
//! Only ever adds: one exception is the scheduler's name, which replaces an empty or the default one.

use hawser_api::names;
use json_patch::Patch;
use serde_json::{Map, Value};

use crate::decide::Decision;

const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// The patch that gives the pod what was decided; empty if that is nothing, or if this is no pod.
pub(crate) fn patch(pod: &Value, decision: &Decision) -> Patch {
    let mut patched = pod.clone();
    match apply(&mut patched, decision) {
        Some(()) => json_patch::diff(pod, &patched),
        None => Patch(Vec::new()),
    }
}

fn apply(pod: &mut Value, decision: &Decision) -> Option<()> {
    let spec = object(pod.as_object_mut()?, "spec")?;
    if decision.scheduler {
        spec.insert(
            "schedulerName".to_owned(),
            names::scheduling::SCHEDULER.into(),
        );
    }
    if !decision.preferences.is_empty() {
        let node_affinity = object(object(spec, "affinity")?, "nodeAffinity")?;
        let preferred = node_affinity.entry(PREFERRED).or_insert(Value::Null);
        if preferred.is_null() {
            *preferred = Value::Array(Vec::new());
        }
        let terms = decision
            .preferences
            .iter()
            .filter_map(|term| serde_json::to_value(term).ok());
        preferred.as_array_mut()?.extend(terms);
    }
    Some(())
}

/// The member as an object; made if it is absent or null. `None`, and unchanged, if it is something else.
fn object<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    let member = parent.entry(key).or_insert(Value::Null);
    if member.is_null() {
        *member = Value::Object(Map::new());
    }
    member.as_object_mut()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::decide::{Known, Source, decide};
    use crate::facts::{Driver, Replica};

    fn known(replicas: &[(String, bool)]) -> Known {
        let replicas = replicas
            .iter()
            .map(|(node, up_to_date)| Replica {
                volume: "v".to_owned(),
                node: node.clone(),
                up_to_date: *up_to_date,
            })
            .collect();
        let source = Source::Bound {
            driver: Driver::Lvm,
            replicas,
        };
        Known {
            claims: BTreeMap::from([("c".to_owned(), source)]),
            ..Known::default()
        }
    }

    fn pass(pod: &mut Value, known: &Known) -> Patch {
        let typed = serde_json::from_value(pod.clone()).unwrap();
        let patch = patch(pod, &decide(&typed, known));
        json_patch::patch(pod, &patch).unwrap();
        patch
    }

    #[test]
    fn nulls_on_the_way_are_filled() {
        for affinity in [json!(null), json!({}), json!({ "nodeAffinity": null })] {
            let mut pod = json!({ "metadata": {}, "spec": {
                "containers": [], "affinity": affinity,
                "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }]
            } });
            pass(&mut pod, &known(&[("n1".to_owned(), true)]));
            let terms = &pod["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
            assert_eq!(terms.as_array().unwrap().len(), 1);
        }
    }

    /// Whether everything that `before` says is still said by `after`; lists may have grown at their end.
    fn kept(before: &Value, after: &Value, path: &str) -> Result<(), String> {
        match (before, after) {
            (Value::Null, _) => Ok(()),
            (Value::Object(before), Value::Object(after)) => {
                before.iter().try_for_each(|(key, value)| {
                    let path = format!("{path}/{key}");
                    kept(
                        value,
                        after.get(key).ok_or(format!("{path} is gone"))?,
                        &path,
                    )
                })
            }
            (Value::Array(before), Value::Array(after)) => {
                before.iter().enumerate().try_for_each(|(n, value)| {
                    let path = format!("{path}/{n}");
                    kept(value, after.get(n).ok_or(format!("{path} is gone"))?, &path)
                })
            }
            (before, after) if before == after => Ok(()),
            (Value::String(before), _)
                if path == "/spec/schedulerName"
                    && (before.is_empty() || before == "default-scheduler") =>
            {
                Ok(())
            }
            (before, after) => Err(format!("{path} was {before} and is {after}")),
        }
    }

    fn a_term() -> impl Strategy<Value = Value> {
        (1..=100_i32, "[a-z]{1,3}", prop::bool::ANY).prop_map(|(weight, node, ours)| {
            let key = if ours { names::LVM_TOPOLOGY_KEY } else { "disktype" };
            json!({ "weight": weight, "preference": { "matchExpressions": [{ "key": key, "operator": "In", "values": [node] }] } })
        })
    }

    fn an_affinity() -> impl Strategy<Value = Value> {
        let required = json!({ "nodeSelectorTerms": [{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n9"] }] }] });
        (prop::collection::vec(a_term(), 0..4), prop::bool::ANY, prop::bool::ANY).prop_map(move |(terms, has_required, has_pods)| {
            let mut affinity = json!({ "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": terms } });
            if has_required {
                affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = required.clone();
            }
            if has_pods {
                affinity["podAntiAffinity"] = json!({ "someday": [1, 2] });
            }
            affinity
        })
    }

    proptest! {
        #[test]
        fn what_the_user_wrote_stays_and_a_second_pass_is_empty(
            scheduler in prop::sample::select(vec![json!(null), json!(""), json!("default-scheduler"), json!("mine")]),
            affinity in prop::option::of(an_affinity()),
            replicas in prop::collection::vec(("[a-z]{1,3}", prop::bool::ANY), 0..4),
            unknown in "[a-z]{0,8}",
        ) {
            let mut pod = json!({ "metadata": { "name": "p" }, "spec": {
                "containers": [{ "name": "c", "image": "i" }],
                "fieldOfTomorrow": { "value": unknown },
                "tolerations": [{ "operator": "Exists" }],
                "schedulerName": scheduler,
                "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }]
            } });
            if let Some(affinity) = affinity {
                pod["spec"]["affinity"] = affinity;
            }
            let before = pod.clone();
            let known = known(&replicas);
            pass(&mut pod, &known);
            prop_assert_eq!(kept(&before, &pod, ""), Ok(()));
            let named = if scheduler == "mine" { "mine" } else { "hwameistor-scheduler" };
            prop_assert_eq!(&pod["spec"]["schedulerName"], named);

            let second = pass(&mut pod, &known);
            prop_assert!(second.0.is_empty(), "{}", second);
        }
    }
}
