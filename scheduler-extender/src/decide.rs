//! The three answers, as functions of the inventory and the request. No I/O.
//!
//! A pod without volumes of ours passes everywhere with score 0. A pod whose request can't be told is handled by whether
//! waiting helps: what is only not known *yet* is an error, after which kube-scheduler tries again within seconds; what stays
//! wrong until somebody changes it refuses every node, which makes the pod wait for an event.

use std::collections::BTreeMap;

use hawser_api::extender::{
    ExtenderPreemptionArgs, ExtenderPreemptionResult, MetaPod, MetaVictims, Victims,
};
use hawser_inventory::Inventory;
use hawser_placement::{
    Best, Evaluator, Hold, Lacks, NodeId, Reason, Request, Score, Sentence, Strategy,
};
use k8s_openapi::api::core::v1::Pod;

const NO_POD: &str = "the request carries no Pod";

/// Up to so many refused nodes each get a sentence with their own numbers. kube-scheduler's event has room for some ten; above
/// this, nodes that lack the same share a sentence, which it counts ("4321 ...").
pub const DETAILED: usize = 50;

/// What a pod asks of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks {
    /// None of its volumes is ours.
    Nothing,
    Volumes(Request),
    /// It can't be told what, and time alone won't help: every node is refused, with this sentence.
    Wrong(String),
    /// It can't be told what at this moment.
    Unknown(String),
}

impl Asks {
    /// What the pod asks; `strategy` is for classes that say nothing of their own.
    #[must_use]
    pub fn of(inventory: &Inventory, strategy: Strategy, pod: Option<&Pod>) -> Self {
        let Some(pod) = pod else {
            return Self::Unknown(NO_POD.to_owned());
        };
        match inventory.pod_request(pod) {
            Ok(None) => Self::Nothing,
            Ok(Some(request)) => Self::Volumes(Request {
                strategy,
                ..request
            }),
            Err(unknown) if unknown.may_pass() => Self::Unknown(unknown.to_string()),
            Err(unknown) => Self::Wrong(unknown.to_string()),
        }
    }

    #[must_use]
    pub fn request(&self) -> Option<&Request> {
        match self {
            Self::Volumes(request) => Some(request),
            Self::Nothing | Self::Wrong(_) | Self::Unknown(_) => None,
        }
    }
}

/// Which of the nodes are left, and why the others are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filtered {
    /// For each name that was asked about, in that order: its refusal, or [`PASSES`].
    of: Vec<u32>,
    refusals: Vec<Refusal>,
    /// Not empty: nothing can be said.
    pub error: String,
}

const PASSES: u32 = u32::MAX;

/// Why one node, or several that lack the same, are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub sentence: String,
    /// Whether evicting pods could help.
    pub curable: bool,
}

impl Filtered {
    /// Nothing can be said, because of this.
    #[must_use]
    pub fn failed(error: String) -> Self {
        Self {
            error,
            ..Self::default()
        }
    }

    fn all(names: usize, refusal: Option<Refusal>) -> Self {
        Self {
            of: vec![if refusal.is_some() { 0 } else { PASSES }; names],
            refusals: refusal.into_iter().collect(),
            error: String::new(),
        }
    }

    /// For each name that was asked about, in that order: why it is refused.
    pub fn verdicts(&self) -> impl Iterator<Item = Option<&Refusal>> {
        self.of.iter().map(|at| self.refusals.get(*at as usize))
    }

    /// As [`Self::verdicts`], as places in [`Self::refusals`]; the greatest number where the node passes.
    #[must_use]
    pub fn places(&self) -> &[u32] {
        &self.of
    }

    #[must_use]
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    #[must_use]
    pub fn passes(&self, at: usize) -> bool {
        self.of.get(at) == Some(&PASSES)
    }

    /// The place of the only one left.
    #[must_use]
    pub fn only_one(&self) -> Option<usize> {
        let mut left = (0..self.of.len()).filter(|at| self.passes(*at));
        left.next().filter(|_| left.next().is_none())
    }

    fn refuse(&mut self, at: usize, refusal: Refusal) {
        self.of[at] = self.add(refusal);
    }

