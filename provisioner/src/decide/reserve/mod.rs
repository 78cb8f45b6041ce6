//! Where a volume goes, and what is written so that it stays so: from what is known to a list of writes, or to a refusal with
//! its numbers. Pure; the snapshot is asked by `hawser_placement`, which the scheduler's extender asks too.
//!
//! Room is taken by a group: one object, so one atomic write, reserves for all volumes of the pod. A volume that is made later
//! finds its reservation there and needs no new decision.

use std::sync::Arc;

use hawser_api::{
    Accessibility, LocalVolume, LocalVolumeGroup, LocalVolumeSpec, VolumeConfig,
    VolumeConfigReplica, VolumeGroupMember,
    names::{annotations, finalizers, pools},
    parameters::{PlacementStrategy, VolumeClass},
};
use hawser_placement::{
    Bytes, Candidates, Cluster, Name, NewVolume, Placement, PoolClass, Request, Strategy, Volume,
    VolumeKind, VolumePlan,
};
use kube::{ResourceExt, api::ObjectMeta};

use super::{fence, group, name, size};

/// What one `CreateVolume` asks, as far as its place is concerned.
#[derive(Clone, Debug)]
pub struct Wish {
    pub volume: String,
    /// The name that was suggested for it.
    pub suggested: String,
    /// Namespace and name.
    pub claim: Option<(String, String)>,
    pub class: VolumeClass,
    /// Bytes, in whole extents.
    pub size: i64,
    /// The only nodes allowed for the first copy, best first; `None`: any.
    pub allowed: Option<Vec<String>>,
}

/// For whom a place is looked for.
#[derive(Clone, Debug, Default)]
pub struct Claimant {
    /// Uid and name; `None`: for the claim by itself.
    pub pod: Option<(String, String)>,
    /// All of the pod's volumes.
    pub request: Request,
}

/// What is known.
pub struct Facts<'a> {
    /// The epoch of who decides.
    pub epoch: &'a str,
    pub cluster: &'a Cluster,
    /// The likeliest first; the first whose volumes fit together is served.
    pub claimants: &'a [Claimant],
    /// Every group that lists the volume or another one of the claimants', or has the name of a claimant's group.
    pub groups: &'a [Arc<LocalVolumeGroup>],
    /// The volume's object, if there is one.
    pub volume: &'a dyn Fn(&str) -> Option<Arc<LocalVolume>>,
    /// A node's address for replication.
    pub address: &'a dyn Fn(&str) -> String,
}

/// One write. In order; each relies on those before.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    CreateGroup(Box<LocalVolumeGroup>),
    ChangeGroup {
        seen: Arc<LocalVolumeGroup>,
        wanted: Box<LocalVolumeGroup>,
    },
    /// Nothing is left in it.
    RemoveGroup(Arc<LocalVolumeGroup>),
    /// Makes a reservation the volume's own.
    CreateVolume(Box<LocalVolume>),
}

/// Why there is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    #[error("volume {volume:?} ({}) can't be placed: {why}", size::show(*size))]
    Refused {
        volume: String,
        size: i64,
        why: hawser_placement::Refusal,
    },
    #[error("parameter \"poolClass\" is {0:?}; it must be HDD, SSD or NVMe")]
    Class(hawser_api::PoolClass),
    #[error(
        "spec.poolName is {0:?}; it must be {prefix}HDD, {prefix}SSD or {prefix}NVMe",
        prefix = pools::VG_PREFIX
    )]
    PoolName(String),
    #[error("the copies of volume {volume:?} would be in pools of different names: {pools}")]
    Pools { volume: String, pools: String },
    #[error("placement has no plan for volume {0:?}")]
    NoPlan(String),
    #[error("all groups of {0} are being deleted; try again")]
    NoGroup(String),
}

