//! Killed between any two writes, and under random sequences of calls: nothing lost, doubled or left behind, and never more
//! promised than there is.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proptest::prelude::*;

use crate::support::{
    Provisioner, World,
    api::{FakeApi, Fate},
    claim_request,
    nodes::GIB,
    request,
};

/// Lets so many writes through (events aside), then the server goes silent for them: the moment before the kill. Returns the
/// number of writes that were tried.
fn silence_after(api: &FakeApi, writes: usize, answer_lost: bool) -> Arc<AtomicUsize> {
    let tried = Arc::new(AtomicUsize::new(0));
    let count = tried.clone();
    api.judge(move |call| {
        if !call.is_write() || call.plural() == "events" {
            return Fate::Served;
        }
        let number = count.fetch_add(1, Ordering::SeqCst);
        match number {
            n if n < writes => Fate::Served,
            n if n == writes && answer_lost => Fate::AnswerLost(504),
            _ => Fate::Silence,
        }
    });
    tried
}

/// Runs `act` against a provisioner that is killed after `writes` writes. False if it needed no more than that.
async fn killed_during<F>(
    world: &World,
    writes: usize,
    answer_lost: bool,
    act: impl FnOnce(Provisioner) -> F,
) -> bool
where
    F: Future<Output = Provisioner>,
{
    let provisioner = world.start().await;
    let tried = silence_after(&world.api, writes, answer_lost);
    let is_cut = || tried.load(Ordering::SeqCst) > writes;
    let mut changes = world.api.changes();
    let cut = async {
        while !is_cut() {
            // A write that is not answered changes nothing, so it is looked for, too.
            let _ = tokio::time::timeout(Duration::from_millis(5), changes.changed()).await;
        }
        // The server carries out the last one, if it is to.
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // However slow the machine is: until it is cut short, or done, and what is done behind the call, too.
    let done = async {
        let provisioner = act(provisioner).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        drop(provisioner);
    };
    tokio::select! {
        () = cut => {}
        () = done => {}
    }
    world.api.serve_all();
    is_cut()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_pods_volumes_are_made() {
    for answer_lost in [false, true] {
        for writes in 0.. {
            let world = World::new(&[("n1", 10 * GIB), ("n2", 10 * GIB)]);
            let first = world.claim("data", 4 * GIB, Some("n1"));
            let second = world.claim("log", 5 * GIB, Some("n1"));
            world.pod("db-0", &["data", "log"]);
            let ask = || {
                (
                    claim_request(&first, "data", 4 * GIB, "n1"),
                    claim_request(&second, "log", 5 * GIB, "n1"),
                )
            };
            let (a, b) = ask();
            let cut = killed_during(&world, writes, answer_lost, |p| async move {
                let _ = p.create(a).await;
                let _ = p.create(b).await;
                p
            })
            .await;
            let provisioner = world.start().await;
            let (a, b) = ask();
            provisioner
                .create(a)
                .await
                .unwrap_or_else(|e| panic!("after {writes} writes: {e}"));
            provisioner
                .create(b)
                .await
                .unwrap_or_else(|e| panic!("after {writes} writes: {e}"));
            assert_eq!(world.nodes.volumes().len(), 2);
            assert_eq!(world.members().len(), 2);
            world.assert_consistent();
            if !cut {
                assert!(writes > 5, "creating takes more steps than {writes}");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_volume_is_deleted() {
    for writes in 0.. {
        let world = World::new(&[("n1", 10 * GIB)]);
        let provisioner = world.start().await;
        provisioner.create(request("pvc-1", 4 * GIB)).await.unwrap();
        world
            .until("the volume is Ready", |w| {
                w.volume("pvc-1").unwrap()["status"]["state"] == "Ready"
            })
            .await;
        drop(provisioner);
        let cut = killed_during(&world, writes, false, |p| async move {
            let _ = p.delete("pvc-1").await;
            p
        })
        .await;
        let provisioner = world.start().await;
        provisioner.delete("pvc-1").await.unwrap();
        world.until("all is gone", |w| w.dump().is_empty()).await;
        world.assert_empty();
        if !cut {
            assert!(writes > 5, "deleting takes more steps than {writes}");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_volume_grows() {
    for writes in 0.. {
        let world = World::new(&[("n1", 10 * GIB)]);
        let provisioner = world.start().await;
        provisioner.create(request("pvc-1", 4 * GIB)).await.unwrap();
        world
            .until("the volume is Ready", |w| {
                w.volume("pvc-1").unwrap()["status"]["state"] == "Ready"
            })
            .await;
        drop(provisioner);
        let cut = killed_during(&world, writes, false, |p| async move {
            let _ = p.expand("pvc-1", 8 * GIB).await;
            p
        })
        .await;
        let provisioner = world.start().await;
        assert_eq!(
            provisioner
                .expand("pvc-1", 8 * GIB)
                .await
                .unwrap()
                .capacity_bytes,
            8 * GIB
        );
        world
            .until("the operation is gone", |w| {
                w.api.list("localvolumeexpands").is_empty()
            })
            .await;
        world.assert_consistent();
        if !cut {
            assert!(writes > 3, "growing takes more steps than {writes}");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_and_failures_of_the_server_are_survived() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = world.start().await;
    let count = AtomicUsize::new(0);
    world
        .api
        .judge(move |call| match count.fetch_add(1, Ordering::SeqCst) % 5 {
            _ if !call.is_write() => Fate::Served,
            1 => Fate::Refused(500),
            2 => Fate::AnswerLost(504),
            3 => Fate::Refused(409),
            _ => Fate::Served,
        });
    let retried = async {
        while let Err(status) = provisioner.create(request("pvc-1", GIB)).await {
            assert_ne!(status.code(), tonic::Code::AlreadyExists, "{status}");
        }
        while provisioner.expand("pvc-1", 2 * GIB).await.is_err() {}
        while provisioner.delete("pvc-1").await.is_err() {}
    };
    tokio::time::timeout(Duration::from_secs(30), retried)
        .await
        .expect("each is done after some tries");
    world.until("all is gone", |w| w.dump().is_empty()).await;
    world.assert_empty();
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Act {
    Create {
        volume: usize,
        gib: i64,
    },
    Delete {
        volume: usize,
    },
    Publish {
        volume: usize,
    },
    Unpublish {
        volume: usize,
    },
    Expand {
        volume: usize,
        gib: i64,
    },
    /// Killed after so many more writes; the next acts find the server silent until the restart.
    Kill {
        writes: usize,
    },
    DropWatches,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let volume = 0..4_usize;
    let act = prop_oneof![
        4 => (volume.clone(), 1..6_i64).prop_map(|(volume, gib)| Act::Create { volume, gib }),
        2 => volume.clone().prop_map(|volume| Act::Delete { volume }),
        1 => volume.clone().prop_map(|volume| Act::Publish { volume }),
        1 => volume.clone().prop_map(|volume| Act::Unpublish { volume }),
        2 => (volume, 1..8_i64).prop_map(|(volume, gib)| Act::Expand { volume, gib }),
        3 => (0..6_usize).prop_map(|writes| Act::Kill { writes }),
        1 => Just(Act::DropWatches),
    ];
    proptest::collection::vec(act, 1..14)
}

fn name(volume: usize) -> String {
    format!("pvc-{volume}")
}

/// What must be there because a call said so: volumes and the least size of each.
type Promised = BTreeMap<String, i64>;

async fn perform(provisioner: &Provisioner, act: &Act, promised: &mut Promised) {
    match act {
        Act::Create { volume, gib } => {
            if let Ok(made) = provisioner.create(request(&name(*volume), gib * GIB)).await {
                promised.insert(made.volume_id, made.capacity_bytes);
            }
        }
        Act::Delete { volume } => {
            // Whether it was done or not can't be told from a failure: nothing is promised any more.
            promised.remove(&name(*volume));
            let _ = provisioner.delete(&name(*volume)).await;
        }
        Act::Publish { volume } => drop(provisioner.publish(&name(*volume), "n1").await),
        Act::Unpublish { volume } => drop(provisioner.unpublish(&name(*volume), "n1").await),
        Act::Expand { volume, gib } => {
            if let Ok(grown) = provisioner.expand(&name(*volume), gib * GIB).await {
                promised.insert(name(*volume), grown.capacity_bytes);
            }
        }
        Act::Kill { .. } | Act::DropWatches => {}
    }
}

async fn history(acts: Vec<Act>) {
    let world = World::new(&[("n1", 10 * GIB)]);
    let mut provisioner = world.start().await;
    let mut promised = Promised::new();
    let mut doomed = false;
    for act in &acts {
        match act {
            Act::Kill { writes } => {
                silence_after(&world.api, *writes, writes % 2 == 0);
                doomed = true;
                continue;
            }
            Act::DropWatches => world.api.drop_watches(),
            _ => {
                let done = tokio::time::timeout(
                    Duration::from_millis(if doomed { 250 } else { 25_000 }),
                    async {
                        perform(&provisioner, act, &mut promised).await;
                    },
                );
                let finished = done.await.is_ok();
                assert!(finished || doomed, "{act:?} never ends");
            }
        }
        if doomed {
            drop(provisioner);
            world.api.serve_all();
            provisioner = world.start().await;
            doomed = false;
        }
    }
    world.api.serve_all();
    for (volume, size) in &promised {
        let there = world.nodes.volumes();
        assert!(
            there.get(volume).is_some_and(|has| has >= size),
            "{volume} of {size} bytes is lost: {there:?}"
        );
    }
    world.assert_consistent();
    for volume in 0..4 {
        let _ = provisioner.unpublish(&name(volume), "n1").await;
        provisioner.delete(&name(volume)).await.unwrap();
    }
    world.api.list("localvolumeexpands").iter().for_each(|e| {
        world.api.delete(
            "localvolumeexpands",
            "",
            e["metadata"]["name"].as_str().unwrap(),
        );
    });
    // Also the reservation of a call that was killed before it made the volume: nobody comes for it.
    world
        .until("nothing is left", |w| w.dump().is_empty())
        .await;
    world.assert_empty();
    assert_eq!(world.nodes.overcommitted(), Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_its_promises(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(history(acts));
    }
}
