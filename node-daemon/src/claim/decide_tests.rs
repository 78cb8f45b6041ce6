//! Which disks a claim gets, and the sentences that others get.

use super::*;
use crate::disk::builders::{a_bare_disk, a_disk, an_object};
use hawser_api::{DiskClaimDescription, LocalDiskClaimSpec, LocalDiskClaimStatus};
use k8s_openapi::api::core::v1::ObjectReference;

const A: &str = "localdisk-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "localdisk-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn a_claim(description: DiskClaimDescription) -> LocalDiskClaim {
    let spec = LocalDiskClaimSpec {
        description: Some(description),
        node_name: "n1".to_owned(),
        owner: "local-storage".to_owned(),
        ..LocalDiskClaimSpec::default()
    };
    let mut claim = LocalDiskClaim::new("c1", spec);
    claim.metadata.uid = Some("uid-1".to_owned());
    claim
}

fn ssds() -> DiskClaimDescription {
    DiskClaimDescription {
        disk_type: DiskType::SSD,
        ..DiskClaimDescription::default()
    }
}

/// Two disks of 10 GiB: A on ubdb, B on ubdc.
fn decided(claim: &LocalDiskClaim, change: impl Fn(&mut [(LocalDisk, Disk); 2])) -> Decision {
    let mut pairs = [
        (an_object(A, &a_bare_disk('b')), a_bare_disk('b')),
        (an_object(B, &a_bare_disk('c')), a_bare_disk('c')),
    ];
    change(&mut pairs);
    let candidates: Vec<Candidate<'_>> = pairs
        .iter()
        .map(|(object, disk)| Candidate {
            object,
            disk: Some(disk),
            lvm: &LvmUse::None,
        })
        .collect();
    decide("n1", claim, &candidates)
}

fn bound(disks: &[&str]) -> Decision {
    Decision::Bind {
        disks: disks.iter().map(|d| (*d).to_owned()).collect(),
        note: String::new(),
    }
}

#[test]
fn all_that_match_are_given() {
    assert_eq!(decided(&a_claim(ssds()), |_| ()), bound(&[A, B]));
    let by = |description| decided(&a_claim(description), |_| ());
    assert_eq!(
        by(DiskClaimDescription {
            device_paths: vec!["/dev/ubdc".to_owned()],
            ..DiskClaimDescription::default()
        }),
        bound(&[B])
    );
    assert_eq!(
        by(DiskClaimDescription {
            local_disk_names: vec![A.to_owned()],
            ..ssds()
        }),
        bound(&[A])
    );
    assert_eq!(
        by(DiskClaimDescription {
            capacity: 10 << 30,
            ..DiskClaimDescription::default()
        }),
        bound(&[A, B])
    );
}

type Change<'a> = &'a dyn Fn(&mut (LocalDisk, Disk));

