//! `up`: from nothing, or from whatever a killed run left, to a cluster whose nodes are Ready.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cache::{Lock, remove};
use crate::control_plane::{AFTER_API, AFTER_NODES, BEFORE_API, ControlPlane};
use crate::down::stop;
use crate::image::ImageArchive;
use crate::image::base::base_images;
use crate::image::hawser::{Inputs, hawser_images, sidecar_images};
use crate::lab::{Lab, Place};
use crate::node::{BASE, shelf_file};
use crate::pki::{self, Pki};
use crate::progress::Progress;
use crate::shelf::{self, DISK_BYTES, Kind};
use crate::state::{self, Node, State};
use crate::template::{self, Guests};
use crate::{guest, host, install, kubernetes, net, ready, root_fs};

/// How a lab is to be.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct Options {
    /// Number of nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=i64::from(net::MAX_NODES)))]
    pub(crate) nodes: u8,
    /// Number of blank data disks in each node, 10 GiB each
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=20))]
    pub(crate) disks: u8,
    /// What the data disks say they are
    #[arg(long, value_enum, default_value_t = Kind::Ssd)]
    pub(crate) disk_kind: Kind,
    /// Memory of each node, in MiB; only what a node uses is taken from this machine
    #[arg(long, default_value_t = 1536, value_parser = clap::value_parser!(u64).range(768..))]
    pub(crate) memory: u64,
    /// Do not install Hawser's manifests
    #[arg(long)]
    pub(crate) bare: bool,
}

impl Options {
    /// What can't be changed while the lab is up, in words.
    fn shape(&self) -> String {
        format!(
            "{} nodes of {} MiB with {} {} disks each",
            self.nodes, self.memory, self.disks, self.disk_kind
        )
    }
}

impl Default for Options {
    /// What `up` takes without flags; demonstration and scenarios run on this.
    fn default() -> Self {
        Self {
            nodes: 3,
            disks: 2,
            disk_kind: Kind::Ssd,
            memory: 1536,
            bare: false,
        }
    }
}

/// How long the API server, and each node, may take. Ten times what they need on a quiet machine: a busy one is no reason to give up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// Folders of things that were built.
struct Built {
    root: PathBuf,
    programs: PathBuf,
    scripts: PathBuf,
    disk: PathBuf,
    /// Hawser's own images; none if they are not asked for.
    hawser: Vec<ImageArchive>,
}

/// Brings a lab up. One that runs already in the asked shape is kept; one of another shape is refused.
///
/// # Errors
/// If the machine can't (a sentence says what it lacks), or a step fails; what was started then stays for a look, until the next `up` or `down`.
pub(crate) fn up(place: &Place, options: &Options, progress: &Progress) -> Result<Lab> {
    host::check_root()?;
    let lab = Lab::at(place)?;
    let _lock = lab
        .cache
        .try_lock(&format!("lab-{}", lab.name))?
        .with_context(|| {
            format!(
                "another `up` or `down` of lab {} is running: wait for it, or take another --name",
                lab.name
            )
        })?;
    let running = already_up(&lab, options)?;
    if !running {
        clean(&lab, progress)?;
    }
    let built = build(place, &lab, options, running, progress)?;
    if running {
        progress.say(format!("lab {} is up already", lab.name));
    } else {
        create(&lab, options, &built, progress)?;
        start(&lab, progress)?;
    }
    if !options.bare {
        install::install(&lab, &workspace()?, &built.hawser, progress)?;
    }
    Ok(lab)
}

/// Keeps other uses (tests, the demonstration, benchmarks) off the lab until the result is dropped: each takes down or changes what the other stands on.
///
/// # Errors
/// If there is one already.
pub(crate) fn reserve(place: &Place) -> Result<Lock> {
    host::check_root()?;
    let lab = Lab::at(place)?;
    lab.cache
        .try_lock(&format!("use-{}", lab.name))?
        .with_context(|| {
            format!(
                "tests, a demonstration or a benchmark run on lab {} already: wait for their end, or take another --name",
                lab.name
            )
        })
}

