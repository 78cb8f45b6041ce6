//! Replicas against a node in memory: converging from anywhere, never touching what is not ours.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hawser_api::{LocalVolumeReplica, LocalVolumeReplicaSpec, ReplicaState};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::fake::{EXTENT, Extent, FakeNode, POOL, When};
use super::node::{Node, Settled};
use super::plan::Stage;
use super::status;
use super::tags::Tags;
use crate::mount::{FsType, Mount};

mod adopted;
mod contract;
mod property;
mod trouble;

fn a_replica(volume: &str, extents: u64) -> LocalVolumeReplica {
    let mut replica = LocalVolumeReplica::new(
        &format!("{volume}-abc123"),
        LocalVolumeReplicaSpec {
            volume_name: volume.to_owned(),
            pool_name: POOL.to_owned(),
            node_name: "n1".to_owned(),
            required_capacity_bytes: i64::try_from(extents * EXTENT).unwrap(),
            ..LocalVolumeReplicaSpec::default()
        },
    );
    replica.metadata.annotations = Some(
        [("hawser.io/claim".to_owned(), "default/data-0".to_owned())]
            .into_iter()
            .collect(),
    );
    replica
}

/// One reconcile, as the loop does it, with the object's status kept as the API server would.
async fn settle(node: &Arc<Node>, replica: &mut LocalVolumeReplica) -> Option<Stage> {
    let desired = status::desired(replica).unwrap();
    let names = BTreeSet::from([desired.replica.clone()]);
    let (plan, actual, failure) = match node.settle(&desired, &names).await.ok()? {
        Settled::Busy => return None,
        Settled::Rest { plan, actual } => (plan, actual, None),
        Settled::Failed {
            plan,
            actual,
            reason,
        } => (plan, actual, Some(reason)),
    };
    let now = Time(Timestamp::UNIX_EPOCH);
    replica.status = Some(status::status(
        replica,
        &desired,
        &plan,
        &actual,
        failure.as_deref(),
        &now,
    ));
    failure.is_none().then_some(plan.stage)
}

fn state(replica: &LocalVolumeReplica) -> ReplicaState {
    replica.status.clone().unwrap_or_default().state
}

fn message(replica: &LocalVolumeReplica) -> String {
    let conditions = replica.status.clone().unwrap_or_default().conditions;
    conditions
        .into_iter()
        .map(|condition| condition.message)
        .collect()
}

fn bytes(extents: u64) -> i64 {
    i64::try_from(extents * EXTENT).unwrap()
}

fn want(replica: &mut LocalVolumeReplica, extents: u64) {
    replica.spec.required_capacity_bytes = bytes(extents);
}

/// As the provisioner notes on an object that it makes anew.
fn note_existing(replica: &mut LocalVolumeReplica) {
    let notes = replica.metadata.annotations.get_or_insert_default();
    notes.insert(
        hawser_api::names::annotations::EXISTING.to_owned(),
        "true".to_owned(),
    );
}

fn condition(replica: &LocalVolumeReplica, kind: &str) -> hawser_api::Condition {
    let conditions = replica.status.clone().unwrap_or_default().conditions;
    let found = conditions.iter().find(|condition| condition.type_ == kind);
    found
        .cloned()
        .unwrap_or_else(|| panic!("no condition {kind}: {conditions:?}"))
}

/// Lets a job come to the point where it zeroes, which is held.
async fn until_zeroing(fake: &FakeNode) {
    while fake.zeroing_held.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
}

/// Lets a job come to the point where all is zeroed.
async fn until_zeroed(fake: &FakeNode, volume: &str) {
    while fake.discard_held.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    let world = fake.world.lock();
    let lv = world.lv(volume).unwrap();
    assert!(lv.extents.iter().all(|extent| *extent == Extent::Zero));
}

/// Lets background jobs come to their end.
async fn until_idle(node: &Arc<Node>) {
    for volume in node.jobs.snapshot().keys() {
        let _ = node.jobs.finished(volume).await;
    }
}

