//! Hawser's own images and those of the sidecars, from static binaries.
//!
//! The binaries are built once for each state of the sources. The Containerfiles beside the binaries' sources build the
//! same content for a registry.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use super::oci::{BuiltLayer, Layer, Owner, Run, Tag, write_image};
use super::{ImageArchive, cached_layer, tools};
use crate::command::command;

/// Where images are from, if no registry is set: `localhost` is nobody's, so nothing foreign can be pulled by mistake.
pub(crate) const REGISTRY: &str = "localhost/hawser";
/// The four binaries; each has an image of its name.
pub(crate) const BINARIES: [&str; 4] = [
    "scheduler-extender",
    "admission-webhook",
    "provisioner",
    "node-daemon",
];
const NODE_DAEMON: &str = "node-daemon";
const TARGET: &str = "x86_64-unknown-linux-gnu";
const UNPRIVILEGED: Owner = Owner {
    uid: 65532,
    gid: 65532,
};

/// Programs of others that the manifests run as containers: binary, repository, tag.
pub(crate) const SIDECARS: [(&str, &str, &str); 6] = [
    (
        "csi-provisioner",
        "registry.k8s.io/sig-storage/csi-provisioner",
        "v6.4.0",
    ),
    (
        "csi-attacher",
        "registry.k8s.io/sig-storage/csi-attacher",
        "v4.13.0",
    ),
    (
        "csi-resizer",
        "registry.k8s.io/sig-storage/csi-resizer",
        "v2.3.0",
    ),
    (
        "csi-snapshotter",
        "registry.k8s.io/sig-storage/csi-snapshotter",
        "v8.7.0",
    ),
    (
        "snapshot-controller",
        "registry.k8s.io/sig-storage/snapshot-controller",
        "v8.7.0",
    ),
    (
        "kube-scheduler",
        "registry.k8s.io/kube-scheduler",
        "v1.37.2",
    ),
];

/// What images are made of.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    /// The project's folder.
    pub(crate) workspace: PathBuf,
    /// The nodes' Debian root folder, with the packages of `node-daemon/tools.txt`.
    pub(crate) root_fs: PathBuf,
    /// Folder with the static Go binaries of [`SIDECARS`].
    pub(crate) go_bin: PathBuf,
    /// Kept between runs: `images/`, `layers/`, `hawser/`.
    pub(crate) cache: PathBuf,
}

/// Builds (if the sources changed) and packs the four binaries, in the order of [`BINARIES`].
/// The tag of each is the digest of its content.
///
/// # Errors
/// If cargo fails (its own messages went to standard error), or a tool is missing in the root folder.
pub(crate) fn hawser_images(inputs: &Inputs) -> Result<Vec<ImageArchive>> {
    let binaries = binaries(inputs)?;
    let images = inputs.cache.join("images");
    let mut archives = Vec::new();
    for name in BINARIES {
        let program = layer_of_program(inputs, &binaries.join(name), name)?;
        let entrypoint = vec![format!("/{name}")];
        let (run, layers) = if name == NODE_DAEMON {
            let tools = tools::layer(&inputs.workspace, &inputs.root_fs, &inputs.cache)?;
            (
                Run {
                    entrypoint,
                    ..Run::default()
                },
                vec![tools, accounts_layer(inputs)?, program],
            )
        } else {
            let user = format!("{}:{}", UNPRIVILEGED.uid, UNPRIVILEGED.gid);
            (
                Run {
                    entrypoint,
                    user,
                    ..Run::default()
                },
                vec![accounts_layer(inputs)?, program],
            )
        };
        archives.push(write_image(
            &images,
            &format!("{REGISTRY}/{name}"),
            Tag::Content,
            &run,
            &layers,
        )?);
    }
    forget_old(&images, &archives)?;
    Ok(archives)
}

/// Packs the Go binaries of others, named as their projects publish them.
pub(crate) fn sidecar_images(inputs: &Inputs) -> Result<Vec<ImageArchive>> {
    let pack = |(name, repository, tag): (&str, &str, &str)| {
        let program = layer_of_program(inputs, &inputs.go_bin.join(name), name)?;
        let user = format!("{}:{}", UNPRIVILEGED.uid, UNPRIVILEGED.gid);
        let run = Run {
            entrypoint: vec![format!("/{name}")],
            user,
            ..Run::default()
        };
        write_image(
            &inputs.cache.join("images"),
            repository,
            Tag::Fixed(tag),
            &run,
            &[accounts_layer(inputs)?, program],
        )
    };
    SIDECARS.into_iter().map(pack).collect()
}

