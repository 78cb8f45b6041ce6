//! Every field of the Controller's requests that can be wrong: a sentence that names it, and nothing changed.

use hawser_csi::v1::{
    self as csi, CapacityRange, CreateVolumeRequest, Topology, TopologyRequirement,
    VolumeCapability, VolumeContentSource, volume_capability::AccessMode, volume_content_source,
};
use tonic::{Code, Status};

use crate::support::{Provisioner, World, block, mount, nodes::GIB, request};

fn sized(required_bytes: i64, limit_bytes: i64) -> CreateVolumeRequest {
    CreateVolumeRequest {
        capacity_range: Some(CapacityRange {
            required_bytes,
            limit_bytes,
        }),
        ..request("pvc-1", GIB)
    }
}

fn parameter(key: &str, value: Option<&str>) -> CreateVolumeRequest {
    let mut request = request("pvc-1", GIB);
    match value {
        Some(value) => request.parameters.insert(key.to_owned(), value.to_owned()),
        None => request.parameters.remove(key),
    };
    request
}

trait OfClaim {
    fn of_claim(self, namespace: &str) -> Self;
}

impl OfClaim for CreateVolumeRequest {
    fn of_claim(mut self, namespace: &str) -> Self {
        let key = "csi.storage.k8s.io/pvc/namespace".to_owned();
        self.parameters.insert(key, namespace.to_owned());
        self
    }
}

