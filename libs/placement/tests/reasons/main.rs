//! What machines and people read: the JSON and the sentence of every reason, byte for byte. A change here is a change of what
//! users and their tools see (docs/why.md).

mod numbers;

use hawser_placement::{
    Bytes, Exclusions, Lack, Node, Pool, PoolClass, PoolLeft, Reason, Replica, ReplicaState,
    Reservation, Reserved, Share, StorageState,
};
use serde_json::{Value, json};

const GIB: u64 = 1 << 30;

fn in_pool(pool: &str, lack: Lack) -> Reason {
    Reason::Pool {
        pool: pool.into(),
        class: Some(PoolClass::Hdd),
        lack,
    }
}

fn hdd(lack: Lack) -> Reason {
    in_pool("LocalStorage_PoolHDD", lack)
}

fn copies() -> Vec<Replica> {
    let copy = |node: &str, state| Replica {
        node: node.into(),
        state,
    };
    vec![
        copy("n1", ReplicaState::UpToDate),
        copy("n2", ReplicaState::Broken),
    ]
}

fn reserved(owners: &[(&str, u64)], others: usize) -> Reserved {
    let share = |&(owner, gib): &(&str, u64)| Share {
        owner: owner.into(),
        size: Bytes::gib(gib),
        volumes: 1,
    };
    Reserved {
        size: owners.iter().map(|(_, gib)| Bytes::gib(*gib)).sum(),
        volumes: (owners.len() + others) as u64,
        owners: owners.iter().map(share).collect(),
        others,
    }
}

fn room(free: u64, total: u64, needed: u64, reserved: Reserved) -> Lack {
    Lack::Room {
        volumes: 1,
        needed: Bytes::gib(needed),
        free: Bytes::gib(free),
        total: Bytes::gib(total),
        used: Bytes::gib(total - free).saturating_sub(reserved.size),
        extent: Bytes::mib(4),
        reserved,
    }
}

fn claim_reasons() -> Vec<(Reason, &'static str, Value)> {
    let claim = || "shop/data".into();
    let both = json!([{ "node": "n1", "state": "UpToDate" }, { "node": "n2", "state": "Broken" }]);
    vec![
        (
            Reason::DataElsewhere {
                claim: claim(),
                copies: copies(),
            },
            "claim shop/data: its data is on nodes n1, n2 (not usable)",
            json!({ "reason": "DataElsewhere", "claim": "shop/data", "copies": both }),
        ),
        (
            Reason::NoCopies { claim: claim() },
            "claim shop/data: its volume has no copy on any node",
            json!({ "reason": "NoReplica", "claim": "shop/data" }),
        ),
        (
            Reason::CopyBroken {
                claim: claim(),
                copies: copies(),
            },
            "claim shop/data: the copy here is not usable (usable on node n1), see its LocalVolumeReplica",
            json!({ "reason": "ReplicaUnusable", "claim": "shop/data", "copies": both }),
        ),
        (
            Reason::InUseElsewhere {
                claim: claim(),
                node: "n1".into(),
                copies: copies(),
            },
            "claim shop/data: in use on node n1",
            json!({ "reason": "InUseElsewhere", "claim": "shop/data", "node": "n1", "copies": both }),
        ),
        (
            Reason::SourceElsewhere {
                claim: claim(),
                nodes: vec!["n1".into()],
            },
            "claim shop/data: its source is on node n1",
            json!({ "reason": "SourceElsewhere", "claim": "shop/data", "nodes": ["n1"] }),
        ),
        (
            Reason::NoPool {
                class: PoolClass::Nvme,
                claims: vec![claim()],
                needed: Bytes::gib(4),
            },
            "no nvme pool for claim shop/data",
            json!({ "reason": "NoPool", "class": "NVMe", "claims": ["shop/data"], "neededBytes": 4 * GIB }),
        ),
        (
            Reason::NoFurtherNodes {
                claims: vec![claim(), "shop/log".into()],
                copies: 2,
                able: 1,
                counts: Exclusions {
                    nodes: 6,
                    not_serving: 1,
                    not_selected: 1,
                    tainted: 1,
                    no_pool: 1,
                    no_room: 1,
                },
            },
            "claims shop/data, shop/log: 2 copies on different nodes wanted, 1 of 6 nodes with storage can take one (1 not serving, \
             1 not selected by the pod's node selector or affinity, 1 tainted, 1 without such a pool, 1 without room)",
            json!({
                "reason": "NoNodesForCopies", "claims": ["shop/data", "shop/log"], "copies": 2, "able": 1,
                "excluded": { "nodes": 6, "notServing": 1, "notSelected": 1, "tainted": 1, "noPool": 1, "noRoom": 1 }
            }),
        ),
    ]
}

