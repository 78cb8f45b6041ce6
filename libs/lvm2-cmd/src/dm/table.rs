//! Device-mapper tables. Lengths and offsets are sectors of 512 bytes.

use std::fmt;
use std::str::FromStr;

use crate::error::LvmError;

/// Bytes in a sector.
pub const SECTOR: u64 = 512;

/// One line of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub start: u64,
    pub length: u64,
    /// `linear`, `error`, `flakey`, ...
    pub kind: String,
    /// As the kernel writes it: devices as `MAJOR:MINOR`.
    pub parameters: String,
}

/// What a device is made of; targets in order, without holes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table(Vec<Target>);

impl Table {
    /// Checks what the kernel would refuse: no target, a hole, an empty target, more than one line in a parameter.
    pub fn new(targets: Vec<Target>) -> Result<Self, LvmError> {
        let mut end = 0;
        for target in &targets {
            if target.start != end {
                return Err(senseless(format!(
                    "a target starts at sector {}, expected {end}",
                    target.start
                )));
            }
            if target.length == 0 {
                return Err(senseless(format!("the target at sector {end} is empty")));
            }
            if target.kind.is_empty()
                || !target
                    .kind
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
                || target.parameters.contains(char::is_control)
            {
                return Err(senseless(format!(
                    "the target at sector {end} has a senseless type or parameter"
                )));
            }
            end = end
                .checked_add(target.length)
                .ok_or_else(|| senseless("it is longer than 2^64 sectors".to_owned()))?;
        }
        if targets.is_empty() {
            return Err(senseless("it has no target".to_owned()));
        }
        Ok(Self(targets))
    }

    /// All of a lower device, or a run of it: `bytes` from `offset_bytes` on. Both whole sectors.
    pub fn linear(bytes: u64, lower: (u32, u32), offset_bytes: u64) -> Result<Self, LvmError> {
        if !bytes.is_multiple_of(SECTOR) || !offset_bytes.is_multiple_of(SECTOR) {
            return Err(senseless(format!(
                "{bytes} bytes from {offset_bytes} are not whole sectors"
            )));
        }
        Self::new(vec![Target {
            start: 0,
            length: bytes / SECTOR,
            kind: "linear".to_owned(),
            parameters: format!("{}:{} {}", lower.0, lower.1, offset_bytes / SECTOR),
        }])
    }

    /// A device of which every read and write fails.
    pub fn error(bytes: u64) -> Result<Self, LvmError> {
        Self::new(vec![Target {
            start: 0,
            length: bytes / SECTOR,
            kind: "error".to_owned(),
            parameters: String::new(),
        }])
    }

    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.0
    }

    /// Size of the device.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0
            .iter()
            .map(|t| t.length)
            .sum::<u64>()
            .saturating_mul(SECTOR)
    }

    /// The lower device, if the table is one linear target from that device's start.
    #[must_use]
    pub fn linear_over(&self) -> Option<(u32, u32)> {
        let [target] = self.0.as_slice() else {
            return None;
        };
        let (device, offset) = target.parameters.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        (target.kind == "linear" && offset == "0")
            .then(|| Some((major.parse().ok()?, minor.parse().ok()?)))?
    }
}

fn senseless(problem: String) -> LvmError {
    LvmError::Request {
        object: "device-mapper table".to_owned(),
        problem,
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for t in &self.0 {
            let line = format!("{} {} {} {}", t.start, t.length, t.kind, t.parameters);
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Reads what `dmsetup table NAME` prints.
impl FromStr for Table {
    type Err = LvmError;

    fn from_str(text: &str) -> Result<Self, LvmError> {
        let targets = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .map(|line| {
                let bad = || LvmError::Answer {
                    program: "dmsetup table".to_owned(),
                    problem: format!("line {line:?}"),
                };
                let mut words = line.splitn(4, ' ');
                let mut word = || words.next().filter(|w| !w.is_empty());
                let start = word().and_then(|w| w.parse().ok()).ok_or_else(bad)?;
                let length = word().and_then(|w| w.parse().ok()).ok_or_else(bad)?;
                let kind = word().ok_or_else(bad)?.to_owned();
                let parameters = word().unwrap_or_default().to_owned();
                Ok(Target {
                    start,
                    length,
                    kind,
                    parameters,
                })
            })
            .collect::<Result<Vec<_>, LvmError>>()?;
        if targets.is_empty() {
            // A device without a live table.
            return Ok(Self::default());
        }
        Self::new(targets)
    }
}
