//! Carrying out what was decided, and not forgetting what may have been carried out.
//!
//! A write whose answer was lost may have been done, or may be done yet. If it takes room, nothing else may be decided before
//! that is known. It is found out by repeating it: a creation by its name, a change by the version that it was made for; after
//! one definite answer the first one can't be done any more. (A creation could, once the object is removed: so before such a
//! group is removed a new epoch is begun, for which the creation would come from a former leader.)

use std::collections::{BTreeMap, BTreeSet};

use hawser_api::{LocalVolume, LocalVolumeGroup};
use kube::ResourceExt;

use super::{Attempt, takeover};
use crate::{
    controllers::group,
    csi::refusal::Refusal,
    decide::reserve::{Write, is_same},
    objects::WriteError,
    state::State,
};

/// Writes of groups whose answers were lost, by name.
#[derive(Debug, Default)]
pub struct Unsettled {
    open: BTreeMap<String, Open>,
    /// Groups whose creation may still be on its way.
    created: BTreeSet<String>,
    /// A new epoch was begun and is not complete.
    renewing: bool,
}

#[derive(Debug)]
struct Open {
    /// The version that it was made for; `None`: a creation.
    version: Option<String>,
    wanted: LocalVolumeGroup,
}

impl Unsettled {
    fn note(&mut self, seen: Option<&LocalVolumeGroup>, wanted: &LocalVolumeGroup) {
        let name = wanted.name_any();
        if seen.is_none() {
            self.created.insert(name.clone());
        }
        let open = Open {
            version: seen.and_then(ResourceExt::resource_version),
            wanted: wanted.clone(),
        };
        self.open.insert(name, open);
    }

    /// Whether nothing is in doubt.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.open.is_empty() && !self.renewing
    }

    /// Brings all of them to an end; an error if that can't be done now.
    pub(crate) async fn settle(&mut self, state: &State) -> Result<(), WriteError> {
        if self.renewing {
            takeover::take_over(state).await?;
            self.renewing = false;
            self.created.clear();
        }
        while let Some((name, open)) = self.open.first_key_value() {
            tracing::info!(group = %name, "the answer to a write was lost, finding out");
            open.settle(state).await?;
            self.open.pop_first();
        }
        Ok(())
    }
}

impl Unsettled {
    /// To be called before a group is removed: makes sure that its creation is not done once more afterwards.
    pub(crate) async fn forget(&mut self, state: &State, group: &str) -> Result<(), WriteError> {
        if self.created.contains(group) {
            state.renew_epoch();
            self.renewing = true;
            self.settle(state).await?;
        }
        Ok(())
    }
}

impl Open {
    async fn settle(&self, state: &State) -> Result<(), WriteError> {
        let name = self.wanted.name_any();
        let found = state.objects.read::<LocalVolumeGroup>(&name).await?;
        let again = match (found, &self.version) {
            (None, None) => state.objects.create(&self.wanted).await,
            (Some(found), Some(version)) if found.resource_version().as_ref() == Some(version) => {
                let wanted = self.wanted.clone();
                state.objects.change(&found, |g| *g = wanted).await
            }
            // It was done, or can't be any more.
            (Some(_), _) | (None, Some(_)) => return Ok(()),
        };
        match again {
            Ok(_) => Ok(()),
            Err(error) if error.is_overtaken() => {
                drop(state.objects.read::<LocalVolumeGroup>(&name).await?);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Writes in order. Returns the volume, if one was to be created.
pub(super) async fn carry_out(
    state: &State,
    unsettled: &mut Unsettled,
    writes: Vec<Write>,
) -> Result<Option<LocalVolume>, Attempt> {
    let mut made = None;
    for write in writes {
        match write {
            Write::CreateGroup(new) => {
                let created = state.objects.create(&*new).await;
                doubt(unsettled, None, &new, created)?;
            }
            Write::ChangeGroup { seen, wanted } => {
                let changed = state.objects.change(&*seen, |g| g.clone_from(&wanted));
                let changed = changed.await;
                doubt(unsettled, Some(&*seen), &wanted, changed)?;
            }
            Write::RemoveGroup(held) => {
                let removed = group::remove(state, unsettled, &held).await;
                removed.map_err(|error| Attempt::after(error, &held.name_any()))?;
            }
            Write::CreateVolume(new) => made = Some(create_volume(state, &new).await?),
        }
    }
    Ok(made)
}

fn doubt(
    unsettled: &mut Unsettled,
    seen: Option<&LocalVolumeGroup>,
    wanted: &LocalVolumeGroup,
    answer: Result<LocalVolumeGroup, WriteError>,
) -> Result<(), Attempt> {
    let Err(error) = answer else { return Ok(()) };
    if error.leaves_doubt() {
        unsettled.note(seen, wanted);
    }
    Err(Attempt::after(error, &wanted.name_any()))
}

/// Creates the volume's object, which makes the reservation its own.
async fn create_volume(state: &State, new: &LocalVolume) -> Result<LocalVolume, Attempt> {
    let name = new.name_any();
    match state.objects.create(new).await {
        Ok(volume) => Ok(volume),
        // An earlier write of ours whose answer was lost, or that of an earlier leader.
        Err(WriteError::Exists { .. }) => match state.objects.read::<LocalVolume>(&name).await? {
            Some(found) if is_same(&found, new) => Ok(found),
            Some(_) => Err(Refusal::aborted(format!(
                "an earlier attempt at volume {name:?} is being removed; try again"
            ))
            .into()),
            None => {
                Err(Refusal::aborted(format!("volume {name:?} came and went; try again")).into())
            }
        },
        Err(error) => Err(error.into()),
    }
}