fn node_reasons() -> Vec<(Reason, &'static str, Value)> {
    vec![
        (
            Reason::UnknownNode,
            "node is not known to the storage scheduler yet",
            json!({ "reason": "UnknownNode" }),
        ),
        (
            Reason::Storage {
                state: StorageState::Maintain,
            },
            "storage of the node is in maintenance (LocalStorageNode state Maintain)",
            json!({ "reason": "StorageNotServing", "state": "Maintain" }),
        ),
        (
            Reason::NodeFull {
                volumes: 3,
                used: 96,
                limit: 100,
                reserved: reserved(&[("default/db-1", 2), ("default/db-2", 1)], 0),
            },
            "node: 2 of 100 volumes free, 2 reserved for default/db-1 and default/db-2, needs 3",
            json!({
                "reason": "NodeVolumeLimit", "volumes": 3, "used": 96, "limit": 100,
                "reserved": {
                    "bytes": 3 * GIB, "volumes": 2, "others": 0,
                    "for": [{ "pod": "default/db-1", "bytes": 2 * GIB, "volumes": 1 }, { "pod": "default/db-2", "bytes": GIB, "volumes": 1 }]
                }
            }),
        ),
        (
            Reason::NotSelected,
            "the pod's node selector or affinity does not select the node",
            json!({ "reason": "NotSelected" }),
        ),
        (
            Reason::Tainted {
                taint: "dedicated=gpu:NoSchedule".to_owned(),
            },
            "the pod does not tolerate taint dedicated=gpu:NoSchedule",
            json!({ "reason": "TaintNotTolerated", "taint": "dedicated=gpu:NoSchedule" }),
        ),
        (
            Reason::Undecided { volumes: 40 },
            "40 volumes are too many to place together, use fewer or larger ones",
            json!({ "reason": "TooManyVolumes", "volumes": 40 }),
        ),
        (
            Reason::NoPacking {
                class: PoolClass::Hdd,
                volumes: 3,
                needed: Bytes::gib(9),
                pools: vec![
                    PoolLeft {
                        pool: "a".into(),
                        free: Some(Bytes::gib(4)),
                        thin_free: None,
                    },
                    PoolLeft {
                        pool: "b".into(),
                        free: Some(Bytes::gib(5)),
                        thin_free: Some(Bytes::gib(1)),
                    },
                ],
            },
            "hdd pools: 5 + 4 GiB free, 3 volumes need 9: each fits alone, together they do not",
            json!({
                "reason": "VolumesDoNotPack", "class": "HDD", "volumes": 3, "neededBytes": 9 * GIB,
                "pools": [
                    { "pool": "a", "freeBytes": 4 * GIB, "thinFreeBytes": null },
                    { "pool": "b", "freeBytes": 5 * GIB, "thinFreeBytes": GIB }
                ]
            }),
        ),
    ]
}

