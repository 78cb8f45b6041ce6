//! `--cluster-from`: an inventory out of a file with a Kubernetes List, as `kubectl get ... -o yaml` or `-o json` prints it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hawser_inventory::{Fold, Inventory};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::pods::{PodFacts, PodName};

#[derive(Debug, thiserror::Error)]
pub(crate) enum DumpError {
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
pub(crate) struct Dump {
    pub(crate) inventory: Inventory,
    /// No decision depends on them, but people ask about them.
    pub(crate) pods: HashMap<PodName, PodFacts>,
    pub(crate) used: usize,
    /// Items of kinds that no decision depends on.
    pub(crate) ignored: usize,
}

/// Reads the file. JSON if it begins with a brace, else YAML.
pub(crate) fn read(path: &Path) -> Result<Dump, DumpError> {
    let text = std::fs::read_to_string(path).map_err(|source| DumpError::Read {
        path: path.into(),
        source,
    })?;
    let list: Value = if text.trim_start().starts_with('{') {
        serde_json::from_str(&text).map_err(|source| DumpError::Json {
            path: path.into(),
            source,
        })?
    } else {
        serde_saphyr::from_str(&text).map_err(|source| DumpError::Yaml {
            path: path.into(),
            source: Box::new(source),
        })?
    };
    drop(text);
    parse(path, list)
}

fn parse(path: &Path, mut list: Value) -> Result<Dump, DumpError> {
    let kind = list["kind"]
        .as_str()
        .unwrap_or("text without a kind")
        .to_owned();
    let Value::Array(items) = list["items"].take() else {
        return Err(DumpError::NotAList {
            path: path.into(),
            kind,
        });
    };
    let mut dump = Dump {
        inventory: Inventory::new(),
        pods: HashMap::new(),
        used: 0,
        ignored: 0,
    };
    for (index, item) in items.into_iter().enumerate() {
        let (Some(version), Some(kind)) = (item["apiVersion"].as_str(), item["kind"].as_str())
        else {
            return Err(DumpError::NoKind {
                path: path.into(),
                index,
            });
        };
        let (group, kind) = (
            version
                .split_once('/')
                .map_or("", |(group, _)| group)
                .to_owned(),
            kind.to_owned(),
        );
        let name = item["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        match take(&mut dump, &group, &kind, item) {
            Ok(true) => dump.used += 1,
            Ok(false) => dump.ignored += 1,
            Err(source) => {
                return Err(DumpError::Item {
                    path: path.into(),
                    index,
                    kind,
                    name,
                    source,
                });
            }
        }
    }
    Ok(dump)
}

/// False if the kind does not matter.
fn take(dump: &mut Dump, group: &str, kind: &str, item: Value) -> Result<bool, serde_json::Error> {
    use hawser_api::{LocalStorageNode, LocalVolume, LocalVolumeGroup, LocalVolumeReplica};
    use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
    use k8s_openapi::api::storage::v1::StorageClass;
    fn apply<K: DeserializeOwned>(
        inventory: &mut Inventory,
        item: Value,
    ) -> Result<(), serde_json::Error>
    where
        Inventory: Fold<K>,
    {
        inventory.apply(&serde_json::from_value::<K>(item)?);
        Ok(())
    }
    let inventory = &mut dump.inventory;
    match (group, kind) {
        ("", "Pod") => {
            let facts = PodFacts::of(serde_json::from_value::<Pod>(item)?);
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
        let missing = read(Path::new("/does/not/exist"))
            .map(|dump| dump.used)
            .unwrap_err();
        assert_eq!(missing.to_string(), "can't read /does/not/exist");
    }
}