/// Folder with the four static binaries of the sources as they are now.
pub(crate) fn binaries(inputs: &Inputs) -> Result<PathBuf> {
    let home = inputs.cache.join("hawser");
    let folder = home.join(&sources_key(&inputs.workspace)?[..24]);
    if BINARIES.iter().all(|name| folder.join(name).is_file()) {
        return Ok(folder);
    }
    let target = home.join("target");
    // One clone at a time: the folder is shared, and each drops what another clone built in it.
    std::fs::create_dir_all(&home).with_context(|| format!("creating {}", home.display()))?;
    let lock = std::fs::File::create(home.join("target.lock"))?;
    flock(&lock, FlockOperation::LockExclusive).context("waiting for another build of images")?;
    eprintln!("building Hawser's binaries for images (the first time takes some minutes)");
    forget_other_clone(&inputs.workspace, &target)?;
    cargo_build(&inputs.workspace, &target)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    for name in BINARIES {
        let built = target.join(TARGET).join("image").join(name);
        let (kept, temporary) = (
            folder.join(name),
            folder.join(format!(".{name}.{}", std::process::id())),
        );
        std::fs::copy(&built, &temporary)
            .with_context(|| format!("copying {}", built.display()))?;
        std::fs::rename(&temporary, &kept)
            .with_context(|| format!("keeping {}", kept.display()))?;
    }
    Ok(folder)
}

/// Cargo judges sources by their time only: what another clone built here would pass for a build of older files of this one.
fn forget_other_clone(workspace: &Path, target: &Path) -> Result<()> {
    let mark = target.join("built-from");
    let known = std::fs::read_to_string(&mark).unwrap_or_default();
    if Path::new(&known) == workspace {
        return Ok(());
    }
    if target.is_dir() {
        let status = command("cargo")
            .current_dir(workspace)
            .args(["clean", "--quiet", "--workspace", "--profile", "image"])
            .args(["--target", TARGET])
            .env("CARGO_TARGET_DIR", target)
            .status()
            .context("running cargo")?;
        ensure!(status.success(), "cargo clean failed: {status}");
    }
    std::fs::create_dir_all(target).with_context(|| format!("creating {}", target.display()))?;
    std::fs::write(&mark, workspace.as_os_str().as_encoded_bytes())
        .with_context(|| format!("writing {}", mark.display()))
}

fn cargo_build(workspace: &Path, target: &Path) -> Result<()> {
    let mut cargo = command("cargo");
    cargo.current_dir(workspace).args([
        "build",
        "--locked",
        "--profile",
        "image",
        "--target",
        TARGET,
    ]);
    for name in BINARIES {
        cargo.args(["--package", name]);
    }
    // With --target the flags reach what runs in the image only, not build scripts and macros, which can't be static.
    let status = cargo
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("CARGO_TARGET_DIR", target)
        .status()
        .context("running cargo")?;
    ensure!(
        status.success(),
        "cargo build of Hawser's binaries for images failed: {status}"
    );
    Ok(())
}

/// Digest of all that can change the binaries: sources, manifests, the lock file and the toolchain.
fn sources_key(workspace: &Path) -> Result<String> {
    let mut files = Vec::new();
    for file in ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"] {
        files.push(workspace.join(file));
    }
    walk(&workspace.join("libs"), &mut files)?;
    for name in BINARIES {
        walk(&workspace.join(name), &mut files)?;
    }
    files.sort();
    let mut key = Sha256::new();
    for file in files {
        let content =
            std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let name = file.strip_prefix(workspace).unwrap_or(&file);
        key.update(format!("{}\0{}\0", name.display(), content.len()));
        key.update(content);
    }
    Ok(hex::encode(key.finalize()))
}

