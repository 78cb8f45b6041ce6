//! What the simulated nodes saw that must never be: a file of one line each, which a scenario wants to be empty.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

/// The file, for the simulator. Each line is written once.
#[derive(Clone, Debug)]
pub(super) struct Wrong {
    path: PathBuf,
    told: Arc<Mutex<BTreeSet<String>>>,
}

impl Wrong {
    /// The file, made if it is not there; what an earlier run of the simulator wrote stays.
    pub(super) fn open(path: &Path) -> Result<Self> {
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("creating {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            told: Arc::default(),
        })
    }

    /// Writes the line down, unless it was said before.
    pub(super) fn note(&self, line: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.insert(line.to_owned()) {
            return;
        }
        tracing::error!("{line}");
        let written = std::fs::OpenOptions::new()
            .append(true)
            .open(&self.path)
            .and_then(|mut file| writeln!(file, "{line}"));
        if let Err(error) = written {
            tracing::error!(%error, "it can't be written down");
        }
    }
}

/// The lines that were written so far.
pub(crate) fn read(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading what the nodes saw in {}", path.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wrong");
        assert!(read(&path).is_err(), "no file is no clean bill");
        let wrong = Wrong::open(&path).unwrap();
        for line in ["a", "b", "a"] {
            wrong.note(line);
        }
        Wrong::open(&path).unwrap().note("c");
        assert_eq!(read(&path).unwrap(), ["a", "b", "c"]);
    }
}
