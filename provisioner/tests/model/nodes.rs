//! The nodes: what LVM really holds, and what each daemon does about the replicas of its node. The daemon's own rules are
//! those of `node-daemon`: a copy is made only after the server has said that its volume exists and wants it.

use std::collections::{BTreeMap, BTreeSet};

use hawser_api::{
    Condition, ConditionStatus, LocalStorageNode, LocalVolume, LocalVolumeReplica, NodeState,
    PoolClass, PoolStatus, ReplicaState, names::finalizers,
};
use hawser_runtime::index::Key;
use kube::ResourceExt;
use provisioner::decide::volume::wanted_nodes;

use crate::{
    breaks::Break,
    objects::{a_node, a_storage_node, pool_name},
    server::{Server, View},
};

/// What a node is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Up,
    /// Its daemon does nothing.
    Silent,
    /// Can't make anything.
    Broken,
    /// Kubernetes does not have it any more.
    Lost,
}

pub(crate) struct Daemon {
    pub(crate) name: String,
    special: bool,
    pub(crate) health: Health,
    pub(crate) view: View<LocalVolumeReplica>,
    /// Size by pool.
    pub(crate) pools: BTreeMap<String, i64>,
    /// Pool and size by volume.
    pub(crate) volumes: BTreeMap<String, (String, i64)>,
    /// Uids of replicas whose volume was seen to want them.
    pub(crate) checked: BTreeSet<String>,
    /// Counts what was done.
    pub(crate) done: u64,
}

/// One thing that a daemon can do now.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Check(String),
    Make(String),
    Tell(String),
    Wipe(String),
    Release(String),
    Report,
}

impl Daemon {
    pub(crate) fn new(name: &str, special: bool, pools: &[(&str, i64)]) -> Self {
        let pools = pools.iter().map(|(class, size)| (pool_name(class), *size));
        Self {
            name: name.to_owned(),
            special,
            health: Health::Lost,
            view: View::default(),
            pools: pools.collect(),
            volumes: BTreeMap::new(),
            checked: BTreeSet::new(),
            done: 0,
        }
    }

    /// The node joins the cluster.
    pub(crate) fn join(&mut self, server: &mut Server) {
        self.health = Health::Up;
        let created = server.create(a_node(&self.name, self.special));
        created.expect("nodes join when they are not there");
        let created = server.create(a_storage_node(&self.name));
        created.expect("nodes join when they are not there");
        self.report(server);
    }

    /// The machine is gone for good, its disks with it.
    pub(crate) fn leave(&mut self, server: &mut Server) {
        self.health = Health::Lost;
        self.volumes.clear();
        self.checked.clear();
        server.delete::<k8s_openapi::api::core::v1::Node>(&Key::cluster(self.name.clone()));
        server.delete::<LocalStorageNode>(&Key::cluster(self.name.clone()));
    }

    pub(crate) fn used(&self, pool: &str) -> i64 {
        let here = self.volumes.values().filter(|(p, _)| p == pool);
        here.map(|(_, size)| size).sum()
    }

    /// What can be done now, in a fixed order.
    pub(crate) fn acts(&self, server: &Server) -> Vec<Act> {
        if matches!(self.health, Health::Silent | Health::Lost) {
            return Vec::new();
        }
        let mut acts = Vec::new();
        let here = self.view.objects.values();
        for replica in here.filter(|r| r.spec.node_name == self.name) {
            let (name, volume) = (replica.name_any(), &replica.spec.volume_name);
            let made = self.volumes.get(volume);
            let status = replica.status.clone().unwrap_or_default();
            let uid = replica.uid().unwrap_or_default();
            match (replica.spec.delete, made) {
                (true, Some(_)) => acts.push(Act::Wipe(name)),
                (true, None) if !replica.finalizers().is_empty() => acts.push(Act::Release(name)),
                (true, None) => {}
                (false, Some((_, size))) => {
                    if status.allocated_capacity_bytes != *size {
                        acts.push(Act::Tell(name));
                    }
                }
                // The data is gone, and an empty volume is not put in its place.
                (false, None) if status.allocated_capacity_bytes > 0 => {}
                (false, None) if self.checked.contains(&uid) => acts.push(Act::Make(name)),
                (false, None) => acts.push(Act::Check(name)),
            }
        }
        let key = Key::cluster(self.name.clone());
        let shown = server.get::<LocalStorageNode>(&key);
        if shown.is_some_and(|node| node.status.as_ref() != Some(&self.status())) {
            acts.push(Act::Report);
        }
        acts
    }

