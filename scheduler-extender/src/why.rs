//! `GET /why?pod=NAMESPACE/NAME`: what was last decided about a pod, and what would be decided now.
//!
//! The last decision is what kube-scheduler was told, about the nodes that it asked about. "Now" is decided when somebody asks,
//! about every node, the pod's node selector, affinity and taints included. Pods are not watched: what one asks for is known
//! from the scheduler's last request, or from the dump that is served.

mod last;
mod text;

use std::collections::HashMap;
use std::sync::Arc;

use hawser_inventory::{Inventory, Unknown};
use hawser_placement::{Request, Strategy};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use self::last::Last;
use crate::pods::{PodFacts, PodName};
use crate::problem::Problem;
use crate::recent::Recent;
use crate::record::{BYTES, PODS, Records};
use crate::verdict::{Asked, NodeShown, WhyNot, survey};
use crate::watch::Shared;

/// What questions are answered from.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) inventory: Shared,
    pub(crate) strategy: Strategy,
    pub(crate) recent: Arc<Mutex<Recent>>,
    pub(crate) records: Records,
    /// Pods of a dump.
    pub(crate) pods: Arc<HashMap<PodName, PodFacts>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Why {
    pod: String,
    uid: Option<String>,
    /// `null`: not remembered.
    last: Option<Last>,
    /// `null`: what the pod asks for is not known.
    now: Option<Now>,
    /// Sentences on what is missing above, and why.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Now {
    at: String,
    #[serde(flatten)]
    came_to: CameTo,
}

/// What a decision came to.
#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all_fields = "camelCase")]
enum CameTo {
    /// None of the pod's volumes is ours, so that storage has no say.
    NotOurs {
        #[serde(skip_serializing_if = "Option::is_none")]
        nodes: Option<usize>,
    },
    /// What the pod asks for is wrong until somebody changes it: every node is refused.
    Refused {
        reasons: Vec<Unknown>,
        sentence: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        nodes: Option<usize>,
    },
    /// Nothing can be said yet; the scheduler tries again within seconds.
    NotYet {
        reasons: Vec<Unknown>,
        sentence: String,
    },
    Judged {
        /// What the pod asks for; only told of now.
        #[serde(skip_serializing_if = "Option::is_none")]
        asks: Option<Vec<Asked>>,
        fit: usize,
        refused: usize,
        nodes: Vec<Judged>,
        /// Nodes that are not among those, because there were too many to look at each.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        alike: Vec<Alike>,
    },
}

#[derive(Debug, Serialize)]
struct Judged {
    #[serde(flatten)]
    node: NodeShown,
    /// What the scheduler was told, where it is not the sentence: see `tell` of placement.
    #[serde(skip_serializing_if = "Option::is_none")]
    said: Option<String>,
}

/// Nodes that lacked the same, more or less of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Alike {
    count: usize,
    /// The first [`NAMED`], in the order of the request.
    nodes: Vec<String>,
    /// The one that lacked least, whose reasons these are.
    nearest: String,
    #[serde(flatten)]
    why: WhyNot,
    /// What the scheduler was told.
    said: String,
}

/// Answers. `not_now`: why nothing can be decided.
pub(crate) fn why(
    sources: &Sources,
    pod: &PodName,
    not_now: Option<String>,
) -> Result<Why, Problem> {
    let decision = sources.records.get(pod);
    let filtered = decision.as_ref().and_then(|known| known.filtered.as_ref());
    let facts = filtered
        .map(|filtered| &filtered.pod)
        .or_else(|| sources.pods.get(pod));
    if facts.is_none() && decision.is_none() {
        let why = not_known(sources, pod);
        return Err(Problem::NotKnown { why });
    }
    let mut notes = Vec::new();
    if filtered.is_none() {
        notes.push(match &decision {
            Some(_) => {
                "only the scores of the last attempt are remembered, not what was filtered before"
                    .to_owned()
            }
            None => "no decision about this pod is remembered: it is known from the dump only"
                .to_owned(),
        });
    } else if sources.pods.get(pod).is_none() {
        notes.push(
            "what the pod asks for is known from the scheduler's last request; pods are not watched, so it may run, have changed or be gone by now"
                .to_owned(),
        );
    }
    let now = match (facts, not_now) {
        (None, _) => {
            notes.push("what the pod asks for is not known, so there is no decision of now: send the pod itself to POST /simulate".to_owned());
            None
        }
        (Some(_), Some(why)) => {
            notes.push(why);
            None
        }
        (Some(facts), None) => Some(now(sources, facts)),
    };
    Ok(Why {
        pod: pod.to_string(),
        uid: facts.and_then(|facts| facts.uid.clone()),
        last: decision.as_ref().map(Last::of),
        now,
        notes,
    })
}

