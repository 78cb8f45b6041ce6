//! What filtering came to: which of the nodes are left, and why the others are not. In a form that takes little, because it is kept
//! for who asks later (`record`): nodes by their number, sentences and reasons once for all nodes that share them.

use std::sync::Arc;

use hawser_placement::{Cluster, NodeId, Reason, Roster, Score};

/// So many names that are not known are kept.
pub const NAMED_UNKNOWN: usize = 50;

const PASSES: u32 = u32::MAX;

/// The nodes that were asked about, each by its place in the request.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    roster: Roster,
    ids: Vec<Option<NodeId>>,
    /// Place and name of those that the snapshot does not know, the first [`NAMED_UNKNOWN`] of them.
    unknown: Vec<(usize, Box<str>)>,
}

impl Nodes {
    /// Looks the names up.
    #[must_use]
    pub fn find<N: AsRef<str>>(cluster: &Cluster, names: &[N]) -> Self {
        let mut unknown: Vec<(usize, Box<str>)> = Vec::new();
        let find = |(at, name): (usize, &N)| {
            let name = name.as_ref();
            let id = cluster.id(name);
            if id.is_none() && unknown.len() < NAMED_UNKNOWN {
                unknown.push((at, name.into()));
            }
            id
        };
        Self {
            ids: names.iter().enumerate().map(find).collect(),
            roster: cluster.roster().clone(),
            unknown,
        }
    }

    #[must_use]
    pub fn ids(&self) -> &[Option<NodeId>] {
        &self.ids
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// `None`: one of many that are not known, so its name was not kept.
    #[must_use]
    pub fn name(&self, at: usize) -> Option<&str> {
        if let Some(id) = self.ids.get(at).copied().flatten() {
            return self.roster.name(id).map(|name| &**name);
        }
        let known = self.unknown.binary_search_by_key(&at, |(at, _)| *at);
        known.ok().map(|known| &*self.unknown[known].1)
    }

    /// About how many bytes it takes. The names, which all decisions since the last change of nodes share, are counted in full.
    pub(crate) fn size(&self) -> usize {
        let unknown = self.unknown.iter().map(|(_, name)| name.len() + 32);
        self.ids.len() * size_of::<Option<NodeId>>()
            + self.roster.len() * size_of::<hawser_placement::Name>()
            + unknown.sum::<usize>()
    }
}

/// Which of the nodes are left, and why the others are not.
#[derive(Clone, Debug, Default)]
pub struct Filtered {
    /// For each name that was asked about, in that order: its refusal, or [`PASSES`].
    of: Vec<u32>,
    refusals: Vec<Refusal>,
    /// Of those that pass, in that order, if they were looked at.
    scores: Vec<Score>,
    /// Empty if no node was looked at.
    nodes: Nodes,
    /// Not empty: nothing can be said.
    pub error: String,
}

/// Why one node, or several that lack the same, are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the scheduler is told.
    pub sentence: Arc<str>,
    /// Whether evicting pods could help.
    pub curable: bool,
    /// Of each of the nodes; but see `nearest`.
    pub reasons: Vec<Reason>,
    /// The nodes lack the same, but not as much of it: the reasons are those of the node at this place, which lacks least.
    pub nearest: Option<usize>,
}

/// One node's part of the answer.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'a> {
    /// With its score, if it was looked at.
    Passes(Option<Score>),
    Refused(&'a Refusal),
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

    /// No node needs to be looked at: all pass, or all are refused.
    pub(super) fn all(names: usize, refusal: Option<Refusal>) -> Self {
        Self {
            of: vec![if refusal.is_some() { 0 } else { PASSES }; names],
            refusals: refusal.into_iter().collect(),
            ..Self::default()
        }
    }

    /// These nodes were looked at, and all that are not refused later have these scores.
    pub(super) fn judged(nodes: Nodes, scores: Vec<Score>) -> Self {
        Self {
            of: vec![PASSES; nodes.len()],
            scores,
            nodes,
            ..Self::default()
        }
    }

    /// As places in [`Self::refusals`], for each name that was asked about, in that order; the greatest number where the node passes.
    #[must_use]
    pub fn places(&self) -> &[u32] {
        &self.of
    }

    #[must_use]
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    /// For each name that was asked about, in that order.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict<'_>> {
        let mut scores = self.scores.iter().copied();
        self.of
            .iter()
            .map(move |at| match self.refusals.get(*at as usize) {
                Some(refusal) => Verdict::Refused(refusal),
                None => Verdict::Passes(scores.next()),
            })
    }

    #[must_use]
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
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

    /// Refuses the nodes at these places.
    pub(super) fn refuse(&mut self, nodes: &[usize], refusal: Refusal) {
        let place = u32::try_from(self.refusals.len()).unwrap_or(0);
        self.refusals.push(refusal);
        for at in nodes {
            self.of[*at] = place;
        }
    }

    /// About how many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        /// A reason with what hangs on it: names are shared, owners and copies are few.
        const REASON: usize = size_of::<Reason>() + 64;
        let refusal = |refusal: &Refusal| {
            size_of::<Refusal>() + refusal.sentence.len() + refusal.reasons.len() * REASON
        };
        self.of.len() * size_of::<u32>()
            + self.scores.capacity() * size_of::<Score>()
            + self.refusals.iter().map(refusal).sum::<usize>()
            + self.nodes.size()
    }
}
