//! CSI Node service; makes this node's disks, pools and volumes match what is asked.

#![allow(
    unreachable_pub,
    reason = "a binary has no API: pub says that other modules may use it"
)]

mod args;
mod claim;
mod csi;
mod daemon;
mod disk;
mod keeper;
mod lvm;
mod mount;
mod pool;
mod replica;
mod signature;
#[cfg(test)]
mod testing;

use std::time::Duration;

use hawser_runtime::{args as common, telemetry, tls};

/// Threads for calls that may block; they are made as they are needed. A device that does not answer keeps those that ask it: one for
/// each disk, and for each volume one for its usage, one for its health and one for the operation on it. A node holds up to 3000
/// volumes; what is well must still find a thread.
const BLOCKING_THREADS: usize = 16_384;
/// How long the end waits for such calls.
const LAST_CALLS: Duration = Duration::from_secs(5);

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()?;
    let result = runtime.block_on(run());
    runtime.shutdown_timeout(LAST_CALLS);
    result
}

async fn run() -> anyhow::Result<()> {
    tls::install_provider();
    let (args, settings) = common::parse_checked(args::Args::check);
    telemetry::init(&args.common)?;
    settings.log("node-daemon");
    daemon::run(args).await
}
