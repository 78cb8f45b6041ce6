//! What is known of the cluster, kept current by watches, and gathered for one pod at a time.
//!
//! A pod may arrive before the watch has told of its claims: a StatefulSet's controller makes claims and pod within
//! milliseconds. What a pod names and memory lacks is therefore asked for once, directly.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use hawser_api::LocalVolumeReplica;
use hawser_runtime::index::{Key, Watches};
use hawser_runtime::telemetry::chain;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::decide::{Known, Source, claim_names, ephemeral_classes};
use crate::facts::{
    Claim, Class, ClassName, Driver, Fact, Facts, Ignored, Replica, Templates, Volume,
};

/// The API server waits 5 s for the webhook; asking it something meanwhile must leave time to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// Facts of all kinds. Clones share one state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookups {
    pub(crate) claims: Facts<Claim>,
    pub(crate) volumes: Facts<Volume>,
    pub(crate) classes: Facts<Class>,
    pub(crate) replicas: Facts<Replica>,
    pub(crate) templates: Facts<Templates>,
    pub(crate) ignored: Facts<Ignored>,
}

impl Lookups {
    /// Starts the watches that keep the facts current.
    pub(crate) fn watch(&self, client: &Client, watches: &Watches) {
        watches.watch_into::<PersistentVolumeClaim, _>(
            Api::all(client.clone()),
            Config::default(),
            self.claims.clone(),
        );
        watches.watch_into::<PersistentVolume, _>(
            Api::all(client.clone()),
            Config::default(),
            self.volumes.clone(),
        );
        watches.watch_into::<StorageClass, _>(
            Api::all(client.clone()),
            Config::default(),
            self.classes.clone(),
        );
        watches.watch_into::<LocalVolumeReplica, _>(
            Api::all(client.clone()),
            Config::default(),
            self.replicas.clone(),
        );
        watches.watch_into::<StatefulSet, _>(
            Api::all(client.clone()),
            Config::default(),
            self.templates.clone(),
        );
        watches.watch_into::<Namespace, _>(
            Api::all(client.clone()),
            Config::default(),
            self.ignored.clone(),
        );
    }

    fn default_class(&self) -> Option<String> {
        // Of several the newest, as Kubernetes does it.
        self.classes.read(|classes| {
            let marked = classes.iter().filter(|(_, class)| class.default);
            let newest = marked.max_by_key(|(key, class)| (class.since.clone(), &key.name));
            newest.map(|(key, _)| key.name.clone())
        })
    }
}

/// Gathers what is known for one pod.
#[derive(Clone)]
pub(crate) struct Gatherer {
    lookups: Lookups,
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

    /// What is known for this pod. Never fails: what can't be found out is unknown.
    pub(crate) async fn gather(&self, namespace: &str, pod: &Pod) -> Known {
        let mut known = Known {
            ignored: self.ignores(namespace),
            ..Known::default()
        };
        let Some(spec) = pod.spec.as_ref().filter(|_| !known.ignored) else {
            return known;
        };
        for name in claim_names(spec) {
            let source = self.source(namespace, pod, &name).await;
            known.claims.insert(name, source);
        }
        known.default_class = self.lookups.default_class();
        let claimed = known.claims.values().filter_map(|source| match source {
            Source::New { class } => Some(class.clone()),
            Source::Bound { .. } | Source::Unknown => None,
        });
        let names = claimed
            .chain(ephemeral_classes(spec).into_values())
            .filter_map(|class| match class {
                ClassName::Named(name) => Some(name),
                ClassName::Default => known.default_class.clone(),
                ClassName::None => None,
            });
        let names: BTreeSet<String> = names.collect();
        for name in names {
            if let Some(class) = self.class(&name).await {
                known.classes.insert(name, class);
            }
        }
        known
    }

    fn ignores(&self, namespace: &str) -> bool {
        namespace == "kube-system"
            || namespace == self.own_namespace
            || self.lookups.ignored.get(&Key::cluster(namespace)).is_some()
    }

    async fn source(&self, namespace: &str, pod: &Pod, name: &str) -> Source {
        let key = Key::namespaced(namespace, name);
        let claim = match self.lookups.claims.get(&key) {
            Some(claim) => Some(claim),
            None => {
                self.ask_in::<PersistentVolumeClaim, Claim>(namespace, name)
                    .await
            }
        };
        match claim {
            Some(Claim {
                volume: Some(volume),
                ..
            }) => self.bound(&volume).await,
            Some(Claim {
                volume: None,
                class,
            }) => Source::New { class },
            None => self
                .template(namespace, pod, name)
                .await
                .map_or(Source::Unknown, |class| Source::New { class }),
        }
    }

    /// A class may come with the pods that use it, in one file.
    async fn class(&self, name: &str) -> Option<Class> {
        match (self.lookups.classes.get(&Key::cluster(name)), &self.client) {
            (None, Some(client)) => ask(Api::<StorageClass>::all(client.clone()), name).await,
            (known, _) => known,
        }
    }