/// Whether the lab is up, whole and in any shape.
pub(crate) fn is_up(place: &Place) -> Result<bool> {
    let lab = Lab::at(place)?;
    let state = state::read(lab.dir()).unwrap_or_default();
    Ok(state.is_some_and(|state| is_whole(&lab, &state)))
}

fn is_whole(lab: &Lab, state: &State) -> bool {
    let services = &state.services;
    state.complete && lab.net.exists() && services.iter().all(super::process::Process::is_alive)
}

/// Whether the lab runs in the shape of `options`.
fn already_up(lab: &Lab, options: &Options) -> Result<bool> {
    // A state that can't be read was left by a lab of another version: it is cleaned up like that of a killed one.
    let Ok(Some(state)) = state::read(lab.dir()) else {
        return Ok(false);
    };
    if !is_whole(lab, &state) {
        return Ok(false);
    }
    let asked = options.shape();
    ensure!(
        state.shape == asked,
        "lab {} is up with {}, not with {asked}: take it down first (`cargo lab down`), or choose another --name",
        lab.name,
        state.shape
    );
    for node in &state.nodes {
        if !node
            .process
            .as_ref()
            .is_some_and(super::process::Process::is_alive)
        {
            bail!(
                "lab {} is up, but its node {} is off: `cargo lab boot {}`, or `cargo lab down` first",
                lab.name,
                node.name,
                node.name
            );
        }
    }
    Ok(true)
}

/// Ends what an earlier `up` of this lab started, and drops its folder.
fn clean(lab: &Lab, progress: &Progress) -> Result<()> {
    if lab.dir().exists() || lab.net.exists() {
        if state::read(lab.dir()).is_ok_and(|state| state.is_some()) || lab.net.exists() {
            progress.say("cleaning up what an earlier run left");
        }
        stop(lab)?;
    }
    remove(lab.dir())
}

/// Everything that is made once and kept. For a lab that runs already, only what can still change: Hawser's own images.
fn build(
    place: &Place,
    lab: &Lab,
    options: &Options,
    running: bool,
    progress: &Progress,
) -> Result<Built> {
    let cache = &lab.cache;
    let cold = !(kubernetes::exists(cache) && root_fs::exists(cache, &place.suite));
    if !running {
        host::check_room(cache.dir(), cold, options.nodes, options.memory)?;
        host::install_packages(progress)?;
        host::check_kernel(&lab.name)?;
    }
    // One waits for the network most of the time, the other for the processor.
    let (root, programs) = std::thread::scope(|scope| {
        let root =
            scope.spawn(|| root_fs::ensure(cache, &place.suite, place.mirror.as_deref(), progress));
        let programs = kubernetes::ensure(cache, progress);
        (root.join(), programs)
    });
    let root = root.map_err(|_| anyhow::anyhow!("making the root folder panicked"))??;
    let programs = programs?;
    let inputs = Inputs {
        workspace: workspace()?,
        root_fs: root.clone(),
        go_bin: programs.clone(),
        cache: cache.dir().join("images"),
    };
    let hawser = if options.bare {
        Vec::new()
    } else {
        progress.say("building Hawser's images");
        hawser_images(&inputs)?
    };
    let scripts = guest::scripts(cache)?;
    let guests = Guests {
        cache,
        root: &root,
        scripts: &scripts,
        programs: &programs,
    };
    let disk = if running {
        PathBuf::new()
    } else {
        system_disk(&guests, &inputs, &hawser, progress)?
    };
    Ok(Built {
        root,
        programs,
        scripts,
        disk,
        hawser,
    })
}

/// The disk that nodes begin with: with the images of others, and Hawser's own, which change more often, on top.
fn system_disk(
    guests: &Guests<'_>,
    inputs: &Inputs,
    hawser: &[ImageArchive],
    progress: &Progress,
) -> Result<PathBuf> {
    let mut others = base_images(&inputs.root_fs, &inputs.cache)?;
    others.extend(sidecar_images(inputs)?);
    let base = template::ensure(guests, "base-disk", None, &others, progress)?;
    if hawser.is_empty() {
        return Ok(base);
    }
    template::ensure(guests, "hawser-disk", Some(&base), hawser, progress)
}

/// The folder with the cluster's Go programs, built first if need be.
pub(crate) fn programs(place: &Place, progress: &Progress) -> Result<PathBuf> {
    host::check_root()?;
    kubernetes::ensure(&Lab::at(place)?.cache, progress)
}

