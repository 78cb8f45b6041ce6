//! The program. See `lib.rs`.

use admission_webhook::{app, args::Args};
use hawser_runtime::{args, shutdown::Shutdown, telemetry, tls};

// Two are plenty for small requests; the default, one for each core, costs memory on large machines.
#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    tls::install_provider();
    let (args, settings) = args::parse_checked(Args::check);
    telemetry::init(&args.common)?;
    settings.log("admission-webhook");
    let shutdown = Shutdown::on_signals(args.common.drain_timeout)?;
    app::run(args, shutdown).await
}
