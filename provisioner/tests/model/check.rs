//! What must hold, told from the server's objects and from what LVM really holds, not from anybody's index. After each step:
//! room and promises. When everything has come to rest: reservations, waiting pods, what is left.

use std::collections::{BTreeMap, BTreeSet};

use hawser_api::{LocalVolume, LocalVolumeReplica};
use hawser_runtime::index::Key;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use provisioner::{
    decide::{
        claimant::{Candidate, claims_of, is_alive, is_bound, is_waiting, source},
        fence::{Fence, epoch},
        group::places,
        replica::was_made,
        reserve::Claimant,
        volume::wanted_nodes,
    },
    reserve,
};

use crate::{
    network::fence,
    nodes::Health,
    objects::{ClaimInfo, Class, SHOP, in_shop, persistent_nodes, pool_name, selects, size},
    process::Process,
    users::{bound_claim, lacks_claims},
    world::{Rule, World},
};

/// What takes room in a pool, by volume.
type Takers = BTreeMap<String, i64>;

impl World<'_> {
    /// What takes room on a node in a pool: logical volumes, copies that are to be made, reservations that count. A volume counts
    /// once, with the most that it takes. `decided`: also copies that a daemon has refused, or whose data is lost, which keep
    /// their room until somebody deletes them.
    fn takers(&self, node: &str, pool: &str, decided: bool) -> Takers {
        let mut takers = Takers::new();
        let mut take = |volume: &str, bytes: i64| {
            let most = takers.entry(volume.to_owned()).or_insert(0);
            *most = (*most).max(bytes);
        };
        let Some(daemon) = self.daemons.iter().find(|d| d.name == node) else {
            return takers;
        };
        for (volume, (_, bytes)) in daemon.volumes.iter().filter(|(_, (p, _))| p == pool) {
            take(volume, *bytes);
        }
        for replica in self.server.list::<LocalVolumeReplica>() {
            let spec = &replica.spec;
            if spec.node_name != node || spec.pool_name != pool {
                continue;
            }
            let asked_for = self.wants(&spec.volume_name, node)
                || daemon.checked.contains(&replica.uid().unwrap_or_default());
            if !spec.delete && (decided || (asked_for && !was_made(&replica))) {
                take(&spec.volume_name, spec.required_capacity_bytes);
            }
        }
        let fence = Fence::of(fence(&self.server).as_deref());
        for group in self.server.groups.objects.values() {
            if !fence.counts(epoch(group)) {
                continue;
            }
            for member in group.spec.volumes.iter().filter(|m| m.pool_name == pool) {
                let here = places(group, member).iter().any(|n| n == node);
                if here && self.is_reserved(&member.local_volume, node) {
                    take(&member.local_volume, member.required_capacity_bytes);
                }
            }
        }
        takers
    }

    /// Whether the volume exists, and is to have a copy there.
    fn wants(&self, volume: &str, node: &str) -> bool {
        let volume = self.server.named::<LocalVolume>(volume);
        volume.is_some_and(|v| !v.spec.delete && wanted_nodes(&v).iter().any(|n| n == node))
    }

    /// Whether a reservation there still keeps room: the volume does not exist, or is to have a copy there.
    fn is_reserved(&self, volume: &str, node: &str) -> bool {
        self.server.named::<LocalVolume>(volume).is_none() || self.wants(volume, node)
    }

    /// What must hold after each step.
    pub(crate) fn check(&mut self) {
        let now = (
            self.server.version,
            self.daemons.iter().map(|d| d.done).sum(),
        );
        if self.violation.is_some() || self.checked == now {
            return;
        }
        self.checked = now;
        self.check_room();
        self.check_promises();
    }

    fn check_room(&mut self) {
        for at in 0..self.daemons.len() {
            if self.daemons[at].health == Health::Lost {
                continue;
            }
            let (node, pools) = (
                self.daemons[at].name.clone(),
                self.daemons[at].pools.clone(),
            );
            for (pool, total) in pools {
                let takers = self.takers(&node, &pool, false);
                let taken: i64 = takers.values().sum();
                if taken > total {
                    let what = format!("{pool} of {node} has {total} bytes, taken are {takers:?}");
                    self.violate(Rule::NeverOvercommitted, what);
                    return;
                }
            }
        }
    }

    /// A bound claim has its volume, complete; copies are on different nodes.
    fn check_promises(&mut self) {
        let mut wrong = None;
        for persistent in self.server.persistent.objects.values() {
            let bound = bound_claim(&self.server, persistent);
            let Some(claim) = bound.filter(|c| c.metadata.deletion_timestamp.is_none()) else {
                continue;
            };
            let name = persistent.name_any();
            if self.ruined.contains(&name) {
                continue;
            }
            let Some(volume) = self.server.named::<LocalVolume>(&name) else {
                wrong = Some(format!("{name} has a persistent volume and does not exist"));
                break;
            };
            let nodes = wanted_nodes(&volume);
            let different: BTreeSet<&String> = nodes.iter().collect();
            let copies = Class::of(&claim).map_or(1, Class::copies);
            if different.len() != usize::from(copies) || nodes != persistent_nodes(persistent) {
                wrong = Some(format!("{name} is on {nodes:?}"));
            }
            let missing = nodes.iter().find(|node| {
                let daemon = self.daemons.iter().find(|d| d.name == **node);
                let made = daemon.and_then(|d| d.volumes.get(&name));
                made.is_none_or(|(_, bytes)| *bytes < size(&claim))
            });
            if let Some(node) = missing {
                wrong = Some(format!("{name} is promised and not on node {node}"));
            }
            if volume.spec.delete {
                wrong = Some(format!("{name} is in use and being deleted"));
            }
        }
        if let Some(what) = wrong {
            self.violate(Rule::PromisesKept, what);
        }
    }

    /// Extender and provisioner decide the same, if both know everything and nobody is in the middle of something.
    pub(crate) fn compare(&mut self) -> bool {
        let Some(at) = self.leader() else {
            return false;
        };
        let process = &self.processes[at];
        let calm = process.serves
            && process.is_idle()
            && process.is_settled()
            && process.is_current(&self.server)
            && self.extender.is_current(&self.server)
            && self.network.numbers(|_| true).is_empty();
        if !calm {
            return false;
        }
        let mut found = Vec::new();
        let mut compared = 0;
        for pod in self.server.pods.objects.values() {
            if !is_waiting(pod) || lacks_claims(&self.server, pod) {
                continue;
            }
            let Some(request) = self.extender.request(pod) else {
                continue;
            };
            let Some(claim) = self.first_new(pod, &request) else {
                continue;
            };
            let candidate = self.candidate(pod);
            for node in self.server.nodes.objects.values() {
                let node = node.name_any();
                let passes = !self
                    .extender
                    .filter(pod, std::slice::from_ref(&node))
                    .is_empty();
                let verdict = would_create(process, &claim, &candidate, &node);
                compared += 1;
                match verdict {
                    // It may have been chosen for another pod meanwhile: that binds the extender only.
                    Ok(()) if !passes && self.extender.passes_without_choices(pod, &node) => {}
                    Ok(()) if !passes => found.push(format!(
                        "{} may have its volumes on {node} for CreateVolume, and the extender refuses the node",
                        pod.name_any()
                    )),
                    Err(why) if passes => found.push(format!(
                        "the extender sends {} to {node}, and CreateVolume says: {why}",
                        pod.name_any()
                    )),
                    Ok(()) | Err(_) => {}
                }
            }
        }
        *self.counts.events.entry("verdicts compared").or_insert(0) += compared;
        if let Some(what) = found.into_iter().next() {
            self.violate(Rule::Agreement, what);
        }
        true
    }

    /// The pod with its claims, as a call would see it.
    fn candidate(&self, pod: &Pod) -> Candidate {
        let get = |name: &str| self.server.get::<PersistentVolumeClaim>(&in_shop(name));
        let claims: Vec<PersistentVolumeClaim> = claims_of(pod)
            .filter_map(|name| get(&name).map(|c| (*c).clone()))
            .collect();
        let sources = claims.iter().filter_map(source).filter_map(get);
        Candidate {
            pod: pod.clone(),
            sources: sources.map(|c| (*c).clone()).collect(),
            claims,
        }
    }

    /// The pod's first claim that has no volume.
    fn first_new(&self, pod: &Pod, request: &hawser_placement::Request) -> Option<ClaimInfo> {
        let names = claims_of(pod).filter_map(|name| {
            let claim = self.server.get::<PersistentVolumeClaim>(&in_shop(&name))?;
            ClaimInfo::of(&claim)
        });
        let mut news = names.filter(|claim| {
            let volume = claim.volume();
            request.new_volumes().any(|(v, _)| *v.name == *volume)
        });
        news.next()
    }

    /// What must hold once everything has come to rest.
    pub(crate) fn check_rest(&mut self) {
        self.check();
        self.check_reservations();
        self.check_waiting();
        self.compare();
    }

    fn check_reservations(&mut self) {
        let mut wrong = None;
        for group in self.server.groups.objects.values() {
            for member in &group.spec.volumes {
                if self
                    .server
                    .named::<LocalVolume>(&member.local_volume)
                    .is_some()
                {
                    continue;
                }
                let of_pod = group.spec.pods.first().map(|name| {
                    let pod = self.server.get::<Pod>(&in_shop(name));
                    let same = |pod: &Pod| {
                        pod.uid()
                            .is_some_and(|uid| group.name_any().starts_with(&uid))
                    };
                    pod.is_some_and(|pod| same(&pod) && is_alive(&pod))
                });
                let claim = self
                    .server
                    .get::<PersistentVolumeClaim>(&in_shop(&member.pvc));
                let of_claim = claim.is_some_and(|claim| {
                    !is_bound(&claim)
                        && format!("pvc-{}", claim.uid().unwrap_or_default()) == member.local_volume
                });
                if !of_pod.unwrap_or(true) || !of_claim {
                    wrong = Some(format!(
                        "{} is reserved by group {} for pods {:?}",
                        member.local_volume,
                        group.name_any(),
                        group.spec.pods
                    ));
                }
            }
        }
        if let Some(what) = wrong {
            self.violate(Rule::EndsWithPod, what);
        }
    }

    fn check_waiting(&mut self) {
        let mut wrong = None;
        for pod in self.server.pods.objects.values() {
            if !is_waiting(pod) || lacks_claims(&self.server, pod) {
                continue;
            }
            let nodes = self.server.nodes.objects.values();
            let fit = nodes
                .filter(|node| selects(pod, node))
                .find(|node| self.fits(pod, &node.name_any()));
            if let Some(node) = fit {
                wrong = Some(format!(
                    "pod {} waits, and would fit on {}",
                    pod.name_any(),
                    node.name_any()
                ));
            }
        }
        for claim in self.server.claims.objects.values() {
            let leaving = claim.metadata.deletion_timestamp.is_some();
            let Some(info) = ClaimInfo::of(claim).filter(|c| c.class == Class::Now) else {
                continue;
            };
            if is_bound(claim) || leaving {
                continue;
            }
            let free = self.free(&BTreeSet::from([info.volume()]));
            let mut nodes = self.server.nodes.objects.keys();
            let wanted = [(info.class, info.bytes)];
            if let Some(node) = nodes.find(|n| place(&wanted, &n.name, &[], &mut free.clone())) {
                wrong = Some(format!(
                    "claim {} waits, and would fit on {node}",
                    info.name
                ));
            }
        }
        if let Some(what) = wrong {
            self.violate(Rule::NobodyWaitsInVain, what);
        }
    }

    /// Whether the pod's volumes are, or would fit, on the node: by trying everything.
    fn fits(&self, pod: &Pod, node: &str) -> bool {
        let mut new = Vec::new();
        let mut owned = BTreeSet::new();
        for name in claims_of(pod) {
            let claim = self.server.get::<PersistentVolumeClaim>(&in_shop(&name));
            let Some(info) = claim.as_ref().and_then(|c| ClaimInfo::of(c)) else {
                return false;
            };
            let Some(claim) = claim else { return false };
            let persistent = self.server.named::<PersistentVolume>(&info.volume());
            let volume = self.server.named::<LocalVolume>(&info.volume());
            match (is_bound(&claim), persistent, volume) {
                (true, Some(persistent), _) => {
                    if !persistent_nodes(&persistent).iter().any(|n| n == node) {
                        return false;
                    }
                }
                (true, None, _) => return false,
                // It is being made there, and the pod can only follow it.
                (false, _, Some(volume)) if self.are_there(&wanted_nodes(&volume)) => {
                    if !wanted_nodes(&volume).iter().any(|n| n == node) {
                        return false;
                    }
                }
                // Another party's turn: it is bound before the pod is looked at.
                (false, ..) if info.class == Class::Now => return false,
                (false, ..) => {
                    if let Some(from) = source(&claim)
                        && !self.is_source_on(from, node)
                    {
                        return false;
                    }
                    owned.insert(info.volume());
                    new.push((info.class, info.bytes));
                }
            }
        }
        let nodes = self.server.nodes.objects.values();
        let further = nodes
            .filter(|node| selects(pod, node))
            .map(|n| n.name_any());
        place(
            &new,
            node,
            &further.collect::<Vec<_>>(),
            &mut self.free(&owned),
        )
    }

    fn are_there(&self, nodes: &[String]) -> bool {
        let mut nodes = nodes.iter();
        nodes.all(|node| self.server.named::<Node>(node).is_some())
    }

    /// What is free in each pool of each node for whom these volumes are.
    fn free(&self, owned: &BTreeSet<String>) -> BTreeMap<(String, String), i64> {
        let mut free = BTreeMap::new();
        for daemon in self.daemons.iter().filter(|d| d.health != Health::Lost) {
            for (pool, total) in &daemon.pools {
                let takers = self.takers(&daemon.name, pool, true);
                let others = takers.iter().filter(|(volume, _)| !owned.contains(*volume));
                let taken: i64 = others.map(|(_, bytes)| bytes).sum();
                free.insert((daemon.name.clone(), pool.clone()), total - taken);
            }
        }
        free
    }

    /// Whether a claim that is to be cloned has its data there.
    fn is_source_on(&self, claim: &str, node: &str) -> bool {
        let claim = self
            .server
            .get::<PersistentVolumeClaim>(&Key::namespaced(SHOP, claim));
        let volume = claim.and_then(|c| ClaimInfo::of(&c)).map(|c| c.volume());
        let Some(volume) = volume else { return false };
        let object = self.server.named::<LocalVolume>(&volume);
        let bound = self.server.named::<PersistentVolume>(&volume).is_some();
        bound && object.is_some_and(|v| wanted_nodes(&v).iter().any(|n| n == node))
    }

    /// What must hold once everything was deleted and has come to rest.
    pub(crate) fn check_nothing_left(&mut self) {
        let mut left = Vec::new();
        left.extend(crate::world::names::<LocalVolume>(&self.server));
        left.extend(crate::world::names::<LocalVolumeReplica>(&self.server));
        left.extend(crate::world::names::<PersistentVolume>(&self.server));
        left.extend(crate::world::names::<PersistentVolumeClaim>(&self.server));
        left.extend(crate::world::names::<Pod>(&self.server));
        for group in self.server.groups.objects.values() {
            if !group.spec.volumes.is_empty() {
                left.push(format!("group {}", group.name_any()));
            }
        }
        for daemon in &self.daemons {
            let here = daemon.volumes.keys();
            left.extend(here.map(|volume| format!("{volume} on {}", daemon.name)));
        }
        if !left.is_empty() {
            let what = format!("everything was deleted, and left are {left:?}");
            self.violate(Rule::NothingLeft, what);
        }
    }
}

