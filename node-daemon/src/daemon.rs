//! Wiring: what the daemon is made of and in which order it starts. No decisions here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hawser_api::LocalVolumeReplica;
use hawser_api::names::leases;
use hawser_runtime::events::Recorder;
use hawser_runtime::health::Health;
use hawser_runtime::index::Watches;
use hawser_runtime::lease::{Candidate, LeaseConfig, LeaseError};
use hawser_runtime::metrics::Metrics;
use hawser_runtime::shutdown::Shutdown;
use hawser_runtime::store::Store;
use hawser_runtime::{client, observability};
use kube::runtime::watcher;
use kube::{Api, Client};
use lvm2_cmd::dm::Dm;
use lvm2_cmd::{Options, Udev};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::args::{Args, UdevMode};
use crate::claim::keep::Claims;
use crate::csi::{self, SocketError};
use crate::disk::events::Events;
use crate::disk::scan::{Places, Scanner};
use crate::disk::upkeep::Upkeep;
use crate::keeper::{Changed, Gate, Keeper, Objects};
use crate::mount;
use crate::pool::prove::RealProof;
use crate::replica::effects::HostEffects;
use crate::replica::jobs::Listener;
use crate::replica::node::Effects;
use crate::replica::{self, Volumes};
use crate::signature::Looker;

/// What the parts of this daemon share. Cheap to clone.
#[derive(Clone)]
#[allow(dead_code, reason = "each part takes what it needs")]
pub struct Node {
    /// Name of the Kubernetes node.
    pub name: String,
    pub client: Client,
    pub lvm: lvm2_cmd::Lvm,
    pub dm: Dm,
    pub recorder: Recorder,
    /// To be poked after each change of volumes, so that the node's objects show it at once.
    pub changed: Changed,
    /// This node's replicas, as watched.
    pub replicas: Store<LocalVolumeReplica>,
    /// Whether this daemon holds the node's leases; nothing of the node is changed while it does not.
    pub gate: Gate,
    pub watches: Watches,
    pub health: Health,
    pub metrics: Metrics,
    pub shutdown: Shutdown,
}

/// Runs the daemon until it is told to stop.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals(args.common.drain_timeout)?;
    let (health, metrics) = (Health::new(&shutdown), Metrics::new("node_daemon"));
    observability::serve(args.common.http_listen, &health, &metrics, &shutdown).await?;

    let options = Options {
        udev: udev(args.udev, &args.proc),
        ..Options::default()
    };
    let lvm = lvm2_cmd::Lvm::new(options.clone());
    let version = lvm.version().await?;
    tracing::info!(lvm = %version.text, driver = %version.driver, udev = ?options.udev, "tools found");

    let client = client::connect(&args.common, "hawser-node-daemon").await?;
    let (gate, receiver) = watch::channel(false);
    let node = Node {
        name: args.node_name.clone(),
        recorder: Recorder::new(
            client.clone(),
            "hawser-node-daemon",
            args.node_name.clone(),
            &shutdown,
        ),
        client,
        lvm,
        dm: Dm::new(options),
        changed: Changed::default(),
        replicas: Store::new(),
        gate: receiver,
        watches: Watches::new(&shutdown, &health, &metrics),
        health,
        metrics,
        shutdown: shutdown.clone(),
    };
    start_leases(&args, &node, gate)?;
    let looker = Looker::default();
    start_keeper(&args, &node, &looker);
    start_volumes(&args, &node, looker)?;
    shutdown.finished().await?;
    Ok(())
}

/// Whether the host's udev will answer when devices are made.
fn udev(mode: UdevMode, proc: &Path) -> Udev {
    let host = proc.join("1/root");
    let rules = ["usr/lib", "lib", "etc", "run"].iter().any(|folder| {
        host.join(folder)
            .join("udev/rules.d/95-dm-notify.rules")
            .exists()
    });
    match (mode, rules) {
        (UdevMode::Synchronise, _) | (UdevMode::Auto, true) => Udev::Synchronise,
        (UdevMode::Bypass, _) | (UdevMode::Auto, false) => Udev::Bypass,
    }
}

/// Takes the node's two leases and keeps taking them.
///
/// They keep generations of daemons apart: nothing is changed before both are ours, nor once another holds one. A lease that
/// could merely not be renewed (the API server was away or slow) closes nothing, since nobody can have taken it either without
/// being told so by the API server that we hear from next.
fn start_leases(args: &Args, node: &Node, gate: watch::Sender<bool>) -> Result<(), LeaseError> {
    let identity = args
        .identity
        .clone()
        .unwrap_or_else(|| args.node_name.clone());
    let names = [
        leases::storage_worker(&args.node_name),
        leases::disk_worker(&args.node_name),
    ];
    let held = Arc::new(Held {
        leases: Mutex::new([false; 2]),
        gate,
    });
    for (index, name) in names.into_iter().enumerate() {
        let config = LeaseConfig::new(&args.namespace, &name, &identity, &args.lease)?;
        let ready = node.health.readiness(format!("lease {name}"));
        ready.not_ready("not held yet");
        let (client, shutdown, held) = (node.client.clone(), node.shutdown.clone(), held.clone());
        node.shutdown.spawn(format!("lease {name}"), async move {
            while !shutdown.is_stopping() {
                let waiting = |reason: &str| {
                    ready.not_ready(reason.to_owned());
                    if reason.starts_with(HELD_BY_ANOTHER) {
                        held.set(index, false);
                    }
                };
                let candidate = Candidate::new(client.clone(), config.clone());
                let lost = match candidate.acquire(&shutdown, waiting).await {
                    Ok(leader) => {
                        held.set(index, true);
                        ready.ready();
                        leader.lost().await
                    }
                    Err(error) => error,
                };
                ready.not_ready(lost.to_string());
            }
            held.set(index, false);
        });
    }
    Ok(())
}

