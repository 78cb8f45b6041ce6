//! `POST /simulate`: where the pods of a manifest would go, one after the other, each seeing the room that the earlier ones
//! took. Nothing is written, and the inventory is only read.
//!
//! Claims that exist count as they are; those that do not are made up from the manifest (its own claims, `volumeClaimTemplates`,
//! templates of ephemeral volumes), with the default class where none is named. A pod that is placed takes its room as it would
//! in the cluster: as a reservation in its name, and its volumes have their places from then on, for pods that share them.

mod considered;
pub(crate) mod manifest;
mod text;
mod world;

use hawser_inventory::{Supposed, Unknown, constraints};
use hawser_placement::{Constraints, Request, ScoreParts, Strategy};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Serialize;

use self::considered::NOT_CONSIDERED;
use self::manifest::{Manifest, Workload};
use self::world::World;
use crate::pods::PodFacts;
use crate::problem::Problem;
use crate::verdict::{Asked, Planned, RefusedNodes};
use crate::watch::Shared;

/// Pods of one simulation.
pub(crate) const REPLICAS: i32 = 1_000;
/// Claims of all these pods together: each looks at the reservations of those before.
pub(crate) const CLAIMS: usize = 2_000;
/// What the address says beside the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Instead of the manifest's own.
    pub(crate) replicas: Option<i32>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Simulation {
    workloads: Vec<WorkloadShown>,
    /// Pods that found a node, or that have no volumes of ours.
    placed: usize,
    not_placed: usize,
    pods: Vec<PodShown>,
    /// Fields of the manifest that the scheduler would look at and this did not.
    set_but_not_considered: Vec<String>,
    not_considered: [&'static str; 7],
    /// Objects of the manifest that nothing depends on here.
    ignored: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct WorkloadShown {
    kind: &'static str,
    namespace: String,
    name: String,
    replicas: i32,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodShown {
    pub(crate) pod: String,
    #[serde(flatten)]
    pub(crate) came_to: CameTo,
    /// The pod that has to run first.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<String>,
}

/// What a pod came to.
#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all_fields = "camelCase")]
pub(crate) enum CameTo {
    Placed {
        node: String,
        score: ScoreParts,
        asks: Vec<Asked>,
        /// Where its new volumes would be.
        volumes: Vec<Planned>,
        /// Other nodes that would have done.
        also_fit: usize,
        #[serde(flatten)]
        others: NodesRefused,
    },
    Nowhere {
        sentence: String,
        asks: Vec<Asked>,
        #[serde(flatten)]
        others: NodesRefused,
    },
    /// None of its volumes is ours.
    NotOurs,
    /// What it asks for is wrong, or can't be told yet.
    Unknown {
        reasons: Vec<Unknown>,
        sentence: String,
    },
    /// The simulation ended before.
    NotTried { sentence: String },
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodesRefused {
    refused_nodes: usize,
    /// By their reasons; what is missing here is too much to tell.
    refused: Vec<RefusedNodes>,
}

impl CameTo {
    /// It could run, as far as storage goes.
    fn is_placed(&self) -> bool {
        matches!(self, Self::Placed { .. } | Self::NotOurs)
    }
}

/// One pod and what it asks for, but for what it says about nodes.
struct Try {
    pod: String,
    asked: Result<Option<Request>, Unknown>,
    workload: usize,
}

/// Answers. `go_on` is asked before each node of each pod, so that time is bounded.
pub(crate) fn simulate(
    inventory: &Shared,
    strategy: Strategy,
    mut manifest: Manifest,
    options: &Options,
    go_on: &impl Fn() -> bool,
) -> Result<Simulation, Problem> {
    set_replicas(&mut manifest, options)?;
    within_limits(&manifest)?;
    let mut said: Vec<Constraints> = manifest.workloads.iter().map(about_nodes).collect();
    let tries = tries(inventory, &manifest);
    let mut world = World::new(inventory.read().cluster().clone());
    let mut pods: Vec<PodShown> = Vec::with_capacity(tries.len());
    let mut blocked: Vec<Option<String>> = vec![None; manifest.workloads.len()];
    for one in tries {
        let came_to = match one.asked {
            Err(unknown) => CameTo::unknown(unknown),
            Ok(None) => CameTo::NotOurs,
            Ok(Some(mut request)) => {
                // Lent, not copied: they may be large, and the pods many.
                std::mem::swap(&mut request.constraints, &mut said[one.workload]);
                request.strategy = strategy;
                let came_to = world.place(&one.pod, &mut request, go_on);
                std::mem::swap(&mut request.constraints, &mut said[one.workload]);
                came_to
            }
        };
        let waits_for = blocked[one.workload].clone();
        if manifest.workloads[one.workload].ordered && waits_for.is_none() && !came_to.is_placed() {
            blocked[one.workload] = Some(one.pod.clone());
        }
        pods.push(PodShown {
            pod: one.pod,
            came_to,
            waits_for,
        });
    }
    Ok(Simulation::new(manifest, pods))
}

fn set_replicas(manifest: &mut Manifest, options: &Options) -> Result<(), Problem> {
    let Some(replicas) = options.replicas else {
        return Ok(());
    };
    let wrong = |expected: &str| Problem::parameter("replicas", replicas.to_string(), expected);
    match manifest.workloads.as_mut_slice() {
        [one] if one.kind == "Pod" => Err(wrong("a Pod has no replicas, leave it out")),
        [one] => {
            one.replicas = replicas;
            Ok(())
        }
        _ => Err(wrong("there are several workloads: set their own replicas")),
    }
}

fn within_limits(manifest: &Manifest) -> Result<(), Problem> {
    let (mut pods, mut claims) = (0_i32, 0_usize);
    for workload in &manifest.workloads {
        let shown = workload.shown();
        let replicas = usize::try_from(workload.replicas).map_err(|_| {
            let value = workload.replicas.to_string();
            Problem::field(&shown, "spec.replicas", value, "it must not be negative")
        })?;
        pods = pods.saturating_add(workload.replicas);
        if pods > REPLICAS {
            let expected = format!(
                "at most {REPLICAS} pods are simulated at once, here it would be {pods}; the parameter replicas sets another number"
            );
            let value = workload.replicas.to_string();
            return Err(Problem::field(&shown, "spec.replicas", value, expected));
        }
        let each = workload.pod.claims() + workload.templates.len();
        claims = claims.saturating_add(each.saturating_mul(replicas.max(1)));
        if claims > CLAIMS {
            let expected = format!(
                "the claims of all pods are at most {CLAIMS}, here {claims}; simulate fewer pods at once"
            );
            let value = format!("{replicas} times {each} claims");
            return Err(Problem::field(&shown, "spec.replicas", value, expected));
        }
    }
    Ok(())
}

fn about_nodes(workload: &Workload) -> Constraints {
    constraints(&workload.pod.to_pod())
}

/// The lock is taken for each pod anew, so that a long list of pods does not hold up the scheduler.
fn tries(inventory: &Shared, manifest: &Manifest) -> Vec<Try> {
    let mut supposed = Supposed::default();
    for claim in &manifest.claims {
        supposed.add(&inventory.read(), claim.clone());
    }
    let mut tries = Vec::new();
    for (index, workload) in manifest.workloads.iter().enumerate() {
        let bare = workload.pod.without_constraints();
        for place in 0..workload.replicas {
            let inventory = inventory.read();
            let pod = a_pod(workload, &bare, place);
            for claim in claims_of(workload, &pod) {
                supposed.add(&inventory, claim);
            }
            tries.push(Try {
                pod: pod.name.to_string(),
                asked: inventory.pod_request_supposing(&pod.to_pod(), &supposed),
                workload: index,
            });
        }
    }
    tries
}

fn a_pod(workload: &Workload, bare: &PodFacts, place: i32) -> PodFacts {
    if workload.kind == "Pod" {
        return bare.clone();
    }
    let mut pod = bare.renamed(workload.pod_name(place));
    for template in &workload.templates {
        let template = template.metadata.name.as_deref().unwrap_or_default();
        pod.use_claim(format!("{template}-{}", pod.name.name));
    }
    pod
}

/// The claims that would be made for this pod.
fn claims_of(workload: &Workload, pod: &PodFacts) -> Vec<PersistentVolumeClaim> {
    let named = |claim: &PersistentVolumeClaim, name: String| {
        let mut claim = claim.clone();
        claim.metadata.name = Some(name);
        claim
    };
    let templates = workload.templates.iter().map(|template| {
        let name = template.metadata.name.as_deref().unwrap_or_default();
        named(template, format!("{name}-{}", pod.name.name))
    });
    let ephemeral = workload.ephemeral.iter().map(|(volume, template)| {
        let mut claim = named(template, format!("{}-{volume}", pod.name.name));
        claim.metadata.owner_references = pod.uid.as_ref().map(|uid| {
            vec![OwnerReference {
                uid: uid.clone(),
                controller: Some(true),
                ..OwnerReference::default()
            }]
        });
        claim
    });
    templates.chain(ephemeral).collect()
}

impl CameTo {
    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown {
            sentence: unknown.to_string(),
            reasons: vec![unknown],
        }
    }
}

impl Simulation {
    fn new(manifest: Manifest, pods: Vec<PodShown>) -> Self {
        let placed = pods.iter().filter(|pod| pod.came_to.is_placed()).count();
        let shown = |workload: &Workload| WorkloadShown {
            kind: workload.kind,
            namespace: workload.name.namespace.clone(),
            name: workload.name.name.clone(),
            replicas: workload.replicas,
        };
        let set = manifest.workloads.iter().flat_map(|workload| {
            let of = |field: &String| format!("{}: {field}", workload.shown());
            workload.not_considered.iter().map(of).collect::<Vec<_>>()
        });
        Self {
            workloads: manifest.workloads.iter().map(shown).collect(),
            placed,
            not_placed: pods.len() - placed,
            set_but_not_considered: set.collect(),
            not_considered: NOT_CONSIDERED,
            ignored: manifest.ignored,
            pods,
        }
    }
}

#[cfg(test)]
mod tests;
