//! Typed driver of lvm2 and dmsetup: typed requests to argv, JSON reports and messages to typed results.
//!
//! Owns: how the tools are called, what their output means, which names and tags they accept. Does not own: what should
//! exist; it knows no Kubernetes and keeps no state. [`Lvm`] drives `lvm`, [`dm::Dm`] drives `dmsetup`.
//!
//! Habits of all calls:
//! - The tool's own configuration is overridden ([`Options`]): what is inside our volumes is never scanned, host devices files
//!   do not hide disks, event daemons are not needed.
//! - Changes are never cut off by a dropped future: LVM killed in the middle of a change may leave a suspended device.
//! - Nothing overwrites a signature, shrinks, or forces. `--yes` is given only where the caller has named what is destroyed.

pub mod dm;
mod error;
mod lvm;
pub mod names;
mod options;
mod parse;
mod report;

pub use error::{LvmError, Refusal};
pub use lvm::{CreateLv, Lvm, Version};
pub use options::{Options, Udev};
pub use report::{Duplicate, Lv, Pv, Report, Segment, Vg};

/// What an operation that may be repeated did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was so already; nothing was done.
    Already,
    Changed,
}
