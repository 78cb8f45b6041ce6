//! The three answers, as functions of the inventory and the request. No I/O.
//!
//! A pod without volumes of ours passes everywhere with score 0. A pod whose request can't be told is handled by whether
//! waiting helps: what is only not known *yet* is an error, after which kube-scheduler tries again within seconds; what stays
//! wrong until somebody changes it refuses every node, which makes the pod wait for an event.

use std::collections::{BTreeMap, BTreeSet};

use hawser_api::extender::{
    ExtenderArgs, ExtenderFilterResult, ExtenderPreemptionArgs, ExtenderPreemptionResult,
    HostPriority, HostPriorityList, MetaPod, MetaVictims, NodeList, Victims,
};
use hawser_inventory::{Inventory, Unknown};
use hawser_placement::{Evaluator, Reason, Request, Score, Strategy, tell};
use k8s_openapi::api::core::v1::Pod;

use crate::record::Outcome;

const NO_POD: &str = "the request carries no Pod";

/// The answer, and what it came from.
pub(crate) struct Filtered {
    pub(crate) result: ExtenderFilterResult,
    pub(crate) pod: Option<Pod>,
    pub(crate) outcome: Outcome,
}

impl Filtered {
    /// Nothing can be said.
    pub(crate) fn failed(pod: Option<Pod>, error: String, unknown: Option<Unknown>) -> Self {
        Self {
            result: ExtenderFilterResult {
                error: error.clone(),
                ..ExtenderFilterResult::default()
            },
            pod,
            outcome: Outcome::Failed { error, unknown },
        }
    }
}

pub(crate) fn filter(
    inventory: &Inventory,
    strategy: Strategy,
    mut args: ExtenderArgs,
) -> Filtered {
    let asked = request(inventory, strategy, args.pod.as_ref());
    let by_name = args.node_names.take();
    // What came as nodes goes back as nodes, what came as names as names, in the order they came.
    let whole = by_name
        .is_none()
        .then(|| args.nodes.take().unwrap_or_default());
    let names = by_name.unwrap_or_else(|| names_of(whole.as_ref()));
    let mut result = ExtenderFilterResult::default();
    let outcome = match asked {
        Err(NoRequest::Fail { error, unknown }) => {
            return Filtered::failed(args.pod, error, unknown);
        }
        Err(NoRequest::NotOurs) => {
            let nodes = names.len();
            pass(&mut result, whole, names);
            Outcome::NotOurs { nodes }
        }
        Err(NoRequest::Refuse(unknown)) => {
            let (sentence, nodes) = (unknown.to_string(), names.len());
            let said = names.into_iter().map(|name| (name, sentence.clone()));
            result.failed_and_unresolvable_nodes = said.collect();
            pass(&mut result, whole, Vec::new());
            Outcome::Refused { unknown, nodes }
        }
        Ok(request) => {
            let mut evaluator = Evaluator::new(inventory.cluster(), &request);
            let verdicts: Vec<_> = names.iter().map(|name| evaluator.score(name)).collect();
            refuse(&mut result, &names, &verdicts);
            let fits = names
                .iter()
                .zip(&verdicts)
                .filter(|(_, verdict)| verdict.is_ok());
            let passed = fits.map(|(name, _)| name.clone()).collect();
            pass(&mut result, whole, passed);
            Outcome::Judged {
                nodes: names,
                verdicts,
            }
        }
    };
    Filtered {
        result,
        pod: args.pod,
        outcome,
    }
}

fn names_of(nodes: Option<&NodeList>) -> Vec<String> {
    let nodes = nodes.iter().flat_map(|nodes| &nodes.items);
    nodes
        .filter_map(|node| node.metadata.name.clone())
        .collect()
}

fn pass(result: &mut ExtenderFilterResult, whole: Option<NodeList>, passed: Vec<String>) {
    let Some(mut nodes) = whole else {
        result.node_names = Some(passed);
        return;
    };
    let passed: BTreeSet<String> = passed.into_iter().collect();
    nodes.items.retain(|node| {
        let name = node.metadata.name.as_ref();
        name.is_some_and(|name| passed.contains(name))
    });
    result.nodes = Some(nodes);
}

