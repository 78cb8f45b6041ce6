//! What a pod gets at admission, decided from the pod and what is known of its claims. Pure: no I/O, no clock.
//!
//! A pod with a claim of ours gets our scheduler, unless it names another, and *prefers* the nodes that have its data.
//! The hard truth stays with the volumes' node affinity and the scheduler's extender, which hold without this webhook.

use std::collections::{BTreeMap, BTreeSet};

use hawser_api::names;
use hawser_api::parameters::VolumeClass;
use k8s_openapi::api::core::v1::{
    NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, PreferredSchedulingTerm,
};

use crate::facts::{Class, ClassName, Driver, Replica, class_name};

/// Weight of the nodes that can serve a volume's data now.
const UP_TO_DATE_WEIGHT: i32 = 100;
/// Weight of the nodes whose copy is being made, is behind or can't be reached.
const BEHIND_WEIGHT: i32 = 50;

/// Where the data of one of the pod's volumes comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A claim that is bound to a volume of this driver; its copies, if it is a logical volume.
    Bound {
        driver: Driver,
        replicas: Vec<Replica>,
    },
    /// A claim, or one that will be made from a template, that has no volume yet.
    New { class: ClassName },
    /// Nothing is known of the claim.
    Unknown,
}

/// What is known of the cluster as far as one pod is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The pod's namespace is to be left alone.
    pub(crate) ignored: bool,
    /// By the name of the claim.
    pub(crate) claims: BTreeMap<String, Source>,
    /// By name: the classes that the claims ask for.
    pub(crate) classes: BTreeMap<String, Class>,
    /// The name of the default class.
    pub(crate) default_class: Option<String>,
}

/// What the pod gets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Decision {
    /// Our scheduler.
    pub(crate) scheduler: bool,
    /// Preferences for nodes, to be added to what the user wrote.
    pub(crate) preferences: Vec<PreferredSchedulingTerm>,
    /// Sentences for the user.
    pub(crate) warnings: Vec<String>,
}

/// The class of each new claim of the pod that does not stand in the API yet: its generic ephemeral volumes.
/// By the name of the volume in the pod.
pub(crate) fn ephemeral_classes(spec: &PodSpec) -> BTreeMap<String, ClassName> {
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    volumes
        .iter()
        .filter_map(|volume| {
            let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
            let meta = template.metadata.clone().unwrap_or_default();
            Some((volume.name.clone(), class_name(&meta, Some(&template.spec))))
        })
        .collect()
}

/// The names of the claims that the pod uses.
pub(crate) fn claim_names(spec: &PodSpec) -> BTreeSet<String> {
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    volumes
        .iter()
        .filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone()))
        .collect()
}

/// What the pod gets. Deciding again on the result gives nothing.
pub(crate) fn decide(pod: &Pod, known: &Known) -> Decision {
    let mut decision = Decision::default();
    let Some(spec) = &pod.spec else {
        return decision;
    };
    // A pod with a node never meets a scheduler.
    let placed = spec
        .node_name
        .as_deref()
        .is_some_and(|node| !node.is_empty());
    if known.ignored || placed {
        return decision;
    }

    let mut ours = false;
    let mut terms = Vec::new();
    for name in claim_names(spec) {
        match known.claims.get(&name) {
            None
            | Some(
                Source::Unknown
                | Source::Bound {
                    driver: Driver::Foreign,
                    ..
                },
            ) => {}
            Some(Source::Bound {
                driver: Driver::Disk,
                ..
            }) => ours = true,
            Some(Source::Bound {
                driver: Driver::Lvm,
                replicas,
            }) => {
                ours = true;
                terms.extend(preferences(replicas));
            }
            Some(Source::New { class }) => {
                ours |= judge(
                    &format!("claim {name:?}"),
                    class,
                    known,
                    &mut decision.warnings,
                );
            }
        }
    }
    for (volume, class) in ephemeral_classes(spec) {
        ours |= judge(
            &format!("ephemeral volume {volume:?}"),
            &class,
            known,
            &mut decision.warnings,
        );
    }

    decision.scheduler = ours && !names_scheduler(spec);
    let present = present_preferences(spec);
    for term in terms {
        if !present.contains(&term) && !decision.preferences.contains(&term) {
            decision.preferences.push(term);
        }
    }
    decision
}

/// Whether the claim to be made is ours; warns if it would be refused.
fn judge(what: &str, class: &ClassName, known: &Known, warnings: &mut Vec<String>) -> bool {
    let name = match class {
        ClassName::None => return false,
        ClassName::Default => known.default_class.as_ref(),
        ClassName::Named(name) => Some(name),
    };
    let Some((name, class)) = name.and_then(|name| known.classes.get_key_value(name)) else {
        return false;
    };
    match class.driver {
        Driver::Foreign => false,
        Driver::Disk => true,
        Driver::Lvm => {
            if let Err(error) = VolumeClass::parse_supported(&class.parameters) {
                warnings.push(format!(
                    "{what} will get no volume: storage class {name:?}: {error}"
                ));
            }
            true
        }
    }
}

