//! DRBD's metadata on a device, as `drbdmeta dump-md` shows it: is there any, of which version, of what state.

use std::fmt;

/// On-disk formats. Each version of DRBD reads its own only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Of 8.0 to 8.4.
    V08,
    /// Of 9.
    V09,
}

impl Format {
    /// All of them, the newest first.
    pub const ALL: [Self; 2] = [Self::V09, Self::V08];

    /// The word that drbdmeta and blkid use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V08 => "v08",
            Self::V09 => "v09",
        }
    }

    /// The format that this word means.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == word)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where on a device the metadata is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// At the end of the device that also holds the data: the device is larger than the volume.
    Internal,
    /// At the start of a device of its own, growing to its end.
    FlexExternal,
}

impl Placement {
    /// The word that drbdmeta uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::FlexExternal => "flex-external",
        }
    }
}

/// The metadata of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Which version of DRBD wrote it.
    pub format: Format,
    /// Identifier of the current generation of data. 4 is "just created": no data yet.
    pub current_uuid: u64,
    /// Size of the data as last agreed with the peer, in sectors of 512 bytes; 0 if never.
    pub agreed_sectors: u64,
    /// Whether the activity log has to be applied before attaching: the node crashed, or the device is attached now.
    pub unclean: bool,
}

impl Metadata {
    /// Whether no data were ever written under it.
    #[must_use]
    pub fn just_created(&self) -> bool {
        // The lowest bit says "was primary" and is not part of the identifier.
        self.current_uuid & !1 == 4
    }
}

/// Parses the output of `dump-md`. `None` if it is not one, or of a format that is not known.
#[must_use]
pub fn parse_dump(text: &str) -> Option<Metadata> {
    let mut format = None;
    let mut uuid = None;
    let mut sectors = None;
    let mut unclean = false;
    let mut in_uuids = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("This_is_an_unclean_meta_data_dump") {
            unclean = true;
        } else if line == "uuid {" {
            in_uuids = true;
        } else if in_uuids {
            // The first of four: current, bitmap's base, two of history.
            uuid = hex(line.split(';').next()?);
            in_uuids = false;
        } else if let Some((key, value)) =
            line.strip_suffix(';').and_then(|line| line.split_once(' '))
        {
            match key {
                "version" => format = Format::from_word(value.trim_matches('"')),
                "current-uuid" => uuid = hex(value),
                "la-size-sect" => sectors = value.parse().ok(),
                _ => {}
            }
        }
    }
    Some(Metadata {
        format: format?,
        current_uuid: uuid?,
        agreed_sectors: sectors?,
        unclean,
    })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}