/// Decides.
pub fn decide(wish: &Wish, facts: &Facts<'_>) -> Result<Vec<Write>, NoPlace> {
    for held in facts.groups {
        if let Some(member) = serves(held, wish, facts.epoch) {
            let places = group::places(held, member).to_vec();
            let volume = build_volume(wish, &held.name_any(), places, &member.pool_name, facts);
            return Ok(vec![Write::CreateVolume(Box::new(volume))]);
        }
    }
    let alone = [Claimant::default()];
    let claimants = if facts.claimants.is_empty() {
        &alone
    } else {
        facts.claimants
    };
    let mut refused = None;
    for claimant in claimants {
        match reserve(wish, claimant, facts) {
            Ok(writes) => return Ok(writes),
            Err(why) => refused = refused.or(Some(why)),
        }
    }
    Err(refused.unwrap_or_else(|| NoPlace::NoPlan(wish.volume.clone())))
}

/// The member that reserves what is asked for, where it is asked for.
#[must_use]
pub fn serves<'a>(
    held: &'a LocalVolumeGroup,
    wish: &Wish,
    epoch: &str,
) -> Option<&'a VolumeGroupMember> {
    let member = group::member(held, &wish.volume)?;
    let places = group::places(held, member);
    let first = places.first()?;
    let here = wish.allowed.as_ref().is_none_or(|all| all.contains(first));
    let fits = member.required_capacity_bytes >= wish.size
        && pools::class_of(&member.pool_name).as_ref() == Some(&wish.class.pool_class)
        && places.len() == usize::from(copies(&wish.class));
    let holds = fence::epoch(held) == epoch && held.metadata.deletion_timestamp.is_none();
    (here && fits && holds).then_some(member)
}

fn copies(class: &VolumeClass) -> u8 {
    u8::try_from(class.replicas).unwrap_or(1).max(1)
}

/// Places all of the claimant's volumes.
fn reserve(wish: &Wish, claimant: &Claimant, facts: &Facts<'_>) -> Result<Vec<Write>, NoPlace> {
    let request = request(wish, &claimant.request)?;
    let placement = choose(wish, &request, claimant.pod.is_some(), facts.cluster)?;
    let members: Vec<VolumeGroupMember> = placement
        .plan
        .volumes
        .iter()
        .map(|planned| reservation(planned, &request))
        .collect::<Result<_, _>>()?;
    let own = members
        .iter()
        .find(|m| m.local_volume == wish.volume)
        .ok_or_else(|| NoPlace::NoPlan(wish.volume.clone()))?;
    let (places, pool) = (own.nodes.clone(), own.pool_name.clone());
    let owner = Owner {
        base: claimant.pod.as_ref().map_or(&wish.volume, |(uid, _)| uid),
        namespace: wish.claim.as_ref().map_or("", |(namespace, _)| namespace),
        pod: claimant.pod.as_ref().map(|(_, name)| name.as_str()),
    };
    let (target, write) = target(owner, members.clone(), facts)?;
    let mut writes: Vec<Write> = write.into_iter().collect();
    writes.extend(releases(&target, &members, facts));
    let volume = build_volume(wish, &target, places, &pool, facts);
    writes.push(Write::CreateVolume(Box::new(volume)));
    Ok(writes)
}

/// What placement is asked: all of the pod's volumes; the one that is being made as its call says.
fn request(wish: &Wish, joint: &Request) -> Result<Request, NoPlace> {
    let mut new = new_volume(&wish.class, wish.size)?;
    let claim = match &wish.claim {
        Some((namespace, name)) => format!("{namespace}/{name}"),
        None => wish.volume.clone(),
    };
    let mut request = joint.clone();
    let place = request.volumes.iter().position(|v| *v.name == *wish.volume);
    if let Some(place) = place
        && let VolumeKind::New(known) = request.volumes.remove(place).kind
    {
        // What the call does not say.
        new.anywhere = known.anywhere;
        new.source = known.source;
    }
    request.volumes.push(Volume {
        name: wish.volume.as_str().into(),
        claim: claim.into(),
        kind: VolumeKind::New(new),
    });
    Ok(request)
}

fn new_volume(class: &VolumeClass, size: i64) -> Result<NewVolume, NoPlace> {
    let pool = pool_class(&class.pool_class)?;
    Ok(NewVolume {
        thin: class.thin,
        copies: copies(class),
        // Where no scheduler has chosen, the class says which node is best, as it does for the scheduler's extender.
        strategy: class.placement.map(|placement| match placement {
            PlacementStrategy::Spread => Strategy::Spread,
            PlacementStrategy::BinPack => Strategy::BinPack,
        }),
        ..NewVolume::new(pool, bytes(size))
    })
}

