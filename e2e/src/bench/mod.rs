//! `cargo lab bench`: figures of Hawser on the lab, each taken beside what it is compared with, in one run, interleaved. Prints a table in Markdown.

mod fio;
mod memory;
pub(crate) mod table;
mod volume;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use hawser_api::names;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::kit::{Pending, Scope, wait_for};
use crate::lab::Lab;
use table::Row;

/// A class whose volumes are made at once, without a pod.
const CLASS: &str = "bench-immediate";
/// A hundred volumes are asked for at once.
const PATIENCE: Duration = Duration::from_secs(900);

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Resident memory of each component, idle and with 100 volumes
    Memory,
    /// From a claim to its volume, beside `lvcreate`
    Volume,
    /// fio through a volume, beside the logical volume under it
    Fio,
}

/// Takes the figures of these parts, of all if none is named, and prints them.
///
/// # Errors
/// If a volume can't be made or deleted, or a tool on a node fails.
pub(crate) async fn run(lab: &Lab, parts: &[Part]) -> Result<()> {
    let wanted = |part| parts.is_empty() || parts.contains(&part);
    let scope = Scope::open(lab, "bench").await?;
    let pools = scope.ensure_pools().await?;
    let class = pools
        .first()
        .and_then(|pool| names::pools::class_of(&pool.name))
        .context("no pool has a class")?
        .to_string();
    make_class(&scope, &class).await?;
    let mut rows: Vec<Row> = Vec::new();
    if wanted(Part::Memory) {
        rows.extend(memory::idle(&scope)?);
    }
    if wanted(Part::Volume) {
        rows.extend(volume::run(&scope, &pools).await?);
    }
    if wanted(Part::Fio) {
        rows.extend(fio::run(&scope).await?);
    }
    if wanted(Part::Memory) {
        rows.extend(memory::with_volumes(&scope).await?);
    }
    scope.close().await?;
    println!("{}", table::markdown(&rows));
    Ok(())
}

async fn make_class(scope: &Scope, pool_class: &str) -> Result<()> {
    let object = json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": { "name": CLASS },
        "provisioner": names::LVM_DRIVER,
        "parameters": { "poolClass": pool_class, "replicaNumber": "1" },
        "volumeBindingMode": "Immediate",
        "reclaimPolicy": "Delete",
    });
    Scope::apply(&scope.cluster::<StorageClass>(), CLASS, object).await?;
    Ok(())
}

/// Asks for a volume without a pod.
async fn claim(scope: &Scope, name: &str, size: &str, mode: &str) -> Result<()> {
    let claims: Api<PersistentVolumeClaim> = scope.api();
    let object = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": name, "namespace": scope.namespace },
        "spec": {
            "storageClassName": CLASS,
            "volumeMode": mode,
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": size } },
        },
    });
    Scope::apply(&claims, name, object).await?;
    Ok(())
}

/// Waits until a claim is bound; returns its volume.
async fn bound(scope: &Scope, name: &str) -> Result<String> {
    wait_for(&format!("claim {name} to be bound"), PATIENCE, || async {
        let claims: Api<PersistentVolumeClaim> = scope.api();
        let claim = claims.get(name).await?;
        let phase = claim
            .status
            .and_then(|status| status.phase)
            .unwrap_or_default();
        let volume = claim.spec.and_then(|spec| spec.volume_name);
        Ok(match volume {
            Some(volume) if phase == "Bound" => Ok(volume),
            _ => Err(Pending::because(scope.last_event(name).await?)),
        })
    })
    .await
}

/// Deletes a claim and waits until its volume is gone.
async fn release(scope: &Scope, name: &str, volume: &str) -> Result<()> {
    let claims: Api<PersistentVolumeClaim> = scope.api();
    claims.delete(name, &DeleteParams::default()).await?;
    let volumes: Api<hawser_api::LocalVolume> = scope.cluster();
    wait_for(&format!("volume {volume} to go"), PATIENCE, || async {
        Ok(match volumes.get_opt(volume).await? {
            None => Ok(()),
            Some(left) => Err(Pending::because(format!("{:?}", left.status))),
        })
    })
    .await
}