    /// Does it. An error is a pool that was asked for more than it has.
    pub(crate) fn act(
        &mut self,
        act: &Act,
        server: &mut Server,
        broken: Option<Break>,
    ) -> Result<(), String> {
        self.done += 1;
        match act {
            Act::Check(name) => self.check(name, server, broken),
            Act::Make(name) => return self.make(name, server),
            Act::Tell(name) => self.tell(name, server),
            Act::Wipe(name) => {
                let volume = self.seen(name).map(|r| r.spec.volume_name.clone());
                volume.map(|volume| self.volumes.remove(&volume));
            }
            Act::Release(name) => {
                let uid = self.seen(name).and_then(ResourceExt::uid);
                server.edit::<LocalVolumeReplica>(&Key::cluster(name.clone()), |r| {
                    if r.uid() == uid && r.spec.delete {
                        r.finalizers_mut().retain(|f| f != finalizers::REPLICA);
                    }
                });
            }
            Act::Report => self.report(server),
        }
        Ok(())
    }

    fn seen(&self, name: &str) -> Option<&LocalVolumeReplica> {
        let seen = self.view.get(&Key::cluster(name));
        seen.map(|replica| &**replica)
    }

    /// Asks whether the volume exists and wants a copy here.
    fn check(&mut self, name: &str, server: &mut Server, broken: Option<Break>) {
        let Some(seen) = self.seen(name) else { return };
        let uid = seen.uid().unwrap_or_default();
        let volume = server.named::<LocalVolume>(&seen.spec.volume_name);
        let wanted = |v: &LocalVolume| !v.spec.delete && wanted_nodes(v).contains(&self.name);
        let unasked = broken == Some(Break::CopiesUnasked);
        if unasked || volume.is_some_and(|v| wanted(&v)) {
            self.checked.insert(uid);
        } else {
            fail(
                server,
                name,
                "NotWanted",
                "its volume does not want a copy here",
            );
        }
    }

    fn make(&mut self, name: &str, server: &mut Server) -> Result<(), String> {
        let Some(seen) = self.seen(name).cloned() else {
            return Ok(());
        };
        let (volume, pool) = (seen.spec.volume_name, seen.spec.pool_name);
        if self.health == Health::Broken {
            fail(server, name, "NoPool", "the disk is broken");
            return Ok(());
        }
        let wanted = seen.spec.required_capacity_bytes;
        let free = self.pools.get(&pool).copied().unwrap_or(0) - self.used(&pool);
        if wanted > free {
            fail(server, name, "NoSpace", "the pool is full");
            return Err(format!(
                "node {}: {volume} of {wanted} bytes does not fit in {pool}, {free} free",
                self.name
            ));
        }
        self.volumes.insert(volume, (pool, wanted));
        Ok(())
    }

    fn tell(&mut self, name: &str, server: &mut Server) {
        let Some(seen) = self.seen(name).cloned() else {
            return;
        };
        let size = self
            .volumes
            .get(&seen.spec.volume_name)
            .map(|(_, size)| *size);
        server.edit::<LocalVolumeReplica>(&Key::cluster(name), |r| {
            if r.uid() == seen.metadata.uid {
                let status = r.status.get_or_insert_default();
                status.allocated_capacity_bytes = size.unwrap_or(0);
                status.state = ReplicaState::Ready;
                status.synced = true;
                status.conditions.clear();
            }
        });
    }

    fn report(&self, server: &mut Server) {
        let status = self.status();
        server.edit::<LocalStorageNode>(&Key::cluster(self.name.clone()), |n| {
            n.status = Some(status);
        });
    }

    fn status(&self) -> hawser_api::LocalStorageNodeStatus {
        let pools = self.pools.iter().map(|(pool, total)| {
            let here = self.volumes.iter().filter(|(_, (p, _))| p == pool);
            let names: Vec<String> = here.map(|(volume, _)| volume.clone()).collect();
            let used = self.used(pool);
            let count = i64::try_from(names.len()).unwrap_or(0);
            let class = if pool.ends_with("SSD") {
                PoolClass::SSD
            } else {
                PoolClass::HDD
            };
            let status = PoolStatus {
                class,
                name: pool.clone(),
                total_capacity_bytes: *total,
                used_capacity_bytes: used,
                free_capacity_bytes: total - used,
                volume_capacity_bytes_limit: *total,
                total_volume_count: 1000,
                used_volume_count: count,
                free_volume_count: 1000 - count,
                volumes: names,
                ..PoolStatus::default()
            };
            (pool.clone(), status)
        });
        hawser_api::LocalStorageNodeStatus {
            state: NodeState::Ready,
            pools: pools.collect(),
            ..Default::default()
        }
    }
}

/// Says that a copy can't be made.
fn fail(server: &mut Server, name: &str, reason: &str, message: &str) {
    server.edit::<LocalVolumeReplica>(&Key::cluster(name), |r| {
        let status = r.status.get_or_insert_default();
        status.state = ReplicaState::NotReady;
        status.conditions = vec![Condition {
            type_: "Create".to_owned(),
            status: ConditionStatus::False,
            reason: reason.to_owned(),
            message: message.to_owned(),
            ..Condition::default()
        }];
    });
}
