//! What objects say: what the host uses is reserved, what users edit stays.

use super::*;
use crate::disk::builders::{a_disk, a_partition, an_object};
use hawser_api::DiskType;
use k8s_openapi::api::core::v1::ObjectReference;

const NAME: &str = "localdisk-0b5c2f3e9d7a4816a2c45e10f9b8d673";

fn again(object: &LocalDisk, disk: &Disk) -> LocalDiskSpec {
    spec("n1", NAME, &object.spec, disk, &LvmUse::None)
}

fn with(content: Content) -> Disk {
    Disk {
        content,
        ..a_disk()
    }
}

fn unread() -> Disk {
    with(Content::Unknown {
        why: "it can't be read".to_owned(),
    })
}

fn ext4() -> Content {
    Content::Signature {
        kind: "ext4".to_owned(),
        uuid: String::new(),
    }
}

#[test]
fn a_blank_disk_is_available() {
    let object = an_object(NAME, &a_disk());
    let spec = &object.spec;
    assert_eq!(spec.capacity, 10 << 30);
    assert_eq!((spec.major.as_str(), spec.minor.as_str()), ("8", "16"));
    assert_eq!(spec.device_path, "/dev/sdb");
    assert_eq!(spec.uuid, "0b5c2f3e9d7a4816a2c45e10f9b8d673");
    assert_eq!(spec.state, DiskState::Active);
    assert!(!spec.reserved && !spec.partitioned && spec.owner.is_empty());
    assert_eq!(claimable(&object), Ok(()));
    // A second look changes nothing.
    assert_eq!(again(&object, &a_disk()), object.spec);
}

#[test]
fn what_the_host_uses_is_reserved() {
    let cases = [
        with(ext4()),
        with(Content::Table {
            kind: "gpt".to_owned(),
        }),
        Disk {
            holders: vec!["dm-0".to_owned()],
            ..unread()
        },
        Disk {
            partitions: vec![a_partition("/dev/sdb1")],
            ..a_disk()
        },
        Disk {
            mounts: vec!["/data".into()],
            ..a_disk()
        },
        Disk {
            swap: true,
            ..a_disk()
        },
        Disk {
            holders: vec!["dm-0".to_owned()],
            ..a_disk()
        },
        with(Content::Signature {
            kind: "LVM2_member".to_owned(),
            uuid: String::new(),
        }),
    ];
    for disk in cases {
        let object = an_object(NAME, &disk);
        assert!(object.spec.reserved, "{disk:?}");
        assert_eq!(object.spec.owner, "system");
        assert!(claimable(&object).is_err());
        assert_eq!(again(&object, &disk), object.spec);
    }
}

/// A read error passes; what is written on its account would stay.
#[test]
fn a_disk_that_cannot_be_read_is_neither_free_nor_the_hosts() {
    let object = an_object(NAME, &unread());
    let said = |spec: &LocalDiskSpec| (spec.reserved, spec.owner.clone(), spec.partitioned);
    assert_eq!(said(&object.spec), (false, String::new(), false));
    assert!(unread().in_use(false).unwrap().contains("can't be judged"));
    assert_eq!(claim_state(&object), DiskClaimState::Pending);
    // It is read at last, and blank.
    let mut free = object.clone();
    free.spec = again(&object, &a_disk());
    free.status = Some(status(&free, Some(&a_disk()), &LvmUse::None));
    assert_eq!(free.spec, an_object(NAME, &a_disk()).spec);
    assert_eq!(claim_state(&free), DiskClaimState::Available);
    // Or somebody's.
    let after = again(&object, &with(ext4()));
    assert_eq!(said(&after), (true, "system".to_owned(), true));
    // A free one that begins to fail.
    assert_eq!(said(&again(&free, &unread())), said(&free.spec));
}

#[test]
fn what_was_known_of_a_disk_stays_while_it_cannot_be_read() {
    let mut object = an_object(NAME, &with(ext4()));
    // A user has given it free all the same.
    object.spec.reserved = false;
    object.spec.owner = String::new();
    let failing = again(&object, &unread());
    assert_eq!(failing, object.spec);
    let mut there = object.clone();
    there.spec = failing;
    assert_eq!(
        again(&there, &with(ext4())),
        object.spec,
        "not reserved anew"
    );
}

