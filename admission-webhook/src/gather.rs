//! What is known of the cluster, kept current by watches, and gathered for one review at a time.
//!
//! A pod may arrive before the watch has told of its claims: a StatefulSet's controller makes claims and pod within
//! milliseconds. What a review names and memory lacks is therefore asked for once, directly.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use hawser_api::parameters::VolumeClass;
use hawser_api::{LocalStorageNode, LocalVolume, LocalVolumeReplica, StoragePolicy};
use hawser_runtime::index::{Key, Watches};
use hawser_runtime::store::Store;
use hawser_runtime::telemetry::chain;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::copies::{Copies, Replica};
use crate::facts::{
    Claim, Class, ClassName, Copy, Driver, Fact, Facts, Labels, Space, Templates, Volume,
    class_name, labels_of,
};
use crate::pods::{Known, KnownClaim, PodView, Source};
use crate::policy::{Asker, Policies, default_class};
use crate::pools::Pools;

/// How long one question to the API server may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long all questions for one review may take: the API server waits 5 s for the webhook, and the answer needs time too.
const ASK_ALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Where Kubernetes' own pods are. Nothing of ours may be in their way.
const KUBERNETES: &str = "kube-system";

/// Facts of all kinds. Clones share one state.
#[derive(Clone, Default)]
pub(crate) struct Lookups {
    pub(crate) claims: Facts<Claim>,
    pub(crate) volumes: Facts<Volume>,
    pub(crate) classes: Facts<Class>,
    pub(crate) templates: Facts<Templates>,
    pub(crate) spaces: Facts<Space>,
    pub(crate) copies: Copies,
    pub(crate) pools: Pools,
    pub(crate) policies: Policies,
    /// The same policies as objects, for their status.
    pub(crate) policy_objects: Store<StoragePolicy>,
}

impl Lookups {
    /// Starts the watches that keep the facts current.
    pub(crate) fn watch(&self, client: &Client, watches: &Watches) {
        macro_rules! watch {
            ($kind:ty => $index:expr) => {
                watches.watch_into::<$kind, _>(Api::all(client.clone()), Config::default(), $index);
            };
        }
        watch!(PersistentVolumeClaim => self.claims.clone());
        watch!(PersistentVolume => self.volumes.clone());
        watch!(StorageClass => self.classes.clone());
        watch!(StatefulSet => self.templates.clone());
        watch!(Namespace => self.spaces.clone());
        watch!(LocalVolumeReplica => self.copies.clone());
        watch!(LocalStorageNode => self.pools.clone());
        watch!(StoragePolicy => (self.policies.clone(), self.policy_objects.clone()));
    }

    /// The cluster's default class; of several the newest, as Kubernetes does it.
    fn default_class(&self) -> Option<String> {
        self.classes.read(|classes| {
            let marked = classes.iter().filter(|(_, class)| class.default);
            let newest = marked.max_by_key(|(key, class)| (class.since.clone(), &key.name));
            newest.map(|(key, _)| key.name.clone())
        })
    }
}

/// Gathers what is known.
#[derive(Clone)]
pub(crate) struct Gatherer {
    pub(crate) lookups: Lookups,
    /// For what memory lacks; `None`: what memory lacks is unknown.
    client: Option<Client>,
    /// Where the webhook lives.
    own_namespace: String,
}

impl Gatherer {
    pub(crate) fn new(lookups: Lookups, client: Option<Client>, own_namespace: String) -> Self {
        Self {
            lookups,
            client,
            own_namespace,
        }
    }

    /// Begins to gather for one review; questions to the API server have their time from now.
    pub(crate) fn round(&self) -> Round<'_> {
        Round {
            gatherer: self,
            until: Instant::now() + ASK_ALL_TIMEOUT,
        }
    }
}

/// An answer of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found<F> {
    /// It is there.
    There(F),
    /// There is none.
    Missing,
    /// Could not be found out.
    Unknown,
}

