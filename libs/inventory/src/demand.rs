//! The question: which of a pod's volumes are ours, and what each asks for.

use std::collections::{BTreeMap, BTreeSet};

use hawser_api::parameters::ParameterError;
use hawser_api::quantity::QuantityError;
use hawser_placement::selector::{
    Effect, Operator, Requirement, Term, Toleration, TolerationOperator,
};
use hawser_placement::{
    BoundVolume, Constraints, Name, NewVolume, Replica, ReplicaState, Request, Strategy, Volume,
    VolumeKind,
};
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};
use serde::{Serialize, Serializer};

use crate::claim::{ClaimFacts, OurClass, Source};
use crate::fold::Key;
use crate::inventory::Inventory;
use crate::suppose::Supposed;

/// Why a pod's (or claim's) request can't be told. The sentences are for the pod's owner; as JSON it has the form of a reason
/// (docs/why.md).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(tag = "reason", rename_all_fields = "camelCase")]
pub enum Unknown {
    #[error("claim {claim} does not exist (yet)")]
    ClaimMissing {
        #[serde(serialize_with = "text")]
        claim: Name,
    },
    #[error("claim {claim} is being deleted")]
    ClaimLeaving {
        #[serde(serialize_with = "text")]
        claim: Name,
    },
    #[error(
        "claim {claim} belongs to somebody else, but the pod's ephemeral volume needs that name: delete or rename one of them"
    )]
    #[serde(rename = "ClaimNotOwned")]
    NotOwned {
        #[serde(serialize_with = "text")]
        claim: Name,
    },
    #[error("claim {claim}: its StorageClass {class} does not exist")]
    ClassMissing {
        #[serde(serialize_with = "text")]
        claim: Name,
        #[serde(serialize_with = "text")]
        class: Name,
    },
    #[error("claim {claim}: its StorageClass {class}: {source}")]
    ClassWrong {
        #[serde(serialize_with = "text")]
        claim: Name,
        #[serde(serialize_with = "text")]
        class: Name,
        #[serde(rename = "problem", serialize_with = "text")]
        source: ParameterError,
    },
    #[error("claim {claim}: spec.resources.requests.storage: {source}")]
    #[serde(rename = "ClaimSizeWrong")]
    SizeWrong {
        #[serde(serialize_with = "text")]
        claim: Name,
        #[serde(rename = "problem", serialize_with = "text")]
        source: QuantityError,
    },
    #[error("claim {claim} binds at once (volumeBindingMode Immediate) and is not bound yet")]
    #[serde(rename = "ClaimNotBoundYet")]
    NotBoundYet {
        #[serde(serialize_with = "text")]
        claim: Name,
    },
    #[error("claim {claim}: its PersistentVolume {name} does not exist (yet)")]
    #[serde(rename = "PersistentVolumeMissing")]
    PersistentMissing {
        #[serde(serialize_with = "text")]
        claim: Name,
        #[serde(serialize_with = "text")]
        name: Name,
    },
    #[error("claim {claim}: its LocalVolume {volume} does not exist (yet)")]
    VolumeMissing {
        #[serde(serialize_with = "text")]
        claim: Name,
        #[serde(serialize_with = "text")]
        volume: Name,
    },
    #[error("claim {claim}: its volume {volume} is being deleted")]
    VolumeLeaving {
        #[serde(serialize_with = "text")]
        claim: Name,
        #[serde(serialize_with = "text")]
        volume: Name,
    },
    #[error("claim {claim}: a volume can't be made from a {kind}")]
    #[serde(rename = "ClaimSourceKind")]
    SourceKind {
        #[serde(serialize_with = "text")]
        claim: Name,
        kind: String,
    },
    #[error("claim {claim}: its source {why}")]
    #[serde(rename = "ClaimSourceUnknown")]
    SourceUnknown {
        #[serde(serialize_with = "text")]
        claim: Name,
        why: String,
    },
}

fn text<S: Serializer>(what: &impl ToString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&what.to_string())
}

impl Unknown {
    /// As the sentence, without the values of a class's parameters, which are not for logs.
    #[must_use]
    pub fn logged(&self) -> String {
        let Self::ClassWrong {
            claim,
            class,
            source,
        } = self
        else {
            return self.to_string();
        };
        format!(
            "claim {claim}: its StorageClass {class}: parameter {:?} is refused",
            source.parameter()
        )
    }

    /// Whether it may be cured by time alone: something that others are about to make, or that we have not seen yet.
    /// Otherwise somebody has to change something.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::ClaimMissing { .. }
            | Self::ClaimLeaving { .. }
            | Self::NotBoundYet { .. }
            | Self::PersistentMissing { .. }
            | Self::VolumeMissing { .. }
            | Self::VolumeLeaving { .. }
            | Self::SourceUnknown { .. } => true,
            Self::NotOwned { .. }
            | Self::ClassMissing { .. }
            | Self::ClassWrong { .. }
            | Self::SizeWrong { .. }
            | Self::SourceKind { .. } => false,
        }
    }
}

