//! kube-scheduler and the extender beside it. The extender is the product's inventory and placement, as its server asks them;
//! what of the scheduler matters here is written down from its volume binder: which claims pin a pod to a node, in which order
//! claims get their node, and when a pod is bound or goes back.

use std::collections::BTreeMap;

use hawser_api::{
    LocalStorageNode, LocalVolume, LocalVolumeGroup, LocalVolumeReplica, names::annotations,
};
use hawser_inventory::{Fold, Inventory, reset};
use hawser_placement::{Evaluator, Request};
use hawser_runtime::index::Key;
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use kube::ResourceExt;
use provisioner::decide::claimant::{claims_of, is_bound, is_waiting, node_of, selected_node};

use crate::{
    breaks::Break,
    objects::{Class, KUBELET, in_shop, persistent_nodes, selects},
    server::{Cursor, Event, News, Server, Stored, View},
};

/// Kinds that the extender watches.
pub(crate) const KINDS: usize = 9;
/// The last but one: classes.
const CLASSES: usize = 7;

/// The extender's knowledge.
#[derive(Default)]
pub(crate) struct Extender {
    pub(crate) inventory: Inventory,
    cursors: [Cursor; KINDS],
    broken: Option<Break>,
}

fn feed<K: Stored>(cursor: &mut Cursor, server: &Server, inventory: &mut Inventory) -> bool
where
    Inventory: Fold<K>,
{
    match cursor.next::<K>(server) {
        None => return false,
        Some(News::List(all)) => reset(inventory, all.iter().map(|o| &**o), |_| false),
        Some(News::Event(event)) => tell(inventory, event),
    }
    true
}

fn tell<K: Stored>(inventory: &mut Inventory, event: Event<K>)
where
    Inventory: Fold<K>,
{
    match event {
        Event::Set(object) => inventory.apply(&*object),
        Event::Gone(key) => Fold::<K>::remove(
            inventory,
            &hawser_inventory::Key {
                namespace: key.namespace,
                name: key.name,
            },
        ),
    }
}

impl Extender {
    pub(crate) fn new(broken: Option<Break>) -> Self {
        Self {
            broken,
            ..Self::default()
        }
    }

    pub(crate) fn hear(&mut self, kind: usize, server: &Server) -> bool {
        let kind = kind.min(KINDS - 1);
        let mut cursor = self.cursors[kind];
        let (at, inventory) = (&mut cursor, &mut self.inventory);
        let heard = match kind {
            0 if self.broken == Some(Break::ExtenderBlind) => {
                // Heard, and not minded.
                feed::<LocalVolumeGroup>(at, server, &mut Inventory::new())
            }
            0 => feed::<LocalVolumeGroup>(at, server, inventory),
            1 => feed::<LocalVolume>(at, server, inventory),
            2 => feed::<LocalVolumeReplica>(at, server, inventory),
            3 => feed::<LocalStorageNode>(at, server, inventory),
            4 => feed::<Node>(at, server, inventory),
            5 => feed::<PersistentVolume>(at, server, inventory),
            6 => feed::<PersistentVolumeClaim>(at, server, inventory),
            CLASSES => feed::<StorageClass>(at, server, inventory),
            _ if self.broken == Some(Break::ChoicesForgotten) => {
                feed::<Pod>(at, server, &mut Inventory::new())
            }
            _ => feed::<Pod>(at, server, inventory),
        };
        self.cursors[kind] = cursor;
        if kind == CLASSES {
            self.assume_copies();
        }
        heard
    }

    fn assume_copies(&mut self) {
        for class in Class::ALL {
            self.inventory.assume_copies(class.name(), class.copies());
        }
    }

    pub(crate) fn hear_again(&mut self, kind: usize, server: &Server) {
        let (cursor, inventory) = (self.cursors[kind.min(KINDS - 1)], &mut self.inventory);
        fn again<K: Stored>(cursor: Cursor, server: &Server, inventory: &mut Inventory)
        where
            Inventory: Fold<K>,
        {
            if let Some(event) = cursor.last::<K>(server) {
                tell(inventory, event);
            }
        }
        match kind {
            0 if self.broken == Some(Break::ExtenderBlind) => {}
            0 => again::<LocalVolumeGroup>(cursor, server, inventory),
            1 => again::<LocalVolume>(cursor, server, inventory),
            2 => again::<LocalVolumeReplica>(cursor, server, inventory),
            3 => again::<LocalStorageNode>(cursor, server, inventory),
            4 => again::<Node>(cursor, server, inventory),
            5 => again::<PersistentVolume>(cursor, server, inventory),
            6 => again::<PersistentVolumeClaim>(cursor, server, inventory),
            CLASSES => again::<StorageClass>(cursor, server, inventory),
            _ if self.broken == Some(Break::ChoicesForgotten) => {}
            _ => again::<Pod>(cursor, server, inventory),
        }
        self.assume_copies();
    }

