//! Flags of the webhook.

use std::net::SocketAddr;

use hawser_api::names;
use hawser_runtime::args::{CommonArgs, dns_label};

/// Gives pods the locality of their volumes at admission.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "admission-webhook", version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: CommonArgs,

    /// Address of the HTTPS server that the API server calls.
    #[arg(long, env = "HAWSER_LISTEN", default_value_t = SocketAddr::from(([0, 0, 0, 0], names::scheduling::WEBHOOK_PORT)))]
    pub(crate) listen: SocketAddr,

    /// Namespace of the webhook: its Secret and Service are there, its pods are left alone.
    #[arg(long, env = "POD_NAMESPACE", default_value = names::DEFAULT_NAMESPACE, value_parser = dns_label)]
    pub(crate) namespace: String,

    /// Service by which the API server reaches the webhook; a name in its certificate.
    #[arg(long, env = "HAWSER_SERVICE", default_value = names::scheduling::WEBHOOK_SERVICE, value_parser = dns_label)]
    pub(crate) service: String,
}

#[cfg(test)]
mod tests {
    use hawser_runtime::args::try_parse_from;

    use super::*;

    #[test]
    fn defaults_are_what_clusters_have() {
        let (args, _) = try_parse_from::<Args>(["admission-webhook"]).unwrap();
        assert_eq!(args.listen.to_string(), "0.0.0.0:18443");
        assert_eq!(args.service, "hwameistor-admission-controller");
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        for (flag, value) in [
            ("--listen", "nowhere"),
            ("--namespace", "Big Name"),
            ("--service", "x-"),
            ("--service", ""),
        ] {
            let error = try_parse_from::<Args>(["admission-webhook", flag, value]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(flag), "{error}");
        }
    }
}
