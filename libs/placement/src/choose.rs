//! One node out of many: for `CreateVolume`, and for the growth of what exists.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::cluster::{Cluster, Name};
use crate::evaluate::{Evaluator, Plan, Verdict};
use crate::node::{PoolHealth, Reservation};
use crate::reason::{Lack, Reason, Reserved};
use crate::request::Request;
use crate::score::Score;
use crate::sentence::Sentence;
use crate::tell::{Refused, tell};
use crate::units::Bytes;

/// Which nodes come into question for the first copies.
#[derive(Clone, Copy, Debug)]
pub enum Candidates<'a> {
    /// The node that a scheduler has chosen: selector and taints are its business.
    Selected(&'a str),
    /// These (in any order); selector and taints are checked here.
    Among(&'a [Name]),
    /// Every node of the snapshot; selector and taints are checked here.
    Any,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub node: Name,
    pub score: Score,
    pub plan: Plan,
}

/// No candidate can hold the volumes: why, node by node, by name. A value, not a failure: it is the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    pub nodes: Vec<(Name, Vec<Reason>)>,
}

/// The best candidate: the greatest score, ties by name (the least first).
pub fn choose(
    cluster: &Cluster,
    request: &Request,
    candidates: Candidates<'_>,
) -> Result<Placement, Refusal> {
    let names: Vec<Name> = match candidates {
        Candidates::Selected(node) => vec![node.into()],
        Candidates::Among(nodes) => nodes.to_vec(),
        Candidates::Any => cluster.nodes().map(|node| node.name.clone()).collect(),
    };
    let check = !matches!(candidates, Candidates::Selected(_));
    let mut evaluator = Evaluator::new(cluster, request);
    let mut best: Option<(Score, Name)> = None;
    for name in &names {
        let Some(id) = cluster.id(name) else { continue };
        if check && kept_out(cluster, request, name).is_some() {
            continue;
        }
        if let Ok(score) = evaluator.look(id) {
            let better = |(than, other): &(Score, Name)| (score, other) > (*than, name);
            if best.as_ref().is_none_or(better) {
                best = Some((score, name.clone()));
            }
        }
    }
    let verdict = best.map(|(_, node)| (evaluator.verdict(&node), node));
    if let Some((Verdict::Fit { score, plan }, node)) = verdict {
        return Ok(Placement { node, score, plan });
    }
    let mut nodes: Vec<_> = names
        .into_iter()
        .map(|name| {
            let kept_out = check.then(|| kept_out(cluster, request, &name)).flatten();
            let reasons = kept_out.map_or_else(
                || evaluator.score(&name).err().unwrap_or_default(),
                |reason| vec![reason],
            );
            (name, reasons)
        })
        .collect();
    nodes.sort_by(|a, b| a.0.cmp(&b.0));
    nodes.dedup_by(|a, b| a.0 == b.0);
    Err(Refusal { nodes })
}

/// Why the pod may not be on the node whatever its storage: selector, affinity, taints. What is not known is not kept out.
#[must_use]
pub fn kept_out(cluster: &Cluster, request: &Request, name: &str) -> Option<Reason> {
    let node = cluster.get(name)?;
    if !request.constraints.selects(node) {
        return Some(Reason::NotSelected);
    }
    let taint = request.constraints.untolerated(node)?;
    Some(Reason::Tainted {
        taint: taint.to_string(),
    })
}

/// Whether a thick volume in `pool` on `node` may grow from `from` to `to`, one sentence of reasons otherwise.
/// `mine`: reservations that were made for this growth.
pub fn grow(
    cluster: &Cluster,
    node: &str,
    pool: &str,
    (from, to): (Bytes, Bytes),
    mine: impl Fn(&Reservation) -> bool,
) -> Result<(), Vec<Reason>> {
    let Some(node) = cluster.get(node) else {
        return Err(vec![Reason::UnknownNode]);
    };
    let known = node.pool(pool);
    let lack = |lack| {
        let mut reason = Reason::Pool {
            pool: pool.into(),
            class: known.map(|pool| pool.class),
            lack,
        };
        reason.name_owners(node, &mine);
        Err(vec![reason])
    };
    let Some(pool) = known else {
        return lack(Lack::Pool);
    };
    let more = to
        .round_up(pool.extent)
        .saturating_sub(from.round_up(pool.extent));
    let room = node.room(pool, &mine);
    match room.free.zip(pool.total) {
        _ if more == Bytes::ZERO => Ok(()),
        _ if pool.health == PoolHealth::Failed => lack(Lack::Health),
        None => lack(Lack::Capacity { needed: more }),
        Some((free, total)) if more > free => lack(Lack::Room {
            volumes: 1,
            needed: more,
            free,
            total,
            used: pool.used,
            extent: pool.extent,
            reserved: Reserved::default(),
        }),
        Some(_) => Ok(()),
    }
}

/// `node n1: <why>`, or, for several, equal reasons counted, as long as [`tell`] has it: `none of 3 nodes can hold the volumes: 2: <why>; 1: <why>`.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [(node, reasons)] = self.nodes.as_slice() {
            return write!(f, "node {node}: {}", Sentence::of(reasons));
        }
        if self.nodes.is_empty() {
            return f.write_str("there is no node to choose from");
        }
        let reasons: Vec<Refused<'_>> = self
            .nodes
            .iter()
            .map(|(_, why)| Refused::one(why))
            .collect();
        let mut counts: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for sentence in tell(&reasons) {
            *counts.entry(sentence).or_default() += 1;
        }
        write!(f, "none of {} nodes can hold the volumes", self.nodes.len())?;
        for (i, (sentence, count)) in counts.iter().enumerate() {
            write!(f, "{} {count}: {sentence}", if i == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}
