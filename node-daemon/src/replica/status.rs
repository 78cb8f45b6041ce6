//! What a replica's object says about it. No I/O; the time is given.

use hawser_api::{
    Condition, ConditionStatus, LocalVolumeReplica, LocalVolumeReplicaStatus, ReplicaState, names,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::plan::{self, Actual, Desired, Found, Obstacle, Plan, Stage};

/// Condition types: the first two are the API's, the others say what the API has no words for.
const CREATE: &str = "Create";
const READY: &str = "Ready";
const EXPAND: &str = "Expand";
const DELETE: &str = "Delete";

/// Reads what a replica's object asks for. `None` without the fields that make it one.
pub fn desired(object: &LocalVolumeReplica) -> Option<Desired> {
    let (meta, spec) = (&object.metadata, &object.spec);
    let annotation = |key: &str| {
        meta.annotations
            .as_ref()?
            .get(key)
            .filter(|text| !text.is_empty())
            .cloned()
    };
    let status = object.status.clone().unwrap_or_default();
    Some(Desired {
        replica: meta.name.clone()?,
        volume: Some(spec.volume_name.clone()).filter(|name| !name.is_empty())?,
        pool: spec.pool_name.clone(),
        bytes: u64::try_from(spec.required_capacity_bytes).unwrap_or(0),
        claim: annotation(names::annotations::CLAIM),
        generation: annotation(names::annotations::GENERATION).and_then(|text| text.parse().ok()),
        delete: spec.delete,
        was_made: status.allocated_capacity_bytes > 0,
        unsupported: unsupported(object),
    })
}

/// What is asked and can't be served. Nothing of it is ignored: a volume is as its object says, or not made.
fn unsupported(object: &LocalVolumeReplica) -> Option<String> {
    let spec = &object.spec;
    let name = &spec.volume_name;
    if let Err(error) = lvm2_cmd::names::check_lv(name) {
        return Some(format!("spec.volumeName: {error}"));
    }
    if let Err(error) = lvm2_cmd::names::check_dm(&super::effects::front_name(name)) {
        return Some(format!(
            "spec.volumeName {name:?} is too long for its front device: {error}"
        ));
    }
    if let Err(error) = lvm2_cmd::names::check_dm_uuid(&names::devices::front_uuid(name)) {
        return Some(format!(
            "spec.volumeName {name:?} is too long for its front device: {error}"
        ));
    }
    if !spec.pool_name.starts_with(names::pools::VG_PREFIX) {
        return Some(format!(
            "spec.poolName {:?} is not a pool: pools' names begin with {}",
            spec.pool_name,
            names::pools::VG_PREFIX
        ));
    }
    if spec.required_capacity_bytes <= 0 {
        return Some(format!(
            "spec.requiredCapacityBytes is {}: a volume has at least 4194304 bytes",
            spec.required_capacity_bytes
        ));
    }
    if spec.thin {
        return Some(
            "spec.thin is true: thin volumes are not supported yet, use a thick one".to_owned(),
        );
    }
    if spec
        .volume_encrypt
        .as_ref()
        .is_some_and(|encrypt| encrypt.enable)
    {
        return Some(
            "spec.volumeEncrypt.enable is true: encrypted volumes are not supported yet".to_owned(),
        );
    }
    None
}

/// The status that goes with a plan that was carried out as far as `failure` says.
pub fn status(
    object: &LocalVolumeReplica,
    desired: &Desired,
    plan: &Plan,
    actual: &Actual,
    failure: Option<&str>,
    now: &Time,
) -> LocalVolumeReplicaStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let obstacle = obstacle(plan, failure);
    status.state = state(plan.stage, obstacle.as_ref());
    match plan::find(desired, actual) {
        Found::Ours(volume) if !volume.tags.wiping || desired.delete => {
            let front = actual.fronts.get(&volume.lv.name);
            let bytes = front.map_or(volume.lv.size_bytes, |front| {
                front.bytes.min(volume.lv.size_bytes)
            });
            status.allocated_capacity_bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            status.dev_path = format!("/dev/{}/{}", volume.vg.name, volume.lv.name);
            status.storage_path.clone_from(&status.dev_path);
            status.disks = volume
                .lv
                .devices()
                .iter()
                .map(|disk| disk.display().to_string())
                .collect();
            status.in_use = plan::in_use(volume.lv, actual).is_some() && !volume.tags.wiping;
        }
        Found::Nothing | Found::Foreign(_) if plan.stage == Stage::Gone => {
            status.allocated_capacity_bytes = 0;
            status.in_use = false;
        }
        Found::Ours(_) | Found::Nothing | Found::Foreign(_) | Found::Misplaced(_) => {
            status.in_use = false;
        }
    }
    status.synced = status.state == ReplicaState::Ready;
    let generation = object.metadata.generation;
    conditions(
        &mut status.conditions,
        plan.stage,
        obstacle.as_ref(),
        &mut |condition| {
            condition.observed_generation = generation;
            condition.last_transition_time = Some(now.clone());
        },
    );
    status
}