impl Inventory {
    /// What the pod asks of us; `None` if none of its volumes is ours. The strategy is the default, for the caller to set.
    pub fn pod_request(&self, pod: &Pod) -> Result<Option<Request>, Unknown> {
        self.pod_request_supposing(pod, &Supposed::default())
    }

    /// The same if these claims existed, too.
    pub fn pod_request_supposing(
        &self,
        pod: &Pod,
        supposed: &Supposed,
    ) -> Result<Option<Request>, Unknown> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let uid = pod.metadata.uid.as_deref();
        let mut volumes = BTreeMap::new();
        for (claim, ephemeral) in claims_of(pod) {
            let key = Key::namespaced(namespace, claim);
            let volume = self.volume(&key, supposed, |facts| {
                let ours = uid.is_none() || facts.controller().map(|owner| &**owner) == uid;
                if ephemeral && !ours {
                    Err(Unknown::NotOwned { claim: shown(&key) })
                } else {
                    Ok(())
                }
            })?;
            let waits = volume
                .as_ref()
                .is_some_and(|volume| matches!(volume.kind, VolumeKind::New(_)));
            if waits && self.binds_at_once(&key, supposed) {
                return Err(Unknown::NotBoundYet { claim: shown(&key) });
            }
            volumes.extend(volume.map(|volume| (volume.name.clone(), volume)));
        }
        let request = || Request {
            volumes: volumes.into_values().collect(),
            constraints: constraints(pod),
            strategy: Strategy::default(),
        };
        Ok(Some(request()).filter(|request| !request.volumes.is_empty()))
    }

    /// What one claim asks of us by itself (Immediate binding: no pod has a say); `None` if it is not ours.
    pub fn claim_request(&self, namespace: &str, name: &str) -> Result<Option<Request>, Unknown> {
        let key = Key::namespaced(namespace, name);
        let volume = self.volume(&key, &Supposed::default(), |_| Ok(()))?;
        Ok(volume.map(|volume| Request {
            volumes: vec![volume],
            ..Request::default()
        }))
    }

    /// What exists counts; what is supposed only fills gaps.
    fn claim_or<'a>(&'a self, key: &Key, supposed: &'a Supposed) -> Option<&'a ClaimFacts> {
        self.claim(key).or_else(|| supposed.claims.get(key))
    }

    fn binds_at_once(&self, key: &Key, supposed: &Supposed) -> bool {
        let class = self
            .claim_or(key, supposed)
            .and_then(|facts| self.classes.get(facts.class.as_ref()?));
        class
            .and_then(|class| class.ours.as_ref())
            .is_some_and(|ours| ours.immediate)
    }

    fn volume(
        &self,
        key: &Key,
        supposed: &Supposed,
        check: impl Fn(&ClaimFacts) -> Result<(), Unknown>,
    ) -> Result<Option<Volume>, Unknown> {
        let claim = shown(key);
        let Some(facts) = self.claim_or(key, supposed) else {
            return Err(Unknown::ClaimMissing { claim });
        };
        check(facts)?;
        if let Some(name) = &facts.bound_to {
            let Some(persistent) = self.persistent.get(name) else {
                return Err(Unknown::PersistentMissing {
                    claim,
                    name: name.clone(),
                });
            };
            let Some(volume) = &persistent.volume else {
                return Ok(None);
            };
            return match self.bound(volume) {
                Some(kind) => Ok(Some(Volume {
                    name: volume.clone(),
                    claim,
                    kind,
                })),
                None if self.volumes.contains_key(volume) => Err(Unknown::VolumeLeaving {
                    claim,
                    volume: volume.clone(),
                }),
                None => Err(Unknown::VolumeMissing {
                    claim,
                    volume: volume.clone(),
                }),
            };
        }
        let Some(name) = &facts.class else {
            return Ok(None);
        };
        let Some(class) = self.classes.get(name) else {
            return Err(Unknown::ClassMissing {
                claim,
                class: name.clone(),
            });
        };
        let Some(ours) = &class.ours else {
            return Ok(None);
        };
        if facts.leaving {
            return Err(Unknown::ClaimLeaving { claim });
        }
        // Made, or being made, before the claim is bound: its room is in the accounts already, and its place is settled.
        let kind = match self.bound(&facts.volume) {
            Some(bound) => bound,
            None => VolumeKind::New(self.new_volume(key, supposed, (facts, name, ours))?),
        };
        Ok(Some(Volume {
            name: facts.volume.clone(),
            claim,
            kind,
        }))
    }

    /// The volume as it exists; `None` if it does not, is to be deleted, or has no place yet.
    fn bound(&self, volume: &str) -> Option<VolumeKind> {
        let facts = self.volumes.get(volume).filter(|facts| !facts.leaving)?;
        let mut copies: Vec<Replica> = self
            .replicas_of(volume)
            .filter(|replica| !replica.leaving)
            .map(|replica| Replica {
                node: replica.node.clone(),
                state: replica.state,
            })
            .collect();
        if copies.is_empty() {
            let planned = facts.nodes.as_slice().iter();
            copies = planned
                .map(|node| Replica {
                    node: node.clone(),
                    state: ReplicaState::Syncing,
                })
                .collect();
        }
        copies.sort_by(|a, b| a.node.cmp(&b.node));
        Some(VolumeKind::Bound(BoundVolume {
            copies,
            published: facts.published.clone(),
        }))
    }

    fn new_volume(
        &self,
        key: &Key,
        supposed: &Supposed,
        (facts, class, ours): (&ClaimFacts, &Name, &OurClass),
    ) -> Result<NewVolume, Unknown> {
        let claim = || shown(key);
        let size = facts.size().map_err(|source| Unknown::SizeWrong {
            claim: claim(),
            source,
        })?;
        let wrong = |source| Unknown::ClassWrong {
            claim: claim(),
            class: class.clone(),
            source,
        };
        let asked = ours.asked.clone().map_err(wrong)?;
        let source = match facts.source() {
            None => None,
            Some(Source::Other(kind)) => {
                return Err(Unknown::SourceKind {
                    claim: claim(),
                    kind: kind.clone(),
                });
            }
            Some(Source::Claim(name)) => Some(self.source_nodes(key, supposed, name)?),
        };
        Ok(NewVolume {
            class: asked.class,
            size,
            thin: asked.thin,
            copies: asked.copies,
            source,
            anywhere: facts.anywhere,
            strategy: asked.strategy,
        })
    }

    /// Nodes with a usable copy of the claim that is to be cloned.
    fn source_nodes(
        &self,
        key: &Key,
        supposed: &Supposed,
        source: &Name,
    ) -> Result<Vec<Name>, Unknown> {
        let unknown = |why: String| Unknown::SourceUnknown {
            claim: shown(key),
            why,
        };
        let source_key = Key {
            namespace: key.namespace.clone(),
            name: source.to_string(),
        };
        // What has no volume is not asked what it is to be made from: claims could name each other in a circle.
        let claim = self.claim_or(&source_key, supposed);
        if claim
            .is_some_and(|facts| facts.bound_to.is_none() && self.bound(&facts.volume).is_none())
        {
            return Err(unknown(format!("claim {source} has no volume yet")));
        }
        match self.volume(&source_key, supposed, |_| Ok(())) {
            Ok(Some(Volume {
                kind: VolumeKind::Bound(bound),
                ..
            })) => {
                let usable = bound
                    .copies
                    .into_iter()
                    .filter(|copy| copy.state > ReplicaState::Broken);
                Ok(usable.map(|copy| copy.node).collect())
            }
            Ok(Some(_)) => Err(unknown(format!("claim {source} has no volume yet"))),
            Ok(None) => Err(unknown(format!("claim {source} is of another driver"))),
            Err(why) => Err(unknown(why.to_string())),
        }
    }
}

