//! Flags of the daemon. Not here: what they are used for.

use std::path::PathBuf;
use std::time::Duration;

use hawser_runtime::args::{self, CommonArgs};
use hawser_runtime::lease::LeaseArgs;

/// Hawser's daemon of a node: disks, pools, volumes, and the CSI Node service.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub struct Args {
    #[command(flatten)]
    pub common: CommonArgs,

    #[command(flatten)]
    pub lease: LeaseArgs,

    /// Name of the Kubernetes node that this daemon runs on.
    #[arg(long, env = "NODE_NAME", value_parser = node_name)]
    pub node_name: String,

    /// Namespace of the daemon's leases.
    #[arg(long, env = "POD_NAMESPACE", default_value = hawser_api::names::DEFAULT_NAMESPACE)]
    pub namespace: String,

    /// Who holds the daemon's leases: the pod's name. Default: the node's name.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,

    /// Where kubelet calls the CSI service.
    #[arg(
        long,
        env = "HAWSER_CSI_SOCKET",
        default_value = "/var/lib/kubelet/plugins/lvm.hwameistor.io/csi.sock"
    )]
    pub csi_socket: PathBuf,

    /// Where kubelet looks for plugins that register.
    #[arg(
        long,
        env = "HAWSER_REGISTRATION_DIR",
        default_value = "/var/lib/kubelet/plugins_registry"
    )]
    pub registration_dir: PathBuf,

    /// kubelet's root folder, at the same path as on the host.
    #[arg(long, env = "HAWSER_KUBELET_DIR", default_value = "/var/lib/kubelet")]
    pub kubelet_dir: PathBuf,

    /// The host's /dev.
    #[arg(long, env = "HAWSER_DEV", default_value = "/dev")]
    pub dev: PathBuf,

    /// The host's /sys.
    #[arg(long, env = "HAWSER_SYS", default_value = "/sys")]
    pub sys: PathBuf,

    /// The /proc that shows the host's processes.
    #[arg(long, env = "HAWSER_PROC", default_value = "/proc")]
    pub proc: PathBuf,

    /// The database of the host's udev.
    #[arg(long, env = "HAWSER_UDEV_DATA", default_value = "/run/udev/data")]
    pub udev_data: PathBuf,

    /// Whether to wait for the host's udev when devices are made: `auto` looks for device-mapper's rules on the host.
    #[arg(long, env = "HAWSER_UDEV", value_enum, default_value_t = UdevMode::Auto)]
    pub udev: UdevMode,

    /// How often disks and pools are looked at even if nothing is heard of a change.
    #[arg(long, env = "HAWSER_RESCAN_INTERVAL", default_value = "60s", value_parser = args::duration)]
    pub rescan_interval: Duration,
}

/// See [`Args::udev`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum UdevMode {
    Auto,
    Synchronise,
    Bypass,
}

fn node_name(text: &str) -> Result<String, String> {
    let label = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err(
            "a node's name has a-z, 0-9, - and ., as `kubectl get nodes` shows it; set --node-name or NODE_NAME"
                .to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_runtime::args::try_parse_from;

    #[test]
    fn a_node_name_is_enough() {
        let (args, _) =
            try_parse_from::<Args>(["node-daemon", "--node-name", "n1.example"]).unwrap();
        assert_eq!(args.node_name, "n1.example");
        assert_eq!(args.udev, UdevMode::Auto);
        assert_eq!(args.rescan_interval, Duration::from_secs(60));
    }

    #[test]
    fn wrong_flags_are_refused_with_a_sentence() {
        for (words, part) in [
            (vec!["--node-name", "N 1"], "kubectl get nodes"),
            (vec!["--node-name", ""], "kubectl get nodes"),
            (
                vec!["--node-name", "n1", "--rescan-interval", "60"],
                "for example 30s",
            ),
            (vec!["--node-name", "n1", "--udev", "maybe"], "bypass"),
        ] {
            let all = std::iter::once("node-daemon").chain(words);
            let message = try_parse_from::<Args>(all).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
