//! CreateVolume: from the request to a reserved place, to the volume's objects, to an answer when its nodes have made it.
//!
//! Idempotent at every point: what an interrupted call has left (a reservation, the volume's object, replicas) is found by name
//! and gone on from. Only the choice of a place is made under a lock; waiting is not.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use hawser_api::{LocalVolume, names::pools, parameters::VolumeClass};
use hawser_csi::v1::{self as csi, CreateVolumeRequest, CreateVolumeResponse};
use hawser_runtime::events::Severity;
use kube::ResourceExt;
use tokio::time::Instant;

use super::{
    refusal::{Refusal, persist},
    request::{self, ClaimRef, Topology},
};
use crate::{
    attachments,
    decide::{
        expand, name, replica,
        size::{self, Range},
        volume::{published_node, wanted_nodes},
    },
    reserve,
    state::State,
    wait::{self, Readiness},
};

/// A request that makes sense.
#[derive(Clone, Debug)]
pub struct Ask {
    /// As suggested by the caller.
    pub suggested: String,
    /// The volume's name and id.
    pub volume: String,
    pub range: Range,
    /// In whole extents, within the range.
    pub size: i64,
    pub class: VolumeClass,
    pub topology: Topology,
    pub claim: Option<ClaimRef>,
    pub context: BTreeMap<String, String>,
}

impl Ask {
    /// Checks every field of the request.
    pub fn parse(request: &CreateVolumeRequest) -> Result<Self, Refusal> {
        let suggested = request::new_name(&request.name)?.to_owned();
        request::capabilities(&request.volume_capabilities)?;
        if let Some(key) = request.mutable_parameters.keys().min() {
            return Err(Refusal::invalid(format!(
                "mutable_parameters has {key:?}; this driver has no parameters that can be changed, leave the VolumeAttributesClass out"
            )));
        }
        if let Some(source) = &request.volume_content_source {
            return Err(refuse_source(source));
        }
        let range = request::range(request.capacity_range.as_ref())?;
        let class = VolumeClass::parse_supported(&request.parameters)?;
        Ok(Self {
            volume: name::volume_name(&suggested),
            suggested,
            range,
            size: range.choose()?,
            class,
            topology: request::topology(request.accessibility_requirements.as_ref())?,
            claim: request::claim(&request.parameters)?,
            context: request::context(&request.parameters),
        })
    }
}

fn refuse_source(source: &csi::VolumeContentSource) -> Refusal {
    use csi::volume_content_source::Type;
    let what = match &source.r#type {
        Some(Type::Snapshot(snapshot)) => format!("snapshot {:?}", snapshot.snapshot_id),
        Some(Type::Volume(volume)) => format!("volume {:?}", volume.volume_id),
        None => "nothing".to_owned(),
    };
    Refusal::invalid(format!(
        "volume_content_source names {what}; this version makes empty volumes only: leave the claim's dataSource out"
    ))
}

/// Serves the call.
pub(super) async fn create(
    state: Arc<State>,
    request: CreateVolumeRequest,
) -> Result<CreateVolumeResponse, Refusal> {
    let ask = Ask::parse(&request)?;
    drop(request);
    serve(state, ask).await
}

/// Makes what is asked for, or finds it made.
pub async fn serve(state: Arc<State>, ask: Ask) -> Result<CreateVolumeResponse, Refusal> {
    let _guard = state.guards.take(&ask.volume).ok_or_else(|| {
        Refusal::aborted(format!(
            "another call is working on volume {:?}; it answers when that is done",
            ask.volume
        ))
    })?;
    let deadline = Instant::now() + state.settings.ready_timeout;
    match state.objects.read::<LocalVolume>(&ask.volume).await? {
        Some(volume) => check_existing(&state, &ask, &volume).await?,
        None => drop(reserve::place(&state, &ask).await?),
    }
    match wait::until_ready(
        &state,
        &ask.volume,
        ask.range.required.max(1),
        state.settings.patience,
        deadline,
    )
    .await
    {
        // Who has ceased to lead can't know whether it is still there.
        Readiness::Ready { .. } if !state.objects.may_write() => {
            Err(crate::objects::WriteError::NotLeader.into())
        }
        Readiness::Ready { volume, allocated } => finish(&state, &ask, &volume, allocated).await,
        Readiness::Leaving => Err(Refusal::aborted(format!(
            "volume {:?} is being deleted; try again",
            ask.volume
        ))),
        Readiness::Failed { why } => Err(give_up(&state, &ask, &why).await),
        Readiness::NotYet { why } => Err(Refusal::deadline(format!(
            "volume {:?} is not ready yet: {why}",
            ask.volume
        ))),
    }
}

/// The answer, unless the node's extents made the volume larger than allowed.
async fn finish(
    state: &State,
    ask: &Ask,
    volume: &LocalVolume,
    allocated: i64,
) -> Result<CreateVolumeResponse, Refusal> {
    if ask.range.limit != 0 && allocated > ask.range.limit {
        let limit = ask.range.limit;
        let why = format!(
            "its pool's extents make it {allocated} bytes, and limit_bytes is {limit}; raise that, or leave it out"
        );
        discard(state, &ask.volume, &why).await?;
        return Err(Refusal::out_of_range(format!(
            "volume {:?} can't be made: {why}",
            ask.volume
        )));
    }
    let topology = wanted_nodes(volume)
        .into_iter()
        .map(super::topology_of)
        .collect();
    Ok(CreateVolumeResponse {
        volume: Some(csi::Volume {
            capacity_bytes: allocated,
            volume_id: ask.volume.clone(),
            volume_context: ask.context.clone().into_iter().collect::<HashMap<_, _>>(),
            content_source: None,
            accessible_topology: topology,
        }),
    })
}

