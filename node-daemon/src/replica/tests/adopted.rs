//! Volumes that the generation before made, as it left them: mounted directly, without tags, with snapshots, beneath DRBD.

use super::*;
use hawser_api::{LocalVolumeReplicaStatus, VolumeQoS};

/// The object of a volume that was made before, of so many extents.
fn of_before(volume: &str, extents: u64) -> LocalVolumeReplica {
    let mut replica = a_replica(volume, extents);
    replica.status = Some(LocalVolumeReplicaStatus {
        allocated_capacity_bytes: bytes(extents),
        state: ReplicaState::Ready,
        dev_path: format!("/dev/{POOL}/{volume}"),
        ..LocalVolumeReplicaStatus::default()
    });
    replica
}

fn minor_of(fake: &FakeNode, volume: &str) -> u32 {
    fake.world.lock().lv(volume).unwrap().minor
}

/// A pod that has the device itself.
fn bind_node(fake: &FakeNode, minor: u32, target: &str) {
    fake.world.lock().mounts.push(Mount {
        device: (0, 5),
        root: format!("/dm-{minor}").into(),
        target: target.into(),
        options: "rw".to_owned(),
        fs_type: "devtmpfs".to_owned(),
        source: "devtmpfs".into(),
        super_options: "rw".to_owned(),
    });
}

fn assert_full_of_data(fake: &FakeNode, volume: &str, extents: usize) {
    let world = fake.world.lock();
    assert_eq!(world.check(), Vec::<String>::new());
    let lv = world.lv(volume).unwrap();
    assert_eq!(lv.extents, vec![Extent::User; extents]);
}

#[tokio::test]
async fn growing_a_volume_that_a_pod_of_before_has_mounted_leaves_its_data_alone() {
    let fake = FakeNode::new(100);
    fake.adopted("pvc-1", 10);
    mount(&fake, minor_of(&fake, "pvc-1"), "/pods/1/mount");
    let node = fake.start();
    let mut replica = of_before("pvc-1", 10);
    assert_eq!(settle(&node, &mut replica).await, Some(Stage::Ready));

    want(&mut replica, 20);
    fake.zeroing_held.send_replace(true);
    settle(&node, &mut replica).await;
    assert_eq!(state(&replica), ReplicaState::Ready);
    assert_eq!(
        replica.status.clone().unwrap().allocated_capacity_bytes,
        bytes(20)
    );
    // Its file system grows at once, and its pod fills it.
    fake.world.lock().fill("pvc-1");
    fake.zeroing_held.send_replace(false);
    until_idle(&node).await;
    assert_eq!(settle(&node, &mut replica).await, Some(Stage::Ready));
    assert_full_of_data(&fake, "pvc-1", 20);
    let tags = fake.world.lock().tags("pvc-1");
    assert_eq!(tags.fs, Some(FsType::Ext4), "exposed as it is mounted");

    // Later it gets its front device like any other.
    fake.world.lock().mounts.clear();
    settle(&node, &mut replica).await;
    until_idle(&node).await;
    assert_eq!(fake.world.lock().fronts["pvc-1"].bytes, 20 * EXTENT);
    assert_full_of_data(&fake, "pvc-1", 20);
}

#[tokio::test]
async fn a_block_volume_that_a_pod_of_before_has_open_grows_once_it_is_closed() {
    let fake = FakeNode::new(100);
    fake.adopted("pvc-1", 10);
    bind_node(&fake, minor_of(&fake, "pvc-1"), "/pods/1/device");
    let node = fake.start();
    let mut replica = of_before("pvc-1", 10);
    want(&mut replica, 20);
    settle(&node, &mut replica).await;
    assert_eq!(state(&replica), ReplicaState::Ready);
    let sentence = message(&replica);
    assert!(
        sentence.contains("pvc-1") && sentence.contains("restart"),
        "{sentence}"
    );
    assert_eq!(condition(&replica, "Expand").reason, "InUse");
    assert_full_of_data(&fake, "pvc-1", 10);

    fake.world.lock().mounts.clear();
    for _ in 0..2 {
        settle(&node, &mut replica).await;
        until_idle(&node).await;
    }
    assert_eq!(message(&replica), "");
    let world = fake.world.lock();
    assert_eq!(world.fronts["pvc-1"].bytes, 20 * EXTENT);
    assert_eq!(world.check(), Vec::<String>::new());
    assert_eq!(
        world.lv("pvc-1").unwrap().extents[..10],
        [Extent::User; 10],
        "what was there stays"
    );
}

#[tokio::test]
async fn a_volume_with_snapshots_is_neither_grown_nor_wiped_and_says_which() {
    let fake = FakeNode::new(100);
    fake.adopted("pvc-1", 10);
    fake.snapshot("pvc-1", "backup-of-monday");
    let node = fake.start();
    let mut replica = of_before("pvc-1", 10);
    want(&mut replica, 20);
    settle(&node, &mut replica).await;
    assert_eq!(state(&replica), ReplicaState::Ready);
    let expand = condition(&replica, "Expand");
    assert_eq!(expand.reason, "HasSnapshots");
    assert!(expand.message.contains("backup-of-monday"), "{expand:?}");

    replica.spec.delete = true;
    for _ in 0..3 {
        settle(&node, &mut replica).await;
        until_idle(&node).await;
    }
    assert_eq!(state(&replica), ReplicaState::ToBeDeleted);
    let delete = condition(&replica, "Delete");
    assert_eq!(delete.reason, "HasSnapshots");
    assert!(
        delete
            .message
            .contains(&format!("lvremove {POOL}/backup-of-monday")),
        "{delete:?}"
    );
    assert_full_of_data(&fake, "pvc-1", 10);

    let snapshot = (POOL.to_owned(), "backup-of-monday".to_owned());
    fake.world.lock().lvs.remove(&snapshot);
    settle(&node, &mut replica).await;
    until_idle(&node).await;
    assert_eq!(settle(&node, &mut replica).await, Some(Stage::Gone));
}

