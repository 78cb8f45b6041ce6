//! What is kept of claims, persistent volumes and classes.

use hawser_api::names::{self, annotations};
use hawser_api::parameters::{ParameterError, PlacementStrategy, VolumeClass};
use hawser_api::quantity::{self, QuantityError};
use hawser_placement::{Bytes, Name, PoolClass, Strategy};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::jiff::Timestamp;

use crate::facts;
use crate::names::Names;

/// Of a `PersistentVolumeClaim`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimFacts {
    /// `pvc-<uid>`: the volume that is (to be) made for it.
    pub(crate) volume: Name,
    /// The persistent volume that it is bound to, or is to be bound to.
    pub(crate) bound_to: Option<Name>,
    /// `None`: no class, so nobody will make a volume for it.
    pub(crate) class: Option<Name>,
    /// The node that a scheduler has chosen for it.
    pub(crate) selected: Option<Name>,
    size: Bytes,
    /// Second copies disregard the pod's selector and tolerations.
    pub(crate) anywhere: bool,
    pub(crate) leaving: bool,
    rare: Option<Box<Rare>>,
}

/// What most claims don't have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rare {
    /// What is wrong with the size.
    size: Option<QuantityError>,
    controller: Option<Name>,
    source: Option<Source>,
}

/// What a claim is to be filled from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A claim of the same namespace.
    Claim(Name),
    /// Kind of something else.
    Other(String),
}

impl ClaimFacts {
    pub(crate) fn of(claim: &PersistentVolumeClaim, names: &mut Names) -> Self {
        let (meta, spec) = (&claim.metadata, claim.spec.as_ref());
        let annotation = |key: &str| {
            meta.annotations
                .as_ref()
                .and_then(|all| all.get(key))
                .map(String::as_str)
        };
        let class = annotation(annotations::BETA_CLASS)
            .or(spec.and_then(|spec| spec.storage_class_name.as_deref()));
        let size = spec
            .and_then(|spec| spec.resources.as_ref())
            .and_then(|resources| resources.requests.as_ref()?.get("storage"));
        let size = quantity::parse(size.map_or("", |size| size.0.as_str())).map(Bytes::from_api);
        let controller = meta
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.controller == Some(true));
        let bound_to = spec.and_then(|spec| spec.volume_name.as_deref());
        let rare = Rare {
            controller: controller.map(|owner| names.get(&owner.uid)),
            source: spec.and_then(source),
            size: size.clone().err(),
        };
        Self {
            volume: names.get(&format!("pvc-{}", meta.uid.as_deref().unwrap_or_default())),
            bound_to: bound_to
                .filter(|name| !name.is_empty())
                .map(|name| names.get(name)),
            class: class
                .filter(|name| !name.is_empty())
                .map(|name| names.get(name)),
            selected: annotation(annotations::SELECTED_NODE)
                .filter(|node| !node.is_empty())
                .map(|node| names.get(node)),
            size: size.unwrap_or_default(),
            anywhere: annotation(annotations::SKIP_AFFINITY) == Some("true"),
            leaving: meta.deletion_timestamp.is_some(),
            rare: (rare != Rare::default()).then(|| rare.into()),
        }
    }

    pub(crate) fn size(&self) -> Result<Bytes, QuantityError> {
        let wrong = self.rare.as_ref().and_then(|rare| rare.size.clone());
        wrong.map_or(Ok(self.size), Err)
    }

    /// Uid of the controlling owner (the pod, for generic ephemeral volumes).
    pub(crate) fn controller(&self) -> Option<&Name> {
        self.rare.as_ref()?.controller.as_ref()
    }

    pub(crate) fn source(&self) -> Option<&Source> {
        self.rare.as_ref()?.source.as_ref()
    }
}

fn source(spec: &k8s_openapi::api::core::v1::PersistentVolumeClaimSpec) -> Option<Source> {
    let local = spec
        .data_source
        .as_ref()
        .map(|source| (source.kind.as_str(), source.name.as_str()));
    let (kind, name) = local.or_else(|| {
        spec.data_source_ref
            .as_ref()
            .map(|source| (source.kind.as_str(), source.name.as_str()))
    })?;
    Some(if kind == "PersistentVolumeClaim" {
        Source::Claim(name.into())
    } else {
        Source::Other(kind.to_owned())
    })
}

/// Of a `PersistentVolume`: which of our volumes it is, if it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PersistentFacts {
    pub(crate) volume: Option<Name>,
    /// The volume goes when its claim goes.
    pub(crate) deleted_with_claim: bool,
}

impl PersistentFacts {
    pub(crate) fn of(persistent: &PersistentVolume, names: &mut Names) -> Self {
        let csi = persistent.spec.as_ref().and_then(|spec| spec.csi.as_ref());
        let ours = csi.filter(|csi| csi.driver == names::LVM_DRIVER);
        let policy = persistent
            .spec
            .as_ref()
            .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
        Self {
            volume: ours.map(|csi| names.get(&csi.volume_handle)),
            deleted_with_claim: policy == Some("Delete"),
        }
    }
}

/// Of a `StorageClass`; parameters only of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClassFacts {
    pub(crate) ours: Option<OurClass>,
    /// It is the one for claims that name none, since then.
    pub(crate) default_since: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OurClass {
    pub(crate) immediate: bool,
    /// Read by the same parser as volume creation uses, so a class that it refuses is refused here in the same words.
    pub(crate) asked: Result<Asked, ParameterError>,
}

/// What the class's parameters ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) class: PoolClass,
    pub(crate) copies: u8,
    pub(crate) thin: bool,
    pub(crate) strategy: Option<Strategy>,
}

impl ClassFacts {
    pub(crate) fn of(class: &StorageClass, _: &mut Names) -> Self {
        let ours = (class.provisioner == names::LVM_DRIVER).then(|| OurClass {
            immediate: class.volume_binding_mode.as_deref() != Some("WaitForFirstConsumer"),
            asked: VolumeClass::parse_supported(class.parameters.iter().flatten())
                .and_then(|class| asked(&class)),
        });
        let meta = &class.metadata;
        let marks = [annotations::DEFAULT_CLASS, annotations::BETA_DEFAULT_CLASS];
        let marked = meta
            .annotations
            .iter()
            .flatten()
            .any(|(key, value)| marks.contains(&key.as_str()) && value == "true");
        let made = meta.creation_timestamp.as_ref();
        Self {
            ours,
            default_since: marked.then(|| made.map_or(Timestamp::UNIX_EPOCH, |made| made.0)),
        }
    }
}

fn asked(class: &VolumeClass) -> Result<Asked, ParameterError> {
    let invalid = |parameter: &str, value: String| ParameterError::Invalid {
        parameter: parameter.to_owned(),
        value,
        expected: "served by this version".to_owned(),
    };
    let pool = facts::class(&class.pool_class)
        .ok_or_else(|| invalid("poolClass", class.pool_class.to_string()))?;
    let copies = u8::try_from(class.replicas)
        .map_err(|_| invalid("replicaNumber", class.replicas.to_string()))?;
    Ok(Asked {
        class: pool,
        copies,
        thin: class.thin,
        strategy: class.placement.map(|placement| match placement {
            PlacementStrategy::Spread => Strategy::Spread,
            PlacementStrategy::BinPack => Strategy::BinPack,
        }),
    })
}
