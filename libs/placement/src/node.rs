//! One node of a snapshot: its pools, what is reserved in them, and the arithmetic of the room that is left.

use std::fmt;

use serde::Serialize;

use crate::cluster::{Labels, Name};
use crate::selector::Taint;
use crate::units::Bytes;

/// One node: what Kubernetes says of it (labels, taints, zone) and what its storage daemon says (state, pools).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: Name,
    pub labels: Labels,
    pub taints: Vec<Taint>,
    pub zone: Option<Name>,
    pub storage: StorageState,
    /// How many volumes the node may hold over all pools; `None`: no such limit.
    pub volume_limit: Option<u64>,
    pub pools: Vec<Pool>,
    /// Room in this node's pools that is promised to volumes that do not exist yet.
    pub reservations: Vec<Reservation>,
}

impl Node {
    /// A node that Kubernetes knows and that has no storage.
    #[must_use]
    pub fn new(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            labels: Labels::default(),
            taints: Vec::new(),
            zone: None,
            storage: StorageState::Absent,
            volume_limit: None,
            pools: Vec::new(),
            reservations: Vec::new(),
        }
    }

    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| &*pool.name == name)
    }

    pub fn pools_of(&self, class: PoolClass) -> impl Iterator<Item = &Pool> {
        self.pools.iter().filter(move |pool| pool.class == class)
    }

    /// Room of `pool` as someone sees it to whom the reservations for which `mine` is true belong.
    #[must_use]
    pub fn room(&self, pool: &Pool, mine: impl Fn(&Reservation) -> bool) -> Room {
        let mut room = Room {
            free: pool.total.map(|total| total.saturating_sub(pool.used)),
            thin_free: pool
                .thin
                .as_ref()
                .map(|thin| thin.limit.saturating_sub(thin.promised)),
            slots: pool
                .volume_limit
                .map(|limit| limit.saturating_sub(pool.volumes)),
            reserved: Bytes::ZERO,
        };
        for held in self
            .reservations
            .iter()
            .filter(|held| held.pool == pool.name && !mine(held))
        {
            let size = held.size.round_up(pool.extent);
            room.slots = room.slots.map(|slots| slots.saturating_sub(1));
            if held.thin {
                room.thin_free = room.thin_free.map(|free| free.saturating_sub(size));
            } else {
                room.reserved = room.reserved + size;
                room.free = room.free.map(|free| free.saturating_sub(size));
            }
        }
        room.free = room.free.map(|free| free.round_down(pool.extent));
        room
    }

    /// The largest new thick volume of this class that a stranger (owner of no reservation) could make here now.
    /// `None`: not known, because no pool of the class has a known capacity.
    #[must_use]
    pub fn available(&self, class: PoolClass) -> Option<Bytes> {
        let of_pool = |pool: &Pool| {
            let room = self.room(pool, |_| false);
            let usable = pool.health != PoolHealth::Failed && room.slots != Some(0);
            let largest = pool
                .volume_size_limit
                .unwrap_or(Bytes(u64::MAX))
                .round_down(pool.extent);
            room.free.map(|free| {
                if usable {
                    free.min(largest)
                } else {
                    Bytes::ZERO
                }
            })
        };
        self.pools_of(class).filter_map(of_pool).max()
    }

    /// Volumes on this node over all pools, those that are only reserved (for others) included.
    #[must_use]
    pub fn volumes(&self, mine: impl Fn(&Reservation) -> bool) -> u64 {
        let made: u64 = self.pools.iter().map(|pool| pool.volumes).sum();
        made + self.reservations.iter().filter(|held| !mine(held)).count() as u64
    }
}

/// Whether the node's storage daemon serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum StorageState {
    /// Nothing has ever reported storage for this node.
    Absent,
    Ready,
    /// Taken out of service by an operator: no new volumes; what is there stays usable.
    Maintain,
    /// The daemon has gone silent.
    Offline,
    /// Storage is recorded for it, but Kubernetes has no such node.
    NodeMissing,
}

/// One volume group. Sizes are in bytes and used up in whole extents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub name: Name,
    pub class: PoolClass,
    pub extent: Bytes,
    /// `None`: not known (yet), which is not the same as none: nothing is placed there, and the reason says so.
    pub total: Option<Bytes>,
    /// Everything that takes room: volumes, also assigned ones that are not made yet, and what is not ours.
    pub used: Bytes,
    /// Volumes in the pool, also assigned ones that are not made yet.
    pub volumes: u64,
    pub volume_limit: Option<u64>,
    /// The largest allowed single volume.
    pub volume_size_limit: Option<Bytes>,
    /// The thin pool inside, if there is one.
    pub thin: Option<ThinPool>,
    pub health: PoolHealth,
}

impl Pool {
    /// An empty healthy pool with 4 MiB extents.
    #[must_use]
    pub fn new(name: impl Into<Name>, class: PoolClass, total: Option<Bytes>) -> Self {
        Self {
            name: name.into(),
            class,
            extent: Bytes::mib(4),
            total,
            used: Bytes::ZERO,
            volumes: 0,
            volume_limit: None,
            volume_size_limit: None,
            thin: None,
            health: PoolHealth::Healthy,
        }
    }
}

/// A thin pool promises more than it has: `limit` is its size times its over-provision ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThinPool {
    pub limit: Bytes,
    pub promised: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum PoolClass {
    #[serde(rename = "HDD")]
    Hdd,
    #[serde(rename = "SSD")]
    Ssd,
    #[serde(rename = "NVMe")]
    Nvme,
}

impl PoolClass {
    pub const ALL: [Self; 3] = [Self::Hdd, Self::Ssd, Self::Nvme];

    /// Its place in [`Self::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hdd => "HDD",
            Self::Ssd => "SSD",
            Self::Nvme => "NVMe",
        }
    }

    /// As sentences have it.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Hdd => "hdd",
            Self::Ssd => "ssd",
            Self::Nvme => "nvme",
        }
    }
}

impl fmt::Display for PoolClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Ordered: the healthier is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PoolHealth {
    /// Takes no new volume: a disk of it is gone.
    Failed,
    /// Works, but another pool is to be preferred.
    Degraded,
    Healthy,
}

/// Room promised to a volume that does not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Name of the volume to be; who places that volume does not compete with its reservation, whichever pod made it
    /// (two pods may share a claim).
    pub volume: Name,
    /// For people: `namespace/pod`.
    pub owner: Name,
    pub pool: Name,
    pub size: Bytes,
    pub thin: bool,
}

/// What is left of a pool. `None`: not known, or (slots) not limited, or (thin) no thin pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// For thick volumes, in whole extents, reservations of others taken off.
    pub free: Option<Bytes>,
    pub thin_free: Option<Bytes>,
    pub slots: Option<u64>,
    /// How much of what is not free is reserved by others (thick).
    pub reserved: Bytes,
}
