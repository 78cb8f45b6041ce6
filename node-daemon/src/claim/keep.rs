//! Carries claims through their states. Each step is safe to repeat: after a crash the next round goes on from what the objects
//! and LVM say.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_api::{ClaimPhase, LocalDisk, LocalDiskClaim, LocalDiskClaimStatus, LocalStorageNode};
use hawser_runtime::error::Category;
use hawser_runtime::events::{Recorder, Severity};
use hawser_runtime::patch::{self, PatchError};
use hawser_runtime::telemetry::chain;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::DeleteParams;
use kube::{Api, Resource, ResourceExt};
use lvm2_cmd::{LvmError, Report};

use super::decide::{Candidate, Decision, called, decide, releasable};
use crate::disk::Disk;
use crate::disk::object::{self, LvmUse};
use crate::disk::upkeep::{Kept, LvmUses};
use crate::lvm::Lvm;
use crate::pool::extend::{self, Member, Step};
use crate::pool::prove::Prove;
use crate::pool::status;

/// What claims are carried on with.
pub struct Claims {
    pub node: String,
    pub api: Api<LocalDiskClaim>,
    pub disks: Api<LocalDisk>,
    pub storage: Api<LocalStorageNode>,
    pub lvm: Arc<dyn Lvm>,
    pub prove: Arc<dyn Prove>,
    pub recorder: Recorder,
}

/// What a round knows, kept current as it changes things.
#[derive(Debug)]
pub struct Picture {
    pub kept: Kept,
    pub disks: Vec<Disk>,
    pub uses: LvmUses,
    pub report: Report,
    pub storage: LocalStorageNode,
    /// Whether LVM was changed, so that the picture needs another look.
    pub changed: bool,
}

impl Picture {
    fn disk_of(&self, object: &str) -> Option<&Disk> {
        let disk = self.kept.present.get(object)?;
        self.disks.iter().find(|d| d.name == *disk)
    }

    fn candidates(&self) -> Vec<Candidate<'_>> {
        self.kept
            .objects
            .iter()
            .map(|object| {
                let disk = self.disk_of(&object.name_any());
                let lvm = disk
                    .and_then(|d| self.uses.get(&d.name))
                    .unwrap_or(&LvmUse::None);
                Candidate { object, disk, lvm }
            })
            .collect()
    }

    fn object(&self, name: &str) -> Option<&LocalDisk> {
        self.kept.objects.iter().find(|o| o.name_any() == name)
    }

    fn put(&mut self, object: LocalDisk) {
        let name = object.name_any();
        match self.kept.objects.iter_mut().find(|o| o.name_any() == name) {
            Some(slot) => *slot = object,
            None => self.kept.objects.push(object),
        }
    }
}

/// Why a round over the claims is not over.
#[derive(Debug, thiserror::Error)]
pub enum ClaimsError {
    /// The API server.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// LVM did not do what it was to do for a claim. The claim says so; whether the next try does better is LVM's business.
    #[error("claim {claim} can't be carried out")]
    Step {
        claim: String,
        #[source]
        source: LvmError,
    },
}

/// Why a claim's disks are not in their pools.
#[derive(Debug)]
enum Stop {
    /// They can't get there as things are; a sentence for the claim.
    Refused(String),
    /// A step failed.
    Failed(LvmError),
}

impl From<LvmError> for Stop {
    fn from(error: LvmError) -> Self {
        Self::Failed(error)
    }
}

impl Claims {
    /// One round over all claims of this node, in order of their names. The first API failure ends it; the next round goes on. A
    /// failing step of one claim does not keep the others waiting.
    pub async fn run(
        &self,
        claims: &[Arc<LocalDiskClaim>],
        picture: &mut Picture,
    ) -> Result<(), ClaimsError> {
        self.release(claims, picture).await?;
        let mut failed = Ok(());
        for claim in claims {
            match self.carry_on(claim, picture).await {
                Ok(()) => {}
                Err(error @ ClaimsError::Patch(_)) => return Err(error),
                Err(error @ ClaimsError::Step { .. }) => failed = failed.and(Err(error)),
            }
        }
        failed
    }

