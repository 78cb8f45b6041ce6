//! What is asked: a pod's volumes, existing and new, and what the pod says about nodes. Built by the caller, complete:
//! leaving out one of the pod's volumes would split the joint decision.

use serde::Serialize;

use crate::cluster::Name;
use crate::json;
use crate::node::{PoolClass, Reservation};
use crate::selector::Constraints;
use crate::units::Bytes;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// All of the pod's volumes that are ours. The order does not matter.
    pub volumes: Vec<Volume>,
    /// Where further copies may go (and the first one, where no scheduler has looked at that yet: [`Candidates`]).
    ///
    /// [`Candidates`]: crate::Candidates
    pub constraints: Constraints,
    /// For volumes that don't say it themselves.
    pub strategy: Strategy,
}

impl Request {
    /// Whether this reservation was made for one of the new volumes that are asked for here. The reservation of a volume that
    /// has its place already (and is not made yet) is room like any other's: nothing that is asked for here goes there.
    #[must_use]
    pub fn owns(&self, reservation: &Reservation) -> bool {
        self.volumes.iter().any(|volume| {
            volume.name == reservation.volume && matches!(volume.kind, VolumeKind::New(_))
        })
    }

    pub fn new_volumes(&self) -> impl Iterator<Item = (&Volume, &NewVolume)> {
        self.volumes.iter().filter_map(|volume| match &volume.kind {
            VolumeKind::New(new) => Some((volume, new)),
            VolumeKind::Bound(_) => None,
        })
    }

    pub fn bound_volumes(&self) -> impl Iterator<Item = (&Volume, &BoundVolume)> {
        self.volumes.iter().filter_map(|volume| match &volume.kind {
            VolumeKind::Bound(bound) => Some((volume, bound)),
            VolumeKind::New(_) => None,
        })
    }
}

/// Among nodes that can hold the volumes, which first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The one with the largest share of its pool left: room for growth everywhere.
    #[default]
    Spread,
    /// The one with the smallest share left: large gaps stay for large volumes.
    BinPack,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// `pvc-<uid of the claim>`, also before the volume exists.
    pub name: Name,
    /// For people: `namespace/claim`.
    pub claim: Name,
    pub kind: VolumeKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeKind {
    Bound(BoundVolume),
    New(NewVolume),
}

/// A volume that has its places already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoundVolume {
    pub copies: Vec<Replica>,
    /// The node that uses it now: no other node may.
    pub published: Option<Name>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Replica {
    #[serde(serialize_with = "json::name")]
    pub node: Name,
    pub state: ReplicaState,
}

/// Ordered: the better is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum ReplicaState {
    /// Can't be used.
    Broken,
    /// Usable, but not (yet) complete by itself: being made, or catching up with another copy.
    Syncing,
    UpToDate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVolume {
    pub class: PoolClass,
    /// As asked; each pool rounds it up to its extents.
    pub size: Bytes,
    pub thin: bool,
    /// Copies on as many different nodes; 0 counts as 1.
    pub copies: u8,
    /// Made from a snapshot or volume that lives on these nodes: the first copy must be on one of them.
    pub source: Option<Vec<Name>>,
    /// Further copies disregard the pod's selector, affinity and tolerations.
    pub anywhere: bool,
    /// As the volume's class has it; `None`: as the request has it.
    pub strategy: Option<Strategy>,
}

impl NewVolume {
    /// A thick volume with one copy.
    #[must_use]
    pub fn new(class: PoolClass, size: Bytes) -> Self {
        Self {
            class,
            size,
            thin: false,
            copies: 1,
            source: None,
            anywhere: false,
            strategy: None,
        }
    }
}
