//! `--cluster-from`: an inventory out of a file with a Kubernetes List, as `kubectl get ... -o yaml` or `-o json` prints it.
//!
//! JSON is read item by item, so a file of hundreds of megabytes takes the memory of what is kept of it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use hawser_inventory::{Fold, Inventory};
use serde::Deserialize;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::pods::{PodFacts, PodName};

#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error("can't read {}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not JSON", path.display())]
    Json {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{} is not YAML", path.display())]
    Yaml {
        path: PathBuf,
        source: Box<serde_saphyr::Error>,
    },
    #[error("{} is a {kind}: it must be a List, as `kubectl get nodes,pvc -o yaml` prints it", path.display())]
    NotAList { path: PathBuf, kind: String },
    #[error("{}: item {index} has no apiVersion or kind", path.display())]
    NoKind { path: PathBuf, index: usize },
    #[error("{}: item {index}, {kind} {name}", path.display())]
    Item {
        path: PathBuf,
        index: usize,
        kind: String,
        name: String,
        source: serde_json::Error,
    },
}

/// What was read.
#[derive(Debug, Default)]
pub struct Dump {
    pub inventory: Inventory,
    /// No decision depends on them, but people ask about them.
    pub pods: HashMap<PodName, PodFacts>,
    pub used: usize,
    /// Items of kinds that no decision depends on.
    pub ignored: usize,
}

/// Reads the file. JSON if it begins with a brace, else YAML.
pub fn read(path: &Path) -> Result<Dump, DumpError> {
    let failed = |source| DumpError::Read {
        path: path.into(),
        source,
    };
    let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
    let mut reading = Reading::new(path);
    if begins_with_brace(&mut file).map_err(failed)? {
        reading.json(file)?;
    } else {
        reading.yaml(&io::read_to_string(file).map_err(failed)?)?;
    }
    if reading.items {
        Ok(reading.dump)
    } else {
        Err(DumpError::NotAList {
            path: path.into(),
            kind: reading.kind,
        })
    }
}

/// Looks past white space.
fn begins_with_brace(file: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let buffer = file.fill_buf()?;
        let blank = buffer
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        match buffer.get(blank) {
            Some(byte) => return Ok(*byte == b'{'),
            None if buffer.is_empty() => return Ok(false),
            None => file.consume(blank),
        }
    }
}

/// A file on its way into an inventory.
struct Reading<'p> {
    path: &'p Path,
    dump: Dump,
    kind: String,
    /// There was a list of items.
    items: bool,
    /// What is wrong with an item, which the parser of the list can't carry.
    wrong: Option<DumpError>,
}

/// Of an item, what tells how to read it.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Head {
    api_version: Option<String>,
    kind: Option<String>,
    metadata: Named,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    name: Option<String>,
}

impl<'p> Reading<'p> {
    fn new(path: &'p Path) -> Self {
        Self {
            path,
            dump: Dump::default(),
            kind: "text without a kind".to_owned(),
            items: false,
            wrong: None,
        }
    }

    fn json(&mut self, file: impl io::Read) -> Result<(), DumpError> {
        let mut deserializer = serde_json::Deserializer::from_reader(file);
        let read = ListSeed(self).deserialize(&mut deserializer);
        let read = read.and_then(|()| deserializer.end());
        match (self.wrong.take(), read) {
            (Some(wrong), _) => Err(wrong),
            (None, Ok(())) => Ok(()),
            (None, Err(source)) => Err(DumpError::Json {
                path: self.path.into(),
                source,
            }),
        }
    }

    fn yaml(&mut self, text: &str) -> Result<(), DumpError> {
        let mut list: Value = serde_saphyr::from_str(text).map_err(|source| DumpError::Yaml {
            path: self.path.into(),
            source: Box::new(source),
        })?;
        if let Some(kind) = list["kind"].as_str() {
            kind.clone_into(&mut self.kind);
        }
        if let Value::Array(items) = list["items"].take() {
            self.items = true;
            for item in items {
                self.item(&item.to_string())?;
            }
        }
        Ok(())
    }

    fn item(&mut self, item: &str) -> Result<(), DumpError> {
        let index = self.dump.used + self.dump.ignored;
        let path = || self.path.to_owned();
        let head: Head = serde_json::from_str(item).unwrap_or_default();
        let (Some(version), Some(kind)) = (head.api_version, head.kind) else {
            return Err(DumpError::NoKind {
                path: path(),
                index,
            });
        };
        let group = version.split_once('/').map_or("", |(group, _)| group);
        match take(&mut self.dump, group, &kind, item) {
            Ok(true) => self.dump.used += 1,
            Ok(false) => self.dump.ignored += 1,
            Err(source) => {
                return Err(DumpError::Item {
                    path: path(),
                    index,
                    kind,
                    name: head.metadata.name.unwrap_or_default(),
                    source,
                });
            }
        }
        Ok(())
    }
}

