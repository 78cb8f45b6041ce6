//! Container images without a registry or a container engine: archives that `ctr images import` takes.
//!
//! Owns the archive format ([`oci`]), the small base images ([`base`]) and Hawser's own images ([`hawser`]).
//! Does not load anything into a node: that is the lab's `load`.

pub(crate) mod base;
pub(crate) mod hawser;
pub(crate) mod oci;
pub(crate) mod tools;

use std::path::{Path, PathBuf};

use anyhow::Result;

use oci::{BuiltLayer, Layer};

/// One image as a file, ready for `ctr -n k8s.io images import PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageArchive {
    /// Full reference, with tag: what a pod's `image:` says.
    pub(crate) name: String,
    /// The OCI archive. Its file name holds the digest, so that new content never overwrites a file
    /// which a guest may have in its page cache.
    pub(crate) path: PathBuf,
    /// Digest of the image's manifest, `sha256:...`.
    pub(crate) digest: String,
}

/// The layer that `make` describes, kept in `cache` under `key` so that it is built and hashed once.
fn cached_layer(
    cache: &Path,
    name: &str,
    key: &str,
    make: impl FnOnce() -> Result<Layer>,
) -> Result<BuiltLayer> {
    let path = cache
        .join("layers")
        .join(format!("{name}-{}.tar", &key[..key.len().min(24)]));
    let known = path.with_extension("json");
    if let Some(layer) = BuiltLayer::recorded(&path, &known) {
        return Ok(layer);
    }
    let layer = make()?.build(&path)?;
    layer.record(&known)?;
    Ok(layer)
}
