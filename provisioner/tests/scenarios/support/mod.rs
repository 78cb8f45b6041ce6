//! A cluster in memory with a real provisioner in it, called over its socket.

pub(crate) mod api;
pub(crate) mod nodes;

use std::{collections::HashMap, time::Duration};

use api::FakeApi;
use hawser_api::names;
use hawser_csi::v1::{
    self as csi, CapacityRange, CreateVolumeRequest, Topology, TopologyRequirement,
    VolumeCapability,
    controller_client::ControllerClient,
    identity_client::IdentityClient,
    volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode},
};
use hawser_runtime::{health::Health, metrics::Metrics, shutdown::Shutdown};
use hyper_util::rt::TokioIo;
use nodes::Nodes;
use provisioner::{
    app,
    csi::{identity::Slot, server},
    objects::Permit,
    state::Settings,
};
use serde_json::{Value, json};
use tokio::{net::UnixStream, runtime::Runtime};
use tonic::transport::{Channel, Endpoint, Uri};

/// How long a test waits for what must come.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The cluster: API server, nodes, objects of users.
pub(crate) struct World {
    pub(crate) api: FakeApi,
    pub(crate) nodes: Nodes,
    pub(crate) settings: Settings,
    /// Where the provisioners that are started next log to.
    pub(crate) log: Option<tracing::Dispatch>,
}

impl World {
    /// With these nodes, each with an HDD pool of this size, and the class `hdd`.
    pub(crate) fn new(nodes: &[(&str, i64)]) -> Self {
        let api = FakeApi::new();
        let all = Nodes::start(&api);
        for (node, size) in nodes {
            all.add(node, &[("HDD", *size)]);
        }
        let settings = Settings {
            ready_timeout: Duration::from_secs(20),
            patience: Duration::from_millis(300),
            reservation_check: Duration::from_millis(50),
            unclaimed: Duration::from_secs(1),
            ..Settings::new("hwameistor", "test")
        };
        let world = Self {
            api,
            nodes: all,
            settings,
            log: None,
        };
        world.class("hdd", "HDD", "WaitForFirstConsumer");
        world
    }

