//! Command line and environment.

use std::{path::PathBuf, time::Duration};

use hawser_runtime::{
    args::{CommonArgs, duration},
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
    #[arg(long, env = "HAWSER_CSI_SOCKET", default_value = "/csi/csi.sock")]
    pub csi_socket: PathBuf,

    /// Namespace of the lease and of `CSIStorageCapacity` objects.
    #[arg(long, env = "POD_NAMESPACE", default_value = hawser_api::names::DEFAULT_NAMESPACE)]
    pub namespace: String,

    /// Who this is among several: a name that no other has.
    #[arg(long, env = "POD_NAME")]
    pub identity: String,

    /// How long a call waits for a node to have made or grown a volume. Must be below the sidecars' --timeout.
    // The sidecars are deployed with 60 s; an answer that says what is missing is better than a broken call.
    #[arg(long, env = "HAWSER_READY_TIMEOUT", default_value = "50s", value_parser = duration)]
    pub ready_timeout: Duration,

    /// Publish `CSIStorageCapacity` objects, for clusters that schedule without Hawser's scheduler.
    #[arg(long, env = "HAWSER_PUBLISH_CAPACITY", num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub publish_capacity: bool,
}
