//! Writer of OCI image archives: a tar of an `oci-layout`, one `index.json` and the blobs.
//!
//! Same input, same bytes: entries are sorted, times are zero, owners are numeric. Layers are not compressed,
//! since a lab node reads them from the host's page cache and would pay for inflating them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ImageArchive;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const PATH_ENV: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Numeric owner of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u64,
    pub(crate) gid: u64,
}

#[derive(Clone, Debug)]
enum Source {
    Host(PathBuf),
    Bytes(Vec<u8>),
}

#[derive(Clone, Debug)]
enum Entry {
    Folder {
        mode: u32,
        owner: Owner,
    },
    File {
        mode: u32,
        owner: Owner,
        source: Source,
    },
    Link {
        target: String,
    },
}

/// The files of one layer, by their path in the image (relative, without a leading slash).
/// Folders above an entry are added by themselves (mode 0755, root). A later entry of the same path replaces the earlier one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    entries: BTreeMap<String, Entry>,
}

impl Layer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A file with the content of `host` as it is when the layer is built.
    pub(crate) fn file(
        &mut self,
        path: &str,
        host: impl Into<PathBuf>,
        mode: u32,
        owner: Owner,
    ) -> &mut Self {
        self.add(
            path,
            Entry::File {
                mode,
                owner,
                source: Source::Host(host.into()),
            },
        )
    }

    /// A file with the given content, owned by root.
    pub(crate) fn bytes(
        &mut self,
        path: &str,
        content: impl Into<Vec<u8>>,
        mode: u32,
    ) -> &mut Self {
        self.add(
            path,
            Entry::File {
                mode,
                owner: Owner::default(),
                source: Source::Bytes(content.into()),
            },
        )
    }

    /// A symbolic link; `target` is taken as it is.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.add(
            path,
            Entry::Link {
                target: target.to_owned(),
            },
        )
    }

    pub(crate) fn folder(&mut self, path: &str, mode: u32, owner: Owner) -> &mut Self {
        self.add(path, Entry::Folder { mode, owner })
    }

    fn add(&mut self, path: &str, entry: Entry) -> &mut Self {
        let path = normal(path);
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            if !self.entries.contains_key(parent) {
                self.entries.insert(
                    parent.to_owned(),
                    Entry::Folder {
                        mode: 0o755,
                        owner: Owner::default(),
                    },
                );
            }
        }
        self.entries.insert(path, entry);
        self
    }

    /// Writes the layer's tar to `path` (replaced atomically) and returns its digest.
    pub(crate) fn build(&self, path: &Path) -> Result<BuiltLayer> {
        let (mut temporary, folder) = temporary_beside(path)?;
        let mut hasher = Hashing::new(BufWriter::with_capacity(1 << 20, temporary.as_file_mut()));
        let mut tar = tar::Builder::new(&mut hasher);
        for (name, entry) in &self.entries {
            append(&mut tar, name, entry)
                .with_context(|| format!("adding {name} to a layer in {}", folder.display()))?;
        }
        tar.finish()?;
        drop(tar);
        let (digest, size) = hasher.finish()?;
        temporary
            .persist(path)
            .with_context(|| format!("keeping {}", path.display()))?;
        Ok(BuiltLayer {
            path: path.to_owned(),
            digest,
            size,
        })
    }
}