fn cases() -> Vec<(CreateVolumeRequest, Code, &'static str)> {
    use Code::{InvalidArgument, OutOfRange};
    let good = || request("pvc-1", GIB);
    let capable = |capabilities| CreateVolumeRequest {
        volume_capabilities: capabilities,
        ..good()
    };
    let snapshot = volume_content_source::SnapshotSource {
        snapshot_id: "snapcontent-1".into(),
    };
    let source = VolumeContentSource {
        r#type: Some(volume_content_source::Type::Snapshot(snapshot)),
    };
    let elsewhere = Topology {
        segments: [("topology.kubernetes.io/zone".to_owned(), "z".to_owned())].into(),
    };
    vec![
        (
            CreateVolumeRequest {
                name: String::new(),
                ..good()
            },
            InvalidArgument,
            "name",
        ),
        (
            CreateVolumeRequest {
                name: "n".repeat(129),
                ..good()
            },
            InvalidArgument,
            "129",
        ),
        (
            CreateVolumeRequest {
                name: "a\u{1}b".into(),
                ..good()
            },
            InvalidArgument,
            "control",
        ),
        (capable(Vec::new()), InvalidArgument, "volume_capabilities"),
        (capable(vec![mount("ntfs")]), InvalidArgument, "ntfs"),
        (
            capable(vec![mount(""), block()]),
            InvalidArgument,
            "block and mount",
        ),
        (
            capable(vec![VolumeCapability {
                access_mode: None,
                ..mount("")
            }]),
            InvalidArgument,
            "access_mode",
        ),
        (
            capable(vec![VolumeCapability {
                access_mode: Some(AccessMode { mode: 99 }),
                ..mount("")
            }]),
            InvalidArgument,
            "99",
        ),
        (
            capable(vec![VolumeCapability {
                access_type: None,
                ..mount("")
            }]),
            InvalidArgument,
            "access_type",
        ),
        (sized(-1, 0), InvalidArgument, "required_bytes is -1"),
        (sized(0, -5), InvalidArgument, "limit_bytes is -5"),
        (sized(2 * GIB, GIB), InvalidArgument, "limit_bytes"),
        (sized(i64::MAX, 0), OutOfRange, "largest"),
        (sized(i64::MAX - 1, i64::MAX), OutOfRange, "largest"),
        (sized(GIB + 1, GIB + 2), OutOfRange, "extents"),
        (parameter("poolClass", None), InvalidArgument, "poolClass"),
        (
            parameter("poolClass", Some("hdd")),
            InvalidArgument,
            "\"hdd\"",
        ),
        (
            parameter("replicaNumber", None),
            InvalidArgument,
            "replicaNumber",
        ),
        (
            parameter("replicaNumber", Some("2")),
            InvalidArgument,
            "replicaNumber",
        ),
        (
            parameter("convertible", Some("true")),
            InvalidArgument,
            "convertible",
        ),
        (parameter("thin", Some("true")), InvalidArgument, "thin"),
        (
            parameter("replicaNumber", Some("one")),
            InvalidArgument,
            "\"one\"",
        ),
        (
            parameter("provision-iops-on-creation", Some("300")),
            InvalidArgument,
            "\"provision-iops-on-creation\" is \"300\"",
        ),
        (
            parameter("provision-throughput-on-creation", Some("fast")),
            InvalidArgument,
            "\"fast\"",
        ),
        (
            parameter("encryptSecret", Some("vault/key")),
            InvalidArgument,
            "encryptType",
        ),
        (
            parameter("csi.storage.k8s.io/pvc/name", Some("data")).of_claim("../pods"),
            InvalidArgument,
            "\"../pods\"",
        ),
        (
            parameter("flavour", Some("sweet")),
            InvalidArgument,
            "flavour",
        ),
        (
            CreateVolumeRequest {
                volume_content_source: Some(source),
                ..good()
            },
            InvalidArgument,
            "snapcontent-1",
        ),
        (
            CreateVolumeRequest {
                mutable_parameters: [("iops".to_owned(), "7".to_owned())].into(),
                ..good()
            },
            InvalidArgument,
            "mutable_parameters",
        ),
        (
            CreateVolumeRequest {
                accessibility_requirements: Some(TopologyRequirement {
                    requisite: vec![elsewhere],
                    preferred: Vec::new(),
                }),
                ..good()
            },
            InvalidArgument,
            "topology.lvm.hwameistor.io/node",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_fields_are_named_and_nothing_is_changed() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = world.start().await;
    for (request, code, word) in cases() {
        let refused = provisioner.create(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(word), "{word}: {refused}");
    }
    world.assert_empty();
    assert!(
        world.api.calls().iter().all(|c| !c.is_write() || c.wakes()),
        "something was written"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_is_not_given_is_a_default_and_secrets_stay_out_of_objects() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = world.start().await;
    let mut plain = request("pvc-1", 0);
    plain.capacity_range = None;
    plain.secrets.insert("password".into(), "hunter2".into());
    assert_eq!(provisioner.create(plain).await.unwrap().capacity_bytes, GIB);
    assert_eq!(
        provisioner
            .create(sized_other("pvc-2", 0))
            .await
            .unwrap()
            .capacity_bytes,
        GIB
    );
    let everything: String = world
        .api
        .calls()
        .iter()
        .map(|c| c.body.to_string())
        .collect();
    assert!(!everything.contains("hunter2"));
}

fn sized_other(name: &str, required_bytes: i64) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.into(),
        ..sized(required_bytes, 0)
    }
}

/// Makes `pvc-1` and waits until all has been written about it; the event is the last.
async fn a_volume(world: &World, provisioner: &Provisioner) {
    provisioner.create(request("pvc-1", GIB)).await.unwrap();
    world
        .until("the volume is Ready and has been announced", |w| {
            w.volume("pvc-1").unwrap()["status"]["state"] == "Ready"
                && w.api
                    .calls()
                    .iter()
                    .any(|call| call.is_write() && call.body["reason"] == "VolumeReady")
        })
        .await;
}

/// Ids that no volume has; as a part of a URL, most of them would be something else.
fn nobodys() -> Vec<String> {
    let mut ids: Vec<String> = [
        "pvc-9",
        "../localvolumegroups/g1",
        "pvc-1/status",
        "pvc-1?watch=true",
        "%2e%2e",
        "..",
        "a b",
        "Ä",
        "pvc-1\n",
    ]
    .map(str::to_owned)
    .into();
    ids.extend([128, 129, 5000].map(|n| "x".repeat(n)));
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_no_volume_are_said_to_be_unknown_and_lead_nowhere() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = world.start().await;
    a_volume(&world, &provisioner).await;
    world.api.forget_calls();
    let before = world.dump();
    let mut client = provisioner.controller();
    for id in nobodys() {
        let validate = csi::ValidateVolumeCapabilitiesRequest {
            volume_id: id.clone(),
            volume_capabilities: vec![mount("")],
            ..Default::default()
        };
        let get = csi::ControllerGetVolumeRequest {
            volume_id: id.clone(),
        };
        let refusals = [
            provisioner.publish(&id, "n1").await.map(drop),
            provisioner.expand(&id, 2 * GIB).await.map(drop),
            client
                .validate_volume_capabilities(validate)
                .await
                .map(drop),
            client.controller_get_volume(get).await.map(drop),
        ];
        for (call, refused) in refusals.into_iter().enumerate() {
            let refused = refused.unwrap_err();
            assert_eq!(refused.code(), Code::NotFound, "{call} {id:?}: {refused}");
            let said = format!("volume {id:?} does not exist");
            assert_eq!(refused.message(), said, "{call}");
        }
        // What is not there is gone, and used nowhere.
        provisioner.unpublish(&id, "n1").await.unwrap();
        provisioner.delete(&id).await.unwrap();
    }
    let node = provisioner.publish("pvc-1", "../pods/x").await.unwrap_err();
    assert_eq!(node.code(), Code::NotFound, "{node}");
    assert!(
        node.message().contains("node \"../pods/x\" does not exist"),
        "{node}"
    );
    let calls = world.api.calls();
    assert!(calls.iter().all(|c| !c.is_write()), "something was written");
    let odd = calls
        .iter()
        .find(|c| c.verb == "get" && !["pvc-9", "pvc-1"].contains(&c.place.name.as_str()));
    assert!(
        odd.is_none_or(|c| c.place.name.len() >= 128),
        "something else was asked for: {odd:?}"
    );
    assert_eq!(world.dump(), before);
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, words: &[&str]) {
    let refused = answer.expect_err(words[0]);
    assert_eq!(refused.code(), code, "{refused}");
    for word in words {
        assert!(refused.message().contains(word), "{word}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_make_no_sense_are_told_what_would_be_right() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = world.start().await;
    a_volume(&world, &provisioner).await;
    let before = world.dump();
    let mut client = provisioner.controller();
    let page = |max_entries, starting_token: &str| csi::ListVolumesRequest {
        max_entries,
        starting_token: starting_token.into(),
    };
    refused(
        client.list_volumes(page(-1, "")).await,
        Code::InvalidArgument,
        &["max_entries is -1", "0 (no limit) or more"],
    );
    refused(
        client.list_volumes(page(0, "7")).await,
        Code::Aborted,
        &["starting_token \"7\"", "begin without one"],
    );
    let room = |change: &dyn Fn(&mut csi::GetCapacityRequest)| {
        let mut request = csi::GetCapacityRequest::default();
        change(&mut request);
        request
    };
    refused(
        client
            .get_capacity(room(&|r| r.volume_capabilities = vec![mount("ntfs")]))
            .await,
        Code::InvalidArgument,
        &["fs_type is \"ntfs\"", "ext4"],
    );
    refused(
        client
            .get_capacity(room(&|r| {
                r.accessible_topology = Some(Topology {
                    segments: [("zone".to_owned(), "z".to_owned())].into(),
                });
            }))
            .await,
        Code::InvalidArgument,
        &["accessible_topology", "topology.lvm.hwameistor.io/node"],
    );
    refused(
        client
            .get_capacity(room(&|r| {
                r.parameters = parameter("poolClass", Some("TAPE")).parameters;
            }))
            .await,
        Code::InvalidArgument,
        &["\"poolClass\" is \"TAPE\"", "HDD, SSD or NVMe"],
    );
    for id in ["", "pvc-1"] {
        let validate = csi::ValidateVolumeCapabilitiesRequest {
            volume_id: id.into(),
            ..Default::default()
        };
        let missing = if id.is_empty() {
            "volume_id is empty"
        } else {
            "volume_capabilities is empty"
        };
        refused(
            client.validate_volume_capabilities(validate).await,
            Code::InvalidArgument,
            &[missing],
        );
    }
    for answer in [
        provisioner.delete("").await,
        provisioner.unpublish("", "n1").await,
    ] {
        refused(answer, Code::InvalidArgument, &["volume_id is empty"]);
    }
    assert_eq!(world.dump(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_features_that_are_not_there_say_so() {
    let world = World::new(&[]);
    let provisioner = world.start().await;
    let mut client = provisioner.controller();
    refused(
        client
            .create_snapshot(csi::CreateSnapshotRequest::default())
            .await,
        Code::Unimplemented,
        &["CreateSnapshot is not supported"],
    );
    refused(
        client
            .delete_snapshot(csi::DeleteSnapshotRequest::default())
            .await,
        Code::Unimplemented,
        &["DeleteSnapshot is not supported"],
    );
    refused(
        client
            .list_snapshots(csi::ListSnapshotsRequest::default())
            .await,
        Code::Unimplemented,
        &["ListSnapshots is not supported"],
    );
    refused(
        client
            .controller_modify_volume(csi::ControllerModifyVolumeRequest::default())
            .await,
        Code::Unimplemented,
        &["ControllerModifyVolume is not supported"],
    );
    assert!(world.api.calls().iter().all(|c| !c.is_write()));
}
