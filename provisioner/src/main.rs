//! The provisioner's process: arguments, logs, signals.

use hawser_runtime::{args, shutdown::Shutdown, telemetry, tls};
use provisioner::{app, args::Args};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tls::install_provider();
    let (args, settings) = args::parse_checked(Args::check);
    telemetry::init(&args.common)?;
    settings.log("provisioner");
    let shutdown = Shutdown::on_signals(args.common.drain_timeout)?;
    app::run(args, shutdown).await
}
