//! The command line: what `cargo lab` can do, and its dispatch.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

use crate::agent::Piece;
use crate::faults::Peer;
use crate::lab::{Lab, Place};
use crate::progress::Progress;
use crate::scenario::{self, Arguments};
use crate::shelf::{Kind, parse_size};
use crate::up::{self, Options};
use crate::{bench, demo, down, sim, synth};

/// A real Kubernetes cluster on this machine: User Mode Linux nodes with LVM and device-mapper, and Hawser on them
#[derive(Debug, Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab", version)]
pub(crate) struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring the lab up: boot the nodes, install Hawser, wait until all is ready
    Up(Options),
    /// Stop everything that the lab started, and nothing else
    Down {
        /// Also delete what is kept: the lab's disks and logs, and the cache unless another lab uses it
        #[arg(long)]
        purge: bool,
    },
    /// Bring the lab up, then show the main job, told step by step
    Demo,
    /// Run everything that CI runs: the checks of the sources, then the scenarios on the lab
    Test(Arguments),
    /// Bring the lab up, measure Hawser beside what it stands on, and print a table
    Bench {
        /// Only these
        parts: Vec<bench::Part>,
    },
    /// Write a made-up cluster of any size to a file, for `scheduler-extender --cluster-from`; needs no lab
    Synth(synth::Options),
    /// A cluster of simulated nodes: what takes hundreds of them
    #[command(subcommand)]
    Sim(sim::Command),
    #[command(flatten)]
    Running(Running),
}

