//! The custom resource definitions of all kinds, and their files in `manifests/crds/`.
//!
//! Take definitions from here, not from `CustomResourceExt::crd`: the whole-disk volume has a status but no status
//! subresource, which the derive can't say.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// All definitions, by kind.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![
        definition::<crate::Event>(),
        definition::<crate::LocalDisk>(),
        definition::<crate::LocalDiskAction>(),
        definition::<crate::LocalDiskClaim>(),
        definition::<crate::LocalDiskNode>(),
        without_subresources(definition::<crate::LocalDiskVolume>()),
        definition::<crate::LocalStorageNode>(),
        definition::<crate::LocalVolume>(),
        definition::<crate::LocalVolumeConvert>(),
        definition::<crate::LocalVolumeExpand>(),
        definition::<crate::LocalVolumeGroup>(),
        definition::<crate::LocalVolumeMigrate>(),
        definition::<crate::LocalVolumeReplica>(),
        definition::<crate::LocalVolumeReplicaSnapshot>(),
        definition::<crate::LocalVolumeReplicaSnapshotRestore>(),
        definition::<crate::LocalVolumeSnapshot>(),
        definition::<crate::LocalVolumeSnapshotRestore>(),
        definition::<crate::ResizePolicy>(),
        definition::<crate::StoragePolicy>(),
        definition::<crate::ThinPoolClaim>(),
    ]
}

fn definition<K: CustomResourceExt>() -> CustomResourceDefinition {
    let mut crd = K::crd();
    crd.spec.names.list_kind = Some(format!("{}List", crd.spec.names.kind));
    for version in &mut crd.spec.versions {
        if let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        {
            schema.title = None;
        }
    }
    crd
}

fn without_subresources(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        version.subresources = None;
    }
    crd
}

/// The definitions by the usual name of their file: `<group>_<plural>.yaml`.
#[must_use]
pub fn files() -> BTreeMap<String, CustomResourceDefinition> {
    definitions()
        .into_iter()
        .map(|crd| {
            (
                format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural),
                crd,
            )
        })
        .collect()
}