#[tokio::test]
async fn a_new_replica_becomes_ready_and_stays_so_without_steps() {
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    assert_eq!(settle(&node, &mut replica).await, Some(Stage::Ready));
    let status = replica.status.clone().unwrap();
    assert_eq!(status.state, ReplicaState::Ready);
    assert_eq!(
        status.allocated_capacity_bytes,
        i64::try_from(10 * EXTENT).unwrap()
    );
    assert_eq!(status.dev_path, format!("/dev/{POOL}/pvc-1"));
    assert_eq!(
        (status.synced, status.in_use, status.disks.len()),
        (true, false, 1)
    );
    {
        let world = fake.world.lock();
        let tags = world.tags("pvc-1");
        assert_eq!(tags.volume.as_deref(), Some("pvc-1"));
        assert_eq!(tags.claim.as_deref(), Some("default/data-0"));
        assert_eq!(world.lv("pvc-1").unwrap().extents[0], Extent::Zero);
        assert_eq!(world.fronts["pvc-1"].bytes, 10 * EXTENT);
    }
    let changes = fake.world.lock().log.len();
    settle(&node, &mut replica).await;
    assert_eq!(
        fake.world.lock().log.len(),
        changes,
        "a second run has no steps"
    );
    assert_eq!(replica.status, Some(status), "and writes nothing");
}

#[tokio::test]
async fn without_room_the_condition_has_the_numbers_and_room_that_appears_is_used() {
    let fake = FakeNode::new(5);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 6);
    settle(&node, &mut replica).await;
    assert_eq!(state(&replica), ReplicaState::NotReady);
    assert!(
        message(&replica).contains("20971520 bytes free, 25165824 bytes are needed"),
        "{}",
        message(&replica)
    );
    fake.world.lock().groups.insert(POOL.to_owned(), 6);
    assert_eq!(settle(&node, &mut replica).await, Some(Stage::Ready));
    assert_eq!(message(&replica), "");
}

#[tokio::test]
async fn what_is_not_supported_or_senseless_is_not_made() {
    let fake = FakeNode::new(100);
    let node = fake.start();
    for (change, part) in [
        (
            Box::new(|spec: &mut LocalVolumeReplicaSpec| spec.thin = true)
                as Box<dyn Fn(&mut LocalVolumeReplicaSpec)>,
            "spec.thin",
        ),
        (
            Box::new(|spec: &mut LocalVolumeReplicaSpec| spec.pool_name = "ubuntu-vg".to_owned()),
            "spec.poolName",
        ),
        (
            Box::new(|spec: &mut LocalVolumeReplicaSpec| spec.required_capacity_bytes = -5),
            "spec.requiredCapacityBytes",
        ),
        (
            Box::new(|spec: &mut LocalVolumeReplicaSpec| spec.required_capacity_bytes = 0),
            "spec.requiredCapacityBytes",
        ),
        (
            Box::new(|spec: &mut LocalVolumeReplicaSpec| {
                spec.required_capacity_bytes = i64::MAX;
            }),
            "bytes are needed for 9223372036854775807 bytes",
        ),
        (
            Box::new(|spec: &mut LocalVolumeReplicaSpec| {
                spec.volume_name = "../../etc".to_owned();
            }),
            "../../etc",
        ),
        (
            Box::new(|spec: &mut LocalVolumeReplicaSpec| spec.volume_name = "x".repeat(125)),
            "too long for its front device",
        ),
        (
            Box::new(|spec: &mut LocalVolumeReplicaSpec| {
                spec.volume_name = "snapshot-1".to_owned();
            }),
            "reserved by LVM",
        ),
        (
            Box::new(|spec: &mut LocalVolumeReplicaSpec| {
                spec.pool_name = "LocalStorage_PoolSSD".to_owned();
            }),
            "has no volume group",
        ),
    ] {
        let mut replica = a_replica("pvc-1", 1);
        change(&mut replica.spec);
        settle(&node, &mut replica).await;
        assert_eq!(state(&replica), ReplicaState::NotReady);
        assert!(message(&replica).contains(part), "{}", message(&replica));
    }
    assert!(fake.world.lock().log.is_empty());
}

#[tokio::test]
async fn a_volume_of_somebody_else_is_neither_used_nor_wiped() {
    let fake = FakeNode::new(100);
    fake.foreign("pvc-1", 10);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    settle(&node, &mut replica).await;
    assert_eq!(state(&replica), ReplicaState::NotReady);
    assert!(
        message(&replica).contains("that Hawser did not make"),
        "{}",
        message(&replica)
    );
    replica.spec.delete = true;
    assert_eq!(settle(&node, &mut replica).await, Some(Stage::Gone));
    assert!(
        message(&replica).contains("left alone"),
        "{}",
        message(&replica)
    );
    assert!(fake.world.lock().log.is_empty());
}