/// Files below `folder` that can be part of a binary: not tests, examples, texts.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            if ![
                "target",
                "tests",
                "benches",
                "examples",
                "proptest-regressions",
            ]
            .contains(&&*name)
            {
                walk(&entry.path(), files)?;
            }
        } else if !name.ends_with(".md") && !["Containerfile", "tools.txt"].contains(&&*name) {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn layer_of_program(inputs: &Inputs, program: &Path, name: &str) -> Result<BuiltLayer> {
    let meta = program
        .metadata()
        .with_context(|| format!("looking at {}", program.display()))?;
    let changed = meta
        .modified()?
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_nanos();
    let key = format!("{} {} {changed}", program.display(), meta.len());
    let key = hex::encode(Sha256::digest(key));
    cached_layer(&inputs.cache, name, &key, || {
        let mut layer = Layer::new();
        layer.file(name, program, 0o755, Owner::default());
        Ok(layer)
    })
}

/// Names of users, and an order for name look-ups, which static programs want to find.
fn accounts_layer(inputs: &Inputs) -> Result<BuiltLayer> {
    const ACCOUNTS: [(&str, &str); 3] = [
        (
            "etc/passwd",
            "root:x:0:0:root:/:/bin/false\nhawser:x:65532:65532:hawser:/:/bin/false\n",
        ),
        ("etc/group", "root:x:0:\nhawser:x:65532:\n"),
        ("etc/nsswitch.conf", "hosts: files dns\n"),
    ];
    let key = hex::encode(Sha256::digest(format!("{ACCOUNTS:?}")));
    cached_layer(&inputs.cache, "accounts", &key, || {
        let mut layer = Layer::new();
        for (path, content) in ACCOUNTS {
            layer.bytes(path, content, 0o644);
        }
        layer.folder("tmp", 0o1777, Owner::default());
        Ok(layer)
    })
}

/// Deletes archives of our images that no run has made or used for two days: each change of the sources leaves some.
fn forget_old(images: &Path, used: &[ImageArchive]) -> Result<()> {
    const KEPT: Duration = Duration::from_secs(48 * 3600);
    let now = SystemTime::now();
    for archive in used {
        std::fs::File::options()
            .append(true)
            .open(&archive.path)?
            .set_modified(now)?;
    }
    for entry in std::fs::read_dir(images)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = BINARIES
            .iter()
            .any(|binary| name.to_string_lossy().starts_with(&format!("{binary}-")));
        let age = now
            .duration_since(entry.metadata()?.modified()?)
            .unwrap_or_default();
        if ours && age > KEPT {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_workspace() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "1").unwrap();
        };
        for file in [
            "Cargo.toml",
            "Cargo.lock",
            "rust-toolchain.toml",
            "libs/api/src/lib.rs",
        ] {
            write(file);
        }
        for name in BINARIES {
            write(&format!("{name}/src/main.rs"));
        }
        folder
    }

    #[test]
    fn the_key_of_the_sources_follows_what_can_be_in_a_binary_and_nothing_else() {
        let workspace = a_workspace();
        let first = sources_key(workspace.path()).unwrap();
        let mut keys = vec![first.clone()];
        for (path, counts) in [
            ("libs/api/src/lib.rs", true),
            ("libs/api/src/new.rs", true),
            ("Cargo.lock", true),
            ("provisioner/proto/a.proto", true),
            ("node-daemon/Containerfile", false),
            ("libs/api/tests/one.rs", false),
            ("docs/text.md", false),
        ] {
            let file = workspace.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "2").unwrap();
            let key = sources_key(workspace.path()).unwrap();
            assert_eq!(keys.contains(&key), !counts, "{path}");
            keys.push(key);
        }
    }

    #[test]
    fn archives_out_of_use_are_deleted_and_only_ours() {
        let folder = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - Duration::from_secs(72 * 3600);
        for name in [
            "node-daemon-1-1.tar",
            "node-daemon-2-2.tar",
            "busybox-1.tar",
        ] {
            let file = std::fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(old).unwrap();
        }
        let path = folder.path().join("node-daemon-2-2.tar");
        let used = ImageArchive {
            name: String::new(),
            path,
            digest: String::new(),
        };
        forget_old(folder.path(), &[used]).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["busybox-1.tar", "node-daemon-2-2.tar"]);
    }
}
