//! Every field of CreateVolume that can be wrong: a sentence that names it, and nothing changed.

use hawser_csi::v1::{
    CapacityRange, CreateVolumeRequest, Topology, TopologyRequirement, VolumeCapability,
    VolumeContentSource, volume_capability::AccessMode, volume_content_source,
};
use tonic::Code;

use crate::support::{World, block, mount, nodes::GIB, request};

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
        world.api.calls().iter().all(|c| !c.is_write()),
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
