//! What every binary shares: flags, logs, health, metrics, TLS, leases, watches folded into indexes.
//!
//! A binary's `main` reads like this:
//!
//! ```no_run
//! use hawser_runtime::{args, client, health::Health, index::Watches, metrics::Metrics, observability, shutdown::Shutdown, store::Store, telemetry, tls};
//! use k8s_openapi::api::core::v1::Node;
//! use kube::Api;
//!
//! /// Watches nodes.
//! #[derive(Debug, clap::Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     common: args::CommonArgs,
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! tls::install_provider();
//! let (args, settings) = args::parse::<Args>();
//! telemetry::init(&args.common)?;
//! settings.log("example");
//!
//! let shutdown = Shutdown::on_signals(args.common.drain_timeout)?;
//! let (health, metrics) = (Health::new(&shutdown), Metrics::new("example"));
//! observability::serve(args.common.http_listen, &health, &metrics, &shutdown).await?;
//! let client = client::connect(&args.common, "example").await?;
//!
//! let watches = Watches::new(&shutdown, &health, &metrics);
//! let nodes = Store::<Node>::new();
//! watches.watch_into(Api::all(client), kube::runtime::watcher::Config::default(), nodes.clone());
//! shutdown.finished().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here knows what a volume or a disk is, and nothing here is a global: every part is handed to who needs it.

pub mod args;
pub mod client;
pub mod error;
pub mod events;
pub mod health;
pub mod index;
pub mod lease;
pub mod metrics;
pub mod observability;
pub mod patch;
pub mod process;
pub mod reconcile;
pub mod shutdown;
pub mod store;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;
