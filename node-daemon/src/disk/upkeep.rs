//! Keeps `LocalDisk` objects: plans what has to be written, and writes it.

use std::collections::{BTreeMap, BTreeSet};

use hawser_api::LocalDisk;
use hawser_runtime::error::Category;
use hawser_runtime::patch::{self, PatchError};
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::Disk;
use super::identity::{Verdict, assign};
use super::object::{self, LvmUse};
use super::scan::Scan;

/// What is to be written about one disk.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A disk without an object.
    Create { name: String, disk: String },
    /// The object of a disk that is there says something else.
    Update { name: String, disk: String },
    /// The disk of this object is gone.
    Gone { name: String },
    /// Only how far the disk is given away.
    Status { name: String, disk: String },
}

/// What LVM knows of each disk, by the disk's name.
pub type LvmUses = BTreeMap<String, LvmUse>;

/// What the disks of this node are, and what is to be written about them.
#[derive(Debug, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Object's name to disk's name, for those that are there.
    pub present: BTreeMap<String, String>,
    /// Disks that nothing is done with, and why.
    pub doubts: Vec<String>,
}

/// Pure: what has to be written so that the objects say what is there.
pub fn plan(
    node: &str,
    objects: &[LocalDisk],
    scan: &Scan,
    lvm: &LvmUses,
    taken: &BTreeSet<String>,
) -> Plan {
    let mut plan = Plan::default();
    let by_name: BTreeMap<String, &LocalDisk> = objects.iter().map(|o| (o.name_any(), o)).collect();
    let unused = LvmUse::None;
    for (disk, verdict) in scan
        .disks
        .iter()
        .zip(assign(node, objects, &scan.disks, taken))
    {
        let lvm = lvm.get(&disk.name).unwrap_or(&unused);
        match verdict {
            Verdict::Known(name) => {
                plan.present.insert(name.clone(), disk.name.clone());
                let Some(object) = by_name.get(&name) else {
                    continue;
                };
                if object::spec(node, &name, &object.spec, disk, lvm) != object.spec {
                    plan.steps.push(Step::Update {
                        name,
                        disk: disk.name.clone(),
                    });
                } else if Some(object::status(object, Some(disk), lvm)) != object.status {
                    plan.steps.push(Step::Status {
                        name,
                        disk: disk.name.clone(),
                    });
                }
            }
            Verdict::New(name) => {
                plan.present.insert(name.clone(), disk.name.clone());
                plan.steps.push(Step::Create {
                    name,
                    disk: disk.name.clone(),
                });
            }
            Verdict::Doubt(why) => plan.doubts.push(why),
        }
    }
    // In doubt about a disk, or while udev still looks at one, none is declared gone.
    if scan.settled && plan.doubts.is_empty() {
        for object in objects {
            let name = object.name_any();
            if !plan.present.contains_key(&name) && object::gone(&object.spec) != object.spec {
                plan.steps.push(Step::Gone { name });
            }
        }
    }
    plan
}

/// Writes objects; knows which names turned out to be taken by other nodes.
#[derive(Debug)]
pub struct Upkeep {
    node: String,
    api: Api<LocalDisk>,
    taken: BTreeSet<String>,
}

/// Objects as they are after [`Upkeep::run`], and their disks.
#[derive(Debug, Default)]
pub struct Kept {
    pub objects: Vec<LocalDisk>,
    pub present: BTreeMap<String, String>,
    pub doubts: Vec<String>,
}

impl Upkeep {
    pub fn new(node: impl Into<String>, api: Api<LocalDisk>) -> Self {
        Self {
            node: node.into(),
            api,
            taken: BTreeSet::new(),
        }
    }

    /// Plans and writes. Fails at the first object that can't be written; what was written stays, and the next run goes on.
    pub async fn run(
        &mut self,
        objects: Vec<LocalDisk>,
        scan: &Scan,
        lvm: &LvmUses,
    ) -> Result<Kept, PatchError> {
        let plan = plan(&self.node, &objects, scan, lvm, &self.taken);
        let mut objects: BTreeMap<String, LocalDisk> =
            objects.into_iter().map(|o| (o.name_any(), o)).collect();
        for step in plan.steps {
            self.apply(&mut objects, scan, lvm, &step).await?;
        }
        Ok(Kept {
            objects: objects.into_values().collect(),
            present: plan.present,
            doubts: plan.doubts,
        })
    }

    async fn apply(
        &mut self,
        objects: &mut BTreeMap<String, LocalDisk>,
        scan: &Scan,
        lvm: &LvmUses,
        step: &Step,
    ) -> Result<(), PatchError> {
        let disk = match step {
            Step::Create { disk, .. } | Step::Update { disk, .. } | Step::Status { disk, .. } => {
                let found = scan.disks.iter().find(|d| d.name == *disk);
                let Some(disk) = found else { return Ok(()) };
                Some(disk)
            }
            Step::Gone { .. } => None,
        };
        let unused = LvmUse::None;
        let lvm = disk.and_then(|d| lvm.get(&d.name)).unwrap_or(&unused);
        let written = match (step, disk) {
            (Step::Create { name, .. }, Some(disk)) => self.create(name, disk, lvm).await?,
            (Step::Update { name, .. }, Some(disk)) => {
                let seen = objects.get(name).cloned();
                let node = &self.node;
                let written = patch::update(&self.api, name, seen, |object| {
                    object.spec = object::spec(node, name, &object.spec, disk, lvm);
                })
                .await?;
                tracing::info!(object = %name, disk = %disk.name, "LocalDisk updated");
                Some(written.into_inner())
            }
            (Step::Gone { name }, _) => {
                let seen = objects.get(name).cloned();
                let written = patch::update(&self.api, name, seen, |object| {
                    object.spec = object::gone(&object.spec);
                })
                .await?;
                tracing::info!(object = %name, "disk is gone");
                Some(written.into_inner())
            }
            (Step::Status { name, .. }, _) => objects.get(name).cloned(),
            (Step::Create { .. } | Step::Update { .. }, None) => None,
        };
        let Some(written) = written else {
            return Ok(());
        };
        let wanted = object::status(&written, disk, lvm);
        let written = patch::status(&self.api, &written, &wanted)
            .await?
            .into_inner();
        objects.insert(written.name_any(), written);
        Ok(())
    }

    /// `None` if the name is another node's: the next run takes another name.
    async fn create(
        &mut self,
        name: &str,
        disk: &Disk,
        lvm: &LvmUse,
    ) -> Result<Option<LocalDisk>, PatchError> {
        let object = object::create(&self.node, name, disk, lvm);
        match self.api.create(&PostParams::default(), &object).await {
            Ok(created) => {
                tracing::info!(object = %name, disk = %disk.name, bytes = disk.bytes, "disk found");
                Ok(Some(created))
            }
            Err(error) if Category::of_kube(&error) == Category::AlreadyExists => {
                // Ours, but not seen yet (then it is found by its facts), or another node's.
                match self.api.get(name).await {
                    Ok(other) if object::is_of_node(&other.spec, &self.node) => Ok(Some(other)),
                    Ok(_) => {
                        self.taken.insert(name.to_owned());
                        Ok(None)
                    }
                    Err(source) => Err(api_error("read", name, source)),
                }
            }
            Err(source) => Err(api_error("create", name, source)),
        }
    }
}

fn api_error(verb: &'static str, name: &str, source: kube::Error) -> PatchError {
    PatchError::Api {
        verb,
        kind: "LocalDisk".to_owned(),
        name: name.to_owned(),
        source,
    }
}

#[cfg(test)]
#[path = "upkeep_tests.rs"]
mod tests;