fn bytes(size: i64) -> Bytes {
    Bytes(u64::try_from(size).unwrap_or(0))
}

fn pool_class(class: &hawser_api::PoolClass) -> Result<PoolClass, NoPlace> {
    match class {
        hawser_api::PoolClass::HDD => Ok(PoolClass::Hdd),
        hawser_api::PoolClass::SSD => Ok(PoolClass::Ssd),
        hawser_api::PoolClass::NVMe => Ok(PoolClass::Nvme),
        hawser_api::PoolClass::Unset | hawser_api::PoolClass::Other(_) => {
            Err(NoPlace::Class(class.clone()))
        }
    }
}

/// A single allowed node was chosen by a scheduler, which has checked what the pod says about nodes.
fn choose(
    wish: &Wish,
    request: &Request,
    scheduled: bool,
    cluster: &Cluster,
) -> Result<Placement, NoPlace> {
    let names: Vec<Name>;
    let candidates = match wish.allowed.as_deref() {
        Some([node]) if scheduled => Candidates::Selected(node),
        Some(nodes) => {
            names = nodes.iter().map(|n| n.as_str().into()).collect();
            Candidates::Among(&names)
        }
        None => Candidates::Any,
    };
    hawser_placement::choose(cluster, request, candidates).map_err(|why| NoPlace::Refused {
        volume: wish.volume.clone(),
        size: wish.size,
        why,
    })
}

/// The entry of a group that keeps room for a planned volume.
fn reservation(planned: &VolumePlan, request: &Request) -> Result<VolumeGroupMember, NoPlace> {
    let broken = || NoPlace::NoPlan(planned.volume.to_string());
    let (_, new) = request
        .new_volumes()
        .find(|(volume, _)| volume.name == planned.volume)
        .ok_or_else(broken)?;
    let pool = planned.copies.first().ok_or_else(broken)?.pool.clone();
    // The API names one pool for all copies of a volume.
    if planned.copies.iter().any(|copy| copy.pool != pool) {
        let all: Vec<&str> = planned.copies.iter().map(|c| &*c.pool).collect();
        return Err(NoPlace::Pools {
            volume: planned.volume.to_string(),
            pools: all.join(", "),
        });
    }
    let claim = planned.claim.split_once('/').map(|(_, name)| name);
    let bytes = i64::try_from(new.size.0).unwrap_or(i64::MAX);
    Ok(VolumeGroupMember {
        local_volume: planned.volume.to_string(),
        nodes: planned.copies.iter().map(|c| c.node.to_string()).collect(),
        pool_name: pool.to_string(),
        pvc: claim.unwrap_or_default().to_owned(),
        required_capacity_bytes: size::round_up(bytes).ok_or_else(broken)?,
    })
}

/// Whose reservations a group is for.
#[derive(Clone, Copy)]
struct Owner<'a> {
    /// The uid of the pod, or the name of the volume if there is no pod.
    base: &'a str,
    namespace: &'a str,
    pod: Option<&'a str>,
}

/// The group that takes the reservations, and the write that makes it so; no write if it says so already.
fn target(
    owner: Owner<'_>,
    planned: Vec<VolumeGroupMember>,
    facts: &Facts<'_>,
) -> Result<(String, Option<Write>), NoPlace> {
    let node = planned.iter().flat_map(|m| &m.nodes).next();
    let node = node.cloned().unwrap_or_default();
    for name in group_names(owner.base, &node) {
        let Some(held) = facts.groups.iter().find(|g| g.name_any() == name) else {
            let mut new = group::build(&name, owner.namespace, owner.pod, planned);
            fence::stamp(&mut new, facts.epoch);
            return Ok((name, Some(Write::CreateGroup(Box::new(new)))));
        };
        if let Some(write) = joined(held, &node, &planned, facts) {
            return Ok((name, write));
        }
    }
    Err(NoPlace::NoGroup(owner.base.to_owned()))
}

