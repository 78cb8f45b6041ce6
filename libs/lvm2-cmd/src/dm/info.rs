//! `dmsetup info` in columns.

use crate::error::LvmError;

pub(super) const COLUMNS: &str =
    "name,uuid,major,minor,open,segments,events,suspended,tables_loaded,readonly";

/// A device-mapper device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, as dmsetup lists them"
)]
pub struct Device {
    pub name: String,
    pub uuid: String,
    pub major: u32,
    pub minor: u32,
    /// How many hold it open: mounts, programs, devices on top.
    pub open: u32,
    /// Targets of the live table.
    pub segments: u32,
    pub events: u32,
    pub suspended: bool,
    pub live_table: bool,
    pub inactive_table: bool,
    pub read_only: bool,
}

fn misunderstood(line: &str) -> LvmError {
    LvmError::Answer {
        program: "dmsetup info".to_owned(),
        problem: format!("line {line:?}"),
    }
}

pub(super) fn parse(text: &str) -> Result<Vec<Device>, LvmError> {
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    // With no device at all there is a sentence instead of a table.
    lines
        .filter(|l| *l != "No devices found")
        .map(device)
        .collect()
}

fn device(line: &str) -> Result<Device, LvmError> {
    let columns: Vec<&str> = line.split('|').collect();
    let [
        name,
        uuid,
        major,
        minor,
        open,
        segments,
        events,
        suspended,
        tables,
        read_only,
    ] = columns[..]
    else {
        return Err(misunderstood(line));
    };
    let number = |text: &str| text.parse::<u32>().map_err(|_| misunderstood(line));
    Ok(Device {
        name: name.to_owned(),
        uuid: uuid.to_owned(),
        major: number(major)?,
        minor: number(minor)?,
        open: number(open)?,
        segments: number(segments)?,
        events: number(events)?,
        suspended: suspended == "Suspended",
        live_table: matches!(tables, "Live" | "Both"),
        inactive_table: matches!(tables, "Inactive" | "Both"),
        read_only: read_only == "Read-only",
    })
}
