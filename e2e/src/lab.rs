//! A lab that is up: what scenarios and commands do with it.
//!
//! All methods block, except those that are `async`; they may be called from several threads and processes at once. The lab's network is a namespace of
//! its own: what talks to the API server or to a pod must run inside of it ([`Lab::block_on`], [`Net::inside`]).

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::agent::{self, Output, Piece};
use crate::cache::Cache;
use crate::command::command;
use crate::net::Net;
use crate::pki::Pki;
use crate::process::Process;
use crate::state::{self, State};

/// How long a command on a node may be silent before [`Lab::sh`] gives up.
const SILENCE: Duration = Duration::from_secs(120);
/// How long an image's import, which says nothing meanwhile, may take. Ten times what a large image takes on a quiet machine.
const IMPORT: Duration = Duration::from_secs(900);
/// How long threads that were left behind by a future that has ended may take.
const LEFTOVERS: Duration = Duration::from_secs(5);

/// Where the lab's things are, as flags and environment say.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Place {
    /// Name of the lab; labs of different names run side by side
    #[arg(long, global = true, env = "HAWSER_LAB_NAME", default_value = "lab", value_parser = name)]
    pub(crate) name: String,
    /// Folder for all that the lab builds, downloads and runs on
    #[arg(
        long,
        global = true,
        env = "HAWSER_LAB_DIR",
        default_value = "/var/cache/hawser-lab"
    )]
    pub(crate) dir: PathBuf,
    /// Debian suite of the nodes; its package user-mode-linux is their kernel
    #[arg(long, global = true, env = "HAWSER_LAB_SUITE", default_value = "forky")]
    pub(crate) suite: String,
    /// Debian mirror for the nodes' root folder [default: the one that apt uses on this machine]
    #[arg(long, global = true, env = "HAWSER_LAB_MIRROR")]
    pub(crate) mirror: Option<String>,
}

fn name(text: &str) -> Result<String, String> {
    crate::host::check_name(text).map_err(|error| error.to_string())
}

/// A lab, by name.
#[derive(Clone, Debug)]
pub(crate) struct Lab {
    pub(crate) name: String,
    pub(crate) cache: Cache,
    pub(crate) net: Net,
    dir: PathBuf,
}

impl Lab {
    /// The lab of this name, whether it is up or not.
    pub(crate) fn at(place: &Place) -> Result<Self> {
        let cache = Cache::open(&place.dir)?;
        Ok(Self {
            name: place.name.clone(),
            dir: cache.lab(&place.name),
            net: Net::of(&place.name),
            cache,
        })
    }

    /// The lab of this name.
    ///
    /// # Errors
    /// If it is not up, or was not brought up to the end.
    pub(crate) fn open(place: &Place) -> Result<Self> {
        crate::host::check_root()?;
        let lab = Self::at(place)?;
        match state::read(&lab.dir)? {
            Some(state) if state.complete && lab.net.exists() => Ok(lab),
            Some(_) => bail!(
                "lab {} was not brought up to its end, or lost its network: run `cargo lab up` again",
                lab.name
            ),
            None => bail!("lab {} is not up: run `cargo lab up` first", lab.name),
        }
    }

    /// The lab's own folder: disks, logs, keys, state.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folders with the logs of the control plane, and of the nodes (one folder for each boot).
    pub(crate) fn log_folders(&self) -> [PathBuf; 2] {
        [self.dir.join("logs"), self.dir.join("guest/logs")]
    }

    pub(crate) fn state(&self) -> Result<State> {
        state::read(&self.dir)?.with_context(|| format!("lab {} is not up", self.name))
    }

    /// Names of the nodes: `n1`, `n2` and so on.
    pub(crate) fn nodes(&self) -> Result<Vec<String>> {
        Ok(self
            .state()?
            .nodes
            .into_iter()
            .map(|node| node.name)
            .collect())
    }

