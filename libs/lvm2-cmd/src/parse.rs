//! From the JSON of `lvm fullreport` to [`Report`]. Pure; unknown keys are borne, missing or senseless numbers are not.

use serde::Deserialize;
use std::path::PathBuf;

use crate::error::LvmError;
use crate::report::{Duplicate, Lv, Pv, Report, Segment, Vg};

/// Fields asked for, in the order of the options of `fullreport`.
pub(crate) const COLUMNS: [(&str, &str); 5] = [
    (
        "vg",
        "vg_uuid,vg_name,vg_permissions,vg_extendable,vg_exported,vg_partial,vg_shared,vg_systemid,vg_size,vg_extent_size,\
         vg_extent_count,vg_free_count,vg_missing_pv_count,vg_tags,vg_seqno",
    ),
    (
        "pv",
        "pv_uuid,pv_name,dev_size,pv_size,pv_pe_count,pv_pe_alloc_count,pv_allocatable,pv_missing,pv_in_use,pv_duplicate,\
         pv_tags,pv_major,pv_minor",
    ),
    (
        "lv",
        "lv_uuid,lv_name,lv_path,lv_dm_path,lv_size,lv_tags,lv_active,lv_suspended,lv_device_open,lv_permissions,\
         lv_kernel_major,lv_kernel_minor,lv_layout,lv_role,origin,pool_lv,lv_health_status,data_percent,metadata_percent",
    ),
    ("pvseg", "pv_uuid"),
    ("seg", "lv_uuid,segtype,seg_start_pe,seg_size_pe,devices"),
];

#[derive(Deserialize)]
struct Answer {
    report: Vec<Group>,
    #[serde(default)]
    log: Vec<RawLog>,
}

/// Newer versions put complaints here instead of standard error.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
struct RawLog {
    log_type: String,
    log_message: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Group {
    vg: Vec<RawVg>,
    pv: Vec<RawPv>,
    lv: Vec<RawLv>,
    seg: Vec<RawSeg>,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "LVM's names of columns")]
struct RawVg {
    vg_uuid: String,
    vg_name: String,
    vg_permissions: String,
    vg_extendable: String,
    vg_exported: String,
    vg_partial: String,
    vg_shared: String,
    vg_systemid: String,
    vg_size: String,
    vg_extent_size: String,
    vg_extent_count: String,
    vg_free_count: String,
    vg_missing_pv_count: String,
    vg_tags: String,
    vg_seqno: String,
}

#[derive(Deserialize)]
struct RawPv {
    pv_uuid: String,
    pv_name: String,
    dev_size: String,
    pv_size: String,
    pv_pe_count: String,
    pv_pe_alloc_count: String,
    pv_allocatable: String,
    pv_missing: String,
    pv_in_use: String,
    pv_duplicate: String,
    pv_tags: String,
    pv_major: String,
    pv_minor: String,
}

#[derive(Deserialize)]
struct RawLv {
    lv_uuid: String,
    lv_name: String,
    lv_path: String,
    lv_dm_path: String,
    lv_size: String,
    lv_tags: String,
    lv_active: String,
    lv_suspended: String,
    lv_device_open: String,
    lv_permissions: String,
    lv_kernel_major: String,
    lv_kernel_minor: String,
    lv_layout: String,
    lv_role: String,
    origin: String,
    pool_lv: String,
    lv_health_status: String,
    data_percent: String,
    metadata_percent: String,
}

#[derive(Deserialize)]
struct RawSeg {
    lv_uuid: String,
    segtype: String,
    seg_start_pe: String,
    seg_size_pe: String,
    devices: String,
}

fn misunderstood(problem: String) -> LvmError {
    LvmError::Answer {
        program: "lvm fullreport".to_owned(),
        problem,
    }
}

fn number(field: &str, text: &str) -> Result<u64, LvmError> {
    text.parse()
        .map_err(|_| misunderstood(format!("{field} is {text:?}, not a number")))
}

/// With `--binary`: "1" yes, "0" no, "-1" unknown. Some fields of some versions answer in a word.
fn yes(text: &str) -> bool {
    !matches!(text, "" | "0" | "-1" | "unknown")
}

fn list(text: &str) -> Vec<String> {
    text.split(',')
        .filter(|s| !s.is_empty())
        .map(str::to_owned)
        .collect()
}

