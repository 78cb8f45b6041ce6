//! Why not: one variant per cause, with the numbers, and one sentence per variant. Sentences never name the node that was
//! looked at: kube-scheduler counts equal sentences ("3 ...") instead of listing nodes.

use std::fmt;

use crate::cluster::{Name, PoolClass, StorageState};
use crate::units::Bytes;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The snapshot has no node of this name.
    UnknownNode,
    /// No storage at all, or not in service.
    Storage {
        state: StorageState,
    },
    /// The volume lives on other nodes.
    DataElsewhere {
        claim: Name,
        nodes: Vec<Name>,
    },
    /// The volume has places on paper only (its copies are not recorded yet or any more).
    NoCopies {
        claim: Name,
    },
    CopyBroken {
        claim: Name,
    },
    /// In use on another node that is alive.
    InUseElsewhere {
        claim: Name,
        node: Name,
    },
    /// A clone or restored snapshot starts where its source lies.
    SourceElsewhere {
        claim: Name,
        nodes: Vec<Name>,
    },
    NoPool {
        class: PoolClass,
        claims: Vec<Name>,
    },
    /// A pool of the node can't take the volumes.
    Pool {
        pool: Name,
        lack: Lack,
    },
    /// The node's limit over all its pools.
    NodeFull {
        volumes: u64,
        used: u64,
        limit: u64,
    },
    /// Each fits in a pool of the class by itself, but they can't be divided among the pools.
    NoPacking {
        class: PoolClass,
        volumes: usize,
    },
    /// Other nodes can't take the further copies.
    NoFurtherNodes {
        claims: Vec<Name>,
        copies: u8,
        able: usize,
        counts: Exclusions,
    },
    /// The pod's node selector or required node affinity does not select the node.
    NotSelected,
    Tainted {
        taint: String,
    },
    /// Gave up after a fixed number of steps; only contrived sets of many volumes get here.
    Undecided {
        volumes: usize,
    },
}

/// What a pool lacks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lack {
    /// The pool that a volume is in is not reported any more.
    Pool,
    /// It has failed.
    Health,
    /// How large it is is not known yet.
    Capacity,
    /// Larger than the pool allows one volume to be.
    VolumeSize {
        claim: Name,
        needed: Bytes,
        limit: Bytes,
    },
    /// `volumes` thick volumes need `needed` together, rounded up to extents; `free` has the reservations of others taken off.
    Room {
        volumes: usize,
        needed: Bytes,
        free: Bytes,
        total: Bytes,
        reserved: Bytes,
    },
    ThinPool,
    /// `limit` is what may be promised in all.
    ThinRoom {
        volumes: usize,
        needed: Bytes,
        free: Bytes,
        limit: Bytes,
    },
    /// The pool's limit of volumes.
    Slots {
        volumes: u64,
        used: u64,
        limit: u64,
    },
}

/// How many nodes with storage can't take a further copy, by the first cause that holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Exclusions {
    /// Nodes that have storage, in any state.
    pub nodes: usize,
    pub not_serving: usize,
    pub not_selected: usize,
    pub tainted: usize,
    pub no_pool: usize,
    pub no_room: usize,
}

