//! A policy in the form in which it is asked, and all of them in order of precedence.

use std::collections::BTreeSet;
use std::sync::Arc;

use hawser_api::{
    EncryptionRule, Locality, PolicyMode, PolicyRestrict, PolicySelector, StoragePolicy, quantity,
};
use hawser_runtime::index::{Index, Key};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use parking_lot::RwLock;

use crate::facts::Labels;

/// Whose claim it is: what policies choose by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) namespace_labels: &'a Labels,
    /// Of the claim.
    pub(crate) labels: &'a Labels,
    /// `None`: the claim has no class (yet).
    pub(crate) class: Option<&'a str>,
}

/// The limits of a policy; absent is unlimited.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) classes: BTreeSet<String>,
    pub(crate) encrypted: bool,
    pub(crate) most_iops: Option<i64>,
    pub(crate) most_throughput: Option<i64>,
    pub(crate) least_replicas: Option<i64>,
    pub(crate) most_replicas: Option<i64>,
    pub(crate) least_bytes: Option<i64>,
    pub(crate) most_bytes: Option<i64>,
}

/// A policy.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) mode: PolicyMode,
    priority: i64,
    namespaces: Option<(BTreeSet<String>, Option<Selector>)>,
    claims: Option<Selector>,
    classes: BTreeSet<String>,
    pub(crate) limits: Limits,
    requires_locality: bool,
    default_class: Option<String>,
    default_size: Option<String>,
}

/// Reads a policy. An error is a sentence; the schema lets no such policy in, but an older schema may have.
pub(crate) fn compile(object: &StoragePolicy) -> Result<Policy, String> {
    let spec = &object.spec;
    if !PolicyMode::KNOWN.contains(&spec.mode) {
        return Err(format!(
            "spec.mode is {:?}: it must be Enforce, Warn or Audit",
            spec.mode.as_str()
        ));
    }
    let selects = spec.selects.clone().unwrap_or_default();
    let defaults = spec.defaults.clone().unwrap_or_default();
    // Only what is enforced changes anything.
    let enforced = spec.mode == PolicyMode::Enforce;
    let given = |text: String| Some(text).filter(|text| enforced && !text.is_empty());
    let namespaces = selects.namespaces.map(|chosen| {
        let selector = chosen.selector.as_ref();
        let selector = selector.map(|s| selector_of(s, "spec.match.namespaces.selector"));
        Ok::<_, String>((chosen.names.into_iter().collect(), selector.transpose()?))
    });
    let claims = selects.claims.as_ref();
    let claims = claims.map(|s| selector_of(s, "spec.match.claims"));
    Ok(Policy {
        name: object.metadata.name.clone().unwrap_or_default(),
        mode: spec.mode.clone(),
        priority: spec.priority,
        namespaces: namespaces.transpose()?,
        claims: claims.transpose()?,
        classes: selects.classes.into_iter().collect(),
        limits: limits(spec.restrict.clone().unwrap_or_default())?,
        requires_locality: enforced && spec.locality == Locality::Required,
        default_class: given(defaults.class_name),
        default_size: number("spec.defaults.size", &defaults.size).map(|_| given(defaults.size))?,
    })
}

fn selector_of(selector: &PolicySelector, field: &str) -> Result<Selector, String> {
    Selector::try_from(LabelSelector::from(selector)).map_err(|error| format!("{field}: {error}"))
}

fn limits(restrict: PolicyRestrict) -> Result<Limits, String> {
    let (qos, size) = (
        restrict.qos.unwrap_or_default(),
        restrict.size.unwrap_or_default(),
    );
    let replicas = restrict.replicas.unwrap_or_default();
    let given = |number: i64| Some(number).filter(|number| *number > 0);
    Ok(Limits {
        classes: restrict.classes.into_iter().collect(),
        encrypted: restrict.encryption == EncryptionRule::Required,
        most_iops: number("spec.restrict.qos.maxIops", &qos.max_iops)?,
        most_throughput: number("spec.restrict.qos.maxThroughput", &qos.max_throughput)?,
        least_replicas: given(replicas.min),
        most_replicas: given(replicas.max),
        least_bytes: number("spec.restrict.size.min", &size.min)?,
        most_bytes: number("spec.restrict.size.max", &size.max)?,
    })
}

/// A quantity; `None` if the field is empty.
fn number(field: &str, text: &str) -> Result<Option<i64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = quantity::parse(text);
    number
        .map(Some)
        .map_err(|error| format!("{field}: {error}"))
}

