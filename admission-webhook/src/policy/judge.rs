//! Whether policies allow what is asked for. What several of them restrict must be allowed by each, so their limits intersect by themselves.

use std::sync::Arc;

use hawser_api::parameters::{VolumeClass, keys};
use hawser_api::{PolicyMode, quantity};

use crate::policy::compile::{Asker, Policy};
use crate::wire::{Answer, Because};

/// What is asked for. What is `None` is not asked for, and not judged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// A class, for a claim that chooses one.
    pub(crate) class: Option<String>,
    /// Bytes.
    pub(crate) bytes: Option<i64>,
    /// What is to be made.
    pub(crate) volume: Option<Nature>,
}

/// What a volume is like but for its size.
#[derive(Clone, Debug)]
pub(crate) struct Nature {
    /// What says so, for sentences: `storage class "fast"`.
    pub(crate) whose: String,
    pub(crate) replicas: Option<i64>,
    /// Operations per second.
    pub(crate) iops: Option<Limit>,
    /// Bytes per second.
    pub(crate) throughput: Option<Limit>,
    pub(crate) encrypted: Option<bool>,
}

impl Nature {
    /// Of volumes of a class.
    pub(crate) fn of_class(name: &str, class: &VolumeClass) -> Self {
        let qos = class.qos.clone().unwrap_or_default();
        Self {
            whose: format!("storage class {name:?}"),
            replicas: Some(class.replicas),
            iops: Some(limit(&qos.iops)),
            throughput: Some(limit(&qos.throughput)),
            encrypted: Some(class.encryption.is_some()),
        }
    }
}

/// How much a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Limit {
    At(i64),
    Unlimited,
}

/// A limit as the API has it: empty and 0 are none.
pub(crate) fn limit(text: &str) -> Limit {
    let limit = quantity::parse(text).ok().filter(|limit| *limit > 0);
    limit.map_or(Limit::Unlimited, Limit::At)
}

/// One thing that a policy does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) policy: String,
    pub(crate) mode: PolicyMode,
    pub(crate) sentence: String,
}

/// What policies say of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// Names of those that hold for it.
    pub(crate) matched: Vec<String>,
    /// In order of precedence.
    pub(crate) violations: Vec<Violation>,
}

impl Judgement {
    /// Carries the violations into the answer, each as its policy's mode says.
    pub(crate) fn tell(&self, answer: &mut Answer) {
        for violation in &self.violations {
            let sentence = violation.sentence.clone();
            answer.audit.push(sentence.clone());
            match violation.mode {
                PolicyMode::Enforce => answer.refuse(Because::Forbidden, sentence),
                PolicyMode::Warn => answer.warnings.push(sentence),
                PolicyMode::Audit | PolicyMode::Unset | PolicyMode::Other(_) => {}
            }
        }
    }

    /// What another part of the same request came to.
    pub(crate) fn join(&mut self, other: Self) {
        for name in other.matched {
            if !self.matched.contains(&name) {
                self.matched.push(name);
            }
        }
        for violation in other.violations {
            if !self.violations.contains(&violation) {
                self.violations.push(violation);
            }
        }
    }
}

/// Asks all policies. `what`: what it is about, where a request is about several things, such as `ephemeral volume "room": `.
pub(crate) fn judge(
    policies: &[Arc<Policy>],
    asker: &Asker<'_>,
    wish: &Wish,
    what: &str,
) -> Judgement {
    let mut judgement = Judgement::default();
    for policy in policies.iter().filter(|policy| policy.holds_for(asker)) {
        judgement.matched.push(policy.name.clone());
        let sentences = against(policy, wish).into_iter();
        judgement
            .violations
            .extend(sentences.map(|sentence| Violation {
                policy: policy.name.clone(),
                mode: policy.mode.clone(),
                sentence: format!("{what}{sentence}"),
            }));
    }
    judgement
}

/// What the policy has against it, as sentences that say what would be right.
fn against(policy: &Policy, wish: &Wish) -> Vec<String> {
    let limits = &policy.limits;
    let by = format!("StoragePolicy {:?}", policy.name);
    let mut found = Vec::new();
    if let Some(class) = &wish.class
        && !limits.classes.is_empty()
        && !limits.classes.contains(class)
    {
        let allowed: Vec<&str> = limits.classes.iter().map(String::as_str).collect();
        let allowed = allowed.join(", ");
        found.push(format!(
            "storage class {class:?} is not allowed by {by}: use one of {allowed}"
        ));
    }
    if let Some(bytes) = wish.bytes {
        let size = quantity::human(bytes);
        if let Some(most) = limits.most_bytes.filter(|most| bytes > *most) {
            let most = quantity::human(most);
            found.push(format!(
                "{size} is more than {by} allows: ask for {most} or less"
            ));
        }
        if let Some(least) = limits.least_bytes.filter(|least| bytes < *least) {
            let least = quantity::human(least);
            found.push(format!(
                "{size} is less than {by} allows: ask for {least} or more"
            ));
        }
    }
    if let Some(volume) = &wish.volume {
        found.extend(against_nature(policy, volume, &by));
    }
    found
}

