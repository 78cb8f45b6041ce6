//! What is known about a lab that was started: one JSON file in its folder, written before and after each thing that must be undone.
//!
//! Owns the file and the changes to it; several lab commands may run at once, so each change reads, alters and replaces the file under a lock.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::process::Process;
use crate::shelf::Disk;

/// A lab as it was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) name: String,
    /// Set when `up` has finished; without it the lab is half up, or a killed `up` left it.
    pub(crate) complete: bool,
    /// The nodes' shared root folder.
    pub(crate) root: PathBuf,
    /// Folder of the Kubernetes programs.
    pub(crate) programs: PathBuf,
    /// Folder of the guest's scripts.
    pub(crate) scripts: PathBuf,
    /// Memory of each node, MiB.
    pub(crate) memory: u64,
    /// What it was asked to be like, in words; what is there now (disks that were added, say) may differ.
    pub(crate) shape: String,
    pub(crate) nodes: Vec<Node>,
    /// The control plane's and the network's processes.
    pub(crate) services: Vec<Process>,
    /// Whether Hawser's manifests were applied.
    pub(crate) installed: bool,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// From 1.
    pub(crate) index: u8,
    /// Its kernel, if it was started; it may have been killed since.
    pub(crate) process: Option<Process>,
    pub(crate) disks: Vec<Disk>,
    /// How often it was started, so that each start has log files of its own.
    pub(crate) boots: u32,
}

impl State {
    /// The node of this name.
    ///
    /// # Errors
    /// If there is none; the error lists those that there are.
    pub(crate) fn node(&self, name: &str) -> Result<&Node> {
        match self.nodes.iter().find(|node| node.name == name) {
            Some(node) => Ok(node),
            None => bail!(
                "no node {name:?} in lab {}: it has {}",
                self.name,
                self.nodes
                    .iter()
                    .map(|node| node.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        }
    }

    pub(crate) fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        self.node(name)?;
        self.nodes
            .iter_mut()
            .find(|node| node.name == name)
            .context("a node that was just found")
    }
}

fn path(lab: &Path) -> PathBuf {
    lab.join("state.json")
}

/// The state in a lab's folder; `None` if the lab was never started or is down.
pub(crate) fn read(lab: &Path) -> Result<Option<State>> {
    let path = path(lab);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is not a lab's state", path.display()))
        .map(Some)
}

/// Replaces the state as a whole.
pub(crate) fn write(lab: &Path, state: &State) -> Result<()> {
    let mut file =
        tempfile::NamedTempFile::new_in(lab).with_context(|| format!("in {}", lab.display()))?;
    serde_json::to_writer_pretty(&mut file, state)?;
    file.persist(path(lab))
        .with_context(|| format!("keeping {}", path(lab).display()))?;
    Ok(())
}

/// Changes the state; returns what `change` returns. Nothing is written if it fails.
pub(crate) fn update<T>(lab: &Path, change: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
    let lock = File::create(lab.join("state.lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let mut state = read(lab)?.context("the lab was taken down meanwhile")?;
    let result = change(&mut state)?;
    write(lab, &state)?;
    Ok(result)
}

/// Forgets the lab: it is down.
pub(crate) fn forget(lab: &Path) -> Result<()> {
    crate::cache::remove(&path(lab))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn a_state() -> State {
        let node = |index: u8| Node {
            name: format!("n{index}"),
            index,
            process: None,
            disks: Vec::new(),
            boots: 0,
        };
        State {
            name: "lab".into(),
            complete: false,
            root: "/root-fs".into(),
            programs: "/programs".into(),
            scripts: "/scripts".into(),
            memory: 1536,
            shape: "2 nodes".into(),
            nodes: vec![node(1), node(2)],
            services: Vec::new(),
            installed: false,
        }
    }

    #[test]
    fn a_change_is_kept_and_a_failed_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        write(folder.path(), &a_state()).unwrap();
        update(folder.path(), |state| {
            state.complete = true;
            Ok(())
        })
        .unwrap();
        let failed: Result<()> = update(folder.path(), |state| {
            state.nodes.clear();
            bail!("no")
        });
        assert!(failed.is_err());
        let expected = State {
            complete: true,
            ..a_state()
        };
        assert_eq!(read(folder.path()).unwrap(), Some(expected));
        forget(folder.path()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
    }

    #[test]
    fn an_unknown_node_is_refused_with_the_known_ones() {
        let error = a_state().node("n9").unwrap_err().to_string();
        assert_eq!(error, "no node \"n9\" in lab lab: it has n1, n2");
    }
}
