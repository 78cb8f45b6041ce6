//! Typed driver of drbdsetup and drbdmeta: typed requests to argv, their output and refusals to typed results.
//!
//! Owns: how the tools are called, what their output means, and the differences between versions of DRBD. Does not own: which
//! volumes are mirrored, who may write, when to fail over; it knows no Kubernetes and keeps no state.
//!
//! The module of the kernel's own tree is 8.4; its `drbdsetup` has no JSON, so state is read from `events2`, whose
//! `key:value` lines 8.4 and 9 share, and from `/proc/drbd`, which needs no program. `drbdadm` and its configuration files are not
//! used: what exists is what the kernel says.
//!
//! Nothing here overwrites metadata that it finds ([`Drbd::create_metadata`]) and no command is retried.

mod argv;
mod driver;
mod error;
mod metadata;
mod proc;
mod show;
mod state;
mod status;
mod version;

pub use argv::{DiskOptions, Endpoint, Fencing, Minor, NetOptions, ResourceName};
pub use driver::{Drbd, Outcome};
pub use error::{DrbdError, Refusal};
pub use metadata::{Format, Metadata, Placement, parse_dump};
pub use proc::{MinorState, ProcDrbd, parse_proc};
pub use show::{ShownResource, ShownVolume, parse_show};
pub use state::{ConnectionState, DiskState, Replication, Role};
pub use status::{Connection, Device, PeerVolume, Resource, Status, parse_events2};
pub use version::{ModuleVersion, Version, parse_drbdadm_version};
