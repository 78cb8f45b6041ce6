//! Versions of the kernel module and of the tools.

use std::fmt;

/// Major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Version {
    /// `8.4.11`, `9.2.4-1.el9`: what follows the third number is left out.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text
            .split(|c: char| !c.is_ascii_digit())
            .take(3)
            .map(|part| part.parse().ok());
        Some(Self(numbers.next()??, numbers.next()??, numbers.next()??))
    }
}

/// The loaded kernel module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleVersion {
    /// Its version.
    pub version: Version,
    /// Version of its interface to the tools: 1 for 8.4, 2 for 9.
    pub api: u32,
    /// Lowest and highest version of the protocol between nodes that it speaks.
    pub protocol: (u32, u32),
}

impl ModuleVersion {
    /// The first line of `/proc/drbd`: `version: 8.4.11 (api:1/proto:86-101)`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (version, rest) = line
            .trim()
            .strip_prefix("version: ")?
            .split_once(" (api:")?;
        let (api, protocol) = rest.strip_suffix(')')?.split_once("/proto:")?;
        let (low, high) = protocol.split_once('-')?;
        Some(Self {
            version: Version::parse(version)?,
            api: api.parse().ok()?,
            protocol: (low.parse().ok()?, high.parse().ok()?),
        })
    }

    /// Whether this is 8.4, the one that this driver's commands are written for.
    #[must_use]
    pub fn is_84(&self) -> bool {
        (self.version.0, self.version.1) == (8, 4)
    }
}

/// The version of drbd-utils from `drbdadm --version`, which works without a module and without configuration.
#[must_use]
pub fn parse_drbdadm_version(text: &str) -> Option<Version> {
    text.lines()
        .find_map(|line| line.strip_prefix("DRBDADM_VERSION="))
        .and_then(Version::parse)
}