#[test]
fn what_is_in_use_is_never_given() {
    let changes: [(Change<'_>, &str); 7] = [
        (&|p| p.0.spec.reserved = true, "is reserved"),
        (
            &|p| p.0.spec.owner = "system".to_owned(),
            "is for owner system",
        ),
        (
            &|p| p.1.mounts = vec!["/data".into()],
            "is mounted at /data",
        ),
        // The object says nothing of it yet.
        (
            &|p| {
                p.1.content = Content::Signature {
                    kind: "xfs".to_owned(),
                    uuid: String::new(),
                }
            },
            "signature of xfs",
        ),
        (
            &|p| {
                p.1.content = Content::Unknown {
                    why: "no answer".to_owned(),
                }
            },
            "can't be judged",
        ),
        (
            &|p| p.1.holders = vec!["dm-3".to_owned()],
            "is held by dm-3",
        ),
        (
            &|p| {
                p.0.spec.claim_ref = Some(ObjectReference {
                    uid: Some("other".to_owned()),
                    name: Some("c2".to_owned()),
                    ..ObjectReference::default()
                });
            },
            "belongs to claim c2",
        ),
    ];
    for (change, reason) in changes {
        let decision = decided(&a_claim(ssds()), |pairs| change(&mut pairs[0]));
        assert_eq!(decision, bound(&[B]));
        // Nothing left: the sentence says why.
        let decision = decided(&a_claim(ssds()), |pairs| pairs.iter_mut().for_each(change));
        let Decision::Wait(sentence) = decision else {
            panic!("{decision:?}");
        };
        assert!(sentence.contains(reason), "{sentence}");
        assert!(sentence.contains("/dev/ubdb") && sentence.contains("node n1"));
    }
}

#[test]
fn a_claim_goes_on_after_a_crash() {
    let mine = ObjectReference {
        uid: Some("uid-1".to_owned()),
        ..ObjectReference::default()
    };
    let decision = decided(&a_claim(ssds()), |pairs| {
        pairs[0].0.spec.claim_ref = Some(mine.clone());
        pairs[0].0.spec.owner = "local-storage".to_owned();
    });
    assert_eq!(decision, bound(&[A, B]));
}

#[test]
fn why_nothing_matches() {
    let waits = |description| {
        let decision = decided(&a_claim(description), |_| ());
        let Decision::Wait(sentence) = decision else {
            panic!("{decision:?}");
        };
        sentence
    };
    assert!(
        waits(DiskClaimDescription {
            disk_type: DiskType::HDD,
            ..DiskClaimDescription::default()
        })
        .contains("is SSD, HDD is asked")
    );
    assert!(
        waits(DiskClaimDescription {
            capacity: 1 << 40,
            ..DiskClaimDescription::default()
        })
        .contains("has 10737418240 bytes, 1099511627776 are asked")
    );
    assert!(
        waits(DiskClaimDescription {
            local_disk_names: vec!["localdisk-x".to_owned()],
            ..DiskClaimDescription::default()
        })
        .contains("localdisk-x is no disk of this node")
    );
    assert!(
        waits(DiskClaimDescription {
            device_paths: vec!["/dev/sdq".to_owned()],
            ..DiskClaimDescription::default()
        })
        .contains("no disk has the path /dev/sdq")
    );
}

#[test]
fn what_is_asked_for_besides_is_named() {
    let claim = a_claim(DiskClaimDescription {
        device_paths: vec!["/dev/ubdb".to_owned(), "/dev/sdq".to_owned()],
        ..DiskClaimDescription::default()
    });
    let Decision::Bind { disks, note } = decided(&claim, |_| ()) else {
        panic!("not bound");
    };
    assert_eq!(disks, [A]);
    assert!(note.contains("/dev/sdq"), "{note}");
}

#[test]
fn senseless_claims_are_refused_with_a_sentence() {
    let refused = |change: &dyn Fn(&mut LocalDiskClaim)| {
        let mut claim = a_claim(ssds());
        change(&mut claim);
        let decision = decided(&claim, |_| ());
        let Decision::Refuse(sentence) = decision else {
            panic!("{decision:?}");
        };
        sentence
    };
    let describe = |description: DiskClaimDescription| {
        refused(&|c| c.spec.description = Some(description.clone()))
    };
    assert!(describe(DiskClaimDescription::default()).contains("spec.description is empty"));
    assert!(refused(&|c| c.spec.description = None).contains("spec.description is empty"));
    let negative = describe(DiskClaimDescription {
        capacity: -5,
        ..DiskClaimDescription::default()
    });
    assert!(negative.contains("capacity is -5"), "{negative}");
    let sata = describe(DiskClaimDescription {
        disk_type: DiskType::from("ssd"),
        ..DiskClaimDescription::default()
    });
    assert!(sata.contains("\"ssd\"") && sata.contains("SSD"), "{sata}");
    for path in ["sdb", "/dev/../etc/passwd"] {
        let sentence = describe(DiskClaimDescription {
            device_paths: vec![path.to_owned()],
            ..DiskClaimDescription::default()
        });
        assert!(sentence.contains(path), "{sentence}");
    }
    for (owner, part) in [
        ("", "is empty"),
        ("system", "the host itself"),
        ("local-disk-manager", "not supported yet"),
    ] {
        let sentence = refused(&|c| owner.clone_into(&mut c.spec.owner));
        assert!(sentence.contains(part), "{sentence}");
    }
}

#[test]
fn owners_must_agree() {
    let mut claim = a_claim(ssds());
    claim.spec.owner = "somebody".to_owned();
    let Decision::Wait(sentence) = decided(&claim, |_| ()) else {
        panic!("given without an owner");
    };
    assert!(sentence.contains("has no owner"), "{sentence}");
    let decision = decided(&claim, |pairs| {
        pairs[1].0.spec.owner = "somebody".to_owned();
    });
    assert_eq!(decision, bound(&[B]));
    // What such an owner does with it is that owner's business.
    claim.status = Some(LocalDiskClaimStatus {
        status: ClaimPhase::Bound,
        ..LocalDiskClaimStatus::default()
    });
    assert_eq!(decided(&claim, |_| ()), Decision::Nothing);
}

#[test]
fn phases() {
    let mut claim = a_claim(ssds());
    claim.spec.disk_refs = vec![ObjectReference {
        name: Some(B.to_owned()),
        ..ObjectReference::default()
    }];
    assert_eq!(decided(&claim, |_| ()), bound(&[B]), "given by the user");
    let mut at = |phase: ClaimPhase| {
        claim.status = Some(LocalDiskClaimStatus {
            status: phase,
            ..LocalDiskClaimStatus::default()
        });
        decided(&claim, |_| ())
    };
    assert_eq!(
        at(ClaimPhase::Bound),
        Decision::Fill {
            disks: vec![B.to_owned()]
        }
    );
    assert_eq!(at(ClaimPhase::Consumed), Decision::Remove);
    assert_eq!(at(ClaimPhase::Deleted), Decision::Remove);
}

fn given(path: &str) -> LocalDisk {
    let mut object = an_object(A, &a_disk());
    object.spec.device_path = path.to_owned();
    object.spec.owner = "local-storage".to_owned();
    object.spec.claim_ref = Some(ObjectReference {
        kind: Some("LocalDiskClaim".to_owned()),
        uid: Some("uid-1".to_owned()),
        ..ObjectReference::default()
    });
    object
}

#[test]
fn only_untouched_disks_of_gone_claims_are_released() {
    let (object, disk) = (given("/dev/sdb"), a_disk());
    let candidate = |lvm| Candidate {
        object: &object,
        disk: Some(&disk),
        lvm,
    };
    let nothing_filled = |_: &str| false;
    let free = |candidate: &Candidate<'_>| releasable(candidate, |_| false, nothing_filled);
    assert!(free(&candidate(&LvmUse::None)));
    let claimed = |uid: &str| uid == "uid-1";
    assert!(!releasable(
        &candidate(&LvmUse::None),
        claimed,
        nothing_filled
    ));
    // What was made part of a pool once is not given away for looking empty.
    let filled = |name: &str| name == A;
    assert!(!releasable(&candidate(&LvmUse::None), |_| false, filled));
    let pool = LvmUse::Pool("LocalStorage_PoolSSD".to_owned());
    assert!(!free(&candidate(&pool)));
    let gone = Candidate {
        disk: None,
        ..candidate(&LvmUse::None)
    };
    assert!(!free(&gone));
    let unread = Disk {
        content: Content::Unknown {
            why: "it can't be read".to_owned(),
        },
        ..a_disk()
    };
    assert!(!free(&Candidate {
        disk: Some(&unread),
        ..candidate(&LvmUse::None)
    }));
    // The host's udev saw a physical volume, now or when the object was written.
    let link = "/dev/disk/by-id/lvm-pv-uuid-OfFewU-agyb-OdEF-cSjy-fVZI-P1b3-6UeEEy";
    let marked = Disk {
        links: vec![link.to_owned()],
        ..a_disk()
    };
    assert!(!free(&Candidate {
        disk: Some(&marked),
        ..candidate(&LvmUse::None)
    }));
    let mut remembered = given("/dev/sdb");
    remembered.spec.dev_links = vec![link.to_owned()];
    assert!(!free(&Candidate {
        object: &remembered,
        ..candidate(&LvmUse::None)
    }));
}

#[test]
fn a_physical_volume_that_no_claim_goes_on_with_is_released() {
    let object = given("/dev/sdb");
    let made = Disk {
        content: Content::Signature {
            kind: "LVM2_member".to_owned(),
            uuid: String::new(),
        },
        links: vec!["/dev/disk/by-id/lvm-pv-uuid-hawser-1".to_owned()],
        ..a_disk()
    };
    let held = Disk {
        holders: vec!["dm-1".to_owned()],
        ..made.clone()
    };
    for (disk, free) in [(&made, true), (&held, false)] {
        let candidate = Candidate {
            object: &object,
            disk: Some(disk),
            lvm: &LvmUse::Made,
        };
        assert_eq!(releasable(&candidate, |_| false, |_| false), free);
    }
}
