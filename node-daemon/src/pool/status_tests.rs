//! What the node's objects say, also of volume groups that are not in order.

use super::*;
use crate::disk::builders::{a_bare_disk, a_disk, an_object};
use jiff::Timestamp;

const VG: &str = "LocalStorage_PoolSSD";
const EXTENT: u64 = 4 << 20;

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn an_lv(name: &str) -> Lv {
    Lv {
        name: name.to_owned(),
        ..Lv::default()
    }
}

fn a_pool() -> Report {
    Report {
        vgs: vec![Vg {
            name: VG.to_owned(),
            writeable: true,
            extendable: true,
            extent_bytes: EXTENT,
            extents: 382,
            free_extents: 71,
            pvs: vec![Pv {
                uuid: "u".to_owned(),
                device: Some("/dev/ubdb".into()),
                major_minor: Some((98, 16)),
                size_bytes: 382 * EXTENT,
                ..Pv::default()
            }],
            lvs: vec![
                an_lv("pvc-2"),
                an_lv("pvc-1"),
                an_lv("LocalStorage_ThinPool"),
                Lv {
                    hidden: true,
                    ..an_lv("LocalStorage_ThinPool_tdata")
                },
            ],
            ..Vg::default()
        }],
        ..Report::default()
    }
}

fn shown(old: &LocalStorageNodeStatus, report: &Report, second: i64) -> LocalStorageNodeStatus {
    storage(old, report, &Types::new(), &at(second))
}

#[test]
fn a_pool_as_the_api_says_it() {
    let status = shown(&LocalStorageNodeStatus::default(), &a_pool(), 1);
    let pool = &status.pools[VG];
    assert_eq!(pool.class, PoolClass::SSD);
    assert_eq!(pool.total_capacity_bytes, 382 * (4 << 20));
    assert_eq!(pool.free_capacity_bytes, 71 * (4 << 20));
    assert_eq!(pool.used_capacity_bytes, 311 * (4 << 20));
    assert_eq!(pool.volumes, ["pvc-1", "pvc-2"]);
    assert_eq!(
        (
            pool.total_volume_count,
            pool.used_volume_count,
            pool.free_volume_count
        ),
        (1000, 2, 998)
    );
    assert_eq!(pool.path, "/dev/LocalStorage_PoolSSD");
    assert_eq!(pool.type_, "REGULAR");
    assert_eq!(pool.disks[0].state, PoolDiskState::InUse);
    assert_eq!(status.state, NodeState::Ready);
    assert_eq!(status.conditions[0].reason, "StorageAvailable");
}

#[test]
fn nothing_new_is_nothing_to_write() {
    let first = shown(&LocalStorageNodeStatus::default(), &a_pool(), 1);
    assert_eq!(shown(&first, &a_pool(), 99), first);
}

#[test]
fn what_operators_and_history_say_stays() {
    let old = LocalStorageNodeStatus {
        state: NodeState::Maintain,
        pool_extend_records: PoolExtendRecords::from([(VG.to_owned(), Vec::new())]),
        ..LocalStorageNodeStatus::default()
    };
    let status = shown(&old, &a_pool(), 1);
    assert_eq!(status.state, NodeState::Maintain);
    assert_eq!(status.pool_extend_records, old.pool_extend_records);
}

#[test]
fn a_broken_group_has_no_room_and_says_why() {
    let healthy = shown(&LocalStorageNodeStatus::default(), &a_pool(), 1);
    let mut report = a_pool();
    report.vgs[0].partial = true;
    report.vgs[0].missing_pvs = 1;
    report.vgs[0].pvs[0].missing = true;
    report.vgs[0].pvs[0].device = None;
    let broken = shown(&healthy, &report, 2);
    let pool = &broken.pools[VG];
    assert_eq!((pool.free_capacity_bytes, pool.free_volume_count), (0, 0));
    assert_eq!(pool.disks[0].state, PoolDiskState::Offline);
    let condition = &broken.conditions[0];
    assert_eq!(condition.type_, "UnAvailable");
    assert!(condition.message.contains("lacks the disk"));
    let mended = shown(&broken, &a_pool(), 3);
    assert_eq!(mended.pools, healthy.pools);
    assert_eq!(mended.conditions.len(), 1);
    assert_eq!(mended.conditions[0].last_transition_time, Some(at(3)));
}

#[test]
fn groups_of_others_are_not_pools() {
    let mut report = a_pool();
    report.vgs[0].name = "root".to_owned();
    report.foreign_vgs = vec![VG.to_owned(), "elsewhere".to_owned()];
    let status = shown(&LocalStorageNodeStatus::default(), &report, 1);
    assert!(status.pools.is_empty());
    assert!(status.conditions[0].message.contains(VG));
    assert!(!status.conditions[0].message.contains("elsewhere"));
}

#[test]
fn a_pool_named_by_hand_has_the_class_of_its_disks() {
    let mut report = a_pool();
    report.vgs[0].name = "LocalStorage_PoolFast".to_owned();
    let types = Types::from([((98, 16), DiskType::NVMe)]);
    let status = storage(&LocalStorageNodeStatus::default(), &report, &types, &at(1));
    assert_eq!(status.pools["LocalStorage_PoolFast"].class, PoolClass::NVMe);
}

#[test]
fn records_are_kept_once() {
    let claim = LocalDiskClaim::new(
        "c",
        LocalDiskClaimSpec {
            owner: "local-storage".to_owned(),
            ..LocalDiskClaimSpec::default()
        },
    );
    let once = recorded(&PoolExtendRecords::new(), VG, &claim);
    assert_eq!(once[VG].len(), 1);
    assert_eq!(recorded(&once, VG, &claim), once);
}

#[test]
fn a_disk_that_a_claim_put_into_a_pool_is_on_record() {
    let mut claim = LocalDiskClaim::new("c", LocalDiskClaimSpec::default());
    claim.spec.disk_refs = vec![k8s_openapi::api::core::v1::ObjectReference {
        name: Some("localdisk-a".to_owned()),
        ..Default::default()
    }];
    let records = recorded(&PoolExtendRecords::new(), VG, &claim);
    assert!(was_filled(&records, "localdisk-a"));
    assert!(!was_filled(&records, "localdisk-b"));
    assert!(!was_filled(&PoolExtendRecords::new(), "localdisk-a"));
}

#[test]
fn disks_that_are_there_and_free() {
    let free = an_object("localdisk-a", &a_bare_disk('b'));
    let used = an_object(
        "localdisk-b",
        &crate::disk::Disk {
            swap: true,
            ..a_bare_disk('c')
        },
    );
    let mut gone = an_object("localdisk-c", &a_disk());
    gone.spec.state = DiskState::Inactive;
    let failing = an_object(
        "localdisk-d",
        &crate::disk::Disk {
            content: crate::disk::Content::Unknown {
                why: "it can't be read".to_owned(),
            },
            ..a_bare_disk('d')
        },
    );
    let objects = [free, used, gone, failing];
    let status = disks(&LocalDiskNodeStatus::default(), &objects, &at(1));
    assert_eq!((status.total_disk, status.free_disk), (Some(3), Some(1)));
    assert_eq!(status.free_capacity, Some(10 << 30));
    assert_eq!(status.total_capacity, Some(30 << 30));
    assert_eq!(disks(&status, &objects, &at(9)), status);
}
