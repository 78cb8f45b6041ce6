//! `/proc/drbd` of 8.4: the state of all minors without running a program. 9 has only the header there.

use crate::{
    state::{ConnectionState, DiskState, Replication, Role},
    version::ModuleVersion,
};

/// What `/proc/drbd` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcDrbd {
    /// The module.
    pub module: ModuleVersion,
    /// The configured minors in their order.
    pub minors: Vec<MinorState>,
}

/// One minor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinorState {
    /// Its number: `/dev/drbd<minor>`.
    pub minor: u32,
    /// The connection of its resource.
    pub connection: ConnectionState,
    /// What goes on over the connection.
    pub replication: Replication,
    /// Ours and the peer's role.
    pub roles: (Role, Role),
    /// Ours and the peer's disk.
    pub disks: (DiskState, DiskState),
    /// Whether I/O is frozen.
    pub suspended: bool,
    /// What the copies are known to differ by, in KiB.
    pub out_of_sync_kib: u64,
}

impl MinorState {
    fn unconfigured(minor: u32) -> Self {
        Self {
            minor,
            connection: ConnectionState::StandAlone,
            replication: Replication::Off,
            roles: (Role::Secondary, Role::Unknown),
            disks: (DiskState::Diskless, DiskState::DUnknown),
            suspended: false,
            out_of_sync_kib: 0,
        }
    }
}

/// Parses `/proc/drbd`. `None` if it does not begin with DRBD's version; lines that are not understood are left out.
#[must_use]
pub fn parse_proc(text: &str) -> Option<ProcDrbd> {
    let mut lines = text.lines();
    let module = ModuleVersion::parse(lines.next()?)?;
    let mut minors: Vec<MinorState> = Vec::new();
    for line in lines {
        if let Some(minor) = minor_line(line) {
            minors.push(minor);
        } else if let (Some(oos), Some(minor)) = (value(line, "oos"), minors.last_mut()) {
            minor.out_of_sync_kib = oos.parse().unwrap_or(0);
        }
    }
    Some(ProcDrbd { module, minors })
}

/// ` 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----`
fn minor_line(line: &str) -> Option<MinorState> {
    let (number, rest) = line.split_once(": cs:")?;
    let mut minor = MinorState::unconfigured(number.trim().parse().ok()?);
    let cs = rest.split_whitespace().next()?;
    if cs == "Unconfigured" {
        return Some(minor);
    }
    (minor.connection, minor.replication) = ConnectionState::from_cs(cs);
    let (ours, peers) = value(line, "ro")?.split_once('/')?;
    minor.roles = (Role::from_word(ours), Role::from_word(peers));
    let (ours, peers) = value(line, "ds")?.split_once('/')?;
    minor.disks = (DiskState::from_word(ours), DiskState::from_word(peers));
    // The last word: r or s for running or suspended, then reasons.
    minor.suspended = line
        .split_whitespace()
        .last()
        .is_some_and(|flags| flags.starts_with('s'));
    Some(minor)
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(key)?.strip_prefix(':'))
}