    async fn carry_on(
        &self,
        claim: &LocalDiskClaim,
        picture: &mut Picture,
    ) -> Result<(), ClaimsError> {
        match decide(&self.node, claim, &picture.candidates()) {
            Decision::Nothing => {}
            Decision::Refuse(sentence) => {
                self.say(claim, ClaimPhase::Pending, &sentence, "WrongClaim")
                    .await?;
            }
            Decision::Wait(sentence) => {
                self.say(claim, ClaimPhase::Pending, &sentence, "NoDisk")
                    .await?;
            }
            Decision::Bind { disks, note } => self.bind(claim, &disks, &note, picture).await?,
            Decision::Fill { disks } => self.fill(claim, &disks, picture).await?,
            Decision::Remove => self.remove(claim).await?,
        }
        Ok(())
    }

    /// Writes the claim's status; what is new in it also becomes an event.
    async fn say(
        &self,
        claim: &LocalDiskClaim,
        phase: ClaimPhase,
        message: &str,
        reason: &str,
    ) -> Result<LocalDiskClaim, PatchError> {
        let wanted = LocalDiskClaimStatus {
            message: message.to_owned(),
            status: phase,
        };
        let written = patch::status(&self.api, claim, &wanted).await?;
        if written.changed() {
            tracing::info!(claim = %claim.name_any(), phase = %wanted.status, %message, "claim");
            if !message.is_empty() {
                self.recorder
                    .record(claim, Severity::Warning, reason, message);
            }
        }
        Ok(written.into_inner())
    }

    /// First the disks, then the claim: whoever sees the claim bound finds its disks bound.
    async fn bind(
        &self,
        claim: &LocalDiskClaim,
        disks: &[String],
        note: &str,
        picture: &mut Picture,
    ) -> Result<(), ClaimsError> {
        let mut references = Vec::new();
        for name in disks {
            let Some(seen) = picture.object(name).cloned() else {
                continue;
            };
            let written = patch::update(&self.disks, name, Some(seen), |disk| {
                // Somebody else's since we looked: left alone, and seen at the next round.
                if disk.spec.claim_ref.is_none() {
                    disk.spec.claim_ref = Some(reference(claim));
                    disk.spec.owner.clone_from(&claim.spec.owner);
                }
            })
            .await?
            .into_inner();
            let status = object::status(&written, picture.disk_of(name), &LvmUse::None);
            let written = patch::status(&self.disks, &written, &status)
                .await?
                .into_inner();
            if belongs(&written, claim) {
                references.push(written.object_ref(&()));
            }
            picture.put(written);
        }
        for reference in &mut references {
            // What changes with each write says nothing about which disk it is.
            reference.resource_version = None;
        }
        let names: Vec<String> = disks
            .iter()
            .filter_map(|name| picture.object(name))
            .map(called)
            .collect();
        let written = patch::update(&self.api, &claim.name_any(), Some(claim.clone()), |c| {
            c.spec.disk_refs.clone_from(&references);
        })
        .await?
        .into_inner();
        let written = self
            .say(&written, ClaimPhase::Bound, note, "SomeDisksNotGiven")
            .await?;
        self.recorder.record(
            &written,
            Severity::Normal,
            "Bound",
            format!("given: {}", names.join(", ")),
        );
        self.fill_if_ours(&written, disks, picture).await
    }

    async fn fill_if_ours(
        &self,
        claim: &LocalDiskClaim,
        disks: &[String],
        picture: &mut Picture,
    ) -> Result<(), ClaimsError> {
        if claim.spec.owner == hawser_api::names::owners::LOCAL_STORAGE {
            self.fill(claim, disks, picture).await
        } else {
            Ok(())
        }
    }

