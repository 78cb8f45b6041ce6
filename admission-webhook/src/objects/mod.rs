//! Hawser's own objects, as users write and delete them. Its own parts are not asked here: they know what they do, and must go on working
//! without this webhook.
//!
//! Clusters hold objects of many versions, and nothing was ever refused before. So a change is refused only for what it makes worse: for a
//! fault that the object did not have before, or for a step that can't be taken (shrinking, moving). What is wrong already may stay, be
//! labelled, lose its finalizers, and go.

mod disk;
mod disk_claim;
mod expand;
mod group;
mod node;
mod replica;
mod volume;

use hawser_api::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;

use crate::gather::Round;
use crate::policy::{Judgement, Policies};
use crate::wire::{Answer, BadReview, Because, Operation, Request};

/// What is wrong with an object or a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The field, or the rule.
    at: &'static str,
    because: Because,
    sentence: String,
}

impl Fault {
    fn invalid(at: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            at,
            because: Because::Invalid,
            sentence: sentence.into(),
        }
    }

    fn in_use(at: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            at,
            because: Because::Forbidden,
            sentence: sentence.into(),
        }
    }
}

/// A field that can't be given another value once it has one; empty counts as none.
fn fixed<T: PartialEq + std::fmt::Display + Default>(
    at: &'static str,
    (old, new): (&T, &T),
    instead: &str,
    faults: &mut Vec<Fault>,
) {
    if *old != T::default() && old != new {
        faults.push(Fault::invalid(
            at,
            format!("{at} is {old} and can't become {new}: {instead}"),
        ));
    }
}

/// The same for what has no short form in a sentence.
fn kept<T: PartialEq + Default>(
    at: &'static str,
    (old, new): (&T, &T),
    instead: &str,
    faults: &mut Vec<Fault>,
) {
    if *old != T::default() && old != new {
        faults.push(Fault::invalid(
            at,
            format!("{at} can't be changed: {instead}"),
        ));
    }
}

/// Faults that the object did not have before.
fn worse(before: &[Fault], after: Vec<Fault>) -> impl Iterator<Item = Fault> {
    let known: Vec<&'static str> = before.iter().map(|fault| fault.at).collect();
    after
        .into_iter()
        .filter(move |fault| !known.contains(&fault.at))
}

/// One kind, as far as users write it.
trait Kind: Resource<DynamicType = ()> + DeserializeOwned + Clone {
    /// For sentences.
    const NAME: &'static str;
    /// What is known of the cluster around the object.
    type Known: Sync;

    /// Gathers it. `old`: the object as stored, if there is one.
    async fn known(round: &Round<'_>, old: Option<&Self>, new: &Self) -> Self::Known;

    /// What is wrong with the object in itself, where it is.
    fn faults(&self, known: &Self::Known) -> Vec<Fault>;

    /// What is wrong with the step.
    fn step(old: &Self, new: &Self, known: &Self::Known) -> Vec<Fault>;

    /// Why it can't be deleted now.
    fn held(&self, known: &Self::Known) -> Vec<Fault>;

    /// What is to be said, without refusing it.
    fn warnings(&self, _operation: Operation, _known: &Self::Known) -> Vec<String> {
        Vec::new()
    }

    /// What policies say of it. `old`: as stored.
    async fn judged(
        _round: &Round<'_>,
        _policies: &Policies,
        _old: Option<&Self>,
        _new: &Self,
    ) -> Judgement {
        Judgement::default()
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// A part of Hawser: policies hold for it, nothing else is asked.
    Ourselves,
    /// Kubernetes' own controllers that clean up: nothing is asked.
    Cleaner,
    /// Anybody else.
    User,
}

impl Who {
    fn of(round: &Round<'_>, user: &str) -> Self {
        const CLEANERS: [&str; 2] = [
            "system:serviceaccount:kube-system:generic-garbage-collector",
            "system:serviceaccount:kube-system:namespace-controller",
        ];
        if round.is_own(user) {
            Self::Ourselves
        } else if CLEANERS.contains(&user) {
            Self::Cleaner
        } else {
            Self::User
        }
    }
}

/// Whether this plural is one of those that are looked at, and the answer for it.
pub(crate) async fn review(
    round: &Round<'_>,
    policies: &Policies,
    request: &Request<'_>,
    answer: &mut Answer,
) -> Result<Judgement, BadReview> {
    let (_, plural, sub) = request.target();
    if !sub.is_empty() {
        return Ok(Judgement::default());
    }
    match plural {
        "localvolumes" => one::<hawser_api::LocalVolume>(round, policies, request, answer).await,
        "localvolumereplicas" => {
            one::<hawser_api::LocalVolumeReplica>(round, policies, request, answer).await
        }
        "localvolumegroups" => {
            one::<hawser_api::LocalVolumeGroup>(round, policies, request, answer).await
        }
        "localvolumeexpands" => {
            one::<hawser_api::LocalVolumeExpand>(round, policies, request, answer).await
        }
        "localdisks" => one::<hawser_api::LocalDisk>(round, policies, request, answer).await,
        "localdiskclaims" => {
            one::<hawser_api::LocalDiskClaim>(round, policies, request, answer).await
        }
        "localdisknodes" => {
            one::<hawser_api::LocalDiskNode>(round, policies, request, answer).await
        }
        "localstoragenodes" => {
            one::<hawser_api::LocalStorageNode>(round, policies, request, answer).await
        }
        _ => Ok(Judgement::default()),
    }
}

async fn one<K: Kind>(
    round: &Round<'_>,
    policies: &Policies,
    request: &Request<'_>,
    answer: &mut Answer,
) -> Result<Judgement, BadReview> {
    let who = Who::of(round, request.user());
    if who == Who::Cleaner {
        return Ok(Judgement::default());
    }
    let old = match request.operation {
        Operation::Create => None,
        Operation::Update | Operation::Delete => Some(request.old_object::<K>(K::NAME)?),
        Operation::Connect => return Ok(Judgement::default()),
    };
    let new = match request.operation {
        Operation::Create | Operation::Update => Some(request.object::<K>(K::NAME)?),
        Operation::Delete | Operation::Connect => None,
    };
    let opted = |object: &K| names::opts_out(object.meta().labels.as_ref());
    if old.as_ref().or(new.as_ref()).is_some_and(opted) {
        return Ok(Judgement::default());
    }
    let Some(subject) = new.as_ref().or(old.as_ref()) else {
        return Ok(Judgement::default());
    };
    let mut faults = Vec::new();
    if who == Who::User {
        let known = K::known(round, old.as_ref(), subject).await;
        faults = match (&old, &new) {
            (None, Some(new)) => new.faults(&known),
            (Some(old), Some(new)) => {
                let mut faults = K::step(old, new, &known);
                faults.extend(worse(&old.faults(&known), new.faults(&known)));
                faults
            }
            (Some(old), None) if !is_going(old.meta()) => old.held(&known),
            (_, None) => Vec::new(),
        };
        answer
            .warnings
            .extend(subject.warnings(request.operation, &known));
    }
    for fault in faults {
        answer.refuse(
            fault.because,
            format!(
                "{} {}: {}",
                K::NAME,
                named(subject, request),
                fault.sentence
            ),
        );
    }
    match &new {
        Some(new) => Ok(K::judged(round, policies, old.as_ref(), new).await),
        None => Ok(Judgement::default()),
    }
}

fn named<K: Kind>(object: &K, request: &Request<'_>) -> String {
    let name = object.meta().name.as_deref().unwrap_or(request.name());
    format!("{name:?}")
}

/// Deleting what is being deleted changes nothing.
fn is_going(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
