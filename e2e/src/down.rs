//! `down`: ends what a lab started, and nothing else; with `--purge`, deletes what it keeps.

use anyhow::Result;

use crate::cache::remove;
use crate::host;
use crate::lab::{Lab, Place};
use crate::progress::Progress;
use crate::state;

/// Kills all that the lab started and removes its network. Its folder stays.
pub(crate) fn stop(lab: &Lab) -> Result<()> {
    // A state file that can't be read must not keep the rest from being cleaned: the namespace knows all processes.
    if let Ok(Some(state)) = state::read(lab.dir()) {
        let nodes = state.nodes.iter().filter_map(|node| node.process.as_ref());
        for process in nodes.chain(&state.services) {
            process.kill()?;
        }
    }
    lab.net.destroy()?;
    state::forget(lab.dir())
}

/// Takes a lab down: ends everything that it started, and nothing else. Its disks and logs stay until the next `up`; with `purge` they are deleted, and
/// so is everything in the cache unless another lab still runs on it. An unknown file in the folder stays.
pub(crate) fn down(place: &Place, purge: bool, progress: &Progress) -> Result<()> {
    host::check_root()?;
    let lab = Lab::at(place)?;
    let _lock = lab.cache.lock(&format!("lab-{}", lab.name))?;
    let was_up = lab.net.exists() || state::read(lab.dir()).is_ok_and(|state| state.is_some());
    stop(&lab)?;
    progress.say(if was_up {
        format!("lab {} is down", lab.name)
    } else {
        format!("lab {} was not up", lab.name)
    });
    if purge {
        remove(lab.dir())?;
        purge_cache(&lab, progress)?;
    }
    Ok(())
}

fn purge_cache(lab: &Lab, progress: &Progress) -> Result<()> {
    let mut others = Vec::new();
    for entry in std::fs::read_dir(lab.cache.dir().join("labs"))? {
        let entry = entry?;
        if entry.path().join("state.json").exists() {
            others.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    let own = |other: &String| *other != lab.name;
    others.extend(lab.cache.held("lab-")?.into_iter().filter(own));
    if !others.is_empty() {
        progress.say(format!(
            "the cache stays, since other labs run on it: {}",
            others.join(", ")
        ));
        return Ok(());
    }
    for folder in ["items", "images", "labs", "logs", "failures", "target"] {
        remove(&lab.cache.dir().join(folder))?;
    }
    progress.say(format!(
        "deleted all that was kept in {}",
        lab.cache.dir().display()
    ));
    Ok(())
}
