//! Requests to argv of drbdsetup 8.4 and drbdmeta, and what may stand in them. Pure.

use std::{fmt, net::SocketAddr, path::Path};

use hawser_command::Command;

use crate::{
    error::DrbdError,
    metadata::{Format, Placement},
};

/// The name of a resource: letters, digits, `.`, `_`, `-`, beginning with a letter or digit, at most 127.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(String);

impl ResourceName {
    /// Checks the name.
    pub fn new(name: impl Into<String>) -> Result<Self, DrbdError> {
        let name = name.into();
        let fits = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.len() <= 127
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if fits {
            return Ok(Self(name));
        }
        let problem = "not a name for a DRBD resource; use at most 127 letters, digits, '.', '_', '-', beginning with a letter or digit";
        Err(DrbdError::Request {
            object: format!("{name:?}"),
            problem: problem.to_owned(),
        })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a device, `/dev/drbd<number>`: below 2^20, as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minor(u32);

impl Minor {
    /// Checks the number.
    pub fn new(number: u32) -> Result<Self, DrbdError> {
        if number < 1 << 20 {
            return Ok(Self(number));
        }
        Err(DrbdError::Request {
            object: format!("minor {number}"),
            problem: "a minor is below 1048576".to_owned(),
        })
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// The device node.
    #[must_use]
    pub fn device(self) -> String {
        format!("/dev/drbd{}", self.0)
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint(pub SocketAddr);

impl fmt::Display for Endpoint {
    /// As drbdsetup wants it: the family is named, an IPv6 address is in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V4(address) => write!(f, "ipv4:{address}"),
            SocketAddr::V6(address) => write!(f, "ipv6:[{}]:{}", address.ip(), address.port()),
        }
    }
}

/// What a primary does when it loses its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fencing {
    /// Goes on alone.
    DontCare,
    /// Freezes I/O until the helper says that the peer's copy is declared outdated.
    ResourceAndStonith,
}

/// Options of the lower device. In 8.4 fencing and the pace of resync are among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// What a primary does when it loses its peer.
    pub fencing: Fencing,
    /// Number of 4 MiB extents that may be written to without an update of metadata.
    pub al_extents: u32,
    /// Upper limit of resync in KiB/s. The one of the sync target counts.
    pub max_rate_kib: u64,
    /// Pace that resync falls to while the application does I/O, in KiB/s; 0 turns this off.
    pub min_rate_kib: u64,
}

impl Default for DiskOptions {
    /// Freezing, since only the record outside decides who goes on alone. 1237 extents are 4.8 GiB to resync after a crash.
    fn default() -> Self {
        Self {
            fencing: Fencing::ResourceAndStonith,
            al_extents: 1237,
            max_rate_kib: 200 * 1024,
            min_rate_kib: 4 * 1024,
        }
    }
}

impl DiskOptions {
    fn arguments(&self) -> Vec<String> {
        let fencing = match self.fencing {
            Fencing::DontCare => "dont-care",
            Fencing::ResourceAndStonith => "resource-and-stonith",
        };
        vec![
            format!("--fencing={fencing}"),
            // A failed disk goes on with the peer's copy; there is nothing to be done for the I/O here.
            "--on-io-error=detach".to_owned(),
            format!("--al-extents={}", self.al_extents),
            "--c-plan-ahead=20".to_owned(),
            format!("--c-max-rate={}k", self.max_rate_kib),
            format!("--c-min-rate={}k", self.min_rate_kib),
            "--c-fill-target=1M".to_owned(),
        ]
    }
}

/// Options of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetOptions {
    /// Tenths of a second without an answer after which the peer counts as lost. Less than `ping_seconds` and `connect_seconds`.
    pub timeout_tenths: u32,
    /// Seconds of silence after which the peer is asked whether it is there.
    pub ping_seconds: u32,
    /// Seconds between two tries to connect.
    pub connect_seconds: u32,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            timeout_tenths: 15,
            ping_seconds: 2,
            connect_seconds: 3,
        }
    }
}

impl NetOptions {
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            // A write is done when both have it.
            "--protocol=C".to_owned(),
            format!("--timeout={}", self.timeout_tenths),
            format!("--ping-int={}", self.ping_seconds),
            "--ping-timeout=10".to_owned(),
            format!("--connect-int={}", self.connect_seconds),
            "--ko-count=4".to_owned(),
            "--max-buffers=8000".to_owned(),
            "--max-epoch-size=8000".to_owned(),
            "--verify-alg=crc32c".to_owned(),
        ];
        // A split brain is never healed by guessing: the record outside says whose data are discarded.
        for policy in [
            "after-sb-0pri",
            "after-sb-1pri",
            "after-sb-2pri",
            "rr-conflict",
        ] {
            arguments.push(format!("--{policy}=disconnect"));
        }
        arguments
    }
}

/// drbdsetup and drbdmeta by name or path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tools {
    pub(crate) drbdsetup: String,
    pub(crate) drbdmeta: String,
}

impl Tools {
    pub(crate) fn setup(&self, words: &[&str]) -> Command {
        Command::new(&self.drbdsetup).args(words)
    }

    pub(crate) fn attach(
        &self,
        minor: Minor,
        disk: &Path,
        metadata: &Path,
        options: &DiskOptions,
    ) -> Command {
        let command = self
            .setup(&["attach", &minor.to_string()])
            .arg(disk)
            .arg(metadata);
        command.arg("flexible").args(options.arguments())
    }

    pub(crate) fn connect(
        &self,
        resource: &ResourceName,
        local: Endpoint,
        peer: Endpoint,
        options: &NetOptions,
    ) -> Command {
        let words = [
            "connect",
            resource.as_str(),
            &local.to_string(),
            &peer.to_string(),
        ];
        self.setup(&words).args(options.arguments())
    }

    pub(crate) fn disconnect(&self, local: Endpoint, peer: Endpoint, force: bool) -> Command {
        let command = self.setup(&["disconnect", &local.to_string(), &peer.to_string()]);
        if force {
            command.arg("--force")
        } else {
            command
        }
    }

    /// `--force` answers questions, also the one whether to go on although the device is in use.
    pub(crate) fn meta(
        &self,
        minor: Minor,
        format: Format,
        device: &Path,
        placement: Placement,
        words: &[&str],
    ) -> Command {
        let command =
            Command::new(&self.drbdmeta).args(["--force", &minor.to_string(), format.as_str()]);
        command.arg(device).arg(placement.as_str()).args(words)
    }
}

/// Devices are named by absolute paths: anything else could be taken for an option or a keyword.
pub(crate) fn check_device(path: &Path) -> Result<String, DrbdError> {
    let object = path.display().to_string();
    if path.is_absolute() {
        return Ok(object);
    }
    Err(DrbdError::Request {
        object,
        problem: "not an absolute path of a device, such as /dev/vg/lv".to_owned(),
    })
}
