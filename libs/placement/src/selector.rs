//! Node selectors, node affinity, taints and tolerations, evaluated as kube-scheduler 1.37 does
//! (component-helpers `scheduling/corev1/nodeaffinity`, apimachinery `labels.Requirement`, api `Toleration.ToleratesTaint`):
//! - terms are alternatives, what is inside a term must hold together; no terms, or an empty term, match nothing;
//! - `NotIn` and `DoesNotExist` hold for a node that lacks the label, the other four do not;
//! - `Gt` and `Lt` compare whole numbers, and what is not a number does not match;
//! - a term that the API would not accept (In without values, Gt with two, a key or value that can't be a label's) matches
//!   nothing, and does not spoil the others. So `Gt` and `Lt` know no negative numbers: a label's value can't begin with a sign.
//!
//! Only the `required` half of affinity is here: preferences are for the scheduler's own scores.

use std::collections::BTreeMap;
use std::fmt;

use crate::cluster::Name;
use crate::node::Node;

/// What a pod says about the nodes it may be on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// `spec.nodeSelector`: every label must be there with this value.
    pub node_selector: BTreeMap<String, String>,
    /// `spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution`; `None`: any node.
    pub node_affinity: Option<Vec<Term>>,
    pub tolerations: Vec<Toleration>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Term {
    pub match_expressions: Vec<Requirement>,
    pub match_fields: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
    /// Newer than this code: its term matches nothing, as an old kube-scheduler would have it.
    Other(String),
}

impl From<&str> for Operator {
    fn from(text: &str) -> Self {
        match text {
            "In" => Self::In,
            "NotIn" => Self::NotIn,
            "Exists" => Self::Exists,
            "DoesNotExist" => Self::DoesNotExist,
            "Gt" => Self::Gt,
            "Lt" => Self::Lt,
            other => Self::Other(other.to_owned()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: Effect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
    Other(String),
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
            Self::Other(other) => other,
        })
    }
}

/// As kubectl writes it: `key=value:effect`, `key:effect`.
impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let equals = if self.value.is_empty() { "" } else { "=" };
        write!(f, "{}{equals}{}:{}", self.key, self.value, self.effect)
    }
}

impl From<&str> for Effect {
    fn from(text: &str) -> Self {
        match text {
            "NoSchedule" => Self::NoSchedule,
            "PreferNoSchedule" => Self::PreferNoSchedule,
            "NoExecute" => Self::NoExecute,
            other => Self::Other(other.to_owned()),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toleration {
    /// Empty: any key.
    pub key: String,
    pub operator: TolerationOperator,
    pub value: String,
    /// `None`: any effect.
    pub effect: Option<Effect>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TolerationOperator {
    #[default]
    Equal,
    Exists,
    /// The taint's value is a number below the toleration's (from Kubernetes 1.35, behind a gate of the API server).
    Lt,
    Gt,
    Other(String),
}

impl From<&str> for TolerationOperator {
    fn from(text: &str) -> Self {
        match text {
            "" | "Equal" => Self::Equal,
            "Exists" => Self::Exists,
            "Lt" => Self::Lt,
            "Gt" => Self::Gt,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl Constraints {
    /// Node selector and required node affinity together.
    #[must_use]
    pub fn selects(&self, node: &Node) -> bool {
        let has = |(key, value): (&String, &String)| {
            let label = node.labels.get(key.as_str());
            label.is_some_and(|label| **label == **value)
        };
        self.node_selector.iter().all(has)
            && self
                .node_affinity
                .as_ref()
                .is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
    }

    /// The first taint that keeps new pods of this kind off the node.
    #[must_use]
    pub fn untolerated<'n>(&self, node: &'n Node) -> Option<&'n Taint> {
        node.taints.iter().find(|taint| {
            matches!(taint.effect, Effect::NoSchedule | Effect::NoExecute)
                && !self
                    .tolerations
                    .iter()
                    .any(|toleration| toleration.tolerates(taint))
        })
    }
}

impl Term {
    #[must_use]
    pub fn matches(&self, node: &Node) -> bool {
        let empty = self.match_expressions.is_empty() && self.match_fields.is_empty();
        !empty
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.matches_label(node))
            && self
                .match_fields
                .iter()
                .all(|requirement| requirement.matches_field(node))
    }
}

impl Requirement {
    fn matches_label(&self, node: &Node) -> bool {
        let valid = names::is_label_key(&self.key)
            && self.values.iter().all(|value| names::is_label_value(value));
        if !valid {
            return false;
        }
        let label = node.labels.get(self.key.as_str());
        let listed = |label: &Name| self.values.iter().any(|value| **value == **label);
        match &self.operator {
            Operator::In => !self.values.is_empty() && label.is_some_and(listed),
            Operator::NotIn => !self.values.is_empty() && !label.is_some_and(listed),
            Operator::Exists => self.values.is_empty() && label.is_some(),
            Operator::DoesNotExist => self.values.is_empty() && label.is_none(),
            Operator::Gt => self
                .number()
                .zip(label.and_then(|label| integer(label)))
                .is_some_and(|(n, label)| label > n),
            Operator::Lt => self
                .number()
                .zip(label.and_then(|label| integer(label)))
                .is_some_and(|(n, label)| label < n),
            Operator::Other(_) => false,
        }
    }

    /// Fields know only `metadata.name`, `In` and `NotIn`, and one value.
    fn matches_field(&self, node: &Node) -> bool {
        let actual = if self.key == "metadata.name" {
            &*node.name
        } else {
            ""
        };
        let [value] = self.values.as_slice() else {
            return false;
        };
        match &self.operator {
            Operator::In => value == actual,
            Operator::NotIn => value != actual,
            Operator::Exists
            | Operator::DoesNotExist
            | Operator::Gt
            | Operator::Lt
            | Operator::Other(_) => false,
        }
    }

    fn number(&self) -> Option<i64> {
        match self.values.as_slice() {
            [value] => integer(value),
            _ => None,
        }
    }
}

impl Toleration {
    #[must_use]
    pub fn tolerates(&self, taint: &Taint) -> bool {
        let effect = self
            .effect
            .as_ref()
            .is_none_or(|effect| *effect == taint.effect);
        let key = self.key.is_empty() || self.key == taint.key;
        effect
            && key
            && match &self.operator {
                TolerationOperator::Equal => self.value == taint.value,
                TolerationOperator::Exists => true,
                TolerationOperator::Lt => integer(&taint.value)
                    .zip(integer(&self.value))
                    .is_some_and(|(t, n)| t < n),
                TolerationOperator::Gt => integer(&taint.value)
                    .zip(integer(&self.value))
                    .is_some_and(|(t, n)| t > n),
                TolerationOperator::Other(_) => false,
            }
    }
}

/// As Go's `strconv.ParseInt(text, 10, 64)`: an optional sign and digits.
fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

mod names;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upstream;