#[tokio::test]
async fn a_snapshot_made_while_a_volume_is_wiped_is_not_removed_with_it() {
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    settle(&node, &mut replica).await;
    replica.spec.delete = true;
    fake.discard_held.send_replace(true);
    settle(&node, &mut replica).await;
    until_zeroed(&fake, "pvc-1").await;
    fake.snapshot("pvc-1", "late");
    fake.discard_held.send_replace(false);
    until_idle(&node).await;
    let world = fake.world.lock();
    assert_eq!(world.check(), Vec::<String>::new());
    assert!(world.lv("late").is_some() && world.lv("pvc-1").is_some());
}

#[tokio::test]
async fn a_thin_volume_is_not_wiped() {
    let fake = FakeNode::new(100);
    fake.adopted("pvc-1", 10);
    let key = (POOL.to_owned(), "pvc-1".to_owned());
    fake.world.lock().lvs.get_mut(&key).unwrap().pool = "LocalStorage_ThinPool".to_owned();
    let node = fake.start();
    let mut replica = of_before("pvc-1", 10);
    replica.spec.delete = true;
    settle(&node, &mut replica).await;
    until_idle(&node).await;
    assert!(
        message(&replica).contains("LocalStorage_ThinPool"),
        "{}",
        message(&replica)
    );
    assert_full_of_data(&fake, "pvc-1", 10);
}

#[tokio::test]
async fn an_object_made_anew_finds_its_volume() {
    let fake = FakeNode::new(100);
    fake.adopted("pvc-1", 10);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    note_existing(&mut replica);
    assert_eq!(settle(&node, &mut replica).await, Some(Stage::Ready));
    assert_eq!(
        replica.status.unwrap().allocated_capacity_bytes,
        bytes(10),
        "{fake:?}",
        fake = fake.world.lock().log
    );
}

#[tokio::test]
async fn an_object_made_anew_for_data_that_is_gone_makes_no_empty_volume() {
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    note_existing(&mut replica);
    settle(&node, &mut replica).await;
    assert_eq!(state(&replica), ReplicaState::NotReady);
    assert!(
        message(&replica).contains("is gone, and with it the data"),
        "{}",
        message(&replica)
    );
    assert!(fake.world.lock().lvs.is_empty());
}

#[tokio::test]
async fn a_volume_beneath_drbd_is_left_alone_also_without_the_api_server() {
    let fake = FakeNode::new(100);
    fake.adopted("pvc-1", 10);
    let node = fake.start();
    let mut replica = of_before("pvc-1", 10);
    let path = format!("/dev/{POOL}-HA/pvc-1");
    replica.status.as_mut().unwrap().dev_path.clone_from(&path);
    want(&mut replica, 20);
    settle(&node, &mut replica).await;
    assert_eq!(state(&replica), ReplicaState::NotReady);
    let sentence = message(&replica);
    assert!(
        sentence.contains("DRBD") && sentence.contains(&path),
        "{sentence}"
    );
    let status = replica.status.clone().unwrap();
    assert_eq!((status.dev_path, status.synced), (path, false));
    assert!(fake.world.lock().fronts.is_empty());

    let error = node.usable("pvc-1").await.unwrap_err().to_string();
    assert!(error.contains("DRBD"), "{error}");
    let again = fake.start();
    again.settle_orphans(&BTreeSet::new(), true).await.unwrap();
    assert!(again.usable("pvc-1").await.is_err());
    assert!(fake.world.lock().fronts.is_empty());
    assert_full_of_data(&fake, "pvc-1", 10);

    // Somebody took DRBD away, and says so.
    replica.status.as_mut().unwrap().dev_path = format!("/dev/{POOL}/pvc-1");
    replica.spec.required_capacity_bytes = bytes(10);
    assert_eq!(settle(&again, &mut replica).await, Some(Stage::Ready));
    again.usable("pvc-1").await.unwrap();
}

#[tokio::test]
async fn limits_that_are_not_kept_are_told() {
    let limits = |iops: &str| {
        Some(VolumeQoS {
            iops: iops.to_owned(),
            throughput: String::new(),
        })
    };
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut fresh = a_replica("pvc-2", 10);
    fresh.spec.volume_qos = limits("300");
    settle(&node, &mut fresh).await;
    assert_eq!(state(&fresh), ReplicaState::NotReady);
    assert!(
        message(&fresh).contains("spec.volumeQoS.iops is \"300\""),
        "{}",
        message(&fresh)
    );
    assert!(fake.world.lock().lvs.is_empty());
    fresh.spec.volume_qos = limits("0");
    assert_eq!(settle(&node, &mut fresh).await, Some(Stage::Ready));

    // A volume that is there is not taken from its pod for that.
    fake.adopted("pvc-1", 10);
    let mut replica = of_before("pvc-1", 10);
    replica.spec.volume_qos = limits("300");
    assert_eq!(settle(&node, &mut replica).await, Some(Stage::Ready));
    let told = condition(&replica, "LimitsNotKept");
    assert_eq!(told.status, hawser_api::ConditionStatus::True);
    assert!(told.message.contains("spec.volumeQoS.iops"), "{told:?}");
    replica.spec.volume_qos = None;
    settle(&node, &mut replica).await;
    assert_eq!(message(&replica), "");
}
