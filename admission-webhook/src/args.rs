//! Flags of the webhook.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use hawser_api::names;
use hawser_runtime::args::{CommonArgs, absolute_path, dns_label};
use hawser_runtime::lease::LeaseArgs;

/// Gives pods the locality of their volumes at admission, and refuses what can't be.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "admission-webhook", version)]
pub struct Args {
    #[command(flatten)]
    pub common: CommonArgs,

    #[command(flatten)]
    pub lease: LeaseArgs,

    /// Address of the HTTPS server that the API server calls.
    #[arg(long, env = "HAWSER_LISTEN", default_value_t = SocketAddr::from(([0, 0, 0, 0], names::scheduling::WEBHOOK_PORT)))]
    pub listen: SocketAddr,

    /// Namespace of the webhook: its Secret and Service are there, its pods are left alone.
    #[arg(long, env = "POD_NAMESPACE", default_value = names::DEFAULT_NAMESPACE, value_parser = dns_label)]
    pub namespace: String,

    /// Service by which the API server reaches the webhook; a name in its certificate.
    #[arg(long, env = "HAWSER_SERVICE", default_value = names::scheduling::WEBHOOK_SERVICE, value_parser = dns_label)]
    pub service: String,

    /// Who this is among several: a name that no other has.
    #[arg(long, env = "POD_NAME", value_parser = NonEmptyStringValueParser::new())]
    pub identity: String,

    /// Folder with tls.crt and tls.key, as a Secret is mounted, kept current by somebody else, who also tells the API server whom to
    /// trust. Without it the webhook makes its certificates itself.
    #[arg(long, env = "HAWSER_CERTIFICATE_FOLDER", value_parser = absolute_path)]
    pub certificate_folder: Option<PathBuf>,
}

impl Args {
    /// What no flag by itself shows to be wrong.
    pub fn check(&self) -> Result<(), String> {
        self.lease.check().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use hawser_runtime::args::{try_parse_checked_from, try_parse_from};

    use super::*;

    #[test]
    fn defaults_are_what_clusters_have() {
        let (args, _) = try_parse_from::<Args>(["admission-webhook", "--identity", "a"]).unwrap();
        assert_eq!(args.listen.to_string(), "0.0.0.0:18443");
        assert_eq!(args.service, "hwameistor-admission-controller");
    }

    #[test]
    fn timings_that_do_not_keep_two_holders_apart_are_refused() {
        let words = [
            "admission-webhook",
            "--identity",
            "a",
            "--lease-duration",
            "5s",
        ];
        let error = try_parse_checked_from(words, Args::check).unwrap_err();
        assert!(error.to_string().contains("--lease-duration"), "{error}");
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        for (flag, value) in [
            ("--listen", "nowhere"),
            ("--namespace", "Big Name"),
            ("--service", "x-"),
            ("--service", ""),
            ("--certificate-folder", "here"),
        ] {
            let error =
                try_parse_from::<Args>(["admission-webhook", "--identity", "a", flag, value])
                    .unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(flag), "{error}");
        }
    }
}
