//! What is read of a pod: the few fields that its placement depends on.

use std::collections::{BTreeMap, BTreeSet};

use hawser_api::names;
use k8s_openapi::api::core::v1::PersistentVolumeClaimTemplate;
use serde::Deserialize;
use serde_json::Value;

/// How many claims of a pod are looked at. No kubelet mounts as many; more would be a way to keep the webhook busy.
pub(crate) const MAX_CLAIMS: usize = 256;

/// A pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodView {
    metadata: Option<Meta>,
    spec: Option<Spec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    name: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<Owner>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Owner {
    kind: String,
    name: String,
    controller: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    volumes: Option<Vec<Volume>>,
    /// As it came: it is added to, and holds fields that this version does not know.
    affinity: Option<Value>,
    scheduler_name: Option<String>,
    node_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Volume {
    name: String,
    persistent_volume_claim: Option<ClaimSource>,
    ephemeral: Option<Ephemeral>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClaimSource {
    claim_name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ephemeral {
    volume_claim_template: Option<PersistentVolumeClaimTemplate>,
}

impl PodView {
    fn meta(&self) -> Option<&Meta> {
        self.metadata.as_ref()
    }

    /// Its name; `None` if the API server is still to make one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.meta()?.name.as_deref().filter(|name| !name.is_empty())
    }

    /// Whether the pod asks to be left as it is.
    pub(crate) fn opts_out(&self) -> bool {
        let labels = self.meta().and_then(|meta| meta.labels.as_ref());
        names::opts_out(labels)
    }

    /// The StatefulSet that makes it.
    pub(crate) fn stateful_set(&self) -> Option<&str> {
        let owners = self.meta()?.owner_references.as_deref()?;
        let set = owners
            .iter()
            .find(|owner| owner.controller == Some(true) && owner.kind == "StatefulSet")?;
        Some(&set.name)
    }

    fn volumes(&self) -> &[Volume] {
        let volumes = self.spec.as_ref().and_then(|spec| spec.volumes.as_deref());
        volumes.unwrap_or_default()
    }

    /// The names of the claims that it uses, at most [`MAX_CLAIMS`].
    pub(crate) fn claims(&self) -> BTreeSet<&str> {
        let named = self.volumes().iter().filter_map(|volume| {
            let source = volume.persistent_volume_claim.as_ref()?;
            Some(source.claim_name.as_str())
        });
        named.take(MAX_CLAIMS).collect()
    }

    /// Its generic ephemeral volumes: a claim will be made of each. By the name of the volume, at most [`MAX_CLAIMS`].
    pub(crate) fn templates(&self) -> BTreeMap<&str, &PersistentVolumeClaimTemplate> {
        let templates = self.volumes().iter().filter_map(|volume| {
            let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
            Some((volume.name.as_str(), template))
        });
        templates.take(MAX_CLAIMS).collect()
    }

    /// The node that it is bound to already.
    pub(crate) fn node(&self) -> Option<&str> {
        let node = self.spec.as_ref()?.node_name.as_deref();
        node.filter(|node| !node.is_empty())
    }

    /// The scheduler that its author chose. API servers write the default's name into pods that name none.
    pub(crate) fn scheduler(&self) -> Option<&str> {
        let name = self.spec.as_ref()?.scheduler_name.as_deref();
        name.filter(|name| !name.is_empty() && *name != names::scheduling::DEFAULT_SCHEDULER)
    }

    /// Whether there is something to be patched.
    pub(crate) fn has_spec(&self) -> bool {
        self.spec.is_some()
    }

    /// Its affinity as it came; `None`: none, or null.
    pub(crate) fn affinity(&self) -> Option<&Value> {
        self.spec.as_ref()?.affinity.as_ref()
    }
}