    async fn bound(&self, name: &str) -> Source {
        let volume = match self.lookups.volumes.get(&Key::cluster(name)) {
            Some(volume) => Some(volume),
            None => match &self.client {
                Some(client) => ask(Api::<PersistentVolume>::all(client.clone()), name).await,
                None => None,
            },
        };
        let Some(Volume { driver, handle }) = volume else {
            return Source::Unknown;
        };
        let replicas = match driver {
            Driver::Lvm => self
                .lookups
                .replicas
                .filter(|replica| replica.volume == handle),
            Driver::Disk | Driver::Foreign => Vec::new(),
        };
        Source::Bound { driver, replicas }
    }

    /// The class of a claim that a StatefulSet will make: `<template>-<pod>`.
    async fn template(&self, namespace: &str, pod: &Pod, claim: &str) -> Option<ClassName> {
        let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
        let set = owners
            .iter()
            .find(|owner| owner.controller == Some(true) && owner.kind == "StatefulSet")?;
        let template = claim
            .strip_suffix(pod.metadata.name.as_deref()?)?
            .strip_suffix('-')?;
        let key = Key::namespaced(namespace, set.name.clone());
        let templates: Templates = match self.lookups.templates.get(&key) {
            Some(templates) => templates,
            None => {
                self.ask_in::<StatefulSet, Templates>(namespace, &set.name)
                    .await?
            }
        };
        templates.get(template).cloned()
    }

    async fn ask_in<K, F>(&self, namespace: &str, name: &str) -> Option<F>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
        F: Fact<K>,
    {
        let client = self.client.as_ref()?;
        ask(Api::<K>::namespaced(client.clone(), namespace), name).await
    }
}

