//! What the scheduler was told last, out of the record.

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use super::{Alike, CameTo, Judged, at};
use crate::decide::{self, Nodes, Refusal, Verdict};
use crate::record::{Decision, Filtered, Outcome, Prioritized};
use crate::verdict::{NAMED, NodeShown, WhyNot};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Last {
    pub(super) filter: Option<LastFilter>,
    pub(super) prioritize: Option<LastPrioritize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LastFilter {
    pub(super) at: String,
    pub(super) seconds_ago: i64,
    #[serde(flatten)]
    pub(super) came_to: CameTo,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LastPrioritize {
    pub(super) at: String,
    pub(super) seconds_ago: i64,
    pub(super) scores: Vec<Points>,
}

#[derive(Debug, Serialize)]
pub(super) struct Points {
    pub(super) node: String,
    pub(super) points: u8,
}

impl Last {
    pub(super) fn of(decision: &Decision) -> Self {
        Self {
            filter: decision.filtered.as_deref().map(LastFilter::of),
            prioritize: decision.prioritized.as_deref().map(LastPrioritize::of),
        }
    }
}

impl LastFilter {
    fn of(filtered: &Filtered) -> Self {
        let came_to = match &filtered.outcome {
            Outcome::NotOurs { nodes } => CameTo::NotOurs {
                nodes: Some(*nodes),
            },
            Outcome::Refused { unknown, nodes } => CameTo::unknown(unknown.clone(), Some(*nodes)),
            Outcome::Failed { error, unknown } => CameTo::NotYet {
                reasons: unknown.iter().cloned().collect(),
                sentence: error.clone(),
            },
            Outcome::Judged(filtered) => judged(filtered),
        };
        Self {
            at: at(filtered.at),
            seconds_ago: seconds_since(filtered.at),
            came_to,
        }
    }
}

impl LastPrioritize {
    fn of(prioritized: &Prioritized) -> Self {
        let scores = prioritized.points.iter().enumerate();
        let points = |(at, points): (usize, &u8)| Points {
            node: name(&prioritized.nodes, at),
            points: *points,
        };
        Self {
            at: at(prioritized.at),
            seconds_ago: seconds_since(prioritized.at),
            scores: scores.map(points).collect(),
        }
    }
}

fn judged(filtered: &decide::Filtered) -> CameTo {
    let nodes = filtered.nodes();
    let mut own: Vec<Judged> = Vec::new();
    // By the place of their refusal.
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); filtered.refusals().len()];
    for (at, verdict) in filtered.verdicts().enumerate() {
        match verdict {
            Verdict::Passes(score) => own.extend(score.map(|score| Judged {
                node: NodeShown::fit(&name(nodes, at), score),
                said: None,
            })),
            Verdict::Refused(refusal) if refusal.nearest.is_none() => {
                own.push(refused(&name(nodes, at), refusal));
            }
            Verdict::Refused(_) => members[filtered.places()[at] as usize].push(at),
        }
    }
    let groups = filtered.refusals().iter().zip(members);
    let alike = groups.filter_map(|(refusal, members)| {
        let named = members.iter().take(NAMED).map(|at| name(nodes, *at));
        Some(Alike {
            count: members.len(),
            nodes: named.collect(),
            nearest: name(nodes, refusal.nearest?),
            why: WhyNot::new(refusal.reasons.clone()),
            said: refusal.sentence.to_string(),
        })
    });
    CameTo::judged(None, own, alike.collect())
}

fn refused(node: &str, refusal: &Refusal) -> Judged {
    let node = NodeShown::refused(node, refusal.reasons.clone());
    let sentence = node.why.as_ref().map(|why| why.sentence.as_str());
    let said = Some(&*refusal.sentence).filter(|said| Some(*said) != sentence);
    Judged {
        said: said.map(str::to_owned),
        node,
    }
}

fn name(nodes: &Nodes, at: usize) -> String {
    let name = nodes.name(at);
    name.unwrap_or("(a node that is not known)").to_owned()
}

fn seconds_since(time: Timestamp) -> i64 {
    Timestamp::now()
        .as_second()
        .saturating_sub(time.as_second())
}
