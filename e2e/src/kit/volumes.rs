//! Claims and pods that use them: as a file system or as a block device, to write or only to read; how claims grow, and how all of it ends.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::objects::Pool;
use super::scope::Scope;
use super::wait::{Pending, wait_for};
use crate::image::base::BUSYBOX;

/// What a claim is in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Filesystem,
    Block,
}

impl Mode {
    /// As `spec.volumeMode` says it.
    fn word(self) -> &'static str {
        match self {
            Self::Filesystem => "Filesystem",
            Self::Block => "Block",
        }
    }
}

/// How a pod uses a claim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use<'a> {
    /// The claim's name, which must be a DNS label: it names the volume in the pod, too.
    pub(crate) claim: &'a str,
    /// Where the pod has it: a folder, or a device.
    pub(crate) at: &'a str,
    pub(crate) mode: Mode,
    pub(crate) read_only: bool,
}

impl Scope {
    /// Asks for a volume; `access` is an access mode as the API spells it.
    pub(crate) async fn claim(
        &self,
        name: &str,
        class: &str,
        size: &str,
        access: &str,
        mode: Mode,
    ) -> Result<PersistentVolumeClaim> {
        let object = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name },
            "spec": {
                "storageClassName": class, "accessModes": [access], "volumeMode": mode.word(),
                "resources": { "requests": { "storage": size } },
            },
        });
        Self::apply(&self.api::<PersistentVolumeClaim>(), name, object).await
    }

    /// Makes a pod that sleeps beside its claims, for commands to be run in it. `more` goes into its spec.
    pub(crate) async fn pod(&self, name: &str, uses: &[Use<'_>], more: Value) -> Result<()> {
        Self::apply(&self.api::<Pod>(), name, pod(name, uses, more)).await?;
        Ok(())
    }

    /// Asks a claim to grow.
    pub(crate) async fn ask(&self, claim: &str, size: &str) -> Result<()> {
        let patch = json!({ "spec": { "resources": { "requests": { "storage": size } } } });
        self.api::<PersistentVolumeClaim>()
            .patch(claim, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .with_context(|| format!("asking {size} for claim {claim}"))?;
        Ok(())
    }

    /// The capacity that a claim's status says; empty before it is bound.
    pub(crate) async fn capacity_of(&self, claim: &str) -> Result<String> {
        let claims: Api<PersistentVolumeClaim> = self.api();
        let status = claims.get(claim).await?.status.unwrap_or_default();
        let size = status.capacity.and_then(|c| c.get("storage").cloned());
        Ok(size.map(|quantity| quantity.0).unwrap_or_default())
    }

    /// Waits until a claim has this capacity.
    pub(crate) async fn until_has(
        &self,
        claim: &str,
        size: &str,
        patience: Duration,
    ) -> Result<()> {
        wait_for(
            &format!("claim {claim} to have {size}"),
            patience,
            || async {
                let has = self.capacity_of(claim).await?;
                Ok(if has == size {
                    Ok(())
                } else {
                    let events = self.events(claim).await?;
                    Err(Pending::because(format!("it has {has:?}; {events:?}")))
                })
            },
        )
        .await
    }

    /// Waits until a claim is bound; returns its volume.
    pub(crate) async fn until_bound(&self, claim: &str, patience: Duration) -> Result<String> {
        let claims: Api<PersistentVolumeClaim> = self.api();
        wait_for(&format!("claim {claim} to be bound"), patience, || async {
            let found = claims.get(claim).await?;
            let phase = found.status.and_then(|status| status.phase);
            let volume = found.spec.and_then(|spec| spec.volume_name);
            Ok(match volume {
                Some(volume) if phase.as_deref() == Some("Bound") => Ok(volume),
                _ => Err(Pending::because(self.last_event(claim).await?)),
            })
        })
        .await
    }

    /// Waits until the pools are as they were: every byte is free again, and no other volume was touched.
    pub(crate) async fn until_pools(&self, before: &[Pool], patience: Duration) -> Result<()> {
        wait_for("the pools to be as before", patience, || async {
            let now = self.pools().await?;
            Ok(if now == before {
                Ok(())
            } else {
                Err(Pending::because(format!(
                    "they are {now:?}, they were {before:?}"
                )))
            })
        })
        .await
    }

    /// Deletes classes whose names begin so.
    pub(crate) async fn sweep_classes(&self, prefix: &str) -> Result<()> {
        let classes: Api<StorageClass> = self.cluster();
        for class in classes.list(&kube::api::ListParams::default()).await? {
            let name = class.metadata.name.unwrap_or_default();
            if name.starts_with(prefix) {
                delete(&classes, &name).await?;
            }
        }
        Ok(())
    }
}

/// Deletes an object; one that is not there is deleted.
pub(crate) async fn delete<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: Clone + Debug + DeserializeOwned,
{
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop).with_context(|| format!("deleting {name}")),
    }
}

/// Deletes an object and waits until it is gone.
pub(crate) async fn remove<K>(api: &Api<K>, name: &str, patience: Duration) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    delete(api, name).await?;
    let what = format!("{} {name} to go", K::kind(&()));
    wait_for(&what, patience, || async {
        Ok(match api.get_opt(name).await? {
            None => Ok(()),
            Some(left) => Err(Pending::because(format!(
                "it is being deleted since {:?}, with finalizers {:?}",
                left.meta().deletion_timestamp,
                left.meta().finalizers
            ))),
        })
    })
    .await
}

fn pod(name: &str, uses: &[Use<'_>], more: Value) -> Value {
    let (mut mounts, mut devices, mut volumes) = (Vec::new(), Vec::new(), Vec::new());
    for one in uses {
        match one.mode {
            Mode::Filesystem => mounts.push(json!({ "name": one.claim, "mountPath": one.at })),
            Mode::Block => devices.push(json!({ "name": one.claim, "devicePath": one.at })),
        }
        volumes.push(json!({
            "name": one.claim,
            "persistentVolumeClaim": { "claimName": one.claim, "readOnly": one.read_only },
        }));
    }
    let mut spec = json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "main", "image": format!("{}:{}", BUSYBOX.0, BUSYBOX.1), "imagePullPolicy": "Never",
            "command": ["sleep", "2147483647"], "volumeMounts": mounts, "volumeDevices": devices,
        }],
        "volumes": volumes,
    });
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_each_claim_as_it_is_asked() {
        let uses = [
            Use {
                claim: "files",
                at: "/data",
                mode: Mode::Filesystem,
                read_only: true,
            },
            Use {
                claim: "disk",
                at: "/dev/disk",
                mode: Mode::Block,
                read_only: false,
            },
        ];
        let object = pod("p", &uses, json!({ "nodeName": "n1" }));
        let pod: Pod = serde_json::from_value(object).unwrap();
        let spec = pod.spec.unwrap();
        let container = &spec.containers[0];
        assert_eq!(spec.node_name.as_deref(), Some("n1"));
        assert_eq!(
            container.volume_mounts.as_ref().unwrap()[0].mount_path,
            "/data"
        );
        assert_eq!(
            container.volume_devices.as_ref().unwrap()[0].device_path,
            "/dev/disk"
        );
        let read_only: Vec<_> = spec
            .volumes
            .unwrap()
            .into_iter()
            .map(|volume| volume.persistent_volume_claim.unwrap().read_only)
            .collect();
        assert_eq!(read_only, [Some(true), Some(false)]);
    }
}
