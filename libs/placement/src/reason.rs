//! Why not: one variant per cause, with the numbers. As JSON it is an object whose `reason` is a code (one per cause, never
//! reused for another), sizes are bytes, and fields only ever get more; docs/why.md lists them. As a sentence: see `sentence`.
//!
//! Which reservations stand in the way is looked up only once something is refused ([`Reason::name_owners`]): most nodes are
//! not, and then nobody asks.

use serde::Serialize;

use crate::cluster::Name;
use crate::json;
use crate::node::{Node, PoolClass, Reservation, StorageState};
use crate::request::Replica;
use crate::units::Bytes;

/// So many owners of reservations are named, those of the largest shares; the rest is counted.
pub const NAMED_OWNERS: usize = 3;

/// Ordered so that among equally good examples of one cause the same one is always shown; the order means nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "reason", rename_all_fields = "camelCase")]
pub enum Reason {
    /// The snapshot has no node of this name.
    UnknownNode,
    /// No storage at all, or not in service.
    #[serde(rename = "StorageNotServing")]
    Storage { state: StorageState },
    /// The volume lives on other nodes.
    DataElsewhere {
        #[serde(serialize_with = "json::name")]
        claim: Name,
        /// All of the volume, by node.
        copies: Vec<Replica>,
    },
    /// The volume has places on paper only (its copies are not recorded yet or any more).
    #[serde(rename = "NoReplica")]
    NoCopies {
        #[serde(serialize_with = "json::name")]
        claim: Name,
    },
    /// The copy on the node can't be used.
    #[serde(rename = "ReplicaUnusable")]
    CopyBroken {
        #[serde(serialize_with = "json::name")]
        claim: Name,
        /// All of the volume, the one on the node included, by node.
        copies: Vec<Replica>,
    },
    /// In use on another node that is alive.
    InUseElsewhere {
        #[serde(serialize_with = "json::name")]
        claim: Name,
        #[serde(serialize_with = "json::name")]
        node: Name,
        /// All of the volume, by node.
        copies: Vec<Replica>,
    },
    /// A clone or restored snapshot starts where its source lies.
    SourceElsewhere {
        #[serde(serialize_with = "json::name")]
        claim: Name,
        #[serde(serialize_with = "json::names")]
        nodes: Vec<Name>,
    },
    NoPool {
        class: PoolClass,
        #[serde(serialize_with = "json::names")]
        claims: Vec<Name>,
        /// As asked, all together.
        #[serde(rename = "neededBytes")]
        needed: Bytes,
    },
    /// The node's limit over all its pools.
    #[serde(rename = "NodeVolumeLimit")]
    NodeFull {
        /// How many are wanted.
        volumes: u64,
        /// Made or assigned.
        used: u64,
        limit: u64,
        reserved: Reserved,
    },
    /// Each fits in a pool of the class by itself, but they can't be divided among the pools.
    #[serde(rename = "VolumesDoNotPack")]
    NoPacking {
        class: PoolClass,
        volumes: usize,
        /// All together, each rounded up to extents.
        #[serde(rename = "neededBytes")]
        needed: Bytes,
        pools: Vec<PoolLeft>,
    },
    /// Other nodes can't take the further copies.
    #[serde(rename = "NoNodesForCopies")]
    NoFurtherNodes {
        #[serde(serialize_with = "json::names")]
        claims: Vec<Name>,
        copies: u8,
        able: usize,
        #[serde(rename = "excluded")]
        counts: Exclusions,
    },
    /// The pod's node selector or required node affinity does not select the node.
    NotSelected,
    #[serde(rename = "TaintNotTolerated")]
    Tainted { taint: String },
    /// Gave up after a fixed number of steps; only contrived sets of many volumes get here.
    #[serde(rename = "TooManyVolumes")]
    Undecided { volumes: usize },
    /// A pool of the node can't take the volumes. The code is the lack's.
    #[serde(untagged)]
    Pool {
        #[serde(serialize_with = "json::name")]
        pool: Name,
        /// `None`: the pool is not there, so nobody knows.
        class: Option<PoolClass>,
        #[serde(flatten)]
        lack: Lack,
    },
}

