//! Names stay with disks, whatever the kernel calls them; what can't be told apart is left alone.

use super::*;
use crate::disk::builders::{a_bare_disk, a_disk, an_object};
use k8s_openapi::api::core::v1::ObjectReference;
use proptest::prelude::*;

const A: &str = "localdisk-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "localdisk-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn one(objects: &[LocalDisk], disk: &Disk) -> Verdict {
    assign("n1", objects, std::slice::from_ref(disk), &BTreeSet::new()).remove(0)
}

fn all(objects: &[LocalDisk], disks: &[Disk]) -> Vec<Verdict> {
    assign("n1", objects, disks, &BTreeSet::new())
}

fn known(name: &str) -> Verdict {
    Verdict::Known(name.to_owned())
}

#[test]
fn a_new_disk_gets_a_name_of_the_api() {
    let Verdict::New(name) = one(&[], &a_disk()) else {
        panic!("not new");
    };
    let hex = name.strip_prefix(NAME_PREFIX).unwrap();
    assert!(hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    // The same again, and another one on another node.
    assert_eq!(one(&[], &a_disk()), Verdict::New(name.clone()));
    let elsewhere = assign("n2", &[], &[a_disk()], &BTreeSet::new());
    assert_ne!(elsewhere, [Verdict::New(name.clone())]);
    // Taken by another node's object: another name.
    let taken = BTreeSet::from([name.clone()]);
    assert_ne!(assign("n1", &[], &[a_disk()], &taken), [Verdict::New(name)]);
}

#[test]
fn a_serial_number_is_followed_through_renames_and_slots() {
    let object = an_object(A, &a_disk());
    let moved = Disk {
        name: "sdz".to_owned(),
        path: "/dev/sdz".into(),
        number: (65, 144),
        links: vec!["/dev/disk/by-path/other".to_owned()],
        ..a_disk()
    };
    assert_eq!(one(&[object], &moved), known(A));
}

#[test]
fn another_disk_in_the_slot_is_another_disk() {
    let object = an_object(A, &a_disk());
    let replaced = Disk {
        serials: vec!["S2".to_owned()],
        ..a_disk()
    };
    assert!(matches!(one(&[object], &replaced), Verdict::New(name) if name != A));
}

#[test]
fn a_serial_number_known_by_another_name_of_it() {
    let mut object = an_object(A, &a_disk());
    if let Some(attributes) = &mut object.spec.disk_attributes {
        "Example_100_S1".clone_into(&mut attributes.serial_number);
    }
    let disk = Disk {
        serials: vec!["S1".to_owned(), "Example_100_S1".to_owned()],
        ..a_disk()
    };
    assert_eq!(one(&[object], &disk), known(A));
}

#[test]
fn disks_without_serial_number_are_known_by_their_slot() {
    let (b, c) = (a_bare_disk('b'), a_bare_disk('c'));
    let objects = [an_object(A, &b), an_object(B, &c)];
    assert_eq!(all(&objects, &[b.clone(), c.clone()]), [known(A), known(B)]);
    // Renamed at the next boot.
    let renamed = |disk: &Disk, name: &str| Disk {
        name: name.to_owned(),
        path: format!("/dev/{name}").into(),
        ..disk.clone()
    };
    let swapped = [renamed(&c, "ubdb"), renamed(&b, "ubdc")];
    assert_eq!(all(&objects, &swapped), [known(B), known(A)]);
    // Grown, and not given away.
    let grown = Disk {
        bytes: 20 << 30,
        ..b.clone()
    };
    assert_eq!(one(&objects, &grown), known(A));
    // Replaced by a smaller one, or given away: not the same.
    let smaller = Disk {
        bytes: 5 << 30,
        ..b
    };
    assert!(matches!(one(&objects, &smaller), Verdict::New(name) if name != A));
    let mut given = objects[0].clone();
    given.spec.claim_ref = Some(ObjectReference::default());
    assert!(matches!(one(&[given], &grown), Verdict::New(name) if name != A));
}

#[test]
fn two_disks_with_the_same_serial_number() {
    let first = a_disk();
    let second = Disk {
        name: "sdc".to_owned(),
        path: "/dev/sdc".into(),
        links: vec!["/dev/disk/by-path/pci-0000:00:1f.2-ata-3".to_owned()],
        ..a_disk()
    };
    let fresh = all(&[], &[first.clone(), second.clone()]);
    let [Verdict::New(one_name), Verdict::New(two_name)] = fresh.as_slice() else {
        panic!("{fresh:?}");
    };
    assert_ne!(one_name, two_name);
    let objects = [an_object(A, &first), an_object(B, &second)];
    assert_eq!(
        all(&objects, &[second.clone(), first.clone()]),
        [known(B), known(A)]
    );
    // Without slots there is no telling which is which: neither is touched.
    let blind = |disk: &Disk| Disk {
        links: Vec::new(),
        ..disk.clone()
    };
    let objects = [an_object(A, &blind(&first)), an_object(B, &blind(&second))];
    for verdict in all(&objects, &[blind(&first), blind(&second)]) {
        assert!(matches!(verdict, Verdict::Doubt(_)), "{verdict:?}");
    }
    // The content tells.
    let marked = |disk: &Disk, pv: &str| Disk {
        links: vec![format!("/dev/disk/by-id/lvm-pv-uuid-{pv}")],
        ..disk.clone()
    };
    let objects = [
        an_object(A, &marked(&first, "one")),
        an_object(B, &marked(&second, "two")),
    ];
    assert_eq!(
        all(&objects, &[marked(&first, "two"), marked(&second, "one")]),
        [known(B), known(A)]
    );
}

#[test]
fn a_clone_of_a_disk_is_not_taken_for_it() {
    let pv = "/dev/disk/by-id/lvm-pv-uuid-one".to_owned();
    let original = Disk {
        links: vec![pv.clone()],
        ..a_disk()
    };
    let clone = Disk {
        serials: vec!["S9".to_owned()],
        links: vec![pv],
        ..a_disk()
    };
    let objects = [an_object(A, &original)];
    assert!(matches!(one(&objects, &clone), Verdict::New(_)));
}

#[test]
fn a_world_wide_name_is_stronger_than_a_serial_number() {
    let with = |wwn: &str, path: &str| Disk {
        links: vec![format!("/dev/disk/by-id/wwn-{wwn}")],
        wwn: wwn.to_owned(),
        path: path.into(),
        name: path.trim_start_matches("/dev/").to_owned(),
        ..a_disk()
    };
    let (one, two) = (with("0x1", "/dev/sdb"), with("0x2", "/dev/sdc"));
    let objects = [an_object(A, &one), an_object(B, &two)];
    assert_eq!(
        all(
            &objects,
            &[with("0x2", "/dev/sdb"), with("0x1", "/dev/sdc")]
        ),
        [known(B), known(A)]
    );
}

#[test]
fn objects_of_a_former_generation_are_passed_over() {
    let old = an_object("n1-sdb", &a_disk());
    assert!(matches!(one(&[old], &a_disk()), Verdict::New(_)));
}

/// Disks as machines have them: with and without serial numbers, some the same, in slots or not.
fn some_disks() -> impl Strategy<Value = Vec<Disk>> {
    let disk = (0..3_usize, 0..4_usize, any::<bool>(), 1..3_u64);
    proptest::collection::vec(disk, 1..6).prop_map(|facts| {
        facts
            .into_iter()
            .enumerate()
            .map(|(i, (serial, slot, has_slot, size))| Disk {
                name: format!("sd{i}"),
                path: format!("/dev/sd{i}").into(),
                serials: (serial > 0)
                    .then(|| format!("S{serial}"))
                    .into_iter()
                    .collect(),
                // Two disks are never in one slot.
                links: has_slot
                    .then(|| format!("/dev/disk/by-path/slot-{slot}-{i}"))
                    .into_iter()
                    .collect(),
                bytes: size << 30,
                ..a_disk()
            })
            .collect()
    })
}

fn objects_of(disks: &[Disk]) -> Vec<LocalDisk> {
    disks
        .iter()
        .zip(all(&[], disks))
        .map(|(disk, verdict)| {
            let Verdict::New(name) = verdict else {
                panic!("{verdict:?}");
            };
            an_object(&name, disk)
        })
        .collect()
}

proptest! {
    #[test]
    fn no_two_disks_share_a_name(disks in some_disks()) {
        let names: BTreeSet<String> = objects_of(&disks).iter().map(kube::ResourceExt::name_any).collect();
        prop_assert_eq!(names.len(), disks.len());
    }

    /// A second look at the same disks finds the same objects, or doubts; it never makes a new one.
    #[test]
    fn a_second_look_agrees(disks in some_disks()) {
        let objects = objects_of(&disks);
        for (object, verdict) in objects.iter().zip(all(&objects, &disks)) {
            match verdict {
                Verdict::Known(name) => prop_assert_eq!(name, object.name_any()),
                Verdict::Doubt(_) => {}
                Verdict::New(name) => prop_assert!(false, "{} became {}", object.name_any(), name),
            }
        }
    }

    /// The kernel names disks anew: no disk gets another's object, even if some had to be doubted.
    #[test]
    fn renames_never_swap_objects(disks in some_disks(), order in any::<prop::sample::Index>()) {
        let objects = objects_of(&disks);
        let shift = order.index(disks.len());
        let renamed: Vec<Disk> = (0..disks.len()).map(|i| {
            let as_if = &disks[(i + shift) % disks.len()];
            Disk { name: as_if.name.clone(), path: as_if.path.clone(), number: as_if.number, ..disks[i].clone() }
        }).collect();
        for (i, verdict) in all(&objects, &renamed).into_iter().enumerate() {
            if let Verdict::Known(name) = verdict {
                let at = objects.iter().position(|o| o.name_any() == name).unwrap();
                // A disk without serial number and slot has nothing but its path: there is nothing to follow.
                let nameless = disks[i].serials.is_empty() && disks[i].links.is_empty();
                prop_assert!(at == i || nameless, "{} got the object of {}", disks[i].name, disks[at].name);
            }
        }
    }

    #[test]
    fn the_order_of_input_does_not_matter(disks in some_disks()) {
        let objects = objects_of(&disks);
        let there = all(&objects, &disks);
        let mut back_objects = objects.clone();
        back_objects.reverse();
        let mut back_disks = disks.clone();
        back_disks.reverse();
        let mut back = all(&back_objects, &back_disks);
        back.reverse();
        let plain = |verdicts: Vec<Verdict>| -> Vec<Option<String>> {
            verdicts.into_iter().map(|v| match v { Verdict::Known(n) | Verdict::New(n) => Some(n), Verdict::Doubt(_) => None }).collect()
        };
        prop_assert_eq!(plain(there), plain(back));
    }

    /// An object never goes to a disk with another serial number.
    #[test]
    fn serial_numbers_are_never_crossed(before in some_disks(), after in some_disks()) {
        let objects = objects_of(&before);
        for (disk, verdict) in after.iter().zip(all(&objects, &after)) {
            if let Verdict::Known(name) = verdict {
                let object = objects.iter().find(|o| o.name_any() == name).unwrap();
                let serial = object.spec.disk_attributes.clone().unwrap_or_default().serial_number;
                prop_assert!(serial.is_empty() || disk.serials.is_empty() || disk.serials.contains(&serial));
            }
        }
    }
}