fn claim_state(object: &LocalDisk) -> DiskClaimState {
    object.status.clone().unwrap_or_default().claim_state
}

#[test]
fn a_disk_that_the_host_begins_to_use_becomes_reserved() {
    let object = an_object(NAME, &a_disk());
    let after = again(&object, &with(ext4()));
    assert!(after.reserved && after.partitioned);
    assert_eq!(after.owner, "system");
    assert_eq!(
        after.partition_info[0].filesystem.as_ref().unwrap().fs_type,
        "ext4"
    );
}

#[test]
fn edits_of_users_stay() {
    let mut object = an_object(NAME, &with(ext4()));
    object.spec.reserved = false;
    object.spec.owner = String::new();
    if let Some(attributes) = &mut object.spec.disk_attributes {
        attributes.type_ = DiskType::NVMe;
    }
    assert_eq!(again(&object, &with(ext4())), object.spec);
    object.spec.reserved = true;
    object.spec.owner = "local-disk-manager".to_owned();
    assert_eq!(again(&object, &with(ext4())), object.spec);
}

#[test]
fn what_others_wrote_stays() {
    let mut object = an_object(NAME, &a_disk());
    object.spec.is_raid = true;
    object.spec.smart_info = Some(hawser_api::SmartInfo {
        overall_health: "Passed".to_owned(),
    });
    object.spec.claim_ref = Some(ObjectReference::default());
    assert_eq!(again(&object, &a_disk()), object.spec);
    assert_eq!(
        status(&object, Some(&a_disk()), &LvmUse::None).claim_state,
        DiskClaimState::Bound
    );
}

#[test]
fn a_disk_in_a_pool_made_by_hand() {
    let member = with(Content::Signature {
        kind: "LVM2_member".to_owned(),
        uuid: String::new(),
    });
    let pool = LvmUse::Pool("LocalStorage_PoolSSD".to_owned());
    let object = create("n1", NAME, &member, &pool);
    assert_eq!(object.spec.owner, "local-storage");
    assert!(!object.spec.reserved && !object.spec.partitioned);
    let bound = |lvm| status(&object, Some(&member), lvm).claim_state;
    assert_eq!(bound(&pool), DiskClaimState::Bound);
    // Its pool's disk, even while it can't be read.
    let failing = status(&object, Some(&unread()), &pool).claim_state;
    assert_eq!(failing, DiskClaimState::Bound);
    // A physical volume of ours that no claim goes on with is free.
    assert_eq!(bound(&LvmUse::Made), DiskClaimState::Available);
}

#[test]
fn a_disk_goes_and_comes_back() {
    let object = an_object(NAME, &a_disk());
    let away = gone(&object.spec);
    assert_eq!(away.state, DiskState::Inactive);
    assert_eq!(
        (away.pre_node_name.as_str(), away.pre_device_path.as_str()),
        ("n1", "/dev/sdb")
    );
    assert!(away.device_path.is_empty() && away.node_name.is_empty());
    assert_eq!(gone(&away), away);
    let back = spec("n1", NAME, &away, &a_disk(), &LvmUse::None);
    assert_eq!(back.state, DiskState::Active);
    assert_eq!(
        (back.node_name.as_str(), back.device_path.as_str()),
        ("n1", "/dev/sdb")
    );
    assert!(!back.reserved);
}

#[test]
fn why_a_disk_cannot_be_claimed() {
    let edit = |change: &dyn Fn(&mut LocalDisk)| {
        let mut object = an_object(NAME, &a_disk());
        change(&mut object);
        claimable(&object).unwrap_err()
    };
    assert_eq!(edit(&|o| o.spec.reserved = true), "is reserved");
    assert_eq!(
        edit(&|o| o.spec.state = DiskState::Inactive),
        "is not there now"
    );
    assert_eq!(
        edit(&|o| o.metadata.name = Some("n1-sdb".to_owned())),
        "has the name of a former generation"
    );
    assert!(
        edit(&|o| o.spec.claim_ref = Some(ObjectReference {
            name: Some("c".to_owned()),
            ..ObjectReference::default()
        }))
        .contains("claim c")
    );
}