/// What `CreateVolume` would say, if the scheduler had chosen that node for that pod.
fn would_create(
    process: &Process,
    claim: &ClaimInfo,
    candidate: &Candidate,
    node: &str,
) -> Result<(), String> {
    let claim = ClaimInfo {
        selected: Some(node.to_owned()),
        ..claim.clone()
    };
    let wish = Process::ask(&claim, &[]).wish();
    let request = reserve::joint_request(&process.state, candidate);
    let pod = &candidate.pod;
    let claimant = Claimant {
        pod: pod.uid().map(|uid| (uid, pod.name_any())),
        request: request.map_err(|why| why.to_string())?.unwrap_or_default(),
    };
    let writes = reserve::decide(&process.state, &wish, &[claimant]);
    writes.map(drop).map_err(|why| why.to_string())
}

/// Whether all of these fit: the first copy of each on `node`, further ones on others of `further`. Tries everything.
fn place(
    new: &[(Class, i64)],
    node: &str,
    further: &[String],
    free: &mut BTreeMap<(String, String), i64>,
) -> bool {
    let Some(((class, bytes), rest)) = new.split_first() else {
        return true;
    };
    let pool = pool_name(class.pool());
    if !take(free, node, &pool, *bytes) {
        return false;
    }
    let found = if class.copies() == 1 {
        place(rest, node, further, free)
    } else {
        further.iter().filter(|other| *other != node).any(|other| {
            let taken = take(free, other, &pool, *bytes);
            let found = taken && place(rest, node, further, free);
            if taken {
                give(free, other, &pool, *bytes);
            }
            found
        })
    };
    give(free, node, &pool, *bytes);
    found
}

fn take(free: &mut BTreeMap<(String, String), i64>, node: &str, pool: &str, bytes: i64) -> bool {
    match free.get_mut(&(node.to_owned(), pool.to_owned())) {
        Some(left) if *left >= bytes => {
            *left -= bytes;
            true
        }
        _ => false,
    }
}

fn give(free: &mut BTreeMap<(String, String), i64>, node: &str, pool: &str, bytes: i64) {
    if let Some(left) = free.get_mut(&(node.to_owned(), pool.to_owned())) {
        *left += bytes;
    }
}
