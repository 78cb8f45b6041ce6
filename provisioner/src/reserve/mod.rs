//! Choosing a place: all of a pod's volumes together, recorded in one group before the first of them is made.
//!
//! What is decided is in `decide::reserve`; here it is observed, and what was decided is written. Everything that takes room
//! happens under one lock, which covers looking at the inventory, deciding, and writing the record; the inventory has that write
//! before the lock is let go. A write whose answer was lost is brought to an end before anything else is decided. What another
//! process may still write is kept out by epochs (`takeover`).

mod claimants;
pub mod takeover;
mod writes;

use std::sync::Arc;

use hawser_api::{LocalVolume, LocalVolumeGroup};
use hawser_runtime::events::Severity;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt;

pub use self::{claimants::joint_request, writes::Unsettled};
use self::{
    claimants::{Observed, Sight},
    writes::carry_out,
};
use crate::{
    csi::{create::Ask, refusal::Refusal},
    decide::{
        reserve::{self, Claimant, Facts, NoPlace, Wish, Write},
        size,
        volume::wanted_nodes,
    },
    objects::WriteError,
    state::State,
};

/// How often it is decided anew because somebody else wrote a group meanwhile.
const MOST_ATTEMPTS: usize = 5;

/// Why an attempt to record a place did not succeed.
enum Attempt {
    /// The group of this name is not as it was thought to be.
    Again(String),
    /// It is to be asked who the volume is for, and asked so.
    Look(Sight),
    Refused(Refusal),
}

