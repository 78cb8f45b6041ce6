//! A policy's status as a whole: what all replicas have counted, and whether it is in force. Pure.

use std::collections::BTreeSet;

use hawser_api::{Condition, ConditionStatus, PolicyCounts, StoragePolicy, StoragePolicyStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::policy::compile::compile;

/// Whether the policy is in force.
pub(crate) const EFFECTIVE: &str = "Effective";
/// Whether the classes that it names are there and ours.
pub(crate) const CLASSES_KNOWN: &str = "ClassesKnown";

/// The status as it should be. `gone`: replicas of the webhook that are no more; what they had counted goes over into `earlier`, so that
/// sums never fall. `ours`: names of our classes.
pub(crate) fn sum(
    policy: &StoragePolicy,
    gone: &BTreeSet<String>,
    ours: &BTreeSet<String>,
    now: &Time,
) -> StoragePolicyStatus {
    let mut status = policy.status.clone().unwrap_or_default();
    let (left, staying): (Vec<_>, Vec<_>) = std::mem::take(&mut status.replicas)
        .into_iter()
        .partition(|(name, _)| gone.contains(name));
    status.replicas = staying.into_iter().collect();
    for (_, counts) in left {
        add(status.earlier.get_or_insert_default(), &counts);
    }
    let mut all = status.earlier.clone().unwrap_or_default();
    for counts in status.replicas.values() {
        add(&mut all, counts);
    }
    let PolicyCounts {
        audited,
        denied,
        last_violation,
        matched,
        warned,
    } = all;
    let generation = policy.metadata.generation.unwrap_or_default();
    StoragePolicyStatus {
        audited,
        conditions: conditions(policy, ours, &status.conditions, generation, now),
        denied,
        last_violation,
        matched,
        observed_generation: generation,
        warned,
        ..status
    }
}

/// Adds numbers up; of two violations the newer one stays.
pub(crate) fn add(sum: &mut PolicyCounts, more: &PolicyCounts) {
    sum.audited = sum.audited.saturating_add(more.audited);
    sum.denied = sum.denied.saturating_add(more.denied);
    sum.matched = sum.matched.saturating_add(more.matched);
    sum.warned = sum.warned.saturating_add(more.warned);
    let when = |counts: &PolicyCounts| counts.last_violation.as_ref().and_then(|v| v.time.clone());
    if when(more) > when(sum) {
        sum.last_violation.clone_from(&more.last_violation);
    }
}

fn conditions(
    policy: &StoragePolicy,
    ours: &BTreeSet<String>,
    before: &[Condition],
    generation: i64,
    now: &Time,
) -> Vec<Condition> {
    let condition = |type_: &str, wrong: Option<String>, reasons: (&str, &str)| {
        let status = match wrong {
            None => ConditionStatus::True,
            Some(_) => ConditionStatus::False,
        };
        let same = before
            .iter()
            .find(|condition| condition.type_ == type_ && condition.status == status);
        Condition {
            last_transition_time: same
                .and_then(|condition| condition.last_transition_time.clone())
                .or_else(|| Some(now.clone())),
            observed_generation: Some(generation),
            reason: if wrong.is_none() {
                reasons.0
            } else {
                reasons.1
            }
            .to_owned(),
            message: wrong.unwrap_or_default(),
            status,
            type_: type_.to_owned(),
        }
    };
    let compiled = compile(policy);
    let unknown = compiled.as_ref().ok().and_then(|policy| {
        let named = policy.names_classes();
        let unknown: Vec<&str> = named
            .into_iter()
            .filter(|name| !ours.contains(*name))
            .collect();
        (!unknown.is_empty()).then(|| {
            format!(
                "no StorageClass of Hawser is called {}; correct the name, or add the class",
                unknown.join(", ")
            )
        })
    });
    vec![
        condition(CLASSES_KNOWN, unknown, ("AllKnown", "UnknownClass")),
        condition(EFFECTIVE, compiled.err(), ("InForce", "Invalid")),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(minute: u32) -> Time {
        Time(format!("2026-01-01T00:{minute:02}:00Z").parse().unwrap())
    }

    fn a_policy(spec: &Value, status: &Value) -> StoragePolicy {
        serde_json::from_value(json!({
            "metadata": { "name": "p", "generation": 3 }, "spec": spec, "status": status
        }))
        .unwrap()
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn sums_are_those_of_all_replicas_and_never_fall() {
        let violation = |minute| json!({ "message": format!("at {minute}"), "time": at(minute) });
        let mut policy = a_policy(
            &json!({ "mode": "Enforce" }),
            &json!({
                "earlier": { "matched": 5, "denied": 1, "lastViolation": violation(1) },
                "replicas": {
                    "one": { "matched": 10, "denied": 2, "lastViolation": violation(9) },
                    "two": { "matched": 3, "warned": 1, "lastViolation": violation(4) }
                }
            }),
        );
        let first = sum(&policy, &BTreeSet::new(), &BTreeSet::new(), &at(10));
        assert_eq!((first.matched, first.denied, first.warned), (18, 3, 1));
        assert_eq!(first.last_violation.as_ref().unwrap().message, "at 9");
        assert_eq!(first.observed_generation, 3);

        policy.status = Some(first.clone());
        let second = sum(&policy, &names(&["one"]), &BTreeSet::new(), &at(11));
        assert_eq!(second.replicas.keys().collect::<Vec<_>>(), ["two"]);
        assert_eq!(second.earlier.as_ref().unwrap().matched, 15);
        assert_eq!(
            (second.matched, second.denied, &second.last_violation),
            (18, 3, &first.last_violation)
        );

        // Nothing new, nothing to write.
        policy.status = Some(second.clone());
        assert_eq!(
            sum(&policy, &names(&["one"]), &BTreeSet::new(), &at(12)),
            second
        );
    }

    #[test]
    fn conditions_say_what_is_wrong_and_keep_their_time() {
        let spec = json!({ "mode": "Enforce", "restrict": { "classes": ["fast", "gone"] } });
        let mut policy = a_policy(&spec, &json!({}));
        let ours = names(&["fast"]);
        let status = sum(&policy, &BTreeSet::new(), &ours, &at(1));
        let text = |status: &StoragePolicyStatus| -> Vec<String> {
            let all = status.conditions.iter();
            all.map(|c| format!("{} {} {}", c.type_, c.status, c.reason))
                .collect()
        };
        assert_eq!(
            text(&status),
            ["ClassesKnown False UnknownClass", "Effective True InForce"]
        );
        assert!(status.conditions[0].message.contains("called gone"));

        policy.status = Some(status);
        policy.spec.mode = "Dance".into();
        let status = sum(&policy, &BTreeSet::new(), &ours, &at(2));
        assert_eq!(
            text(&status),
            ["ClassesKnown True AllKnown", "Effective False Invalid"]
        );
        assert_eq!(status.conditions[1].last_transition_time, Some(at(2)));
        assert!(status.conditions[1].message.contains("\"Dance\""));
    }
}
