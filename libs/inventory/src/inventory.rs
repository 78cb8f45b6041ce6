//! The facts of all objects, the links between them, and the snapshot that is kept in step with them.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;
use hawser_placement::{Cluster, Name};

use crate::claim::{ClaimFacts, ClassFacts, PersistentFacts};
use crate::facts::{GroupFacts, NodeFacts, ReplicaFacts, StorageFacts, VolumeFacts};
use crate::links::Links;
use crate::names::Names;
use crate::pending::Pending;

pub(crate) type Map<K, V> = HashMap<K, V, RandomState>;

/// Claims of one namespace, by name.
pub(crate) type Claims = Map<Name, ClaimFacts>;

/// Everything known, and the [`Cluster`] that follows from it. Changed by [`crate::Fold`]; one writer, or a lock around it.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    pub(crate) names: Names,
    pub(crate) cluster: Cluster,
    pub(crate) nodes: Map<Name, NodeFacts>,
    pub(crate) storage: Map<Name, StorageFacts>,
    pub(crate) replicas: Map<Name, ReplicaFacts>,
    pub(crate) volumes: Map<Name, VolumeFacts>,
    pub(crate) groups: Map<Name, GroupFacts>,
    /// By namespace.
    pub(crate) claims: Map<Name, Claims>,
    pub(crate) persistent: Map<Name, PersistentFacts>,
    pub(crate) classes: Map<Name, ClassFacts>,
    pub(crate) pending: Pending,
    replicas_by_node: Links,
    replicas_by_volume: Links,
    groups_by_node: Links,
    groups_by_volume: Links,
}

impl Inventory {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The snapshot as of now. Clone it to keep it while the inventory moves on; that shares the nodes.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn replicas_on(&self, node: &str) -> impl Iterator<Item = &ReplicaFacts> {
        let names = self.replicas_by_node.of(node).iter();
        names.filter_map(|name| self.replicas.get(name))
    }

    pub(crate) fn replicas_of(&self, volume: &str) -> impl Iterator<Item = &ReplicaFacts> {
        let names = self.replicas_by_volume.of(volume).iter();
        names.filter_map(|name| self.replicas.get(name))
    }

    pub(crate) fn groups_on(&self, node: &str) -> impl Iterator<Item = &GroupFacts> {
        let names = self.groups_by_node.of(node).iter();
        names.filter_map(|name| self.groups.get(name))
    }

    pub(crate) fn set_node(&mut self, name: &str, facts: Option<NodeFacts>) {
        if set(&mut self.nodes, &mut self.names, name, facts) {
            self.refresh(name);
        }
    }

    pub(crate) fn set_storage(&mut self, name: &str, facts: Option<StorageFacts>) {
        if set(&mut self.storage, &mut self.names, name, facts) {
            self.refresh(name);
        }
    }

    pub(crate) fn set_replica(&mut self, name: &str, facts: Option<ReplicaFacts>) {
        let places = |facts: &ReplicaFacts| (facts.node.clone(), facts.volume.clone());
        let (old, new) = (
            self.replicas.get(name).map(places),
            facts.as_ref().map(places),
        );
        if !set(&mut self.replicas, &mut self.names, name, facts) {
            return;
        }
        if old != new {
            if let Some((node, volume)) = &old {
                self.replicas_by_node.remove(node, name);
                self.replicas_by_volume.remove(volume, name);
            }
            if let Some((node, volume)) = &new {
                let name = self.names.get(name);
                self.replicas_by_node.add(node, &name);
                self.replicas_by_volume.add(volume, &name);
            }
        }
        let mut touched: BTreeSet<Name> = BTreeSet::new();
        for (node, volume) in old.into_iter().chain(new) {
            touched.extend(self.nodes_that_may_reserve(&volume));
            touched.insert(node);
        }
        self.refresh_all(touched);
    }

    pub(crate) fn set_volume(&mut self, name: &str, facts: Option<VolumeFacts>) {
        if set(&mut self.volumes, &mut self.names, name, facts) {
            self.refresh_all(self.nodes_that_may_reserve(name));
        }
    }

    pub(crate) fn set_group(&mut self, name: &str, facts: Option<GroupFacts>) {
        let old = self.groups.get(name).cloned();
        let new = facts.clone();
        if !set(&mut self.groups, &mut self.names, name, facts) {
            return;
        }
        let mut touched: BTreeSet<Name> = BTreeSet::new();
        if let Some(facts) = &old {
            for node in facts.nodes.as_slice() {
                self.groups_by_node.remove(node, name);
            }
            for member in &facts.members {
                self.groups_by_volume.remove(&member.volume, name);
            }
            touched.extend(facts.nodes.as_slice().iter().cloned());
        }
        if let Some(facts) = &new {
            let name = self.names.get(name);
            for node in facts.nodes.as_slice() {
                self.groups_by_node.add(node, &name);
            }
            for member in &facts.members {
                self.groups_by_volume.add(&member.volume, &name);
            }
            touched.extend(facts.nodes.as_slice().iter().cloned());
        }
        self.refresh_all(touched);
    }

    pub(crate) fn set_persistent(&mut self, name: &str, facts: Option<PersistentFacts>) {
        set(&mut self.persistent, &mut self.names, name, facts);
    }

    pub(crate) fn set_class(&mut self, name: &str, facts: Option<ClassFacts>) {
        set(&mut self.classes, &mut self.names, name, facts);
    }

    fn nodes_that_may_reserve(&self, volume: &str) -> BTreeSet<Name> {
        let groups = self.groups_by_volume.of(volume).iter();
        groups
            .filter_map(|name| self.groups.get(name))
            .flat_map(|group| group.nodes.as_slice().iter().cloned())
            .collect()
    }

    fn refresh_all(&mut self, nodes: BTreeSet<Name>) {
        for node in nodes {
            self.refresh(&node);
        }
    }

    /// Brings one node of the snapshot in step with the facts; leaves it alone (and shared) if nothing changed.
    fn refresh(&mut self, name: &str) {
        let name = self.names.get(name);
        match self.compose(&name) {
            None => self.cluster.remove(&name),
            Some(node) if self.cluster.get(&name).is_some_and(|known| **known == node) => {}
            Some(node) => self.cluster.insert(node),
        }
    }
}

/// Sets or removes; false if that changes nothing.
pub(crate) fn set<V: PartialEq>(
    facts: &mut Map<Name, V>,
    names: &mut Names,
    key: &str,
    new: Option<V>,
) -> bool {
    if facts.get(key) == new.as_ref() {
        return false;
    }
    match new {
        Some(new) => facts.insert(names.get(key), new),
        None => facts.remove(key),
    };
    true
}
