//! One sentence per reason, for people: `hdd pool: 3 of 5 GiB free, 2 reserved for default/db-1, needs 4`.
//!
//! Sentences never name the node that was looked at, and are equal for equal causes: kube-scheduler counts equal sentences
//! ("3 hdd pool: ...") instead of listing nodes. They hold no percent sign of ours: the scheduler uses them as a format.

use std::fmt;

use crate::amounts::{Amount, Scale};
use crate::cluster::Name;
use crate::node::{PoolClass, StorageState};
use crate::reason::{Exclusions, Lack, PoolLeft, Reason, Reserved};
use crate::request::{Replica, ReplicaState};
use crate::units::Bytes;

/// So many names are listed; the rest is counted.
const LISTED: usize = 3;

/// All reasons of one node, joined.
#[derive(Clone, Copy, Debug)]
pub struct Sentence<'a> {
    reasons: &'a [Reason],
    /// Comes before the numbers that differ from node to node.
    best: &'static str,
}

impl<'a> Sentence<'a> {
    /// Of one node.
    #[must_use]
    pub fn of(reasons: &'a [Reason]) -> Self {
        Self { reasons, best: "" }
    }

    /// Of several nodes that lack the same. These are the reasons of the one that lacks least, so each number that differs from
    /// node to node is said to be the best.
    #[must_use]
    pub fn at_best(reasons: &'a [Reason]) -> Self {
        let best = "at best ";
        Self { reasons, best }
    }
}

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, reason) in self.reasons.iter().enumerate() {
            f.write_str(if i > 0 { "; " } else { "" })?;
            reason.say(f, self.best)?;
        }
        Ok(())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.say(f, "")
    }
}

impl Reason {
    /// `best` comes before the numbers that differ from node to node.
    fn say(&self, f: &mut fmt::Formatter<'_>, best: &str) -> fmt::Result {
        match self {
            Self::UnknownNode => f.write_str("node is not known to the storage scheduler yet"),
            Self::Storage { state } => f.write_str(state.sentence()),
            Self::DataElsewhere { claim, copies } => {
                write!(f, "claim {claim}: its data is on {}", Copies(copies))
            }
            Self::NoCopies { claim } => {
                write!(f, "claim {claim}: its volume has no copy on any node")
            }
            Self::CopyBroken { claim, copies } => {
                write!(f, "claim {claim}: the copy here is not usable")?;
                let usable = |copy: &&Replica| copy.state > ReplicaState::Broken;
                let usable: Vec<Replica> = copies.iter().filter(usable).cloned().collect();
                if !usable.is_empty() {
                    write!(f, " (usable on {})", Copies(&usable))?;
                }
                f.write_str(", see its LocalVolumeReplica")
            }
            Self::InUseElsewhere { claim, node, .. } => {
                write!(f, "claim {claim}: in use on node {node}")
            }
            Self::SourceElsewhere { claim, nodes } => {
                write!(f, "claim {claim}: its source is on {}", Nodes(nodes))
            }
            Self::NoPool { class, claims, .. } => {
                write!(f, "no {} pool for {}", class.in_words(), Claims(claims))
            }
            Self::Pool { pool, class, lack } => {
                write!(f, "{}: ", Label(pool, *class))?;
                lack.say(f, best)
            }
            Self::NodeFull {
                volumes,
                used,
                limit,
                reserved,
            } => {
                let free = limit.saturating_sub(used.saturating_add(reserved.volumes));
                write!(f, "node: {best}")?;
                slots(f, free, *limit, reserved, *volumes)
            }
            Self::NoPacking {
                class,
                volumes,
                needed,
                pools,
            } => no_packing(f, best, *class, (*volumes, *needed), pools),
            Self::NoFurtherNodes {
                claims,
                copies,
                able,
                counts,
            } => {
                write!(
                    f,
                    "{}: {copies} copies on different nodes wanted, {able} of {} nodes with storage can take one{counts}",
                    Claims(claims),
                    counts.nodes
                )
            }
            Self::NotSelected => {
                f.write_str("the pod's node selector or affinity does not select the node")
            }
            Self::Tainted { taint } => write!(f, "the pod does not tolerate taint {taint}"),
            Self::Undecided { volumes } => write!(
                f,
                "{volumes} volumes are too many to place together, use fewer or larger ones"
            ),
        }
    }
}

