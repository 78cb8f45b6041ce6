//! What a pod's node affinity says already, and our terms in it.

use std::collections::BTreeSet;

use hawser_api::names;
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use serde_json::{Value, json};

pub(crate) const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
pub(crate) const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
/// The field by which a DaemonSet's controller ties a pod to its node.
const NODE_NAME_FIELD: &str = "metadata.name";

/// One requirement on a node's labels: one of some values, or that the label is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OnLabel {
    pub(crate) key: &'static str,
    /// `None`: any value.
    pub(crate) values: Option<BTreeSet<String>>,
}

impl OnLabel {
    /// On one of these nodes.
    pub(crate) fn nodes<'a>(nodes: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            key: names::LVM_TOPOLOGY_KEY,
            values: Some(nodes.into_iter().map(str::to_owned).collect()),
        }
    }

    /// As the API writes it.
    pub(crate) fn json(&self) -> Value {
        match &self.values {
            Some(values) => json!({ "key": self.key, "operator": "In", "values": values }),
            None => json!({ "key": self.key, "operator": "Exists" }),
        }
    }

    fn is(&self, requirement: &NodeSelectorRequirement) -> bool {
        let values = || requirement.values.iter().flatten().collect::<BTreeSet<_>>();
        requirement.key == self.key
            && match &self.values {
                Some(wanted) => requirement.operator == "In" && values() == wanted.iter().collect(),
                None => requirement.operator == "Exists",
            }
    }

    /// Whether a node that fulfils the requirement fulfils this too.
    fn follows_from(&self, requirement: &NodeSelectorRequirement) -> bool {
        let Some(wanted) = &self.values else {
            return self.is(requirement);
        };
        let values = requirement.values.as_deref().unwrap_or_default();
        requirement.key == self.key
            && requirement.operator == "In"
            && !values.is_empty()
            && values.iter().all(|value| wanted.contains(value))
    }
}

/// What a pod's node affinity says. What can't be read of it counts as not there, and stays as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeAffinity {
    /// Preferences with their weights.
    preferred: Vec<(i32, NodeSelectorTerm)>,
    /// Alternatives; `None`: nothing is required.
    required: Option<Vec<NodeSelectorTerm>>,
}

impl NodeAffinity {
    /// Reads a pod's affinity.
    pub(crate) fn of(affinity: Option<&Value>) -> Self {
        let Some(node) = affinity.and_then(|affinity| affinity.get("nodeAffinity")) else {
            return Self::default();
        };
        let term = |value: &Value| serde_json::from_value::<NodeSelectorTerm>(value.clone());
        let preferred = node.get(PREFERRED).and_then(Value::as_array);
        let preferred = preferred.into_iter().flatten().filter_map(|entry| {
            let weight = entry.get("weight").and_then(Value::as_i64);
            let weight = weight.and_then(|weight| i32::try_from(weight).ok());
            Some((weight.unwrap_or(0), term(entry.get("preference")?).ok()?))
        });
        let alternatives = node
            .get(REQUIRED)
            .and_then(|required| required.get("nodeSelectorTerms"))
            .and_then(Value::as_array);
        Self {
            preferred: preferred.collect(),
            required: alternatives.map(|terms| {
                terms
                    .iter()
                    .map(|value| term(value).unwrap_or_default())
                    .collect()
            }),
        }
    }

    /// Whether this is preferred already, whatever its weight.
    pub(crate) fn prefers(&self, wanted: &OnLabel) -> bool {
        self.preferred.iter().any(|(_, term)| {
            let fields = term.match_fields.as_deref().unwrap_or_default();
            match term.match_expressions.as_deref() {
                Some([only]) => fields.is_empty() && wanted.is(only),
                _ => false,
            }
        })
    }

    /// The sum of the weights of what is said about our nodes already, by us or by the pod's author.
    pub(crate) fn weight_of_ours(&self) -> i32 {
        let ours = self.preferred.iter().filter(|(_, term)| {
            let expressions = term.match_expressions.as_deref().unwrap_or_default();
            expressions
                .iter()
                .any(|requirement| requirement.key == names::LVM_TOPOLOGY_KEY)
        });
        ours.fold(0, |sum, (weight, _)| sum.saturating_add(*weight))
    }

    /// The one node that the pod is tied to by name: so do the controllers of `DaemonSets`.
    pub(crate) fn tied_to(&self) -> Option<&str> {
        let mut node = None;
        for term in self.required.as_deref()? {
            let named = names_of(term)?;
            let [only] = named else { return None };
            if node.is_some_and(|node| node != only) {
                return None;
            }
            node = Some(only.as_str());
        }
        node
    }

    /// Whether every node that the pod may run on fulfils this.
    pub(crate) fn demands(&self, wanted: &OnLabel) -> bool {
        let Some(terms) = self.required.as_deref() else {
            return false;
        };
        // A term without any requirement matches no node.
        let mut terms = terms.iter().filter(|term| !is_empty(term)).peekable();
        terms.peek().is_some() && terms.all(|term| demands(term, wanted))
    }

    /// The alternatives that lack this requirement, by their place in the list; `None`: there is no list yet.
    pub(crate) fn lacking(&self, wanted: &OnLabel) -> Option<Vec<Alternative>> {
        let terms = self.required.as_deref().filter(|terms| !terms.is_empty())?;
        let lacking = terms.iter().enumerate().filter(|(_, term)| {
            // An empty one must stay empty: with a requirement it would begin to match.
            !is_empty(term) && !demands(term, wanted)
        });
        Some(
            lacking
                .map(|(place, term)| Alternative {
                    place,
                    has_expressions: term.match_expressions.is_some(),
                })
                .collect(),
        )
    }
}

/// One of the terms of which one must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alternative {
    pub(crate) place: usize,
    /// Whether it has a list of requirements on labels.
    pub(crate) has_expressions: bool,
}

fn is_empty(term: &NodeSelectorTerm) -> bool {
    let none = |list: Option<&[NodeSelectorRequirement]>| list.is_none_or(<[_]>::is_empty);
    none(term.match_expressions.as_deref()) && none(term.match_fields.as_deref())
}

/// The nodes that the term names.
fn names_of(term: &NodeSelectorTerm) -> Option<&[String]> {
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let by_name = fields
        .iter()
        .find(|field| field.key == NODE_NAME_FIELD && field.operator == "In")?;
    by_name.values.as_deref()
}

fn demands(term: &NodeSelectorTerm, wanted: &OnLabel) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let by_label = expressions
        .iter()
        .any(|requirement| wanted.follows_from(requirement));
    // The label's value is the node's name.
    let by_name = wanted.key == names::LVM_TOPOLOGY_KEY
        && names_of(term).is_some_and(|named| {
            let within = |node| wanted.values.as_ref().is_some_and(|v| v.contains(node));
            !named.is_empty() && named.iter().all(within)
        });
    by_label || by_name
}
