//! What is never logged: values of parameters, secrets, contexts.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};

use hawser_api::parameters::keys;
use hawser_csi::v1::{self as csi, CapacityRange};
use serde_json::json;

use crate::support::{World, claim_request, mount, nodes::GIB, request};

const MARKER: &str = "xyzzy-not-for-logs";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn marked() -> HashMap<String, String> {
    HashMap::from([("key".to_owned(), MARKER.to_owned())])
}

/// A pod of two claims, one of whose class can't be served.
fn a_pod_with_a_wrong_class(world: &World) -> String {
    world.api.put(
        "apis/storage.k8s.io/v1/storageclasses",
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "sealed"},
            "provisioner": "lvm.hwameistor.io", "volumeBindingMode": "WaitForFirstConsumer",
            "parameters": {"poolClass": "HDD", "replicaNumber": "1", "encryptType": "LUKS", "encryptSecret": format!("vault/{MARKER}")},
        }),
    );
    world.api.put(
        "api/v1/persistentvolumeclaims",
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "log", "namespace": "shop"},
            "spec": {"storageClassName": "sealed", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }),
    );
    let volume = world.claim("data", GIB, Some("n1"));
    world.pod("db-0", &["data", "log"]);
    volume
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_parameters_and_contexts_are_never_logged() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let mut world = World::new(&[("n1", 10 * GIB)]);
    world.log = Some(subscriber.into());
    // While there is one subscriber in the process, a place in the code that is first reached by another test's thread is silent
    // for all (`has_just_one` of tracing-core's callsites); with two it is not.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    let joint = a_pod_with_a_wrong_class(&world);
    let provisioner = world.start().await;
    let mut client = provisioner.controller();

    let unknown = ["a.key.that.nobody.knows", keys::PVC_NAME];
    for key in keys::KNOWN.iter().chain(&unknown) {
        let mut create = request("pvc-1", GIB);
        // Also not what an object could be called, nor a number.
        create
            .parameters
            .insert((*key).to_owned(), format!("{MARKER}_/"));
        create.secrets = marked();
        if *key == keys::PVC_NAME {
            let namespace = keys::PVC_NAMESPACE.to_owned();
            create.parameters.insert(namespace, "shop".to_owned());
        }
        let parameters = create.parameters.clone();
        if keys::WITHOUT_EFFECT.contains(key) || *key == keys::FS_TYPE {
            let _ = client.create_volume(create).await;
        } else {
            let refused = client.create_volume(create).await;
            assert!(refused.is_err(), "{key}");
        }
        let capacity = csi::GetCapacityRequest {
            parameters: parameters.clone(),
            ..Default::default()
        };
        let _ = client.get_capacity(capacity).await;
        let validate = csi::ValidateVolumeCapabilitiesRequest {
            volume_id: "pvc-1".into(),
            volume_context: marked(),
            volume_capabilities: vec![mount("")],
            parameters,
            secrets: marked(),
            ..Default::default()
        };
        let _ = client.validate_volume_capabilities(validate).await;
    }
    provisioner
        .create(claim_request(&joint, "data", GIB, "n1"))
        .await
        .unwrap();
    let publish = csi::ControllerPublishVolumeRequest {
        volume_id: joint.clone(),
        node_id: "n1".into(),
        volume_capability: Some(mount("")),
        secrets: marked(),
        volume_context: marked(),
        ..Default::default()
    };
    client.controller_publish_volume(publish).await.unwrap();
    let expand = csi::ControllerExpandVolumeRequest {
        volume_id: joint.clone(),
        capacity_range: Some(CapacityRange {
            required_bytes: 2 * GIB,
            limit_bytes: 0,
        }),
        secrets: marked(),
        ..Default::default()
    };
    client.controller_expand_volume(expand).await.unwrap();
    let unpublish = csi::ControllerUnpublishVolumeRequest {
        volume_id: joint.clone(),
        node_id: "n1".into(),
        secrets: marked(),
    };
    client.controller_unpublish_volume(unpublish).await.unwrap();
    let delete = csi::DeleteVolumeRequest {
        volume_id: joint,
        secrets: marked(),
    };
    client.delete_volume(delete).await.unwrap();
    drop(provisioner);

    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for said in ["encryptSecret", "is refused", "placed together"] {
        assert!(text.contains(said), "{said} is not in: {text}");
    }
    let told: Vec<_> = text.lines().filter(|line| line.contains(MARKER)).collect();
    assert_eq!(told, Vec::<&str>::new());
}
