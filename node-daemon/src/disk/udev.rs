//! Records of the host's udev, `/run/udev/data/b<major>:<minor>`: links and properties of a device.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;

/// What udev knows of a block device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Links below `/dev`, as `disk/by-id/...`.
    pub links: Vec<String>,
    pub properties: BTreeMap<String, String>,
}

impl Record {
    /// The record of a block device; `None` if udev has made none.
    pub fn read(folder: &Path, (major, minor): (u32, u32)) -> io::Result<Option<Self>> {
        match std::fs::read(folder.join(format!("b{major}:{minor}"))) {
            Ok(text) => Ok(Some(Self::parse(&String::from_utf8_lossy(&text)))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a record. Lines of other kinds and lines that make no sense are passed over.
    pub fn parse(text: &str) -> Self {
        let mut record = Self::default();
        for line in text.lines() {
            match line.split_once(':') {
                Some(("S", link)) if !link.is_empty() => record.links.push(link.to_owned()),
                Some(("E", property)) => {
                    if let Some((key, value)) = property.split_once('=') {
                        record.properties.insert(key.to_owned(), value.to_owned());
                    }
                }
                _ => {}
            }
        }
        record.links.sort();
        record.links.dedup();
        record
    }

    /// The first of the properties that is there and says something.
    pub fn first(&self, keys: &[&str]) -> String {
        keys.iter()
            .filter_map(|key| self.properties.get(*key))
            .map(|value| clean(value))
            .find(|value| !value.is_empty())
            .unwrap_or_default()
    }

    /// All values of the properties that say something, without repetition.
    pub fn all(&self, keys: &[&str]) -> Vec<String> {
        let mut values: Vec<String> = Vec::new();
        for value in keys.iter().filter_map(|key| self.properties.get(*key)) {
            let value = clean(value);
            if !value.is_empty() && !values.contains(&value) {
                values.push(value);
            }
        }
        values
    }
}

/// White space and what drivers write for "nothing" taken away.
pub fn clean(value: &str) -> String {
    let value = value.trim().trim_matches('_');
    let nothing = ["(null)", "none", "unknown", "n/a", "0"];
    if nothing.contains(&value.to_ascii_lowercase().as_str()) || value.chars().any(char::is_control)
    {
        String::new()
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_recorded_disk_and_partition() {
        let disk = Record::parse(
            "S:disk/by-path/platform-uml-blkdev.3\nS:disk/by-diskseq/3\nI:5292251\nE:ID_PATH=platform-uml-blkdev.3\nE:ID_PART_TABLE_TYPE=dos\nG:systemd\nV:1\n",
        );
        assert_eq!(
            disk.links,
            ["disk/by-diskseq/3", "disk/by-path/platform-uml-blkdev.3"]
        );
        assert_eq!(disk.first(&["ID_NOPE", "ID_PART_TABLE_TYPE"]), "dos");
        assert_eq!(disk.first(&["ID_SERIAL"]), "");
    }

    #[test]
    fn values_that_say_nothing() {
        for nothing in ["", "  ", "(null)", "unknown", "____", "0", "N/A", "a\u{1}b"] {
            assert_eq!(clean(nothing), "", "{nothing:?}");
        }
        assert_eq!(clean(" S3Z9NB0K  "), "S3Z9NB0K");
    }

    proptest! {
        #[test]
        fn no_input_panics(text: String) {
            Record::parse(&text);
        }
    }
}
