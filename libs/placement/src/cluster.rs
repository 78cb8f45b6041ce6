//! The snapshot that decisions are made on: all nodes, found by name and by number. Where the facts come from (and how fresh they
//! are) is the caller's business.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::node::Node;
use crate::rows::Rows;

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

/// Names of one snapshot's nodes by id, for who keeps ids longer than the snapshot: what changes there later does not show here.
/// Cloning copies a pointer; adding nodes copies the names once if somebody still has them.
#[derive(Clone, Debug, Default)]
pub struct Roster(Arc<Vec<Name>>);

impl Roster {
    /// `None` only for an id of another snapshot.
    #[must_use]
    pub fn name(&self, id: NodeId) -> Option<&Name> {
        self.0.get(id.index())
    }

    /// How many names it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn set(&mut self, id: NodeId, name: &Name) {
        let names = Arc::make_mut(&mut self.0);
        if names.len() <= id.index() {
            names.resize(id.index() + 1, name.clone());
        }
        names[id.index()] = name.clone();
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
    roster: Roster,
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
        self.roster.set(id, name);
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

    /// The names behind the ids, as of now.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
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