async fn ask<K, F>(api: Api<K>, name: &str) -> Option<F>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    F: Fact<K>,
{
    let kind = K::kind(&());
    match tokio::time::timeout(ASK_TIMEOUT, api.get_opt(name)).await {
        Ok(Ok(found)) => F::of(&found?),
        Ok(Err(error)) => {
            tracing::warn!(%kind, name, error = %chain(&error), "can't be read, taken as unknown");
            None
        }
        Err(_) => {
            tracing::warn!(%kind, name, "not answered within {ASK_TIMEOUT:?}, taken as unknown");
            None
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use hawser_api::names;
    use hawser_runtime::index::Index;
    use hawser_runtime::testing::FakeApi;
    use serde_json::{Value, json};

    use super::*;

    fn object<K: DeserializeOwned>(value: Value) -> Arc<K> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    /// A cluster with two classes of ours, one of them the default, a bound and an unbound claim, and a StatefulSet.
    pub(crate) fn a_cluster() -> Lookups {
        let lookups = Lookups::default();
        for (name, provisioner, parameters, default) in [
            (
                "local-ssd",
                "lvm.hwameistor.io",
                json!({ "poolClass": "SSD", "replicaNumber": "1" }),
                "true",
            ),
            (
                "local-pair",
                "lvm.hwameistor.io",
                json!({ "poolClass": "SSD", "replicaNumber": "2" }),
                "false",
            ),
            ("nfs", "nfs.example", json!({ "server": "x" }), "false"),
        ] {
            lookups.classes.apply(object::<StorageClass>(json!({
                "metadata": { "name": name, "annotations": { "storageclass.kubernetes.io/is-default-class": default } },
                "provisioner": provisioner, "parameters": parameters
            })));
        }
        for (name, spec) in [
            (
                "bound",
                json!({ "storageClassName": "local-ssd", "volumeName": "pvc-1" }),
            ),
            (
                "static",
                json!({ "storageClassName": "", "volumeName": "by-hand" }),
            ),
            ("fresh", json!({ "storageClassName": "local-ssd" })),
            ("pair", json!({ "storageClassName": "local-pair" })),
            ("plain", json!({})),
            ("none", json!({ "storageClassName": "" })),
            (
                "files",
                json!({ "storageClassName": "nfs", "volumeName": "nfs-1" }),
            ),
        ] {
            lookups.claims.apply(object::<PersistentVolumeClaim>(
                json!({ "metadata": { "name": name, "namespace": "shop" }, "spec": spec }),
            ));
        }
        for (name, driver, handle) in [
            ("pvc-1", "lvm.hwameistor.io", "pvc-1"),
            ("by-hand", "lvm.hwameistor.io", "pvc-2"),
            ("nfs-1", "nfs.example", "x"),
        ] {
            lookups.volumes.apply(object::<PersistentVolume>(json!({
                "metadata": { "name": name }, "spec": { "csi": { "driver": driver, "volumeHandle": handle } }
            })));
        }
        for (volume, node, synced) in [
            ("pvc-1", "n1", true),
            ("pvc-1", "n2", false),
            ("pvc-2", "n3", true),
        ] {
            lookups.replicas.apply(object::<LocalVolumeReplica>(json!({
                "metadata": { "name": format!("{volume}-{node}") },
                "spec": { "volumeName": volume, "nodeName": node },
                "status": { "state": "Ready", "synced": synced }
            })));
        }
        lookups.templates.apply(object::<StatefulSet>(json!({
            "metadata": { "name": "db", "namespace": "shop" },
            "spec": { "selector": {}, "template": {}, "volumeClaimTemplates": [
                { "metadata": { "name": "data" }, "spec": { "storageClassName": "local-ssd" } },
                { "metadata": { "name": "log-files" }, "spec": {} }
            ] }
        })));
        lookups.ignored.apply(object::<Namespace>(json!({
            "metadata": { "name": "quiet", "labels": { "hwameistor.io/webhook": "ignore" } }
        })));
        lookups
    }

    fn a_pod(claims: &[&str]) -> Pod {
        let volumes: Vec<Value> = claims
            .iter()
            .map(|claim| json!({ "name": claim, "persistentVolumeClaim": { "claimName": claim } }))
            .collect();
        serde_json::from_value(json!({
            "metadata": { "name": "db-0", "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "u", "controller": true }
            ] },
            "spec": { "containers": [], "volumes": volumes }
        }))
        .unwrap()
    }

    async fn source(claim: &str) -> Source {
        let gatherer = Gatherer::new(a_cluster(), None, names::DEFAULT_NAMESPACE.to_owned());
        gatherer
            .gather("shop", &a_pod(&[claim]))
            .await
            .claims
            .remove(claim)
            .unwrap()
    }

    #[tokio::test]
    async fn bound_claims_have_the_copies_of_their_volume() {
        let Source::Bound {
            driver: Driver::Lvm,
            replicas,
        } = source("bound").await
        else {
            panic!("bound")
        };
        let nodes: Vec<(&str, bool)> = replicas
            .iter()
            .map(|replica| (replica.node.as_str(), replica.up_to_date))
            .collect();
        assert_eq!(nodes, [("n1", true), ("n2", false)]);
        // A volume made by hand has another name than what it holds.
        let Source::Bound { replicas, .. } = source("static").await else {
            panic!("bound")
        };
        assert_eq!(replicas[0].node, "n3");
        assert_eq!(
            source("files").await,
            Source::Bound {
                driver: Driver::Foreign,
                replicas: Vec::new()
            }
        );
    }

    #[tokio::test]
    async fn claims_that_do_not_exist_yet_have_the_class_of_their_template() {
        assert_eq!(
            source("data-db-0").await,
            Source::New {
                class: ClassName::Named("local-ssd".to_owned())
            }
        );
        assert_eq!(
            source("log-files-db-0").await,
            Source::New {
                class: ClassName::Default
            }
        );
        assert_eq!(source("other-db-0").await, Source::Unknown);
        assert_eq!(source("data-db-1").await, Source::Unknown);
    }

    #[tokio::test]
    async fn only_the_classes_asked_for_are_gathered() {
        let gatherer = Gatherer::new(a_cluster(), None, names::DEFAULT_NAMESPACE.to_owned());
        let known = gatherer
            .gather("shop", &a_pod(&["pair", "plain", "none"]))
            .await;
        assert_eq!(known.default_class.as_deref(), Some("local-ssd"));
        assert_eq!(
            known.classes.keys().collect::<Vec<_>>(),
            ["local-pair", "local-ssd"]
        );
    }

    #[tokio::test]
    async fn a_class_that_no_watch_has_told_of_is_asked_for() {
        let api = FakeApi::new();
        api.put(
            "/apis/storage.k8s.io/v1/storageclasses/fresh",
            json!({ "metadata": { "name": "fresh" }, "provisioner": names::LVM_DRIVER,
                    "parameters": { "poolClass": "SSD" } }),
        );
        let lookups = a_cluster();
        lookups.claims.apply(object::<PersistentVolumeClaim>(json!({
            "metadata": { "namespace": "shop", "name": "new" },
            "spec": { "storageClassName": "fresh" }
        })));
        let client = Some(api.client());
        let gatherer = Gatherer::new(lookups, client, names::DEFAULT_NAMESPACE.to_owned());
        let known = gatherer.gather("shop", &a_pod(&["new"])).await;
        let class = known.classes.get("fresh").unwrap();
        assert_eq!(class.driver, Driver::Lvm);
        assert_eq!(class.parameters["poolClass"], "SSD");
    }

    #[tokio::test]
    async fn some_namespaces_are_left_alone() {
        let gatherer = Gatherer::new(a_cluster(), None, "storage".to_owned());
        for (namespace, ignored) in [
            ("quiet", true),
            ("kube-system", true),
            ("storage", true),
            ("shop", false),
        ] {
            assert_eq!(
                gatherer.gather(namespace, &a_pod(&["bound"])).await.ignored,
                ignored,
                "{namespace}"
            );
        }
    }

    #[test]
    fn of_several_default_classes_the_newest_counts() {
        let lookups = Lookups::default();
        for (name, time) in [
            ("a", "2026-01-02T00:00:00Z"),
            ("b", "2026-01-03T00:00:00Z"),
            ("c", "2026-01-01T00:00:00Z"),
        ] {
            lookups.classes.apply(object::<StorageClass>(json!({
                "metadata": { "name": name, "creationTimestamp": time,
                              "annotations": { "storageclass.kubernetes.io/is-default-class": "true" } },
                "provisioner": "p"
            })));
        }
        assert_eq!(lookups.default_class().as_deref(), Some("b"));
    }
}