impl Policy {
    /// Whether the policy holds for this claim.
    pub(crate) fn holds_for(&self, asker: &Asker<'_>) -> bool {
        let by_label = |selector: &Selector, labels: &Labels| match labels {
            Some(labels) => selector.matches(labels),
            None => selector.matches(&std::collections::BTreeMap::new()),
        };
        let namespaces = self.namespaces.as_ref().is_none_or(|(names, selector)| {
            names.contains(asker.namespace)
                || selector
                    .as_ref()
                    .is_some_and(|s| by_label(s, asker.namespace_labels))
        });
        let claims = self.claims.as_ref();
        namespaces
            && claims.is_none_or(|selector| by_label(selector, asker.labels))
            && (self.classes.is_empty() || asker.class.is_some_and(|c| self.classes.contains(c)))
    }

    /// The classes that it names, wherever.
    pub(crate) fn names_classes(&self) -> BTreeSet<&str> {
        let all = self.classes.iter().chain(&self.limits.classes);
        all.chain(&self.default_class).map(String::as_str).collect()
    }
}

/// The policies that tie pods of this claim to its data.
pub(crate) fn requiring_locality<'a>(
    policies: &'a [Arc<Policy>],
    asker: &Asker<'_>,
) -> Vec<&'a Policy> {
    let requiring = policies.iter().filter(|policy| policy.requires_locality);
    let holding = requiring.filter(|policy| policy.holds_for(asker));
    holding.map(|policy| &**policy).collect()
}

/// The class that a claim without one gets: of the first policy that gives one.
pub(crate) fn default_class<'a>(policies: &'a [Arc<Policy>], asker: &Asker<'_>) -> Option<&'a str> {
    let mut giving = policies.iter().filter_map(|policy| {
        let class = policy.default_class.as_deref()?;
        policy.holds_for(asker).then_some(class)
    });
    giving.next()
}

/// The size that a claim without one gets: of the first policy that gives one.
pub(crate) fn default_size<'a>(policies: &'a [Arc<Policy>], asker: &Asker<'_>) -> Option<&'a str> {
    let mut giving = policies.iter().filter_map(|policy| {
        let size = policy.default_size.as_deref()?;
        policy.holds_for(asker).then_some(size)
    });
    giving.next()
}

/// All policies in force, in order of precedence. Clones share one state.
#[derive(Clone, Debug)]
pub(crate) struct Policies(Arc<RwLock<Arc<[Arc<Policy>]>>>);

impl Default for Policies {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Arc::new([]))))
    }
}

impl Policies {
    /// All of them, as they are now.
    pub(crate) fn all(&self) -> Arc<[Arc<Policy>]> {
        self.0.read().clone()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Policy>>)) {
        let mut shared = self.0.write();
        let mut policies = shared.to_vec();
        change(&mut policies);
        policies.sort_by(|a, b| {
            let by_priority = b.priority.cmp(&a.priority);
            by_priority.then_with(|| a.name.cmp(&b.name))
        });
        *shared = policies.into();
    }
}

fn read(object: &StoragePolicy) -> Option<Arc<Policy>> {
    match compile(object) {
        Ok(policy) => Some(Arc::new(policy)),
        Err(error) => {
            let policy = object.metadata.name.as_deref().unwrap_or_default();
            tracing::warn!(policy, %error, "policy is not in force");
            None
        }
    }
}

impl Index<StoragePolicy> for Policies {
    fn apply(&self, object: Arc<StoragePolicy>) {
        let name = Key::of(&*object).name;
        let read = read(&object);
        self.change(|policies| {
            policies.retain(|policy| policy.name != name);
            policies.extend(read);
        });
    }

    fn delete(&self, key: &Key) {
        self.change(|policies| policies.retain(|policy| policy.name != key.name));
    }

