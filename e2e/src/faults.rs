//! What can go wrong on purpose: power, hangs, partitions and failing disks.
//!
//! Each takes effect before the method returns, and each can be undone. Faults of disks outlast a reboot, as on hardware; partitions outlast it too,
//! a hang does not.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::command::{output, run, with_args};
use crate::lab::Lab;
use crate::net;
use crate::node::{Guest, log_folder};
use crate::process::Process;
use crate::shelf::{self, Disk, Kind};
use crate::state::{self, Node};

/// How long a node may take until its agent answers: 2 s on a quiet machine.
const BOOT: Duration = Duration::from_secs(300);

/// Processes in which User Mode Linux runs the programs of its guest. They wait for its kernel at their next system call anyway, and a signal of ours to
/// one of them would look to the kernel like a crash of the guest's program.
const USERSPACE: &str = "uml-userspace";

/// What a node is cut off from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Everything: its link leads nowhere.
    All,
    /// The API server (both ways: kubelet, and what the API server asks of the node and its pods).
    Api,
    /// One other node and its pods.
    Node(String),
}

impl Lab {
    /// Cuts the power: the node's kernel is gone at once, its disks stay as they are. A node without power stays so.
    pub(crate) fn power_cut(&self, node: &str) -> Result<()> {
        match &self.state()?.node(node)?.process {
            Some(process) => process
                .kill()
                .with_context(|| format!("cutting the power of {node}")),
            None => Ok(()),
        }
    }

    /// Switches a node on; returns when its agent answers. Its kubelet takes some seconds more ([`Lab::wait_ready`]).
    ///
    /// # Errors
    /// If it runs already, or does not come up within five minutes.
    pub(crate) fn boot(&self, node: &str) -> Result<()> {
        self.start_node(node)?;
        self.wait_agent(node)
    }

    /// As [`Lab::boot`], but the kernel finds the data disks in the other order, so that their device names change.
    pub(crate) fn boot_with_disks_reversed(&self, node: &str) -> Result<()> {
        state::update(self.dir(), |state| {
            state.node_mut(node)?.disks.reverse();
            Ok(())
        })?;
        self.boot(node)
    }

    /// Starts the node's kernel, without waiting for anything.
    pub(crate) fn start_node(&self, node: &str) -> Result<()> {
        state::update(self.dir(), |state| {
            let current = state.node(node)?;
            ensure!(
                !current.process.as_ref().is_some_and(Process::is_alive),
                "node {node} is on already"
            );
            state.node_mut(node)?.boots += 1;
            let node = state.node(node)?;
            let logs = self.dir().join("guest/logs").join(log_folder(node));
            std::fs::create_dir_all(&logs)?;
            self.write_disk_list(node)?;
            let mut command = Guest::node(state, node, self.dir()).command();
            let role = format!("node {}", node.name);
            let process = self
                .net
                .inside(|| Process::start(&role, &mut command, &logs.join("console.log")))?;
            let name = node.name.clone();
            state.node_mut(&name)?.process = Some(process);
            Ok(())
        })
    }

