//! Things that go wrong at the wrong moment: growth during zeroing, races for a name, steps that fail, disks that don't read.

use super::*;

/// A volume that is published as a block device, full of data.
async fn a_raw_volume(fake: &FakeNode, node: &Arc<Node>, extents: u64) -> LocalVolumeReplica {
    let mut replica = a_replica("pvc-1", extents);
    settle(node, &mut replica).await;
    let mut world = fake.world.lock();
    let lv = world.lvs.values_mut().next().unwrap();
    lv.extents.fill(Extent::User);
    lv.tags = Tags {
        raw: true,
        unzeroed: None,
        ..Tags::read(&lv.tags)
    }
    .write();
    replica
}

#[tokio::test]
async fn growing_again_while_the_first_growth_is_zeroed_shows_nothing_of_others() {
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut replica = a_raw_volume(&fake, &node, 10).await;
    fake.zeroing_held.send_replace(true);
    want(&mut replica, 20);
    settle(&node, &mut replica).await;
    assert_eq!(node.jobs.snapshot().len(), 1);
    want(&mut replica, 30);
    for _ in 0..3 {
        settle(&node, &mut replica).await;
    }
    assert_eq!(state(&replica), ReplicaState::Ready);
    let waits = condition(&replica, "Expand");
    assert_eq!(
        (waits.reason.as_str(), &waits.status),
        ("Zeroing", &hawser_api::ConditionStatus::Unknown)
    );
    fake.zeroing_held.send_replace(false);
    for _ in 0..4 {
        until_idle(&node).await;
        settle(&node, &mut replica).await;
        assert_eq!(fake.world.lock().check(), Vec::<String>::new());
    }
    assert_eq!(message(&replica), "");
    let world = fake.world.lock();
    assert_eq!(world.fronts["pvc-1"].bytes, 30 * EXTENT);
    assert_eq!(world.tags("pvc-1").unzeroed, None);
}

#[tokio::test]
async fn a_volume_grown_by_hand_while_it_is_zeroed_is_zeroed_to_its_end() {
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut replica = a_raw_volume(&fake, &node, 10).await;
    fake.zeroing_held.send_replace(true);
    want(&mut replica, 20);
    settle(&node, &mut replica).await;
    let key = (POOL.to_owned(), "pvc-1".to_owned());
    until_zeroing(&fake).await;
    {
        let mut world = fake.world.lock();
        let lv = world.lvs.get_mut(&key).unwrap();
        lv.extents.extend([Extent::Old; 5]);
    }
    fake.zeroing_held.send_replace(false);
    until_idle(&node).await;
    settle(&node, &mut replica).await;
    let world = fake.world.lock();
    assert_eq!(world.check(), Vec::<String>::new());
    assert_eq!(world.fronts["pvc-1"].bytes, 25 * EXTENT);
}

#[tokio::test]
async fn a_growth_is_not_zeroed_under_a_snapshot() {
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut replica = a_raw_volume(&fake, &node, 10).await;
    // Fails at first, so that somebody has time for it.
    fake.world.lock().broken_zeroing = true;
    want(&mut replica, 20);
    settle(&node, &mut replica).await;
    until_idle(&node).await;
    fake.snapshot("pvc-1", "late");
    fake.world.lock().broken_zeroing = false;
    let node = fake.start();
    settle(&node, &mut replica).await;
    until_idle(&node).await;
    assert_eq!(state(&replica), ReplicaState::Ready);
    assert_eq!(condition(&replica, "Expand").reason, "HasSnapshots");
    assert_eq!(fake.world.lock().check(), Vec::<String>::new());
    fake.world
        .lock()
        .lvs
        .remove(&(POOL.to_owned(), "late".to_owned()));
    for _ in 0..2 {
        settle(&node, &mut replica).await;
        until_idle(&node).await;
    }
    assert_eq!(message(&replica), "");
    let world = fake.world.lock();
    assert_eq!(world.fronts["pvc-1"].bytes, 20 * EXTENT);
    assert_eq!(world.check(), Vec::<String>::new());
}

#[tokio::test]
async fn a_growth_that_fails_leaves_a_mounted_volume_ready() {
    // Which change fails: the logical volume's growth, then the two halves of the front device's.
    for (change, ready) in [
        (0, ReplicaState::Ready),
        (1, ReplicaState::Ready),
        // Held I/O is another matter.
        (2, ReplicaState::NotReady),
    ] {
        let fake = FakeNode::new(100);
        let node = fake.start();
        let mut replica = a_replica("pvc-1", 10);
        settle(&node, &mut replica).await;
        let minor = fake.world.lock().fronts["pvc-1"].number.1;
        {
            let mut world = fake.world.lock();
            let lv = world.lvs.values_mut().next().unwrap();
            lv.tags = Tags {
                fs: Some(FsType::Ext4),
                unzeroed: None,
                ..Tags::read(&lv.tags)
            }
            .write();
        }
        mount(&fake, minor, "/pods/1/mount");
        want(&mut replica, 20);
        fake.world.lock().fault = Some((change, When::Before));
        assert_eq!(settle(&node, &mut replica).await, None, "{change}");
        assert!(message(&replica).contains("injected fault"));
        if change == 2 {
            settle_status_only(&node, &mut replica).await;
        }
        assert_eq!(state(&replica), ready, "{change}: {}", message(&replica));
        if ready == ReplicaState::Ready {
            assert_eq!(
                condition(&replica, "Expand").status,
                hawser_api::ConditionStatus::False
            );
        }
        assert_eq!(settle(&node, &mut replica).await, Some(Stage::Ready));
        assert_eq!(message(&replica), "");
    }
}

