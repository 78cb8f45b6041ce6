//! Claims: what is kept of them beside their facts, namely which pods own them, and for which of them a scheduler has chosen a
//! node although no room is reserved yet.

use std::collections::{BTreeMap, BTreeSet};

use hawser_placement::{Hold, Name, Node, Request};

use crate::account::EXTENT;
use crate::claim::{ClaimFacts, OurClass};
use crate::fold::Key;
use crate::inventory::{Inventory, Map, set};

#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    /// Claims by the uid of their controlling owner.
    owned: Map<Name, BTreeSet<ClaimName>>,
    /// Claims that have a node and no persistent volume yet, by the volume to be: a few at a time.
    chosen: BTreeMap<Name, ClaimName>,
}

/// Namespace and name.
type ClaimName = (Name, Name);

impl Inventory {
    pub(crate) fn claim(&self, key: &Key) -> Option<&ClaimFacts> {
        let claims = self
            .claims
            .get(key.namespace.as_deref().unwrap_or_default())?;
        claims.get(&*key.name)
    }

    pub(crate) fn set_claim(&mut self, namespace: &str, name: &str, facts: Option<ClaimFacts>) {
        let claim = (self.names.get(namespace), self.names.get(name));
        let claims = self.claims.entry(claim.0.clone()).or_default();
        let old = claims.get(name).cloned();
        let new = facts.clone();
        let changed = set(claims, &mut self.names, name, facts);
        if claims.is_empty() {
            self.claims.remove(namespace);
        }
        if changed {
            self.pending.forget(old.as_ref(), &claim);
            self.pending.note(new.as_ref(), &claim);
        }
    }

    /// Room that schedulers have given away, as claims show it, for which nothing is reserved yet: others' than the request's.
    #[must_use]
    pub fn holds(&self, request: &Request) -> Vec<Hold> {
        let asked = |volume: &Name| request.volumes.iter().any(|asked| asked.name == *volume);
        let others = self.pending.chosen.iter();
        others
            .filter(|(volume, _)| !asked(volume) && !self.has_room(volume))
            .filter_map(|(_, claim)| self.hold(claim))
            .collect()
    }

    fn hold(&self, (namespace, name): &ClaimName) -> Option<Hold> {
        let facts = self.claims.get(namespace)?.get(name)?;
        let class: &OurClass = self.classes.get(facts.class.as_ref()?)?.ours.as_ref()?;
        let asked = class.asked.as_ref().ok()?;
        Some(Hold {
            node: facts.selected.clone()?,
            class: asked.class,
            size: facts.size().ok()?.round_up(EXTENT),
            thin: asked.thin,
        })
    }

    /// Whether it shows where this volume goes: it exists, has room reserved, or its claim has a node.
    #[must_use]
    pub fn is_decided(&self, volume: &str) -> bool {
        self.pending.chosen.contains_key(volume) || self.has_room(volume)
    }

    fn has_room(&self, volume: &str) -> bool {
        self.volumes.contains_key(volume) || self.cluster.is_reserved(volume)
    }

    /// The node as it would be if these pods (by uid) were gone from it, together with the volumes that go with a pod: those of
    /// its ephemeral claims, where the reclaim policy deletes them. Wiping them takes time; that is not considered. `None`: there
    /// is no such node.
    #[must_use]
    pub fn node_without<'p>(
        &self,
        node: &str,
        pods: impl IntoIterator<Item = &'p str>,
    ) -> Option<Node> {
        let mut after = Node::clone(self.cluster.get(node)?);
        let pods: BTreeSet<&str> = pods.into_iter().collect();
        let owned = pods.iter().filter_map(|pod| self.pending.owned.get(*pod));
        for (namespace, name) in owned.flatten() {
            let claim = self.claims.get(namespace).and_then(|all| all.get(name));
            if let Some(claim) = claim {
                self.take_out(&mut after, claim);
            }
        }
        Some(after)
    }

    fn take_out(&self, node: &mut Node, claim: &ClaimFacts) {
        node.reservations.retain(|held| held.volume != claim.volume);
        let bound_to = claim.bound_to.as_ref();
        let persistent = bound_to.and_then(|name| self.persistent.get(name));
        if persistent.is_some_and(|persistent| !persistent.deleted_with_claim) {
            return;
        }
        let here =
            |replica: &&crate::facts::ReplicaFacts| replica.node == node.name && !replica.gone;
        let replicas: Vec<_> = self.replicas_of(&claim.volume).filter(here).collect();
        for replica in replicas {
            let mut pools = node.pools.iter_mut();
            let Some(pool) = pools.find(|pool| pool.name == replica.pool) else {
                continue;
            };
            let size = replica.required.max(replica.allocated).round_up(EXTENT);
            pool.volumes = pool.volumes.saturating_sub(1);
            match (&mut pool.thin, replica.thin) {
                (Some(thin), true) => thin.promised = thin.promised.saturating_sub(size),
                (None, true) => {}
                (_, false) => pool.used = pool.used.saturating_sub(size),
            }
        }
    }
}

impl Pending {
    fn forget(&mut self, facts: Option<&ClaimFacts>, claim: &ClaimName) {
        let Some(facts) = facts else { return };
        if self.chosen.get(&facts.volume) == Some(claim) {
            self.chosen.remove(&facts.volume);
        }
        if let Some(owner) = facts.controller()
            && let Some(claims) = self.owned.get_mut(owner)
        {
            claims.remove(claim);
            if claims.is_empty() {
                self.owned.remove(owner);
            }
        }
    }

    fn note(&mut self, facts: Option<&ClaimFacts>, claim: &ClaimName) {
        let Some(facts) = facts else { return };
        if facts.selected.is_some() && facts.bound_to.is_none() && !facts.leaving {
            self.chosen.insert(facts.volume.clone(), claim.clone());
        }
        if let Some(owner) = facts.controller() {
            let claims = self.owned.entry(owner.clone()).or_default();
            claims.insert(claim.clone());
        }
    }
}