    /// The administrator's kubeconfig. Its server is only reached from inside of the lab's network.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        Pki::of(&self.dir).kubeconfig()
    }

    /// kubectl with the administrator's rights; start it inside of the lab's network.
    pub(crate) fn kubectl(&self) -> Result<Command> {
        let mut kubectl = command(self.state()?.programs.join("kubectl"));
        kubectl.env("KUBECONFIG", self.kubeconfig());
        Ok(kubectl)
    }

    /// A client of the API server, for use within [`Lab::block_on`].
    pub(crate) async fn client(&self) -> Result<kube::Client> {
        let kubeconfig =
            Kubeconfig::read_from(self.kubeconfig()).context("reading the lab's kubeconfig")?;
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        kube::Client::try_from(config).context("making a client of the lab's API server")
    }

    /// Runs `future` to its end on a tokio runtime of several threads, all inside of the lab's network.
    pub(crate) fn block_on<T: Send>(
        &self,
        future: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.net.inside(|| {
            // Threads inherit the namespace of the one that starts them.
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            let result = runtime.block_on(future);
            // A thread that still waits for a node (a scenario that ran out of time) must not keep the lab from being taken down.
            runtime.shutdown_timeout(LEFTOVERS);
            result
        })
    }

    /// Runs a shell script on a node and gathers what it writes. A status other than 0 is not an error: see [`Output::checked`].
    ///
    /// # Errors
    /// If the node is unknown or can't be reached, or says nothing for two minutes.
    pub(crate) fn sh(&self, node: &str, script: &str) -> Result<Output> {
        let index = self.state()?.node(node)?.index;
        agent::gather(&self.net, index, script, SILENCE)
    }

    /// As [`Lab::sh`], for as long as it takes, calling `each` for each piece of output as it comes. Returns the exit status.
    pub(crate) fn sh_streamed(
        &self,
        node: &str,
        script: &str,
        each: impl FnMut(Piece<'_>),
    ) -> Result<i32> {
        let index = self.state()?.node(node)?.index;
        agent::run(&self.net, index, script, None, each)
    }

    /// As [`Lab::sh_streamed`], but the command must not be silent for longer than `patience`.
    pub(crate) fn sh_within(
        &self,
        node: &str,
        script: &str,
        patience: Duration,
        each: impl FnMut(Piece<'_>),
    ) -> Result<i32> {
        let index = self.state()?.node(node)?.index;
        agent::run(&self.net, index, script, Some(patience), each)
    }

    /// Names of the images that a node has.
    pub(crate) fn images(&self, node: &str) -> Result<Vec<String>> {
        let list = self
            .sh(node, "ctr -n k8s.io images ls -q")?
            .checked()
            .with_context(|| format!("listing the images of {node}"))?;
        Ok(list
            .lines()
            .filter(|name| !name.starts_with("sha256:"))
            .map(str::to_owned)
            .collect())
    }

    /// Imports an OCI archive on every node that runs.
    pub(crate) fn load(&self, archive: &Path) -> Result<()> {
        let folder = self.dir.join("guest/images");
        std::fs::create_dir_all(&folder)?;
        // Named anew each time: a guest may have an older file of the same name in memory.
        let copy = tempfile::Builder::new()
            .suffix(".tar")
            .tempfile_in(&folder)?
            .into_temp_path();
        std::fs::copy(archive, &copy)
            .with_context(|| format!("copying the image archive {}", archive.display()))?;
        let name = copy.file_name().context("a file without a name")?;
        let script = format!(
            "ctr -n k8s.io images import --local /lab/images/{}",
            name.to_string_lossy()
        );
        for node in self.state()?.nodes {
            if !node.process.as_ref().is_some_and(Process::is_alive) {
                continue;
            }
            agent::gather(&self.net, node.index, &script, IMPORT)?
                .checked()
                .with_context(|| format!("importing {} on {}", archive.display(), node.name))?;
        }
        Ok(())
    }
}
