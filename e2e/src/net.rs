//! A lab's network: one network namespace with two bridges, and a tap on each for every node.
//!
//! `br0` carries the cluster (10.77.0.0/24; the host side is 10.77.0.1, and the API server's service address 10.96.0.1 lies on it too), `br1` only the lab's
//! own commands to the nodes (10.78.0.0/24), so that a node which is cut off can still be looked at. Nothing outside of the namespace is changed.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{run, with_args};
use crate::process;

/// Where the API server listens, inside of the namespace.
pub(crate) const API: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The API server's service address.
pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The cluster's DNS server.
pub(crate) const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// Port of the agent on each node.
pub(crate) const AGENT_PORT: u16 = 2222;
/// More nodes than this have no addresses.
pub(crate) const MAX_NODES: u8 = 100;

/// A node's address in the cluster.
pub(crate) fn node_ip(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 10 + index)
}

/// A node's address for the lab's own commands.
pub(crate) fn agent_ip(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, 0, 10 + index)
}

/// The addresses of a node's pods.
pub(crate) fn pod_cidr(index: u8) -> String {
    format!("10.244.{index}.0/24")
}

/// Name of a node's tap on the cluster's bridge.
pub(crate) fn tap(index: u8) -> String {
    format!("tap{index}")
}

/// Name of a node's tap on the bridge of the lab's own commands.
pub(crate) fn agent_tap(index: u8) -> String {
    format!("agent{index}")
}

/// The network of the lab of one name.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    namespace: String,
}

impl Net {
    pub(crate) fn of(lab: &str) -> Self {
        Self {
            namespace: format!("hawser-{lab}"),
        }
    }

    /// Name of the network namespace, as `ip netns` shows it.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.namespace)
    }

    pub(crate) fn exists(&self) -> bool {
        self.path().exists()
    }

    /// Makes the namespace with its bridges and the taps of `nodes` nodes.
    pub(crate) fn create(&self, nodes: u8) -> Result<()> {
        run(&mut with_args("ip", ["netns", "add", &self.namespace]))?;
        self.batch(&links(nodes))?;
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            // A service whose endpoint is behind the same bridge is rewritten and routed back: bridge netfilter must not see it.
            ("net/bridge/bridge-nf-call-iptables", "0"),
            ("net/bridge/bridge-nf-call-ip6tables", "0"),
        ] {
            let path = Path::new("/proc/sys").join(key);
            self.inside(move || {
                if path.exists() || key.ends_with("ip_forward") {
                    std::fs::write(&path, value)
                        .with_context(|| format!("writing {}", path.display()))?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Runs `ip` with these lines, inside of the namespace.
    pub(crate) fn batch(&self, lines: &str) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new()?;
        std::io::Write::write_all(&mut file, lines.as_bytes())?;
        let mut command = with_args("ip", ["-netns", &self.namespace, "-batch"]);
        run(command.arg(file.path()))
    }

    /// Kills what runs in the namespace, except the calling process, and deletes it. Nothing there is fine.
    pub(crate) fn destroy(&self) -> Result<()> {
        if !self.exists() {
            return Ok(());
        }
        if let Ok(meta) = std::fs::metadata(self.path()) {
            use std::os::unix::fs::MetadataExt;
            // Twice: a process may have started another one while the first list was made.
            for _ in 0..2 {
                process::kill_all(&self.namespace, &process::in_network(meta.ino()))?;
            }
        }
        run(&mut with_args("ip", ["netns", "del", &self.namespace]))
    }

    /// Moves the calling thread into the namespace, for good.
    pub(crate) fn enter(&self) -> Result<()> {
        let file = File::open(self.path()).with_context(|| {
            format!(
                "opening the lab's network namespace {}",
                self.path().display()
            )
        })?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("entering the network namespace {}", self.namespace))
    }

    /// Runs `work` on a thread inside of the namespace. Sockets opened and processes started there stay in it.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter()?;
                    work()
                })
                .join()
                .map_err(|_| anyhow!("a thread in {} panicked", self.namespace))?
        })
    }
}

/// The `ip` batch that makes the links of a lab.
fn links(nodes: u8) -> String {
    use std::fmt::Write;
    let mut lines = format!(
        "link set lo up\nlink add br0 type bridge\nlink set br0 up\nlink add br1 type bridge\nlink set br1 up\n\
         addr add {API}/24 dev br0\naddr add {API_SERVICE}/32 dev br0\naddr add {DNS}/32 dev br0\naddr add 10.78.0.1/24 dev br1\n\
         route add {SERVICES} dev br0\n"
    );
    for index in 1..=nodes {
        for (tap, bridge) in [(tap(index), "br0"), (agent_tap(index), "br1")] {
            // Writing to a String can't fail.
            let _ = writeln!(
                lines,
                "tuntap add {tap} mode tap\nlink set {tap} master {bridge} up"
            );
        }
        let _ = writeln!(
            lines,
            "route add {} via {}",
            pod_cidr(index),
            node_ip(index)
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_two_taps_and_a_route_to_its_pods() {
        let lines = links(2);
        for line in [
            "tuntap add tap2 mode tap",
            "link set tap2 master br0 up",
            "link set agent2 master br1 up",
            "route add 10.244.2.0/24 via 10.77.0.12",
        ] {
            assert!(lines.lines().any(|have| have == line), "{line} in\n{lines}");
        }
        assert!(!lines.contains("tap3"));
    }
}