fn shown(key: &Key) -> Name {
    format!(
        "{}/{}",
        key.namespace.as_deref().unwrap_or_default(),
        key.name
    )
    .into()
}

/// Names of the claims that the pod uses, and whether the claim is made for it (generic ephemeral volume).
fn claims_of(pod: &Pod) -> BTreeSet<(String, bool)> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(
            |volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
                (Some(claim), _) => Some((claim.claim_name.clone(), false)),
                (None, Some(_)) => Some((format!("{name}-{}", volume.name), true)),
                (None, None) => None,
            },
        )
        .collect()
}

/// What the pod says about nodes.
#[must_use]
pub fn constraints(pod: &Pod) -> Constraints {
    let Some(spec) = &pod.spec else {
        return Constraints::default();
    };
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| {
        affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let tolerations = spec
        .tolerations
        .iter()
        .flatten()
        .map(|toleration| Toleration {
            key: toleration.key.clone().unwrap_or_default(),
            operator: TolerationOperator::from(toleration.operator.as_deref().unwrap_or_default()),
            value: toleration.value.clone().unwrap_or_default(),
            effect: toleration
                .effect
                .as_deref()
                .filter(|effect| !effect.is_empty())
                .map(Effect::from),
        });
    Constraints {
        node_selector: spec.node_selector.clone().unwrap_or_default(),
        node_affinity: required
            .map(|selector| selector.node_selector_terms.iter().map(term).collect()),
        tolerations: tolerations.collect(),
    }
}

fn term(term: &NodeSelectorTerm) -> Term {
    let requirements = |list: &Option<Vec<NodeSelectorRequirement>>| {
        list.iter().flatten().map(requirement).collect()
    };
    Term {
        match_expressions: requirements(&term.match_expressions),
        match_fields: requirements(&term.match_fields),
    }
}

fn requirement(requirement: &NodeSelectorRequirement) -> Requirement {
    Requirement {
        key: requirement.key.clone(),
        operator: Operator::from(requirement.operator.as_str()),
        values: requirement.values.clone().unwrap_or_default(),
    }
}
