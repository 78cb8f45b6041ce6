//! Every node of the cluster judged for one request, as volume creation would choose among them, and how that is shown.

use std::collections::BTreeMap;

use hawser_inventory::Supposed;
use hawser_placement::{
    Bytes, Cluster, Evaluator, Hold, Name, Place, Plan, PoolClass, Reason, Replica, Request, Score,
    ScoreParts, Sentence, Verdict, VolumeKind, kept_out,
};
use serde::Serialize;

/// The nodes by name, each with its verdict.
pub(crate) type Survey = Vec<(Name, Verdict)>;

/// Judges all nodes. `holds`: what others will probably take. `None`: `go_on`, which is asked before each, said no.
pub(crate) fn survey(
    cluster: &Cluster,
    request: &Request,
    holds: &[Hold],
    go_on: &impl Fn() -> bool,
) -> Option<Survey> {
    let mut names: Vec<Name> = cluster.nodes().map(|node| node.name.clone()).collect();
    names.sort();
    let mut evaluator = Evaluator::new(cluster, request).with_holds(holds);
    let mut survey = Vec::with_capacity(names.len());
    for name in names {
        if !go_on() {
            return None;
        }
        let verdict = match kept_out(cluster, request, &name) {
            Some(reason) => Verdict::NoFit {
                reasons: vec![reason],
            },
            None => evaluator.verdict(&name),
        };
        survey.push((name, verdict));
    }
    Some(survey)
}

/// The node that volume creation would take: the greatest score, ties by name (the least first).
pub(crate) fn best(survey: &Survey) -> Option<(&Name, Score, &Plan)> {
    let fits = survey.iter().filter_map(|(name, verdict)| match verdict {
        Verdict::Fit { score, plan } => Some((name, *score, plan)),
        Verdict::NoFit { .. } => None,
    });
    fits.max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(a.0)))
}

/// One node, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeShown {
    pub(crate) node: String,
    pub(crate) fits: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) score: Option<ScoreParts>,
    #[serde(flatten)]
    pub(crate) why: Option<WhyNot>,
    /// Where the new volumes would go; `None` where nobody asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) volumes: Option<Vec<Planned>>,
}

/// Why a node was refused, for machines and for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WhyNot {
    pub(crate) reasons: Vec<Reason>,
    pub(crate) sentence: String,
    /// Whether evicting pods from the node could help.
    pub(crate) curable_by_preemption: bool,
}

impl WhyNot {
    pub(crate) fn new(reasons: Vec<Reason>) -> Self {
        Self {
            sentence: Sentence::of(&reasons).to_string(),
            curable_by_preemption: reasons.iter().all(Reason::curable_by_preemption),
            reasons,
        }
    }
}

/// Where one new volume would go.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Planned {
    pub(crate) claim: String,
    /// The first is the pod's node.
    pub(crate) copies: Vec<Place>,
}

impl Planned {
    pub(crate) fn of(plan: &Plan) -> Vec<Self> {
        let planned = |volume: &hawser_placement::VolumePlan| Self {
            claim: volume.claim.to_string(),
            copies: volume.copies.clone(),
        };
        plan.volumes.iter().map(planned).collect()
    }
}

impl NodeShown {
    pub(crate) fn of(node: &str, verdict: Verdict) -> Self {
        match verdict {
            Verdict::Fit { score, plan } => Self {
                volumes: Some(Planned::of(&plan)),
                ..Self::fit(node, score)
            },
            Verdict::NoFit { reasons } => Self::refused(node, reasons),
        }
    }

    pub(crate) fn fit(node: &str, score: Score) -> Self {
        Self {
            node: node.to_owned(),
            fits: true,
            score: Some(score.parts()),
            why: None,
            volumes: None,
        }
    }

    pub(crate) fn refused(node: &str, reasons: Vec<Reason>) -> Self {
        Self {
            node: node.to_owned(),
            fits: false,
            score: None,
            why: Some(WhyNot::new(reasons)),
            volumes: None,
        }
    }
}