impl Reason {
    /// Whether removing pods from the node could cure it: only room can be freed so (generic ephemeral volumes go with
    /// their pod), and no more than there is in all. What is elsewhere, missing or broken stays so.
    #[must_use]
    pub fn curable_by_preemption(&self) -> bool {
        match self {
            Self::NodeFull { volumes, limit, .. } => volumes <= limit,
            Self::NoPacking { .. } => true,
            Self::Pool { lack, .. } => match lack {
                Lack::Room { needed, total, .. } => needed <= total,
                Lack::ThinRoom { needed, limit, .. } => needed <= limit,
                Lack::Slots { volumes, limit, .. } => volumes <= limit,
                Lack::Pool
                | Lack::Health
                | Lack::Capacity
                | Lack::VolumeSize { .. }
                | Lack::ThinPool => false,
            },
            Self::UnknownNode
            | Self::Storage { .. }
            | Self::DataElsewhere { .. }
            | Self::NoCopies { .. }
            | Self::CopyBroken { .. }
            | Self::InUseElsewhere { .. }
            | Self::SourceElsewhere { .. }
            | Self::NoPool { .. }
            | Self::NoFurtherNodes { .. }
            | Self::NotSelected
            | Self::Tainted { .. }
            | Self::Undecided { .. } => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownNode => write!(f, "node is not known to the storage scheduler yet"),
            Self::Storage { state } => f.write_str(state.sentence()),
            Self::DataElsewhere { claim, nodes } => {
                write!(f, "claim {claim}: its data is on {}", Listed(nodes))
            }
            Self::NoCopies { claim } => {
                write!(f, "claim {claim}: its volume has no copy on any node")
            }
            Self::CopyBroken { claim } => write!(
                f,
                "claim {claim}: the copy here is not usable, see its LocalVolumeReplica"
            ),
            Self::InUseElsewhere { claim, node } => {
                write!(f, "claim {claim}: in use on node {node}")
            }
            Self::SourceElsewhere { claim, nodes } => {
                write!(f, "claim {claim}: its source is on {}", Listed(nodes))
            }
            Self::NoPool { class, claims } => write!(f, "no {class} pool for {}", Claims(claims)),
            Self::Pool { pool, lack } => write!(f, "pool {pool}: {lack}"),
            Self::NodeFull {
                volumes,
                used,
                limit,
            } => {
                write!(
                    f,
                    "{volumes} more would exceed the node's {limit} volumes ({used} in use)"
                )
            }
            Self::NoPacking { class, volumes } => {
                write!(
                    f,
                    "{volumes} volumes do not fit together in the {class} pools, though each fits alone"
                )
            }
            Self::NoFurtherNodes {
                claims,
                copies,
                able,
                counts,
            } => {
                write!(
                    f,
                    "{}: {copies} copies on different nodes wanted, {able} of {} nodes with storage",
                    Claims(claims),
                    counts.nodes
                )?;
                write!(f, " can take one{counts}")
            }
            Self::NotSelected => write!(
                f,
                "the pod's node selector or affinity does not select the node"
            ),
            Self::Tainted { taint } => write!(f, "the pod does not tolerate taint {taint}"),
            Self::Undecided { volumes } => write!(
                f,
                "{volumes} volumes are too many to place together, use fewer or larger ones"
            ),
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool => f.write_str("is not there any more"),
            Self::Health => f.write_str("has failed, see its disks in LocalStorageNode"),
            Self::Capacity => f.write_str("its capacity is not known yet"),
            Self::VolumeSize {
                claim,
                needed,
                limit,
            } => {
                write!(
                    f,
                    "claim {claim} needs {needed}, one volume may have {limit}"
                )
            }
            Self::Room {
                volumes,
                needed,
                free,
                total,
                reserved,
            } => {
                write!(f, "{}, {free} free of {total}", Need(*volumes, *needed))?;
                if *reserved > Bytes::ZERO {
                    write!(f, " (reserved by other pods: {reserved})")?;
                }
                Ok(())
            }
            Self::ThinPool => f.write_str("has no thin pool, make one with a ThinPoolClaim"),
            Self::ThinRoom {
                volumes,
                needed,
                free,
                limit,
            } => {
                let need = Need(*volumes, *needed);
                write!(f, "thin: {need}, {free} may still be promised of {limit}")
            }
            Self::Slots {
                volumes,
                used,
                limit,
            } => {
                write!(
                    f,
                    "{volumes} more would exceed its {limit} volumes ({used} in use)"
                )
            }
        }
    }
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

/// All reasons of one node, joined.
pub struct Sentence<'a>(pub &'a [Reason]);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, reason) in self.0.iter().enumerate() {
            write!(f, "{}{reason}", if i > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

/// `1 volume needs 4.0 GiB`, `2 volumes need 8.0 GiB together`.
struct Need(usize, Bytes);

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(1, needed) => write!(f, "1 volume needs {needed}"),
            Self(volumes, needed) => write!(f, "{volumes} volumes need {needed} together"),
        }
    }
}

struct Listed<'a>(&'a [Name]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.0.len() == 1 { "node" } else { "nodes" };
        write!(f, "{word} {}", self.0.join(", "))
    }
}

struct Claims<'a>(&'a [Name]);

impl fmt::Display for Claims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.0.len() == 1 { "claim" } else { "claims" };
        write!(f, "{word} {}", self.0.join(", "))
    }
}
