//! Who is killed when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use hawser_api::{LocalVolumeReplica, ReplicaState};
use kube::Api;
use kube::api::ListParams;

use super::Counts;
use crate::kit::Scope;
use crate::kit::faults::on;

const DAEMON: &str = "node-daemon";
const PROVISIONER: &str = "provisioner";
/// Milliseconds between two kills. A killed container is back after some three seconds: with shorter pauses hardly anything
/// runs, volumes wait rather than being interrupted, and the test takes three times as long.
const SHORTEST_PAUSE: u64 = 500;
const LONGEST_PAUSE: u64 = 7500;

pub(super) struct Killer {
    scope: Scope,
    nodes: Vec<String>,
    random: SplitMix,
    counts: Arc<Counts>,
    done: Arc<AtomicBool>,
}

/// One kill.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Victim {
    node: String,
    program: &'static str,
    /// Whether it was at work on a volume.
    aimed: bool,
}

impl Killer {
    pub(super) fn new(
        scope: &Scope,
        seed: u64,
        counts: Arc<Counts>,
        done: Arc<AtomicBool>,
    ) -> Result<Self> {
        Ok(Self {
            scope: scope.clone(),
            nodes: scope.lab.nodes()?,
            random: SplitMix(seed),
            counts,
            done,
        })
    }

    /// Kills until it is told that all volumes are through.
    pub(super) async fn run(mut self) -> Result<()> {
        while !self.done.load(Ordering::SeqCst) {
            let busy = self.busy().await.unwrap_or_default();
            let victim = choose(&mut self.random, &self.nodes, &busy);
            let (node, program) = (victim.node.clone(), victim.program);
            let hit = on(&self.scope.lab, move |lab| {
                let output = lab.sh(&node, &format!("pkill -9 -x {program}"))?;
                Ok(output.status == 0)
            })
            .await?;
            let counter = if hit {
                &self.counts.kills
            } else {
                &self.counts.missed
            };
            Counts::add(counter, 1);
            if hit && victim.aimed {
                Counts::add(&self.counts.aimed, 1);
            }
            let pause = self.random.next() % (LONGEST_PAUSE - SHORTEST_PAUSE) + SHORTEST_PAUSE;
            let pause = Duration::from_millis(pause);
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// Nodes with a volume that is being made, exposed or wiped, once for each.
    async fn busy(&self) -> Result<Vec<String>> {
        let replicas: Api<LocalVolumeReplica> = self.scope.cluster();
        let list = replicas.list(&ListParams::default()).await?;
        Ok(list
            .into_iter()
            .filter(is_busy)
            .map(|replica| replica.spec.node_name)
            .collect())
    }
}

/// Whether the node's daemon has something to do for the volume: what is made and not in use yet is being zeroed, formatted or mounted.
fn is_busy(replica: &LocalVolumeReplica) -> bool {
    let status = replica.status.clone().unwrap_or_default();
    status.state != ReplicaState::Ready || !status.in_use
}

/// Half of the kills are a provisioner's. Half of the others are aimed at a daemon that is at work, if one is.
fn choose(random: &mut SplitMix, nodes: &[String], busy: &[String]) -> Victim {
    let (kind, any, at_work) = (random.below(4), random.next(), random.next());
    let pick = |all: &[String], number: u64| {
        let index = usize::try_from(number % (all.len() as u64).max(1)).unwrap_or(0);
        all.get(index).cloned()
    };
    let anywhere = pick(nodes, any).unwrap_or_default();
    match (kind, pick(busy, at_work)) {
        (0 | 1, _) => Victim {
            node: anywhere,
            program: PROVISIONER,
            aimed: false,
        },
        (2, Some(node)) => Victim {
            node,
            program: DAEMON,
            aimed: true,
        },
        _ => Victim {
            node: anywhere,
            program: DAEMON,
            aimed: false,
        },
    }
}

/// A small random source (Steele, Lea and Flood's SplitMix64): the same seed gives the same choices.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn victims(seed: u64, busy: &[String]) -> Vec<Victim> {
        let nodes = ["n1", "n2", "n3"].map(str::to_owned);
        let mut random = SplitMix(seed);
        (0..200)
            .map(|_| choose(&mut random, &nodes, busy))
            .collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_choices_and_reaches_everybody() {
        assert_eq!(victims(1, &[]), victims(1, &[]));
        assert_ne!(victims(1, &[]), victims(2, &[]));
        for node in ["n1", "n2", "n3"] {
            for program in [DAEMON, PROVISIONER] {
                let wanted = |v: &Victim| v.node == node && v.program == program;
                assert!(victims(3, &[]).iter().any(wanted), "{node} {program}");
            }
        }
    }

    #[test]
    fn some_kills_hit_daemons_at_work_if_there_are_any() {
        assert!(victims(1, &[]).iter().all(|victim| !victim.aimed));
        let all = victims(1, &["n2".to_owned()]);
        let aimed: Vec<_> = all.iter().filter(|victim| victim.aimed).collect();
        assert!(aimed.len() > 20, "{}", aimed.len());
        assert!(aimed.iter().all(|v| v.node == "n2" && v.program == DAEMON));
    }

    #[test]
    fn work_on_a_volume_is_what_its_copy_says() {
        let replica = |status| -> LocalVolumeReplica {
            serde_json::from_value(json!({ "metadata": {}, "spec": {}, "status": status })).unwrap()
        };
        assert!(is_busy(&replica(json!({}))));
        assert!(is_busy(&replica(json!({ "state": "ToBeDeleted" }))));
        assert!(is_busy(&replica(json!({ "state": "Ready" }))));
        assert!(!is_busy(&replica(
            json!({ "state": "Ready", "inuse": true })
        )));
    }
}