/// The List itself: `kind` may come before or after `items`.
struct ListSeed<'r, 'p>(&'r mut Reading<'p>);

impl<'de> DeserializeSeed<'de> for ListSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ListSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a List of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "items" => map.next_value_seed(ItemsSeed(self.0))?,
                "kind" => self.0.kind = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct ItemsSeed<'r, 'p>(&'r mut Reading<'p>);

impl<'de> DeserializeSeed<'de> for ItemsSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.items = true;
        while let Some(item) = items.next_element::<Box<RawValue>>()? {
            if let Err(wrong) = self.0.item(item.get()) {
                self.0.wrong = Some(wrong);
                return Err(serde::de::Error::custom("see the item"));
            }
        }
        Ok(())
    }
}

/// False if the kind does not matter.
fn take(dump: &mut Dump, group: &str, kind: &str, item: &str) -> Result<bool, serde_json::Error> {
    use hawser_api::{LocalStorageNode, LocalVolume, LocalVolumeGroup, LocalVolumeReplica};
    use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
    use k8s_openapi::api::storage::v1::StorageClass;
    fn apply<K: DeserializeOwned>(
        inventory: &mut Inventory,
        item: &str,
    ) -> Result<(), serde_json::Error>
    where
        Inventory: Fold<K>,
    {
        inventory.apply(&serde_json::from_str::<K>(item)?);
        Ok(())
    }
    let inventory = &mut dump.inventory;
    match (group, kind) {
        ("", "Pod") => {
            let facts = PodFacts::of(serde_json::from_str::<Pod>(item)?);
            dump.pods
                .extend(facts.map(|facts| (facts.name.clone(), facts)));
        }
        ("", "Node") => apply::<Node>(inventory, item)?,
        ("", "PersistentVolume") => apply::<PersistentVolume>(inventory, item)?,
        ("", "PersistentVolumeClaim") => apply::<PersistentVolumeClaim>(inventory, item)?,
        ("storage.k8s.io", "StorageClass") => apply::<StorageClass>(inventory, item)?,
        (hawser_api::names::GROUP, "LocalStorageNode") => {
            apply::<LocalStorageNode>(inventory, item)?;
        }
        (hawser_api::names::GROUP, "LocalVolume") => apply::<LocalVolume>(inventory, item)?,
        (hawser_api::names::GROUP, "LocalVolumeReplica") => {
            apply::<LocalVolumeReplica>(inventory, item)?;
        }
        (hawser_api::names::GROUP, "LocalVolumeGroup") => {
            apply::<LocalVolumeGroup>(inventory, item)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn refused(text: &str) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let error = read(file.path()).map(|dump| dump.used).unwrap_err();
        error
            .to_string()
            .replace(&file.path().display().to_string(), "FILE")
    }

    fn refused_or(text: &str) -> Result<usize, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        read(file.path())
            .map(|dump| dump.used)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn json_and_yaml_of_the_same_objects_are_the_same() {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/shop.yaml");
        let yaml = std::fs::read_to_string(&fixture).unwrap();
        let value: Value = serde_saphyr::from_str(&yaml).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "\n  {value:#}\n").unwrap();
        let (json, yaml) = (read(file.path()).unwrap(), read(&fixture).unwrap());
        assert_eq!((json.used, json.ignored), (yaml.used, yaml.ignored));
        assert_eq!(json.inventory.cluster(), yaml.inventory.cluster());
        assert_eq!(json.inventory.cluster().len(), 3);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(refused("{"), "FILE is not JSON");
        assert_eq!(refused("items: ["), "FILE is not YAML");
        assert_eq!(
            refused("kind: Pod\n"),
            "FILE is a Pod: it must be a List, as `kubectl get nodes,pvc -o yaml` prints it"
        );
        assert_eq!(
            refused(r#"{"kind": "List", "items": [{"kind": "Pod"}]}"#),
            "FILE: item 0 has no apiVersion or kind"
        );
        let wrong = r#"{"kind": "List", "items": [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": 3}}]}"#;
        assert_eq!(refused(wrong), "FILE: item 0, Node n1");
        let later = r#"{"items": [], "apiVersion": "v1", "kind": "Pod"}"#;
        assert_eq!(
            refused_or(later),
            Ok(0),
            "a List by its items, whatever it calls itself"
        );
        assert_eq!(
            refused(r#"{"apiVersion": "v1", "kind": "Pod", "spec": {"items": []}}"#),
            "FILE is a Pod: it must be a List, as `kubectl get nodes,pvc -o yaml` prints it"
        );
        assert_eq!(
            refused(r#"{"kind": "List", "items": []} and more"#),
            "FILE is not JSON"
        );
        assert_eq!(
            refused(r#"{"kind": "List", "items": [3]}"#),
            "FILE: item 0 has no apiVersion or kind"
        );
        let missing = read(Path::new("/does/not/exist"))
            .map(|dump| dump.used)
            .unwrap_err();
        assert_eq!(missing.to_string(), "can't read /does/not/exist");
    }
}
