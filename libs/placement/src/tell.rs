//! What is said of many nodes at once, short enough to be read and kept.
//!
//! kube-scheduler counts equal sentences and joins them all: "0/5000 nodes are available: 1 hdd pool: .., 1 hdd pool: ..". The
//! event is cut at 1,024 characters, in the order of the text, so of thousands of sentences some ten arbitrary ones remain;
//! the pod's condition `PodScheduled` is not cut, so the whole would be written to the API server with every attempt. (1.37:
//! `framework.FitError.Error`, `schedule_one.go` `handleSchedulingFailure`.)
//!
//! So all that is said of one pod fits into [`SPOKEN`] characters, the scheduler's counts included. The first of these that does:
//! 1. exact: for each node its own numbers, equal sentences being one;
//! 2. nearest miss: nodes with the same cause share a sentence, with the numbers of the node that lacks least ("at best");
//! 3. first cause: as 2, of several causes of a node only the first;
//! 4. of those, the ones that hold for the most nodes; of the rest only that there are more.
//!
//! Everything, node by node, is in the reasons themselves.

use std::fmt::Write as _;
use std::mem::discriminant;
use std::sync::Arc;

use crate::reason::{Lack, Reason};
use crate::sentence::Sentence;

/// Characters for all sentences about one pod together. The event has 1,024, of which the scheduler's own plugins, its first
/// words and what it says of preemption need their share.
pub const SPOKEN: usize = 600;

/// What the scheduler adds to each: a count and a separator.
const PER_SENTENCE: usize = "5000 , ".len();

/// More different ones than that don't fit, so looking for more of them is in vain.
const MOST: usize = 24;

const REST: &str = "other storage reasons (GET /why tells them)";

/// A node that was refused, or several that lack the same.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// Of several nodes, those of the one that lacks least.
    pub reasons: &'a [Reason],
    pub nodes: usize,
}

impl<'a> Refused<'a> {
    /// One node.
    #[must_use]
    pub fn one(reasons: &'a [Reason]) -> Self {
        Self { reasons, nodes: 1 }
    }
}

/// For each what to say. Equal for equal sets of reasons, in whatever order they come.
#[must_use]
pub fn tell(refused: &[Refused<'_>]) -> Vec<Arc<str>> {
    let attempts = [Detail::Exact, Detail::NearestMiss, Detail::FirstCause];
    let short_enough = |detail| group(refused, detail).and_then(|groups| groups.spoken(detail));
    attempts
        .into_iter()
        .find_map(short_enough)
        .unwrap_or_else(|| most_frequent(refused))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Exact,
    NearestMiss,
    FirstCause,
}

/// Nodes about which the same is said.
struct Group<'a> {
    /// The reasons of the node that lacks least.
    nearest: &'a [Reason],
    /// Another node's are different, or may be.
    varied: bool,
    /// .. and in more than numbers.
    mixed: bool,
    nodes: usize,
}

struct Groups<'a> {
    groups: Vec<Group<'a>>,
    /// For each that was refused its group.
    of: Vec<usize>,
}

/// `None`: too many groups to be said.
fn group<'a>(refused: &[Refused<'a>], detail: Detail) -> Option<Groups<'a>> {
    let most = match detail {
        Detail::Exact | Detail::NearestMiss => MOST,
        Detail::FirstCause => usize::MAX,
    };
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut of = Vec::with_capacity(refused.len());
    for &Refused { reasons, nodes } in refused {
        let known = groups
            .iter()
            .position(|group| same(group.nearest, reasons, detail));
        let Some(at) = known else {
            if groups.len() == most {
                return None;
            }
            of.push(groups.len());
            groups.push(Group {
                nearest: reasons,
                varied: nodes > 1,
                mixed: false,
                nodes,
            });
            continue;
        };
        of.push(at);
        let group = &mut groups[at];
        group.nodes += nodes;
        group.varied |= nodes > 1;
        if group.nearest != reasons {
            group.varied = true;
            group.mixed |= !same(first(group.nearest), first(reasons), Detail::NearestMiss);
            if key(reasons) < key(group.nearest) {
                group.nearest = reasons;
            }
        }
    }
    Some(Groups { groups, of })
}

/// The least is the nearest miss.
fn key(reasons: &[Reason]) -> (u128, &[Reason]) {
    let missing = reasons.iter().map(|reason| u128::from(reason.missing()));
    (missing.sum(), reasons)
}

fn same(a: &[Reason], b: &[Reason], detail: Detail) -> bool {
    match detail {
        Detail::Exact => a == b,
        Detail::NearestMiss => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_like(b)),
        Detail::FirstCause => match (a.first(), b.first()) {
            (Some(a), Some(b)) => a.is_of_the_kind_of(b),
            (a, b) => a.is_none() && b.is_none(),
        },
    }
}