/// The project's folder: the one that `cargo lab` was called in (cargo tells), else the one that this program was built from.
pub(crate) fn workspace() -> Result<PathBuf> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package
        .parent()
        .map(Path::to_owned)
        .context("e2e lies in the project's folder")
}

/// Makes the lab's folder: keys, disks, state.
fn create(lab: &Lab, options: &Options, built: &Built, progress: &Progress) -> Result<()> {
    progress.say(format!(
        "lab {}: {} nodes with {} data disks each, in {}",
        lab.name,
        options.nodes,
        options.disks,
        lab.dir().display()
    ));
    let guest = lab.dir().join("guest");
    for folder in ["logs", "guest/logs", "guest/disks", "guest/nodes"] {
        std::fs::create_dir_all(lab.dir().join(folder))?;
    }
    let mut nodes = Vec::new();
    let mut routes = Vec::new();
    for index in 1..=options.nodes {
        let name = format!("n{index}");
        let mut disks = Vec::new();
        for _ in 0..options.disks {
            disks.push(shelf::next_disk(
                &name,
                &disks,
                DISK_BYTES,
                options.disk_kind,
            )?);
        }
        routes.push(format!(
            "{} {}\n",
            net::pod_cidr(index),
            net::node_ip(index)
        ));
        nodes.push(Node {
            name,
            index,
            process: None,
            disks,
            boots: 0,
        });
    }
    let state = State {
        name: lab.name.clone(),
        complete: false,
        root: built.root.clone(),
        programs: built.programs.clone(),
        scripts: built.scripts.clone(),
        memory: options.memory,
        shape: options.shape(),
        nodes,
        services: Vec::new(),
        installed: false,
    };
    state::write(lab.dir(), &state)?;
    std::fs::write(guest.join("routes"), routes.concat())?;
    pki::create(&Pki::of(lab.dir()), &guest, options.nodes)?;
    let disks = guest.join("disks");
    // A link keeps the template when the cache drops it for a newer one.
    std::fs::hard_link(&built.disk, disks.join(BASE)).context("linking the system disk")?;
    for node in &state.nodes {
        shelf::create_shelf(&disks.join(shelf_file(node)))?;
    }
    lab.net.create(options.nodes)
}

/// Starts everything, and waits until the nodes are Ready.
fn start(lab: &Lab, progress: &Progress) -> Result<()> {
    let control_plane = ControlPlane {
        programs: lab.state()?.programs,
        lab: lab.dir().to_owned(),
        net: lab.net.clone(),
    };
    let service = |name: &str| -> Result<()> {
        let process = control_plane.start(name)?;
        state::update(lab.dir(), |state| {
            state.services.push(process);
            Ok(())
        })
    };
    progress.say("starting etcd and the API server");
    BEFORE_API.iter().try_for_each(|name| service(name))?;
    progress.say("booting the nodes");
    let nodes = lab.nodes()?;
    nodes.iter().try_for_each(|node| lab.start_node(node))?;
    lab.block_on(ready::api(lab, PATIENCE))
        .with_context(|| died(lab))?;
    progress.say("API server answers; starting controller manager, scheduler and DNS");
    AFTER_API.iter().try_for_each(|name| service(name))?;
    for node in &nodes {
        lab.wait_agent(node)?;
    }
    progress.say("nodes are booted; waiting for their kubelets");
    for node in &nodes {
        lab.wait_ready(node, PATIENCE)?;
    }
    AFTER_NODES.iter().try_for_each(|name| service(name))?;
    let state = lab.state()?;
    if let Some(dead) = state.services.iter().find(|service| !service.is_alive()) {
        bail!("{} ended: {}", dead.role, died(lab));
    }
    state::update(lab.dir(), |state| {
        state.complete = true;
        Ok(())
    })?;
    progress.say(format!("{} nodes are Ready", nodes.len()));
    Ok(())
}

fn died(lab: &Lab) -> String {
    {
        let [services, nodes] = lab.log_folders();
        format!(
            "see the logs in {} and {}",
            services.display(),
            nodes.display()
        )
    }
}
