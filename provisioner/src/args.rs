//! Command line and environment.

use std::{path::PathBuf, time::Duration};

use clap::builder::NonEmptyStringValueParser;
use hawser_runtime::{
    args::{CommonArgs, dns_label, positive_duration, socket_path},
    lease::LeaseArgs,
};

/// The CSI Controller of local volumes, and the controllers that look after them. Several may run; one leads.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "provisioner", version)]
pub struct Args {
    #[command(flatten)]
    pub common: CommonArgs,

    #[command(flatten)]
    pub lease: LeaseArgs,

    /// The socket on which the CSI sidecars call.
    #[arg(long, env = "HAWSER_CSI_SOCKET", default_value = "/csi/csi.sock", value_parser = socket_path)]
    pub csi_socket: PathBuf,

    /// Namespace of the lease and of `CSIStorageCapacity` objects.
    #[arg(long, env = "POD_NAMESPACE", default_value = hawser_api::names::DEFAULT_NAMESPACE, value_parser = dns_label)]
    pub namespace: String,

    /// Who this is among several: a name that no other has.
    #[arg(long, env = "POD_NAME", value_parser = NonEmptyStringValueParser::new())]
    pub identity: String,

    /// How long a call waits for a node to have made or grown a volume. Must be below the sidecars' --timeout.
    // The sidecars are deployed with 60 s; an answer that says what is missing is better than a broken call.
    #[arg(long, env = "HAWSER_READY_TIMEOUT", default_value = "50s", value_parser = positive_duration)]
    pub ready_timeout: Duration,

    /// Publish `CSIStorageCapacity` objects, for clusters that schedule without Hawser's scheduler.
    #[arg(long, env = "HAWSER_PUBLISH_CAPACITY", num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub publish_capacity: bool,
}

impl Args {
    /// What no flag by itself shows to be wrong.
    pub fn check(&self) -> Result<(), String> {
        self.lease.check().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use hawser_runtime::args::try_parse_checked_from;

    use super::*;

    #[test]
    fn a_name_is_enough() {
        let words = ["provisioner", "--identity", "p-1"];
        let (args, _) = try_parse_checked_from(words, Args::check).unwrap();
        assert_eq!(args.csi_socket, PathBuf::from("/csi/csi.sock"));
        assert!(!args.publish_capacity);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (flag, value, right) in [
            ("--identity", "", "value is required"),
            ("--namespace", "Not A Name", "lower case letters"),
            ("--csi-socket", "csi.sock", "absolute path"),
            ("--csi-socket", "/csi/../csi.sock", ".."),
            ("--ready-timeout", "50", "for example 30s"),
            ("--ready-timeout", "0s", "longer than zero"),
            ("--publish-capacity", "maybe", "true"),
            ("--lease-duration", "10s", "--lease-renew-deadline (25s)"),
            ("--lease-retry-period", "0s", "zero <"),
            ("--lease-duration", "30500ms", "whole seconds"),
            ("--no-such-flag", "x", "unexpected argument"),
        ] {
            let mut words = vec!["provisioner", flag, value];
            if flag != "--identity" {
                words.extend(["--identity", "p-1"]);
            }
            let error = try_parse_checked_from(words, Args::check).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.exit_code(), 2, "{text}");
            assert!(
                text.contains(flag) && text.contains(right),
                "{flag} {value:?}: {text}"
            );
        }
    }
}
