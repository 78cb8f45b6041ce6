//! The cache folder: built and downloaded things, each in a folder named by what it was built from.
//!
//! Owns locking, completeness and the names; what an item holds is its builder's matter. An item exists only when it is whole: it is built in a
//! temporary folder, stamped, then renamed, so a killed build leaves nothing that looks finished.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

const STAMP: &str = ".complete";

/// The folder that everything the lab keeps lies in.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens (and creates) the folder.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        for folder in ["items", "locks", "labs", "logs"] {
            let folder = dir.join(folder);
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("creating the lab's folder {}", folder.display()))?;
        }
        let dir = dir
            .canonicalize()
            .with_context(|| format!("resolving {}", dir.display()))?;
        Ok(Self { dir })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Folder of the lab of this name.
    pub(crate) fn lab(&self, name: &str) -> PathBuf {
        self.dir.join("labs").join(name)
    }

    /// A file for the output of a long build.
    pub(crate) fn log(&self, what: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{what}.log"))
    }

    /// Where the logs and objects of failed scenarios are kept.
    pub(crate) fn failures(&self) -> PathBuf {
        self.dir.join("failures")
    }

    /// The folder of an item, if it is whole.
    pub(crate) fn find(&self, kind: &str, key: &str) -> Option<PathBuf> {
        let item = self.path(kind, key);
        item.join(STAMP).exists().then_some(item)
    }

    fn path(&self, kind: &str, key: &str) -> PathBuf {
        self.dir.join("items").join(format!("{kind}-{key}"))
    }

    /// The folder of an item, built by `build` (which gets an empty folder to fill) unless it is there already.
    /// Of several processes that want the same item, one builds and the others wait.
    pub(crate) fn item(
        &self,
        kind: &str,
        key: &str,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        if let Some(item) = self.find(kind, key) {
            return Ok(item);
        }
        let _lock = self.lock(&format!("{kind}-{key}"))?;
        if let Some(item) = self.find(kind, key) {
            return Ok(item);
        }
        let item = self.path(kind, key);
        let building = item.with_extension("building");
        remove(&building)?;
        remove(&item)?;
        std::fs::create_dir(&building)
            .with_context(|| format!("creating {}", building.display()))?;
        if let Err(error) = build(&building) {
            remove(&building)?;
            return Err(error.context(format!("building {kind}")));
        }
        std::fs::write(building.join(STAMP), b"")?;
        std::fs::rename(&building, &item)
            .with_context(|| format!("renaming {} to its final name", building.display()))?;
        Ok(item)
    }

    /// Deletes items of `kind` except the `keep` last made ones and `current`, and what killed builds of it left.
    pub(crate) fn prune(&self, kind: &str, keep: usize, current: &Path) -> Result<()> {
        let mut items = Vec::new();
        for entry in std::fs::read_dir(self.dir.join("items"))? {
            let path = entry?.path();
            let named = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(&format!("{kind}-")));
            if !named || path == current {
                continue;
            }
            if path.extension().is_some_and(|end| end == "building") {
                let lock = path.with_extension("");
                let lock = lock.file_name().unwrap_or_default().to_string_lossy();
                if let Some(_free) = self.try_lock(&lock)? {
                    remove(&path)?;
                }
            } else if path.join(STAMP).exists() {
                items.push((std::fs::metadata(&path)?.modified()?, path));
            }
        }
        items.sort();
        let surplus = items.len().saturating_sub(keep);
        for (_, path) in &items[..surplus] {
            remove(path)?;
        }
        Ok(())
    }

    /// Names, without `prefix`, of the locks that begin with it and that someone holds now.
    pub(crate) fn held(&self, prefix: &str) -> Result<Vec<String>> {
        let mut held = Vec::new();
        for entry in std::fs::read_dir(self.dir.join("locks"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let Some(rest) = name.strip_prefix(prefix) else {
                continue;
            };
            if self.try_lock(&name)?.is_none() {
                held.push(rest.to_owned());
            }
        }
        Ok(held)
    }

    /// Waits for the lock of this name; it is held until the result is dropped, or the process ends.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.dir.join("locks").join(name);
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("waiting for the lock {}", path.display()))?;
        Ok(Lock { _file: file })
    }

    /// As [`Cache::lock`], but `None` if someone else holds it.
    pub(crate) fn try_lock(&self, name: &str) -> Result<Option<Lock>> {
        let path = self.dir.join("locks").join(name);
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }
}

/// A held lock.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Deletes a file or a whole folder; nothing there is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("looking at {}", path.display())),
    };
    let removed = if meta.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    removed.with_context(|| format!("deleting {}", path.display()))
}

/// A short name for the content of all `parts`: the same parts in the same order give the same key.
pub(crate) fn key<P: AsRef<[u8]>>(parts: &[P]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_built_once_and_a_failed_build_leaves_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let failed = cache.item("thing", "k", |dir| {
            std::fs::write(dir.join("half"), "x")?;
            anyhow::bail!("interrupted")
        });
        assert!(format!("{:#}", failed.unwrap_err()).contains("interrupted"));
        assert!(cache.find("thing", "k").is_none());

        let built = cache
            .item("thing", "k", |dir| {
                assert_eq!(std::fs::read_dir(dir)?.count(), 0, "starts empty");
                Ok(std::fs::write(dir.join("whole"), "y")?)
            })
            .unwrap();
        assert!(built.join("whole").exists());
        let again = cache.item("thing", "k", |_| anyhow::bail!("built twice"));
        assert_eq!(again.unwrap(), built);
    }

    #[test]
    fn pruning_keeps_the_current_and_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let items: Vec<_> = ["a", "b", "c", "d"]
            .into_iter()
            .map(|key| cache.item("t", key, |_| Ok(())).unwrap())
            .collect();
        let other = cache.item("u", "a", |_| Ok(())).unwrap();
        cache.prune("t", 1, &items[0]).unwrap();
        let left: Vec<bool> = items.iter().map(|item| item.exists()).collect();
        assert_eq!(left, [true, false, false, true]);
        assert!(other.exists());
    }

    #[test]
    fn pruning_removes_what_a_killed_build_left_but_not_what_is_being_built() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let current = cache.item("t", "a", |_| Ok(())).unwrap();
        let [left, busy] = ["b", "c"].map(|key| cache.path("t", key).with_extension("building"));
        std::fs::create_dir(&left).unwrap();
        std::fs::create_dir(&busy).unwrap();
        let _building = cache.lock("t-c").unwrap();
        cache.prune("t", 1, &current).unwrap();
        assert_eq!((left.exists(), busy.exists()), (false, true));
        assert_eq!(cache.held("t-").unwrap(), ["c"]);
    }

    #[test]
    fn keys_tell_parts_apart() {
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
        assert_ne!(key(&["a", "b"]), key(&["b", "a"]));
        assert_ne!(key(&["ab", ""]), key(&["a", "b"]));
    }

    #[test]
    fn a_held_lock_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let held = cache.lock("x").unwrap();
        assert!(cache.try_lock("x").unwrap().is_none());
        drop(held);
        assert!(cache.try_lock("x").unwrap().is_some());
    }
}
