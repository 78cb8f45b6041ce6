//! The tools layer of the node daemon's image: programs and their shared libraries out of a Debian root folder.
//!
//! Which programs is said by `node-daemon/tools.txt` alone; the Containerfile installs the packages of the same list.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use super::oci::{BuiltLayer, Layer, Owner};
use crate::command::command;

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    /// Name in Debian.
    pub(crate) name: String,
    /// Programs that the daemon runs, by their file name; or by path, if a program is run by another.
    pub(crate) programs: Vec<String>,
}

/// Reads `node-daemon/tools.txt` of the workspace.
pub(crate) fn packages(workspace: &Path) -> Result<Vec<Package>> {
    let path = workspace.join("node-daemon/tools.txt");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    parse(&text).with_context(|| format!("in {}", path.display()))
}

fn parse(text: &str) -> Result<Vec<Package>> {
    let mut packages: Vec<Package> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (name, programs) = line
            .split_once(':')
            .with_context(|| format!("line {}: want `package: program ...`", number + 1))?;
        let programs: Vec<String> = programs.split_whitespace().map(str::to_owned).collect();
        ensure!(
            !programs.is_empty(),
            "line {}: package {name} without a program",
            number + 1
        );
        ensure!(
            packages.iter().all(|other| other.name != name),
            "line {}: package {name} twice",
            number + 1
        );
        packages.push(Package {
            name: name.to_owned(),
            programs,
        });
    }
    Ok(packages)
}

/// Files, and folders of files, that tools read and that ldd does not know of. LVM's own configuration is left out on purpose:
/// the daemon says all of it on the command line, and its defaults are compiled in.
const DATA: [&str; 3] = [
    "etc/mke2fs.conf",
    "usr/share/smartmontools/drivedb.h",
    "usr/share/xfsprogs/mkfs",
];

/// The layer with every program of the list, taken from `root_fs`; kept in `cache` until the list or the root's packages change.
///
/// # Errors
/// If a program is missing in the root folder: the sentence names the package to install.
pub(crate) fn layer(workspace: &Path, root_fs: &Path, cache: &Path) -> Result<BuiltLayer> {
    let packages = packages(workspace)?;
    let installed = root_fs.join("var/lib/dpkg/status");
    let mut key = Sha256::new();
    key.update(
        std::fs::read(&installed).with_context(|| format!("reading {}", installed.display()))?,
    );
    key.update(format!("{packages:?} {DATA:?}"));
    let key = hex::encode(key.finalize());
    super::cached_layer(cache, "tools", &key, || collect(&packages, root_fs))
}

fn collect(packages: &[Package], root_fs: &Path) -> Result<Layer> {
    let mut layer = Layer::new();
    for (link, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
    ] {
        layer.link(link, target);
    }
    for folder in ["dev", "proc", "run", "sys", "var", "etc/lvm"] {
        layer.folder(folder, 0o755, Owner::default());
    }
    layer.folder("tmp", 0o1777, Owner::default());
    let mut programs = BTreeSet::new();
    for package in packages {
        for program in &package.programs {
            let candidates = match program.strip_prefix('/') {
                Some(path) => vec![path.to_owned()],
                None => ["usr/sbin", "usr/bin"]
                    .map(|folder| format!("{folder}/{program}"))
                    .to_vec(),
            };
            let found = candidates
                .into_iter()
                .find(|path| root_fs.join(path).symlink_metadata().is_ok());
            let path = found.with_context(|| {
                format!(
                    "{program} is not in {}: it lacks the Debian package {}",
                    root_fs.display(),
                    package.name
                )
            })?;
            programs.insert(add(&mut layer, root_fs, &path)?);
        }
    }
    for library in libraries(root_fs, &programs)? {
        let file = inside(root_fs, &library)?;
        layer.file(&library, root_fs.join(file), 0o755, Owner::default());
    }
    for path in DATA {
        let here = root_fs.join(path);
        if here.is_file() {
            layer.file(path, here, 0o644, Owner::default());
        } else if here.is_dir() {
            for entry in std::fs::read_dir(&here)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    let name = entry.file_name();
                    layer.file(
                        &format!("{path}/{}", name.to_string_lossy()),
                        entry.path(),
                        0o644,
                        Owner::default(),
                    );
                }
            }
        }
    }
    Ok(layer)
}

/// Adds a program and the links that lead to it; returns the path of the file itself.
fn add(layer: &mut Layer, root_fs: &Path, path: &str) -> Result<String> {
    let file = inside(root_fs, path)?;
    if file != path {
        layer.link(path, &format!("/{file}"));
    }
    // Without set-uid: the daemon is root, and nobody else runs in its container.
    layer.file(&file, root_fs.join(&file), 0o755, Owner::default());
    Ok(file)
}