    /// Makes the claim's disks part of their pools, then says so.
    async fn fill(
        &self,
        claim: &LocalDiskClaim,
        names: &[String],
        picture: &mut Picture,
    ) -> Result<(), ClaimsError> {
        if let Some(missing) = names.iter().find(|n| picture.object(n).is_none()) {
            let sentence =
                format!("LocalDisk {missing} of spec.diskRefs does not exist; delete the claim");
            self.say(claim, ClaimPhase::Bound, &sentence, "NoDisk")
                .await?;
            return Ok(());
        }
        let stop = match self.carry_out(claim, names, picture).await {
            Ok(()) => return Ok(self.consumed(claim, names, picture).await?),
            Err(stop) => stop,
        };
        let sentence = match &stop {
            Stop::Refused(sentence) => sentence.clone(),
            Stop::Failed(error) => chain(error).to_string(),
        };
        self.say(claim, ClaimPhase::Bound, &sentence, "PoolNotExtended")
            .await?;
        match stop {
            Stop::Refused(_) => Ok(()),
            Stop::Failed(source) => Err(ClaimsError::Step {
                claim: claim.name_any(),
                source,
            }),
        }
    }

    /// Plans and applies until no step is left.
    async fn carry_out(
        &self,
        claim: &LocalDiskClaim,
        names: &[String],
        picture: &mut Picture,
    ) -> Result<(), Stop> {
        // Once to change, once to see that nothing is left.
        for _ in 0..2 {
            let candidates = picture.candidates();
            let (members, others): (Vec<Member<'_>>, Vec<Member<'_>>) = candidates
                .iter()
                .map(|c| Member {
                    object: c.object,
                    disk: c.disk,
                })
                .partition(|member| names.contains(&member.object.name_any()));
            if let Some(stolen) = members.iter().find(|m| !belongs(m.object, claim)) {
                return Err(Stop::Refused(format!(
                    "disk {} is no longer bound to this claim; delete the claim",
                    called(stolen.object)
                )));
            }
            let steps = extend::plan(&self.node, &members, &others, &picture.report)
                .map_err(Stop::Refused)?;
            if steps.is_empty() {
                return Ok(());
            }
            for step in &steps {
                self.apply(step, &picture.disks).await?;
                picture.changed = true;
            }
            picture.report = self.lvm.report().await?;
            // What is on the disks now is ours; their contents are read again in the next round.
            picture.uses = extend::lvm_uses(
                &self.node,
                &picture.report,
                &picture.disks,
                &by_disk(&picture.kept.present),
            );
        }
        Err(Stop::Refused(
            "LVM has not taken in all disks; trying again".to_owned(),
        ))
    }

    async fn apply(&self, step: &Step, disks: &[Disk]) -> Result<(), Stop> {
        match step {
            Step::PvCreate { disk, uuid } => {
                let Some(disk) = disks.iter().find(|d| d.name == *disk) else {
                    return Err(Stop::Refused(format!("disk {disk} is not there now")));
                };
                let path = &disk.path;
                self.prove
                    .prove_blank(disk)
                    .await
                    .map_err(|reason| Stop::Refused(format!("disk {} {reason}", path.display())))?;
                Ok(self.lvm.pv_create(path, uuid).await?)
            }
            Step::VgCreate { vg, devices } => Ok(self.lvm.vg_create(vg, devices).await?),
            Step::VgExtend { vg, devices } => Ok(self.lvm.vg_extend(vg, devices).await?),
        }
    }