#[tokio::test]
async fn a_volume_of_the_generation_before_is_adopted_by_its_object() {
    let fake = FakeNode::new(100);
    fake.foreign("pvc-1", 10);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    replica.status = Some(hawser_api::LocalVolumeReplicaStatus {
        allocated_capacity_bytes: i64::try_from(10 * EXTENT).unwrap(),
        state: ReplicaState::Ready,
        ..Default::default()
    });
    assert_eq!(settle(&node, &mut replica).await, Some(Stage::Ready));
    let world = fake.world.lock();
    let tags = world.tags("pvc-1");
    assert_eq!(
        (tags.volume.as_deref(), tags.unzeroed),
        (Some("pvc-1"), None)
    );
    assert!(
        world
            .lv("pvc-1")
            .unwrap()
            .tags
            .contains(&"backup".to_owned())
    );
    assert!(world.fronts.contains_key("pvc-1"));
}

#[tokio::test]
async fn a_volume_mounted_by_the_generation_before_is_served_as_it_is() {
    let fake = FakeNode::new(100);
    fake.foreign("pvc-1", 10);
    let minor = fake.world.lock().lv("pvc-1").unwrap().minor;
    mount(&fake, minor, "/var/lib/kubelet/pods/1/mount");
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    replica.status = Some(hawser_api::LocalVolumeReplicaStatus {
        allocated_capacity_bytes: 1,
        ..Default::default()
    });
    assert_eq!(settle(&node, &mut replica).await, Some(Stage::Ready));
    assert!(
        fake.world.lock().fronts.is_empty(),
        "a front device can't be made under a mount"
    );
    assert!(replica.status.clone().unwrap().in_use);
    fake.world.lock().mounts.clear();
    settle(&node, &mut replica).await;
    assert!(fake.world.lock().fronts.contains_key("pvc-1"));
}

#[tokio::test]
async fn data_that_is_gone_is_not_replaced_by_an_empty_volume() {
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    settle(&node, &mut replica).await;
    {
        let mut world = fake.world.lock();
        world.lvs.clear();
        world.fronts.clear();
    }
    settle(&node, &mut replica).await;
    assert_eq!(state(&replica), ReplicaState::NotReady);
    assert!(
        message(&replica).contains("is gone, and with it the data"),
        "{}",
        message(&replica)
    );
    assert!(fake.world.lock().lvs.is_empty());
}

fn mount(fake: &FakeNode, minor: u32, target: &str) {
    fake.world.lock().mounts.push(Mount {
        device: (253, minor),
        root: "/".into(),
        target: target.into(),
        options: "rw".to_owned(),
        fs_type: "ext4".to_owned(),
        source: "/dev/x".into(),
        super_options: "rw".to_owned(),
    });
}

#[tokio::test]
async fn a_mounted_volume_is_not_destroyed_and_an_unmounted_one_is_zeroed_first() {
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    settle(&node, &mut replica).await;
    let minor = fake.world.lock().fronts["pvc-1"].number.1;
    mount(&fake, minor, "/var/lib/kubelet/pods/1/mount");
    replica.spec.delete = true;
    settle(&node, &mut replica).await;
    assert_eq!(state(&replica), ReplicaState::ToBeDeleted);
    assert!(
        message(&replica).contains("mounted at /var/lib/kubelet/pods/1/mount"),
        "{}",
        message(&replica)
    );
    assert!(!fake.world.lock().tags("pvc-1").wiping);

    fake.world.lock().mounts.clear();
    settle(&node, &mut replica).await;
    assert!(
        message(&replica).contains("is being wiped"),
        "{}",
        message(&replica)
    );
    until_idle(&node).await;
    assert_eq!(settle(&node, &mut replica).await, Some(Stage::Gone));
    assert_eq!(state(&replica), ReplicaState::Deleted);
    let world = fake.world.lock();
    assert!(world.lvs.is_empty() && world.fronts.is_empty());
    assert_eq!(world.check(), Vec::<String>::new());
}

#[tokio::test]
async fn wiping_goes_on_after_a_restart_without_the_api_server() {
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    settle(&node, &mut replica).await;
    replica.spec.delete = true;
    fake.world.lock().broken_zeroing = true;
    settle(&node, &mut replica).await;
    until_idle(&node).await;
    settle(&node, &mut replica).await;
    assert!(
        message(&replica).contains("could not be wiped and is tried again"),
        "{}",
        message(&replica)
    );

    fake.world.lock().broken_zeroing = false;
    let node = fake.start();
    assert_ne!(
        node.settle_orphans(&BTreeSet::new(), true).await.unwrap(),
        0
    );
    until_idle(&node).await;
    assert!(fake.world.lock().lvs.is_empty());
}