fn not_known(sources: &Sources, pod: &PodName) -> String {
    let extent = sources.records.extent();
    let dump = match sources.pods.len() {
        0 => String::new(),
        pods => format!(", and none of the dump's {pods} pods has this name"),
    };
    let reserved = match reserved_for(&sources.inventory.read(), pod).join(", ") {
        none if none.is_empty() => none,
        nodes => format!("; room is reserved for it on {nodes}"),
    };
    format!(
        "nothing is known of pod {pod}: of {} requests since {} the last ones of {} pods are remembered (at most {PODS}, or {} MiB)\
         {dump}{reserved}; pods are not watched: send the pod itself to POST /simulate, or ask the extender beside the kube-scheduler that leads",
        extent.made,
        at(extent.since),
        extent.pods,
        BYTES >> 20,
    )
}

/// Nodes on which a reservation names the pod.
fn reserved_for(inventory: &Inventory, pod: &PodName) -> Vec<String> {
    let owns = |owner: &str| {
        owner.split_once('/').is_some_and(|(namespace, pods)| {
            namespace == pod.namespace && pods.split(',').any(|name| name == pod.name)
        })
    };
    let nodes = inventory.cluster().nodes();
    let mut names: Vec<String> = nodes
        .filter(|node| node.reservations.iter().any(|held| owns(&held.owner)))
        .map(|node| node.name.to_string())
        .collect();
    names.sort();
    names
}

fn now(sources: &Sources, facts: &PodFacts) -> Now {
    // Under the lock only what can't wait: cloning the snapshot shares its nodes.
    let (asked, holds, cluster) = {
        let inventory = sources.inventory.read();
        let asked = inventory.pod_request(&facts.to_pod());
        let mut holds = Vec::new();
        if let Ok(Some(request)) = &asked {
            let uid = facts.uid.as_deref().unwrap_or_default();
            let mut recent = sources.recent.lock();
            holds = inventory.holds(request);
            holds.extend(recent.of_others(Instant::now().into_std(), uid, &inventory));
        }
        (asked, holds, inventory.cluster().clone())
    };
    let came_to = match asked {
        Err(unknown) => CameTo::unknown(unknown, None),
        Ok(None) => CameTo::NotOurs { nodes: None },
        Ok(Some(request)) => {
            let request = Request {
                strategy: sources.strategy,
                ..request
            };
            let survey = survey(&cluster, &request, &holds, &|| true).unwrap_or_default();
            let nodes = survey.into_iter().map(|(name, verdict)| Judged {
                node: NodeShown::of(&name, verdict),
                said: None,
            });
            CameTo::judged(Some(Asked::of(&request)), nodes.collect(), Vec::new())
        }
    };
    Now {
        at: at(Timestamp::now()),
        came_to,
    }
}

impl CameTo {
    fn unknown(unknown: Unknown, nodes: Option<usize>) -> Self {
        let (sentence, may_pass) = (unknown.to_string(), unknown.may_pass());
        let reasons = vec![unknown];
        if may_pass {
            Self::NotYet { reasons, sentence }
        } else {
            Self::Refused {
                reasons,
                sentence,
                nodes,
            }
        }
    }

    fn judged(asks: Option<Vec<Asked>>, nodes: Vec<Judged>, alike: Vec<Alike>) -> Self {
        let fit = nodes.iter().filter(|judged| judged.node.fits).count();
        let all = nodes.len() + alike.iter().map(|alike| alike.count).sum::<usize>();
        Self::Judged {
            asks,
            fit,
            refused: all - fit,
            nodes,
            alike,
        }
    }
}

fn at(time: Timestamp) -> String {
    format!("{time:.0}")
}