/// Where `path` of the root folder ends when links are followed within that folder; relative to it, without links.
fn inside(root_fs: &Path, path: &str) -> Result<String> {
    let mut rest: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut done: Vec<String> = Vec::new();
    let mut hops = 0;
    while let Some(part) = rest.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                done.pop();
                continue;
            }
            _ => done.push(part),
        }
        let here: PathBuf = root_fs.join(done.join("/"));
        let meta = here
            .symlink_metadata()
            .with_context(|| format!("following {path} in {}", root_fs.display()))?;
        if meta.is_symlink() {
            hops += 1;
            ensure!(
                hops < 40,
                "{path} in {} is a loop of links",
                root_fs.display()
            );
            let target = std::fs::read_link(&here)?;
            let target = target
                .to_str()
                .with_context(|| format!("the link {} is not UTF-8", here.display()))?;
            done.pop();
            if target.starts_with('/') {
                done.clear();
            }
            rest.extend(target.split('/').rev().map(str::to_owned));
        }
    }
    Ok(done.join("/"))
}

/// Paths, with /usr spelt out, of the shared libraries and the loader that the programs ask for.
fn libraries(root_fs: &Path, programs: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let output = command("chroot")
        .arg(root_fs)
        .args(["/usr/bin/ldd"])
        .args(programs.iter().map(|program| format!("/{program}")))
        .env("LC_ALL", "C")
        .output()
        .context("running chroot")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.contains("not found") {
            bail!(
                "a library of the node daemon's tools is missing in {}: {}",
                root_fs.display(),
                line.trim()
            );
        }
        if let Some(path) = library_of(line) {
            found.insert(if path.starts_with("usr/") {
                path.to_owned()
            } else {
                format!("usr/{path}")
            });
        }
    }
    // ldd fails for a static program among others; no library at all means that it did not run.
    ensure!(
        !found.is_empty(),
        "ldd in {}: {}",
        root_fs.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(found)
}

/// The absolute path in a line of ldd, without its leading slash.
fn library_of(line: &str) -> Option<&str> {
    let line = line.strip_prefix('\t')?;
    let after = line.split_once("=> ").map_or(line, |(_, after)| after);
    after.split(" (").next()?.trim().strip_prefix('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_tools_is_read_and_its_mistakes_are_told_by_line() {
        let list = parse("# head\nlvm2: lvm  # one\n\nmount: mount umount\n").unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(
            list[1],
            Package {
                name: "mount".into(),
                programs: vec!["mount".into(), "umount".into()]
            }
        );
        for (text, want) in [
            ("lvm2", "line 1"),
            ("\nlvm2:", "line 2"),
            ("a: b\na: c", "twice"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(want), "{text:?}: {error}");
        }
    }

    #[test]
    fn lines_of_ldd() {
        assert_eq!(
            library_of("\tlibm.so.6 => /usr/lib/x/libm.so.6 (0x00007f)"),
            Some("usr/lib/x/libm.so.6")
        );
        assert_eq!(
            library_of("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)"),
            Some("lib64/ld-linux-x86-64.so.2")
        );
        assert_eq!(library_of("\tlinux-vdso.so.1 (0x00007f)"), None);
        assert_eq!(library_of("/usr/sbin/lvm:"), None);
        assert_eq!(library_of("\tnot a dynamic executable"), None);
    }

    #[test]
    fn links_are_followed_within_the_root_only() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("usr/sbin")).unwrap();
        std::fs::write(at("usr/sbin/real"), "").unwrap();
        std::os::unix::fs::symlink("usr/sbin", at("sbin")).unwrap();
        std::os::unix::fs::symlink("/sbin/real", at("usr/sbin/absolute")).unwrap();
        std::os::unix::fs::symlink("../../../sbin/real", at("usr/sbin/up")).unwrap();
        std::os::unix::fs::symlink("loop", at("usr/sbin/loop")).unwrap();
        for path in ["sbin/real", "usr/sbin/absolute", "sbin/up", "/sbin/./up"] {
            assert_eq!(
                inside(root.path(), path).unwrap(),
                "usr/sbin/real",
                "{path}"
            );
        }
        assert!(inside(root.path(), "sbin/loop").is_err());
        assert!(inside(root.path(), "sbin/absent").is_err());
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let root = tempfile::tempdir().unwrap();
        let packages = parse("lvm2: lvm").unwrap();
        let error = format!("{:#}", collect(&packages, root.path()).unwrap_err());
        assert!(
            error.contains("lvm is not in") && error.contains("package lvm2"),
            "{error}"
        );
    }
}