/// Names for the groups of one pod: usually there is one. A second one is made if the first has volumes on another node, or goes.
#[must_use]
pub fn group_names(base: &str, node: &str) -> [String; 4] {
    [
        base.to_owned(),
        name::replica_name(base, node),
        name::replica_name(base, &format!("{node}\n2")),
        name::replica_name(base, &format!("{node}\n3")),
    ]
}

/// The pod's group with these reservations in it; `None` if it is not for volumes on that node.
#[expect(
    clippy::option_option,
    reason = "three answers: not this one, as it is, with this write"
)]
fn joined(
    held: &Arc<LocalVolumeGroup>,
    node: &str,
    planned: &[VolumeGroupMember],
    facts: &Facts<'_>,
) -> Option<Option<Write>> {
    if held.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let consumed = |m: &VolumeGroupMember| {
        group::is_consumed(held, (facts.volume)(&m.local_volume).as_deref())
    };
    let is_planned =
        |m: &VolumeGroupMember| planned.iter().any(|p| p.local_volume == m.local_volume);
    let mut kept = Vec::new();
    for member in group::holding(held, facts.epoch, consumed) {
        let places = group::places(held, member);
        let here = places.first().is_some_and(|first| first == node);
        if consumed(member) && !here {
            return None;
        }
        if here && !is_planned(member) {
            kept.push(VolumeGroupMember {
                nodes: places.to_vec(),
                ..member.clone()
            });
        }
    }
    let mut wanted = (**held).clone();
    let (accessibility, volumes) =
        group::arrange(kept.into_iter().chain(planned.to_vec()).collect());
    wanted.spec.volumes = volumes;
    if group::nodes(held) != accessibility.nodes {
        wanted.spec.accessibility = Some(accessibility);
    }
    fence::stamp(&mut wanted, facts.epoch);
    let write = (wanted != **held).then(|| Write::ChangeGroup {
        seen: held.clone(),
        wanted: Box::new(wanted),
    });
    Some(write)
}

/// Takes the planned volumes out of other groups that keep room for them elsewhere. Where it is the same room, both keep it: the
/// volume is then one that two pods share, and its reservation lasts as long as either of them.
fn releases(target: &str, planned: &[VolumeGroupMember], facts: &Facts<'_>) -> Vec<Write> {
    let mut writes = Vec::new();
    for held in facts.groups.iter().filter(|g| g.name_any() != target) {
        let consumed = |m: &VolumeGroupMember| {
            group::is_consumed(held, (facts.volume)(&m.local_volume).as_deref())
        };
        let stale = |m: &&VolumeGroupMember| {
            let mut all = planned.iter();
            let anew = all.find(|p| p.local_volume == m.local_volume);
            anew.is_some_and(|p| p.nodes != group::places(held, m) || p.pool_name != m.pool_name)
        };
        let listed = held.spec.volumes.iter().any(|m| stale(&m) && !consumed(m));
        if !listed {
            continue;
        }
        let rest: Vec<VolumeGroupMember> = group::holding(held, facts.epoch, consumed)
            .into_iter()
            .filter(|m| consumed(m) || !stale(m))
            .cloned()
            .collect();
        writes.push(shrink(held, rest, facts.epoch));
    }
    writes
}

/// The group with these of its members only.
#[must_use]
pub fn shrink(held: &Arc<LocalVolumeGroup>, members: Vec<VolumeGroupMember>, epoch: &str) -> Write {
    if members.is_empty() {
        return Write::RemoveGroup(held.clone());
    }
    let mut wanted = (**held).clone();
    wanted.spec.volumes = members;
    fence::stamp(&mut wanted, epoch);
    Write::ChangeGroup {
        seen: held.clone(),
        wanted: Box::new(wanted),
    }
}

