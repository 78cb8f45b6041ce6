//! The webhook's own certificates: made, kept in a Secret, renewed, and published to the API server. No tool, no operator.
//!
//! One Secret is shared by all replicas and changed by compare-and-swap only, so whoever writes first wins and the others
//! use what they find. The API server trusts a *bundle* of authorities: a new authority is published one round before the first
//! certificate that it signs is served, an old one stays until it has expired.
//!
//! Clocks may differ, among replicas and from the API server's: certificates are valid from an hour before they are made, and are renewed
//! a month before they end.

mod cluster;
mod issue;
mod keeper;
mod material;
mod plan;

pub use cluster::{Cluster, KubeCluster, Published, Stored};
pub use issue::Names;
pub use keeper::{CHECK_INTERVAL, Clock, Keeper, KeeperError};
pub use material::Material;

/// What a server and its client need, made now.
#[cfg(test)]
pub(crate) struct Made {
    pub(crate) bundle: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

#[cfg(test)]
pub(crate) fn made_for_tests(names: &Names) -> Made {
    let (material, _) = plan::plan(None, "", names, jiff::Timestamp::now())
        .expect("made")
        .expect("nothing was there");
    Made {
        bundle: material.bundle,
        certificate: material.certificate,
        key: material.certificate_key,
    }
}
