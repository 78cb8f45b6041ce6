//! Who a volume is for: observed at the API server, chosen by `decide::claimant`.
//!
//! Claims are read by name, so one that was made just now is seen. Pods are found in the index of those that wait, and one that
//! was found is read again. Where that may not be enough (nobody found, several that may be meant, or a refusal) the server lists
//! the namespace's waiting pods.

use std::collections::BTreeMap;

use hawser_inventory::{Fold, Unknown};
use hawser_placement::Request;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;

use super::Attempt;
use crate::{
    csi::refusal::Refusal,
    decide::{
        claimant::{Candidate, Standing, claims_of, is_waiting, rank, source},
        name,
        reserve::{Claimant, Wish},
    },
    objects::WriteError,
    state::State,
};

/// Pods that share a claim and are considered as the one that it is made for; of more, the oldest. A bound on reads.
const MOST_CANDIDATES: usize = 16;

/// How pods were looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// In the index, which may lag.
    Index,
    /// By asking the server.
    Server,
}

/// What was seen.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) sight: Sight,
    /// The likeliest first.
    candidates: Vec<Candidate>,
}

type Claims = BTreeMap<String, Option<PersistentVolumeClaim>>;

/// Looks at who the volume may be for.
pub(super) async fn observe(
    state: &State,
    wish: &Wish,
    sight: Sight,
) -> Result<Observed, WriteError> {
    let nobody = Observed {
        sight: Sight::Server,
        candidates: Vec::new(),
    };
    let Some((namespace, claim)) = &wish.claim else {
        return Ok(nobody);
    };
    let found = state.outside.claim(namespace, claim).await?;
    let same = |c: &PersistentVolumeClaim| {
        name::volume_of_claim(&c.uid().unwrap_or_default()) == wish.volume
    };
    let Some(found) = found.filter(same) else {
        return Ok(nobody);
    };
    // No pod has a say in where it is.
    if binds_at_once(state, &found) {
        return Ok(nobody);
    }
    let mut claims = Claims::from([(claim.clone(), Some(found))]);
    if sight == Sight::Index {
        let users = state.waiting.users(namespace, claim);
        let users = users.iter().map(|pod| (**pod).clone()).collect();
        let ranked = candidates(state, wish, users, &mut claims).await?;
        if let Some(likeliest) = confirmed(state, wish, ranked).await? {
            return Ok(Observed {
                sight,
                candidates: vec![likeliest],
            });
        }
    }
    let all = state.outside.waiting_pods(namespace).await?.into_iter();
    let users = all.filter(|pod| is_waiting(pod) && claims_of(pod).any(|c| c == *claim));
    Ok(Observed {
        sight: Sight::Server,
        candidates: candidates(state, wish, users.collect(), &mut claims).await?,
    })
}

fn binds_at_once(state: &State, claim: &PersistentVolumeClaim) -> bool {
    let class = claim
        .annotations()
        .get(hawser_api::names::annotations::BETA_CLASS)
        .or_else(|| claim.spec.as_ref()?.storage_class_name.as_ref());
    let class = class.and_then(|class| state.classes.get(class));
    class.is_some_and(|class| class.volume_binding_mode.as_deref() != Some("WaitForFirstConsumer"))
}

/// The node that was chosen, if it is a single one.
fn chosen_node(wish: &Wish) -> Option<&str> {
    match wish.allowed.as_deref() {
        Some([node]) => Some(node),
        Some(_) | None => None,
    }
}

/// The pods with their claims, and what these are cloned from; ranked.
async fn candidates(
    state: &State,
    wish: &Wish,
    mut pods: Vec<Pod>,
    known: &mut Claims,
) -> Result<Vec<Candidate>, WriteError> {
    pods.sort_by_cached_key(|pod| (pod.creation_timestamp(), pod.name_any()));
    pods.truncate(MOST_CANDIDATES);
    let mut candidates = Vec::with_capacity(pods.len());
    for pod in pods {
        let namespace = pod.namespace().unwrap_or_default();
        let (mut claims, mut sources) = (Vec::new(), Vec::new());
        for name in claims_of(&pod) {
            let claim = read(state, &namespace, &name, known).await?;
            if let Some(source) = claim.as_ref().and_then(source) {
                sources.extend(read(state, &namespace, source, known).await?);
            }
            claims.extend(claim);
        }
        candidates.push(Candidate {
            pod,
            claims,
            sources,
        });
    }
    Ok(rank(candidates, chosen_node(wish)))
}

