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
use hawser_inventory::Inventory;
use hawser_placement::{Evaluator, Reason, Request, Score, Sentence, Strategy};
use k8s_openapi::api::core::v1::Pod;

const NO_POD: &str = "the request carries no Pod";

pub(crate) fn filter(
    inventory: &Inventory,
    strategy: Strategy,
    mut args: ExtenderArgs,
) -> ExtenderFilterResult {
    let names = args.candidates();
    let mut result = ExtenderFilterResult::default();
    let mut passed: BTreeSet<String> = BTreeSet::new();
    match request(inventory, strategy, args.pod.as_ref()) {
        Err(NoRequest::Fail(error)) => return ExtenderFilterResult { error, ..result },
        Err(NoRequest::NotOurs) => passed.extend(names.iter().cloned()),
        Err(NoRequest::Refuse(sentence)) => {
            result.failed_and_unresolvable_nodes = names
                .iter()
                .map(|name| (name.clone(), sentence.clone()))
                .collect();
        }
        Ok(request) => {
            let mut evaluator = Evaluator::new(inventory.cluster(), &request);
            for name in &names {
                let Err(reasons) = evaluator.score(name) else {
                    passed.insert(name.clone());
                    continue;
                };
                let curable = reasons.iter().all(Reason::curable_by_preemption);
                let failed = if curable {
                    &mut result.failed_nodes
                } else {
                    &mut result.failed_and_unresolvable_nodes
                };
                failed.insert(name.clone(), Sentence(&reasons).to_string());
            }
        }
    }
    // What came as nodes goes back as nodes, what came as names as names, in the order they came.
    if args.node_names.is_some() {
        result.node_names = Some(
            names
                .into_iter()
                .filter(|name| passed.contains(name))
                .collect(),
        );
    } else {
        let is_left = |node: &k8s_openapi::api::core::v1::Node| {
            node.metadata
                .name
                .as_ref()
                .is_some_and(|name| passed.contains(name))
        };
        let items = args
            .nodes
            .take()
            .unwrap_or_default()
            .items
            .into_iter()
            .filter(is_left)
            .collect();
        result.nodes = Some(NodeList { items });
    }
    result
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
        Err(NoRequest::Fail(_) | NoRequest::Refuse(_)) => BTreeMap::new(),
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
    /// Every node is refused, with this sentence.
    Refuse(String),
    /// Nothing can be said now.
    Fail(String),
}

fn request(
    inventory: &Inventory,
    strategy: Strategy,
    pod: Option<&Pod>,
) -> Result<Request, NoRequest> {
    let pod = pod.ok_or_else(|| NoRequest::Fail(NO_POD.to_owned()))?;
    match inventory.pod_request(pod) {
        Ok(None) => Err(NoRequest::NotOurs),
        Ok(Some(request)) => Ok(Request {
            strategy,
            ..request
        }),
        Err(unknown) if unknown.may_pass() => Err(NoRequest::Fail(unknown.to_string())),
        Err(unknown) => Err(NoRequest::Refuse(unknown.to_string())),
    }
}
