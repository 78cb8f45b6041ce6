//! Claims: what policies give them when they are made, and what they allow of them when they are made and when they grow.
//!
//! Only claims of our classes are anyone's business here. A claim that is there already, and does not grow, is never refused.

use hawser_api::parameters::VolumeClass;
use hawser_api::quantity;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::facts::{Class, ClassName, Driver, Labels, Space, class_name, labels_of};
use crate::gather::Round;
use crate::policy::{Asker, Judgement, Nature, Policies, Wish, default_class, default_size, judge};

/// What is known around a claim.
pub(crate) struct Around<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) space: &'a Space,
    pub(crate) labels: &'a Labels,
}

impl Around<'_> {
    pub(crate) fn asker<'b>(&'b self, class: Option<&'b str>) -> Asker<'b> {
        Asker {
            namespace: self.namespace,
            namespace_labels: &self.space.labels,
            labels: self.labels,
            class,
        }
    }
}

/// The size that a claim asks for, bytes; `None`: it doesn't say, or not in a form that can be read.
pub(crate) fn asked_size(spec: &PersistentVolumeClaimSpec) -> Option<i64> {
    let requests = spec.resources.as_ref()?.requests.as_ref()?;
    quantity::parse(&requests.get("storage")?.0).ok()
}

/// What policies give a new claim that does not say.
pub(crate) async fn mutate(
    round: &Round<'_>,
    policies: &Policies,
    namespace: &str,
    claim: &PersistentVolumeClaim,
) -> Vec<PatchOperation> {
    let policies = policies.all();
    let Some(spec) = claim.spec.as_ref().filter(|_| !policies.is_empty()) else {
        return Vec::new();
    };
    let space = round.space(namespace).await;
    if space.ignored {
        return Vec::new();
    }
    let labels = labels_of(&claim.metadata);
    let around = Around {
        namespace,
        space: &space,
        labels: &labels,
    };
    let mut patch = Vec::new();
    let class = match class_name(&claim.metadata, Some(spec)) {
        ClassName::Named(name) => name,
        ClassName::None => return patch,
        ClassName::Default => {
            // A claim for a certain volume is bound by what that volume says of its class. And the cluster's default class, which the
            // API server writes into a claim before it asks us, is in force where there is one.
            let certain = spec.volume_name.as_ref().is_some_and(|v| !v.is_empty());
            if certain || round.cluster_default().is_some() {
                return patch;
            }
            match default_class(&policies, &around.asker(None)) {
                Some(name) => name.to_owned(),
                None => return patch,
            }
        }
    };
    // What does not exist, or is another driver's, is no class to be given by us.
    if !is_ours(round.class(&class).await.as_ref()) {
        return patch;
    }
    if spec.storage_class_name.as_ref() != Some(&class) && annotated(&claim.metadata).is_none() {
        patch.push(add(&["spec", "storageClassName"], class.clone().into()));
    }
    let unsaid = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    if unsaid.is_none_or(|requests| !requests.contains_key("storage"))
        && let Some(size) = default_size(&policies, &around.asker(Some(&class)))
    {
        patch.push(size_patch(spec.resources.as_ref(), size));
    }
    patch
}

fn annotated(meta: &ObjectMeta) -> Option<&String> {
    let annotations = meta.annotations.as_ref()?;
    annotations.get(hawser_api::names::annotations::BETA_CLASS)
}

fn add(path: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation {
        path: PointerBuf::from_tokens(path.iter().copied()),
        value,
    })
}

fn size_patch(resources: Option<&VolumeResourceRequirements>, size: &str) -> PatchOperation {
    match resources {
        None => add(
            &["spec", "resources"],
            json!({ "requests": { "storage": size } }),
        ),
        Some(VolumeResourceRequirements { requests: None, .. }) => add(
            &["spec", "resources", "requests"],
            json!({ "storage": size }),
        ),
        Some(_) => add(&["spec", "resources", "requests", "storage"], size.into()),
    }
}

fn is_ours(class: Option<&Class>) -> bool {
    class.is_some_and(|class| class.driver != Driver::Foreign)
}

/// What policies say of a new claim, or of a template for one. `what` begins each sentence.
pub(crate) async fn judge_new(
    round: &Round<'_>,
    policies: &Policies,
    around: &Around<'_>,
    (meta, spec): (&ObjectMeta, &PersistentVolumeClaimSpec),
    what: &str,
) -> Judgement {
    let policies = policies.all();
    if policies.is_empty() || around.space.ignored {
        return Judgement::default();
    }
    let by_policy = || default_class(&policies, &around.asker(None)).map(str::to_owned);
    let name = match class_name(meta, Some(spec)) {
        ClassName::Named(name) => Some(name),
        ClassName::Default => round.cluster_default().or_else(by_policy),
        ClassName::None => None,
    };
    let Some(name) = name else {
        return Judgement::default();
    };
    let Some(class) = round
        .class(&name)
        .await
        .filter(|class| is_ours(Some(class)))
    else {
        return Judgement::default();
    };
    let wish = Wish {
        bytes: asked_size(spec),
        // A class that can't be read makes no volumes; its claims are refused by whom they ask.
        volume: VolumeClass::parse(&class.parameters)
            .ok()
            .map(|parsed| Nature::of_class(&name, &parsed)),
        class: Some(name.clone()),
    };
    judge(&policies, &around.asker(Some(&name)), &wish, what)
}

/// What policies say of a change of a claim: only growth is judged, and only by size.
pub(crate) async fn judge_change(
    round: &Round<'_>,
    policies: &Policies,
    namespace: &str,
    old: &PersistentVolumeClaim,
    new: &PersistentVolumeClaim,
) -> Judgement {
    let policies = policies.all();
    let size = |claim: &PersistentVolumeClaim| claim.spec.as_ref().and_then(asked_size);
    let (Some(before), Some(after)) = (size(old), size(new)) else {
        return Judgement::default();
    };
    if policies.is_empty() || after <= before {
        return Judgement::default();
    }
    let space = round.space(namespace).await;
    if space.ignored {
        return Judgement::default();
    }
    let labels = labels_of(&new.metadata);
    let around = Around {
        namespace,
        space: &space,
        labels: &labels,
    };
    let (class, ours) = match class_name(&new.metadata, new.spec.as_ref()) {
        ClassName::Named(name) => {
            let ours = is_ours(round.class(&name).await.as_ref());
            (Some(name), ours)
        }
        ClassName::Default | ClassName::None => (None, false),
    };
    let volume = new.spec.as_ref().and_then(|s| s.volume_name.as_deref());
    if !ours && !round.is_ours(volume).await {
        return Judgement::default();
    }
    let wish = Wish {
        bytes: Some(after),
        ..Wish::default()
    };
    judge(&policies, &around.asker(class.as_deref()), &wish, "")
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
