//! Mount options as users write them, turned into what `mount(2)` takes.

use rustix::mount::MountFlags;

use super::fs::FsType;

/// Flags and the file system's own options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Flags for the kernel.
    pub flags: MountFlags,
    /// What is left for the file system, comma separated.
    pub data: String,
}

impl Options {
    /// Whether writing was not asked for.
    pub fn read_only(&self) -> bool {
        self.flags.contains(MountFlags::RDONLY)
    }
}

/// Why an option can't be used: the option and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mount option {option:?} {problem}")]
pub struct OptionError {
    option: String,
    problem: &'static str,
}

/// Options that are about where and how something is mounted. That is the driver's business, not the user's.
const REFUSED: &[&str] = &[
    "bind",
    "rbind",
    "move",
    "remount",
    "loop",
    "offset",
    "sizelimit",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "private",
    "rprivate",
    "unbindable",
    "runbindable",
];

/// Options for `mount(8)` and `fstab(5)` that mean nothing to the kernel.
const IGNORED: &[&str] = &[
    "defaults", "auto", "noauto", "nofail", "_netdev", "user", "nouser", "users", "owner", "group",
];

/// Reads options in order; a later one undoes an earlier one, as with `mount(8)`. One flag may hold several, comma separated.
///
/// xfs always gets `nouuid`, so that a restored or cloned copy mounts beside its origin.
pub fn parse<S: AsRef<str>>(fs: &FsType, flags: &[S]) -> Result<Options, OptionError> {
    let mut options = Options {
        flags: MountFlags::empty(),
        data: String::new(),
    };
    for option in flags.iter().flat_map(|flag| flag.as_ref().split(',')) {
        add(&mut options, option.trim())?;
    }
    if *fs == FsType::Xfs && !options.data.split(',').any(|option| option == "nouuid") {
        push(&mut options.data, "nouuid");
    }
    Ok(options)
}

fn add(options: &mut Options, option: &str) -> Result<(), OptionError> {
    let refuse = |problem| {
        Err(OptionError {
            option: option.to_owned(),
            problem,
        })
    };
    let key = option.split('=').next().unwrap_or_default();
    if option.is_empty() || IGNORED.contains(&key) || key.starts_with("x-") || key == "comment" {
        return Ok(());
    }
    if option.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return refuse("contains white space or control characters");
    }
    if REFUSED.contains(&key) {
        return refuse(
            "is not an option of a file system; the driver decides where and how a volume is mounted",
        );
    }
    match flag(option) {
        Some((flag, true)) => options.flags |= flag,
        Some((flag, false)) => options.flags -= flag,
        None => push(&mut options.data, option),
    }
    Ok(())
}

fn push(data: &mut String, option: &str) {
    if !data.is_empty() {
        data.push(',');
    }
    data.push_str(option);
}

/// The kernel's flag for a word, and whether the word sets or clears it.
fn flag(option: &str) -> Option<(MountFlags, bool)> {
    Some(match option {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        "lazytime" => (MountFlags::LAZYTIME, true),
        "nolazytime" => (MountFlags::LAZYTIME, false),
        "silent" => (MountFlags::SILENT, true),
        "loud" => (MountFlags::SILENT, false),
        "iversion" => (MountFlags::from_bits_retain(1 << 23), true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_data_are_told_apart() {
        let options = parse(
            &FsType::Ext4,
            &["noatime,nodev", "data=journal", "commit=30", "ro", "rw"],
        )
        .unwrap();
        assert_eq!(options.flags, MountFlags::NOATIME | MountFlags::NODEV);
        assert_eq!(options.data, "data=journal,commit=30");
    }

    #[test]
    fn xfs_gets_nouuid_once() {
        assert_eq!(parse::<&str>(&FsType::Xfs, &[]).unwrap().data, "nouuid");
        assert_eq!(
            parse(&FsType::Xfs, &["nouuid", "logbsize=256k"])
                .unwrap()
                .data,
            "nouuid,logbsize=256k"
        );
        assert_eq!(parse::<&str>(&FsType::Btrfs, &[]).unwrap().data, "");
    }

    #[test]
    fn words_for_mount_8_are_left_out() {
        let options = parse(
            &FsType::Ext4,
            &[
                "defaults",
                "_netdev",
                "nofail",
                "x-systemd.device-timeout=5",
                "",
            ],
        )
        .unwrap();
        assert_eq!(
            options,
            Options {
                flags: MountFlags::empty(),
                data: String::new()
            }
        );
    }

    #[test]
    fn what_would_redirect_the_mount_is_refused_by_name() {
        for option in ["bind", "remount,ro", "loop=/dev/loop0", "a b", "x\ny"] {
            let error = parse(&FsType::Ext4, &[option]).unwrap_err();
            assert!(error.to_string().starts_with("mount option"), "{error}");
        }
    }
}