#[tokio::test]
async fn after_a_reboot_front_devices_come_back_from_tags_alone() {
    let fake = FakeNode::new(100);
    let mut replica = a_replica("pvc-1", 10);
    settle(&fake.start(), &mut replica).await;
    {
        let mut world = fake.world.lock();
        world.fronts.clear();
        world.lvs.values_mut().for_each(|lv| lv.active = false);
    }
    fake.foreign("others", 3);
    let node = fake.start();
    for _ in 0..2 {
        node.settle_orphans(&BTreeSet::new(), true).await.unwrap();
    }
    assert_eq!(
        fake.world.lock().fronts.keys().collect::<Vec<_>>(),
        ["pvc-1"]
    );
    assert_eq!(
        node.settle_orphans(&BTreeSet::new(), true).await.unwrap(),
        0,
        "a second run has no steps"
    );
}

#[tokio::test]
async fn growing_shows_nothing_of_others() {
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    settle(&node, &mut replica).await;
    {
        // Published as a block device, as `csi` marks it.
        let mut world = fake.world.lock();
        let lv = world.lvs.values_mut().next().unwrap();
        lv.extents.fill(Extent::User);
        lv.tags = Tags {
            raw: true,
            unzeroed: None,
            ..Tags::read(&lv.tags)
        }
        .write();
    }
    replica.spec.required_capacity_bytes = i64::try_from(20 * EXTENT).unwrap();
    settle(&node, &mut replica).await;
    assert_eq!(fake.world.lock().check(), Vec::<String>::new());
    until_idle(&node).await;
    assert_eq!(settle(&node, &mut replica).await, Some(Stage::Ready));
    let world = fake.world.lock();
    assert_eq!(world.fronts["pvc-1"].bytes, 20 * EXTENT);
    assert_eq!(world.check(), Vec::<String>::new());
    let lv = world.lv("pvc-1").unwrap();
    assert!(
        lv.extents[..10]
            .iter()
            .all(|extent| *extent == Extent::User),
        "what was there stays"
    );
    assert_eq!(
        replica.status.unwrap().allocated_capacity_bytes,
        i64::try_from(20 * EXTENT).unwrap()
    );
}

#[tokio::test]
async fn growth_without_room_leaves_the_volume_ready_and_says_so() {
    let fake = FakeNode::new(12);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    settle(&node, &mut replica).await;
    replica.spec.required_capacity_bytes = i64::try_from(20 * EXTENT).unwrap();
    settle(&node, &mut replica).await;
    assert_eq!(state(&replica), ReplicaState::Ready);
    assert!(
        message(&replica).contains("8388608 bytes free, 41943040 bytes are needed"),
        "{}",
        message(&replica)
    );
    // The provisioner takes the wish back.
    replica.spec.required_capacity_bytes = i64::try_from(10 * EXTENT).unwrap();
    settle(&node, &mut replica).await;
    assert_eq!(message(&replica), "");
}

#[tokio::test(start_paused = true)]
async fn a_name_is_used_again_once_its_former_volume_is_wiped() {
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut first = a_replica("pvc-1", 10);
    settle(&node, &mut first).await;
    first.spec.delete = true;
    fake.world.lock().broken_zeroing = true;
    settle(&node, &mut first).await;
    let mut second = a_replica("pvc-1", 5);
    settle(&node, &mut second).await;
    assert!(
        message(&second).contains("still being wiped"),
        "{}",
        message(&second)
    );
    fake.world.lock().broken_zeroing = false;
    tokio::time::sleep(Duration::from_secs(60)).await;
    settle(&node, &mut second).await;
    until_idle(&node).await;
    assert_eq!(settle(&node, &mut second).await, Some(Stage::Ready));
    assert_eq!(fake.world.lock().check(), Vec::<String>::new());
}

#[test]
fn only_a_changed_wish_begins_a_look() {
    let before = a_replica("pvc-1", 10);
    let mut status = before.clone();
    status.status = Some(hawser_api::LocalVolumeReplicaStatus::default());
    status.metadata.resource_version = Some("2".to_owned());
    assert!(super::is_same_wish(&before, &status));
    let changes: [fn(&mut LocalVolumeReplica); 6] = [
        |replica| replica.spec.delete = true,
        |replica| replica.spec.required_capacity_bytes += 1,
        |replica| replica.metadata.uid = Some("another".to_owned()),
        |replica| replica.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH)),
        |replica| replica.metadata.finalizers = Some(vec!["f".to_owned()]),
        |replica| replica.metadata.annotations = None,
    ];
    for change in changes {
        let mut after = before.clone();
        change(&mut after);
        assert!(!super::is_same_wish(&before, &after), "{after:?}");
    }
}
