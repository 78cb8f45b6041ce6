//! Choosing a place: all of a pod's volumes together, recorded in one group before the first of them is made.
//!
//! Everything that takes room happens under one lock, which covers looking at the inventory, deciding, and writing the record;
//! the inventory has that write before the lock is let go.

use hawser_api::{
    Accessibility, LocalVolume, LocalVolumeGroup, LocalVolumeSpec, VolumeConfig,
    VolumeConfigReplica, VolumeGroupMember,
    names::{annotations, finalizers},
};
use hawser_inventory::Fold;
use hawser_placement::{
    Bytes, Candidates, NewVolume, Placement, PoolClass, Request, Volume, VolumeKind,
};
use hawser_runtime::events::Severity;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, ObjectMeta},
};

use crate::{
    csi::{create::Ask, refusal::Refusal, request::ClaimRef},
    decide::{group, name},
    objects::WriteError,
    state::State,
};

/// Who a volume is for.
struct Claimant {
    claim: PersistentVolumeClaim,
    pod: Option<Pod>,
    /// All claims of the pod, as far as they exist.
    claims: Vec<PersistentVolumeClaim>,
}

fn unavailable(what: &str) -> impl Fn(kube::Error) -> WriteError + '_ {
    move |error| WriteError::Unavailable {
        what: what.to_owned(),
        why: hawser_runtime::telemetry::chain(&error).to_string(),
    }
}

/// Whether Kubernetes has a persistent volume of that name: then data may be in it.
pub(crate) async fn persistent_exists(state: &State, name: &str) -> Result<bool, WriteError> {
    let api: Api<PersistentVolume> = Api::all(state.client.clone());
    Ok(api
        .get_metadata_opt(name)
        .await
        .map_err(unavailable("read a PersistentVolume"))?
        .is_some())
}

/// Finds a place for the volume, records it, and creates the volume's object.
pub(crate) async fn place(state: &State, ask: &Ask) -> Result<LocalVolume, Refusal> {
    let claimant = match &ask.claim {
        Some(claim) => find_claimant(state, ask, claim).await?,
        None => None,
    };
    let _placing = state.placing.lock().await;
    let mut attempts = 0;
    loop {
        attempts += 1;
        match record(state, ask, claimant.as_ref()).await {
            // Somebody else wrote the group: what it says now is in the indexes after this read.
            Err(Attempt::Again(group)) if attempts < 5 => {
                drop(state.objects.read::<LocalVolumeGroup>(&group).await?);
            }
            Err(Attempt::Again(group)) => {
                return Err(Refusal::aborted(format!(
                    "LocalVolumeGroup {group} keeps changing; try again"
                )));
            }
            Err(Attempt::Refused(refusal)) => return Err(refusal),
            Ok(volume) => {
                tell(state, &volume, claimant.as_ref());
                return Ok(volume);
            }
        }
    }
}

/// Why an attempt to record a place did not succeed.
enum Attempt {
    /// The group of this name is not as it was thought to be.
    Again(String),
    Refused(Refusal),
}

impl Attempt {
    /// After a failed write of this group: one that is not as it was seen is looked at again.
    fn after(error: WriteError, group: &str) -> Self {
        if matches!(
            error,
            WriteError::Conflict { .. } | WriteError::Gone { .. } | WriteError::Exists { .. }
        ) {
            Self::Again(group.to_owned())
        } else {
            error.into()
        }
    }
}