    fn add(&mut self, refusal: Refusal) -> u32 {
        self.refusals.push(refusal);
        u32::try_from(self.refusals.len() - 1).unwrap_or(0)
    }
}

/// On which of the nodes all of the pod's volumes can be.
#[must_use]
pub fn filter(inventory: &Inventory, asks: &Asks, names: &[impl AsRef<str>]) -> Filtered {
    let request = match asks {
        Asks::Nothing => return Filtered::all(names.len(), None),
        Asks::Unknown(error) => return Filtered::failed(error.clone()),
        Asks::Wrong(sentence) => {
            let refusal = Refusal {
                sentence: sentence.clone(),
                curable: false,
            };
            return Filtered::all(names.len(), Some(refusal));
        }
        Asks::Volumes(request) => request,
    };
    let cluster = inventory.cluster();
    let mut evaluator = Evaluator::new(cluster, request);
    let mut filtered = Filtered::all(names.len(), None);
    let mut lacking: Vec<(usize, Option<(NodeId, Lacks)>)> = Vec::new();
    for (at, name) in names.iter().enumerate() {
        match cluster.id(name.as_ref()) {
            None => lacking.push((at, None)),
            Some(id) => {
                if let Err(lacks) = evaluator.look(id) {
                    lacking.push((at, Some((id, lacks))));
                }
            }
        }
    }
    if lacking.len() <= DETAILED {
        for (at, _) in lacking {
            filtered.refuse(at, in_detail(&mut evaluator, names[at].as_ref()));
        }
    } else {
        together(&mut filtered, &mut evaluator, &lacking, names);
    }
    filtered
}

fn in_detail(evaluator: &mut Evaluator<'_>, name: &str) -> Refusal {
    let reasons = evaluator.score(name).err().unwrap_or_default();
    Refusal {
        sentence: Sentence(&reasons).to_string(),
        curable: reasons.iter().all(Reason::curable_by_preemption),
    }
}

/// Nodes that lack the same share a sentence.
fn together(
    filtered: &mut Filtered,
    evaluator: &mut Evaluator<'_>,
    lacking: &[(usize, Option<(NodeId, Lacks)>)],
    names: &[impl AsRef<str>],
) {
    let mut best = Best::default();
    for (id, lacks) in lacking.iter().filter_map(|(_, known)| *known) {
        evaluator.note(&mut best, id, lacks);
    }
    // A handful of kinds, whatever the number of nodes.
    let mut kinds: Vec<(Option<Lacks>, u32)> = Vec::new();
    for (at, known) in lacking {
        let lacks = known.map(|(_, lacks)| lacks);
        let same = kinds.iter().find(|(kind, _)| *kind == lacks);
        if let Some((_, place)) = same {
            filtered.of[*at] = *place;
            continue;
        }
        match lacks.filter(|lacks| lacks.is_complete()) {
            Some(complete) => filtered.refuse(
                *at,
                Refusal {
                    sentence: evaluator.sentence(complete, &best),
                    curable: complete.curable_by_preemption(),
                },
            ),
            None => filtered.refuse(*at, in_detail(evaluator, names[*at].as_ref())),
        }
        // A node that was looked at itself speaks for itself only; nodes that are not known all lack the same.
        if lacks.is_none_or(Lacks::is_complete) {
            kinds.push((lacks, filtered.of[*at]));
        }
    }
}

/// Points 0 to 10, in the order of names; 0 for nodes that would have been filtered, and for all if nothing can be said. `holds`:
/// what others will probably take.
#[must_use]
pub fn prioritize(
    inventory: &Inventory,
    asks: &Asks,
    holds: &[Hold],
    names: &[impl AsRef<str>],
) -> Vec<u8> {
    let Some(request) = asks.request() else {
        return vec![0; names.len()];
    };
    let cluster = inventory.cluster();
    let mut evaluator = Evaluator::new(cluster, request).with_holds(holds);
    let mut points = |name: &str| {
        let id = cluster.id(name)?;
        evaluator.look(id).ok().map(Score::points)
    };
    names
        .iter()
        .map(|name| points(name.as_ref()).unwrap_or(0))
        .collect()
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
        Asks::Wrong(_) | Asks::Unknown(_) => BTreeMap::new(),
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