    pub(crate) fn relist(&mut self, kind: usize) {
        self.cursors[kind.min(KINDS - 1)].relist();
    }

    /// Another replica of the scheduler takes over: it lists everything.
    pub(crate) fn restart(&mut self) {
        *self = Self {
            broken: self.broken,
            ..Self::default()
        };
    }

    pub(crate) fn is_listed(&self) -> bool {
        self.cursors.iter().all(|cursor| cursor.is_listed())
    }

    pub(crate) fn is_current(&self, server: &Server) -> bool {
        let at = &self.cursors;
        at[0].is_current::<LocalVolumeGroup>(server)
            && at[1].is_current::<LocalVolume>(server)
            && at[2].is_current::<LocalVolumeReplica>(server)
            && at[3].is_current::<LocalStorageNode>(server)
            && at[4].is_current::<Node>(server)
            && at[5].is_current::<PersistentVolume>(server)
            && at[6].is_current::<PersistentVolumeClaim>(server)
            && at[7].is_current::<StorageClass>(server)
            && at[8].is_current::<Pod>(server)
    }

    /// Whether the node passes if what was chosen for other pods and is not reserved yet does not count.
    pub(crate) fn passes_without_choices(&self, pod: &Pod, node: &str) -> bool {
        let mut inventory = self.inventory.clone();
        for key in Fold::<Pod>::missing(&inventory, &|_, _| false) {
            Fold::<Pod>::remove(&mut inventory, &key);
        }
        let Ok(request) = inventory.pod_request(pod) else {
            return false;
        };
        let request = request.unwrap_or_default();
        Evaluator::new(inventory.cluster(), &request)
            .score(node)
            .is_ok()
    }

    /// What the pod asks; `None`: it can't be told (now).
    pub(crate) fn request(&self, pod: &Pod) -> Option<Request> {
        self.inventory
            .pod_request(pod)
            .ok()
            .map(Option::unwrap_or_default)
    }

    /// What the extender says against a node, or of a pod that can't be placed at all.
    pub(crate) fn objections(&self, pod: &Pod, nodes: &[String]) -> Vec<String> {
        let request = match self.inventory.pod_request(pod) {
            Ok(request) => request.unwrap_or_default(),
            Err(why) => return vec![why.to_string()],
        };
        let mut evaluator = Evaluator::new(self.inventory.cluster(), &request);
        let against = nodes.iter().filter_map(|node| {
            let reasons = evaluator.score(node).err()?;
            Some(format!(
                "{node}: {}",
                hawser_placement::Sentence::of(&reasons)
            ))
        });
        against.collect()
    }

    /// The nodes that pass, with their scores, the best first; ties in order of names.
    pub(crate) fn filter(&self, pod: &Pod, nodes: &[String]) -> Vec<String> {
        let Some(request) = self.request(pod) else {
            return Vec::new();
        };
        let holds = self.inventory.holds(&request);
        let mut evaluator = Evaluator::new(self.inventory.cluster(), &request).with_holds(&holds);
        let passed = nodes.iter().filter_map(|node| {
            let score = evaluator.score(node).ok()?;
            Some((std::cmp::Reverse(score.points()), node.clone()))
        });
        let mut passed: Vec<_> = passed.collect();
        passed.sort();
        passed.into_iter().map(|(_, node)| node).collect()
    }
}

/// A pod for which a node was chosen.
#[derive(Clone, Debug)]
struct Intent {
    uid: String,
    node: String,
    /// Its claims had been given the node when they were last looked at.
    annotated: bool,
}

#[derive(Default)]
pub(crate) struct Scheduler {
    pub(crate) pods: View<Pod>,
    pub(crate) claims: View<PersistentVolumeClaim>,
    pub(crate) persistent: View<PersistentVolume>,
    pub(crate) nodes: View<Node>,
    intents: BTreeMap<Key, Intent>,
    /// It takes the first node by name, whatever the extender prefers: as if one had by far the most processors to spare.
    pub(crate) by_name: bool,
}

/// What a step of the scheduler came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheduled {
    Nothing,
    Refused,
    Chosen,
    Annotated,
    Back,
    Bound,
}

impl Scheduler {
    pub(crate) fn hear(&mut self, kind: usize, server: &Server) -> bool {
        match kind {
            0 => self.pods.hear(server),
            1 => self.claims.hear(server),
            2 => self.persistent.hear(server),
            _ => self.nodes.hear(server),
        }
    }

    pub(crate) fn restart(&mut self) {
        *self = Self::default();
    }

    /// Pods that wait, as far as it knows.
    pub(crate) fn waiting(&self) -> Vec<Key> {
        let pods = self.pods.objects.iter();
        let waiting = pods.filter(|(_, pod)| is_waiting(pod));
        waiting.map(|(key, _)| key.clone()).collect()
    }

