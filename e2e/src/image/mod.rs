//! Container images without a registry or a container engine: archives that `ctr images import` takes.
//!
//! Owns the archive format ([`oci`]), the small base images ([`base`]) and Hawser's own images ([`hawser`]).
//! Does not load anything into a node: that is the lab's `load`.

pub(crate) mod base;
pub(crate) mod oci;

use std::path::PathBuf;

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
