//! System disks that nodes begin with: images are imported into one disk by one guest, once, and each node keeps only what differs from it.
//! Importing on every node at every `up` would take minutes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::cache::{Cache, key};
use crate::command::{leashed, run, with_args};
use crate::image::ImageArchive;
use crate::node::Guest;
use crate::process::Process;
use crate::progress::Progress;
use crate::shelf;

/// Name of the disk in a template's folder.
const DISK: &str = "system.img";
/// A guest that takes longer than this to import is stuck.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What a guest needs to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guests<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) root: &'a Path,
    pub(crate) scripts: &'a Path,
    pub(crate) programs: &'a Path,
}

/// A disk with `images` (and those of `base`, if given), made if it is not there. `kind` names the series: older ones of it are deleted.
pub(crate) fn ensure(
    guests: &Guests<'_>,
    kind: &str,
    base: Option<&Path>,
    images: &[ImageArchive],
    progress: &Progress,
) -> Result<PathBuf> {
    let mut parts = vec![
        guests.root.display().to_string(),
        crate::guest::template_version(),
    ];
    parts.extend(base.map(|base| base.display().to_string()));
    parts.extend(images.iter().map(|image| image.digest.clone()));
    let key = key(&parts);
    if guests.cache.find(kind, &key).is_none() {
        progress.say(format!(
            "system disk: importing {} images, once: {}",
            images.len(),
            images
                .iter()
                .map(|image| image.name.rsplit('/').next().unwrap_or(&image.name))
                .collect::<Vec<_>>()
                .join(", ")
        ));
    }
    let item = guests.cache.item(kind, &key, |dir| {
        let disk = dir.join(DISK);
        match base {
            Some(base) => {
                run(with_args("cp", ["--sparse=always", "--reflink=auto"])
                    .arg(base)
                    .arg(&disk))?;
            }
            None => shelf::create_system_disk(&disk)?,
        }
        import(guests, dir, images)
    })?;
    // Labs of other states of the sources may come back for theirs.
    guests.cache.prune(kind, 3, &item)?;
    Ok(item.join(DISK))
}

/// Boots a guest on the disk in `dir` that imports the images and powers off.
fn import(guests: &Guests<'_>, dir: &Path, images: &[ImageArchive]) -> Result<()> {
    let archives = dir.join("images");
    std::fs::create_dir_all(&archives)?;
    let mut list = String::new();
    for image in images {
        let name = image
            .path
            .file_name()
            .context("an archive without a name")?;
        let target = archives.join(name);
        if std::fs::hard_link(&image.path, &target).is_err() {
            std::fs::copy(&image.path, &target)
                .with_context(|| format!("copying {}", image.path.display()))?;
        }
        list.push_str(&name.to_string_lossy());
        list.push('\n');
    }
    std::fs::write(dir.join("images.list"), list)?;
    let guest = Guest {
        root: guests.root.to_owned(),
        folders: vec![
            (dir.to_owned(), "lab"),
            (guests.scripts.to_owned(), "scripts"),
            (guests.programs.to_owned(), "programs"),
            (archives.clone(), "images"),
        ],
        memory: 1024,
        disks: vec![format!("/lab/{DISK}")],
        arguments: vec!["lab.stage=template".to_owned()],
    };
    // The guest must not outlive a killed `up`: nothing would know of it.
    let mut command = leashed(&guest.command());
    let console = guests.cache.log("template");
    let process = Process::start("template guest", &mut command, &console)?;
    let finished = wait_for_end(&process);
    process.kill()?;
    finished?;
    let result = std::fs::read_to_string(dir.join("result")).unwrap_or_default();
    ensure!(
        result.trim() == "ok",
        "importing images failed: {}; the guest's console is in {}",
        if result.trim().is_empty() {
            "the guest did not get to the end"
        } else {
            result.trim()
        },
        console.display()
    );
    for scratch in ["images", "images.list", "result", "containerd.log"] {
        crate::cache::remove(&dir.join(scratch))?;
    }
    Ok(())
}

fn wait_for_end(process: &Process) -> Result<()> {
    let start = Instant::now();
    while process.is_alive() {
        if start.elapsed() > PATIENCE {
            bail!(
                "the guest that imports images did not end within {} s",
                PATIENCE.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
