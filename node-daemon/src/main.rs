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

use hawser_runtime::{args as common, telemetry, tls};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tls::install_provider();
    let (args, settings) = common::parse_checked(args::Args::check);
    telemetry::init(&args.common)?;
    settings.log("node-daemon");
    daemon::run(args).await
}