/// Gathers for one review.
pub(crate) struct Round<'a> {
    gatherer: &'a Gatherer,
    until: Instant,
}

impl Round<'_> {
    fn lookups(&self) -> &Lookups {
        &self.gatherer.lookups
    }

    /// What is known of a namespace.
    pub(crate) async fn space(&self, namespace: &str) -> Space {
        let known = self.lookups().spaces.get(&Key::cluster(namespace));
        let mut space = match known {
            Some(space) => space,
            None => self
                .ask_all::<Namespace, Space>(namespace)
                .await
                .there()
                .unwrap_or_default(),
        };
        space.ignored |= namespace == KUBERNETES || namespace == self.gatherer.own_namespace;
        space
    }

    /// What is known for this pod. Never fails: what can't be found out is unknown.
    pub(crate) async fn pod(&self, namespace: &str, pod: &PodView) -> Known {
        let space = self.space(namespace).await;
        let mut known = Known {
            ignored: space.ignored,
            namespace: namespace.to_owned(),
            namespace_labels: space.labels,
            policies: self.lookups().policies.all(),
            ..Known::default()
        };
        if known.ignored || !pod.has_spec() {
            return known;
        }
        let cluster_default = self.lookups().default_class();
        let default = |labels: &Labels| {
            let asker = Asker {
                namespace,
                namespace_labels: &known.namespace_labels,
                labels,
                class: None,
            };
            let by_policy = || default_class(&known.policies, &asker).map(str::to_owned);
            cluster_default.clone().or_else(by_policy)
        };
        let resolve = |class: ClassName, labels: &Labels| match class {
            ClassName::Named(name) => Some(name),
            ClassName::Default => default(labels),
            ClassName::None => None,
        };
        let anybody = default(&None);
        let mut claims = BTreeMap::new();
        for name in pod.claims() {
            let (source, class, labels) = self.source(namespace, pod, name).await;
            // A bound claim that names no class has none.
            let class = match &source {
                Source::New => resolve(class, &labels),
                Source::Bound { .. } | Source::Missing | Source::Unknown => match class {
                    ClassName::Named(name) => Some(name),
                    ClassName::Default | ClassName::None => None,
                },
            };
            let claim = KnownClaim {
                source,
                class,
                labels,
            };
            claims.insert(name.to_owned(), claim);
        }
        let templates = templates(pod, resolve);
        known.claims = claims;
        known.templates = templates;
        self.classes_of(&mut known, anybody).await;
        known
    }

    /// The classes that the pod's new claims ask for, and the pools that these ask for.
    async fn classes_of(&self, known: &mut Known, anybody: Option<String>) {
        let all = known.claims.values().chain(known.templates.values());
        let new = all.filter(|claim| claim.source == Source::New);
        let names: BTreeSet<String> = new.filter_map(|claim| claim.class.clone()).collect();
        for name in names {
            if let Some(class) = self.class(&name).await {
                known.classes.insert(name, class);
            }
        }
        let missing = |claim: &KnownClaim| claim.source == Source::Missing;
        if let Some(name) = anybody.filter(|_| known.claims.values().any(missing)) {
            let class = self.class(&name).await;
            known.default_is_ours = class.is_some_and(|class| class.driver != Driver::Foreign);
        }
        for class in known.classes.values() {
            if class.driver == Driver::Lvm
                && let Ok(parsed) = VolumeClass::parse(&class.parameters)
            {
                let nodes = self.lookups().pools.with(&parsed.pool_class);
                known.pools.insert(parsed.pool_class, nodes);
            }
        }
    }

    /// A claim of a namespace, as the watch or the API server has it.
    pub(crate) async fn claim(&self, namespace: &str, name: &str) -> Found<Claim> {
        match self.lookups().claims.get(&Key::namespaced(namespace, name)) {
            Some(claim) => Found::There(claim),
            None => {
                self.ask_in::<PersistentVolumeClaim, Claim>(namespace, name)
                    .await
            }
        }
    }

    async fn source(
        &self,
        namespace: &str,
        pod: &PodView,
        name: &str,
    ) -> (Source, ClassName, Labels) {
        match self.claim(namespace, name).await {
            Found::There(Claim {
                volume: Some(volume),
                class,
                labels,
            }) => (self.bound(&volume).await, class, labels),
            Found::There(Claim {
                volume: None,
                class,
                labels,
            }) => (Source::New, class, labels),
            Found::Missing | Found::Unknown => self
                .template(namespace, pod, name)
                .await
                .unwrap_or((Source::Missing, ClassName::Default, None)),
        }
    }

    /// A class may come with the pods that use it, in one file.
    pub(crate) async fn class(&self, name: &str) -> Option<Class> {
        match self.lookups().classes.get(&Key::cluster(name)) {
            Some(class) => Some(class),
            None => self.ask_all::<StorageClass, Class>(name).await.there(),
        }
    }

    /// The class that a claim without one gets from the cluster.
    pub(crate) fn cluster_default(&self) -> Option<String> {
        self.lookups().default_class()
    }

    async fn persistent(&self, name: &str) -> Option<Volume> {
        match self.lookups().volumes.get(&Key::cluster(name)) {
            Some(volume) => Some(volume),
            None => self.ask_all::<PersistentVolume, Volume>(name).await.there(),
        }
    }

    /// Whether a persistent volume is ours.
    pub(crate) async fn is_ours(&self, persistent: Option<&str>) -> bool {
        match persistent.filter(|name| !name.is_empty()) {
            Some(name) => {
                let volume = self.persistent(name).await;
                volume.is_some_and(|volume| volume.driver != Driver::Foreign)
            }
            None => false,
        }
    }

    /// The persistent volumes that stand for a volume of ours. Looks at all of them: for rare questions.
    pub(crate) fn persistent_of(&self, volume: &str) -> Vec<String> {
        self.lookups().volumes.read(|volumes| {
            let those = volumes
                .iter()
                .filter(|(_, v)| v.driver == Driver::Lvm && v.handle == volume);
            those.map(|(key, _)| key.name.clone()).collect()
        })
    }

    async fn bound(&self, name: &str) -> Source {
        let Some(Volume { driver, handle }) = self.persistent(name).await else {
            return Source::Unknown;
        };
        let copies = match driver {
            Driver::Lvm => self.copies(&handle),
            Driver::Disk | Driver::Foreign => Vec::new(),
        };
        Source::Bound { driver, copies }
    }

    /// The copies of a volume of ours, by the name of their objects.
    pub(crate) fn copies_of(&self, volume: &str) -> Vec<(String, Replica)> {
        self.lookups().copies.of(volume)
    }

    /// The volumes that have a copy on a node.
    pub(crate) fn volumes_on(&self, node: &str) -> Vec<String> {
        self.lookups().copies.on(node)
    }

    /// Whether this is a part of Hawser: a service account of its namespace.
    pub(crate) fn is_own(&self, user: &str) -> bool {
        let account = user.strip_prefix("system:serviceaccount:");
        let namespace = account.and_then(|account| Some(account.split_once(':')?.0));
        namespace == Some(&self.gatherer.own_namespace)
    }

    fn copies(&self, volume: &str) -> Vec<Copy> {
        let copies = self.lookups().copies.of(volume).into_iter();
        copies
            .map(|(_, replica)| Copy {
                zone: self.lookups().pools.zone(&replica.node),
                node: replica.node,
                up_to_date: replica.up_to_date,
            })
            .collect()
    }

    /// What a claim will be that a StatefulSet is to make: `<template>-<pod>`.
    async fn template(
        &self,
        namespace: &str,
        pod: &PodView,
        claim: &str,
    ) -> Option<(Source, ClassName, Labels)> {
        let set = pod.stateful_set()?;
        let template = claim.strip_suffix(pod.name()?)?.strip_suffix('-')?;
        let key = Key::namespaced(namespace, set);
        let templates: Templates = match self.lookups().templates.get(&key) {
            Some(templates) => templates,
            None => self
                .ask_in::<StatefulSet, Templates>(namespace, set)
                .await
                .there()?,
        };
        let template = templates.get(template)?.clone();
        Some((Source::New, template.class, template.labels))
    }

    /// Whether there is a node of this name.
    pub(crate) async fn node(&self, name: &str) -> Found<()> {
        self.ask_all::<Node, ()>(name).await
    }

    /// A volume of ours.
    pub(crate) async fn local_volume(&self, name: &str) -> Found<LocalVolume> {
        self.ask_all::<LocalVolume, LocalVolume>(name).await
    }

    async fn ask_in<K, F>(&self, namespace: &str, name: &str) -> Found<F>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
        F: Fact<K>,
    {
        match &self.gatherer.client {
            Some(client) => {
                self.ask(Api::<K>::namespaced(client.clone(), namespace), name)
                    .await
            }
            None => Found::Unknown,
        }
    }

    async fn ask_all<K, F>(&self, name: &str) -> Found<F>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
        F: Fact<K>,
    {
        match &self.gatherer.client {
            Some(client) => self.ask(Api::<K>::all(client.clone()), name).await,
            None => Found::Unknown,
        }
    }

    async fn ask<K, F>(&self, api: Api<K>, name: &str) -> Found<F>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
        F: Fact<K>,
    {
        // What comes from a request becomes a part of a URL.
        if !is_object_name(name) {
            return Found::Missing;
        }
        let kind = K::kind(&());
        let until = self.until.min(Instant::now() + ASK_TIMEOUT);
        match tokio::time::timeout_at(until, api.get_opt(name)).await {
            Ok(Ok(Some(object))) => F::of(&object).map_or(Found::Missing, Found::There),
            Ok(Ok(None)) => Found::Missing,
            Ok(Err(error)) => {
                tracing::warn!(%kind, name, error = %chain(&error), "can't be read, taken as unknown");
                Found::Unknown
            }
            Err(_) => {
                tracing::warn!(%kind, name, "not answered in time, taken as unknown");
                Found::Unknown
            }
        }
    }
}

