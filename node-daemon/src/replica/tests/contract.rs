//! What the provisioner reads of what is told here, and what is read here of what it asks: both programs are held to the same files.

use std::collections::BTreeMap;

use super::*;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../libs/api/tests/contract");

fn told(replica: &LocalVolumeReplica) -> LocalVolumeReplica {
    let mut replica = replica.clone();
    // Of no matter here.
    replica.metadata.annotations = None;
    replica
}

/// A volume of the first generation of its wish, settled once.
async fn settled(
    fake: &FakeNode,
    change: impl FnOnce(&mut LocalVolumeReplica),
) -> LocalVolumeReplica {
    let mut replica = a_replica("pvc-1", 10);
    replica.metadata.generation = Some(1);
    change(&mut replica);
    settle(&fake.start(), &mut replica).await;
    replica
}

async fn a_growth_beyond_the_pool() -> LocalVolumeReplica {
    let fake = FakeNode::new(10);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    settle(&node, &mut replica).await;
    want(&mut replica, 20);
    replica.metadata.generation = Some(2);
    settle(&node, &mut replica).await;
    replica
}

async fn a_growth_that_waits_for_zeroes() -> LocalVolumeReplica {
    let fake = FakeNode::new(100);
    let node = fake.start();
    let mut replica = a_replica("pvc-1", 10);
    replica.metadata.generation = Some(2);
    settle(&node, &mut replica).await;
    {
        let mut world = fake.world.lock();
        let lv = world.lvs.values_mut().next().unwrap();
        let tags = Tags {
            raw: true,
            unzeroed: None,
            ..Tags::read(&lv.tags)
        };
        lv.tags = tags.write();
    }
    fake.zeroing_held.send_replace(true);
    want(&mut replica, 20);
    settle(&node, &mut replica).await;
    want(&mut replica, 30);
    settle(&node, &mut replica).await;
    replica
}

#[tokio::test]
async fn what_is_told_is_what_the_provisioner_reads() {
    let pool = |extents: u64| FakeNode::new(extents);
    let taken = pool(100);
    taken.foreign("pvc-1", 3);
    let broken = pool(100);
    broken.world.lock().fault = Some((0, When::Before));
    let all = BTreeMap::from([
        ("ready", settled(&pool(100), |_| {}).await),
        ("a full pool", settled(&pool(5), |_| {}).await),
        (
            "no such pool",
            settled(&pool(100), |r| {
                r.spec.pool_name = "LocalStorage_PoolSSD".to_owned();
            })
            .await,
        ),
        (
            "what is not served",
            settled(&pool(100), |r| r.spec.thin = true).await,
        ),
        ("a name that is taken", settled(&taken, |_| {}).await),
        ("a step that failed", settled(&broken, |_| {}).await),
        ("a growth beyond the pool", a_growth_beyond_the_pool().await),
        (
            "a growth that waits for zeroes",
            a_growth_that_waits_for_zeroes().await,
        ),
    ]);
    let all: BTreeMap<_, _> = all.iter().map(|(name, r)| (*name, told(r))).collect();
    let now = serde_json::to_value(&all).unwrap();
    let file = std::path::Path::new(FOLDER).join("replicas.json");
    let then: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert!(
        now == then,
        "{} must say, if the provisioner understands it:\n{}",
        file.display(),
        serde_json::to_string_pretty(&now).unwrap()
    );
}

#[test]
fn an_object_made_anew_is_understood() {
    let file = std::path::Path::new(FOLDER).join("existing.json");
    let object = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let desired = status::desired(&object).unwrap();
    assert!(desired.was_made && !desired.delete);
    assert_eq!(desired.claim.as_deref(), Some("shop/data"));
    assert_eq!((desired.unsupported, desired.drbd), (None, None));
}