/// How a candidate begins to say that there is another holder.
const HELD_BY_ANOTHER: &str = "held by ";

/// Which leases are ours; the gate is open while both are.
struct Held {
    leases: Mutex<[bool; 2]>,
    gate: watch::Sender<bool>,
}

impl Held {
    fn set(&self, index: usize, ours: bool) {
        let mut leases = self.leases.lock();
        leases[index] = ours;
        let open = leases.iter().all(|held| *held);
        self.gate
            .send_if_modified(|gate| std::mem::replace(gate, open) != open);
    }
}

fn start_keeper(args: &Args, node: &Node, looker: &Looker) {
    let objects = Objects {
        replicas: node.replicas.clone(),
        ..Objects::default()
    };
    let of_node = watcher::Config::default().fields(&format!("spec.nodeName={}", node.name));
    let named = watcher::Config::default().fields(&format!("metadata.name={}", node.name));
    let client = || node.client.clone();
    let watches = &node.watches;
    let formerly = watcher::Config::default().fields(&format!("spec.preNodeName={}", node.name));
    watches.watch_into(Api::all(client()), of_node.clone(), objects.disks.clone());
    watches.watch_into(Api::all(client()), formerly, objects.former.clone());
    watches.watch_into(Api::all(client()), of_node, objects.claims.clone());
    watches.watch_into(Api::all(client()), named.clone(), objects.storage.clone());
    watches.watch_into(Api::all(client()), named, objects.disk_nodes.clone());

    let places = Places {
        dev: args.dev.clone(),
        sys: args.sys.clone(),
        proc: args.proc.clone(),
        udev_data: args.udev_data.clone(),
    };
    let events = Events::open(&args.sys, &args.udev_data);
    let keeper = Keeper {
        node: node.name.clone(),
        client: client(),
        objects,
        scanner: Scanner::new(places, looker.clone()),
        upkeep: Upkeep::new(&node.name, Api::all(client())),
        claims: Claims {
            node: node.name.clone(),
            api: Api::all(client()),
            disks: Api::all(client()),
            storage: Api::all(client()),
            lvm: Arc::new(node.lvm.clone()),
            prove: Arc::new(RealProof {
                proc: args.proc.clone(),
                looker: looker.clone(),
            }),
            recorder: node.recorder.clone(),
        },
        changed: node.changed.clone(),
        gate: node.gate.clone(),
        rescan: args.rescan_interval.max(Duration::from_secs(1)),
        doubts: Vec::new(),
        grown: std::collections::BTreeSet::new(),
    };
    let (health, shutdown) = (node.health.clone(), node.shutdown.clone());
    node.shutdown.spawn("keeper", async move {
        if synced(&health, &shutdown).await {
            keeper.run(events, shutdown).await;
        }
    });
}

/// Serves CSI and keeps this node's volumes. CSI does not wait for the API server or the leases: pods come back after a power cut
/// while both are away.
fn start_volumes(args: &Args, node: &Node, looker: Looker) -> Result<(), SocketError> {
    let queue = Volumes::default();
    let effects = Arc::new(HostEffects::new(
        node.lvm.clone(),
        node.dm.clone(),
        &args.sys,
    ));
    let effects = Effects {
        lvs: effects.clone(),
        fronts: effects.clone(),
        wipe: effects,
    };
    let host = Arc::new(mount::host::Host::new(&args.proc, looker));
    let (volumes, changed) = (queue.clone(), node.changed.clone());
    let listener: Listener = Arc::new(move |volume: &str| {
        volumes.add(volume.to_owned());
        changed.poke();
    });
    let volumes = Arc::new(replica::node::Node::new(
        effects,
        host.clone(),
        host,
        listener,
    ));
    let settings = csi::Settings {
        node_name: node.name.clone(),
        csi_socket: args.csi_socket.clone(),
        registration_dir: args.registration_dir.clone(),
        kubelet_dir: args.kubelet_dir.clone(),
    };
    csi::serve(&settings, volumes.clone(), &node.health, &node.shutdown)?;
    let around = replica::Surroundings {
        node_name: node.name.clone(),
        client: node.client.clone(),
        store: node.replicas.clone(),
        queue,
        gate: node.gate.clone(),
        recorder: node.recorder.clone(),
    };
    replica::run(volumes, around, &node.watches, &node.shutdown);
    Ok(())
}

/// Waits until all watches have their first list: what is not known yet must not be taken for missing.
async fn synced(health: &Health, shutdown: &Shutdown) -> bool {
    loop {
        let waiting = health
            .not_ready()
            .iter()
            .any(|check| check.name.starts_with("watch "));
        if !waiting {
            return true;
        }
        let pause = tokio::time::sleep(Duration::from_millis(50));
        if shutdown.token().run_until_cancelled(pause).await.is_none() {
            return false;
        }
    }
}