impl Lack {
    fn say(&self, f: &mut fmt::Formatter<'_>, best: &str) -> fmt::Result {
        match self {
            Self::Pool => f.write_str("is not there any more"),
            Self::Health => f.write_str("has failed, see its disks in LocalStorageNode"),
            Self::Capacity { .. } => f.write_str("its capacity is not known yet"),
            Self::VolumeSize {
                claim,
                needed,
                limit,
            } => {
                let scale = Scale::of(&[*needed, *limit]);
                let (needed, limit) = (scale.up(*needed), scale.down(*limit).with_unit());
                write!(
                    f,
                    "claim {claim} needs {needed}, one volume may have {best}{limit}"
                )
            }
            Self::Room {
                volumes,
                needed,
                free,
                total,
                reserved,
                ..
            } => {
                f.write_str(best)?;
                let numbers = Numbers::new(*free, *total, reserved, *needed);
                write!(f, "{} of {} free", numbers.free, numbers.of)?;
                numbers.rest(f, reserved, *volumes)
            }
            Self::ThinPool { .. } => f.write_str("has no thin pool, make one with a ThinPoolClaim"),
            Self::ThinRoom {
                volumes,
                needed,
                free,
                limit,
                reserved,
                ..
            } => {
                write!(f, "thin: {best}")?;
                let numbers = Numbers::new(*free, *limit, reserved, *needed);
                write!(f, "{} of {} left to promise", numbers.free, numbers.of)?;
                numbers.rest(f, reserved, *volumes)
            }
            Self::Slots {
                volumes,
                free,
                limit,
                reserved,
                ..
            } => {
                f.write_str(best)?;
                slots(f, *free, *limit, reserved, *volumes)
            }
        }
    }
}

/// The sizes of one pool, in one unit if that is readable.
struct Numbers {
    free: Amount,
    of: Amount,
    reserved: Amount,
    needed: Amount,
}

impl Numbers {
    fn new(free: Bytes, of: Bytes, reserved: &Reserved, needed: Bytes) -> Self {
        let scale = Scale::of(&[free, of, reserved.size, needed]);
        Self {
            free: scale.down(free),
            of: scale.down(of).with_unit(),
            reserved: scale.down(reserved.size),
            needed: scale.up(needed),
        }
    }

    fn rest(&self, f: &mut fmt::Formatter<'_>, reserved: &Reserved, volumes: usize) -> fmt::Result {
        if reserved.size > Bytes::ZERO {
            write!(f, ", {} reserved for {}", self.reserved, Owners(reserved))?;
        }
        if volumes == 1 {
            write!(f, ", needs {}", self.needed)
        } else {
            write!(f, ", {volumes} volumes need {} together", self.needed)
        }
    }
}

/// `1 of 1000 volumes free, 2 reserved for default/db-1, needs 3`.
fn slots(
    f: &mut fmt::Formatter<'_>,
    free: u64,
    limit: u64,
    reserved: &Reserved,
    volumes: u64,
) -> fmt::Result {
    write!(f, "{free} of {limit} volumes free")?;
    if reserved.volumes > 0 {
        write!(
            f,
            ", {} reserved for {}",
            reserved.volumes,
            Owners(reserved)
        )?;
    }
    write!(f, ", needs {volumes}")
}

