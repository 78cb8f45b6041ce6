//! Flags of the daemon. Not here: what they are used for.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
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
    #[arg(long, env = "POD_NAMESPACE", default_value = hawser_api::names::DEFAULT_NAMESPACE, value_parser = args::dns_label)]
    pub namespace: String,

    /// Who holds the daemon's leases: the pod's name. Default: the node's name.
    #[arg(long, env = "POD_NAME", value_parser = NonEmptyStringValueParser::new())]
    pub identity: Option<String>,

    /// Where kubelet calls the CSI service.
    #[arg(
        long,
        env = "HAWSER_CSI_SOCKET",
        default_value = "/var/lib/kubelet/plugins/lvm.hwameistor.io/csi.sock",
        value_parser = args::socket_path
    )]
    pub csi_socket: PathBuf,

    /// Where kubelet looks for plugins that register.
    #[arg(
        long,
        env = "HAWSER_REGISTRATION_DIR",
        default_value = "/var/lib/kubelet/plugins_registry",
        value_parser = args::absolute_path
    )]
    pub registration_dir: PathBuf,

    /// kubelet's root folder, at the same path as on the host.
    #[arg(long, env = "HAWSER_KUBELET_DIR", default_value = "/var/lib/kubelet", value_parser = args::absolute_path)]
    pub kubelet_dir: PathBuf,

    /// The host's /dev.
    #[arg(long, env = "HAWSER_DEV", default_value = "/dev", value_parser = args::absolute_path)]
    pub dev: PathBuf,

    /// The host's /sys.
    #[arg(long, env = "HAWSER_SYS", default_value = "/sys", value_parser = args::absolute_path)]
    pub sys: PathBuf,

    /// The /proc that shows the host's processes.
    #[arg(long, env = "HAWSER_PROC", default_value = "/proc", value_parser = args::absolute_path)]
    pub proc: PathBuf,

    /// The database of the host's udev.
    #[arg(long, env = "HAWSER_UDEV_DATA", default_value = "/run/udev/data", value_parser = args::absolute_path)]
    pub udev_data: PathBuf,

    /// Whether to wait for the host's udev when devices are made: `auto` looks for device-mapper's rules on the host.
    #[arg(long, env = "HAWSER_UDEV", value_enum, default_value_t = UdevMode::Auto)]
    pub udev: UdevMode,

    /// How often disks and pools are looked at even if nothing is heard of a change.
    #[arg(long, env = "HAWSER_RESCAN_INTERVAL", default_value = "60s", value_parser = args::positive_duration)]
    pub rescan_interval: Duration,
}

impl Args {
    /// What no flag by itself shows to be wrong.
    pub fn check(&self) -> Result<(), String> {
        self.lease.check().map_err(|error| error.to_string())
    }
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
    fn what_is_wrong_is_named_with_what_would_be_right() {
        let long = format!("/{}/csi.sock", "x".repeat(120));
        for (flag, value, right) in [
            ("--node-name", "N 1", "kubectl get nodes"),
            ("--node-name", "", "kubectl get nodes"),
            ("--namespace", "Not A Name", "lower case letters"),
            ("--identity", "", "value is required"),
            ("--csi-socket", "csi.sock", "absolute path"),
            ("--csi-socket", &long, "at most 107"),
            ("--registration-dir", "plugins", "absolute path"),
            ("--kubelet-dir", "/var/lib/../kubelet", ".."),
            ("--dev", "dev", "absolute path"),
            ("--sys", "sys", "absolute path"),
            ("--proc", "/proc/..", ".."),
            ("--udev-data", "udev", "absolute path"),
            ("--udev", "maybe", "bypass"),
            ("--rescan-interval", "60", "for example 30s"),
            // The timer of the rounds can't be made with it.
            ("--rescan-interval", "0s", "longer than zero"),
            ("--lease-renew-deadline", "40s", "--lease-duration (30s)"),
            ("--no-such-flag", "x", "unexpected argument"),
        ] {
            let mut words = vec!["node-daemon", flag, value];
            if flag != "--node-name" {
                words.extend(["--node-name", "n1"]);
            }
            let error = args::try_parse_checked_from(words, Args::check).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.exit_code(), 2, "{text}");
            assert!(
                text.contains(flag) && text.contains(right),
                "{flag} {value:?}: {text}"
            );
        }
    }
}
