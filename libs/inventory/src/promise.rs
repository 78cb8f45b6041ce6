//! Room that a scheduler has given away and that nobody has recorded yet.
//!
//! It chose a node for a pod and wrote it on the pod's claims. What reserves, an entry in a group, follows with the pod's first
//! `CreateVolume`; when many pods come at once, that is many seconds later. Until then the choice itself keeps the room: on its
//! node, for all of the pod's claims that have no volume (they go there or nowhere), as long as a pod waits that uses them, and
//! can run.
//!
//! So it can't block for ever: it ends with the pod, with the choice (which is taken back when there is no room), or with the
//! record. A claim that bears a node and that no waiting pod uses keeps nothing; it only lowers scores (see `pending`).

use std::collections::{BTreeMap, BTreeSet};

use hawser_placement::{Name, Reservation};
use k8s_openapi::api::core::v1::Pod;

use crate::account::EXTENT;
use crate::claim::ClaimFacts;
use crate::demand::claims_of;
use crate::facts::StorageFacts;
use crate::inventory::Inventory;
use crate::names::Names;

/// Namespace and name.
type Full = (Name, Name);

/// Of a `Pod` that waits for a node and uses claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodFacts {
    claims: Vec<Full>,
}

impl PodFacts {
    /// `None`: it has a node, has ended or is on its way out, or uses no claims.
    pub(crate) fn of(pod: &Pod, names: &mut Names) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        let waits = spec.node_name.as_deref().unwrap_or_default().is_empty()
            && pod.metadata.deletion_timestamp.is_none()
            && !matches!(phase, Some("Succeeded" | "Failed"));
        if !waits {
            return None;
        }
        let namespace = names.get(pod.metadata.namespace.as_deref().unwrap_or_default());
        let claims = claims_of(pod).into_iter();
        let claims: Vec<Full> = claims
            .map(|(claim, _)| (namespace.clone(), names.get(&claim)))
            .collect();
        (!claims.is_empty()).then_some(Self { claims })
    }
}

/// Where a claim's volume is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Promise {
    volume: Name,
    node: Name,
}

/// Pods that wait, a few at a time on a cluster of any size, and what their choices promise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promises {
    pods: BTreeMap<Full, PodFacts>,
    /// Those pods by the claims that they use.
    users: BTreeMap<Full, BTreeSet<Full>>,
    /// By claim.
    of: BTreeMap<Full, Promise>,
    /// Claims by node.
    on: BTreeMap<Name, BTreeSet<Full>>,
    /// Nodes by volume.
    to: BTreeMap<Name, Name>,
}

impl Promises {
    /// Names of the pods that wait.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &(Name, Name)> {
        self.pods.keys()
    }

    /// The node that is promised to a volume.
    pub(crate) fn node_of(&self, volume: &str) -> Option<&Name> {
        self.to.get(volume)
    }

    /// The nodes on which anything is promised.
    pub(crate) fn nodes(&self) -> BTreeSet<Name> {
        self.on.keys().cloned().collect()
    }

    fn set(&mut self, claim: &Full, new: Option<Promise>) {
        if let Some(old) = self.of.remove(claim) {
            self.to.remove(&old.volume);
            if let Some(claims) = self.on.get_mut(&old.node) {
                claims.remove(claim);
                if claims.is_empty() {
                    self.on.remove(&old.node);
                }
            }
        }
        if let Some(new) = new {
            self.to.insert(new.volume.clone(), new.node.clone());
            let claims = self.on.entry(new.node.clone()).or_default();
            claims.insert(claim.clone());
            self.of.insert(claim.clone(), new);
        }
    }

    fn set_pod(&mut self, pod: &Full, new: Option<PodFacts>) {
        let old = self.pods.remove(pod);
        for claim in old.into_iter().flat_map(|old| old.claims) {
            if let Some(users) = self.users.get_mut(&claim) {
                users.remove(pod);
                if users.is_empty() {
                    self.users.remove(&claim);
                }
            }
        }
        if let Some(new) = new {
            for claim in &new.claims {
                let users = self.users.entry(claim.clone()).or_default();
                users.insert(pod.clone());
            }
            self.pods.insert(pod.clone(), new);
        }
    }

    /// The claim, and those of the pods that use it: what is chosen for one is chosen for all.
    fn together_with(&self, claim: &Full) -> BTreeSet<Full> {
        let users = self.users.get(claim).into_iter().flatten();
        let pods = users.filter_map(|pod| self.pods.get(pod));
        let claims = pods.flat_map(|pod| pod.claims.iter().cloned());
        claims.chain([claim.clone()]).collect()
    }
}