async fn read(
    state: &State,
    namespace: &str,
    name: &str,
    known: &mut Claims,
) -> Result<Option<PersistentVolumeClaim>, WriteError> {
    if let Some(claim) = known.get(name) {
        return Ok(claim.clone());
    }
    let claim = state.outside.claim(namespace, name).await?;
    known.insert(name.to_owned(), claim.clone());
    Ok(claim)
}

/// The first candidate, if there is no doubt that it is meant and it is still there.
async fn confirmed(
    state: &State,
    wish: &Wish,
    ranked: Vec<Candidate>,
) -> Result<Option<Candidate>, WriteError> {
    let single = ranked.len() == 1;
    let Some(first) = ranked.into_iter().next() else {
        return Ok(None);
    };
    let meant = single || first.standing(chosen_node(wish)) == Standing::Chosen;
    if !meant {
        return Ok(None);
    }
    let namespace = first.pod.namespace().unwrap_or_default();
    let found = state.outside.pod(&namespace, &first.pod.name_any()).await?;
    let same = found.filter(|pod| pod.uid() == first.pod.uid() && is_waiting(pod));
    Ok(same.map(|pod| Candidate { pod, ..first }))
}

impl Observed {
    /// Each candidate with its request, as the extender sees it. Empty: the volume is placed by itself. An error if one can't be
    /// told yet that may soon be: placing its volumes one by one could put them where they do not fit together.
    pub(super) fn claimants(&self, state: &State) -> Result<Vec<Claimant>, Attempt> {
        let mut claimants = Vec::new();
        let mut soon = None;
        for candidate in &self.candidates {
            let pod = &candidate.pod;
            match joint_request(state, candidate) {
                Ok(request) => claimants.push(Claimant {
                    pod: pod.uid().map(|uid| (uid, pod.name_any())),
                    request: request.unwrap_or_default(),
                }),
                Err(why) if why.may_pass() => soon = Some((pod.name_any(), why)),
                Err(why) => {
                    tracing::info!(pod = %pod.name_any(), why = why.logged(), "the pod's volumes can't be placed together");
                }
            }
        }
        match soon {
            // Another pod may be meant, that shares the claim and can be placed.
            Some(_) if claimants.is_empty() && self.sight == Sight::Index => {
                Err(Attempt::Look(Sight::Server))
            }
            Some((pod, why)) if claimants.is_empty() => Err(not_together(&pod, &why).into()),
            _ => Ok(claimants),
        }
    }
}

/// Of a pod that can't be placed now. What lags here will be known in a moment; what somebody has taken away may never come back,
/// so the choice of the node is taken back, and made anew when the pod can be placed.
fn not_together(pod: &str, why: &Unknown) -> Refusal {
    match why {
        Unknown::ClaimMissing { .. }
        | Unknown::ClaimLeaving { .. }
        | Unknown::SourceUnknown { .. } => Refusal::exhausted(format!(
            "the volumes of pod {pod} can't be placed together: {why}"
        )),
        Unknown::NotBoundYet { .. }
        | Unknown::PersistentMissing { .. }
        | Unknown::VolumeMissing { .. }
        | Unknown::VolumeLeaving { .. }
        | Unknown::NotOwned { .. }
        | Unknown::ClassMissing { .. }
        | Unknown::ClassWrong { .. }
        | Unknown::SizeWrong { .. }
        | Unknown::SourceKind { .. } => Refusal::aborted(format!(
            "the volumes of pod {pod} can't be placed together yet: {why}; try again"
        )),
    }
}

/// What all of the pod's volumes ask, as the extender sees it; `None` if none is ours. The inventory has no claims but these, and
/// these for a moment only.
pub fn joint_request(state: &State, candidate: &Candidate) -> Result<Option<Request>, Unknown> {
    state.inventory.with(|inventory| {
        let claims = || candidate.claims.iter().chain(&candidate.sources);
        for claim in claims() {
            Fold::<PersistentVolumeClaim>::apply(inventory, claim);
        }
        let asked = inventory.pod_request(&candidate.pod);
        for claim in claims() {
            Fold::<PersistentVolumeClaim>::remove(inventory, &hawser_inventory::Key::of(claim));
        }
        asked
    })
}
