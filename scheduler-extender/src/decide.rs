//! The three answers, as functions of the inventory and the request. No I/O.
//!
//! A pod without volumes of ours passes everywhere with score 0. A pod whose request can't be told is handled by whether
//! waiting helps: what is only not known *yet* is an error, after which kube-scheduler tries again within seconds; what stays
//! wrong until somebody changes it refuses every node, which makes the pod wait for an event.

mod filtered;

use std::collections::BTreeMap;

use hawser_api::extender::{
    ExtenderPreemptionArgs, ExtenderPreemptionResult, MetaPod, MetaVictims, Victims,
};
use hawser_inventory::{Inventory, Unknown};
use hawser_placement::{
    Evaluator, Hold, Lacks, NodeId, Reason, Refused, Request, Score, Strategy, tell,
};
use k8s_openapi::api::core::v1::Pod;

pub use self::filtered::{Filtered, NAMED_UNKNOWN, Nodes, Refusal, Verdict};

const NO_POD: &str = "the request carries no Pod";

/// Up to so many refused nodes are each looked at for reasons. kube-scheduler's event has room for some ten; above this, of the nodes
/// that lack the same only the one that lacks least is looked at. (What is said of either is `tell`'s business.)
pub const DETAILED: usize = 50;

/// What a pod asks of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks {
    /// None of its volumes is ours.
    Nothing,
    Volumes(Request),
    /// It can't be told what, and time alone won't help: every node is refused.
    Wrong(Unknown),
    /// It can't be told what at this moment; the cause is known if it is the pod's.
    NotYet {
        sentence: String,
        cause: Option<Unknown>,
    },
}

impl Asks {
    /// What the pod asks; `strategy` is for classes that say nothing of their own.
    #[must_use]
    pub fn of(inventory: &Inventory, strategy: Strategy, pod: Option<&Pod>) -> Self {
        let Some(pod) = pod else {
            return Self::not_yet(NO_POD.to_owned());
        };
        match inventory.pod_request(pod) {
            Ok(None) => Self::Nothing,
            Ok(Some(request)) => Self::Volumes(Request {
                strategy,
                ..request
            }),
            Err(unknown) if unknown.may_pass() => Self::NotYet {
                sentence: unknown.to_string(),
                cause: Some(unknown),
            },
            Err(unknown) => Self::Wrong(unknown),
        }
    }

    /// For a cause that is not the pod's.
    #[must_use]
    pub fn not_yet(sentence: String) -> Self {
        Self::NotYet {
            sentence,
            cause: None,
        }
    }

    #[must_use]
    pub fn request(&self) -> Option<&Request> {
        match self {
            Self::Volumes(request) => Some(request),
            Self::Nothing | Self::Wrong(_) | Self::NotYet { .. } => None,
        }
    }
}

/// On which of the nodes all of the pod's volumes can be.
#[must_use]
pub fn filter(inventory: &Inventory, asks: &Asks, names: &[impl AsRef<str>]) -> Filtered {
    let request = match asks {
        Asks::Nothing => return Filtered::all(names.len(), None),
        Asks::NotYet { sentence, .. } => return Filtered::failed(sentence.clone()),
        Asks::Wrong(unknown) => {
            let refusal = Refusal {
                sentence: unknown.to_string().into(),
                curable: false,
                reasons: Vec::new(),
                nearest: None,
            };
            return Filtered::all(names.len(), Some(refusal));
        }
        Asks::Volumes(request) => request,
    };
    let nodes = Nodes::find(inventory.cluster(), names);
    let mut evaluator = Evaluator::new(inventory.cluster(), request);
    let (mut scores, mut lacking) = (Vec::with_capacity(nodes.len()), Vec::new());
    for (at, id) in nodes.ids().iter().enumerate() {
        let looked = match id {
            Some(id) => evaluator.look(*id).map_err(|lacks| Some((*id, lacks))),
            None => Err(None),
        };
        match looked {
            Ok(score) => scores.push(score),
            Err(known) => lacking.push(Lacking { at, known }),
        }
    }
    let mut filtered = Filtered::judged(nodes, scores);
    let kinds = if lacking.len() <= DETAILED {
        one_by_one(&mut evaluator, lacking, names)
    } else {
        together(&mut evaluator, lacking, names)
    };
    let refused: Vec<Refused<'_>> = kinds.iter().map(Kind::refused).collect();
    let sentences = tell(&refused);
    for (kind, sentence) in kinds.into_iter().zip(sentences) {
        let refusal = Refusal {
            sentence,
            curable: kind.reasons.iter().all(Reason::curable_by_preemption),
            reasons: kind.reasons,
            nearest: kind.nearest,
        };
        filtered.refuse(&kind.nodes, refusal);
    }
    filtered
}

/// A node that is not left. Nothing is known of it, or what it lacks.
struct Lacking {
    at: usize,
    known: Option<(NodeId, Lacks)>,
}

/// Nodes, by their places, that are refused for the same reasons; or, if `nearest` says whose the reasons are, for similar ones.
struct Kind {
    nodes: Vec<usize>,
    reasons: Vec<Reason>,
    nearest: Option<usize>,
}

impl Kind {
    fn refused(&self) -> Refused<'_> {
        Refused {
            reasons: &self.reasons,
            nodes: self.nodes.len(),
        }
    }
}