/// Nodes that are refused for the same reasons, numbers included.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RefusedNodes {
    pub(crate) count: usize,
    /// By name, the first [`NAMED`].
    pub(crate) nodes: Vec<String>,
    #[serde(flatten)]
    pub(crate) why: WhyNot,
}

/// So many nodes of a group are named.
pub(crate) const NAMED: usize = 100;

/// The refused nodes, those with equal reasons together; large groups first, then by the nodes' names.
pub(crate) fn refused(survey: &Survey) -> Vec<RefusedNodes> {
    let mut groups: BTreeMap<&[Reason], Vec<&Name>> = BTreeMap::new();
    for (name, verdict) in survey {
        if let Verdict::NoFit { reasons } = verdict {
            groups.entry(reasons).or_default().push(name);
        }
    }
    let mut refused: Vec<RefusedNodes> = groups
        .into_iter()
        .map(|(reasons, nodes)| RefusedNodes {
            count: nodes.len(),
            nodes: nodes.iter().take(NAMED).map(ToString::to_string).collect(),
            why: WhyNot::new(reasons.to_vec()),
        })
        .collect();
    refused.sort_by(|a, b| (b.count, &a.nodes).cmp(&(a.count, &b.nodes)));
    refused
}

/// What a pod asks for, one volume.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asked {
    pub(crate) claim: String,
    /// `None`: the claim does not exist, so its volume has no name yet.
    pub(crate) volume: Option<String>,
    #[serde(flatten)]
    pub(crate) kind: AskedKind,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase")]
pub(crate) enum AskedKind {
    /// The volume exists.
    Existing {
        copies: Vec<Replica>,
        /// The node that uses it now.
        used_on: Option<String>,
    },
    New {
        class: PoolClass,
        #[serde(rename = "bytes")]
        size: Bytes,
        thin: bool,
        copies: u8,
        /// Nodes that have what it is to be made from.
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<Vec<String>>,
    },
}

impl Asked {
    pub(crate) fn of(request: &Request) -> Vec<Self> {
        let text = |name: &Name| name.to_string();
        let kind = |kind: &VolumeKind| match kind {
            VolumeKind::Bound(bound) => AskedKind::Existing {
                copies: bound.copies.clone(),
                used_on: bound.published.as_ref().map(text),
            },
            VolumeKind::New(new) => AskedKind::New {
                class: new.class,
                size: new.size,
                thin: new.thin,
                copies: new.copies.max(1),
                source: new
                    .source
                    .as_ref()
                    .map(|nodes| nodes.iter().map(text).collect()),
            },
        };
        let asked = request.volumes.iter().map(|volume| Self {
            claim: volume.claim.to_string(),
            volume: Some(volume.name.to_string()).filter(|name| !Supposed::is_volume(name)),
            kind: kind(&volume.kind),
        });
        let mut asked: Vec<Self> = asked.collect();
        asked.sort_by(|a, b| a.claim.cmp(&b.claim));
        asked
    }
}

/// `claim shop/data: new, 10.0 MiB in an ssd pool`, `claim shop/ledger: on node n2, in use there`.
impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "claim {}: ", self.claim)?;
        match &self.kind {
            AskedKind::Existing { copies, used_on } => {
                let copies: Vec<String> = copies.iter().map(ToString::to_string).collect();
                match copies.as_slice() {
                    [] => f.write_str("on no node")?,
                    copies => write!(f, "on {}", copies.join(", "))?,
                }
                match used_on {
                    Some(node) => write!(f, "; in use on {node}"),
                    None => Ok(()),
                }
            }
            AskedKind::New {
                class,
                size,
                thin,
                copies,
                source,
            } => {
                write!(f, "new, {size} of an {} pool", class.in_words())?;
                if *copies > 1 {
                    write!(f, ", {copies} copies on different nodes")?;
                }
                if *thin {
                    f.write_str(", thin")?;
                }
                match source {
                    Some(nodes) => write!(f, ", made from what is on {}", nodes.join(", ")),
                    None => Ok(()),
                }
            }
        }
    }
}