    pub(crate) fn class(&self, name: &str, pool: &str, binding: &str) {
        self.api.put(
            "apis/storage.k8s.io/v1/storageclasses",
            json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
                "provisioner": names::LVM_DRIVER, "volumeBindingMode": binding,
                "parameters": {"poolClass": pool, "replicaNumber": "1"},
            }),
        );
    }

    /// A claim of the class `hdd` without a volume; returns the name of its volume to be.
    pub(crate) fn claim(&self, name: &str, size: i64, selected_node: Option<&str>) -> String {
        let mut claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "storageClassName": "hdd", "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": size.to_string()}},
            },
        });
        if let Some(node) = selected_node {
            claim["metadata"]["annotations"] = json!({names::annotations::SELECTED_NODE: node});
        }
        self.api.put("api/v1/persistentvolumeclaims", claim);
        let stored = self
            .api
            .get("persistentvolumeclaims", "shop", name)
            .unwrap();
        format!("pvc-{}", stored["metadata"]["uid"].as_str().unwrap())
    }

    /// The scheduler's choice for a claim, or that it was taken back.
    pub(crate) fn select(&self, claim: &str, node: Option<&str>) {
        let selected = names::annotations::SELECTED_NODE;
        self.api
            .edit("persistentvolumeclaims", "shop", claim, |c| match node {
                Some(node) => c["metadata"]["annotations"] = json!({selected: node}),
                None => c["metadata"]["annotations"] = json!({}),
            });
    }

    /// The claim has the volume: as external-provisioner and Kubernetes do it.
    pub(crate) fn bind(&self, claim: &str, volume: &str) {
        self.api.put(
            "api/v1/persistentvolumes",
            json!({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume},
                "spec": {
                    "csi": {"driver": names::LVM_DRIVER, "volumeHandle": volume},
                    "claimRef": {"namespace": "shop", "name": claim},
                },
                "status": {"phase": "Bound"},
            }),
        );
        self.api.edit("persistentvolumeclaims", "shop", claim, |c| {
            c["spec"]["volumeName"] = json!(volume);
        });
    }

    /// A claim of an ephemeral volume; it belongs to its pod once [`World::adopt`] has said so.
    pub(crate) fn ephemeral_claim(
        &self,
        name: &str,
        pod: &str,
        size: i64,
        selected_node: Option<&str>,
    ) -> String {
        assert!(name.starts_with(pod));
        self.claim(name, size, selected_node)
    }

    /// The claim belongs to the pod.
    pub(crate) fn adopt(&self, claim: &str, pod: &str) {
        let owner = self.api.get("pods", "shop", pod).unwrap()["metadata"]["uid"].clone();
        self.api.edit("persistentvolumeclaims", "shop", claim, |c| {
            c["metadata"]["ownerReferences"] = json!([
                {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": owner, "controller": true}
            ]);
        });
    }

    /// A pod that waits for these claims.
    pub(crate) fn pod(&self, name: &str, claims: &[&str]) {
        self.pod_with(name, claims, &[]);
    }

    /// A pod that waits for these claims, and for ephemeral volumes of these names.
    pub(crate) fn pod_with(&self, name: &str, claims: &[&str], ephemeral: &[&str]) {
        let claims = claims
            .iter()
            .map(|c| json!({"name": c, "persistentVolumeClaim": {"claimName": c}}));
        let ephemeral = ephemeral
            .iter()
            .map(|v| json!({"name": v, "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}));
        let volumes: Vec<Value> = claims.chain(ephemeral).collect();
        self.api.put(
            "api/v1/pods",
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"},
                "spec": {"containers": [], "volumes": volumes}, "status": {"phase": "Pending"},
            }),
        );
    }

    /// Starts a provisioner that leads.
    pub(crate) async fn start(&self) -> Provisioner {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("csi.sock");
        let log = self.log.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .on_thread_start(move || {
                // For as long as the thread lives.
                if let Some(log) = &log {
                    std::mem::forget(tracing::dispatcher::set_default(log));
                }
            })
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (api, settings, path) = (self.api.clone(), self.settings.clone(), socket.clone());
        let permit = Permit::none();
        permit.fixed(true);
        let held = permit.clone();
        let started = runtime.spawn(async move {
            let shutdown = Shutdown::new(Duration::from_secs(1));
            let (health, metrics) = (Health::new(&shutdown), Metrics::new("provisioner"));
            let slot = Slot::default();
            server::serve(&path, &slot, &metrics, &shutdown).unwrap();
            app::lead(
                api.client(),
                held,
                settings,
                &slot,
                &health,
                &metrics,
                &shutdown,
            )
            .await;
            shutdown
        });
        let _shutdown = tokio::time::timeout(SOON, started)
            .await
            .expect("starts soon")
            .unwrap();
        let connect = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://socket").connect_with_connector_lazy(connect);
        Provisioner {
            channel,
            permit,
            runtime: Some(runtime),
            _folder: folder,
        }
    }

    /// Waits until `what` holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut changes = self.api.changes();
        let waiting = async {
            loop {
                changes.mark_unchanged();
                if holds(self) {
                    return;
                }
                // What is waited for need not be a change of an object.
                let _ = tokio::time::timeout(Duration::from_millis(50), changes.changed()).await;
            }
        };
        if tokio::time::timeout(SOON, waiting).await.is_err() {
            panic!("waited in vain until {what}; objects: {}", self.dump());
        }
    }

    pub(crate) fn dump(&self) -> String {
        let mut all = String::new();
        for kind in [
            "localvolumes",
            "localvolumereplicas",
            "localvolumegroups",
            "localvolumeexpands",
        ] {
            for object in self.api.list(kind) {
                all.push_str(&format!("\n{kind} {object}"));
            }
        }
        all
    }

    pub(crate) fn volume(&self, name: &str) -> Option<Value> {
        self.api.get("localvolumes", "", name)
    }

    /// Names of the volumes that groups keep room for, or have.
    pub(crate) fn members(&self) -> Vec<String> {
        let groups = self.api.list("localvolumegroups");
        let members = groups
            .iter()
            .flat_map(|g| g["spec"]["volumes"].as_array().cloned().unwrap_or_default());
        members
            .map(|m| m["localvolume"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Nothing of any volume is left anywhere.
    pub(crate) fn assert_empty(&self) {
        let left = self.dump();
        assert!(left.is_empty(), "objects are left: {left}");
        assert!(
            self.nodes.volumes().is_empty(),
            "logical volumes are left: {:?}",
            self.nodes.volumes()
        );
    }

    /// Every logical volume belongs to a living object, and every group's member to a volume.
    pub(crate) fn assert_consistent(&self) {
        let volumes: Vec<String> = self.names("localvolumes");
        for on_disk in self.nodes.volumes().keys() {
            assert!(
                volumes.contains(on_disk),
                "orphan logical volume {on_disk}: {}",
                self.dump()
            );
        }
        for replica in self.api.list("localvolumereplicas") {
            let of = replica["spec"]["volumeName"].as_str().unwrap().to_owned();
            assert!(
                volumes.contains(&of),
                "orphan replica of {of}: {}",
                self.dump()
            );
        }
        let mut members = self.members();
        members.sort();
        for pair in members.windows(2) {
            assert_ne!(pair[0], pair[1], "in two groups: {}", self.dump());
        }
        assert_eq!(self.nodes.overcommitted(), Vec::<String>::new());
    }

    pub(crate) fn names(&self, plural: &str) -> Vec<String> {
        self.api
            .list(plural)
            .iter()
            .map(|o| o["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// A running provisioner. Dropping it is kill -9.
pub(crate) struct Provisioner {
    channel: Channel,
    pub(crate) permit: Permit,
    runtime: Option<Runtime>,
    _folder: tempfile::TempDir,
}

impl Drop for Provisioner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Provisioner {
    pub(crate) fn controller(&self) -> ControllerClient<Channel> {
        ControllerClient::new(self.channel.clone())
    }

    pub(crate) fn identity(&self) -> IdentityClient<Channel> {
        IdentityClient::new(self.channel.clone())
    }

    pub(crate) async fn create(
        &self,
        request: CreateVolumeRequest,
    ) -> Result<csi::Volume, tonic::Status> {
        let answer = self.controller().create_volume(request).await?;
        Ok(answer.into_inner().volume.unwrap())
    }

    pub(crate) async fn delete(&self, volume: &str) -> Result<(), tonic::Status> {
        let request = csi::DeleteVolumeRequest {
            volume_id: volume.to_owned(),
            ..Default::default()
        };
        self.controller().delete_volume(request).await.map(drop)
    }

    pub(crate) async fn publish(
        &self,
        volume: &str,
        node: &str,
    ) -> Result<HashMap<String, String>, tonic::Status> {
        let request = csi::ControllerPublishVolumeRequest {
            volume_id: volume.to_owned(),
            node_id: node.to_owned(),
            volume_capability: Some(mount("")),
            ..Default::default()
        };
        Ok(self
            .controller()
            .controller_publish_volume(request)
            .await?
            .into_inner()
            .publish_context)
    }

    pub(crate) async fn unpublish(&self, volume: &str, node: &str) -> Result<(), tonic::Status> {
        let request = csi::ControllerUnpublishVolumeRequest {
            volume_id: volume.to_owned(),
            node_id: node.to_owned(),
            ..Default::default()
        };
        self.controller()
            .controller_unpublish_volume(request)
            .await
            .map(drop)
    }

    pub(crate) async fn expand(
        &self,
        volume: &str,
        size: i64,
    ) -> Result<csi::ControllerExpandVolumeResponse, tonic::Status> {
        let request = csi::ControllerExpandVolumeRequest {
            volume_id: volume.to_owned(),
            capacity_range: Some(CapacityRange {
                required_bytes: size,
                limit_bytes: 0,
            }),
            volume_capability: Some(mount("")),
            ..Default::default()
        };
        Ok(self
            .controller()
            .controller_expand_volume(request)
            .await?
            .into_inner())
    }
}

pub(crate) fn mount(fs_type: &str) -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode {
            mode: Mode::SingleNodeWriter.into(),
        }),
        access_type: Some(AccessType::Mount(MountVolume {
            fs_type: fs_type.to_owned(),
            ..Default::default()
        })),
    }
}

pub(crate) fn block() -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode {
            mode: Mode::SingleNodeWriter.into(),
        }),
        access_type: Some(AccessType::Block(BlockVolume {})),
    }
}

pub(crate) fn on(node: &str) -> Option<TopologyRequirement> {
    let topology = Topology {
        segments: [(names::LVM_TOPOLOGY_KEY.to_owned(), node.to_owned())].into(),
    };
    Some(TopologyRequirement {
        requisite: vec![topology.clone()],
        preferred: vec![topology],
    })
}

/// A request without a claim.
pub(crate) fn request(name: &str, size: i64) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(CapacityRange {
            required_bytes: size,
            limit_bytes: 0,
        }),
        volume_capabilities: vec![mount("")],
        parameters: [("poolClass", "HDD"), ("replicaNumber", "1")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        ..Default::default()
    }
}

/// A request for a claim in `shop`, as external-provisioner makes it for a pod that was scheduled.
pub(crate) fn claim_request(
    volume: &str,
    claim: &str,
    size: i64,
    node: &str,
) -> CreateVolumeRequest {
    let mut request = request(volume, size);
    request
        .parameters
        .insert("csi.storage.k8s.io/pvc/name".into(), claim.into());
    request
        .parameters
        .insert("csi.storage.k8s.io/pvc/namespace".into(), "shop".into());
    request
        .parameters
        .insert("csi.storage.k8s.io/pv/name".into(), volume.into());
    request.accessibility_requirements = on(node);
    request
}