/// As the object would say if nothing more could be done.
async fn settle_status_only(node: &Arc<Node>, replica: &mut LocalVolumeReplica) {
    let desired = status::desired(replica).unwrap();
    let actual = node.look(&BTreeSet::new()).await.unwrap();
    let plan = crate::replica::plan::replica(&desired, &actual);
    let now = Time(Timestamp::UNIX_EPOCH);
    replica.status = Some(status::status(
        replica,
        &desired,
        &plan,
        &actual,
        Some("injected fault"),
        &now,
    ));
}

#[tokio::test]
async fn who_was_faster_to_make_the_name_keeps_its_data() {
    let fake = FakeNode::new(100);
    fake.world.lock().race = true;
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    settle(&node, &mut replica).await;
    assert_eq!(state(&replica), ReplicaState::NotReady);
    assert!(
        message(&replica).contains("that Hawser did not make"),
        "{}",
        message(&replica)
    );
    assert_eq!(condition(&replica, "Create").reason, "NameTaken");
    let world = fake.world.lock();
    assert_eq!(world.check(), Vec::<String>::new());
    assert_eq!(world.lv("pvc-1").unwrap().extents, [Extent::User; 3]);
}

#[tokio::test]
async fn a_failure_that_stays_is_told_for_each_generation_of_the_wish() {
    let fake = FakeNode::new(5);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 6);
    replica.metadata.generation = Some(1);
    settle(&node, &mut replica).await;
    let first = condition(&replica, "Create");
    assert_eq!(
        (first.observed_generation, first.reason.as_str()),
        (Some(1), "NoSpace")
    );
    replica.metadata.generation = Some(2);
    settle(&node, &mut replica).await;
    let second = condition(&replica, "Create");
    assert_eq!(second.message, first.message);
    assert_eq!(second.observed_generation, Some(2));
    assert_eq!(second.last_transition_time, first.last_transition_time);
}

#[tokio::test]
async fn a_volume_made_anew_by_hand_during_its_wiping_is_not_removed() {
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    settle(&node, &mut replica).await;
    replica.spec.delete = true;
    fake.discard_held.send_replace(true);
    settle(&node, &mut replica).await;
    until_zeroed(&fake, "pvc-1").await;
    fake.foreign("pvc-1", 4);
    fake.discard_held.send_replace(false);
    until_idle(&node).await;
    let world = fake.world.lock();
    assert_eq!(world.check(), Vec::<String>::new());
    assert_eq!(world.lv("pvc-1").unwrap().extents, [Extent::User; 4]);
}

#[tokio::test(start_paused = true)]
async fn wiping_stops_when_its_volume_was_removed_by_hand() {
    let fake = FakeNode::new(3000);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 2000);
    settle(&node, &mut replica).await;
    replica.spec.delete = true;
    fake.zeroing_held.send_replace(true);
    settle(&node, &mut replica).await;
    until_zeroing(&fake).await;
    // The first piece takes long enough for progress to be noted after it.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let uuid = {
        let mut world = fake.world.lock();
        let lv = world.lvs.values_mut().next().unwrap();
        std::mem::replace(&mut lv.uuid, "another".to_owned())
    };
    fake.zeroing_held.send_replace(false);
    until_idle(&node).await;
    let world = fake.world.lock();
    let zeroes = world.log.iter().filter(|what| what.starts_with("zero"));
    assert_eq!(zeroes.count(), 3, "two of the beginning, one piece: {uuid}");
    assert!(world.lv("pvc-1").is_some());
}

#[tokio::test]
async fn a_new_volume_waits_for_the_job_on_the_former_one_of_its_name() {
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut first = a_replica("pvc-1", 10);
    settle(&node, &mut first).await;
    first.spec.delete = true;
    fake.zeroing_held.send_replace(true);
    settle(&node, &mut first).await;
    until_zeroing(&fake).await;
    // Removed by hand meanwhile.
    fake.world.lock().lvs.clear();
    let mut second = a_replica("pvc-1", 5);
    settle(&node, &mut second).await;
    assert!(
        message(&second).contains("is being wiped"),
        "{}",
        message(&second)
    );
    assert!(fake.world.lock().lvs.is_empty());
}

#[tokio::test]
async fn a_disk_that_does_not_read_makes_its_volume_unready() {
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    settle(&node, &mut replica).await;
    assert!(node.read_all().await.unwrap());
    fake.world.lock().unreadable.insert("pvc-1".to_owned());
    assert!(!node.read_all().await.unwrap());
    settle(&node, &mut replica).await;
    assert_eq!(state(&replica), ReplicaState::NotReady);
    let ready = condition(&replica, "Ready");
    assert_eq!(
        (&ready.status, ready.reason.as_str()),
        (&hawser_api::ConditionStatus::False, "DiskFailed")
    );
    assert!(ready.message.contains("Input/output error"), "{ready:?}");
    fake.world.lock().unreadable.clear();
    node.read_all().await.unwrap();
    assert_eq!(settle(&node, &mut replica).await, Some(Stage::Ready));
    assert_eq!(message(&replica), "");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_holds_one_reader_for_each_volume() {
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    settle(&node, &mut replica).await;
    fake.reading_held.send_replace(true);
    for _ in 0..5 {
        node.read_all().await.unwrap();
    }
    assert_eq!(fake.reading_held.receiver_count(), 1);
    // It may only be busy.
    assert_eq!(settle(&node, &mut replica).await, Some(Stage::Ready));
}
