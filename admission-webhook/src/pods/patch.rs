//! A decision as JSON patch (RFC 6902) of the pod as it came.
//!
//! Only ever adds, one exception: the scheduler's name replaces an empty or the default one. Fields that this version does not know are
//! never touched, since nothing above what is added is written.

use hawser_api::names;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation};
use serde_json::{Value, json};

use crate::pods::affinity::{NodeAffinity, OnLabel, PREFERRED, REQUIRED};
use crate::pods::decide::Decision;
use crate::pods::view::PodView;

/// The patch that gives the pod what was decided; empty if that is nothing.
pub(crate) fn patch(pod: &PodView, decision: &Decision) -> Vec<PatchOperation> {
    let mut patch = Vec::new();
    if decision.scheduler {
        patch.push(add(
            &["spec", "schedulerName"],
            names::scheduling::SCHEDULER.into(),
        ));
    }
    let preferred: Vec<Value> = decision
        .preferred
        .iter()
        .map(|(weight, wanted)| json!({ "weight": weight, "preference": { "matchExpressions": [wanted.json()] } }))
        .collect();
    if preferred.is_empty() && decision.required.is_empty() {
        return patch;
    }
    let Some(place) = Place::of(pod.affinity()) else {
        return patch;
    };
    if !preferred.is_empty() {
        place.clone().prefer(preferred, &mut patch);
    }
    if !decision.required.is_empty() {
        // What was preferred has made the objects above it.
        let place = if decision.preferred.is_empty() {
            place
        } else {
            place.with_node_affinity()
        };
        place.require(pod, &decision.required, &mut patch);
    }
    patch
}

/// `add` sets a member whether it is there or not.
fn add(path: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation {
        path: PointerBuf::from_tokens(path.iter().copied()),
        value,
    })
}

const NODE_AFFINITY: [&str; 3] = ["spec", "affinity", "nodeAffinity"];

/// How much of the way to the lists is there already.
#[derive(Clone, Debug)]
enum Place {
    /// Neither affinity nor anything below it.
    Nothing,
    /// The affinity, without that for nodes.
    Affinity,
    /// That for nodes: whether it has the list of preferences, and whether it requires anything.
    Node { preferred: bool, required: bool },
}

impl Place {
    /// `None`: there is something at the place that is no object; the API server will refuse the pod.
    fn of(affinity: Option<&Value>) -> Option<Self> {
        let Some(affinity) = affinity.filter(|value| !value.is_null()) else {
            return Some(Self::Nothing);
        };
        let Some(node) = affinity
            .as_object()?
            .get("nodeAffinity")
            .filter(|value| !value.is_null())
        else {
            return Some(Self::Affinity);
        };
        let node = node.as_object()?;
        let there = |key: &str| node.get(key).filter(|value| !value.is_null());
        let terms = there(REQUIRED).and_then(|required| required.get("nodeSelectorTerms"));
        Some(Self::Node {
            preferred: there(PREFERRED)
                .map_or(Some(false), |list| list.as_array().map(|_| true))?,
            required: terms.is_some_and(|terms| terms.as_array().is_some_and(|t| !t.is_empty())),
        })
    }

    /// After preferences were added.
    fn with_node_affinity(self) -> Self {
        let required = match self {
            Self::Node { required, .. } => required,
            Self::Nothing | Self::Affinity => false,
        };
        Self::Node {
            preferred: true,
            required,
        }
    }

    fn prefer(self, terms: Vec<Value>, patch: &mut Vec<PatchOperation>) {
        let [spec, affinity, node] = NODE_AFFINITY;
        match self {
            Self::Nothing => patch.push(add(
                &[spec, affinity],
                json!({ node: { PREFERRED: terms } }),
            )),
            Self::Affinity => patch.push(add(&NODE_AFFINITY, json!({ PREFERRED: terms }))),
            Self::Node {
                preferred: false, ..
            } => patch.push(add(&[spec, affinity, node, PREFERRED], terms.into())),
            Self::Node {
                preferred: true, ..
            } => patch.extend(
                terms
                    .into_iter()
                    .map(|term| add(&[spec, affinity, node, PREFERRED, "-"], term)),
            ),
        }
    }

    /// Of the alternatives one must hold, so each gets the requirements.
    fn require(self, pod: &PodView, wanted: &[OnLabel], patch: &mut Vec<PatchOperation>) {
        let [spec, affinity, node] = NODE_AFFINITY;
        let expressions: Vec<Value> = wanted.iter().map(OnLabel::json).collect();
        let only = json!({ "nodeSelectorTerms": [{ "matchExpressions": expressions }] });
        match self {
            Self::Nothing => {
                patch.push(add(&[spec, affinity], json!({ node: { REQUIRED: only } })));
            }
            Self::Affinity => patch.push(add(&NODE_AFFINITY, json!({ REQUIRED: only }))),
            Self::Node {
                required: false, ..
            } => patch.push(add(&[spec, affinity, node, REQUIRED], only)),
            Self::Node { required: true, .. } => extend_alternatives(pod, wanted, patch),
        }
    }
}

fn extend_alternatives(pod: &PodView, wanted: &[OnLabel], patch: &mut Vec<PatchOperation>) {
    let [spec, affinity, node] = NODE_AFFINITY;
    let present = NodeAffinity::of(pod.affinity());
    let mut begun = Vec::new();
    for requirement in wanted {
        for alternative in present.lacking(requirement).unwrap_or_default() {
            let place = alternative.place.to_string();
            let expressions = [
                spec,
                affinity,
                node,
                REQUIRED,
                "nodeSelectorTerms",
                &place,
                "matchExpressions",
            ];
            if alternative.has_expressions || begun.contains(&alternative.place) {
                let next = [&expressions[..], &["-"]].concat();
                patch.push(add(&next, requirement.json()));
            } else {
                begun.push(alternative.place);
                patch.push(add(&expressions, json!([requirement.json()])));
            }
        }
    }
}