/// What a pool lacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "reason", rename_all_fields = "camelCase")]
pub enum Lack {
    /// The pool that a volume is in is not reported any more.
    #[serde(rename = "PoolGone")]
    Pool,
    /// It has failed.
    #[serde(rename = "PoolFailed")]
    Health,
    /// How large it is is not known yet.
    #[serde(rename = "PoolCapacityUnknown")]
    Capacity {
        #[serde(rename = "neededBytes")]
        needed: Bytes,
    },
    /// Larger than the pool allows one volume to be.
    #[serde(rename = "VolumeTooLarge")]
    VolumeSize {
        #[serde(serialize_with = "json::name")]
        claim: Name,
        #[serde(rename = "neededBytes")]
        needed: Bytes,
        #[serde(rename = "limitBytes")]
        limit: Bytes,
    },
    /// `volumes` thick volumes need `needed` together, rounded up to extents; `free` is what `used` and the reservations of
    /// others leave of `total`, in whole extents.
    #[serde(rename = "PoolRoom")]
    Room {
        volumes: usize,
        #[serde(rename = "neededBytes")]
        needed: Bytes,
        #[serde(rename = "freeBytes")]
        free: Bytes,
        #[serde(rename = "totalBytes")]
        total: Bytes,
        #[serde(rename = "usedBytes")]
        used: Bytes,
        #[serde(rename = "extentBytes")]
        extent: Bytes,
        reserved: Reserved,
    },
    #[serde(rename = "NoThinPool")]
    ThinPool {
        #[serde(rename = "neededBytes")]
        needed: Bytes,
    },
    /// As `Room`, of what a thin pool may promise: `limit` in all, `promised` already.
    #[serde(rename = "ThinPoolRoom")]
    ThinRoom {
        volumes: usize,
        #[serde(rename = "neededBytes")]
        needed: Bytes,
        #[serde(rename = "freeBytes")]
        free: Bytes,
        #[serde(rename = "limitBytes")]
        limit: Bytes,
        #[serde(rename = "promisedBytes")]
        promised: Bytes,
        #[serde(rename = "extentBytes")]
        extent: Bytes,
        reserved: Reserved,
    },
    /// The pool's limit of volumes.
    #[serde(rename = "PoolVolumeLimit")]
    Slots {
        /// How many are wanted.
        volumes: u64,
        free: u64,
        /// Made or assigned.
        used: u64,
        limit: u64,
        reserved: Reserved,
    },
}

/// Room promised to others than who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Reserved {
    /// In whole extents.
    #[serde(rename = "bytes")]
    pub size: Bytes,
    pub volumes: u64,
    /// Whose, the largest first, at most [`NAMED_OWNERS`].
    #[serde(rename = "for")]
    pub owners: Vec<Share>,
    /// How many more owners there are.
    pub others: usize,
}

/// What is reserved for one owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Share {
    /// `namespace/pod`; several pods that share the claims are separated by commas.
    #[serde(rename = "pod", serialize_with = "json::name")]
    pub owner: Name,
    #[serde(rename = "bytes")]
    pub size: Bytes,
    pub volumes: u64,
}

/// What is left of one pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PoolLeft {
    #[serde(serialize_with = "json::name")]
    pub pool: Name,
    /// `None`: not known.
    #[serde(rename = "freeBytes")]
    pub free: Option<Bytes>,
    /// `None`: it has no thin pool.
    #[serde(rename = "thinFreeBytes")]
    pub thin_free: Option<Bytes>,
}

/// How many nodes with storage can't take a further copy, by the first cause that holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
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
                | Lack::Capacity { .. }
                | Lack::VolumeSize { .. }
                | Lack::ThinPool { .. } => false,
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

    /// Fills in for whom room of the node is reserved, where that is a part of the reason. `mine`: reservations of who asks,
    /// which do not stand in its way.
    pub fn name_owners(&mut self, node: &Node, mine: impl Fn(&Reservation) -> bool) {
        let of = |held: &&Reservation| !mine(held);
        match self {
            Self::NodeFull { reserved, .. } => {
                *reserved = Reserved::sum(node, node.reservations.iter().filter(of));
            }
            Self::Pool { pool, lack, .. } => {
                let (reserved, kinds) = match lack {
                    Lack::Room { reserved, .. } => (reserved, &[false][..]),
                    Lack::ThinRoom { reserved, .. } => (reserved, &[true][..]),
                    Lack::Slots { reserved, .. } => (reserved, &[false, true][..]),
                    Lack::Pool
                    | Lack::Health
                    | Lack::Capacity { .. }
                    | Lack::VolumeSize { .. }
                    | Lack::ThinPool { .. } => return,
                };
                let here = |held: &&Reservation| held.pool == *pool && kinds.contains(&held.thin);
                let held = node.reservations.iter().filter(here).filter(of);
                *reserved = Reserved::sum(node, held);
            }
            Self::UnknownNode
            | Self::Storage { .. }
            | Self::DataElsewhere { .. }
            | Self::NoCopies { .. }
            | Self::CopyBroken { .. }
            | Self::InUseElsewhere { .. }
            | Self::SourceElsewhere { .. }
            | Self::NoPool { .. }
            | Self::NoPacking { .. }
            | Self::NoFurtherNodes { .. }
            | Self::NotSelected
            | Self::Tainted { .. }
            | Self::Undecided { .. } => {}
        }
    }
}

impl Reserved {
    fn sum<'n>(node: &Node, held: impl Iterator<Item = &'n Reservation>) -> Self {
        let mut shares: Vec<Share> = Vec::new();
        let mut sum = Self::default();
        for held in held {
            let extent = node
                .pool(&held.pool)
                .map_or(Bytes::ZERO, |pool| pool.extent);
            let size = held.size.round_up(extent);
            sum.size = sum.size + size;
            sum.volumes += 1;
            match shares.iter_mut().find(|share| share.owner == held.owner) {
                Some(share) => {
                    share.size = share.size + size;
                    share.volumes += 1;
                }
                None => shares.push(Share {
                    owner: held.owner.clone(),
                    size,
                    volumes: 1,
                }),
            }
        }
        shares.sort_by(|a, b| (b.size, &a.owner).cmp(&(a.size, &b.owner)));
        sum.others = shares.len().saturating_sub(NAMED_OWNERS);
        shares.truncate(NAMED_OWNERS);
        sum.owners = shares;
        sum
    }
}
