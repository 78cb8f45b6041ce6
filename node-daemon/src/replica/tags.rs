//! What LVM tags say about a logical volume. No I/O.
//!
//! Tags are the node's own memory: they are written in the same metadata change that makes the volume, they survive the
//! loss of the API server, and they make every operation on a volume resumable after a crash.
//!
//! | tag | says |
//! |---|---|
//! | `hawser.io/volume=NAME`, `claim=`, `replica=`, `generation=` | whose it is |
//! | `hawser.io/unzeroed=BYTES` | from this byte on there may be data of somebody else; `0`: not even looked at since `lvcreate` |
//! | `hawser.io/formatting=TYPE` | it was blank, and a mkfs was begun: may be formatted again, whatever it holds |
//! | `hawser.io/fs=TYPE` | exposed as a file system, which shows only what was written through it |
//! | `hawser.io/raw` | exposed as a block device, which shows every byte |
//! | `hawser.io/drbd` | lies beneath DRBD, from before Hawser: not to be exposed by itself |
//! | `hawser.io/wiping` | its owner gave it up; it is being zeroed and then removed |
//! | `hawser.io/wiped=BYTES` | how far the zeroing came |

use hawser_api::names::tags as names;

use crate::mount::FsType;

const UNZEROED: &str = "hawser.io/unzeroed=";
const FORMATTING: &str = "hawser.io/formatting=";
const FS: &str = "hawser.io/fs=";
const RAW: &str = "hawser.io/raw";
const DRBD: &str = "hawser.io/drbd";
const WIPED: &str = "hawser.io/wiped=";

/// What the tags of one logical volume say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags {
    /// The volume.
    pub volume: Option<String>,
    /// `NAMESPACE/NAME` of its claim.
    pub claim: Option<String>,
    /// The `LocalVolumeReplica`.
    pub replica: Option<String>,
    /// Counts the generations of the volume's copies.
    pub generation: Option<u64>,
    /// From this byte on there may be data of somebody else.
    pub unzeroed: Option<u64>,
    /// A mkfs was begun on the blank device and is not known to have ended.
    pub formatting: Option<FsType>,
    /// Exposed as a file system.
    pub fs: Option<FsType>,
    /// Exposed as a block device.
    pub raw: bool,
    /// Lies beneath DRBD, as the generation before Hawser put it.
    pub drbd: bool,
    /// Being destroyed.
    pub wiping: bool,
    /// How far the destruction came, bytes.
    pub wiped: u64,
}

impl Tags {
    /// Reads tags; those of others are left out. A number that can't be read counts as the careful value.
    pub fn read(tags: &[String]) -> Self {
        let value = |prefix: &str| tags.iter().find_map(|tag| tag.strip_prefix(prefix));
        let owned = |prefix: &str| {
            value(prefix)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        Self {
            volume: owned(names::VOLUME),
            claim: owned(names::CLAIM),
            replica: owned(names::REPLICA),
            generation: value(names::GENERATION).and_then(|text| text.parse().ok()),
            unzeroed: value(UNZEROED).map(|text| text.parse().unwrap_or(0)),
            formatting: value(FORMATTING).map(FsType::parse),
            fs: value(FS).map(FsType::parse),
            raw: tags.iter().any(|tag| tag == RAW),
            drbd: tags.iter().any(|tag| tag == DRBD),
            wiping: tags.iter().any(|tag| tag == names::WIPING),
            wiped: value(WIPED).and_then(|text| text.parse().ok()).unwrap_or(0),
        }
    }

    /// The tags that say this.
    pub fn write(&self) -> Vec<String> {
        let text =
            |prefix: &str, value: Option<String>| value.map(|value| format!("{prefix}{value}"));
        [
            text(names::VOLUME, self.volume.clone()),
            text(names::CLAIM, self.claim.clone()),
            text(names::REPLICA, self.replica.clone()),
            text(names::GENERATION, self.generation.map(|n| n.to_string())),
            text(UNZEROED, self.unzeroed.map(|n| n.to_string())),
            text(
                FORMATTING,
                self.formatting.as_ref().map(ToString::to_string),
            ),
            text(FS, self.fs.as_ref().map(ToString::to_string)),
            self.raw.then(|| RAW.to_owned()),
            self.drbd.then(|| DRBD.to_owned()),
            self.wiping.then(|| names::WIPING.to_owned()),
            text(WIPED, (self.wiped > 0).then(|| self.wiped.to_string())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Whether a volume that the tags do not (yet) call exposed could still show its bytes to somebody: volumes of before
    /// Hawser say nothing about it.
    pub fn may_show_every_byte(&self) -> bool {
        self.raw || (self.fs.is_none() && self.unzeroed.is_none())
    }
}

/// Tags to add and to delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// To add.
    pub add: Vec<String>,
    /// To delete.
    pub delete: Vec<String>,
}

impl Change {
    /// What leads from the tags that a volume has to those that it should have. Tags of others stay.
    pub fn between(present: &[String], wanted: &Tags) -> Self {
        let wanted = wanted.write();
        let ours = Tags::read(present).write();
        Self {
            add: wanted
                .iter()
                .filter(|tag| !present.contains(tag))
                .cloned()
                .collect(),
            delete: ours
                .into_iter()
                .filter(|tag| !wanted.contains(tag))
                .collect(),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.delete.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_tags() -> Tags {
        Tags {
            volume: Some("pvc-1".to_owned()),
            claim: Some("default/data-0".to_owned()),
            replica: Some("pvc-1-abc123".to_owned()),
            generation: Some(3),
            unzeroed: Some(4096),
            formatting: Some(FsType::Xfs),
            fs: Some(FsType::Ext4),
            raw: true,
            drbd: true,
            wiping: true,
            wiped: 7,
        }
    }

    #[test]
    fn what_is_written_is_read_and_lvm_accepts_it() {
        let tags = some_tags().write();
        assert_eq!(Tags::read(&tags), some_tags());
        for tag in &tags {
            lvm2_cmd::names::check_tag(tag).unwrap();
        }
    }

    #[test]
    fn a_change_leaves_the_tags_of_others_and_is_empty_the_second_time() {
        let mut present = some_tags().write();
        present.push("backup=nightly".to_owned());
        let wanted = Tags {
            unzeroed: None,
            raw: false,
            generation: Some(4),
            ..some_tags()
        };
        let change = Change::between(&present, &wanted);
        assert_eq!(change.add, ["hawser.io/generation=4"]);
        assert_eq!(change.delete.len(), 3, "{change:?}");

        present.retain(|tag| !change.delete.contains(tag));
        present.extend(change.add);
        assert!(present.contains(&"backup=nightly".to_owned()));
        assert!(Change::between(&present, &wanted).is_empty());
    }

    #[test]
    fn a_mark_that_cannot_be_read_is_taken_for_the_careful_value() {
        let tags = Tags::read(&[
            "hawser.io/unzeroed=x".to_owned(),
            "hawser.io/wiped=x".to_owned(),
        ]);
        assert_eq!((tags.unzeroed, tags.wiped), (Some(0), 0));
    }
}