    fn reset(&self, objects: Vec<Arc<StoragePolicy>>, unreadable: &BTreeSet<Key>) {
        self.change(|policies| {
            policies.retain(|policy| unreadable.contains(&Key::cluster(policy.name.clone())));
            policies.extend(objects.iter().filter_map(|object| read(object)));
        });
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn a_policy(name: &str, spec: &Value) -> Arc<StoragePolicy> {
        Arc::new(
            serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap(),
        )
    }

    pub(crate) fn policies(all: &[(&str, Value)]) -> Arc<[Arc<Policy>]> {
        let index = Policies::default();
        for (name, spec) in all {
            index.apply(a_policy(name, spec));
        }
        index.all()
    }

    pub(crate) fn labels(pairs: &[(&str, &str)]) -> Arc<BTreeMap<String, String>> {
        let pairs = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Arc::new(pairs.collect())
    }

    fn names(policies: &[Arc<Policy>]) -> Vec<&str> {
        policies.iter().map(|policy| policy.name.as_str()).collect()
    }

    #[test]
    fn higher_priority_first_then_by_name_whatever_the_order_of_arrival() {
        let spec = |priority: i64| json!({ "mode": "Warn", "priority": priority, "restrict": {} });
        let all = [
            ("b", spec(0)),
            ("c", spec(5)),
            ("a", spec(0)),
            ("d", spec(-1)),
        ];
        assert_eq!(names(&policies(&all)), ["c", "a", "b", "d"]);
    }

    #[test]
    fn changed_policies_replace_and_broken_ones_are_out_of_force() {
        let index = Policies::default();
        index.apply(a_policy("a", &json!({ "mode": "Warn" })));
        index.apply(a_policy("a", &json!({ "mode": "Enforce" })));
        index.apply(a_policy("b", &json!({ "mode": "Enforce" })));
        assert_eq!(index.all()[0].mode, PolicyMode::Enforce);
        index.apply(a_policy("a", &json!({ "mode": "Dance" })));
        assert_eq!(names(&index.all()), ["b"]);
        index.reset(
            vec![a_policy("c", &json!({ "mode": "Audit" }))],
            &BTreeSet::from([Key::cluster("b")]),
        );
        assert_eq!(names(&index.all()), ["b", "c"]);
        index.delete(&Key::cluster("b"));
        assert_eq!(names(&index.all()), ["c"]);
    }

    #[test]
    fn what_is_chosen_must_all_hold_and_a_namespace_by_name_or_label() {
        let chosen = json!({ "mode": "Warn", "match": {
            "namespaces": { "names": ["shop"], "selector": { "matchLabels": { "team": "a" } } },
            "claims": { "matchExpressions": [{ "key": "tier", "operator": "NotIn", "values": ["test"] }] },
            "classes": ["fast"]
        } });
        let all = policies(&[("p", chosen)]);
        let (none, team, test) = (
            None,
            Some(labels(&[("team", "a")])),
            Some(labels(&[("tier", "test")])),
        );
        for (namespace, namespace_labels, labels, class, wanted) in [
            ("shop", &none, &none, Some("fast"), true),
            ("lab", &team, &none, Some("fast"), true),
            ("lab", &none, &none, Some("fast"), false),
            ("shop", &none, &test, Some("fast"), false),
            ("shop", &none, &none, Some("slow"), false),
            ("shop", &none, &none, None, false),
        ] {
            let asker = Asker {
                namespace,
                namespace_labels,
                labels,
                class,
            };
            assert_eq!(all[0].holds_for(&asker), wanted, "{asker:?}");
        }
    }

    #[test]
    fn defaults_come_from_the_first_that_is_enforced_and_gives_one() {
        let all = policies(&[
            (
                "low",
                json!({ "mode": "Enforce", "defaults": { "className": "slow", "size": "1Gi" } }),
            ),
            (
                "high",
                json!({ "mode": "Enforce", "priority": 9, "defaults": { "className": "fast" } }),
            ),
            (
                "loud",
                json!({ "mode": "Warn", "priority": 99, "defaults": { "className": "no", "size": "9Gi" }, "locality": "Required" }),
            ),
            (
                "elsewhere",
                json!({ "mode": "Enforce", "priority": 99, "defaults": { "size": "5Gi" }, "locality": "Required",
                        "match": { "namespaces": { "names": ["lab"] } } }),
            ),
        ]);
        let asker = |namespace| Asker {
            namespace,
            namespace_labels: &None,
            labels: &None,
            class: None,
        };
        assert_eq!(default_class(&all, &asker("shop")), Some("fast"));
        assert_eq!(default_size(&all, &asker("shop")), Some("1Gi"));
        assert_eq!(default_size(&all, &asker("lab")), Some("5Gi"));
        assert_eq!(requiring_locality(&all, &asker("lab")).len(), 1);
        assert!(requiring_locality(&all, &asker("shop")).is_empty());
    }

    #[test]
    fn what_no_schema_would_let_in_is_named() {
        for (spec, part) in [
            (json!({}), "spec.mode is \"\""),
            (
                json!({ "mode": "Warn", "restrict": { "size": { "max": "big" } } }),
                "spec.restrict.size.max: \"big\"",
            ),
            (
                json!({ "mode": "Warn", "match": { "claims": { "matchExpressions": [{ "key": "a", "operator": "Like" }] } } }),
                "spec.match.claims",
            ),
        ] {
            let error = compile(&a_policy("p", &spec)).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