/// What is done to a lab that is up.
#[derive(Debug, Subcommand)]
enum Running {
    /// Run kubectl against the lab
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Print shell settings with which kubectl talks to the lab: eval "$(cargo lab env)"
    Env,
    /// Run a command on a node, with its exit status
    Sh {
        node: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Cut a node's power: memory is lost, disks stay
    PowerCut { node: String },
    /// Switch a node on, and wait until it is Ready
    Boot {
        node: String,
        /// Let the kernel find the data disks in the other order, so that their names change
        #[arg(long)]
        reverse_disks: bool,
    },
    /// Let a node hang
    Freeze { node: String },
    /// Let a hanging node go on
    Thaw { node: String },
    /// Cut a node off from the network
    Isolate {
        node: String,
        /// Only from this node, or from the API server ("api")
        #[arg(long, value_name = "NODE|api")]
        from: Option<String>,
    },
    /// Undo everything that `isolate` did to a node
    Heal { node: String },
    /// Plug a blank disk into a node
    AddDisk {
        node: String,
        /// Such as 10Gi
        size: String,
        /// What it says it is
        #[arg(long, value_enum, default_value_t = Kind::Ssd)]
        kind: Kind,
    },
    /// Make all reads and writes of a disk fail
    FailDisk {
        node: String,
        /// Its name in the lab (d1) or its device on the node (sda)
        disk: String,
    },
    /// Undo `fail-disk`
    FixDisk { node: String, disk: String },
    /// Pull a disk out of a node
    PullDisk { node: String, disk: String },
    /// Plug a pulled disk in again
    ReturnDisk { node: String, disk: String },
    /// List the images that the nodes have
    Images,
    /// Import an image on all nodes
    Load {
        /// An OCI archive
        archive: PathBuf,
    },
}

/// Runs what was asked for.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    let progress = Progress::new();
    let place = cli.place;
    match cli.command {
        Command::Up(options) => {
            let lab = up::up(&place, &options, &progress)?;
            progress.say(format!(
                "lab {} is up after {:.0} s. Try: cargo lab kubectl get nodes",
                lab.name,
                progress.elapsed().as_secs_f64()
            ));
        }
        Command::Down { purge } => down::down(&place, purge, &progress)?,
        Command::Demo => {
            let _reserved = up::reserve(&place)?;
            let lab = up::up(&place, &Options::default(), &progress)?;
            lab.block_on(demo::run(&lab))?;
            progress.say(format!(
                "all of it took {:.0} s; lab {} stays up to be looked at (`cargo lab kubectl get pods -A`), until `cargo lab down`",
                progress.elapsed().as_secs_f64(),
                lab.name
            ));
        }
        Command::Test(arguments) => scenario::test(&place, &arguments, &progress)?,
        Command::Bench { parts } => {
            let _reserved = up::reserve(&place)?;
            let lab = up::up(&place, &Options::default(), &progress)?;
            lab.block_on(bench::run(&lab, &parts))?;
        }
        Command::Synth(options) => {
            let written = synth::run(&options)?;
            progress.say(format!(
                "{} objects, {} MiB",
                written.objects,
                written.bytes >> 20
            ));
        }
        Command::Sim(command) => sim::run(&place, &command, &progress)?,
        Command::Running(command) => {
            return on_running(&Lab::open(&place)?, command, &progress);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn on_running(lab: &Lab, command: Running, progress: &Progress) -> Result<ExitCode> {
    match command {
        Running::Kubectl { args } => {
            lab.net.enter()?;
            let error = lab
                .kubectl()?
                .stdin(std::process::Stdio::inherit())
                .args(args)
                .exec();
            return Err(error).context("starting kubectl");
        }
        Running::Env => show(environment(lab)?.as_bytes()),
        Running::Sh { node, command } => return shell(lab, &node, &command.join(" ")),
        Running::PowerCut { node } => lab.power_cut(&node)?,
        Running::Boot {
            node,
            reverse_disks,
        } => {
            if reverse_disks {
                lab.boot_with_disks_reversed(&node)?;
            } else {
                lab.boot(&node)?;
            }
            lab.wait_ready(&node, up::PATIENCE)?;
            progress.say(format!("node {node} is Ready"));
        }
        Running::Freeze { node } => lab.freeze(&node)?,
        Running::Thaw { node } => lab.thaw(&node)?,
        Running::Isolate { node, from } => lab.isolate(
            &node,
            &match from.as_deref() {
                None => Peer::All,
                Some("api") => Peer::Api,
                Some(other) => Peer::Node(other.to_owned()),
            },
        )?,
        Running::Heal { node } => lab.heal(&node)?,
        Running::AddDisk { node, size, kind } => {
            let disk = lab.add_disk(&node, parse_size(&size)?, kind)?;
            show(format!("{}\n", disk.name).as_bytes());
        }
        Running::FailDisk { node, disk } => lab.fail_disk(&node, &disk)?,
        Running::FixDisk { node, disk } => lab.fix_disk(&node, &disk)?,
        Running::PullDisk { node, disk } => lab.pull_disk(&node, &disk)?,
        Running::ReturnDisk { node, disk } => lab.return_disk(&node, &disk)?,
        Running::Images => {
            for node in lab.nodes()? {
                let images = lab.images(&node)?;
                let list: String = images.iter().flat_map(|name| ["  ", name, "\n"]).collect();
                show(format!("{node}:\n{list}").as_bytes());
            }
        }
        Running::Load { archive } => {
            ensure!(archive.is_file(), "there is no file {}", archive.display());
            lab.load(&archive)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes to stdout. Whoever reads it may have enough (`| head`): that is no error.
fn show(text: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text).and_then(|()| stdout.flush());
}

/// Runs a command on a node; what it writes comes as it is written, its status becomes ours.
fn shell(lab: &Lab, node: &str, script: &str) -> Result<ExitCode> {
    let status = lab.sh_streamed(node, script, |piece| match piece {
        Piece::Stdout(bytes) => show(bytes),
        // As with stdout: nothing is left to tell it to.
        Piece::Stderr(bytes) => drop(std::io::stderr().write_all(bytes)),
    })?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

/// Settings for a shell: the kubeconfig, and a kubectl in front of the search path that runs inside of the lab's network.
fn environment(lab: &Lab) -> Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let bin = lab.dir().join("bin");
    std::fs::create_dir_all(&bin)?;
    let wrapper = bin.join("kubectl");
    let kubectl = lab.state()?.programs.join("kubectl");
    let text = format!(
        "#!/bin/sh\nexec ip netns exec {} {} \"$@\"\n",
        lab.net.namespace(),
        kubectl.display()
    );
    std::fs::write(&wrapper, text)?;
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
    Ok(format!(
        "export HAWSER_LAB_NAME={}\nexport KUBECONFIG={}\nexport PATH={}:$PATH\n",
        lab.name,
        lab.kubeconfig().display(),
        bin.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_a_node_or_kubectl_is_passed_on() {
        let cli = Cli::try_parse_from(["lab", "kubectl", "get", "pods", "-A", "--watch"]).unwrap();
        assert!(
            matches!(cli.command, Command::Running(Running::Kubectl { args }) if args == ["get", "pods", "-A", "--watch"])
        );
        let cli = Cli::try_parse_from(["lab", "--name", "x", "sh", "n1", "ls", "-l"]).unwrap();
        assert!(
            matches!(cli.command, Command::Running(Running::Sh { node, command }) if node == "n1" && command == ["ls", "-l"])
        );
        assert!(Cli::try_parse_from(["lab", "--name", "../x", "env"]).is_err());
        assert!(Cli::try_parse_from(["lab", "up", "--nodes", "0"]).is_err());
        let synth = |nodes| {
            [
                "lab",
                "synth",
                "--nodes",
                nodes,
                "--volumes",
                "9",
                "-o",
                "x",
            ]
        };
        assert!(Cli::try_parse_from(synth("3")).is_ok());
        assert!(Cli::try_parse_from(synth("0")).is_err());
    }
}
