//! Starting a User Mode Linux guest: a kernel that runs as a process, in a mount namespace in which the shared root folder has this guest's own folders on it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::with_args;
use crate::net;
use crate::state::{Node, State};

/// Binds HOST FOLDER pairs onto the root folder, then runs the kernel in it.
const ENTER: &str = r#"
set -e
root=$1; shift
while [ "$1" != -- ]; do mount --bind "$1" "$root/$2"; shift 2; done
shift
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs -o size=100% tmp "$root/tmp"
exec chroot "$root" env -i PATH=/usr/bin:/usr/sbin TMPDIR=/tmp HOME=/tmp linux.uml "$@"
"#;

/// Name, in a lab's folder of disks, of the system disk that all nodes begin with.
pub(crate) const BASE: &str = "base.img";

/// A guest to start.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) root: PathBuf,
    /// Host folder and where the guest sees it (relative to its root).
    pub(crate) folders: Vec<(PathBuf, &'static str)>,
    /// MiB.
    pub(crate) memory: u64,
    /// The disks, as the guest's kernel process finds them: FILE, or FILE,BASE for what differs from a file that stays as it is.
    pub(crate) disks: Vec<String>,
    /// Further arguments of the kernel.
    pub(crate) arguments: Vec<String>,
}

impl Guest {
    /// A node of a lab.
    pub(crate) fn node(state: &State, node: &Node, lab: &Path) -> Self {
        let index = node.index;
        let tap = |number: u8, tap: &str| {
            // Without gro, large frames are lost and TCP stalls.
            format!("vec{number}:transport=tap,ifname={tap},depth=128,gro=1")
        };
        let settings = [
            ("stage", "node".to_owned()),
            ("node", node.name.clone()),
            ("ip", net::node_ip(index).to_string()),
            ("agentip", net::agent_ip(index).to_string()),
            ("gateway", net::API.to_string()),
            ("pods", net::pod_cidr(index)),
            ("logs", format!("/lab/logs/{}", log_folder(node))),
        ];
        let mut arguments = vec![tap(0, &net::tap(index)), tap(1, &net::agent_tap(index))];
        arguments.extend(
            settings
                .iter()
                .map(|(name, value)| format!("lab.{name}={value}")),
        );
        Self {
            root: state.root.clone(),
            folders: vec![
                (lab.join("guest"), "lab"),
                (state.scripts.clone(), "scripts"),
                (state.programs.clone(), "programs"),
            ],
            memory: state.memory,
            disks: vec![
                format!("/lab/disks/{}.cow,/lab/disks/{BASE}", node.name),
                format!("/lab/disks/{}", shelf_file(node)),
            ],
            arguments,
        }
    }

    /// The command that starts it; its console is the command's output.
    pub(crate) fn command(&self) -> Command {
        let mut command = with_args(
            "unshare",
            [
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                ENTER,
                "enter",
            ],
        );
        command.arg(&self.root);
        for (host, guest) in &self.folders {
            command.arg(host).arg(guest);
        }
        command.args([
            "--",
            &format!("mem={}M", self.memory),
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            "init=/scripts/init",
            "uml_dir=/tmp/uml",
            "umid=guest",
            "con=null",
            "con0=null,fd:1",
            "quiet",
            // A third faster than by ptrace, where this machine allows it.
            "seccomp=auto",
        ]);
        for (letter, disk) in ('a'..='z').zip(&self.disks) {
            command.arg(format!("ubd{letter}={disk}"));
        }
        command.args(&self.arguments);
        command
    }
}

/// Name of the file that a node's data disks lie on.
pub(crate) fn shelf_file(node: &Node) -> String {
    format!("{}.shelf", node.name)
}

/// Name of the folder, below the lab's `guest/logs`, of what the node writes since it was last started.
pub(crate) fn log_folder(node: &Node) -> String {
    format!("{}-boot{}", node.name, node.boots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::shown;
    use crate::state::tests::a_state;

    #[test]
    fn a_nodes_command_names_its_disk_taps_and_addresses() {
        let state = a_state();
        let guest = Guest::node(&state, &state.nodes[1], Path::new("/labs/a"));
        let line = shown(&guest.command());
        for part in [
            "/root-fs /labs/a/guest lab /scripts scripts /programs programs --",
            "mem=1536M",
            "ubda=/lab/disks/n2.cow,/lab/disks/base.img",
            "ubdb=/lab/disks/n2.shelf",
            "vec0:transport=tap,ifname=tap2,depth=128,gro=1",
            "vec1:transport=tap,ifname=agent2,",
            "lab.ip=10.77.0.12",
            "lab.pods=10.244.2.0/24",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}