fn pool_reasons() -> Vec<(Reason, &'static str, Value)> {
    let pool = |mut rest: Value| {
        rest["pool"] = "LocalStorage_PoolHDD".into();
        rest["class"] = "HDD".into();
        rest
    };
    let one = json!({ "bytes": 2 * GIB, "volumes": 1, "others": 0, "for": [{ "pod": "default/db-1", "bytes": 2 * GIB, "volumes": 1 }] });
    let none = json!({ "bytes": 0, "volumes": 0, "others": 0, "for": [] });
    vec![
        (
            hdd(Lack::Pool),
            "hdd pool: is not there any more",
            pool(json!({ "reason": "PoolGone" })),
        ),
        (
            hdd(Lack::Health),
            "hdd pool: has failed, see its disks in LocalStorageNode",
            pool(json!({ "reason": "PoolFailed" })),
        ),
        (
            hdd(Lack::Capacity {
                needed: Bytes::gib(4),
            }),
            "hdd pool: its capacity is not known yet",
            pool(json!({ "reason": "PoolCapacityUnknown", "neededBytes": 4 * GIB })),
        ),
        (
            hdd(Lack::VolumeSize {
                claim: "shop/data".into(),
                needed: Bytes::gib(60),
                limit: Bytes::gib(50),
            }),
            "hdd pool: claim shop/data needs 60, one volume may have 50 GiB",
            pool(
                json!({ "reason": "VolumeTooLarge", "claim": "shop/data", "neededBytes": 60 * GIB, "limitBytes": 50 * GIB }),
            ),
        ),
        (
            hdd(room(3, 5, 4, reserved(&[("default/db-1", 2)], 0))),
            "hdd pool: 3 of 5 GiB free, 2 reserved for default/db-1, needs 4",
            pool(json!({
                "reason": "PoolRoom", "volumes": 1, "neededBytes": 4 * GIB, "freeBytes": 3 * GIB, "totalBytes": 5 * GIB,
                "usedBytes": 0, "extentBytes": 4 << 20, "reserved": one
            })),
        ),
        (
            hdd(Lack::ThinPool {
                needed: Bytes::gib(4),
            }),
            "hdd pool: has no thin pool, make one with a ThinPoolClaim",
            pool(json!({ "reason": "NoThinPool", "neededBytes": 4 * GIB })),
        ),
        (
            hdd(Lack::ThinRoom {
                volumes: 2,
                needed: Bytes::gib(4),
                free: Bytes::gib(3),
                limit: Bytes::gib(5),
                promised: Bytes::ZERO,
                extent: Bytes::mib(4),
                reserved: reserved(&[("default/db-1", 2)], 0),
            }),
            "hdd pool: thin: 3 of 5 GiB left to promise, 2 reserved for default/db-1, 2 volumes need 4 together",
            pool(json!({
                "reason": "ThinPoolRoom", "volumes": 2, "neededBytes": 4 * GIB, "freeBytes": 3 * GIB, "limitBytes": 5 * GIB,
                "promisedBytes": 0, "extentBytes": 4 << 20, "reserved": one
            })),
        ),
        (
            hdd(Lack::Slots {
                volumes: 2,
                free: 1,
                used: 999,
                limit: 1000,
                reserved: Reserved::default(),
            }),
            "hdd pool: 1 of 1000 volumes free, needs 2",
            pool(
                json!({ "reason": "PoolVolumeLimit", "volumes": 2, "free": 1, "used": 999, "limit": 1000, "reserved": none }),
            ),
        ),
    ]
}

/// Does not compile once there is a variant that is not in the lists above.
fn place(reason: &Reason) -> usize {
    match reason {
        Reason::UnknownNode => 0,
        Reason::Storage { .. } => 1,
        Reason::DataElsewhere { .. } => 2,
        Reason::NoCopies { .. } => 3,
        Reason::CopyBroken { .. } => 4,
        Reason::InUseElsewhere { .. } => 5,
        Reason::SourceElsewhere { .. } => 6,
        Reason::NoPool { .. } => 7,
        Reason::NodeFull { .. } => 8,
        Reason::NoPacking { .. } => 9,
        Reason::NoFurtherNodes { .. } => 10,
        Reason::NotSelected => 11,
        Reason::Tainted { .. } => 12,
        Reason::Undecided { .. } => 13,
        Reason::Pool { lack, .. } => match lack {
            Lack::Pool => 14,
            Lack::Health => 15,
            Lack::Capacity { .. } => 16,
            Lack::VolumeSize { .. } => 17,
            Lack::Room { .. } => 18,
            Lack::ThinPool { .. } => 19,
            Lack::ThinRoom { .. } => 20,
            Lack::Slots { .. } => 21,
        },
    }
}

#[test]
fn every_reason_as_json_and_as_a_sentence() {
    let all = [claim_reasons(), node_reasons(), pool_reasons()].concat();
    let mut seen = [false; 22];
    for (reason, sentence, golden) in &all {
        seen[place(reason)] = true;
        assert_eq!(&serde_json::to_value(reason).unwrap(), golden);
        assert_eq!(&reason.to_string(), sentence);
        assert!(
            !sentence.contains('%'),
            "{sentence}: the scheduler takes it for a format"
        );
    }
    assert_eq!(seen, [true; 22], "each variant is shown above");
}

#[test]
fn codes_are_unique_and_documented() {
    let all = [claim_reasons(), node_reasons(), pool_reasons()].concat();
    let mut codes: Vec<&str> = all
        .iter()
        .map(|(_, _, json)| json["reason"].as_str().unwrap())
        .collect();
    codes.sort_unstable();
    let count = codes.len();
    codes.dedup();
    assert_eq!(codes.len(), count);
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/why.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    for code in codes {
        assert!(
            docs.contains(&format!("`{code}`")),
            "{code} is not in docs/why.md"
        );
    }
}
