//! The flags of this binary.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hawser_placement::Strategy;
use hawser_runtime::args::{CommonArgs, positive_duration};

/// Answers kube-scheduler: which nodes can take a pod's volumes, and which is best. Reads the cluster, writes nothing.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub struct Args {
    #[command(flatten)]
    pub common: CommonArgs,

    /// Address of /filter, /prioritize and /preempt, and of /why and /simulate for people.
    // Loopback: only the kube-scheduler in the same pod asks, and who may forward a port to the pod, so there is nothing to encrypt and nobody to authenticate.
    #[arg(long, env = "HAWSER_LISTEN", default_value = "127.0.0.1:10262")]
    pub listen: SocketAddr,

    /// Which of the nodes that can hold the volumes is better: the emptier (spread) or the fuller (bin-pack).
    #[arg(long, env = "HAWSER_STRATEGY", value_enum, default_value_t = StrategyArg::Spread)]
    pub strategy: StrategyArg,

    /// How old what is known may be before nothing is decided any more; pods then wait and say why.
    // Long enough for an API server to be upgraded; decisions are checked again when volumes are made, so it need not be short.
    #[arg(long, env = "HAWSER_STALE_LIMIT", default_value = "5m", value_parser = positive_duration)]
    pub stale_limit: Duration,

    /// Serve from a dump of objects (a Kubernetes List, JSON or YAML) instead of an API server, for support and benchmarks.
    #[arg(long, value_name = "FILE")]
    pub cluster_from: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StrategyArg {
    Spread,
    BinPack,
}

impl From<StrategyArg> for Strategy {
    fn from(arg: StrategyArg) -> Self {
        match arg {
            StrategyArg::Spread => Self::Spread,
            StrategyArg::BinPack => Self::BinPack,
        }
    }
}

#[cfg(test)]
mod tests {
    use hawser_runtime::args::try_parse_from;

    use super::*;

    #[test]
    fn defaults_and_a_wrong_strategy() {
        let (args, _) = try_parse_from::<Args>(["scheduler-extender"]).unwrap();
        assert_eq!(args.listen.to_string(), "127.0.0.1:10262");
        assert_eq!(Strategy::from(args.strategy), Strategy::Spread);
        assert_eq!(args.stale_limit, Duration::from_secs(300));
        let wrong =
            try_parse_from::<Args>(["scheduler-extender", "--strategy", "pile"]).unwrap_err();
        assert_eq!(wrong.exit_code(), 2);
        let text = wrong.to_string();
        assert!(
            text.contains("--strategy") && text.contains("pile") && text.contains("bin-pack"),
            "{text}"
        );
    }
}
