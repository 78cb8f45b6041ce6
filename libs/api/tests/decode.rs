//! Whatever a cluster holds decodes, and nothing that was known is lost on the way back.

use hawser_api::*;
use serde_json::{Value, json};

fn decode<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("a stored object decodes")
}

#[test]
fn objects_without_spec_or_status_decode() {
    let bare = json!({ "apiVersion": "hwameistor.io/v1alpha1", "kind": "Any", "metadata": { "name": "a" } });
    let _: Event = decode(bare.clone());
    let _: LocalDisk = decode(bare.clone());
    let _: LocalDiskAction = decode(bare.clone());
    let _: LocalDiskClaim = decode(bare.clone());
    let _: LocalDiskNode = decode(bare.clone());
    let _: LocalDiskVolume = decode(bare.clone());
    let _: LocalStorageNode = decode(bare.clone());
    let _: LocalVolumeConvert = decode(bare.clone());
    let _: LocalVolumeExpand = decode(bare.clone());
    let _: LocalVolumeGroup = decode(bare.clone());
    let _: LocalVolumeMigrate = decode(bare.clone());
    let _: LocalVolumeReplica = decode(bare.clone());
    let _: LocalVolumeReplicaSnapshot = decode(bare.clone());
    let _: LocalVolumeReplicaSnapshotRestore = decode(bare.clone());
    let _: LocalVolumeSnapshot = decode(bare.clone());
    let _: LocalVolumeSnapshotRestore = decode(bare.clone());
    let _: ResizePolicy = decode(bare.clone());
    let _: StoragePolicy = decode(bare.clone());
    let _: ThinPoolClaim = decode(bare.clone());
    let volume: LocalVolume = decode(bare);
    assert_eq!(volume.spec, LocalVolumeSpec::default());
    assert_eq!(volume.status, None);
}

#[test]
fn null_is_absent_at_any_depth() {
    let volume: LocalVolume = decode(json!({
        "metadata": { "name": "a", "labels": null },
        "spec": {
            "poolName": null,
            "replicaNumber": null,
            "delete": null,
            "accessibility": { "nodes": ["n1", null], "regions": null },
            "config": { "replicas": null, "convertible": null, "resourceID": null, "version": 3 },
            "volumeQoS": null
        },
        "status": { "state": null, "replicas": null, "rawblock": null, "conditions": [null] }
    }));
    assert_eq!(volume.spec.accessibility.unwrap().nodes, ["n1"]);
    let config = volume.spec.config.unwrap();
    assert_eq!((config.version, config.replicas.len()), (3, 0));
    assert_eq!(volume.status, Some(LocalVolumeStatus::default()));

    let nothing: LocalVolume = decode(json!({ "metadata": {}, "spec": null, "status": null }));
    assert_eq!(nothing.spec, LocalVolumeSpec::default());
}

#[test]
fn unknown_states_and_fields_are_borne_and_states_are_kept() {
    let replica: LocalVolumeReplica = decode(json!({
        "metadata": { "name": "a" },
        "spec": { "poolName": "LocalStorage_PoolSSD", "someday": { "x": 1 } },
        "status": { "state": "Levitating", "haState": { "state": "" }, "condition": [] }
    }));
    let status = replica.status.clone().unwrap();
    assert_eq!(status.state, ReplicaState::Other("Levitating".to_owned()));
    assert_eq!(status.ha_state.unwrap().state, HaDataState::Unset);
    let back = serde_json::to_value(&replica).unwrap();
    assert_eq!(back["status"]["state"], "Levitating");
}

#[test]
fn what_is_unset_is_not_written() {
    let written = serde_json::to_value(LocalVolume::new("a", LocalVolumeSpec::default())).unwrap();
    assert_eq!(written["spec"], json!({}));
    let written = serde_json::to_value(LocalVolumeReplicaStatus::default()).unwrap();
    assert_eq!(written, json!({}));
    // Required fields are always written.
    let written = serde_json::to_value(LocalDisk::new("a", LocalDiskSpec::default())).unwrap();
    assert_eq!(written["spec"], json!({ "devLinks": [], "nodeName": "" }));
}

#[test]
fn the_names_of_the_api_are_written() {
    let spec = LocalVolumeSpec {
        volume_group: "g".to_owned(),
        volume_qos: Some(VolumeQoS {
            iops: "300".to_owned(),
            throughput: "20Mi".to_owned(),
        }),
        config: Some(VolumeConfig {
            resource_id: -1,
            ..VolumeConfig::default()
        }),
        ..LocalVolumeSpec::default()
    };
    let written = serde_json::to_value(&spec).unwrap();
    assert_eq!(written["volumegroup"], "g");
    assert_eq!(
        written["volumeQoS"],
        json!({ "iops": "300", "throughput": "20Mi" })
    );
    assert_eq!(written["config"]["resourceID"], -1);
    assert_eq!(
        serde_json::from_value::<LocalVolumeSpec>(written).unwrap(),
        spec
    );
}

#[test]
fn a_migration_moves_the_group_unless_told_otherwise() {
    let absent: LocalVolumeMigrateSpec = decode(json!({ "volumeName": "v", "sourceNode": "n1" }));
    assert!(absent.migrate_all_vols);
    let told: LocalVolumeMigrateSpec = decode(json!({ "migrateAllVols": false }));
    assert!(!told.migrate_all_vols);
    assert_eq!(
        serde_json::to_value(&told).unwrap()["migrateAllVols"],
        false
    );
}

#[test]
fn errors_say_what_does_not_fit() {
    let error = serde_json::from_value::<LocalVolume>(
        json!({ "metadata": {}, "spec": { "replicaNumber": "two" } }),
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("expected i64"), "{error}");
}
