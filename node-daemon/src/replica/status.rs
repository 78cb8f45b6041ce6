//! What a replica's object says about it. No I/O; the time is given.

use hawser_api::{
    Condition, ConditionStatus, LocalVolumeReplica, LocalVolumeReplicaStatus, ReplicaState,
    VolumeQoS, names,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::plan::{self, Actual, Aspect, Desired, Found, Obstacle, Plan, Reason, Stage};

/// Condition types: the first two are the API's, the others say what the API has no words for.
const CREATE: &str = names::conditions::CREATE;
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
    let was_made = status.allocated_capacity_bytes > 0
        || annotation(names::annotations::EXISTING).is_some_and(|text| text == "true");
    // A volume that is there is not taken from its pods for a limit.
    let limits = limits(spec.volume_qos.as_ref()).filter(|_| !was_made);
    let drbd = format!("/dev/{}-HA/", spec.pool_name);
    Some(Desired {
        replica: meta.name.clone()?,
        volume: Some(spec.volume_name.clone()).filter(|name| !name.is_empty())?,
        pool: spec.pool_name.clone(),
        bytes: u64::try_from(spec.required_capacity_bytes).unwrap_or(0),
        claim: annotation(names::annotations::CLAIM),
        generation: annotation(names::annotations::GENERATION).and_then(|text| text.parse().ok()),
        delete: spec.delete,
        was_made,
        unsupported: unsupported(object).or(limits),
        drbd: Some(status.dev_path).filter(|path| path.starts_with(&drbd)),
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

/// Limits that are asked, in a sentence.
fn limits(qos: Option<&VolumeQoS>) -> Option<String> {
    let (field, value) = qos?.asked()?;
    Some(format!(
        "spec.volumeQoS.{field} is {value:?}: limits are not supported yet, set it to 0 or leave it out"
    ))
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
        // What the object says of a volume that is not served stays as it was written.
        Found::Ours(_)
            if !desired.delete && (desired.unsupported.is_some() || desired.drbd.is_some()) => {}
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
    let kept = limits(object.spec.volume_qos.as_ref()).filter(|_| plan.stage == Stage::Ready);
    let mut conditions = Conditions {
        all: &mut status.conditions,
        generation: object.metadata.generation,
        now,
    };
    conditions.of_plan(plan.stage, obstacle.as_ref());
    match kept {
        Some(sentence) => {
            let reason = names::reasons::INVALID;
            conditions.set(
                names::conditions::LIMITS_NOT_KEPT,
                ConditionStatus::True,
                reason,
                sentence,
            );
        }
        None => conditions.drop(names::conditions::LIMITS_NOT_KEPT),
    }
    status
}

/// A failed step counts as what it was a step of.
fn obstacle(plan: &Plan, failure: Option<&str>) -> Option<Obstacle> {
    let Some(failure) = failure else {
        return plan.obstacle.clone();
    };
    let aspect = match plan.stage {
        Stage::Creating => Aspect::Create,
        Stage::Deleting | Stage::Gone => Aspect::Delete,
        // Mending the front device of a volume that is there.
        Stage::NotReady => Aspect::Ready,
        // It can be used as it is.
        Stage::Ready => Aspect::Expand,
    };
    Some(Obstacle::new(aspect, Reason::StepFailed, failure))
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

/// An object's conditions, being brought up to date.
struct Conditions<'a> {
    all: &'a mut Vec<Condition>,
    generation: Option<i64>,
    now: &'a Time,
}

impl Conditions<'_> {
    fn of_plan(&mut self, stage: Stage, obstacle: Option<&Obstacle>) {
        let of = |aspect: Aspect| obstacle.filter(|obstacle| obstacle.aspect == aspect);
        let (create, ready) = (of(Aspect::Create), of(Aspect::Ready));
        let (expand, delete) = (of(Aspect::Expand), of(Aspect::Delete));
        let there = stage == Stage::Ready || ready.is_some() || expand.is_some();
        if create.is_some() || there {
            self.hold(CREATE, create);
        }
        let unready = ready.or(create).or(delete);
        if stage == Stage::Ready || unready.is_some() {
            self.hold(READY, unready);
        }
        for (kind, obstacle) in [(EXPAND, expand), (DELETE, delete)] {
            match obstacle {
                Some(_) => self.hold(kind, obstacle),
                None => self.drop(kind),
            }
        }
    }

    /// Sets a condition to true, or to false with the obstacle's sentence.
    fn hold(&mut self, kind: &str, obstacle: Option<&Obstacle>) {
        match obstacle {
            None => self.set(kind, ConditionStatus::True, kind, String::new()),
            Some(obstacle) => {
                let truth = match (obstacle.aspect, obstacle.reason) {
                    // Goes on by itself: not a failure that anybody has to act on.
                    (Aspect::Expand, Reason::Zeroing) => ConditionStatus::Unknown,
                    _ => ConditionStatus::False,
                };
                let sentence = obstacle.sentence.clone();
                self.set(kind, truth, obstacle.reason.as_str(), sentence);
            }
        }
    }

    fn drop(&mut self, kind: &str) {
        self.all.retain(|condition| condition.type_ != kind);
    }

    /// The time moves only when the truth does; the generation always, since an old one is taken for an old answer.
    fn set(&mut self, kind: &str, truth: ConditionStatus, reason: &str, message: String) {
        let present = self
            .all
            .iter_mut()
            .find(|condition| condition.type_ == kind);
        let since = present
            .as_ref()
            .filter(|present| present.status == truth)
            .and_then(|present| present.last_transition_time.clone())
            .unwrap_or_else(|| self.now.clone());
        let wanted = Condition {
            type_: kind.to_owned(),
            reason: reason.to_owned(),
            status: truth,
            message,
            observed_generation: self.generation,
            last_transition_time: Some(since),
        };
        match present {
            Some(present) => *present = wanted,
            None => self.all.push(wanted),
        }
    }
}
