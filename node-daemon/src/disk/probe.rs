//! What a disk carries, as far as it matters for giving it away.

use std::path::Path;
use std::time::Duration;

use hawser_runtime::telemetry::chain;

use crate::signature::{Found, LookError, Looker};

/// A healthy disk answers in milliseconds; a failing one must not hold up the others.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What lies on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// It was read, and there is no signature that libblkid knows.
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

/// Reads what is on a disk, for at most [`PATIENCE`].
pub async fn probe(looker: &Looker, device: &Path) -> Content {
    content(looker.look(device, PATIENCE).await)
}

fn content(found: Result<Found, LookError>) -> Content {
    match found {
        Ok(Found::Nothing) => Content::Blank,
        Ok(Found::Signature(signature)) => Content::Signature {
            kind: signature.kind,
            uuid: signature.uuid,
        },
        Ok(Found::Table(kind)) => Content::Table { kind },
        Ok(Found::Several) => Content::Unknown {
            why: "it carries several signatures that contradict each other".to_owned(),
        },
        Err(error) => Content::Unknown {
            why: chain(&error).to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::Signature;

    #[test]
    fn doubt_is_not_blank() {
        let read = std::io::Error::other("Input/output error");
        for found in [Ok(Found::Several), Err(LookError::Read(read))] {
            let content = content(found);
            assert!(matches!(content, Content::Unknown { .. }), "{content:?}");
        }
        assert_eq!(content(Ok(Found::Nothing)), Content::Blank);
        let both = Found::Signature(Signature {
            kind: "vfat".to_owned(),
            table: Some("dos".to_owned()),
            ..Signature::default()
        });
        assert!(matches!(content(Ok(both)), Content::Signature { .. }));
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_blank() {
        let content = probe(&Looker::default(), "/dev/no-such-device".as_ref()).await;
        assert!(matches!(content, Content::Unknown { .. }), "{content:?}");
    }
}