/// Whether the user has chosen a scheduler. API servers write the default's name into pods that name none.
fn names_scheduler(spec: &PodSpec) -> bool {
    !matches!(
        spec.scheduler_name.as_deref(),
        None | Some("" | names::scheduling::DEFAULT_SCHEDULER)
    )
}

/// The nodes of one volume's copies, those that can serve it now first.
fn preferences(replicas: &[Replica]) -> Vec<PreferredSchedulingTerm> {
    let nodes = |up_to_date: bool| -> BTreeSet<&str> {
        replicas
            .iter()
            .filter(|replica| replica.up_to_date == up_to_date)
            .map(|replica| replica.node.as_str())
            .collect()
    };
    let (current, behind) = (nodes(true), nodes(false));
    let behind = behind.difference(&current).copied().collect();
    [(UP_TO_DATE_WEIGHT, current), (BEHIND_WEIGHT, behind)]
        .into_iter()
        .filter(|(_, nodes)| !nodes.is_empty())
        .map(|(weight, nodes)| term(weight, nodes))
        .collect()
}

fn term(weight: i32, nodes: BTreeSet<&str>) -> PreferredSchedulingTerm {
    PreferredSchedulingTerm {
        weight,
        preference: NodeSelectorTerm {
            match_expressions: Some(vec![NodeSelectorRequirement {
                key: names::LVM_TOPOLOGY_KEY.to_owned(),
                operator: "In".to_owned(),
                values: Some(nodes.into_iter().map(str::to_owned).collect()),
            }]),
            match_fields: None,
        },
    }
}

