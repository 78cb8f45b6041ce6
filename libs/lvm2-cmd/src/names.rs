//! Which names and tags LVM and device-mapper accept. A name that passes here can't be taken for an option either.

/// LVM's limit for a volume group and a logical volume, and device-mapper's for a device, without the final zero.
pub const MAX_NAME: usize = 127;
/// LVM's limit for a tag.
pub const MAX_TAG: usize = 1024;

/// Why a name can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} name {name:?} {problem}")]
pub struct NameError {
    kind: &'static str,
    name: String,
    problem: &'static str,
}

/// Suffixes and prefixes that LVM keeps for devices of its own.
const RESERVED_PREFIXES: [&str; 2] = ["snapshot", "pvmove"];
const RESERVED_PARTS: [&str; 13] = [
    "_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_mlog", "_mimage", "_pmspare", "_rimage",
    "_rmeta", "_tdata", "_tmeta", "_vorigin",
];

fn plain(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > MAX_NAME {
        Some("is longer than 127 bytes")
    } else if name == "." || name == ".." {
        Some("is a folder's name")
    } else if name.starts_with('-') {
        Some("starts with a hyphen")
    } else if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"+_.-".contains(&b))
    {
        Some("has characters other than a-z A-Z 0-9 + _ . -")
    } else {
        None
    }
}

fn named(kind: &'static str, name: &str, problem: Option<&'static str>) -> Result<(), NameError> {
    match problem {
        None => Ok(()),
        Some(problem) => Err(NameError {
            kind,
            name: name.to_owned(),
            problem,
        }),
    }
}

/// Checks a volume group's name.
pub fn check_vg(name: &str) -> Result<(), NameError> {
    named("volume group", name, plain(name))
}

/// Checks a logical volume's name.
pub fn check_lv(name: &str) -> Result<(), NameError> {
    let reserved = || {
        RESERVED_PREFIXES.iter().any(|p| name.starts_with(p))
            || RESERVED_PARTS.iter().any(|p| name.contains(p))
            || name.contains("_vdata")
            || name.contains("_imeta")
    };
    named(
        "logical volume",
        name,
        plain(name).or_else(|| reserved().then_some("is reserved by LVM")),
    )
}

/// Checks a tag: up to 1024 of `a-z A-Z 0-9 _ + . - / = ! : # &`, not starting with a hyphen.
pub fn check_tag(tag: &str) -> Result<(), NameError> {
    let problem = if tag.is_empty() {
        Some("is empty")
    } else if tag.len() > MAX_TAG {
        Some("is longer than 1024 bytes")
    } else if tag.starts_with('-') {
        Some("starts with a hyphen")
    } else if !tag
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_+.-/=!:#&".contains(&b))
    {
        Some("has characters other than a-z A-Z 0-9 _ + . - / = ! : # &")
    } else {
        None
    };
    named("tag", tag, problem)
}

/// Checks the UUID of a physical volume: 32 of `a-z A-Z 0-9` in groups of 6-4-4-4-4-4-6.
pub fn check_pv_uuid(uuid: &str) -> Result<(), NameError> {
    let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
    let well = groups == [6, 4, 4, 4, 4, 4, 6]
        && uuid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    named(
        "physical volume UUID",
        uuid,
        (!well).then_some("is not of the form 6-4-4-4-4-4-6 letters and digits"),
    )
}

/// Checks the UUID of a logical volume: as [`check_pv_uuid`], also with the `!` and `#` of LVM's first format.
pub fn check_lv_uuid(uuid: &str) -> Result<(), NameError> {
    let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
    let well = groups == [6, 4, 4, 4, 4, 4, 6]
        && uuid
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-!#".contains(&b));
    named(
        "logical volume UUID",
        uuid,
        (!well).then_some("is not of the form 6-4-4-4-4-4-6 letters and digits"),
    )
}

/// Checks the name of a device-mapper device.
pub fn check_dm(name: &str) -> Result<(), NameError> {
    named("device-mapper", name, plain(name))
}

/// Checks the UUID of a device-mapper device: up to 128 printable bytes without white space.
pub fn check_dm_uuid(uuid: &str) -> Result<(), NameError> {
    let problem = if uuid.is_empty() {
        Some("is empty")
    } else if uuid.len() > 128 {
        Some("is longer than 128 bytes")
    } else if uuid.starts_with('-') {
        Some("starts with a hyphen")
    } else if !uuid.bytes().all(|b| b.is_ascii_graphic() && b != b'|') {
        Some("has unprintable characters, white space or a bar")
    } else {
        None
    };
    named("device-mapper UUID", uuid, problem)
}

/// Checks a device's path: absolute, plain.
pub fn check_device(path: &std::path::Path) -> Result<(), NameError> {
    let text = path.to_string_lossy();
    let problem = if !path.is_absolute() {
        Some("is not an absolute path")
    } else if text.chars().any(|c| c.is_control() || c.is_whitespace()) || path.to_str().is_none() {
        Some("has white space or unprintable characters")
    } else if path
        .components()
        .any(|c| matches!(c, std::path::Component::ParentDir))
    {
        Some("has .. in it")
    } else {
        None
    };
    named("device", &text, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lvm_accepts() {
        check_vg("LocalStorage_PoolSSD").unwrap();
        check_lv("pvc-0f3ad3c2-7c2b-4b5e-8a55-1d0d6a1d7a11").unwrap();
        check_lv(&"x".repeat(127)).unwrap();
        check_tag("hawser.io/claim=default/data-0").unwrap();
        check_dm_uuid("LVM-hawser_front_pvc_1").unwrap();
        check_pv_uuid("OfFewU-agyb-OdEF-cSjy-fVZI-P1b3-6UeEEy").unwrap();
        check_lv_uuid("dUE9uo-w42E-aU0G-IGdX-g93o-JpeA-B9o3U#").unwrap();
        check_device("/dev/disk/by-path/pci-0000:00:1f.2-ata-1".as_ref()).unwrap();
    }

    #[test]
    fn names_that_are_refused() {
        for name in [
            "",
            "-n",
            ".",
            "..",
            "a b",
            "a/b",
            "ä",
            "a\n",
            "snapshot1",
            "pvmove0",
            "x_tdata",
            "a_vorigin",
            "y_imeta",
        ] {
            assert!(check_lv(name).is_err(), "{name:?}");
        }
        assert!(check_lv(&"x".repeat(128)).is_err());
        // What LVM keeps for logical volumes is fine for a group.
        check_vg("snapshot1").unwrap();
        for tag in ["", "-x", "a b", "a,b", "a@b", "ü"] {
            assert!(check_tag(tag).is_err(), "{tag:?}");
        }
        for path in ["sda", "/dev/../etc", "/dev/a b", ""] {
            assert!(check_device(path.as_ref()).is_err(), "{path:?}");
        }
        assert!(check_dm_uuid("a|b").is_err());
        for uuid in ["", "OfFewU", "OfFewU-agyb-OdEF-cSjy-fVZI-P1b3-6UeEE?"] {
            assert!(check_pv_uuid(uuid).is_err(), "{uuid:?}");
            assert!(check_lv_uuid(uuid).is_err(), "{uuid:?}");
        }
    }

    #[test]
    fn the_sentence_names_the_name() {
        let error = check_lv("a b").unwrap_err().to_string();
        assert_eq!(
            error,
            "logical volume name \"a b\" has characters other than a-z A-Z 0-9 + _ . -"
        );
    }
}
