//! The numbers of all nodes side by side, as somebody sees them who owns no reservation. Thousands of nodes are compared with a
//! request by running through these; a [`Node`] itself is looked at only where a row does not say everything.

use crate::cluster::NodeId;
use crate::node::{Node, Pool, PoolClass, PoolHealth, StorageState};
use crate::units::Bytes;

/// "No limit": no request has as many volumes.
pub(crate) const UNLIMITED: u32 = u32::MAX;

#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    heads: Vec<Head>,
    /// By [`PoolClass::index`]; apart from each other because a request looks at one or two classes.
    pools: [Vec<PoolRow>; 3],
    zones: Vec<std::sync::Arc<str>>,
}

/// Of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) storage: StorageState,
    /// At most one pool of each class. Otherwise the pools' rows say nothing.
    pub(crate) simple: bool,
    pub(crate) zone: ZoneId,
    /// How many volumes more the node may hold over all pools, and at most.
    pub(crate) slots: u32,
    pub(crate) slot_limit: u32,
}

/// Which zone, in one [`Rows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ZoneId(u32);

impl ZoneId {
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(crate) fn index(self) -> Option<usize> {
        (self != Self::NONE).then_some(self.0 as usize)
    }
}

/// Of a node's only pool of a class. Sizes in bytes; 64 bytes, a line of the processor's cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolRow {
    /// In whole extents, reservations taken off.
    pub(crate) free: u64,
    pub(crate) total: u64,
    pub(crate) thin_free: u64,
    pub(crate) thin_limit: u64,
    /// The largest allowed volume.
    pub(crate) largest: u64,
    pub(crate) extent: u64,
    pub(crate) slots: u32,
    pub(crate) slot_limit: u32,
    /// `None`: there is no such pool.
    pub(crate) health: Option<PoolHealth>,
    /// Whether `free` and `total` are known.
    pub(crate) known: bool,
    /// Whether there is a thin pool.
    pub(crate) thin: bool,
}

const NO_NODE: Head = Head {
    storage: StorageState::Absent,
    simple: true,
    zone: ZoneId::NONE,
    slots: UNLIMITED,
    slot_limit: UNLIMITED,
};

const NO_POOL: PoolRow = PoolRow {
    free: 0,
    total: 0,
    thin_free: 0,
    thin_limit: 0,
    largest: u64::MAX,
    extent: 1,
    slots: UNLIMITED,
    slot_limit: UNLIMITED,
    health: None,
    known: false,
    thin: false,
};

impl Rows {
    pub(crate) fn set(&mut self, id: NodeId, node: &Node) {
        let at = id.index();
        if self.heads.len() <= at {
            self.heads.resize(at + 1, NO_NODE);
            self.pools
                .iter_mut()
                .for_each(|rows| rows.resize(at + 1, NO_POOL));
        }
        let zone = self.zone(node);
        self.heads[at] = head(node, zone);
        for class in PoolClass::ALL {
            let pool = node.pools_of(class).next();
            self.pools[class.index()][at] = pool.map_or(NO_POOL, |pool| row(node, pool));
        }
    }

    pub(crate) fn clear(&mut self, id: NodeId) {
        self.heads[id.index()] = NO_NODE;
        for rows in &mut self.pools {
            rows[id.index()] = NO_POOL;
        }
    }

    /// Zones are few and stay known.
    fn zone(&mut self, node: &Node) -> ZoneId {
        let Some(zone) = &node.zone else {
            return ZoneId::NONE;
        };
        let at = self.zones.iter().position(|known| known == zone);
        let at = at.unwrap_or_else(|| {
            self.zones.push(zone.clone());
            self.zones.len() - 1
        });
        u32::try_from(at).map_or(ZoneId::NONE, ZoneId)
    }

    pub(crate) fn head(&self, id: NodeId) -> &Head {
        &self.heads[id.index()]
    }

    pub(crate) fn pool(&self, class: PoolClass, id: NodeId) -> &PoolRow {
        &self.pools[class.index()][id.index()]
    }

    /// How many zones there are.
    pub(crate) fn zones(&self) -> usize {
        self.zones.len()
    }
}

fn head(node: &Node, zone: ZoneId) -> Head {
    let left = |limit: u64| limit.saturating_sub(node.volumes(|_| false));
    Head {
        storage: node.storage,
        simple: PoolClass::ALL
            .into_iter()
            .all(|class| node.pools_of(class).nth(1).is_none()),
        zone,
        slots: node
            .volume_limit
            .map_or(UNLIMITED, |limit| few(left(limit))),
        slot_limit: node.volume_limit.map_or(UNLIMITED, few),
    }
}

fn row(node: &Node, pool: &Pool) -> PoolRow {
    let room = node.room(pool, |_| false);
    let number = |bytes: Option<Bytes>| bytes.map_or(0, |bytes| bytes.0);
    PoolRow {
        free: number(room.free),
        total: number(pool.total),
        thin_free: number(room.thin_free),
        thin_limit: pool.thin.map_or(0, |thin| thin.limit.0),
        largest: pool.volume_size_limit.map_or(u64::MAX, |limit| limit.0),
        // As rounding has it: an extent of nothing is a byte.
        extent: pool.extent.0.max(1),
        slots: room.slots.map_or(UNLIMITED, few),
        slot_limit: pool.volume_limit.map_or(UNLIMITED, few),
        health: Some(pool.health),
        known: pool.total.is_some(),
        thin: pool.thin.is_some(),
    }
}

fn few(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(UNLIMITED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_takes_one_line_of_the_cache() {
        assert!(size_of::<PoolRow>() <= 64, "{}", size_of::<PoolRow>());
        assert!(size_of::<Head>() <= 16, "{}", size_of::<Head>());
    }
}