fn normal(path: &str) -> String {
    path.trim_matches('/').to_owned()
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, entry: &Entry) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(0);
    match entry {
        Entry::Folder { mode, owner } => {
            describe(&mut header, tar::EntryType::Directory, *mode, *owner, 0);
            tar.append_data(&mut header, format!("{name}/"), io::empty())?;
        }
        Entry::Link { target } => {
            describe(
                &mut header,
                tar::EntryType::Symlink,
                0o777,
                Owner::default(),
                0,
            );
            tar.append_link(&mut header, name, target)?;
        }
        Entry::File {
            mode,
            owner,
            source: Source::Bytes(content),
        } => {
            describe(
                &mut header,
                tar::EntryType::Regular,
                *mode,
                *owner,
                content.len() as u64,
            );
            tar.append_data(&mut header, name, content.as_slice())?;
        }
        Entry::File {
            mode,
            owner,
            source: Source::Host(host),
        } => {
            let file = File::open(host).with_context(|| format!("opening {}", host.display()))?;
            let meta = file.metadata()?;
            ensure!(meta.is_file(), "{} is not a regular file", host.display());
            describe(
                &mut header,
                tar::EntryType::Regular,
                *mode,
                *owner,
                meta.len(),
            );
            // A file that grows or shrinks meanwhile would make an archive that no one can read.
            let copied = tar.append_data(&mut header, name, io::Read::take(&file, meta.len()));
            copied.with_context(|| format!("copying {}", host.display()))?;
            ensure!(
                file.metadata()?.len() == meta.len(),
                "{} changed while it was copied",
                host.display()
            );
        }
    }
    Ok(())
}

fn describe(header: &mut tar::Header, kind: tar::EntryType, mode: u32, owner: Owner, size: u64) {
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.uid);
    header.set_gid(owner.gid);
    header.set_size(size);
}

/// A layer on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BuiltLayer {
    pub(crate) path: PathBuf,
    /// `sha256:...` of the tar; since it is not compressed, also its diff id.
    pub(crate) digest: String,
    pub(crate) size: u64,
}

impl BuiltLayer {
    /// Notes digest and size in `note`, so that the next run need not read the layer to know them.
    pub(crate) fn record(&self, note: &Path) -> Result<()> {
        let (mut temporary, _) = temporary_beside(note)?;
        temporary.write_all(&serde_json::to_vec(
            &json!({ "digest": self.digest, "size": self.size }),
        )?)?;
        temporary
            .persist(note)
            .with_context(|| format!("keeping {}", note.display()))?;
        Ok(())
    }

    /// The layer at `path` as noted; None if there is none, or not of the noted size.
    pub(crate) fn recorded(path: &Path, note: &Path) -> Option<Self> {
        let noted: Value = serde_json::from_slice(&std::fs::read(note).ok()?).ok()?;
        let (digest, size) = (
            noted["digest"].as_str()?.to_owned(),
            noted["size"].as_u64()?,
        );
        let whole = path.metadata().ok()?.len() == size;
        whole.then(|| Self {
            path: path.to_owned(),
            digest,
            size,
        })
    }
}

/// What a container of the image runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    /// `UID:GID`; empty: root.
    pub(crate) user: String,
}

/// Tag of an image.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tag<'a> {
    Fixed(&'a str),
    /// The first 12 digits of the manifest's digest: another content, another name.
    Content,
}

/// Writes the archive of an image into `folder` and returns where. Writing the same again gives the same file.
pub(crate) fn write_image(
    folder: &Path,
    repository: &str,
    tag: Tag<'_>,
    run: &Run,
    layers: &[BuiltLayer],
) -> Result<ImageArchive> {
    let config = serde_json::to_vec(&config(run, layers))?;
    let manifest = serde_json::to_vec(&manifest(&config, layers))?;
    let digest = digest_of(&manifest);
    let short = &digest["sha256:".len()..][..12];
    let tag = match tag {
        Tag::Fixed(tag) => tag,
        Tag::Content => short,
    };
    let name = format!("{repository}:{tag}");
    let base = repository.rsplit('/').next().unwrap_or(repository);
    let path = folder.join(format!("{base}-{tag}-{short}.tar"));
    let archive = ImageArchive {
        name: name.clone(),
        path: path.clone(),
        digest: digest.clone(),
    };
    if path.exists() {
        return Ok(archive);
    }
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": MANIFEST, "digest": digest, "size": manifest.len(),
            "annotations": { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag },
        }],
    }))?;
    std::fs::create_dir_all(folder)?;
    let (mut temporary, _) = temporary_beside(&path)?;
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, temporary.as_file_mut()));
    let mut blobs: BTreeMap<String, Source> = BTreeMap::new();
    blobs.insert(digest, Source::Bytes(manifest));
    blobs.insert(digest_of(&config), Source::Bytes(config));
    for layer in layers {
        blobs.insert(layer.digest.clone(), Source::Host(layer.path.clone()));
    }
    append(
        &mut tar,
        "oci-layout",
        &plain(Source::Bytes(br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())),
    )?;
    append(&mut tar, "index.json", &plain(Source::Bytes(index)))?;
    for (digest, source) in blobs {
        append(
            &mut tar,
            &format!("blobs/{}", digest.replace(':', "/")),
            &plain(source),
        )?;
    }
    tar.into_inner()?.flush()?;
    temporary
        .persist(&path)
        .with_context(|| format!("keeping {}", path.display()))?;
    Ok(archive)
}