impl From<Refusal> for Attempt {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<WriteError> for Attempt {
    fn from(error: WriteError) -> Self {
        Self::Refused(error.into())
    }
}

/// The claim, the pod that it is made for, and the pod's other claims. `None` if there is no such claim (any more).
async fn find_claimant(
    state: &State,
    ask: &Ask,
    claim: &ClaimRef,
) -> Result<Option<Claimant>, WriteError> {
    let claims: Api<PersistentVolumeClaim> =
        Api::namespaced(state.client.clone(), &claim.namespace);
    let found = claims
        .get_opt(&claim.name)
        .await
        .map_err(unavailable("read the claim"))?;
    let Some(found) =
        found.filter(|c| name::volume_of_claim(&c.uid().unwrap_or_default()) == ask.volume)
    else {
        return Ok(None);
    };
    let pods: Api<Pod> = Api::namespaced(state.client.clone(), &claim.namespace);
    let all = pods
        .list(&ListParams::default())
        .await
        .map_err(unavailable("list the claim's pods"))?;
    let Some(pod) = choose_pod(all.items, &claim.name) else {
        return Ok(Some(Claimant {
            claims: vec![found.clone()],
            claim: found,
            pod: None,
        }));
    };
    let names: Vec<String> = claims_of(&pod).collect();
    let siblings = if names.len() > 1 {
        let all = claims
            .list(&ListParams::default())
            .await
            .map_err(unavailable("list the pod's claims"))?;
        all.items
            .into_iter()
            .filter(|c| names.contains(&c.name_any()))
            .collect()
    } else {
        vec![found.clone()]
    };
    Ok(Some(Claimant {
        claim: found,
        pod: Some(pod),
        claims: siblings,
    }))
}

/// Names of the claims that a pod uses, those of its generic ephemeral volumes included.
fn claims_of(pod: &Pod) -> impl Iterator<Item = String> {
    let name = pod.name_any();
    pod.spec
        .iter()
        .flat_map(|s| s.volumes.iter().flatten())
        .filter_map(move |volume| {
            let claim = volume
                .persistent_volume_claim
                .as_ref()
                .map(|c| c.claim_name.clone());
            claim.or_else(|| {
                volume
                    .ephemeral
                    .as_ref()
                    .map(|_| format!("{name}-{}", volume.name))
            })
        })
}

/// The pod that the claim is provisioned for: one that waits for a node before one that has it, then the oldest, then by name.
fn choose_pod(pods: Vec<Pod>, claim: &str) -> Option<Pod> {
    let alive = |pod: &Pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|s| s.phase.as_deref())
            .unwrap_or("Pending");
        pod.metadata.deletion_timestamp.is_none()
            && matches!(phase, "Pending" | "Running" | "Unknown")
    };
    let mut users: Vec<Pod> = pods
        .into_iter()
        .filter(|pod| alive(pod) && claims_of(pod).any(|c| c == claim))
        .collect();
    users.sort_by_key(|pod| {
        let placed = pod
            .spec
            .as_ref()
            .is_some_and(|s| s.node_name.as_deref().is_some_and(|n| !n.is_empty()));
        (
            placed,
            pod.creation_timestamp().map(|t| t.0),
            pod.name_any(),
        )
    });
    users.into_iter().next()
}

/// What placement is asked: all of the pod's volumes; the one that is being made as its call says.
fn request(state: &State, ask: &Ask, claimant: Option<&Claimant>) -> Result<Request, Refusal> {
    let class = match ask.class.pool_class {
        hawser_api::PoolClass::HDD => PoolClass::Hdd,
        hawser_api::PoolClass::SSD => PoolClass::Ssd,
        hawser_api::PoolClass::NVMe => PoolClass::Nvme,
        hawser_api::PoolClass::Unset | hawser_api::PoolClass::Other(_) => {
            return Err(Refusal::invalid(format!(
                "parameter \"poolClass\" is {:?}; it must be HDD, SSD or NVMe",
                ask.class.pool_class
            )));
        }
    };
    let size = Bytes(u64::try_from(ask.size).unwrap_or(0));
    let copies = u8::try_from(ask.class.replicas).unwrap_or(1);
    let new = NewVolume {
        thin: ask.class.thin,
        copies,
        ..NewVolume::new(class, size)
    };
    let claim = ask
        .claim
        .as_ref()
        .map_or_else(|| ask.volume.clone(), ToString::to_string);
    let this = Volume {
        name: ask.volume.as_str().into(),
        claim: claim.into(),
        kind: VolumeKind::New(new),
    };
    let mut request = claimant.and_then(|c| joint(state, c)).unwrap_or_default();
    match request.volumes.iter_mut().find(|v| *v.name == *ask.volume) {
        Some(volume) => {
            let anywhere = matches!(&volume.kind, VolumeKind::New(new) if new.anywhere);
            *volume = this;
            if let VolumeKind::New(new) = &mut volume.kind {
                new.anywhere = anywhere;
            }
        }
        None => request.volumes.push(this),
    }
    Ok(request)
}

