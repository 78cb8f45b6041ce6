//! Plans over objects and disks, and writing them to an API server.

use super::*;
use crate::disk::builders::{a_bare_disk, a_disk, a_scan, an_object};
use hawser_api::{DiskClaimState, DiskState};
use hawser_runtime::testing::FakeApi;

fn planned(objects: &[LocalDisk], scan: &Scan) -> Plan {
    plan("n1", objects, scan, &LvmUses::new(), &BTreeSet::new())
}

#[test]
fn a_second_run_has_no_steps() {
    let scan = a_scan([a_bare_disk('b'), a_bare_disk('c')]);
    let first = planned(&[], &scan);
    assert_eq!(first.steps.len(), 2);
    let objects: Vec<LocalDisk> = first
        .present
        .iter()
        .map(|(name, disk)| an_object(name, scan.disks.iter().find(|d| d.name == *disk).unwrap()))
        .collect();
    assert_eq!(planned(&objects, &scan).steps, []);
}

#[test]
fn a_disk_that_is_gone_is_said_to_be() {
    let object = an_object("localdisk-a", &a_disk());
    let gone = Step::Gone {
        name: "localdisk-a".to_owned(),
    };
    assert_eq!(
        planned(std::slice::from_ref(&object), &a_scan([])).steps,
        [gone]
    );
    // Not while udev has yet to look at a disk: it might be this one.
    let unsettled = Scan {
        settled: false,
        ..a_scan([])
    };
    assert_eq!(planned(&[object], &unsettled).steps, []);
}

#[tokio::test]
async fn objects_are_made_updated_and_left_alone() {
    let fake = FakeApi::new();
    let mut upkeep = Upkeep::new("n1", Api::all(fake.client()));
    let none = LvmUses::new();
    let scan = a_scan([a_disk()]);
    let kept = upkeep.run(Vec::new(), &scan, &none).await.unwrap();
    let [object] = kept.objects.as_slice() else {
        panic!("{kept:?}");
    };
    assert_eq!(
        object.status.as_ref().unwrap().claim_state,
        DiskClaimState::Available
    );

    let _ = fake.calls();
    let kept = upkeep.run(kept.objects, &scan, &none).await.unwrap();
    assert!(fake.calls().is_empty(), "nothing to write");

    let kept = upkeep.run(kept.objects, &a_scan([]), &none).await.unwrap();
    assert_eq!(kept.objects[0].spec.state, DiskState::Inactive);
    assert!(kept.present.is_empty());
}

/// As the generation before Hawser left it, and as [`object::gone`] does.
#[tokio::test]
async fn a_disk_that_was_away_is_found_again_with_all_that_was_decided_of_it() {
    let fake = FakeApi::new();
    let mut upkeep = Upkeep::new("n1", Api::all(fake.client()));
    let mut away = an_object("localdisk-a", &a_disk());
    away.spec.owner = "somebody".to_owned();
    away.spec.reserved = true;
    away.spec = object::gone(&away.spec);
    assert_eq!(
        (
            away.spec.node_name.as_str(),
            away.spec.pre_node_name.as_str()
        ),
        ("", "n1")
    );
    fake.put(
        "/apis/hwameistor.io/v1alpha1/localdisks/localdisk-a",
        serde_json::to_value(&away).unwrap(),
    );
    assert_eq!(planned(&[away.clone()], &a_scan([])).steps, []);
    let seen = upkeep.api.get("localdisk-a").await.unwrap();
    let scan = a_scan([a_disk()]);
    let kept = upkeep
        .run(vec![seen], &scan, &LvmUses::new())
        .await
        .unwrap();
    let [back] = kept.objects.as_slice() else {
        panic!("{kept:?}");
    };
    let spec = &back.spec;
    assert_eq!(back.name_any(), "localdisk-a");
    assert_eq!(
        (spec.node_name.as_str(), &spec.state, spec.owner.as_str()),
        ("n1", &DiskState::Active, "somebody")
    );
    assert!(spec.reserved);
}

#[tokio::test]
async fn a_name_of_another_node_is_avoided() {
    let fake = FakeApi::new();
    let mut upkeep = Upkeep::new("n1", Api::all(fake.client()));
    let scan = a_scan([a_disk()]);
    let wanted = planned(&[], &scan).present.into_keys().next().unwrap();
    let mut other = an_object(&wanted, &a_disk());
    other.spec.node_name = "n2".to_owned();
    fake.put(
        &format!("/apis/hwameistor.io/v1alpha1/localdisks/{wanted}"),
        serde_json::to_value(&other).unwrap(),
    );
    let none = LvmUses::new();
    let kept = upkeep.run(Vec::new(), &scan, &none).await.unwrap();
    assert!(kept.objects.is_empty());
    let kept = upkeep.run(Vec::new(), &scan, &none).await.unwrap();
    assert_eq!(kept.objects.len(), 1);
    assert_ne!(kept.objects[0].name_any(), wanted);
}
