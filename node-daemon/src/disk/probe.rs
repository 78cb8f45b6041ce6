//! What a device carries, read from the device itself by `blkid -p`.

use std::path::Path;
use std::time::Duration;

use hawser_command::{Command, CommandError, Exit};

/// A healthy disk answers in milliseconds; a failing one must not hold up the others.
const DEADLINE: Duration = Duration::from_secs(10);

/// What lies on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// No signature that libblkid knows.
    Blank,
    /// A file system, or a member of something: LVM, RAID, DRBD, LUKS, ...
    Signature {
        /// As blkid names it: `ext4`, `LVM2_member`, `linux_raid_member`, `drbd`, `crypto_LUKS`, `swap`, ...
        kind: String,
        uuid: String,
    },
    /// A partition table, with or without partitions.
    Table { kind: String },
    /// It could not be read, or several signatures contradict each other. Never to be taken for blank.
    Unknown { why: String },
}

/// The signature of a physical volume.
pub const LVM_MEMBER: &str = "LVM2_member";

/// Reads the signatures of a device. `blkid` gives the same answer for an empty device and one that can't be opened, so
/// this opens it first.
pub async fn probe(device: &Path) -> Content {
    let path = device.to_owned();
    let opened = tokio::task::spawn_blocking(move || std::fs::File::open(path)).await;
    match opened {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            return Content::Unknown {
                why: format!("it can't be opened: {error}"),
            };
        }
        Err(_) => {
            return Content::Unknown {
                why: "shutting down".to_owned(),
            };
        }
    }
    let command = Command::new("blkid")
        .args(["-p", "-o", "export", "--"])
        .arg(device)
        .deadline(DEADLINE)
        .max_output(64 * 1024);
    match command.output().await {
        Ok(output) => content(output.exit, &output.stdout_text(), &output.stderr_text()),
        Err(error) => Content::Unknown {
            why: unreadable(&error),
        },
    }
}

fn unreadable(error: &CommandError) -> String {
    if error.is_not_found() {
        "blkid is not installed".to_owned()
    } else if error.is_deadline() {
        "reading it takes too long".to_owned()
    } else {
        error.to_string()
    }
}

/// Exit status 0: found, 2: nothing found, 8: contradicting signatures.
fn content(exit: Exit, stdout: &str, stderr: &str) -> Content {
    let value = |key: &str| {
        stdout
            .lines()
            .find_map(|l| l.strip_prefix(key)?.strip_prefix('='))
            .map(str::to_owned)
    };
    match exit {
        Exit::Code(0) => match (value("TYPE"), value("PTTYPE")) {
            (Some(kind), _) => Content::Signature {
                kind,
                uuid: value("UUID").unwrap_or_default(),
            },
            (None, Some(kind)) => Content::Table { kind },
            // Topology only: some versions print sizes of a blank device.
            (None, None) if value("PART_ENTRY_SCHEME").is_some() || stdout.trim().is_empty() => {
                Content::Blank
            }
            (None, None) => Content::Unknown {
                why: format!("blkid says {:?}", stdout.trim()),
            },
        },
        Exit::Code(2) if stderr.is_empty() => Content::Blank,
        Exit::Code(8) => Content::Unknown {
            why: "it carries several signatures that contradict each other".to_owned(),
        },
        Exit::Code(_) | Exit::Signal(_) => Content::Unknown {
            why: format!("blkid ended with {exit}: {stderr}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn recorded_answers() {
        let lvm = "DEVNAME=/dev/ubdd\nUUID=IwtT2u-ieYz-o0uq-WPC8-ozt2-GSd2-5oQEyS\nVERSION=LVM2\\ 001\nTYPE=LVM2_member\nUSAGE=raid\n";
        let found = content(Exit::Code(0), lvm, "");
        assert_eq!(
            found,
            Content::Signature {
                kind: LVM_MEMBER.to_owned(),
                uuid: "IwtT2u-ieYz-o0uq-WPC8-ozt2-GSd2-5oQEyS".to_owned()
            }
        );
        assert_eq!(
            content(Exit::Code(0), "DEVNAME=/dev/ubdd\nPTTYPE=dos\n", ""),
            Content::Table {
                kind: "dos".to_owned()
            }
        );
        assert_eq!(content(Exit::Code(2), "", ""), Content::Blank);
        let partition = "DEVNAME=/dev/ubdd1\nPART_ENTRY_SCHEME=dos\nPART_ENTRY_TYPE=0x83\n";
        assert_eq!(content(Exit::Code(0), partition, ""), Content::Blank);
    }

    #[test]
    fn doubt_is_not_blank() {
        for (exit, stdout, stderr) in [
            (Exit::Code(8), "", ""),
            (Exit::Code(4), "", ""),
            (Exit::Code(2), "", "blkid: /dev/sdb: Input/output error"),
            (Exit::Signal(9), "", ""),
            (Exit::Code(0), "SOMETHING=new\n", ""),
        ] {
            let content = content(exit, stdout, stderr);
            assert!(matches!(content, Content::Unknown { .. }), "{content:?}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_blank() {
        let content = probe("/dev/no-such-device".as_ref()).await;
        assert!(matches!(content, Content::Unknown { .. }), "{content:?}");
    }

    proptest! {
        #[test]
        fn no_input_panics(code: i32, stdout: String, stderr: String) {
            content(Exit::Code(code), &stdout, &stderr);
        }
    }
}