/// The pod's request, as the extender sees it; `None` if it can't be told, so that the volume is placed by itself.
fn joint(state: &State, claimant: &Claimant) -> Option<Request> {
    let pod = claimant.pod.as_ref()?;
    let asked = state.inventory.with(|inventory| {
        for claim in &claimant.claims {
            Fold::<PersistentVolumeClaim>::apply(inventory, claim);
        }
        let asked = inventory.pod_request(pod);
        for claim in &claimant.claims {
            Fold::<PersistentVolumeClaim>::remove(inventory, &hawser_inventory::Key::of(claim));
        }
        asked
    });
    match asked {
        Ok(request) => request,
        Err(why) => {
            tracing::info!(pod = %pod.name_any(), why = why.logged(), "the pod's volumes can't be placed together, placing this one by itself");
            None
        }
    }
}

/// Uses the reservation that an earlier call of the pod has made, or makes one; then creates the volume's object.
async fn record(
    state: &State,
    ask: &Ask,
    claimant: Option<&Claimant>,
) -> Result<LocalVolume, Attempt> {
    let held = state.groups_of(&ask.volume);
    for reserved in &held {
        if let Some(member) = serves(reserved, ask) {
            return create_volume(
                state,
                ask,
                reserved,
                group::nodes(reserved).to_vec(),
                &member.pool_name,
            )
            .await;
        }
    }
    let request = request(state, ask, claimant)?;
    let placement = decide(
        state,
        ask,
        &request,
        claimant.is_some_and(|c| c.pod.is_some()),
    )?;
    for stale in &held {
        release(state, stale, &ask.volume).await?;
    }
    let (group, nodes, pool) = reserve(state, ask, claimant, &request, &placement).await?;
    create_volume(state, ask, &group, nodes, &pool).await
}

/// The member that reserves what is asked for, where it is asked for.
fn serves(held: &LocalVolumeGroup, ask: &Ask) -> Option<VolumeGroupMember> {
    let member = held
        .spec
        .volumes
        .iter()
        .find(|m| m.local_volume == ask.volume)?;
    let class = hawser_api::names::pools::class_of(&member.pool_name);
    let nodes = group::nodes(held);
    let here = ask
        .topology
        .allowed
        .as_ref()
        .is_none_or(|allowed| nodes.first().is_some_and(|n| allowed.contains(n)));
    let fits =
        member.required_capacity_bytes >= ask.size && class.as_ref() == Some(&ask.class.pool_class);
    let going = held.metadata.deletion_timestamp.is_some();
    (here && fits && !going && !nodes.is_empty()).then(|| member.clone())
}

/// Asks placement. A single allowed node was chosen by a scheduler, which has checked what the pod says about nodes.
fn decide(
    state: &State,
    ask: &Ask,
    request: &Request,
    scheduled: bool,
) -> Result<Placement, Refusal> {
    let cluster = state.inventory.cluster();
    let refuse = |refusal: hawser_placement::Refusal| {
        Refusal::exhausted(format!(
            "volume {:?} ({}) can't be placed: {refusal}",
            ask.volume,
            crate::decide::size::show(ask.size)
        ))
    };
    let choose =
        |candidates: Candidates<'_>| hawser_placement::choose(&cluster, request, candidates);
    match ask.topology.allowed.as_deref() {
        Some([node]) if scheduled => choose(Candidates::Selected(node)).map_err(refuse),
        Some(nodes) => {
            let names: Vec<hawser_placement::Name> =
                nodes.iter().map(|n| n.as_str().into()).collect();
            choose(Candidates::Among(&names)).map_err(refuse)
        }
        None => choose(Candidates::Any).map_err(refuse),
    }
}

