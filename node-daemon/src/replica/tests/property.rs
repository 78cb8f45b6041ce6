//! Any interleaving of wishes, faults, kills and users' doings: converges, and nothing of anybody is lost or shown.

use proptest::prelude::*;

use super::*;
use crate::replica::jobs::{Kind, Subject};

#[derive(Debug, Clone)]
enum Op {
    /// Ask for volume `.0` with so many extents more.
    Want(usize, u64),
    Delete(usize),
    /// A pod uses it: as a block device, or with a file system.
    Use(usize, bool),
    /// The pod fills what it can reach.
    Fill(usize),
    Unmount(usize),
    /// Reconcile, with a fault at the change after so many, and perhaps a kill after it.
    Settle(usize, Option<(usize, bool)>, bool),
    Jobs,
    Restart,
}

fn an_op() -> impl Strategy<Value = Op> {
    let volume = 0..3_usize;
    prop_oneof![
        2 => (volume.clone(), 1..6_u64).prop_map(|(v, n)| Op::Want(v, n)),
        1 => volume.clone().prop_map(Op::Delete),
        2 => (volume.clone(), any::<bool>()).prop_map(|(v, block)| Op::Use(v, block)),
        2 => volume.clone().prop_map(Op::Fill),
        1 => volume.clone().prop_map(Op::Unmount),
        6 => (volume, proptest::option::of((0..6_usize, any::<bool>())), any::<bool>())
            .prop_map(|(v, fault, kill)| Op::Settle(v, fault, kill)),
        1 => Just(Op::Jobs),
        1 => Just(Op::Restart),
    ]
}

/// What a volume was when the daemon first came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    New,
    /// Made by the generation before, and closed.
    Closed,
    /// The same, with a pod that has it mounted directly.
    Mounted,
}

/// What csi does before it gives a volume to a pod; true if it would give it.
async fn expose(node: &Arc<Node>, name: &str, block: bool) -> bool {
    let Some(_guard) = node.locks.for_call(name).await else {
        return false;
    };
    let Ok(mut usable) = node.usable(name).await else {
        return false;
    };
    let tags = usable.tags.clone();
    if !block {
        let fs = Some(FsType::Ext4);
        if tags.raw || node.jobs.of(name).is_some() {
            return tags.fs.is_some();
        }
        let tags = Tags {
            fs,
            unzeroed: None,
            ..tags
        };
        return node.retag(&mut usable, name, tags).await.is_ok();
    }
    if tags.raw || tags.fs.is_some() {
        return tags.raw;
    }
    if tags.unzeroed.is_none() {
        let tags = Tags { raw: true, ..tags };
        return node.retag(&mut usable, name, tags).await.is_ok();
    }
    let subject = Subject {
        vg: usable.vg.clone(),
        lv: name.to_owned(),
        uuid: usable.uuid.clone(),
    };
    node.jobs.start(Kind::Clean, subject);
    false
}

async fn use_volume(fake: &FakeNode, node: &Arc<Node>, v: usize, block: bool) {
    let name = format!("pvc-{v}");
    if v == 2 || !expose(node, &name, block).await {
        return;
    }
    let Ok(usable) = node.usable(&name).await else {
        return;
    };
    let minor = usable.device.number.1;
    mount(fake, minor, &format!("/pods/{v}"));
    if block && let Some(mount) = fake.world.lock().mounts.last_mut() {
        mount.fs_type = "devtmpfs".to_owned();
        mount.root = format!("/dm-{minor}").into();
    }
}

fn begin(fake: &FakeNode, start: Start) -> Option<LocalVolumeReplica> {
    if start == Start::New {
        return None;
    }
    fake.adopted("pvc-1", 4);
    if start == Start::Mounted {
        let minor = fake.world.lock().lv("pvc-1").unwrap().minor;
        mount(fake, minor, "/pods/1");
    }
    let mut replica = a_replica("pvc-1", 4);
    replica.status = Some(hawser_api::LocalVolumeReplicaStatus {
        allocated_capacity_bytes: bytes(4),
        ..Default::default()
    });
    Some(replica)
}