impl Attempt {
    /// After a failed write of this group: one that is not as it was seen is looked at again.
    fn after(error: WriteError, group: &str) -> Self {
        if error.is_overtaken() {
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

impl From<NoPlace> for Refusal {
    fn from(why: NoPlace) -> Self {
        let text = why.to_string();
        match why {
            NoPlace::Refused { .. } => Self::exhausted(text),
            NoPlace::Class(_) | NoPlace::PoolName(_) => Self::invalid(text),
            NoPlace::NoGroup(_) => Self::aborted(text),
            NoPlace::Pools { .. } | NoPlace::NoPlan(_) => Self::new(tonic::Code::Internal, text),
        }
    }
}

impl Ask {
    /// The part of it that is about the volume's place.
    #[must_use]
    pub fn wish(&self) -> Wish {
        let claim = self.claim.as_ref();
        Wish {
            volume: self.volume.clone(),
            suggested: self.suggested.clone(),
            claim: claim.map(|c| (c.namespace.clone(), c.name.clone())),
            class: self.class.clone(),
            size: self.size,
            allowed: self.topology.allowed.clone(),
        }
    }
}

/// Finds a place for the volume, records it, and creates the volume's object.
pub(crate) async fn place(state: &State, ask: &Ask) -> Result<LocalVolume, Refusal> {
    let wish = ask.wish();
    let mut observed: Option<Observed> = None;
    let mut attempts = 0;
    loop {
        match attempt(state, &wish, observed.as_ref()).await {
            Ok(volume) => {
                tell(state, &volume, &wish);
                return Ok(volume);
            }
            Err(Attempt::Look(sight)) => {
                observed = Some(claimants::observe(state, &wish, sight).await?);
            }
            // Somebody else wrote the group: what it says now is in the indexes after this read.
            Err(Attempt::Again(group)) if attempts < MOST_ATTEMPTS => {
                attempts += 1;
                drop(state.objects.read::<LocalVolumeGroup>(&group).await?);
            }
            Err(Attempt::Again(group)) => {
                return Err(Refusal::aborted(format!(
                    "LocalVolumeGroup {group} keeps changing; try again"
                )));
            }
            Err(Attempt::Refused(refusal)) => return Err(refusal),
        }
    }
}

/// Uses the reservation that an earlier call of the pod has made, or makes one; then creates the volume's object.
async fn attempt(
    state: &State,
    wish: &Wish,
    observed: Option<&Observed>,
) -> Result<LocalVolume, Attempt> {
    if observed.is_none() && !is_reserved(state, wish) {
        return Err(Attempt::Look(Sight::Index));
    }
    let mut unsettled = state.placing.lock().await;
    unsettled.settle(state).await?;
    // Whom the volume is for matters only if there is no reservation that serves.
    let claimants = if is_reserved(state, wish) {
        Vec::new()
    } else {
        let observed = observed.ok_or(Attempt::Look(Sight::Index))?;
        observed.claimants(state)?
    };
    let writes = match decide(state, wish, &claimants) {
        Ok(writes) => writes,
        // The index may not know the right pod yet.
        Err(_) if observed.is_some_and(|o| o.sight == Sight::Index) => {
            return Err(Attempt::Look(Sight::Server));
        }
        Err(why) => return Err(Attempt::Refused(why.into())),
    };
    let made = carry_out(state, &mut unsettled, writes).await?;
    made.ok_or_else(|| Attempt::Refused(NoPlace::NoPlan(wish.volume.clone()).into()))
}

/// Whether there is a reservation that serves.
fn is_reserved(state: &State, wish: &Wish) -> bool {
    let (held, epoch) = (state.groups_of(&wish.volume), state.epoch());
    held.iter()
        .any(|group| reserve::serves(group, wish, &epoch).is_some())
}

/// What would be written now, as far as the indexes know.
pub fn decide(state: &State, wish: &Wish, claimants: &[Claimant]) -> Result<Vec<Write>, NoPlace> {
    let mut groups = state.groups_of(&wish.volume);
    for claimant in claimants {
        for (volume, _) in claimant.request.new_volumes() {
            groups.extend(state.groups_of(&volume.name));
        }
        if let Some((uid, _)) = &claimant.pod {
            groups.extend(state.groups_called(uid));
        }
    }
    groups.extend(state.groups_called(&wish.volume));
    with_facts(state, claimants, groups, |facts| {
        reserve::decide(wish, facts)
    })
}

fn with_facts<T>(
    state: &State,
    claimants: &[Claimant],
    mut groups: Vec<Arc<LocalVolumeGroup>>,
    ask: impl FnOnce(&Facts<'_>) -> T,
) -> T {
    groups.sort_by_key(|group| group.name_any());
    groups.dedup_by_key(|group| group.name_any());
    let address = |node: &str| {
        let node = state.storage_nodes.get(node);
        node.map(|n| n.spec.storage_ip.clone()).unwrap_or_default()
    };
    ask(&Facts {
        epoch: &state.epoch(),
        cluster: &state.inventory.cluster(),
        claimants,
        groups: &groups,
        volume: &|name| state.objects.volumes.store.get(name),
        address: &address,
    })
}

/// Keeps room for a volume that somebody made by hand, or says why there is none.
pub(crate) async fn by_hand(state: &State, volume: &LocalVolume) -> Result<(), Refusal> {
    let mut unsettled = state.placing.lock().await;
    unsettled.settle(state).await?;
    let name = volume.name_any();
    let mut groups = state.groups_of(&name);
    groups.extend(state.groups_called(&name));
    let writes = with_facts(state, &[], groups, |facts| reserve::by_hand(volume, facts))?;
    match carry_out(state, &mut unsettled, writes).await {
        Ok(_) => Ok(()),
        Err(Attempt::Refused(refusal)) => Err(refusal),
        Err(Attempt::Again(group)) => Err(Refusal::aborted(format!(
            "LocalVolumeGroup {group} changed meanwhile; trying again decides anew"
        ))),
        Err(Attempt::Look(_)) => Err(Refusal::aborted("trying again decides anew")),
    }
}

/// Says on the volume and on the claim where the volume will be.
fn tell(state: &State, volume: &LocalVolume, wish: &Wish) {
    let nodes = wanted_nodes(volume).join(", ");
    let size = size::show(volume.spec.required_capacity_bytes);
    let message = format!("{size} in {} on node {nodes}", volume.spec.pool_name);
    state
        .events
        .record(volume, Severity::Normal, "VolumePlaced", message.clone());
    if let Some((namespace, name)) = &wish.claim {
        let claim = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            namespace: Some(namespace.clone()),
            name: Some(name.clone()),
            uid: wish.volume.strip_prefix("pvc-").map(str::to_owned),
            ..ObjectReference::default()
        };
        let message = format!("volume {}: {message}", volume.name_any());
        state
            .events
            .record_ref(claim, Severity::Normal, "VolumePlaced", message);
    }
}