impl Groups<'_> {
    fn sentences(&self, detail: Detail) -> Vec<Arc<str>> {
        let text = |group: &Group<'_>| -> Arc<str> {
            let mut text = String::new();
            // Writing to a String does not fail.
            let _ = match (detail, group.varied) {
                (Detail::Exact | Detail::NearestMiss, false) => {
                    write!(text, "{}", Sentence::of(group.nearest))
                }
                (Detail::Exact | Detail::NearestMiss, true) => {
                    write!(text, "{}", Sentence::at_best(group.nearest))
                }
                (Detail::FirstCause, _) => {
                    let others = if group.mixed { " or similar" } else { "" };
                    write!(text, "{}{others}", Sentence::at_best(first(group.nearest)))
                }
            };
            text.into()
        };
        self.groups.iter().map(text).collect()
    }

    fn spoken(&self, detail: Detail) -> Option<Vec<Arc<str>>> {
        let sentences = self.sentences(detail);
        let long = sentences.iter().map(|text| text.len() + PER_SENTENCE);
        let fits = sentences.len() <= 1 || long.sum::<usize>() <= SPOKEN;
        fits.then(|| self.of.iter().map(|&at| sentences[at].clone()).collect())
    }
}

fn first(reasons: &[Reason]) -> &[Reason] {
    reasons.get(..1).unwrap_or_default()
}

fn most_frequent(refused: &[Refused<'_>]) -> Vec<Arc<str>> {
    let rest: Arc<str> = REST.into();
    let Some(groups) = group(refused, Detail::FirstCause) else {
        return vec![rest; refused.len()];
    };
    let mut sentences = groups.sentences(Detail::FirstCause);
    let mut order: Vec<usize> = (0..sentences.len()).collect();
    order.sort_by(|&a, &b| {
        let nodes = |at: usize| groups.groups[at].nodes;
        (nodes(b), &sentences[a]).cmp(&(nodes(a), &sentences[b]))
    });
    let mut left = SPOKEN.saturating_sub(REST.len() + PER_SENTENCE);
    for (rank, &at) in order.iter().enumerate() {
        let long = sentences[at].len() + PER_SENTENCE;
        if rank == 0 || long <= left {
            left = left.saturating_sub(long);
        } else {
            sentences[at] = rest.clone();
        }
    }
    groups.of.iter().map(|&at| sentences[at].clone()).collect()
}

impl Reason {
    /// Whether the other is the same but for numbers that differ from node to node.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Pool { class, lack, .. },
                Self::Pool {
                    class: other_class,
                    lack: other_lack,
                    ..
                },
            ) => class == other_class && lack.is_like(other_lack),
            (Self::NodeFull { volumes, .. }, Self::NodeFull { volumes: other, .. }) => {
                volumes == other
            }
            (
                Self::NoPacking { class, volumes, .. },
                Self::NoPacking {
                    class: other_class,
                    volumes: other,
                    ..
                },
            ) => (class, volumes) == (other_class, other),
            (
                Self::NoFurtherNodes { claims, copies, .. },
                Self::NoFurtherNodes {
                    claims: other_claims,
                    copies: other,
                    ..
                },
            ) => (claims, copies) == (other_claims, other),
            _ => self == other,
        }
    }

    fn is_of_the_kind_of(&self, other: &Self) -> bool {
        let lack = |reason: &Self| {
            if let Self::Pool { class, lack, .. } = reason {
                Some((*class, discriminant(lack)))
            } else {
                None
            }
        };
        discriminant(self) == discriminant(other) && lack(self) == lack(other)
    }

    /// How much is missing, in bytes or volumes; 0 where that is no question of more or less. Only to be compared among nodes that
    /// lack the same.
    #[must_use]
    pub fn missing(&self) -> u64 {
        if let Self::Pool { lack, .. } = self {
            return lack.missing();
        }
        let Self::NodeFull {
            volumes,
            used,
            limit,
            reserved,
        } = self
        else {
            return 0;
        };
        let free = limit.saturating_sub(used.saturating_add(reserved.volumes));
        volumes.saturating_sub(free)
    }
}

impl Lack {
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::VolumeSize { claim, .. }, Self::VolumeSize { claim: other, .. }) => {
                claim == other
            }
            (Self::Room { volumes, .. }, Self::Room { volumes: other, .. })
            | (Self::ThinRoom { volumes, .. }, Self::ThinRoom { volumes: other, .. }) => {
                volumes == other
            }
            (Self::Slots { volumes, .. }, Self::Slots { volumes: other, .. }) => volumes == other,
            _ => discriminant(self) == discriminant(other),
        }
    }

    fn missing(&self) -> u64 {
        match self {
            Self::Room { needed, free, .. } | Self::ThinRoom { needed, free, .. } => {
                needed.saturating_sub(*free).0
            }
            Self::VolumeSize { needed, limit, .. } => needed.saturating_sub(*limit).0,
            Self::Slots { volumes, free, .. } => volumes.saturating_sub(*free),
            Self::Pool | Self::Health | Self::Capacity { .. } | Self::ThinPool { .. } => 0,
        }
    }
}
