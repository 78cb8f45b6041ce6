//! The nodes' root folder: a Debian of its own with the User Mode Linux kernel and everything a node needs, shared read-only by all nodes of all labs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cache::{Cache, key};
use crate::command::{run, run_logged, with_args};
use crate::host;
use crate::progress::Progress;

/// What is installed in it, besides what the node daemon's image takes from it ([`TOOLS`]).
const PACKAGES: [&str; 16] = [
    "user-mode-linux",
    "kmod",
    "iproute2",
    "udev",
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iputils-ping",
    "procps",
    "util-linux",
    "mount",
    "nftables",
    "fio",
    "busybox-static",
    "fdisk",
    "mdadm",
];
/// The node daemon's own list: `package: program program ...`.
const TOOLS: &str = include_str!("../../node-daemon/tools.txt");
/// Raised when the steps after the packages change.
const VERSION: &str = "1";
/// Folders that a node's own things are mounted on.
const MOUNT_POINTS: [&str; 4] = ["lab", "scripts", "programs", "images"];

/// The root folder of `suite`, made if it is not there.
pub(crate) fn ensure(
    cache: &Cache,
    suite: &str,
    mirror: Option<&str>,
    progress: &Progress,
) -> Result<PathBuf> {
    let key = item_key(suite);
    if cache.find("root", &key).is_none() {
        progress.say(format!(
            "nodes' root folder: installing Debian {suite} with the User Mode Linux kernel into the cache (about 2 minutes, once)"
        ));
    }
    cache.item("root", &key, |root| {
        let mirror = mirror.map_or_else(host::debian_mirror, |url| Ok(url.to_owned()))?;
        debootstrap(root, suite, &mirror, &cache.log("root"), progress)?;
        finish(root)
    })
}

/// Whether the root folder is already there.
pub(crate) fn exists(cache: &Cache, suite: &str) -> bool {
    cache.find("root", &item_key(suite)).is_some()
}

/// All packages, sorted.
fn packages() -> Vec<&'static str> {
    let tools = TOOLS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once(':')?.0.trim()));
    let mut all: Vec<&str> = PACKAGES.into_iter().chain(tools).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn item_key(suite: &str) -> String {
    key(&[&[suite, VERSION], &packages()[..], &MOUNT_POINTS].concat())
}

fn debootstrap(
    root: &Path,
    suite: &str,
    mirror: &str,
    log: &Path,
    progress: &Progress,
) -> Result<()> {
    let include = format!("--include={}", packages().join(","));
    let mut command = with_args("debootstrap", ["--variant=minbase", &include, suite]);
    // debootstrap may not know a suite that is newer than itself; `sid` is the script that all Debian suites share.
    command.arg(root).arg(mirror).arg("sid");
    run_logged(&command, log, Duration::from_secs(15), || {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        progress.say(format!(
            "nodes' root folder: {}",
            text.lines().last().unwrap_or("starting").trim()
        ));
    })
    .context("installing Debian for the nodes")
}

/// Puts the kernel's modules where modprobe looks, and makes the mount points.
fn finish(root: &Path) -> Result<()> {
    let kernel = root.join("usr/bin/linux.uml");
    ensure!(
        kernel.exists(),
        "{} is missing: the suite's package user-mode-linux has no kernel there",
        kernel.display()
    );
    let modules = root.join("usr/lib/uml/modules");
    let version = std::fs::read_dir(&modules)
        .with_context(|| format!("looking for kernel modules in {}", modules.display()))?
        .next()
        .context("the package user-mode-linux has no modules")??;
    let target = root.join("usr/lib/modules");
    std::fs::create_dir_all(&target)?;
    run(with_args("cp", ["-r"]).arg(version.path()).arg(&target))?;
    run(with_args("chroot", [root.as_os_str()])
        .arg("depmod")
        .arg(version.file_name()))?;
    check_modules(root, &version.file_name().to_string_lossy())?;
    for folder in MOUNT_POINTS {
        std::fs::create_dir_all(root.join(folder))?;
    }
    Ok(())
}

/// The suite moves: says at once when a version lacks what the lab is built on.
fn check_modules(root: &Path, version: &str) -> Result<()> {
    let listed = std::fs::read_to_string(
        root.join("usr/lib/modules")
            .join(version)
            .join("modules.dep"),
    )?;
    for module in [
        "dm-mod",
        "dm-thin-pool",
        "overlay",
        "tcm_loop",
        "target_core_iblock",
        "sd_mod",
        "bridge",
        "veth",
        "loop",
    ] {
        ensure!(
            listed.contains(&format!("/{module}.ko")),
            "the User Mode Linux kernel {version} has no module {module}, which the lab needs: choose another Debian suite with HAWSER_LAB_SUITE"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_follows_the_suite() {
        assert_eq!(item_key("forky"), item_key("forky"));
        assert_ne!(item_key("forky"), item_key("sid"));
    }

    #[test]
    fn the_daemons_tools_are_installed_too() {
        for package in ["lvm2", "user-mode-linux", "containerd"] {
            assert!(packages().contains(&package), "{package}");
        }
        assert!(packages().iter().all(|name| !name.contains(['#', ' '])));
    }
}
