//! The snapshot that decisions are made on: nodes, their pools, what is reserved in them. Owns the arithmetic of room;
//! where the facts come from (and how fresh they are) is the caller's business.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::rows::Rows;
use crate::selector::Taint;
use crate::units::Bytes;

/// A name (of a node, pool, volume, zone); cloning shares it.
pub type Name = Arc<str>;

/// Labels of a node, shared by everybody who keeps them.
pub type Labels = Arc<BTreeMap<Name, Name>>;

/// Which node of one snapshot; means nothing in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// All nodes. Cloning copies one pointer and a few numbers per node; changing one node copies that node only if the clone
/// still shares it.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    ids: HashMap<Name, NodeId, RandomState>,
    /// `None`: was removed; the place is used again.
    nodes: Vec<Option<Arc<Node>>>,
    vacant: Vec<NodeId>,
    rows: Rows,
    /// For each volume that room is reserved for: where. What one request owns is found without looking at every node.
    reserved: HashMap<Name, Vec<NodeId>, RandomState>,
}

impl Cluster {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the node or replaces the one of that name.
    pub fn insert(&mut self, node: Node) {
        let id = match self.ids.get(&node.name) {
            Some(id) => *id,
            None => self.new_place(&node.name),
        };
        self.put(id, Arc::new(node));
    }

    /// A place for a node of this name. More than `u32::MAX` nodes do not fit in memory.
    fn new_place(&mut self, name: &Name) -> NodeId {
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            NodeId(u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX))
        });
        self.ids.insert(name.clone(), id);
        id
    }

    fn put(&mut self, id: NodeId, node: Arc<Node>) {
        self.forget_reservations(id);
        for held in &node.reservations {
            let at = self.reserved.entry(held.volume.clone()).or_default();
            if !at.contains(&id) {
                at.push(id);
            }
        }
        self.rows.set(id, &node);
        self.nodes[id.index()] = Some(node);
    }

    fn forget_reservations(&mut self, id: NodeId) {
        let Some(node) = &self.nodes[id.index()] else {
            return;
        };
        for held in &node.reservations {
            if let Some(at) = self.reserved.get_mut(&held.volume) {
                at.retain(|other| *other != id);
                if at.is_empty() {
                    self.reserved.remove(&held.volume);
                }
            }
        }
    }

    pub fn remove(&mut self, name: &str) {
        let Some(id) = self.ids.remove(name) else {
            return;
        };
        self.forget_reservations(id);
        self.nodes[id.index()] = None;
        self.rows.clear(id);
        self.vacant.push(id);
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Node>> {
        self.node(self.id(name)?)
    }

    #[must_use]
    pub fn id(&self, name: &str) -> Option<NodeId> {
        self.ids.get(name).copied()
    }

    /// `None` only for an id of another snapshot.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(id.index())?.as_ref()
    }

    /// Puts a changed copy of the node in its place, under the same name.
    pub fn update(&mut self, name: &str, change: impl FnOnce(&mut Node)) {
        let Some((id, node)) = self.id(name).and_then(|id| Some((id, self.node(id)?))) else {
            return;
        };
        let (name, mut node) = (node.name.clone(), Node::clone(node));
        change(&mut node);
        node.name = name;
        self.put(id, Arc::new(node));
    }

    /// All nodes, in no particular order: nothing that is decided may depend on it.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter().flatten()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0u32..)
            .map(NodeId)
            .zip(&self.nodes)
            .filter_map(|(id, node)| Some((id, &**node.as_ref()?)))
    }

    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Nodes where room is reserved for this volume.
    pub(crate) fn reserving(&self, volume: &str) -> &[NodeId] {
        self.reserved.get(volume).map_or(&[], Vec::as_slice)
    }

    /// Whether room is reserved for this volume on any node.
    #[must_use]
    pub fn is_reserved(&self, volume: &str) -> bool {
        !self.reserving(volume).is_empty()
    }

    /// How many places there are, vacant ones included: greater than the index of every id.
    pub(crate) fn places(&self) -> usize {
        self.nodes.len()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// The same nodes; in which order they came is not part of what a cluster is.
impl PartialEq for Cluster {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.nodes().all(|node| other.get(&node.name) == Some(node))
    }
}

impl Eq for Cluster {}

impl FromIterator<Node> for Cluster {
    fn from_iter<I: IntoIterator<Item = Node>>(nodes: I) -> Self {
        let mut cluster = Self::new();
        nodes.into_iter().for_each(|node| cluster.insert(node));
        cluster
    }
}

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PoolClass {
    Hdd,
    Ssd,
    Nvme,
}

impl PoolClass {
    pub const ALL: [Self; 3] = [Self::Hdd, Self::Ssd, Self::Nvme];

    /// Its place in [`Self::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for PoolClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hdd => "HDD",
            Self::Ssd => "SSD",
            Self::Nvme => "NVMe",
        })
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