/// Whether the volume that is there already is the one that is asked for.
async fn check_existing(state: &State, ask: &Ask, volume: &LocalVolume) -> Result<(), Refusal> {
    let name = &ask.volume;
    if volume.spec.delete
        || (volume.metadata.deletion_timestamp.is_some() && volume.finalizers().is_empty())
    {
        return Err(Refusal::aborted(format!(
            "an earlier volume {name:?} is still being deleted; try again"
        )));
    }
    let other = |what: String| {
        Err(Refusal::already_exists(format!(
            "volume {name:?} exists already, {what}"
        )))
    };
    let suggested = volume
        .annotations()
        .get(hawser_api::names::annotations::CSI_NAME);
    if suggested.is_some_and(|s| *s != ask.suggested) {
        return other(format!(
            "made for the name {suggested:?} instead of {:?}",
            ask.suggested
        ));
    }
    let has = volume.spec.required_capacity_bytes;
    if !ask.range.admits(has) {
        let limit = if ask.range.limit == 0 {
            String::new()
        } else {
            format!(" to {}", size::show(ask.range.limit))
        };
        return other(format!(
            "with {} instead of {}{limit}",
            size::show(has),
            size::show(ask.range.required)
        ));
    }
    if pools::class_of(&volume.spec.pool_name).as_ref() != Some(&ask.class.pool_class) {
        return other(format!(
            "in pool {} instead of one of class {}",
            volume.spec.pool_name, ask.class.pool_class
        ));
    }
    if volume.spec.replica_number.max(1) != ask.class.replicas {
        return other(format!(
            "with {} copies instead of {}",
            volume.spec.replica_number, ask.class.replicas
        ));
    }
    let nodes = wanted_nodes(volume);
    if let Some(allowed) = &ask.topology.allowed
        && !nodes.iter().any(|n| allowed.contains(n))
    {
        return Err(misplaced(state, volume, &nodes, allowed).await);
    }
    Ok(())
}

/// The volume is where it is not wanted (any more): left by an attempt before the pod was scheduled anew, it is removed.
async fn misplaced(
    state: &State,
    volume: &LocalVolume,
    nodes: &[String],
    allowed: &[String],
) -> Refusal {
    let name = volume.name_any();
    let (here, there) = (nodes.join(", "), allowed.join(", "));
    let never_used = published_node(volume).is_none()
        && volume.status.as_ref().is_none_or(|s| s.fs_type.is_empty());
    match state.outside.persistent_exists(&name).await {
        Ok(false) if never_used => {}
        Ok(_) => {
            return Refusal::already_exists(format!(
                "volume {name:?} exists already, on {here}, which is not among {there}"
            ));
        }
        Err(error) => return error.into(),
    }
    tracing::info!(volume = %name, on = %here, wanted_on = %there, "volume of an earlier attempt removed");
    match request_deletion(state, &name).await {
        Ok(()) => Refusal::aborted(format!(
            "volume {name:?} of an earlier attempt on {here} is being removed; try again for {there}"
        )),
        Err(refusal) => refusal,
    }
}

/// Records that the volume is to be destroyed, unless it is published.
pub async fn request_deletion(state: &State, name: &str) -> Result<(), Refusal> {
    persist(|| async {
        let found = state.objects.read::<LocalVolume>(name).await?;
        let Some(volume) = found.filter(|v| !v.spec.delete) else {
            return Ok(());
        };
        let volume = attachments::heal(state, &volume).await?;
        if let Some(node) = published_node(&volume) {
            return Err(Refusal::precondition(format!(
                "volume {name:?} is published on node {node}; it can be deleted when its pods have ended and it is detached"
            )));
        }
        state.objects.change(&volume, |v| v.spec.delete = true).await?;
        Ok(())
    })
    .await
}

/// The node can't make the volume: nothing of it is left, and the caller is told to look elsewhere. A volume that had been made
/// before is not touched, whatever is wrong with it now.
async fn give_up(state: &State, ask: &Ask, why: &str) -> Refusal {
    let name = &ask.volume;
    let volume = state.objects.volumes.store.get(name);
    let made = volume.is_some_and(|v| expand::allocated(&v, &[]) > 0)
        || state
            .replicas_of(name)
            .iter()
            .any(|r| replica::allocated(r) > 0);
    if made {
        return Refusal::unavailable(format!(
            "volume {name:?} exists and can't be used now: {why}"
        ));
    }
    match discard(state, name, why).await {
        Ok(()) => Refusal::exhausted(format!("volume {name:?} can't be made: {why}")),
        Err(refusal) => refusal,
    }
}

/// Removes a volume that nobody has used yet.
async fn discard(state: &State, name: &str, why: &str) -> Result<(), Refusal> {
    if state.outside.persistent_exists(name).await? {
        return Err(Refusal::unavailable(format!(
            "volume {name:?} has a PersistentVolume and can't be used now: {why}"
        )));
    }
    if let Some(volume) = state.objects.read::<LocalVolume>(name).await? {
        state
            .events
            .record(&volume, Severity::Warning, "CreationFailed", why);
        request_deletion(state, name).await?;
        wait::until_gone(state, name, Instant::now() + Duration::from_secs(5)).await;
    }
    Ok(())
}
