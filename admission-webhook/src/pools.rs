//! Which nodes have pools of which class, and in which zone a node is. Folded from `LocalStorageNode`s.
//!
//! Whether a node has such a pool changes when disks are claimed; how much is free changes all the time, and is the extender's business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hawser_api::{LocalStorageNode, NodeState, PoolClass};
use hawser_runtime::index::{Index, Key};
use parking_lot::RwLock;

/// Up to so many nodes are named in a pod; above, the pod prefers any node with our driver. A longer list is no preference any more,
/// and is carried by each pod and read for each node by the scheduler.
pub(crate) const FEW: usize = 32;

/// Zone and region of a node that does not say.
const SOMEWHERE: &str = "default";

/// Nodes that have what is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Nodes {
    /// No node has it.
    None,
    /// These, at most [`FEW`].
    Few(BTreeSet<Arc<str>>),
    /// These, more than [`FEW`]: shared, and not to be named.
    Many(Arc<BTreeSet<Arc<str>>>),
}

impl Nodes {
    /// Those that are in both. Two that are many are not compared one by one, which would take long and name nobody: whether a node is in
    /// both is the extender's to say.
    pub(crate) fn and(self, other: Self) -> Self {
        let few = |few: BTreeSet<Arc<str>>, all: &BTreeSet<Arc<str>>| {
            let both: BTreeSet<_> = few.into_iter().filter(|n| all.contains(n)).collect();
            if both.is_empty() {
                Self::None
            } else {
                Self::Few(both)
            }
        };
        match (self, other) {
            (Self::None, _) | (_, Self::None) => Self::None,
            (Self::Many(one), Self::Many(_)) => Self::Many(one),
            (Self::Few(one), Self::Many(all)) | (Self::Many(all), Self::Few(one)) => few(one, &all),
            (Self::Few(one), Self::Few(other)) => few(one, &other),
        }
    }
}

/// What is known of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Room {
    zone: Option<Arc<str>>,
    /// Classes of its pools; none while it takes no new volumes.
    classes: BTreeSet<PoolClass>,
}

