//! Connecting to the API server: which credentials, which deadlines, and a sentence that helps when it can't be done.

use std::{path::PathBuf, time::Duration};

use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::timeout::TimeoutLayer;

use crate::{args::CommonArgs, error::Category};

/// A node that was cut off must notice within seconds, not after the kernel's two minutes of SYN retries.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Watches are renewed by the server after at most 290 s (kube's default); what is silent for longer is dead.
const READ_TIMEOUT: Duration = Duration::from_secs(310);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The named kubeconfig can't be used.
    #[error(
        "can't use the kubeconfig {path} (--kubeconfig or KUBECONFIG); name a readable file with a current context"
    )]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// No kubeconfig was named, and this is not a pod with a service account.
    #[error(
        "not running in a pod with a service account, and no kubeconfig is named; set --kubeconfig or KUBECONFIG"
    )]
    NotInCluster(#[source] kube::config::InClusterError),
    /// The configuration can't be turned into a client (certificates, URL).
    #[error("the configuration for API server {server} can't be used")]
    Client {
        /// The server's URL.
        server: String,
        /// What is wrong with it.
        #[source]
        source: kube::Error,
    },
}

impl ConnectError {
    /// Always [`Category::Invalid`]: nothing is sent to the server yet, so only configuration can be wrong.
    #[must_use]
    pub fn category(&self) -> Category {
        match self {
            Self::Kubeconfig { .. } | Self::NotInCluster(_) | Self::Client { .. } => {
                Category::Invalid
            }
        }
    }
}

/// Makes a client from the kubeconfig of `args`, or else from the pod's service account. `component` names us in the server's logs.
///
/// Does not contact the server: it may start after us. Every request must be answered (its headers, so that watches may last) within
/// `args.api_timeout`.
pub async fn connect(args: &CommonArgs, component: &str) -> Result<Client, ConnectError> {
    let mut config = match &args.kubeconfig {
        Some(path) => {
            let wrong = |source| ConnectError::Kubeconfig {
                path: path.clone(),
                source,
            };
            let file = Kubeconfig::read_from(path).map_err(wrong)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(wrong)?
        }
        None => Config::incluster().map_err(ConnectError::NotInCluster)?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    let agent = format!("hawser-{component}/{}", env!("CARGO_PKG_VERSION"));
    if let Ok(agent) = agent.parse() {
        config.headers.push((axum::http::header::USER_AGENT, agent));
    }
    let server = config.cluster_url.to_string();
    let builder = ClientBuilder::try_from(config)
        .map_err(|source| ConnectError::Client { server, source })?;
    Ok(builder
        .with_layer(&TimeoutLayer::new(args.api_timeout))
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{args, telemetry::chain};

    #[derive(clap::Parser)]
    struct Example {
        #[command(flatten)]
        common: CommonArgs,
    }

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named_in_the_sentence() {
        let (mut example, _) = args::try_parse_from::<Example>(["x"]).unwrap();
        // It was there when the flags were read.
        example.common.kubeconfig = Some("/nonexistent/config".into());
        let error = connect(&example.common, "test").await.err().unwrap();
        assert!(
            chain(&error).to_string().contains("/nonexistent/config"),
            "{}",
            chain(&error)
        );
    }
}
