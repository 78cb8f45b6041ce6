//! Whether a pool's volume group is wholly ours to use. Pure.

use lvm2_cmd::{Report, Vg};

/// The volume group of this name, if there is one and it is sound; `Ok(None)` if there is none; otherwise a sentence.
pub fn sound<'a>(report: &'a Report, name: &'a str) -> Result<Option<&'a Vg>, String> {
    if report.foreign_vgs.iter().any(|vg| vg == name) {
        return Err(format!(
            "volume group {name} belongs to another machine (its system id is not this node's); `vgchange --systemid` makes it usable"
        ));
    }
    if report.vgs_named(name).count() > 1 {
        return Err(format!(
            "two volume groups are named {name}; rename one by its UUID with `vgrename`"
        ));
    }
    match report.vg(name) {
        None => Ok(None),
        Some(vg) => match trouble(vg) {
            Some(sentence) => Err(sentence),
            None => Ok(Some(vg)),
        },
    }
}

/// What is wrong with a volume group, one sentence.
pub fn trouble(vg: &Vg) -> Option<String> {
    let name = &vg.name;
    let missing: Vec<&str> = vg
        .pvs
        .iter()
        .filter(|pv| pv.missing || pv.device.is_none())
        .map(|pv| pv.uuid.as_str())
        .collect();
    if !missing.is_empty() || vg.partial || vg.missing_pvs > 0 {
        return Some(format!(
            "volume group {name} lacks the disk of physical volume {}; nothing can be made in it until the disk is back",
            missing.join(", ")
        ));
    }
    if let Some(pv) = vg.pvs.iter().find(|pv| pv.duplicate) {
        return Some(format!(
            "two disks carry physical volume {} of volume group {name}; take the copy away",
            pv.uuid
        ));
    }
    if vg.exported {
        return Some(format!(
            "volume group {name} is exported; `vgimport {name}` makes it usable"
        ));
    }
    if vg.shared {
        return Some(format!(
            "volume group {name} is shared between machines by lvmlockd"
        ));
    }
    if !vg.writeable {
        return Some(format!("volume group {name} is read-only"));
    }
    None
}
