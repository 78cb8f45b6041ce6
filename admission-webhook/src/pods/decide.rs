//! What a pod gets at admission, decided from the pod and what is known of its claims. Pure: no I/O, no clock.
//!
//! A pod with a claim of ours gets our scheduler, unless it names another, and *prefers* the nodes that have its data. Only a policy makes
//! that a demand. The hard truth stays with the volumes' node affinity and the scheduler's extender, which hold without this webhook.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hawser_api::parameters::VolumeClass;
use hawser_api::{PoolClass, names};

use crate::facts::{Class, Copy, Driver, Labels};
use crate::pods::affinity::{NodeAffinity, OnLabel};
use crate::pods::locality::preferences;
use crate::pods::view::PodView;
use crate::policy::{self, Asker, Judgement, Policy, Violation};
use crate::pools::Nodes;

/// Where the data of one of the pod's volumes comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A claim that is bound to a volume of this driver; its copies, if it is a logical volume.
    Bound { driver: Driver, copies: Vec<Copy> },
    /// A claim, or one that will be made from a template, that has no volume yet.
    New,
    /// No such claim, and no template for one: it comes after the pod.
    Missing,
    /// A claim whose volume can't be found out.
    Unknown,
}

/// A claim as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownClaim {
    pub(crate) source: Source,
    /// The name of its class, also one that it gets by default.
    pub(crate) class: Option<String>,
    pub(crate) labels: Labels,
}

/// What is known of the cluster as far as one pod is concerned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The pod's namespace is to be left alone.
    pub(crate) ignored: bool,
    pub(crate) namespace: String,
    pub(crate) namespace_labels: Labels,
    /// By the name of the claim.
    pub(crate) claims: BTreeMap<String, KnownClaim>,
    /// The claims of generic ephemeral volumes, by the name of the volume.
    pub(crate) templates: BTreeMap<String, KnownClaim>,
    /// By name: the classes that the claims ask for.
    pub(crate) classes: BTreeMap<String, Class>,
    /// Whether a claim that names no class is ours.
    pub(crate) default_is_ours: bool,
    /// By class: the nodes that have such pools. Those of classes that new claims ask for.
    pub(crate) pools: BTreeMap<PoolClass, Nodes>,
    /// In order of precedence.
    pub(crate) policies: Arc<[Arc<Policy>]>,
}

/// What the pod gets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Decision {
    /// Our scheduler.
    pub(crate) scheduler: bool,
    /// Preferences for nodes, to be added to what the user wrote.
    pub(crate) preferred: Vec<(i32, OnLabel)>,
    /// What every node of the pod must fulfil, to be added to what the user wrote.
    pub(crate) required: Vec<OnLabel>,
    /// Sentences for the user.
    pub(crate) warnings: Vec<String>,
}

/// What the pod gets. Deciding again on the result gives nothing.
pub(crate) fn decide(pod: &PodView, known: &Known) -> Decision {
    let mut decision = Decision::default();
    // A pod with a node never meets a scheduler.
    if !pod.has_spec() || known.ignored || pod.opts_out() || pod.node().is_some() {
        return decision;
    }
    let seen = survey(known, &mut decision.warnings);
    let pools = common(&seen.pool_classes, known, &mut decision.warnings);
    let present = NodeAffinity::of(pod.affinity());
    decision.scheduler = seen.ours && pod.scheduler().is_none();
    if present.tied_to().is_none() {
        decision.preferred = preferences(&seen.volumes, &pools, &present);
    }
    let demands = demands(known, best_nodes);
    let wanted = demands.into_values().map(|(_, wanted)| wanted);
    let missing: BTreeSet<OnLabel> = wanted.filter(|wanted| !present.demands(wanted)).collect();
    decision.required = missing.into_iter().collect();
    decision
}

/// What the pod's claims come to.
#[derive(Default)]
struct Survey<'a> {
    /// One of them is ours, or will be.
    ours: bool,
    /// The copies of each bound one of ours.
    volumes: Vec<&'a [Copy]>,
    /// What the new ones of ours ask for.
    pool_classes: BTreeSet<PoolClass>,
}

fn survey<'a>(known: &'a Known, warnings: &mut Vec<String>) -> Survey<'a> {
    let mut seen = Survey::default();
    for (what, claim) in claims(known) {
        match &claim.source {
            Source::Bound {
                driver: Driver::Lvm,
                copies,
            } => {
                seen.ours = true;
                seen.volumes.push(copies);
            }
            Source::Bound {
                driver: Driver::Disk,
                ..
            } => seen.ours = true,
            Source::New => {
                let Some((name, class)) = class_of(claim, known) else {
                    continue;
                };
                seen.ours |= class.driver != Driver::Foreign;
                if class.driver == Driver::Lvm {
                    match VolumeClass::parse_supported(&class.parameters) {
                        Ok(parsed) => drop(seen.pool_classes.insert(parsed.pool_class)),
                        Err(error) => warnings.push(format!(
                            "{what} will get no volume: storage class {name:?}: {error}"
                        )),
                    }
                }
            }
            // Claims that come after their pod are most likely of the class that they get without naming one.
            Source::Missing => seen.ours |= known.default_is_ours,
            Source::Bound {
                driver: Driver::Foreign,
                ..
            }
            | Source::Unknown => {}
        }
    }
    seen
}