/// A failed step counts as what it was a step of.
fn obstacle(plan: &Plan, failure: Option<&str>) -> Option<Obstacle> {
    match (failure, &plan.obstacle) {
        (None, obstacle) => obstacle.clone(),
        (Some(reason), _) => Some(match plan.stage {
            Stage::Creating => Obstacle::Create(reason.to_owned()),
            Stage::Deleting | Stage::Gone => Obstacle::Delete(reason.to_owned()),
            // Growing, or mending the front device, of a volume that is there.
            Stage::NotReady | Stage::Ready => Obstacle::Ready(reason.to_owned()),
        }),
    }
}

fn state(stage: Stage, obstacle: Option<&Obstacle>) -> ReplicaState {
    match stage {
        Stage::Ready => ReplicaState::Ready,
        Stage::Deleting => ReplicaState::ToBeDeleted,
        Stage::Gone => ReplicaState::Deleted,
        Stage::Creating if obstacle.is_none() => ReplicaState::Creating,
        Stage::Creating | Stage::NotReady => ReplicaState::NotReady,
    }
}

fn conditions(
    conditions: &mut Vec<Condition>,
    stage: Stage,
    obstacle: Option<&Obstacle>,
    stamp: &mut dyn FnMut(&mut Condition),
) {
    let there = matches!(stage, Stage::Ready)
        || matches!(obstacle, Some(Obstacle::Ready(_) | Obstacle::Expand(_)));
    let sentences = |wanted: fn(&Obstacle) -> Option<&String>| obstacle.and_then(wanted).cloned();
    let create = sentences(|o| {
        if let Obstacle::Create(s) = o {
            Some(s)
        } else {
            None
        }
    });
    let ready = sentences(|o| {
        if let Obstacle::Ready(s) = o {
            Some(s)
        } else {
            None
        }
    });
    let expand = sentences(|o| {
        if let Obstacle::Expand(s) = o {
            Some(s)
        } else {
            None
        }
    });
    let delete = sentences(|o| {
        if let Obstacle::Delete(s) = o {
            Some(s)
        } else {
            None
        }
    });
    if create.is_some() || there {
        set(conditions, CREATE, create.as_deref(), stamp);
    }
    let unready = ready.or_else(|| create.clone()).or_else(|| delete.clone());
    if stage == Stage::Ready || unready.is_some() {
        set(conditions, READY, unready.as_deref(), stamp);
    }
    for (kind, sentence) in [(EXPAND, expand), (DELETE, delete)] {
        match sentence {
            Some(sentence) => set(conditions, kind, Some(&sentence), stamp),
            None => conditions.retain(|condition| condition.type_ != kind),
        }
    }
}

/// Sets a condition to true, or to false with a sentence. The time moves only when the truth does.
fn set(
    conditions: &mut Vec<Condition>,
    kind: &str,
    failure: Option<&str>,
    stamp: &mut dyn FnMut(&mut Condition),
) {
    let truth = if failure.is_some() {
        ConditionStatus::False
    } else {
        ConditionStatus::True
    };
    let message = failure.unwrap_or_default().to_owned();
    if let Some(present) = conditions
        .iter_mut()
        .find(|condition| condition.type_ == kind)
    {
        let since = present.last_transition_time.clone();
        let same = present.status == truth;
        if same && present.message == message {
            return;
        }
        stamp(present);
        if same {
            present.last_transition_time = since;
        }
        present.status = truth;
        present.message = message;
        return;
    }
    let mut condition = Condition {
        type_: kind.to_owned(),
        reason: kind.to_owned(),
        status: truth,
        message,
        ..Condition::default()
    };
    stamp(&mut condition);
    conditions.push(condition);
}