fn against_nature(policy: &Policy, volume: &Nature, by: &str) -> Vec<String> {
    let (limits, whose) = (&policy.limits, &volume.whose);
    let mut found = Vec::new();
    if let Some(replicas) = volume.replicas {
        let (least, most) = (limits.least_replicas, limits.most_replicas);
        let copies = |n: i64| {
            if n == 1 {
                "1 copy".to_owned()
            } else {
                format!("{n} copies")
            }
        };
        let wanted = match (least, most) {
            (Some(least), _) if replicas < least => Some(format!("at least {}", copies(least))),
            (_, Some(most)) if replicas > most => Some(format!("at most {}", copies(most))),
            _ => None,
        };
        if let Some(wanted) = wanted {
            let has = copies(replicas);
            found.push(format!(
                "{whose} has {has}, {by} allows {wanted}: use a class whose {:?} is so",
                keys::REPLICAS
            ));
        }
    }
    for (has, most, what, key) in [
        (volume.iops, limits.most_iops, "operations", keys::IOPS),
        (
            volume.throughput,
            limits.most_throughput,
            "bytes",
            keys::THROUGHPUT,
        ),
    ] {
        let (Some(has), Some(most)) = (has, most) else {
            continue;
        };
        if has > Limit::At(most) {
            let has = match has {
                Limit::At(has) => format!("a limit of {has}"),
                Limit::Unlimited => "no limit".to_owned(),
            };
            found.push(format!(
                "{whose} has {has} of {what} per second, {by} allows at most {most}: use a class with {key:?} of {most} or less"
            ));
        }
    }
    if limits.encrypted && volume.encrypted == Some(false) {
        found.push(format!(
            "{whose} does not encrypt, {by} asks for it: use a class with {:?} and {:?}",
            keys::ENCRYPT_SECRET,
            keys::ENCRYPT_TYPE
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use hawser_api::quantity::GIB;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::compile::tests::policies;

    fn asker() -> Asker<'static> {
        Asker {
            namespace: "shop",
            namespace_labels: &None,
            labels: &None,
            class: Some("fast"),
        }
    }

    fn a_class(more: &[(&str, &str)]) -> Nature {
        let mut all = vec![("poolClass", "SSD"), ("replicaNumber", "1")];
        all.retain(|(key, _)| !more.iter().any(|(other, _)| other == key));
        all.extend(more);
        Nature::of_class("fast", &VolumeClass::parse(all).unwrap())
    }

    fn a_wish(bytes: i64, more: &[(&str, &str)]) -> Wish {
        Wish {
            class: Some("fast".to_owned()),
            bytes: Some(bytes),
            volume: Some(a_class(more)),
        }
    }

    fn sentences(restrict: &Value, wish: &Wish) -> Vec<String> {
        let all = policies(&[("p", json!({ "mode": "Enforce", "restrict": restrict }))]);
        let judgement = judge(&all, &asker(), wish, "");
        assert_eq!(judgement.matched, ["p"]);
        let violations = judgement.violations.into_iter();
        violations.map(|violation| violation.sentence).collect()
    }

    #[test]
    fn each_limit_is_told_with_its_policy_and_what_would_be_right() {
        let plain = a_wish(20 * GIB, &[]);
        let by = "StoragePolicy \"p\"";
        for (restrict, wish, wanted) in [
            (
                json!({ "classes": ["slow", "slower"] }),
                &plain,
                format!("storage class \"fast\" is not allowed by {by}: use one of slow, slower"),
            ),
            (
                json!({ "size": { "max": "10Gi" } }),
                &plain,
                format!("20 GiB is more than {by} allows: ask for 10 GiB or less"),
            ),
            (
                json!({ "size": { "min": "1Ti" } }),
                &plain,
                format!("20 GiB is less than {by} allows: ask for 1 TiB or more"),
            ),
            (
                json!({ "replicas": { "min": 2 } }),
                &plain,
                format!(
                    "storage class \"fast\" has 1 copy, {by} allows at least 2 copies: use a class whose \"replicaNumber\" is so"
                ),
            ),
            (
                json!({ "replicas": { "max": 1 } }),
                &a_wish(1, &[("replicaNumber", "2")]),
                format!(
                    "storage class \"fast\" has 2 copies, {by} allows at most 1 copy: use a class whose \"replicaNumber\" is so"
                ),
            ),
            (
                json!({ "qos": { "maxIops": "1k" } }),
                &plain,
                format!(
                    "storage class \"fast\" has no limit of operations per second, {by} allows at most 1000: \
                     use a class with \"provision-iops-on-creation\" of 1000 or less"
                ),
            ),
            (
                json!({ "qos": { "maxThroughput": "1Ki" } }),
                &a_wish(1, &[("provision-throughput-on-creation", "2Ki")]),
                format!(
                    "storage class \"fast\" has a limit of 2048 of bytes per second, {by} allows at most 1024: \
                     use a class with \"provision-throughput-on-creation\" of 1024 or less"
                ),
            ),
            (
                json!({ "encryption": "Required" }),
                &plain,
                format!(
                    "storage class \"fast\" does not encrypt, {by} asks for it: use a class with \"encryptSecret\" and \"encryptType\""
                ),
            ),
        ] {
            assert_eq!(sentences(&restrict, wish), [wanted], "{restrict}");
        }
    }

    #[test]
    fn what_is_within_passes_and_what_is_not_asked_for_is_not_judged() {
        let restrict = json!({
            "classes": ["fast"], "encryption": "Required", "replicas": { "min": 1, "max": 2 },
            "qos": { "maxIops": "1000", "maxThroughput": "1Gi" }, "size": { "min": "1Gi", "max": "1Gi" }
        });
        let fine = a_wish(
            GIB,
            &[
                ("encryptSecret", "a/b"),
                ("encryptType", "LUKS"),
                ("provision-iops-on-creation", "1000"),
                ("provision-throughput-on-creation", "1Gi"),
            ],
        );
        assert_eq!(sentences(&restrict, &fine), Vec::<String>::new());
        assert_eq!(sentences(&restrict, &Wish::default()), Vec::<String>::new());
    }

    #[test]
    fn each_mode_does_its_own_and_the_order_is_that_of_precedence() {
        let limit = |mode: &str, priority: i64| json!({ "mode": mode, "priority": priority, "restrict": { "size": { "max": "1Gi" } } });
        let all = policies(&[
            ("a", limit("Audit", 0)),
            ("e", limit("Enforce", 0)),
            ("w", limit("Warn", 7)),
        ]);
        let judgement = judge(&all, &asker(), &a_wish(2 * GIB, &[]), "");
        assert_eq!(judgement.matched, ["w", "a", "e"]);
        let mut answer = Answer::default();
        judgement.tell(&mut answer);
        assert_eq!(answer.audit.len(), 3);
        assert!(answer.warnings.len() == 1 && answer.warnings[0].contains("\"w\""));
        assert!(answer.refusals.len() == 1 && answer.refusals[0].1.contains("\"e\""));
    }

    proptest! {
        /// What all allow is what each allows: whatever their order and priorities.
        #[test]
        fn limits_intersect(
            ranges in prop::collection::vec((prop::option::of(1..20_i64), prop::option::of(1..20_i64), -3..3_i64), 1..5),
            asked in 1..20_i64,
        ) {
            let spec = |(min, max, priority): &(Option<i64>, Option<i64>, i64)| {
                let mut size = json!({});
                if let Some(min) = min { size["min"] = json!(format!("{min}Gi")); }
                if let Some(max) = max { size["max"] = json!(format!("{max}Gi")); }
                json!({ "mode": "Enforce", "priority": priority, "restrict": { "size": size } })
            };
            let named: Vec<(String, Value)> = ranges.iter().enumerate().map(|(n, r)| (format!("p{n}"), spec(r))).collect();
            let named: Vec<(&str, Value)> = named.iter().map(|(n, s)| (n.as_str(), s.clone())).collect();
            let allowed = judge(&policies(&named), &asker(), &a_wish(asked * GIB, &[]), "").violations.is_empty();
            let wanted = ranges.iter().all(|(min, max, _)| min.is_none_or(|m| asked >= m) && max.is_none_or(|m| asked <= m));
            prop_assert_eq!(allowed, wanted);
        }
    }
}