    /// The next thing to do for a pod.
    pub(crate) fn step(
        &mut self,
        key: &Key,
        extender: &Extender,
        server: &mut Server,
    ) -> Scheduled {
        let Some(pod) = self.pods.get(key).cloned() else {
            self.intents.remove(key);
            return Scheduled::Nothing;
        };
        if node_of(&pod).is_some() {
            self.intents.remove(key);
            return Scheduled::Nothing;
        }
        match self.intents.get(key).cloned() {
            Some(intent) if Some(&intent.uid) == pod.metadata.uid.as_ref() => {
                self.go_on(key, &pod, &intent, server)
            }
            _ => self.choose(key, &pod, extender),
        }
    }

    fn choose(&mut self, key: &Key, pod: &Pod, extender: &Extender) -> Scheduled {
        self.intents.remove(key);
        let mut candidates = Vec::new();
        for node in self.nodes.objects.values() {
            if selects(pod, node) && self.allows(pod, &node.name_any()) {
                candidates.push(node.name_any());
            }
        }
        if !extender.is_listed() || candidates.is_empty() {
            return Scheduled::Refused;
        }
        let mut passed = extender.filter(pod, &candidates);
        if self.by_name {
            passed.sort();
        }
        let Some(node) = passed.into_iter().next() else {
            return Scheduled::Refused;
        };
        let intent = Intent {
            uid: pod.uid().unwrap_or_default(),
            node,
            annotated: false,
        };
        self.intents.insert(key.clone(), intent);
        Scheduled::Chosen
    }

    /// What the volume binder says about a node.
    fn allows(&self, pod: &Pod, node: &str) -> bool {
        claims_of(pod).all(|name| {
            let Some(claim) = self.claims.get(&in_shop(&name)) else {
                return false;
            };
            if claim.metadata.deletion_timestamp.is_some() {
                return false;
            }
            if !is_bound(claim) {
                let pinned = selected_node(claim).is_some_and(|selected| selected != node);
                return Class::of(claim) != Some(Class::Now) && !pinned;
            }
            let volume = claim.spec.as_ref().and_then(|s| s.volume_name.clone());
            let persistent = volume.and_then(|v| self.persistent.get(&Key::cluster(v)));
            persistent.is_some_and(|p| persistent_nodes(p).iter().any(|n| n == node))
        })
    }

    fn go_on(&mut self, key: &Key, pod: &Pod, intent: &Intent, server: &mut Server) -> Scheduled {
        let mut bound = true;
        for name in claims_of(pod) {
            let claim = in_shop(&name);
            let Some(seen) = self.claims.get(&claim).cloned() else {
                return self.back(key);
            };
            if is_bound(&seen) {
                continue;
            }
            bound = false;
            match selected_node(&seen) {
                Some(selected) if selected == intent.node => {}
                // The provisioner took it back, or another pod's choice was faster.
                Some(_) => return self.back(key),
                None if intent.annotated => return self.back(key),
                None => return self.annotate(key, seen.as_ref().clone(), &intent.node, server),
            }
        }
        if !bound {
            if let Some(intent) = self.intents.get_mut(key) {
                intent.annotated = true;
            }
            return Scheduled::Nothing;
        }
        if !self.allows(pod, &intent.node) {
            return self.back(key);
        }
        self.intents.remove(key);
        let uid = pod.uid();
        let mut bound = None;
        server.edit::<Pod>(key, |pod| {
            if pod.uid() == uid && pod.metadata.deletion_timestamp.is_none() {
                pod.spec.get_or_insert_default().node_name = Some(intent.node.clone());
                pod.finalizers_mut().push(KUBELET.to_owned());
                bound = Some(pod.clone());
            }
        });
        let Some(pod) = bound else {
            return Scheduled::Nothing;
        };
        self.pods
            .objects
            .insert(key.clone(), std::sync::Arc::new(pod));
        Scheduled::Bound
    }

    fn back(&mut self, key: &Key) -> Scheduled {
        self.intents.remove(key);
        Scheduled::Back
    }

    /// Writes the node to a claim. It knows of its own write at once.
    fn annotate(
        &mut self,
        key: &Key,
        mut claim: PersistentVolumeClaim,
        node: &str,
        server: &mut Server,
    ) -> Scheduled {
        let version = claim.resource_version();
        let selected = annotations::SELECTED_NODE.to_owned();
        claim.annotations_mut().insert(selected, node.to_owned());
        match server.replace(claim, version.as_deref()) {
            Ok(written) => {
                let claim = Key::of(&written);
                self.claims
                    .objects
                    .insert(claim, std::sync::Arc::new(written));
                Scheduled::Annotated
            }
            Err(_) => self.back(key),
        }
    }
}