fn build_volume(
    wish: &Wish,
    group: &str,
    places: Vec<String>,
    pool: &str,
    facts: &Facts<'_>,
) -> LocalVolume {
    let replicas = places
        .iter()
        .zip(1..)
        .enumerate()
        .map(|(i, (node, id))| VolumeConfigReplica {
            hostname: node.clone(),
            id,
            ip: (facts.address)(node),
            primary: i == 0,
        });
    let config = VolumeConfig {
        convertible: wish.class.convertible,
        initialized: true,
        ready_to_initialize: true,
        replicas: replicas.collect(),
        required_capacity_bytes: wish.size,
        resource_id: -1,
        version: 1,
        volume_name: wish.volume.clone(),
    };
    let (namespace, claim) = wish.claim.clone().unwrap_or_default();
    let suggested = (wish.suggested != wish.volume)
        .then(|| (annotations::CSI_NAME.to_owned(), wish.suggested.clone()));
    let unbound = (!claim.is_empty()).then(|| (annotations::UNBOUND.to_owned(), "true".to_owned()));
    LocalVolume {
        metadata: ObjectMeta {
            name: Some(wish.volume.clone()),
            annotations: Some(suggested.into_iter().chain(unbound).collect()),
            finalizers: Some(vec![finalizers::VOLUME.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: LocalVolumeSpec {
            accessibility: Some(Accessibility::nodes(places)),
            config: Some(config),
            convertible: wish.class.convertible,
            pool_name: pool.to_owned(),
            pvc_name: claim,
            pvc_namespace: namespace,
            replica_number: wish.class.replicas,
            required_capacity_bytes: wish.size,
            volume_qos: wish.class.qos.clone(),
            volume_group: group.to_owned(),
            ..LocalVolumeSpec::default()
        },
        status: None,
    }
}

/// Whether what exists under the volume's name is what would have been created: an earlier write whose answer was lost.
#[must_use]
pub fn is_same(found: &LocalVolume, wanted: &LocalVolume) -> bool {
    let place = |v: &LocalVolume| {
        let nodes = super::volume::wanted_nodes(v);
        (
            nodes,
            v.spec.pool_name.clone(),
            v.spec.required_capacity_bytes,
            v.spec.delete,
        )
    };
    place(found) == place(wanted)
}

/// The nodes on which room is kept for a volume's copies.
#[must_use]
pub fn reserved_nodes(
    volume: &LocalVolume,
    groups: &[Arc<LocalVolumeGroup>],
    epoch: &str,
) -> Vec<String> {
    let name = volume.name_any();
    let enough = |m: &VolumeGroupMember| {
        m.pool_name == volume.spec.pool_name
            && m.required_capacity_bytes >= volume.spec.required_capacity_bytes
    };
    groups
        .iter()
        .filter(|held| fence::epoch(held) == epoch)
        .filter_map(|held| {
            let member = group::member(held, &name).filter(|m| enough(m))?;
            Some(group::places(held, member))
        })
        .flatten()
        .cloned()
        .collect()
}

/// Keeps room for the copies of a volume that somebody made by hand, on the nodes that it names.
pub fn by_hand(volume: &LocalVolume, facts: &Facts<'_>) -> Result<Vec<Write>, NoPlace> {
    let name = volume.name_any();
    let size = volume.spec.required_capacity_bytes;
    let pool = &volume.spec.pool_name;
    let class = pools::class_of(pool).unwrap_or_default();
    let class = pool_class(&class).map_err(|_| NoPlace::PoolName(pool.clone()))?;
    let new = NewVolume::new(class, bytes(size));
    let request = Request {
        volumes: vec![Volume {
            name: name.as_str().into(),
            claim: name.as_str().into(),
            kind: VolumeKind::New(new),
        }],
        ..Request::default()
    };
    let nodes = super::volume::wanted_nodes(volume);
    for node in &nodes {
        let fits = hawser_placement::choose(facts.cluster, &request, Candidates::Selected(node));
        fits.map_err(|why| NoPlace::Refused {
            volume: name.clone(),
            size,
            why,
        })?;
    }
    let member = VolumeGroupMember {
        local_volume: name.clone(),
        nodes,
        pool_name: volume.spec.pool_name.clone(),
        pvc: volume.spec.pvc_name.clone(),
        required_capacity_bytes: size::round_up(size)
            .ok_or_else(|| NoPlace::NoPlan(name.clone()))?,
    };
    let owner = Owner {
        base: &name,
        namespace: &volume.spec.pvc_namespace,
        pod: None,
    };
    let (_, write) = target(owner, vec![member], facts)?;
    Ok(write.into_iter().collect())
}

#[cfg(test)]
mod tests;
