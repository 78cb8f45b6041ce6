//! The facts of all objects, the links between them, and the snapshot that is kept in step with them.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use hawser_placement::{Cluster, Name};

use crate::claim::{ClaimFacts, ClassFacts, PersistentFacts};
use crate::facts::{GroupFacts, NodeFacts, ReplicaFacts, StorageFacts, VolumeFacts};
use crate::fold::Key;

/// Everything known, and the [`Cluster`] that follows from it. Changed by [`crate::Fold`]; one writer, or a lock around it.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    pub(crate) cluster: Cluster,
    pub(crate) nodes: HashMap<Name, NodeFacts>,
    pub(crate) storage: HashMap<Name, StorageFacts>,
    pub(crate) replicas: HashMap<Name, ReplicaFacts>,
    pub(crate) volumes: HashMap<Name, VolumeFacts>,
    pub(crate) groups: HashMap<Name, GroupFacts>,
    pub(crate) claims: HashMap<Key, ClaimFacts>,
    pub(crate) persistent: HashMap<Name, PersistentFacts>,
    pub(crate) classes: HashMap<Name, ClassFacts>,
    replicas_by_node: Links,
    replicas_by_volume: Links,
    groups_by_node: Links,
    groups_by_volume: Links,
}

type Links = HashMap<Name, BTreeSet<Name>>;

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

    /// Takes a known class for one of so many copies, whatever its parameters say: for tests of what the parser of parameters
    /// does not let through yet.
    #[doc(hidden)]
    pub fn assume_copies(&mut self, class: &str, copies: u8) {
        let ours = self
            .classes
            .get_mut(class)
            .and_then(|facts| facts.ours.as_mut());
        if let Some(Ok(asked)) = ours.map(|ours| &mut ours.asked) {
            asked.copies = copies;
        }
    }

    pub(crate) fn replicas_on(&self, node: &str) -> impl Iterator<Item = &ReplicaFacts> {
        linked(&self.replicas_by_node, node).filter_map(|name| self.replicas.get(name))
    }

    pub(crate) fn replicas_of(&self, volume: &str) -> impl Iterator<Item = &ReplicaFacts> {
        linked(&self.replicas_by_volume, volume).filter_map(|name| self.replicas.get(name))
    }

    pub(crate) fn groups_on(&self, node: &str) -> impl Iterator<Item = &GroupFacts> {
        linked(&self.groups_by_node, node).filter_map(|name| self.groups.get(name))
    }

    pub(crate) fn set_node(&mut self, name: &str, facts: Option<NodeFacts>) {
        if set(&mut self.nodes, name, facts) {
            self.refresh(name);
        }
    }

    pub(crate) fn set_storage(&mut self, name: &str, facts: Option<StorageFacts>) {
        if set(&mut self.storage, name, facts) {
            self.refresh(name);
        }
    }

    pub(crate) fn set_replica(&mut self, name: &str, facts: Option<ReplicaFacts>) {
        let places = |facts: &ReplicaFacts| (facts.node.clone(), facts.volume.clone());
        let (old, new) = (
            self.replicas.get(name).map(places),
            facts.as_ref().map(places),
        );
        if !set(&mut self.replicas, name, facts) {
            return;
        }
        if let Some((node, volume)) = &old {
            unlink(&mut self.replicas_by_node, node, name);
            unlink(&mut self.replicas_by_volume, volume, name);
        }
        if let Some((node, volume)) = &new {
            link(&mut self.replicas_by_node, node, name);
            link(&mut self.replicas_by_volume, volume, name);
        }
        let mut touched: BTreeSet<Name> = BTreeSet::new();
        for (node, volume) in old.into_iter().chain(new) {
            touched.extend(self.nodes_that_may_reserve(&volume));
            touched.insert(node);
        }
        self.refresh_all(touched);
    }

    pub(crate) fn set_volume(&mut self, name: &str, facts: Option<VolumeFacts>) {
        if set(&mut self.volumes, name, facts) {
            self.refresh_all(self.nodes_that_may_reserve(name));
        }
    }

    pub(crate) fn set_group(&mut self, name: &str, facts: Option<GroupFacts>) {
        let old = self.groups.get(name).cloned();
        let new = facts.clone();
        if !set(&mut self.groups, name, facts) {
            return;
        }
        let mut touched: BTreeSet<Name> = BTreeSet::new();
        if let Some(facts) = &old {
            facts
                .nodes
                .iter()
                .for_each(|node| unlink(&mut self.groups_by_node, node, name));
            facts
                .members
                .iter()
                .for_each(|member| unlink(&mut self.groups_by_volume, &member.volume, name));
            touched.extend(facts.nodes.iter().cloned());
        }
        if let Some(facts) = &new {
            facts
                .nodes
                .iter()
                .for_each(|node| link(&mut self.groups_by_node, node, name));
            facts
                .members
                .iter()
                .for_each(|member| link(&mut self.groups_by_volume, &member.volume, name));
            touched.extend(facts.nodes.iter().cloned());
        }
        self.refresh_all(touched);
    }

    fn nodes_that_may_reserve(&self, volume: &str) -> BTreeSet<Name> {
        let groups =
            linked(&self.groups_by_volume, volume).filter_map(|name| self.groups.get(name));
        groups
            .flat_map(|group| group.nodes.iter().cloned())
            .collect()
    }

    fn refresh_all(&mut self, nodes: BTreeSet<Name>) {
        for node in nodes {
            self.refresh(&node);
        }
    }

    /// Brings one node of the snapshot in step with the facts; leaves it alone (and shared) if nothing changed.
    fn refresh(&mut self, name: &str) {
        match self.compose(name) {
            None => self.cluster.remove(name),
            Some(node) if self.cluster.get(name).is_some_and(|known| **known == node) => {}
            Some(node) => self.cluster.insert(node),
        }
    }
}

/// Sets or removes; false if that changes nothing.
pub(crate) fn set<K, Q, V>(facts: &mut HashMap<K, V>, key: &Q, new: Option<V>) -> bool
where
    K: Eq + Hash + Borrow<Q> + for<'q> From<&'q Q>,
    Q: Eq + Hash + ?Sized,
    V: PartialEq,
{
    if facts.get(key) == new.as_ref() {
        return false;
    }
    match new {
        Some(new) => facts.insert(K::from(key), new),
        None => facts.remove(key),
    };
    true
}

fn linked<'a>(links: &'a Links, from: &str) -> impl Iterator<Item = &'a Name> {
    links.get(from).into_iter().flatten()
}

fn link(links: &mut Links, from: &Name, to: &str) {
    links.entry(from.clone()).or_default().insert(to.into());
}

fn unlink(links: &mut Links, from: &Name, to: &str) {
    if let Some(set) = links.get_mut(from) {
        set.remove(to);
        if set.is_empty() {
            links.remove(from);
        }
    }
}