fn present_preferences(spec: &PodSpec) -> &[PreferredSchedulingTerm] {
    spec.affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .preferred_during_scheduling_ignored_during_execution
                .as_deref()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn a_pod(spec: &Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "db-0" }, "spec": spec })).unwrap()
    }

    fn with_claim(more: &Value) -> Pod {
        let mut spec = json!({ "containers": [], "volumes": [
            { "name": "data", "persistentVolumeClaim": { "claimName": "data-db-0" } }
        ] });
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        a_pod(&spec)
    }

    fn a_class(driver: Driver, parameters: &[(&str, &str)]) -> Class {
        let parameters = parameters
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Class {
            driver,
            parameters,
            default: false,
            since: None,
        }
    }

    fn known(source: Source) -> Known {
        let good = [("poolClass", "SSD"), ("replicaNumber", "1")];
        Known {
            claims: BTreeMap::from([("data-db-0".to_owned(), source)]),
            classes: BTreeMap::from([
                ("ssd".to_owned(), a_class(Driver::Lvm, &good)),
                (
                    "thin".to_owned(),
                    a_class(Driver::Lvm, &[("thin", "true"), good[0], good[1]]),
                ),
                ("disk".to_owned(), a_class(Driver::Disk, &[])),
                ("nfs".to_owned(), a_class(Driver::Foreign, &[])),
            ]),
            default_class: Some("ssd".to_owned()),
            ignored: false,
        }
    }

    fn new(class: &str) -> Source {
        Source::New {
            class: ClassName::Named(class.to_owned()),
        }
    }

    fn a_replica(node: &str, up_to_date: bool) -> Replica {
        Replica {
            volume: "v".to_owned(),
            node: node.to_owned(),
            up_to_date,
        }
    }

    fn bound(replicas: &[Replica]) -> Source {
        Source::Bound {
            driver: Driver::Lvm,
            replicas: replicas.to_vec(),
        }
    }

    fn weights(decision: &Decision) -> Vec<(i32, Vec<String>)> {
        let nodes = |term: &PreferredSchedulingTerm| {
            let expressions = term.preference.match_expressions.clone().unwrap();
            assert_eq!(
                (
                    expressions[0].key.as_str(),
                    expressions[0].operator.as_str()
                ),
                (names::LVM_TOPOLOGY_KEY, "In")
            );
            expressions[0].values.clone().unwrap()
        };
        decision
            .preferences
            .iter()
            .map(|term| (term.weight, nodes(term)))
            .collect()
    }

    #[test]
    fn our_scheduler_for_new_claims_of_ours_only() {
        let pod = with_claim(&json!({}));
        for (source, wanted) in [
            (new("ssd"), true),
            (new("disk"), true),
            (new("nfs"), false),
            (new("unheard-of"), false),
            (
                Source::New {
                    class: ClassName::Default,
                },
                true,
            ),
            (
                Source::New {
                    class: ClassName::None,
                },
                false,
            ),
            (Source::Unknown, false),
        ] {
            assert_eq!(
                decide(&pod, &known(source.clone())).scheduler,
                wanted,
                "{source:?}"
            );
        }
    }

    #[test]
    fn without_a_default_class_a_claim_that_names_none_is_not_ours() {
        let mut known = known(Source::New {
            class: ClassName::Default,
        });
        known.default_class = None;
        assert_eq!(decide(&with_claim(&json!({})), &known), Decision::default());
    }

    #[test]
    fn a_scheduler_that_the_user_chose_stays() {
        for (name, replaced) in [
            ("", true),
            ("default-scheduler", true),
            ("mine", false),
            ("hwameistor-scheduler", false),
        ] {
            let pod = with_claim(&json!({ "schedulerName": name }));
            assert_eq!(
                decide(&pod, &known(new("ssd"))).scheduler,
                replaced,
                "{name}"
            );
        }
    }

    #[test]
    fn bound_claims_draw_the_pod_to_their_copies() {
        let source = bound(&[
            a_replica("n2", true),
            a_replica("n1", false),
            a_replica("n3", true),
        ]);
        let decision = decide(&with_claim(&json!({})), &known(source));
        assert!(decision.scheduler);
        assert_eq!(
            weights(&decision),
            [
                (100, vec!["n2".to_owned(), "n3".to_owned()]),
                (50, vec!["n1".to_owned()])
            ]
        );
    }

    #[test]
    fn a_bound_claim_of_somebody_else_is_left_alone_whatever_its_class() {
        let source = Source::Bound {
            driver: Driver::Foreign,
            replicas: Vec::new(),
        };
        assert_eq!(
            decide(&with_claim(&json!({})), &known(source)),
            Decision::default()
        );
    }

    #[test]
    fn preferences_that_are_there_are_not_added_again() {
        let source = bound(&[a_replica("n1", true)]);
        let there = json!({ "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
            { "weight": 100, "preference": { "matchExpressions": [
                { "key": "topology.lvm.hwameistor.io/node", "operator": "In", "values": ["n1"] }
            ] } }
        ] } } });
        assert!(
            decide(&with_claim(&there), &known(source))
                .preferences
                .is_empty()
        );
    }

    #[test]
    fn two_volumes_on_the_same_nodes_make_one_preference() {
        let pod = a_pod(&json!({ "containers": [], "volumes": [
            { "name": "a", "persistentVolumeClaim": { "claimName": "a" } },
            { "name": "b", "persistentVolumeClaim": { "claimName": "b" } }
        ] }));
        let source = bound(&[a_replica("n1", true)]);
        let claims = BTreeMap::from([("a".to_owned(), source.clone()), ("b".to_owned(), source)]);
        let decision = decide(
            &pod,
            &Known {
                claims,
                ..Known::default()
            },
        );
        assert_eq!(weights(&decision), [(100, vec!["n1".to_owned()])]);
    }

    #[test]
    fn ephemeral_volumes_are_claims_too() {
        let pod = |class: Value| {
            a_pod(&json!({ "containers": [], "volumes": [
                { "name": "room", "ephemeral": { "volumeClaimTemplate": { "spec": class } } }
            ] }))
        };
        let known = known(Source::Unknown);
        assert!(decide(&pod(json!({ "storageClassName": "ssd" })), &known).scheduler);
        assert!(decide(&pod(json!({})), &known).scheduler);
        assert!(!decide(&pod(json!({ "storageClassName": "" })), &known).scheduler);
        assert!(!decide(&pod(json!({ "storageClassName": "nfs" })), &known).scheduler);
    }

    #[test]
    fn pods_that_are_placed_and_namespaces_to_be_ignored_are_left_alone() {
        let placed = with_claim(&json!({ "nodeName": "n1" }));
        assert_eq!(decide(&placed, &known(new("ssd"))), Decision::default());
        let ignored = Known {
            ignored: true,
            ..known(new("ssd"))
        };
        assert_eq!(
            decide(&with_claim(&json!({})), &ignored),
            Decision::default()
        );
    }

    #[test]
    fn a_class_that_can_not_be_served_is_a_warning() {
        let decision = decide(&with_claim(&json!({})), &known(new("thin")));
        assert!(decision.scheduler);
        assert_eq!(
            decision.warnings,
            [concat!(
                r#"claim "data-db-0" will get no volume: storage class "thin": parameter "thin" is "true", "#,
                "which this version does not serve: use false, or leave it out"
            )]
        );
    }
}