/// Takes the volume's reservation out of a group that does not serve it any more.
async fn release(state: &State, held: &LocalVolumeGroup, volume: &str) -> Result<(), Attempt> {
    let rest = group::without(held, &[volume]);
    write_members(state, held, rest).await
}

async fn write_members(
    state: &State,
    held: &LocalVolumeGroup,
    members: Vec<VolumeGroupMember>,
) -> Result<(), Attempt> {
    let again = |error| Attempt::after(error, &held.name_any());
    if members.is_empty() {
        return crate::controllers::group::remove(state, held)
            .await
            .map_err(again);
    }
    state
        .objects
        .change(held, |g| g.spec.volumes = members)
        .await
        .map_err(again)?;
    Ok(())
}

/// Writes the group that reserves room for all of the request's new volumes. Returns it with the nodes and the pool of this one.
async fn reserve(
    state: &State,
    ask: &Ask,
    claimant: Option<&Claimant>,
    request: &Request,
    placement: &Placement,
) -> Result<(LocalVolumeGroup, Vec<String>, String), Attempt> {
    let broken = || {
        Refusal::new(
            tonic::Code::Internal,
            format!("placement has no plan for volume {:?}", ask.volume),
        )
    };
    let own = placement
        .plan
        .volumes
        .iter()
        .find(|v| *v.volume == *ask.volume)
        .ok_or_else(broken)?;
    let nodes: Vec<String> = own.copies.iter().map(|c| c.node.to_string()).collect();
    let pool = own.copies.first().ok_or_else(broken)?.pool.to_string();
    let members: Vec<VolumeGroupMember> = placement
        .plan
        .volumes
        .iter()
        .filter_map(|planned| {
            let size = request
                .new_volumes()
                .find(|(v, _)| v.name == planned.volume)
                .map(|(_, new)| new.size.0)?;
            Some(VolumeGroupMember {
                local_volume: planned.volume.to_string(),
                pool_name: planned.copies.first()?.pool.to_string(),
                pvc: planned
                    .claim
                    .split_once('/')
                    .map(|(_, name)| name.to_owned())
                    .unwrap_or_default(),
                required_capacity_bytes: crate::decide::size::round_up(
                    i64::try_from(size).unwrap_or(i64::MAX),
                )?,
            })
        })
        .collect();
    let pod = claimant.and_then(|c| c.pod.as_ref());
    let base = pod
        .and_then(ResourceExt::uid)
        .unwrap_or_else(|| ask.volume.clone());
    let namespace = ask
        .claim
        .as_ref()
        .map(|c| c.namespace.clone())
        .unwrap_or_default();
    let group = write_group(
        state,
        &base,
        &namespace,
        pod.map(ResourceExt::name_any).as_deref(),
        nodes.clone(),
        members,
    )
    .await?;
    Ok((group, nodes, pool))
}