/// Runs the operations, then lets everything come to rest without faults.
async fn run(start: Start, ops: Vec<Op>) {
    let fake = FakeNode::new(60);
    fake.foreign("others", 3);
    fake.foreign("pvc-2", 2);
    let before: Vec<_> = foreign(&fake);
    let mut node = fake.start();
    let mut replicas: [Option<LocalVolumeReplica>; 3] = [None, begin(&fake, start), None];
    for op in ops {
        match op {
            Op::Want(v, more) => match &mut replicas[v] {
                None => replicas[v] = Some(a_replica(&format!("pvc-{v}"), more)),
                Some(replica) if !replica.spec.delete => {
                    replica.spec.required_capacity_bytes += i64::try_from(more * EXTENT).unwrap();
                }
                Some(_) => {}
            },
            Op::Delete(v) => replicas[v]
                .iter_mut()
                .for_each(|replica| replica.spec.delete = true),
            Op::Use(v, block) => use_volume(&fake, &node, v, block).await,
            Op::Fill(v) => fake.world.lock().fill(&format!("pvc-{v}")),
            Op::Unmount(v) => {
                let target = format!("/pods/{v}");
                fake.world
                    .lock()
                    .mounts
                    .retain(|mount| mount.target != std::path::Path::new(&target));
            }
            Op::Settle(v, fault, kill) => {
                let when = |after| if after { When::After } else { When::Before };
                fake.world.lock().fault = fault.map(|(n, after)| (n, when(after)));
                if let Some(replica) = &mut replicas[v] {
                    let before = replica.status.clone();
                    let stage = settle(&node, replica).await;
                    if kill {
                        // Killed before the status was written.
                        replica.status = before;
                        node = fake.start();
                    } else if stage == Some(Stage::Gone) {
                        replicas[v] = None;
                    }
                }
                fake.world.lock().fault = None;
            }
            Op::Jobs => until_idle(&node).await,
            Op::Restart => node = fake.start(),
        }
        assert_eq!(fake.world.lock().check(), Vec::<String>::new());
    }
    rest(&fake, &node, &mut replicas).await;
    assert_eq!(foreign(&fake), before, "volumes of others are as they were");
}

async fn rest(fake: &FakeNode, node: &Arc<Node>, replicas: &mut [Option<LocalVolumeReplica>; 3]) {
    fake.world.lock().mounts.clear();
    for _ in 0..6 {
        for slot in replicas.iter_mut() {
            if let Some(replica) = slot
                && settle(node, replica).await == Some(Stage::Gone)
            {
                *slot = None;
            }
        }
        until_idle(node).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let changes = fake.world.lock().log.len();
    for replica in replicas.iter_mut().flatten() {
        let before = replica.status.clone();
        settle(node, replica).await;
        assert_eq!(replica.status, before);
    }
    let table = node.mounts.table().await.unwrap();
    assert!(table.0.is_empty());
    let world = fake.world.lock();
    assert_eq!(world.log.len(), changes, "a second run has no steps");
    assert_eq!(world.check(), Vec::<String>::new());
    for (v, replica) in replicas.iter().enumerate() {
        let name = format!("pvc-{v}");
        match replica {
            None => assert!(
                name == "pvc-2" || world.lv(&name).is_none(),
                "{name} is left over"
            ),
            // Its name is taken by somebody else.
            Some(replica) if v == 2 => assert_eq!(state(replica), ReplicaState::NotReady),
            Some(replica) => {
                assert!(
                    !replica.spec.delete,
                    "{name} should be gone: {}",
                    message(replica)
                );
                let made = world.lv(&name).is_some();
                assert_eq!(made, world.fronts.contains_key(&name));
                // Without room it may not have been made.
                assert_eq!(
                    state(replica) == ReplicaState::Ready,
                    made,
                    "{name}: {}",
                    message(replica)
                );
            }
        }
    }
}

fn foreign(fake: &FakeNode) -> Vec<crate::replica::fake::FakeLv> {
    let world = fake.world.lock();
    world
        .lvs
        .values()
        .filter(|lv| lv.uuid.starts_with("foreign"))
        .cloned()
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_of_faults_and_kills_converges_and_touches_nothing_of_others(
        start in prop_oneof![Just(Start::New), Just(Start::Closed), Just(Start::Mounted)],
        ops in proptest::collection::vec(an_op(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(start, ops));
    }
}