fn major_minor(major: &str, minor: &str) -> Option<(u32, u32)> {
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// `json` is standard output, `stderr` the complaints.
pub(crate) fn report(json: &[u8], stderr: &str) -> Result<Report, LvmError> {
    let answer: Answer = serde_json::from_slice(json).map_err(|e| misunderstood(e.to_string()))?;
    let warnings = warnings(stderr, &answer.log);
    let mut report = Report {
        duplicates: warnings.iter().filter_map(|w| duplicate(w)).collect(),
        foreign_vgs: warnings.iter().filter_map(|w| foreign_vg(w)).collect(),
        warnings,
        ..Report::default()
    };
    for group in answer.report {
        let pvs = group
            .pv
            .into_iter()
            .map(pv)
            .collect::<Result<Vec<_>, _>>()?;
        let segments = group
            .seg
            .into_iter()
            .map(|s| Ok((s.lv_uuid.clone(), segment(&s)?)))
            .collect::<Result<Vec<_>, LvmError>>()?;
        let lvs = group
            .lv
            .into_iter()
            .map(|l| lv(l, &segments))
            .collect::<Result<Vec<_>, _>>()?;
        match group.vg.into_iter().next() {
            Some(raw) => report.vgs.push(vg(raw, pvs, lvs)?),
            None => report.orphans.extend(pvs),
        }
    }
    mark_duplicates(&mut report);
    Ok(report)
}

/// The rows of a report show the device that LVM prefers, and do not say that there is another.
fn mark_duplicates(report: &mut Report) {
    let Report {
        vgs,
        orphans,
        duplicates,
        ..
    } = report;
    for pv in vgs
        .iter_mut()
        .flat_map(|vg| &mut vg.pvs)
        .chain(orphans.iter_mut())
    {
        pv.duplicate |= duplicates.iter().any(|d| d.pv_uuid == pv.uuid);
    }
}

/// `WARNING: Not using device /dev/sdc for PV OfFewU-....`
fn duplicate(warning: &str) -> Option<Duplicate> {
    let (_, rest) = warning.split_once("Not using device ")?;
    let (device, uuid) = rest.split_once(" for PV ")?;
    Some(Duplicate {
        device: PathBuf::from(device),
        pv_uuid: uuid.trim_end_matches('.').to_owned(),
    })
}

/// `Cannot access VG LocalStorage_PoolHDD with system ID other with ...`
fn foreign_vg(warning: &str) -> Option<String> {
    let rest = warning.strip_prefix("Cannot access VG ")?;
    Some(rest.split_once(" with system ID ")?.0.to_owned())
}

fn warnings(stderr: &str, log: &[RawLog]) -> Vec<String> {
    let logged = log
        .iter()
        .filter(|entry| entry.log_type != "status")
        .map(|entry| entry.log_message.as_str());
    let mut warnings: Vec<String> = Vec::new();
    for line in stderr.lines().chain(logged).map(str::trim) {
        if !line.is_empty() && !warnings.iter().any(|w| w == line) {
            warnings.push(line.to_owned());
        }
    }
    warnings
}

fn vg(raw: RawVg, pvs: Vec<Pv>, lvs: Vec<Lv>) -> Result<Vg, LvmError> {
    Ok(Vg {
        writeable: raw.vg_permissions.starts_with("writ"),
        extendable: yes(&raw.vg_extendable),
        exported: yes(&raw.vg_exported),
        partial: yes(&raw.vg_partial),
        shared: yes(&raw.vg_shared),
        size_bytes: number("vg_size", &raw.vg_size)?,
        extent_bytes: number("vg_extent_size", &raw.vg_extent_size)?,
        extents: number("vg_extent_count", &raw.vg_extent_count)?,
        free_extents: number("vg_free_count", &raw.vg_free_count)?,
        missing_pvs: number("vg_missing_pv_count", &raw.vg_missing_pv_count)?,
        sequence: number("vg_seqno", &raw.vg_seqno)?,
        tags: list(&raw.vg_tags),
        uuid: raw.vg_uuid,
        name: raw.vg_name,
        system_id: raw.vg_systemid,
        pvs,
        lvs,
    })
}

fn pv(raw: RawPv) -> Result<Pv, LvmError> {
    Ok(Pv {
        // A missing one is called "[unknown]".
        device: raw
            .pv_name
            .starts_with('/')
            .then(|| PathBuf::from(&raw.pv_name)),
        major_minor: major_minor(&raw.pv_major, &raw.pv_minor),
        device_bytes: number("dev_size", &raw.dev_size)?,
        size_bytes: number("pv_size", &raw.pv_size)?,
        extents: number("pv_pe_count", &raw.pv_pe_count)?,
        allocated_extents: number("pv_pe_alloc_count", &raw.pv_pe_alloc_count)?,
        allocatable: yes(&raw.pv_allocatable),
        missing: yes(&raw.pv_missing),
        duplicate: yes(&raw.pv_duplicate),
        in_use: yes(&raw.pv_in_use),
        tags: list(&raw.pv_tags),
        uuid: raw.pv_uuid,
    })
}

fn lv(raw: RawLv, segments: &[(String, Segment)]) -> Result<Lv, LvmError> {
    let bare = raw
        .lv_name
        .strip_prefix('[')
        .and_then(|n| n.strip_suffix(']'));
    let mut own: Vec<Segment> = segments
        .iter()
        .filter(|(uuid, _)| *uuid == raw.lv_uuid)
        .map(|(_, s)| s.clone())
        .collect();
    own.sort_by_key(|s| s.start_extent);
    Ok(Lv {
        hidden: bare.is_some(),
        name: bare.unwrap_or(&raw.lv_name).to_owned(),
        path: raw.lv_path.into(),
        dm_path: raw.lv_dm_path.into(),
        size_bytes: number("lv_size", &raw.lv_size)?,
        tags: list(&raw.lv_tags),
        active: yes(&raw.lv_active),
        suspended: yes(&raw.lv_suspended),
        open: yes(&raw.lv_device_open),
        read_only: raw.lv_permissions.starts_with("read-only"),
        major_minor: major_minor(&raw.lv_kernel_major, &raw.lv_kernel_minor),
        layout: list(&raw.lv_layout),
        role: list(&raw.lv_role),
        origin: raw.origin,
        pool: raw.pool_lv,
        health: raw.lv_health_status,
        data_percent: some(raw.data_percent),
        metadata_percent: some(raw.metadata_percent),
        segments: own,
        uuid: raw.lv_uuid,
    })
}

fn segment(raw: &RawSeg) -> Result<Segment, LvmError> {
    Ok(Segment {
        kind: raw.segtype.clone(),
        start_extent: number("seg_start_pe", &raw.seg_start_pe)?,
        extents: number("seg_size_pe", &raw.seg_size_pe)?,
        // "/dev/sdb(10),/dev/sdc(0)": the first extent in parentheses.
        devices: list(&raw.devices)
            .iter()
            .map(|d| PathBuf::from(d.rsplit_once('(').map_or(d.as_str(), |(device, _)| device)))
            .collect(),
    })
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