/// Creates the group, or brings the pod's earlier one up to date; one that has volumes on other nodes is left as it is.
async fn write_group(
    state: &State,
    base: &str,
    namespace: &str,
    pod: Option<&str>,
    nodes: Vec<String>,
    members: Vec<VolumeGroupMember>,
) -> Result<LocalVolumeGroup, Attempt> {
    let mut name = base.to_owned();
    if let Some(held) = state.objects.groups.store.get(&name) {
        let planned: Vec<&str> = members.iter().map(|m| m.local_volume.as_str()).collect();
        let kept = group::without(&held, &planned);
        let moves = group::nodes(&held) != nodes.as_slice();
        let consumed = kept
            .iter()
            .any(|m| state.objects.volumes.store.get(&m.local_volume).is_some());
        let going = held.metadata.deletion_timestamp.is_some();
        let elsewhere = moves && consumed;
        if !going && !elsewhere {
            // Reservations that are not planned any more stay only where they are.
            let rest = if moves { Vec::new() } else { kept };
            let members = rest.into_iter().chain(members).collect();
            let changed = state.objects.change(&*held, |g| {
                g.spec.volumes = members;
                g.spec.accessibility = Some(Accessibility::nodes(nodes));
            });
            return changed.await.map_err(|error| Attempt::after(error, &name));
        }
        name = name::replica_name(base, &nodes.join(","));
    }
    let new = group::build(&name, namespace, pod, nodes, members);
    state
        .objects
        .create(&new)
        .await
        .map_err(|error| Attempt::after(error, &name))
}

/// Creates the volume's object, which makes the reservation its own.
async fn create_volume(
    state: &State,
    ask: &Ask,
    group: &LocalVolumeGroup,
    nodes: Vec<String>,
    pool: &str,
) -> Result<LocalVolume, Attempt> {
    let address = |node: &str| {
        state
            .storage_nodes
            .get(node)
            .map(|n| n.spec.storage_ip.clone())
            .unwrap_or_default()
    };
    let replicas = nodes
        .iter()
        .zip(1..)
        .enumerate()
        .map(|(i, (node, id))| VolumeConfigReplica {
            hostname: node.clone(),
            id,
            ip: address(node),
            primary: i == 0,
        });
    let config = VolumeConfig {
        convertible: ask.class.convertible,
        initialized: true,
        ready_to_initialize: true,
        replicas: replicas.collect(),
        required_capacity_bytes: ask.size,
        resource_id: -1,
        version: 1,
        volume_name: ask.volume.clone(),
    };
    let claim = ask.claim.clone();
    let suggested = (ask.suggested != ask.volume)
        .then(|| [(annotations::CSI_NAME.to_owned(), ask.suggested.clone())].into());
    let volume = LocalVolume {
        metadata: ObjectMeta {
            name: Some(ask.volume.clone()),
            annotations: suggested,
            finalizers: Some(vec![finalizers::VOLUME.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: LocalVolumeSpec {
            accessibility: Some(Accessibility::nodes(nodes)),
            config: Some(config),
            convertible: ask.class.convertible,
            pool_name: pool.to_owned(),
            pvc_name: claim.as_ref().map(|c| c.name.clone()).unwrap_or_default(),
            pvc_namespace: claim.map(|c| c.namespace).unwrap_or_default(),
            replica_number: ask.class.replicas,
            required_capacity_bytes: ask.size,
            volume_qos: ask.class.qos.clone(),
            volume_group: group.name_any(),
            ..LocalVolumeSpec::default()
        },
        status: None,
    };
    match state.objects.create(&volume).await {
        Ok(volume) => Ok(volume),
        // An earlier write of ours whose answer was lost.
        Err(WriteError::Exists { .. }) => {
            let found = state.objects.read::<LocalVolume>(&ask.volume).await?;
            found.ok_or_else(|| {
                Refusal::aborted(format!("volume {:?} came and went; try again", ask.volume)).into()
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// Says on the claim where its volume will be.
fn tell(state: &State, volume: &LocalVolume, claimant: Option<&Claimant>) {
    let nodes = crate::decide::volume::wanted_nodes(volume).join(", ");
    let size = crate::decide::size::show(volume.spec.required_capacity_bytes);
    let message = format!("{size} in {} on node {nodes}", volume.spec.pool_name);
    state
        .events
        .record(volume, Severity::Normal, "VolumePlaced", message.clone());
    if let Some(claimant) = claimant {
        state.events.record(
            &claimant.claim,
            Severity::Normal,
            "VolumePlaced",
            format!("volume {}: {message}", volume.name_any()),
        );
    }
}
