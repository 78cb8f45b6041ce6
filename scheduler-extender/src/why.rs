//! `GET /why?pod=NAMESPACE/NAME`: what was last decided about a pod, and what would be decided now.
//!
//! The last decision is what kube-scheduler was told, about the nodes that it asked about. "Now" is decided when somebody asks,
//! about every node, the pod's node selector, affinity and taints included. Pods are not watched: what one asks for is known
//! from the scheduler's last request, or from the dump that is served.

mod text;

use std::collections::HashMap;
use std::sync::Arc;

use hawser_api::extender::HostPriority;
use hawser_inventory::{Inventory, Unknown};
use hawser_placement::{Reason, Request, Strategy, tell};
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::pods::{PodFacts, PodName};
use crate::problem::Problem;
use crate::record::{BYTES, Decision, Filtered, Outcome, PODS, Prioritized, Records};
use crate::verdict::{Asked, NodeShown, survey};
use crate::watch::Shared;

/// What questions are answered from.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) inventory: Shared,
    pub(crate) strategy: Strategy,
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
struct Last {
    filter: Option<LastFilter>,
    prioritize: Option<LastPrioritize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LastFilter {
    at: String,
    seconds_ago: i64,
    #[serde(flatten)]
    came_to: CameTo,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LastPrioritize {
    at: String,
    seconds_ago: i64,
    scores: Vec<Points>,
}

/// As the scheduler was told.
#[derive(Debug, Serialize)]
struct Points {
    node: String,
    points: i64,
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

/// Answers. `starting`: why nothing can be decided yet.
pub(crate) fn why(
    sources: &Sources,
    pod: &PodName,
    starting: Option<String>,
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
    let now = match (facts, starting) {
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
        last: decision.as_ref().map(last),
        now,
        notes,
    })
}

fn not_known(sources: &Sources, pod: &PodName) -> String {
    let extent = sources.records.extent();
    let mut why = format!(
        "nothing is known of pod {pod}: of {} requests since {} the last ones of {} pods are remembered (at most {PODS}, or {} MiB)",
        extent.made,
        at(extent.since),
        extent.pods,
        BYTES >> 20,
    );
    if !sources.pods.is_empty() {
        why += &format!(
            ", and none of the dump's {} pods has this name",
            sources.pods.len()
        );
    }
    let reserved = reserved_for(&sources.inventory.read(), pod);
    if !reserved.is_empty() {
        why += &format!("; room is reserved for it on {}", reserved.join(", "));
    }
    why + "; pods are not watched: send the pod itself to POST /simulate, or ask the extender beside the kube-scheduler that leads"
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
    let (asked, cluster) = {
        let inventory = sources.inventory.read();
        (
            inventory.pod_request(&facts.to_pod()),
            inventory.cluster().clone(),
        )
    };
    let came_to = match asked {
        Err(unknown) => CameTo::unknown(unknown, None),
        Ok(None) => CameTo::NotOurs { nodes: None },
        Ok(Some(request)) => {
            let request = Request {
                strategy: sources.strategy,
                ..request
            };
            let survey = survey(&cluster, &request, &|| true).unwrap_or_default();
            let nodes = survey.into_iter().map(|(name, verdict)| Judged {
                node: NodeShown::of(&name, verdict),
                said: None,
            });
            CameTo::judged(Some(Asked::of(&request)), nodes.collect())
        }
    };
    Now {
        at: at(Timestamp::now()),
        came_to,
    }
}

fn last(decision: &Decision) -> Last {
    Last {
        filter: decision.filtered.as_deref().map(last_filter),
        prioritize: decision.prioritized.as_deref().map(last_prioritize),
    }
}

fn last_filter(filtered: &Filtered) -> LastFilter {
    let came_to = match &filtered.outcome {
        Outcome::NotOurs { nodes } => CameTo::NotOurs {
            nodes: Some(*nodes),
        },
        Outcome::Refused { unknown, nodes } => CameTo::unknown(unknown.clone(), Some(*nodes)),
        Outcome::Failed { error, unknown } => CameTo::NotYet {
            reasons: unknown.iter().cloned().collect(),
            sentence: error.clone(),
        },
        Outcome::Judged { nodes, verdicts } => {
            let refused = verdicts.iter().filter_map(|verdict| verdict.as_ref().err());
            let refused: Vec<&[Reason]> = refused.map(Vec::as_slice).collect();
            let mut said = tell(&refused).into_iter();
            let shown = nodes
                .iter()
                .zip(verdicts)
                .map(|(node, verdict)| match verdict {
                    Ok(score) => Judged {
                        node: NodeShown::fit(node, *score),
                        said: None,
                    },
                    Err(reasons) => Judged::refused(node, reasons, said.next().as_deref()),
                });
            CameTo::judged(None, shown.collect())
        }
    };
    LastFilter {
        at: at(filtered.at),
        seconds_ago: seconds_since(filtered.at),
        came_to,
    }
}

fn last_prioritize(prioritized: &Prioritized) -> LastPrioritize {
    let points = |HostPriority { host, score }: &HostPriority| Points {
        node: host.clone(),
        points: *score,
    };
    LastPrioritize {
        at: at(prioritized.at),
        seconds_ago: seconds_since(prioritized.at),
        scores: prioritized.scores.iter().map(points).collect(),
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

    fn judged(asks: Option<Vec<Asked>>, nodes: Vec<Judged>) -> Self {
        let fit = nodes.iter().filter(|judged| judged.node.fits).count();
        Self::Judged {
            asks,
            fit,
            refused: nodes.len() - fit,
            nodes,
        }
    }
}

impl Judged {
    fn refused(node: &str, reasons: &[Reason], said: Option<&str>) -> Self {
        let node = NodeShown::refused(node, reasons.to_vec());
        let sentence = node.why.as_ref().map(|why| why.sentence.as_str());
        Self {
            said: said
                .filter(|said| Some(*said) != sentence)
                .map(str::to_owned),
            node,
        }
    }
}

fn at(time: Timestamp) -> String {
    format!("{time:.0}")
}

fn seconds_since(time: Timestamp) -> i64 {
    Timestamp::now()
        .as_second()
        .saturating_sub(time.as_second())
}