/// The nodes with copies that are up to date; with any copy if none is.
fn best_nodes(copies: &[Copy]) -> BTreeSet<String> {
    let none_current = !copies.iter().any(|copy| copy.up_to_date);
    let best = copies.iter().filter(|copy| copy.up_to_date || none_current);
    best.map(|copy| copy.node.to_string()).collect()
}

/// All claims of the pod, with what to call them.
fn claims(known: &Known) -> impl Iterator<Item = (String, &KnownClaim)> {
    let named = known.claims.iter();
    let templates = known.templates.iter();
    let named = named.map(|(name, claim)| (format!("claim {name:?}"), claim));
    named.chain(templates.map(|(name, claim)| (format!("ephemeral volume {name:?}"), claim)))
}

fn class_of<'a>(claim: &KnownClaim, known: &'a Known) -> Option<(&'a str, &'a Class)> {
    let name = claim.class.as_ref()?;
    let (name, class) = known.classes.get_key_value(name)?;
    Some((name, class))
}

/// The nodes that have pools of all these classes. Warns of a class that no node has.
fn common(wanted: &BTreeSet<PoolClass>, known: &Known, warnings: &mut Vec<String>) -> Nodes {
    let mut common: Option<Nodes> = None;
    for class in wanted {
        let nodes = known.pools.get(class).cloned().unwrap_or(Nodes::None);
        if nodes == Nodes::None {
            warnings.push(format!(
                "no node has a {class} pool now: the pod waits until one has; claim disks of type {class} with a LocalDiskClaim"
            ));
        }
        common = Some(match common {
            None => nodes,
            Some(others) => others.and(nodes),
        });
    }
    common.unwrap_or(Nodes::None)
}

/// What policies demand: by claim, the policies that do, and the nodes on which its data is, as `nodes` chooses them.
fn demands(
    known: &Known,
    nodes: impl Fn(&[Copy]) -> BTreeSet<String>,
) -> BTreeMap<&str, (Vec<&Policy>, OnLabel)> {
    let mut demands = BTreeMap::new();
    if known.policies.is_empty() {
        return demands;
    }
    for (name, claim) in &known.claims {
        let Source::Bound {
            driver: Driver::Lvm,
            copies,
        } = &claim.source
        else {
            continue;
        };
        let asker = Asker {
            namespace: &known.namespace,
            namespace_labels: &known.namespace_labels,
            labels: &claim.labels,
            class: claim.class.as_deref(),
        };
        let demanding = policy::requiring_locality(&known.policies, &asker);
        if copies.is_empty() || demanding.is_empty() {
            continue;
        }
        let nodes = nodes(copies);
        let wanted = OnLabel::nodes(nodes.iter().map(String::as_str));
        demands.insert(name.as_str(), (demanding, wanted));
    }
    demands
}

/// Whether the pod, as it is to be stored, is tied to its data where a policy ties pods to it. It is not if it opted out of being patched, or
/// was given a node by its author.
pub(crate) fn judge_locality(pod: &PodView, known: &Known) -> Judgement {
    let mut judgement = Judgement::default();
    if known.ignored || !pod.has_spec() {
        return judgement;
    }
    let present = NodeAffinity::of(pod.affinity());
    // Any copy will do here: which of them are up to date may have changed since the pod was patched.
    let all = |copies: &[Copy]| copies.iter().map(|copy| copy.node.to_string()).collect();
    for (claim, (policies, wanted)) in demands(known, all) {
        let nodes = wanted.values.iter().flatten().cloned().collect::<Vec<_>>();
        let met = match pod.node() {
            Some(node) => nodes.iter().any(|there| there == node),
            None => present.demands(&wanted),
        };
        for policy in policies {
            judgement.matched.push(policy.name.clone());
            if met {
                continue;
            }
            let sentence = format!(
                "StoragePolicy {:?} ties pods to the data of claim {claim:?}, which is on {}, and the pod is not tied to it: take out what keeps \
                 Hawser from doing so (the label {}, spec.nodeName)",
                policy.name,
                nodes.join(", "),
                names::labels::WEBHOOK
            );
            judgement.violations.push(Violation {
                policy: policy.name.clone(),
                mode: policy.mode.clone(),
                sentence,
            });
        }
    }
    judgement.matched.dedup();
    judgement
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