fn no_packing(
    f: &mut fmt::Formatter<'_>,
    best: &str,
    class: PoolClass,
    (volumes, needed): (usize, Bytes),
    pools: &[PoolLeft],
) -> fmt::Result {
    let left = |pool: &PoolLeft| pool.free.max(pool.thin_free).unwrap_or_default();
    let mut sizes: Vec<Bytes> = pools.iter().map(left).collect();
    sizes.sort_by(|a, b| b.cmp(a));
    sizes.truncate(LISTED);
    let scale = Scale::of(&[&sizes[..], &[needed]].concat());
    write!(f, "{} pools: {best}", class.in_words())?;
    for (i, size) in sizes.iter().enumerate() {
        let amount = scale.down(*size);
        let last = i + 1 == sizes.len();
        f.write_str(if i == 0 { "" } else { " + " })?;
        if last {
            write!(f, "{}", amount.with_unit())?;
        } else {
            write!(f, "{amount}")?;
        }
    }
    if pools.len() > LISTED {
        write!(f, " + {} more", pools.len() - LISTED)?;
    }
    let needed = scale.up(needed);
    write!(
        f,
        " free, {volumes} volumes need {needed}: each fits alone, together they do not"
    )
}

/// Why a node has no further copy to offer, as ` (2 lack room, 1 tainted)`; empty if nothing was excluded.
impl fmt::Display for Exclusions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let causes = [
            (self.not_serving, "not serving"),
            (
                self.not_selected,
                "not selected by the pod's node selector or affinity",
            ),
            (self.tainted, "tainted"),
            (self.no_pool, "without such a pool"),
            (self.no_room, "without room"),
        ];
        let mut open = " (";
        for (count, cause) in causes.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{open}{count} {cause}")?;
            open = ", ";
        }
        if open == ", " {
            f.write_str(")")
        } else {
            Ok(())
        }
    }
}

impl StorageState {
    fn sentence(self) -> &'static str {
        match self {
            Self::Absent => "node has no storage (no LocalStorageNode)",
            Self::Ready => "storage is ready",
            Self::Maintain => {
                "storage of the node is in maintenance (LocalStorageNode state Maintain)"
            }
            Self::Offline => "storage daemon of the node is offline",
            Self::NodeMissing => "node does not exist any more",
        }
    }
}

/// `hdd pool`, or `hdd pool NAME` for one that somebody made by hand.
struct Label<'a>(&'a str, Option<PoolClass>);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(pool, class) = self;
        match class {
            None => write!(f, "pool {pool}"),
            Some(class) if pool.strip_prefix("LocalStorage_Pool") == Some(class.as_str()) => {
                write!(f, "{} pool", class.in_words())
            }
            Some(class) => write!(f, "{} pool {pool}", class.in_words()),
        }
    }
}

/// `default/db-1`, `default/db-1 and default/db-2`, `default/db-1, default/db-2 and 7 others`.
struct Owners<'a>(&'a Reserved);

impl fmt::Display for Owners<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = self.0.owners.len() + self.0.others;
        match self.0.owners.as_slice() {
            [] => f.write_str("other pods"),
            [a] => f.write_str(&a.owner),
            [a, b] => write!(f, "{} and {}", a.owner, b.owner),
            [a, b, ..] => write!(f, "{}, {} and {} others", a.owner, b.owner, others - 2),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, word: &str, names: &[impl fmt::Display]) -> fmt::Result {
    write!(f, "{word}{} ", if names.len() == 1 { "" } else { "s" })?;
    for (i, name) in names.iter().take(LISTED).enumerate() {
        write!(f, "{}{name}", if i > 0 { ", " } else { "" })?;
    }
    if names.len() > LISTED {
        write!(f, " and {} more", names.len() - LISTED)?;
    }
    Ok(())
}

struct Nodes<'a>(&'a [Name]);

impl fmt::Display for Nodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, "node", self.0)
    }
}

struct Copies<'a>(&'a [Replica]);

impl fmt::Display for Copies<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, "node", self.0)
    }
}

/// `n1`, `n1 (syncing)`.
impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.node)?;
        f.write_str(match self.state {
            ReplicaState::UpToDate => "",
            ReplicaState::Syncing => " (syncing)",
            ReplicaState::Broken => " (not usable)",
        })
    }
}

struct Claims<'a>(&'a [Name]);

impl fmt::Display for Claims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, "claim", self.0)
    }
}