/// Each node with its own reasons.
fn one_by_one(
    evaluator: &mut Evaluator<'_>,
    lacking: Vec<Lacking>,
    names: &[impl AsRef<str>],
) -> Vec<Kind> {
    let kind = |Lacking { at, .. }| Kind {
        nodes: vec![at],
        reasons: evaluator
            .score(names[at].as_ref())
            .err()
            .unwrap_or_default(),
        nearest: None,
    };
    lacking.into_iter().map(kind).collect()
}

/// Nodes that lack the same, of which only the nearest is looked at.
fn together(
    evaluator: &mut Evaluator<'_>,
    lacking: Vec<Lacking>,
    names: &[impl AsRef<str>],
) -> Vec<Kind> {
    struct Alike {
        lacks: Option<Lacks>,
        nodes: Vec<usize>,
        /// Place, number and how much it lacks.
        nearest: (usize, Option<NodeId>, u128),
    }
    let name = |at: usize| names[at].as_ref();
    // A handful, whatever the number of nodes.
    let mut kinds: Vec<Alike> = Vec::new();
    let mut alone: Vec<Lacking> = Vec::new();
    for one in lacking {
        let (id, lacks) = one.known.unzip();
        if lacks.is_some_and(|lacks| !lacks.is_complete()) {
            // Only looking at it tells what it lacks.
            alone.push(one);
            continue;
        }
        let missing = one
            .known
            .map_or(0, |(id, lacks)| evaluator.missing(id, lacks));
        let Some(kind) = kinds.iter_mut().find(|kind| kind.lacks == lacks) else {
            kinds.push(Alike {
                lacks,
                nodes: vec![one.at],
                nearest: (one.at, id, missing),
            });
            continue;
        };
        kind.nodes.push(one.at);
        // By name among equals, so that the order of asking does not matter.
        if (missing, name(one.at)) < (kind.nearest.2, name(kind.nearest.0)) {
            kind.nearest = (one.at, id, missing);
        }
    }
    let of_kind = |kind: Alike| {
        let (nearest, id, _) = kind.nearest;
        let known = id.zip(kind.lacks);
        Kind {
            reasons: known.map_or_else(
                || vec![Reason::UnknownNode],
                |(id, lacks)| evaluator.reasons(id, lacks),
            ),
            nearest: known
                .filter(|(_, lacks)| lacks.is_of_amounts() && kind.nodes.len() > 1)
                .map(|_| nearest),
            nodes: kind.nodes,
        }
    };
    let mut kinds: Vec<Kind> = kinds.into_iter().map(of_kind).collect();
    kinds.append(&mut one_by_one(evaluator, alone, names));
    kinds
}

/// Points 0 to 10, in the order of the nodes; 0 for those that would have been filtered. `holds`: what others will probably take.
#[must_use]
pub fn prioritize(
    inventory: &Inventory,
    request: &Request,
    holds: &[Hold],
    nodes: &Nodes,
) -> Vec<u8> {
    let mut evaluator = Evaluator::new(inventory.cluster(), request).with_holds(holds);
    let points = |id: &Option<NodeId>| {
        let score = id.and_then(|id| evaluator.look(id).ok());
        score.map_or(0, Score::points)
    };
    nodes.ids().iter().map(points).collect()
}

/// Keeps the nodes on which the pod's volumes fit once the victims are gone, with all of their victims: which of them are needed
/// for processors and memory the scheduler has worked out, and they are not ours to spare. Only what goes with a pod is freed:
/// the volumes of its own ephemeral claims.
#[must_use]
pub fn preempt(
    inventory: &Inventory,
    asks: &Asks,
    args: ExtenderPreemptionArgs,
) -> ExtenderPreemptionResult {
    let candidates = victims(args.node_name_to_meta_victims, args.node_name_to_victims);
    let kept = match asks {
        Asks::Nothing => candidates,
        // Nobody is evicted for a pod that can't be placed anyway.
        Asks::Wrong(_) | Asks::NotYet { .. } => BTreeMap::new(),
        Asks::Volumes(request) => {
            let mut evaluator = Evaluator::new(inventory.cluster(), request);
            let mut helps = |node: &str, victims: &MetaVictims| {
                let uids = victims.pods.iter().flatten().map(|pod| pod.uid.as_str());
                let after = inventory.node_without(node, uids);
                after.is_some_and(|after| evaluator.score_as(&after).is_ok())
            };
            candidates
                .into_iter()
                .filter(|(node, victims)| helps(node, victims))
                .collect()
        }
    };
    ExtenderPreemptionResult {
        node_name_to_meta_victims: kept,
    }
}

/// Victims by uid, whichever way they came.
fn victims(
    by_uid: Option<BTreeMap<String, MetaVictims>>,
    whole: Option<BTreeMap<String, Victims>>,
) -> BTreeMap<String, MetaVictims> {
    let uid = |pod: Pod| MetaPod {
        uid: pod.metadata.uid.unwrap_or_default(),
    };
    let meta = |victims: Victims| MetaVictims {
        pods: victims.pods.map(|pods| pods.into_iter().map(uid).collect()),
        num_pdb_violations: victims.num_pdb_violations,
    };
    by_uid.unwrap_or_else(|| {
        whole
            .unwrap_or_default()
            .into_iter()
            .map(|(node, victims)| (node, meta(victims)))
            .collect()
    })
}
