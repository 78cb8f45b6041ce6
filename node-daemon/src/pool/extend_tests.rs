//! Steps into a pool: complete, repeatable, and none over anything that is not ours.

use super::*;
use crate::disk::builders::{a_bare_disk, an_object};
use lvm2_cmd::Duplicate;

const A: &str = "localdisk-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const VG: &str = "LocalStorage_PoolSSD";

fn planned(disk: &Disk, report: &Report) -> Result<Vec<Step>, String> {
    let object = an_object(A, &a_bare_disk('b'));
    let members = [Member {
        object: &object,
        disk: Some(disk),
    }];
    plan("n1", &members, &[], report)
}

fn a_pv(disk: &Disk, uuid: &str) -> Pv {
    Pv {
        uuid: uuid.to_owned(),
        device: Some(disk.path.clone()),
        major_minor: Some(disk.number),
        ..Pv::default()
    }
}

fn a_vg(name: &str, pvs: Vec<Pv>) -> Vg {
    Vg {
        name: name.to_owned(),
        writeable: true,
        extendable: true,
        pvs,
        ..Vg::default()
    }
}

fn lvm_member(disk: Disk) -> Disk {
    Disk {
        content: Content::Signature {
            kind: "LVM2_member".to_owned(),
            uuid: String::new(),
        },
        ..disk
    }
}

#[test]
fn a_blank_disk_makes_or_grows_the_pool() {
    let disk = a_bare_disk('b');
    let create = Step::PvCreate {
        disk: "ubdb".to_owned(),
        uuid: pv_uuid("n1", A),
    };
    let devices = vec![disk.path.clone()];
    assert_eq!(
        planned(&disk, &Report::default()).unwrap(),
        [
            create.clone(),
            Step::VgCreate {
                vg: VG.to_owned(),
                devices: devices.clone()
            }
        ]
    );
    let report = Report {
        vgs: vec![a_vg(VG, vec![a_pv(&a_bare_disk('c'), "c")])],
        ..Report::default()
    };
    assert_eq!(
        planned(&disk, &report).unwrap(),
        [
            create,
            Step::VgExtend {
                vg: VG.to_owned(),
                devices
            }
        ]
    );
}

#[test]
fn a_physical_volume_of_ours_goes_on() {
    let disk = lvm_member(a_bare_disk('b'));
    let report = Report {
        orphans: vec![a_pv(&disk, &pv_uuid("n1", A))],
        ..Report::default()
    };
    let steps = planned(&disk, &report).unwrap();
    assert!(
        matches!(steps.as_slice(), [Step::VgCreate { .. }]),
        "{steps:?}"
    );
    let report = Report {
        vgs: vec![a_vg(VG, vec![a_pv(&disk, "whatever")])],
        ..Report::default()
    };
    assert_eq!(planned(&disk, &report).unwrap(), []);
}

#[test]
fn what_is_not_ours_is_refused() {
    let disk = a_bare_disk('b');
    let member = lvm_member(disk.clone());
    let refused = |disk: &Disk, report: Report| planned(disk, &report).unwrap_err();
    let orphan = Report {
        orphans: vec![a_pv(&member, "OfFewU-agyb-OdEF-cSjy-fVZI-P1b3-6UeEEy")],
        ..Report::default()
    };
    assert!(refused(&member, orphan).contains("did not make"));
    let other = Report {
        vgs: vec![a_vg("root", vec![a_pv(&member, "x")])],
        ..Report::default()
    };
    assert!(refused(&member, other).contains("volume group root"));
    // The signature of a volume group that LVM does not show.
    assert!(refused(&member, Report::default()).contains("LVM2_member"));
    let copy = Report {
        duplicates: vec![Duplicate {
            device: disk.path.clone(),
            pv_uuid: "x".to_owned(),
        }],
        ..Report::default()
    };
    assert!(refused(&disk, copy).contains("copy of physical volume x"));
    let mounted = Disk {
        mounts: vec!["/data".into()],
        ..disk
    };
    assert!(refused(&mounted, Report::default()).contains("is mounted at /data"));
}

#[test]
fn a_volume_group_that_is_half_ours_is_refused() {
    let disk = a_bare_disk('b');
    let refused = |change: &dyn Fn(&mut Vg)| {
        let mut vg = a_vg(VG, vec![a_pv(&a_bare_disk('c'), "c")]);
        change(&mut vg);
        let report = Report {
            vgs: vec![vg],
            ..Report::default()
        };
        planned(&disk, &report).unwrap_err()
    };
    assert!(
        refused(&|vg| vg.pvs[0].missing = true).contains("lacks the disk of physical volume c")
    );
    assert!(refused(&|vg| vg.pvs[0].duplicate = true).contains("two disks carry"));
    assert!(refused(&|vg| vg.exported = true).contains("vgimport"));
    assert!(refused(&|vg| vg.shared = true).contains("shared"));
    assert!(refused(&|vg| vg.writeable = false).contains("read-only"));
    assert!(refused(&|vg| vg.extendable = false).contains("not extendable"));
    let foreign = Report {
        foreign_vgs: vec![VG.to_owned()],
        ..Report::default()
    };
    assert!(
        planned(&disk, &foreign)
            .unwrap_err()
            .contains("another machine")
    );
    let twice = Report {
        vgs: vec![a_vg(VG, Vec::new()), a_vg(VG, Vec::new())],
        ..Report::default()
    };
    assert!(
        planned(&disk, &twice)
            .unwrap_err()
            .contains("two volume groups")
    );
}