    /// Waits until the agent of a node answers.
    pub(crate) fn wait_agent(&self, node: &str) -> Result<()> {
        let deadline = Instant::now() + BOOT;
        loop {
            let answer = self
                .sh(node, "true")
                .and_then(crate::agent::Output::checked);
            let Err(error) = answer else {
                return Ok(());
            };
            let state = self.state()?;
            let current = state.node(node)?;
            let console = self.dir().join("guest/logs").join(log_folder(current));
            ensure!(
                current.process.as_ref().is_some_and(Process::is_alive),
                "node {node} died while it booted: see {}",
                console.display()
            );
            if Instant::now() > deadline {
                return Err(error.context(format!(
                    "node {node} did not come up within {} s: see {}",
                    BOOT.as_secs(),
                    console.display()
                )));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the API says that the node is Ready, and means its present boot.
    pub(crate) fn wait_ready(&self, node: &str, patience: Duration) -> Result<()> {
        let boot = self
            .sh(node, "cat /proc/sys/kernel/random/boot_id")?
            .checked()?;
        self.block_on(crate::ready::node(self, node, boot.trim(), patience))
    }

    /// Stops the node's kernel, as a machine that hangs.
    pub(crate) fn freeze(&self, node: &str) -> Result<()> {
        self.running(node)?.signal_tree(Signal::STOP, USERSPACE)
    }

    /// Lets a frozen node go on.
    pub(crate) fn thaw(&self, node: &str) -> Result<()> {
        self.running(node)?.signal_tree(Signal::CONT, USERSPACE)
    }

    fn running(&self, node: &str) -> Result<Process> {
        match self.state()?.node(node)?.process.clone() {
            Some(process) if process.is_alive() => Ok(process),
            _ => bail!("node {node} is off: `cargo lab boot {node}` switches it on"),
        }
    }

    /// Cuts a node off. The lab's own commands still reach it.
    pub(crate) fn isolate(&self, node: &str, peer: &Peer) -> Result<()> {
        let state = self.state()?;
        let from = state.node(node)?;
        match peer {
            Peer::All => self
                .net
                .batch(&format!("link set {} nomaster\n", net::tap(from.index))),
            Peer::Api => self.nft(&rules_from_api(from)),
            Peer::Node(name) => {
                let other = state.node(name)?;
                ensure!(name != node, "a node can't be cut off from itself: {node}");
                self.nft(&rules_from_node(from, other))
            }
        }
    }

    /// Undoes everything that [`Lab::isolate`] did to a node.
    pub(crate) fn heal(&self, node: &str) -> Result<()> {
        let state = self.state()?;
        let index = state.node(node)?.index;
        self.net
            .batch(&format!("link set {} master br0 up\n", net::tap(index)))?;
        let tables = self
            .net
            .inside(|| output(&mut with_args("nft", ["list", "tables"])))?;
        self.nft(&removals(&tables, node))
    }

    fn nft(&self, rules: &str) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(rules.as_bytes())?;
        self.net
            .inside(|| run(with_args("nft", ["-f"]).arg(file.path())))
    }

    /// Plugs a new blank disk into a node, running or not.
    pub(crate) fn add_disk(&self, node: &str, bytes: u64, kind: Kind) -> Result<Disk> {
        self.plug(node, |name, disks| {
            shelf::next_disk(name, disks, bytes, kind)
        })
    }

    /// Plugs in a new blank disk that has another's serial number, and so its world wide name, as some disk enclosures make them.
    pub(crate) fn add_twin(&self, node: &str, disk: &str, bytes: u64) -> Result<Disk> {
        let twin_of = self.disk_name(node, disk)?;
        self.plug(node, |name, disks| {
            let found = disks.iter().find(|disk| disk.name == twin_of);
            let other = found.context("a disk that was just found")?;
            let disk = shelf::next_disk(name, disks, bytes, other.kind)?;
            Ok(Disk {
                serial: other.serial.clone(),
                ..disk
            })
        })
    }

    fn plug(&self, node: &str, make: impl FnOnce(&str, &[Disk]) -> Result<Disk>) -> Result<Disk> {
        let disk = state::update(self.dir(), |state| {
            let node = state.node_mut(node)?;
            let disk = make(&node.name, &node.disks)?;
            node.disks.push(disk.clone());
            self.write_disk_list(node)?;
            Ok(disk)
        })?;
        self.shelf(node, &format!("add {}", disk.arguments()))?;
        Ok(disk)
    }

    /// Makes all reads and writes of a disk fail, until [`Lab::fix_disk`]; `disk` is its name (`d1`) or its device's (`sda`).
    pub(crate) fn fail_disk(&self, node: &str, disk: &str) -> Result<()> {
        let disk = self.change_disk(node, disk, |disk| disk.failing = true)?;
        self.shelf(node, &format!("fail {}", disk.name))
    }

    /// Ends what [`Lab::fail_disk`] began; what was on the disk is still there.
    pub(crate) fn fix_disk(&self, node: &str, disk: &str) -> Result<()> {
        let disk = self.change_disk(node, disk, |disk| disk.failing = false)?;
        self.shelf(
            node,
            &format!("fix {} {} {}", disk.name, disk.start, disk.sectors),
        )
    }

    /// Pulls a disk out of a node; its content is kept.
    pub(crate) fn pull_disk(&self, node: &str, disk: &str) -> Result<()> {
        let disk = self.change_disk(node, disk, |disk| disk.pulled = true)?;
        self.shelf(node, &format!("remove {}", disk.name))
    }

    /// Plugs a pulled disk in again; one that failed before still does.
    pub(crate) fn return_disk(&self, node: &str, disk: &str) -> Result<()> {
        let disk = self.change_disk(node, disk, |disk| disk.pulled = false)?;
        self.shelf(node, &format!("add {}", disk.arguments()))?;
        if disk.failing {
            // A disk that fails is no better for having been out.
            self.shelf(node, &format!("fail {}", disk.name))?;
        }
        Ok(())
    }

    fn change_disk(&self, node: &str, disk: &str, change: impl FnOnce(&mut Disk)) -> Result<Disk> {
        let name = self.disk_name(node, disk)?;
        state::update(self.dir(), |state| {
            let node = state.node_mut(node)?;
            let found = node.disks.iter_mut().find(|disk| disk.name == name);
            let disk = found.context("a disk that was just found")?;
            change(disk);
            let disk = disk.clone();
            self.write_disk_list(node)?;
            Ok(disk)
        })
    }

    /// The lab's name of a disk that may be given by its device's.
    fn disk_name(&self, node: &str, disk: &str) -> Result<String> {
        let state = self.state()?;
        let disks = &state.node(node)?.disks;
        if disks.iter().any(|known| known.name == disk) {
            return Ok(disk.to_owned());
        }
        let device = disk.trim_start_matches("/dev/");
        let devices = self.disk_devices(node).unwrap_or_default();
        match devices.iter().find(|(_, have)| have == device) {
            Some((name, _)) => Ok(name.clone()),
            None => bail!(
                "node {node} has no data disk {disk:?}: it has {}",
                disks
                    .iter()
                    .map(|disk| disk.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        }
    }

    /// Name (`d1`) and present device (`sda`) of each data disk of a running node.
    pub(crate) fn disk_devices(&self, node: &str) -> Result<Vec<(String, String)>> {
        let list = self.sh(node, "shelf list")?.checked()?;
        Ok(list
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, device)| (name.to_owned(), device.to_owned()))
            .collect())
    }

    fn write_disk_list(&self, node: &Node) -> Result<()> {
        let folder = self.dir().join("guest/nodes");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.disks", node.name));
        std::fs::write(&path, shelf::listing(&node.disks))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Tells the node's shelf; a node that is off reads its list when it boots.
    fn shelf(&self, node: &str, command: &str) -> Result<()> {
        if self.running(node).is_err() {
            return Ok(());
        }
        self.sh(node, &format!("shelf {command}"))?
            .checked()
            .map(drop)
            .with_context(|| format!("on node {node}: shelf {command}"))
    }
}

fn table(node: &str, peer: &str) -> String {
    format!("isolate-{node}-{peer}")
}

/// A node's address and those of its pods, as an nftables set.
fn addresses(node: &Node) -> String {
    format!(
        "{{ {}, {} }}",
        net::node_ip(node.index),
        net::pod_cidr(node.index)
    )
}

fn rules_from_node(node: &Node, other: &Node) -> String {
    let name = table(&node.name, &other.name);
    let (here, there) = (addresses(node), addresses(other));
    let (tap, other_tap): (String, String) = (net::tap(node.index), net::tap(other.index));
    // The first table stops what the bridge passes on, the second what goes by a service and is routed.
    format!(
        "table bridge {name} {{
  chain forward {{
    type filter hook forward priority 0;
    iifname {tap} oifname {other_tap} drop
    iifname {other_tap} oifname {tap} drop
  }}
}}
table ip {name} {{
  chain forward {{
    type filter hook forward priority 0;
    ip saddr {here} ip daddr {there} drop
    ip saddr {there} ip daddr {here} drop
  }}
}}
"
    )
}

fn rules_from_api(node: &Node) -> String {
    let name = table(&node.name, "api");
    let here = addresses(node);
    // What comes from or goes to this machine itself is the API server and DNS; services are routed through.
    format!(
        "table ip {name} {{
  chain input {{
    type filter hook input priority 0;
    iifname br0 ip saddr {here} meta l4proto {{ tcp, udp }} th dport 53 accept
    iifname br0 ip saddr {here} drop
  }}
  chain output {{
    type filter hook output priority 0;
    oifname br0 ip daddr {here} meta l4proto {{ tcp, udp }} th sport 53 accept
    oifname br0 ip daddr {here} drop
  }}
}}
"
    )
}

/// Rules that delete the node's tables out of what `nft list tables` says.
fn removals(tables: &str, node: &str) -> String {
    let prefix = table(node, "");
    tables
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (family, name) = (words.next()?, words.next()?);
            name.starts_with(&prefix)
                .then(|| format!("delete table {family} {name}\n"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::a_state;

    #[test]
    fn healing_removes_the_nodes_own_tables_only() {
        let tables = "table ip kube-proxy\ntable bridge isolate-n1-n2\ntable ip isolate-n1-n2\ntable ip isolate-n10-api\n";
        assert_eq!(
            removals(tables, "n1"),
            "delete table bridge isolate-n1-n2\ndelete table ip isolate-n1-n2\n"
        );
    }

    #[test]
    fn a_pair_is_cut_both_ways() {
        let state = a_state();
        let rules = rules_from_node(&state.nodes[0], &state.nodes[1]);
        for rule in [
            "iifname tap1 oifname tap2 drop",
            "iifname tap2 oifname tap1 drop",
            "ip saddr { 10.77.0.11, 10.244.1.0/24 } ip daddr { 10.77.0.12, 10.244.2.0/24 } drop",
        ] {
            assert!(rules.contains(rule), "{rule} in {rules}");
        }
    }
}