/// Whether a volume is still to be made for it.
fn is_open(claim: &ClaimFacts) -> bool {
    claim.bound_to.is_none() && !claim.leaving
}

impl Inventory {
    pub(crate) fn set_pod(&mut self, namespace: &str, name: &str, new: Option<PodFacts>) {
        let pod = (self.names.get(namespace), self.names.get(name));
        let old = self.promises.pods.get(&pod);
        if old == new.as_ref() {
            return;
        }
        let both = old.into_iter().chain(&new);
        let claims: BTreeSet<Full> = both.flat_map(|pod| pod.claims.iter().cloned()).collect();
        let mut around = BTreeSet::new();
        for claim in &claims {
            around.extend(self.promises.together_with(claim));
        }
        self.promises.set_pod(&pod, new);
        self.renew(around);
    }

    /// To be called when a claim has changed.
    pub(crate) fn renew_promises(&mut self, claim: &(Name, Name)) {
        self.renew(self.promises.together_with(claim));
    }

    fn renew(&mut self, claims: BTreeSet<Full>) {
        let mut touched = BTreeSet::new();
        for claim in claims {
            let new = self.promise(&claim);
            let old = self.promises.of.get(&claim).cloned();
            touched.extend(old.iter().chain(&new).map(|promise| promise.node.clone()));
            if old != new {
                self.promises.set(&claim, new);
            }
        }
        self.refresh_all(touched);
    }

    fn facts_of(&self, (namespace, name): &Full) -> Option<&ClaimFacts> {
        self.claims.get(namespace)?.get(name)
    }

    fn promise(&self, claim: &Full) -> Option<Promise> {
        let users = self.promises.users.get(claim)?.iter();
        let users: Vec<&Full> = users.filter(|pod| self.is_whole(pod)).collect();
        let facts = self.facts_of(claim).filter(|facts| is_open(facts))?;
        if users.is_empty() {
            return None;
        }
        let of_pod = || users.iter().find_map(|pod| self.choice(pod));
        Some(Promise {
            volume: facts.volume.clone(),
            node: facts.selected.clone().or_else(of_pod)?,
        })
    }

    /// Whether all claims of a pod are there to stay. If not, it can't run, and its choice may never be taken back.
    fn is_whole(&self, pod: &Full) -> bool {
        let claims = self.promises.pods.get(pod).map(|pod| pod.claims.iter());
        let mut claims = claims.into_iter().flatten();
        claims.all(|claim| self.facts_of(claim).is_some_and(|facts| !facts.leaving))
    }

    /// The node that was chosen for a pod: the one that its claims without a volume bear; `None` if they bear none or several.
    fn choice(&self, pod: &Full) -> Option<Name> {
        let claims = self.promises.pods.get(pod)?.claims.iter();
        let open = claims.filter_map(|claim| self.facts_of(claim).filter(|facts| is_open(facts)));
        let mut chosen = open.filter_map(|facts| facts.selected.as_ref());
        let first = chosen.next()?;
        chosen.all(|node| node == first).then(|| first.clone())
    }

    /// What is promised on a node and neither there nor reserved by a group.
    pub(crate) fn promised(
        &self,
        node: &str,
        storage: &StorageFacts,
    ) -> impl Iterator<Item = Reservation> {
        let claims = self.promises.on.get(node).into_iter().flatten();
        claims.filter_map(|claim| self.promised_to(claim, storage))
    }

    fn promised_to(&self, claim: &Full, storage: &StorageFacts) -> Option<Reservation> {
        let facts = self.facts_of(claim)?;
        if self.is_recorded(&facts.volume) {
            return None;
        }
        let class = self.classes.get(facts.class.as_ref()?)?.ours.as_ref()?;
        let asked = class.asked.as_ref().ok()?;
        let mut pools = storage.pools.iter();
        let pool = pools.find(|pool| pool.class == asked.class)?;
        let mut users = self.promises.users.get(claim)?.iter();
        let (namespace, pod) = users.find(|pod| self.is_whole(pod))?;
        Some(Reservation {
            volume: facts.volume.clone(),
            owner: format!("{namespace}/{pod}").into(),
            pool: pool.name.clone(),
            size: facts.size().ok()?.round_up(EXTENT),
            thin: asked.thin,
        })
    }
}