fn plain(source: Source) -> Entry {
    Entry::File {
        mode: 0o644,
        owner: Owner::default(),
        source,
    }
}

fn config(run: &Run, layers: &[BuiltLayer]) -> Value {
    let mut container = json!({ "Env": [PATH_ENV] });
    if !run.entrypoint.is_empty() {
        container["Entrypoint"] = json!(run.entrypoint);
    }
    if !run.cmd.is_empty() {
        container["Cmd"] = json!(run.cmd);
    }
    if !run.user.is_empty() {
        container["User"] = json!(run.user);
    }
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    json!({ "architecture": "amd64", "os": "linux", "config": container, "rootfs": { "type": "layers", "diff_ids": diff_ids } })
}

fn manifest(config: &[u8], layers: &[BuiltLayer]) -> Value {
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| json!({ "mediaType": LAYER, "digest": layer.digest, "size": layer.size }))
        .collect();
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": digest_of(config), "size": config.len() },
        "layers": layers,
    })
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn temporary_beside(path: &Path) -> Result<(tempfile::NamedTempFile, PathBuf)> {
    let folder = path.parent().context("a file without a folder")?.to_owned();
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let temporary = tempfile::Builder::new()
        .prefix(".writing-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(&folder)
        .with_context(|| format!("creating a file in {}", folder.display()))?;
    Ok((temporary, folder))
}

/// Hashes and counts what is written through it.
struct Hashing<W> {
    inner: W,
    hasher: Sha256,
    size: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            size: 0,
        }
    }

    fn finish(mut self) -> io::Result<(String, u64)> {
        self.inner.flush()?;
        Ok((
            format!("sha256:{}", hex::encode(self.hasher.finalize())),
            self.size,
        ))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn a_layer(content: &str) -> Layer {
        let mut layer = Layer::new();
        layer
            .bytes("/etc/motd", content, 0o640)
            .link("bin/sh", "busybox");
        layer.folder("tmp", 0o1777, Owner { uid: 7, gid: 8 });
        layer
    }

    fn read(path: &Path) -> BTreeMap<String, (tar::Header, Vec<u8>)> {
        let mut files = BTreeMap::new();
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            files.insert(name, (entry.header().clone(), content));
        }
        files
    }

    fn blob<'a>(
        files: &'a BTreeMap<String, (tar::Header, Vec<u8>)>,
        descriptor: &Value,
    ) -> &'a [u8] {
        let digest = descriptor["digest"].as_str().unwrap();
        let (_, content) = &files[&format!("blobs/{}", digest.replace(':', "/"))];
        assert_eq!(digest_of(content), digest);
        assert_eq!(descriptor["size"].as_u64(), Some(content.len() as u64));
        content
    }

    #[test]
    fn every_descriptor_of_an_image_leads_to_a_blob_of_that_digest_and_size() {
        let folder = tempfile::tempdir().unwrap();
        let one = a_layer("one").build(&folder.path().join("1.tar")).unwrap();
        let two = a_layer("two").build(&folder.path().join("2.tar")).unwrap();
        let run = Run {
            entrypoint: vec!["/bin/sh".into()],
            cmd: vec!["-c".into()],
            user: "65534:65534".into(),
        };
        let image = write_image(
            folder.path(),
            "example.org/some/thing",
            Tag::Fixed("v1"),
            &run,
            &[one.clone(), two],
        )
        .unwrap();
        assert_eq!(image.name, "example.org/some/thing:v1");

        let files = read(&image.path);
        assert_eq!(files["oci-layout"].1, br#"{"imageLayoutVersion":"1.0.0"}"#);
        let index: Value = serde_json::from_slice(&files["index.json"].1).unwrap();
        assert_eq!(
            index["manifests"][0]["annotations"]["io.containerd.image.name"],
            "example.org/some/thing:v1"
        );
        assert_eq!(index["manifests"][0]["digest"], image.digest);
        let manifest: Value = serde_json::from_slice(blob(&files, &index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(blob(&files, &manifest["config"])).unwrap();
        assert_eq!(config["config"]["User"], "65534:65534");
        assert_eq!(config["config"]["Entrypoint"], json!(["/bin/sh"]));
        for (layer, diff_id) in manifest["layers"]
            .as_array()
            .unwrap()
            .iter()
            .zip(config["rootfs"]["diff_ids"].as_array().unwrap())
        {
            assert_eq!(digest_of(blob(&files, layer)), *diff_id.as_str().unwrap());
        }
        let note = folder.path().join("1.json");
        one.record(&note).unwrap();
        assert_eq!(BuiltLayer::recorded(&one.path, &note), Some(one.clone()));
        std::fs::write(&one.path, "torn").unwrap();
        assert_eq!(BuiltLayer::recorded(&one.path, &note), None);
    }

    #[test]
    fn a_layer_keeps_modes_owners_links_and_adds_folders_above() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tool"), "#!").unwrap();
        let mut layer = a_layer("hello");
        layer.file(
            "usr/sbin/tool",
            folder.path().join("tool"),
            0o755,
            Owner { uid: 1, gid: 2 },
        );
        let long = format!("usr/share/{}/file", "x".repeat(120));
        layer.bytes(&long, "long", 0o644);
        let files = read(&layer.build(&folder.path().join("layer.tar")).unwrap().path);

        assert_eq!(files["etc/"].0.entry_type(), tar::EntryType::Directory);
        assert_eq!(files["etc/motd"].0.mode().unwrap(), 0o640);
        assert_eq!(files["etc/motd"].1, b"hello");
        assert_eq!(
            files["bin/sh"].0.link_name().unwrap().unwrap().to_str(),
            Some("busybox")
        );
        assert_eq!(
            (
                files["tmp/"].0.mode().unwrap(),
                files["tmp/"].0.uid().unwrap()
            ),
            (0o1777, 7)
        );
        assert_eq!(
            (
                files["usr/sbin/tool"].0.uid().unwrap(),
                files["usr/sbin/tool"].0.gid().unwrap()
            ),
            (1, 2)
        );
        assert_eq!(files[&long].1, b"long");
        assert!(
            files
                .values()
                .all(|(header, _)| header.mtime().unwrap() == 0)
        );
    }

    #[test]
    fn the_same_content_gives_the_same_bytes_and_another_content_another_tag() {
        let folder = tempfile::tempdir().unwrap();
        let mut names = Vec::new();
        for (round, content) in ["same", "same", "other"].into_iter().enumerate() {
            let here = folder.path().join(round.to_string());
            let layer = a_layer(content).build(&here.join("layer.tar")).unwrap();
            let image = write_image(
                &here,
                "hawser/thing",
                Tag::Content,
                &Run::default(),
                &[layer],
            )
            .unwrap();
            names.push((image.name, std::fs::read(image.path).unwrap()));
        }
        assert!(names[0] == names[1]);
        assert_ne!(names[0].0, names[2].0);
    }

    #[test]
    fn a_missing_file_leaves_no_archive_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut layer = Layer::new();
        layer.file(
            "tool",
            folder.path().join("absent"),
            0o755,
            Owner::default(),
        );
        let error = layer.build(&folder.path().join("layer.tar")).unwrap_err();
        assert!(format!("{error:#}").contains("absent"), "{error:#}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