#[test]
fn a_disk_that_is_gone_or_of_no_type() {
    let object = an_object(A, &a_bare_disk('b'));
    let gone = [Member {
        object: &object,
        disk: None,
    }];
    let sentence = plan("n1", &gone, &[], &Report::default()).unwrap_err();
    assert!(
        sentence.contains("/dev/ubdb") && sentence.contains("put it back"),
        "{sentence}"
    );
    let mut odd = object.clone();
    if let Some(attributes) = &mut odd.spec.disk_attributes {
        attributes.type_ = DiskType::from("tape");
    }
    let sentence = pool_of(&odd).unwrap_err();
    assert!(sentence.contains("\"tape\""), "{sentence}");
}

#[test]
fn uuids_are_well_formed_and_of_one_object() {
    let uuid = pv_uuid("n1", A);
    lvm2_cmd::names::check_pv_uuid(&uuid).unwrap();
    assert_eq!(uuid, pv_uuid("n1", A));
    assert_ne!(uuid, pv_uuid("n2", A));
}

#[test]
fn a_disk_that_grew_is_taken_in_and_another_groups_is_not() {
    let disk = a_bare_disk('b');
    let sized = |device_bytes| Pv {
        device_bytes,
        size_bytes: (10 << 30) - (4 << 20),
        ..a_pv(&disk, "u")
    };
    let report = |name, device_bytes| Report {
        vgs: vec![Vg {
            extent_bytes: 4 << 20,
            ..a_vg(name, vec![sized(device_bytes)])
        }],
        ..Report::default()
    };
    assert_eq!(growable(&report(VG, 10 << 30)), []);
    assert_eq!(
        growable(&report(VG, 11 << 30)),
        [("u".to_owned(), 11 << 30, disk.path.clone())]
    );
    assert_eq!(growable(&report("root", 11 << 30)), []);
}

fn unread(disk: Disk) -> Disk {
    Disk {
        content: Content::Unknown {
            why: "it can't be read".to_owned(),
        },
        ..disk
    }
}

/// A pool of two disks, one of which LVM can't read any more.
fn a_pool_that_misses(uuid: &str) -> Report {
    let lost = Pv {
        device: None,
        major_minor: None,
        missing: true,
        ..a_pv(&a_bare_disk('b'), uuid)
    };
    Report {
        vgs: vec![a_vg(VG, vec![lost, a_pv(&a_bare_disk('c'), "c")])],
        ..Report::default()
    }
}

#[test]
fn a_pools_disk_that_lvm_cannot_read_stays_the_pools() {
    let names = BTreeMap::from([("ubdb".to_owned(), A.to_owned())]);
    let uses = |report: &Report, disk: Disk| lvm_uses("n1", report, &[disk], &names);
    let pool = LvmUses::from([("ubdb".to_owned(), LvmUse::Pool(VG.to_owned()))]);
    let ours = a_pool_that_misses(&pv_uuid("n1", A));
    for disk in [a_bare_disk('b'), unread(a_bare_disk('b'))] {
        assert_eq!(uses(&ours, disk.clone()), pool, "{disk:?}");
        let sentence = planned(&disk, &ours).unwrap_err();
        assert!(sentence.contains("LVM can't read it now"), "{sentence}");
    }
    // One that we did not make is known by the host's udev.
    let theirs = a_pool_that_misses("OfFewU-agyb-OdEF-cSjy-fVZI-P1b3-6UeEEy");
    let marked = Disk {
        links: vec![
            "/dev/disk/by-id/lvm-pv-uuid-OfFewU-agyb-OdEF-cSjy-fVZI-P1b3-6UeEEy".to_owned(),
        ],
        ..a_bare_disk('b')
    };
    assert_eq!(uses(&theirs, marked), pool);
    assert_eq!(uses(&theirs, a_bare_disk('b')), LvmUses::new());
}

/// A pool of a single disk that can't be read is not to be seen at all.
#[test]
fn no_second_pool_is_made_while_the_first_may_be_on_an_unreadable_disk() {
    let member = an_object(A, &a_bare_disk('b'));
    let disk = a_bare_disk('b');
    let members = [Member {
        object: &member,
        disk: Some(&disk),
    }];
    let mut other = an_object("localdisk-other", &a_bare_disk('c'));
    other.spec.owner = "local-storage".to_owned();
    other.spec.claim_ref = Some(k8s_openapi::api::core::v1::ObjectReference::default());
    let with = |object: &LocalDisk, disk: Option<&Disk>| {
        plan(
            "n1",
            &members,
            &[Member { object, disk }],
            &Report::default(),
        )
    };
    let failing = unread(a_bare_disk('c'));
    let sentence = with(&other, Some(&failing)).unwrap_err();
    for part in [VG, "/dev/ubdc", "it can't be read", "spec.claimRef"] {
        assert!(sentence.contains(part), "{part}: {sentence}");
    }
    // Readable, taken away, or given up.
    with(&other, Some(&a_bare_disk('c'))).unwrap();
    with(&other, None).unwrap();
    let mut free = other.clone();
    free.spec.claim_ref = None;
    with(&free, Some(&failing)).unwrap();
}