/// Says why not, of all nodes together as briefly as the scheduler's event needs it.
fn refuse(
    result: &mut ExtenderFilterResult,
    names: &[String],
    verdicts: &[Result<Score, Vec<Reason>>],
) {
    let refused = || {
        let both = names.iter().zip(verdicts);
        both.filter_map(|(name, verdict)| Some((name, verdict.as_ref().err()?.as_slice())))
    };
    let reasons: Vec<&[Reason]> = refused().map(|(_, reasons)| reasons).collect();
    for ((name, reasons), said) in refused().zip(tell(&reasons)) {
        let failed = if reasons.iter().all(Reason::curable_by_preemption) {
            &mut result.failed_nodes
        } else {
            &mut result.failed_and_unresolvable_nodes
        };
        failed.insert(name.clone(), said.to_string());
    }
}

/// Scores 0 to 10; 0 for nodes that would have been filtered, and for all if nothing can be said.
pub(crate) fn prioritize(
    inventory: &Inventory,
    strategy: Strategy,
    args: &ExtenderArgs,
) -> HostPriorityList {
    let request = request(inventory, strategy, args.pod.as_ref()).ok();
    let mut evaluator = request
        .as_ref()
        .map(|request| Evaluator::new(inventory.cluster(), request));
    let mut score = |name: &str| {
        evaluator
            .as_mut()
            .and_then(|evaluator| evaluator.score(name).ok())
            .map_or(0, Score::points)
    };
    args.candidates()
        .into_iter()
        .map(|host| HostPriority {
            score: i64::from(score(&host)),
            host,
        })
        .collect()
}

/// Keeps the nodes on which the pod's volumes fit once the victims are gone. Only what goes with a pod is freed by that: the
/// volumes of its own ephemeral claims.
pub(crate) fn preempt(
    inventory: &Inventory,
    strategy: Strategy,
    args: ExtenderPreemptionArgs,
) -> ExtenderPreemptionResult {
    let candidates = victims(args.node_name_to_meta_victims, args.node_name_to_victims);
    let helps = |node: &str, victims: &MetaVictims, request: &Request| {
        let uids: BTreeSet<&str> = victims
            .pods
            .iter()
            .flatten()
            .map(|pod| pod.uid.as_str())
            .collect();
        let after = inventory.cluster_without(node, &uids);
        Evaluator::new(&after, request).score(node).is_ok()
    };
    let kept = match request(inventory, strategy, args.pod.as_ref()) {
        Err(NoRequest::NotOurs) => candidates,
        // Nobody is evicted for a pod that can't be placed anyway.
        Err(NoRequest::Fail { .. } | NoRequest::Refuse(_)) => BTreeMap::new(),
        Ok(request) => candidates
            .into_iter()
            .filter(|(node, victims)| helps(node, victims, &request))
            .collect(),
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

enum NoRequest {
    NotOurs,
    /// Every node is refused, with this.
    Refuse(Unknown),
    /// Nothing can be said now.
    Fail {
        error: String,
        unknown: Option<Unknown>,
    },
}

fn request(
    inventory: &Inventory,
    strategy: Strategy,
    pod: Option<&Pod>,
) -> Result<Request, NoRequest> {
    let pod = pod.ok_or_else(|| NoRequest::Fail {
        error: NO_POD.to_owned(),
        unknown: None,
    })?;
    match inventory.pod_request(pod) {
        Ok(None) => Err(NoRequest::NotOurs),
        Ok(Some(request)) => Ok(Request {
            strategy,
            ..request
        }),
        Err(unknown) if unknown.may_pass() => Err(NoRequest::Fail {
            error: unknown.to_string(),
            unknown: Some(unknown),
        }),
        Err(unknown) => Err(NoRequest::Refuse(unknown)),
    }
}