    /// The record first: without it nobody knows later what the claim was.
    async fn consumed(
        &self,
        claim: &LocalDiskClaim,
        names: &[String],
        picture: &mut Picture,
    ) -> Result<(), PatchError> {
        let mut by_pool: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for object in names.iter().filter_map(|n| picture.object(n)) {
            if let Ok(pool) = extend::pool_of(object) {
                by_pool.entry(pool).or_default().push(called(object));
            }
        }
        let mut wanted = picture.storage.status.clone().unwrap_or_default();
        for pool in by_pool.keys() {
            wanted.pool_extend_records = status::recorded(&wanted.pool_extend_records, pool, claim);
        }
        picture.storage = patch::status(&self.storage, &picture.storage, &wanted)
            .await?
            .into_inner();
        let message = by_pool
            .iter()
            .map(|(pool, disks)| format!("{pool} has {}", disks.join(", ")))
            .collect::<Vec<_>>()
            .join("; ");
        let written = self
            .say(claim, ClaimPhase::Consumed, "", "Consumed")
            .await?;
        self.recorder
            .record(&written, Severity::Normal, "Consumed", message);
        Ok(())
    }

    /// The claim did its work.
    async fn remove(&self, claim: &LocalDiskClaim) -> Result<(), PatchError> {
        let name = claim.name_any();
        let params = DeleteParams {
            preconditions: Some(kube::api::Preconditions {
                uid: claim.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api.delete(&name, &params).await {
            Ok(_) => {
                tracing::info!(claim = %name, "claim consumed and removed");
                Ok(())
            }
            Err(error)
                if matches!(
                    Category::of_kube(&error),
                    Category::NotFound | Category::Conflict
                ) =>
            {
                Ok(())
            }
            Err(source) => Err(PatchError::Api {
                verb: "remove",
                kind: "LocalDiskClaim".to_owned(),
                name,
                source,
            }),
        }
    }

    /// Frees disks whose claim was deleted before anything was put on them.
    async fn release(
        &self,
        claims: &[Arc<LocalDiskClaim>],
        picture: &mut Picture,
    ) -> Result<(), PatchError> {
        let exists = |uid: &str| {
            claims
                .iter()
                .any(|c| c.metadata.uid.as_deref() == Some(uid))
        };
        let storage = picture.storage.status.as_ref();
        let filled = |object: &str| {
            storage.is_some_and(|s| status::was_filled(&s.pool_extend_records, object))
        };
        let free: Vec<LocalDisk> = picture
            .candidates()
            .iter()
            .filter(|c| releasable(c, exists, filled))
            .map(|c| c.object.clone())
            .collect();
        for object in free {
            let name = object.name_any();
            // Perhaps the claim is newer than our list of claims.
            let uid = object.spec.claim_ref.as_ref().and_then(|r| r.uid.clone());
            let claim = object.spec.claim_ref.as_ref().and_then(|r| r.name.clone());
            let found = match claim {
                Some(claim) => self.api.get_opt(&claim).await,
                None => Ok(None),
            }
            .map_err(|source| PatchError::Api {
                verb: "read",
                kind: "LocalDiskClaim".to_owned(),
                name: name.clone(),
                source,
            })?;
            if found.is_some_and(|c| c.metadata.uid == uid) {
                continue;
            }
            let written = patch::update(&self.disks, &name, Some(object), |disk| {
                if disk.spec.claim_ref.as_ref().and_then(|r| r.uid.clone()) == uid {
                    disk.spec.claim_ref = None;
                }
            })
            .await?
            .into_inner();
            tracing::info!(object = %name, "disk released: its claim is gone");
            let status = object::status(&written, picture.disk_of(&name), &LvmUse::None);
            let written = patch::status(&self.disks, &written, &status)
                .await?
                .into_inner();
            picture.put(written);
        }
        Ok(())
    }
}

fn belongs(object: &LocalDisk, claim: &LocalDiskClaim) -> bool {
    claim.metadata.uid.is_some()
        && object.spec.claim_ref.as_ref().and_then(|r| r.uid.as_ref())
            == claim.metadata.uid.as_ref()
}

fn reference(claim: &LocalDiskClaim) -> ObjectReference {
    ObjectReference {
        resource_version: None,
        ..claim.object_ref(&())
    }
}

/// Object names by disk, from disks by object name.
pub fn by_disk(present: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    present
        .iter()
        .map(|(object, disk)| (disk.clone(), object.clone()))
        .collect()
}
