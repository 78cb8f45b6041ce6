//! Room: what of a node's pools is taken, and what is reserved.
//!
//! `used` as the node reported it is one consistent look at LVM and counts everything that is really there: volumes, foreign
//! ones, those still being wiped. To it is added what is decided but not there yet: copies assigned to the pool that the report
//! does not list, and growth that has been asked for. So nothing is counted twice or not at all, whichever of the report, the
//! replica and the volume arrives first; what has just been removed stays counted until the report says otherwise.
//!
//! A group's entry reserves its size on the group's nodes as long as the copy there does not exist as an object. That is decided
//! by the replica, not by the volume: between the two objects the room would belong to nobody. An entry stops reserving when all
//! copies of its volume exist (elsewhere), or the volume is on its way out.

use hawser_placement::{Bytes, Name, Node, Pool, Reservation};

use crate::facts::{PoolFacts, ReplicaFacts, StorageFacts};
use crate::inventory::Inventory;

/// LVM's default. The API does not say a volume group's own extent size.
pub(crate) const EXTENT: Bytes = Bytes::mib(4);

impl Inventory {
    /// The node of that name as placement sees it; `None` if there is neither a `Node` nor a `LocalStorageNode`.
    pub(crate) fn compose(&self, name: &Name) -> Option<Node> {
        use hawser_placement::StorageState;
        let (kubernetes, storage) = (self.nodes.get(name), self.storage.get(name));
        if kubernetes.is_none() && storage.is_none() {
            return None;
        }
        let mut node = Node::new(name.clone());
        if let Some(facts) = kubernetes {
            node.labels.clone_from(&facts.labels);
            node.taints.clone_from(&facts.taints);
            node.zone.clone_from(&facts.zone);
        }
        if let Some(facts) = storage {
            node.storage = if kubernetes.is_some() {
                facts.state
            } else {
                StorageState::NodeMissing
            };
            node.pools = self.pools(name, facts);
            node.reservations = self.reservations(name);
        }
        Some(node)
    }

    fn pools(&self, node: &str, facts: &StorageFacts) -> Vec<Pool> {
        let mut pools: Vec<Pool> = facts.pools.iter().map(as_reported).collect();
        for replica in self.replicas_on(node).filter(|replica| !replica.gone) {
            let Some(at) = facts
                .pools
                .iter()
                .position(|pool| pool.name == replica.pool)
            else {
                continue;
            };
            add_what_is_not_there_yet(&mut pools[at], &facts.pools[at], replica);
        }
        pools
    }

    fn reservations(&self, node: &str) -> Vec<Reservation> {
        let mut reservations: Vec<Reservation> = Vec::new();
        for group in self.groups_on(node) {
            for member in group
                .members
                .iter()
                .filter(|member| self.is_reserved(&member.volume, node))
            {
                reservations.push(Reservation {
                    volume: member.volume.clone(),
                    owner: group.owner.clone(),
                    pool: member.pool.clone(),
                    size: member.size,
                    thin: false,
                });
            }
        }
        // Two pods that share a claim both list it; it is one volume and takes its room once, the larger wish counts.
        reservations.sort_by(|a, b| {
            (&a.volume, &a.pool, b.size, &a.owner).cmp(&(&b.volume, &b.pool, a.size, &b.owner))
        });
        reservations.dedup_by(|later, kept| later.volume == kept.volume && later.pool == kept.pool);
        reservations
    }

    fn is_reserved(&self, volume: &Name, node: &str) -> bool {
        let made_here = self
            .replicas_of(volume)
            .any(|replica| &*replica.node == node);
        let copies = || self.replicas_of(volume).filter(|replica| !replica.leaving);
        match self.volumes.get(volume) {
            _ if made_here => false,
            None => true,
            Some(facts) => !facts.leaving && copies().count() < facts.replicas as usize,
        }
    }
}

fn as_reported(facts: &PoolFacts) -> Pool {
    Pool {
        name: facts.name.clone(),
        class: facts.class,
        extent: EXTENT,
        total: facts.total,
        used: facts.used,
        volumes: facts.volumes,
        volume_limit: facts.volume_limit,
        volume_size_limit: facts.volume_size_limit,
        thin: facts.thin,
        health: facts.health,
    }
}

fn add_what_is_not_there_yet(pool: &mut Pool, reported: &PoolFacts, replica: &ReplicaFacts) {
    let wanted = replica.required.max(replica.allocated).round_up(EXTENT);
    let listed = reported.listed.binary_search(&replica.volume).is_ok();
    let more = match (listed, replica.allocated) {
        (false, _) => wanted,
        // Made and counted in the report, only its own size is not written yet.
        (true, Bytes::ZERO) => Bytes::ZERO,
        (true, allocated) => wanted.saturating_sub(allocated.round_up(EXTENT)),
    };
    if !listed {
        pool.volumes += 1;
    }
    match (&mut pool.thin, replica.thin) {
        (Some(thin), true) => thin.promised = thin.promised + more,
        (None, true) => {}
        (_, false) => pool.used = pool.used + more,
    }
}