impl<F> Found<F> {
    /// The object, if it is known to be there.
    pub(crate) fn there(self) -> Option<F> {
        match self {
            Self::There(object) => Some(object),
            Self::Missing | Self::Unknown => None,
        }
    }
}

/// The claims of the pod's ephemeral volumes, by the name of the volume. `resolve` says which class one gets.
fn templates(
    pod: &PodView,
    resolve: impl Fn(ClassName, &Labels) -> Option<String>,
) -> BTreeMap<String, KnownClaim> {
    let templates = pod.templates().into_iter().map(|(name, template)| {
        let meta = template.metadata.clone().unwrap_or_default();
        let labels = labels_of(&meta);
        let claim = KnownClaim {
            source: Source::New,
            class: resolve(class_name(&meta, Some(&template.spec)), &labels),
            labels,
        };
        (name.to_owned(), claim)
    });
    templates.collect()
}

/// Whether an object can have this name: a DNS subdomain.
fn is_object_name(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
    let ends = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= 253
        && bytes.iter().copied().all(inner)
        && ends(bytes.first())
        && ends(bytes.last())
}

impl Fact<Node> for () {
    fn of(_: &Node) -> Option<Self> {
        Some(())
    }
}

impl Fact<LocalVolume> for LocalVolume {
    fn of(volume: &LocalVolume) -> Option<Self> {
        Some(volume.clone())
    }
}

#[cfg(test)]
#[path = "gather_tests.rs"]
pub(crate) mod tests;