impl Room {
    fn of(node: &LocalStorageNode) -> Self {
        let zone = node.spec.topology.as_ref().map(|t| t.zone.as_str());
        let status = node.status.as_ref();
        let serves = status.is_some_and(|status| status.state == NodeState::Ready);
        let pools = status.into_iter().flat_map(|status| status.pools.values());
        Self {
            zone: zone
                .filter(|zone| !zone.is_empty() && *zone != SOMEWHERE)
                .map(Into::into),
            classes: pools
                .filter(|pool| serves && pool.total_capacity_bytes > 0)
                .map(|pool| pool.class.clone())
                .collect(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    rooms: BTreeMap<Arc<str>, Room>,
    by_class: BTreeMap<PoolClass, Arc<BTreeSet<Arc<str>>>>,
}

impl State {
    fn put(&mut self, name: &str, room: Room) {
        self.take(name);
        let name: Arc<str> = name.into();
        for class in &room.classes {
            let nodes = self.by_class.entry(class.clone()).or_default();
            Arc::make_mut(nodes).insert(name.clone());
        }
        self.rooms.insert(name, room);
    }

    fn take(&mut self, name: &str) {
        let Some(room) = self.rooms.remove(name) else {
            return;
        };
        for class in &room.classes {
            if let Some(nodes) = self.by_class.get_mut(class) {
                Arc::make_mut(nodes).remove(name);
            }
        }
    }
}

/// The pools of all nodes. Clones share one state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pools(Arc<RwLock<State>>);

impl Pools {
    /// The nodes that have pools of this class and take volumes.
    pub(crate) fn with(&self, class: &PoolClass) -> Nodes {
        let state = self.0.read();
        match state.by_class.get(class) {
            Some(nodes) if nodes.len() > FEW => Nodes::Many(nodes.clone()),
            Some(nodes) if !nodes.is_empty() => Nodes::Few((**nodes).clone()),
            Some(_) | None => Nodes::None,
        }
    }

    /// The zone of a node, if it has one.
    pub(crate) fn zone(&self, node: &str) -> Option<Arc<str>> {
        self.0.read().rooms.get(node)?.zone.clone()
    }
}

impl Index<LocalStorageNode> for Pools {
    fn apply(&self, object: Arc<LocalStorageNode>) {
        let room = Room::of(&object);
        let mut state = self.0.write();
        let name = &Key::of(&*object).name;
        // Nodes report what is free all the time; most reports change nothing here.
        if state.rooms.get(name.as_str()) != Some(&room) {
            state.put(name, room);
        }
    }

    fn delete(&self, key: &Key) {
        self.0.write().take(&key.name);
    }

    fn reset(&self, objects: Vec<Arc<LocalStorageNode>>, unreadable: &BTreeSet<Key>) {
        let mut fresh = State::default();
        let mut state = self.0.write();
        for key in unreadable {
            if let Some(room) = state.rooms.get(key.name.as_str()) {
                fresh.put(&key.name, room.clone());
            }
        }
        for object in objects {
            fresh.put(&Key::of(&*object).name, Room::of(&object));
        }
        *state = fresh;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn a_node(name: &str, state: &str, class: &str) -> Arc<LocalStorageNode> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": { "name": name },
                "spec": { "hostname": name, "topogoly": { "zone": "east", "region": "default" } },
                "status": { "state": state, "pools": { "p": { "class": class, "totalCapacityBytes": 4_194_304 } } }
            }))
            .unwrap(),
        )
    }

    fn names(nodes: &Nodes) -> Vec<&str> {
        match nodes {
            Nodes::Few(nodes) => nodes.iter().map(|node| &**node).collect(),
            Nodes::None | Nodes::Many(_) => Vec::new(),
        }
    }

    #[test]
    fn nodes_come_change_and_go() {
        let pools = Pools::default();
        pools.apply(a_node("n1", "Ready", "SSD"));
        pools.apply(a_node("n2", "Ready", "HDD"));
        pools.apply(a_node("n3", "Maintain", "SSD"));
        assert_eq!(names(&pools.with(&PoolClass::SSD)), ["n1"]);
        assert_eq!(pools.zone("n3").as_deref(), Some("east"));
        pools.apply(a_node("n2", "Ready", "SSD"));
        assert_eq!(names(&pools.with(&PoolClass::SSD)), ["n1", "n2"]);
        assert_eq!(pools.with(&PoolClass::HDD), Nodes::None);
        pools.delete(&Key::cluster("n1"));
        assert_eq!(names(&pools.with(&PoolClass::SSD)), ["n2"]);
        let broken = BTreeSet::from([Key::cluster("n2")]);
        pools.reset(vec![a_node("n4", "Ready", "SSD")], &broken);
        assert_eq!(names(&pools.with(&PoolClass::SSD)), ["n2", "n4"]);
        assert_eq!(pools.zone("n3"), None);
    }

    #[test]
    fn above_some_they_are_many_and_many_narrow_nothing() {
        let pools = Pools::default();
        for n in 0..=FEW {
            assert!(!matches!(pools.with(&PoolClass::SSD), Nodes::Many(_)));
            pools.apply(a_node(&format!("n{n}"), "Ready", "SSD"));
        }
        let many = || pools.with(&PoolClass::SSD);
        assert!(matches!(many(), Nodes::Many(_)));
        let few = |names: &[&str]| Nodes::Few(names.iter().map(|n| Arc::from(*n)).collect());
        assert_eq!(many().and(few(&["n1", "elsewhere"])), few(&["n1"]));
        assert_eq!(few(&["elsewhere"]).and(many()), Nodes::None);
        assert_eq!(many().and(many()), many());
        assert_eq!(few(&["a", "b"]).and(few(&["b", "c"])), few(&["b"]));
        assert_eq!(few(&["a"]).and(few(&["b"])), Nodes::None);
        assert_eq!(Nodes::None.and(many()), Nodes::None);
    }
}
