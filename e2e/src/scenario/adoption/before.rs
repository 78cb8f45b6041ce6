//! What is there before Hawser's daemon starts: a node without one, and on it what HwameiStor's daemon left.

use anyhow::{Context, Result};
use hawser_api::{LocalStorageNode, LocalVolume, LocalVolumeGroup, LocalVolumeReplica, names};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::objects::{self, Old};
use super::{DATA, DISK, FOLDER, NAME, OLD_POD, PATIENCE, PAUSE, RECORDS, SIZE, Stage, scripts};
use crate::install::NAMESPACE;
use crate::kit::faults::sh;
use crate::kit::volumes::Mode;
use crate::kit::writer::{Place, Writer};
use crate::kit::{Pending, Scope, wait_for};

impl Stage {
    /// Has a daemon on the node, or none, in the way that users have.
    pub(super) async fn daemon(&self, wanted: bool) -> Result<()> {
        let nodes: Api<Node> = self.scope.cluster();
        let value = if wanted { Value::Null } else { json!("false") };
        let patch = json!({ "metadata": { "labels": { names::labels::NODE_ENABLE: value } } });
        nodes
            .patch(&self.node, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        let pods: Api<Pod> = Api::namespaced(self.scope.client.clone(), NAMESPACE);
        let ours = ListParams::default()
            .labels("app=hwameistor-local-storage")
            .fields(&format!("spec.nodeName={}", self.node));
        let what = format!("a daemon on {}: {wanted}", self.node);
        wait_for(&what, PATIENCE, || async {
            let found = pods.list(&ours).await?.items;
            let ready = found.iter().filter(|pod| is_ready(pod)).count();
            let fits = if wanted { ready == 1 } else { found.is_empty() };
            Ok(if fits {
                Ok(())
            } else {
                Err(Pending::because(format!(
                    "{} pods, {ready} of them ready",
                    found.len()
                )))
            })
        })
        .await
    }

    /// Makes volume group, volume, file system and mount on the node, and the objects. Returns the checksum of what the volume holds.
    pub(super) async fn as_left(&mut self) -> Result<(Old, String)> {
        let class = self.spare.disk_type;
        self.scope.class(NAME, class, &[]).await?;
        let size = format!("{SIZE}Mi");
        let claim = self
            .scope
            .claim(NAME, NAME, &size, "ReadWriteOnce", Mode::Filesystem)
            .await?;
        let uid = claim.uid().context("a claim without uid")?;
        let mut devices = Vec::new();
        for _ in 0..2 {
            let disk = self.bay.plug(DISK, self.spare.kind).await?;
            devices.push(self.bay.device(&disk).await?);
        }
        let storage: Api<LocalStorageNode> = self.scope.cluster();
        let old = Old {
            volume: format!("pvc-{uid}"),
            claim_uid: uid,
            claim: NAME.to_owned(),
            namespace: self.scope.namespace.clone(),
            pod: OLD_POD.to_owned(),
            node: self.node.clone(),
            ip: storage.get(&self.node).await?.spec.storage_ip,
            pool: self.pool.clone(),
            class: class.to_owned(),
            disks: devices.clone(),
            mib: SIZE,
        };
        let script = scripts::make(&self.pool, &old.volume, &devices);
        let sum = sh(&self.scope.lab, &self.node, script).await?;
        self.describe(&old).await?;
        Ok((old, sum))
    }

    /// Makes the objects. The copy before the volume, the volume before its group: none must look as if something were missing.
    async fn describe(&self, old: &Old) -> Result<()> {
        let replicas: Api<LocalVolumeReplica> = self.scope.cluster();
        let replica = old.replica_name();
        Scope::apply(&replicas, &replica, old.replica()).await?;
        set_status(&replicas, &replica, &old.replica_status()).await?;
        let volumes: Api<LocalVolume> = self.scope.cluster();
        Scope::apply(&volumes, &old.volume, old.local_volume()).await?;
        set_status(&volumes, &old.volume, &old.volume_status()).await?;
        let groups: Api<LocalVolumeGroup> = self.scope.cluster();
        Scope::apply(&groups, &old.group(), old.local_volume_group()).await?;
        let persistent: Api<PersistentVolume> = self.scope.cluster();
        Scope::apply(&persistent, &old.volume, old.persistent_volume()).await?;
        self.scope.until_bound(NAME, PATIENCE).await.map(drop)
    }

    /// A pod that has the volume from before, and writes.
    pub(super) async fn old_pod(&self, old: &Old) -> Result<Writer> {
        let pods: Api<Pod> = self.scope.api();
        Scope::apply(
            &pods,
            OLD_POD,
            objects::pod(OLD_POD, &old.node, FOLDER, DATA),
        )
        .await?;
        self.scope.pod_ready(OLD_POD, PATIENCE).await?;
        let place = Place::File(format!("{DATA}/records"));
        let mut writer = Writer::start_at(&self.scope, OLD_POD, place, 1, PAUSE);
        writer.reached(RECORDS).await?;
        Ok(writer)
    }
}

async fn set_status<K>(api: &Api<K>, name: &str, status: &Value) -> Result<()>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let patch = json!({ "status": status });
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .with_context(|| format!("setting the status of {name}"))?;
    Ok(())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
