//! What pods get to see of a volume, and what is zeroed when: volumes of before, volumes that were never staged.

use super::*;

/// A volume that the generation before made, of so many extents now.
fn of_before(extents: u64) -> Desired {
    Desired {
        replica: "pvc-1-abc123".to_owned(),
        volume: "pvc-1".to_owned(),
        pool: POOL.to_owned(),
        bytes: extents * EXTENT,
        was_made: true,
        ..Desired::default()
    }
}

impl Driver {
    async fn settle(&self, desired: &Desired) {
        let settled = self.node.settle(desired, &BTreeSet::new()).await.unwrap();
        assert!(
            matches!(&settled, Settled::Rest { plan, .. } if plan.stage == Stage::Ready),
            "{settled:?}"
        );
    }
}

#[tokio::test]
async fn a_file_system_that_is_staged_while_its_growth_is_zeroed_loses_nothing() {
    let driver = a_driver().await;
    driver.fake.adopted("pvc-1", 10);
    driver.settle(&of_before(10)).await;
    driver.fake.zeroing_held.send_replace(true);
    driver.settle(&of_before(20)).await;
    assert!(driver.node.jobs.of("pvc-1").is_some());

    driver.stage("pvc-1", mounted("xfs", &[])).await.unwrap();
    driver
        .publish(driver.publication("pvc-1", "pods/1/mount", mounted("xfs", &[])))
        .await
        .unwrap();
    // Upkeep comes by, and kubelet asks for the new size.
    driver.settle(&of_before(20)).await;
    let early = driver.expand("pvc-1", "pods/1/mount", 20 * EXTENT).await;
    assert_eq!(early.unwrap_err().code(), Code::Unavailable);
    driver.fake.world.lock().fill("pvc-1");

    driver.fake.zeroing_held.send_replace(false);
    driver.node.jobs.finished("pvc-1").await.unwrap();
    driver.settle(&of_before(20)).await;
    driver
        .expand("pvc-1", "pods/1/mount", 20 * EXTENT)
        .await
        .unwrap();
    let world = driver.fake.world.lock();
    assert_eq!(world.check(), Vec::<String>::new());
    let lv = world.lv("pvc-1").unwrap();
    assert_eq!(lv.extents, vec![Extent::User; 20]);
}

#[tokio::test]
async fn a_block_volume_that_was_never_staged_shows_nothing_of_others() {
    let driver = a_driver().await;
    driver.volume("pvc-1", 30).await;
    for target in ["publish/1", "publish/2"] {
        let request = NodePublishVolumeRequest {
            staging_target_path: String::new(),
            ..driver.publication("pvc-1", target, block())
        };
        driver.publish(request).await.unwrap();
    }
    let world = driver.fake.world.lock();
    let lv = world.lv("pvc-1").unwrap();
    assert_eq!(lv.extents, vec![Extent::Zero; 30]);
    assert!(world.tags("pvc-1").raw);
    assert_eq!(world.check(), Vec::<String>::new());
}

#[tokio::test]
async fn a_volume_is_not_zeroed_under_a_pod_that_has_it() {
    let driver = a_driver().await;
    driver.volume("pvc-1", 30).await;
    driver.stage("pvc-1", block()).await.unwrap();
    driver
        .publish(driver.publication("pvc-1", "publish/1", block()))
        .await
        .unwrap();
    {
        // As if it had been given out without a mark.
        let mut world = driver.fake.world.lock();
        world.fill("pvc-1");
        let lv = world.lvs.values_mut().next().unwrap();
        lv.tags.retain(|tag| !tag.starts_with("hawser.io/raw"));
        lv.tags.push(format!("hawser.io/unzeroed={EXTENT}"));
    }
    refused(
        driver
            .publish(driver.publication("pvc-1", "publish/2", block()))
            .await,
        Code::FailedPrecondition,
        "publish/1",
    );
    let world = driver.fake.world.lock();
    assert_eq!(world.lv("pvc-1").unwrap().extents, vec![Extent::User; 30]);
    assert_eq!(world.violations, Vec::<String>::new());
}

#[tokio::test]
async fn a_block_volume_of_before_that_carries_drbd_is_not_given_out() {
    let driver = a_driver().await;
    driver.fake.adopted("pvc-1", 10);
    driver.settle(&of_before(10)).await;
    let drbd = Content::Other("drbd data".to_owned());
    let key = (POOL.to_owned(), "pvc-1".to_owned());
    driver.fake.world.lock().lvs.get_mut(&key).unwrap().content = drbd;
    refused(
        driver.stage("pvc-1", block()).await,
        Code::FailedPrecondition,
        "DRBD",
    );
    refused(
        driver.stage("pvc-1", mounted("xfs", &[])).await,
        Code::FailedPrecondition,
        "drbd data",
    );
    assert!(!driver.fake.world.lock().tags("pvc-1").raw);
}
