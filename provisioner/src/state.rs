//! What the whole process shares: indexes, the way to write, events, the queues of work. Built once; owns no decisions.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hawser_api::{
    LocalDiskClaim, LocalStorageNode, LocalVolume, LocalVolumeExpand, LocalVolumeGroup,
    LocalVolumeReplica, names,
};
use hawser_inventory::{Fold, Inventory};
use hawser_placement::{Cluster, StorageState};
use hawser_runtime::{
    events::Recorder,
    health::Health,
    index::{Index, Key, Tolerant, Watches},
    metrics::Metrics,
    reconcile::Queue,
    shutdown::Shutdown,
    store::{Groups, Store},
};
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume},
    storage::v1::{CSIStorageCapacity, StorageClass},
};
use kube::{Api, Client, Resource, ResourceExt, runtime::watcher};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    capacity,
    guard::Guards,
    objects::{Kind, Objects, Permit},
    since::Since,
};

/// What can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our namespace: where capacity objects live.
    pub namespace: String,
    /// Who we are, in events.
    pub identity: String,
    /// How long a call waits for a node to have done its part.
    pub ready_timeout: Duration,
    /// How long a node may report without interruption that it can't do its part before that is taken for its answer.
    pub patience: Duration,
    /// How often open reservations are looked at: pods and claims are not watched, for they are many and this is rare.
    pub reservation_check: Duration,
    /// How long a reservation holds although no scheduler has chosen a node for its claim.
    pub unclaimed: Duration,
    /// Whether to publish `CSIStorageCapacity` objects.
    pub publish_capacity: bool,
}

impl Settings {
    /// The settings of a process called `identity` in `namespace`.
    #[must_use]
    pub fn new(namespace: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            identity: identity.into(),
            ready_timeout: Duration::from_secs(50),
            // Longer than a tool's retry, shorter than a scheduler that waits.
            patience: Duration::from_secs(10),
            reservation_check: Duration::from_secs(5),
            // kube-scheduler writes its choice to all claims of a pod within moments: this only covers a slow one, and claims
            // that have no pod.
            unclaimed: Duration::from_secs(60),
            publish_capacity: false,
        }
    }
}

/// The inventory behind a lock, as an index. Clones share one state.
#[derive(Clone)]
pub struct Shared {
    inventory: Arc<Mutex<Inventory>>,
    changed: watch::Sender<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            inventory: Arc::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Shared {
    /// The snapshot as of now.
    #[must_use]
    pub fn cluster(&self) -> Cluster {
        self.inventory.lock().cluster().clone()
    }

    /// Asks or changes the inventory; must not block.
    pub fn with<T>(&self, ask: impl FnOnce(&mut Inventory) -> T) -> T {
        ask(&mut self.inventory.lock())
    }

    /// A receiver whose value grows with each change.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn tell(&self) {
        self.changed.send_modify(|generation| *generation += 1);
    }
}

fn key_of(key: &Key) -> hawser_inventory::Key {
    hawser_inventory::Key {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

impl<K: Resource + Send + Sync + 'static> Index<K> for Shared
where
    Inventory: Fold<K>,
{
    fn apply(&self, object: Arc<K>) {
        Fold::<K>::apply(&mut *self.inventory.lock(), &object);
        self.tell();
    }

    fn delete(&self, key: &Key) {
        Fold::<K>::remove(&mut *self.inventory.lock(), &key_of(key));
        self.tell();
    }

    fn reset(&self, objects: Vec<Arc<K>>, unreadable: &BTreeSet<Key>) {
        let keep = |key: &hawser_inventory::Key| {
            unreadable.contains(&Key {
                namespace: key.namespace.clone(),
                name: key.name.clone(),
            })
        };
        hawser_inventory::reset(
            &mut self.inventory.lock(),
            objects.iter().map(|o| &**o),
            keep,
        );
        self.tell();
    }
}

/// Persistent volumes of our driver; those of others are let pass.
#[derive(Clone)]
struct Ours(Store<PersistentVolume>);

/// The volume's handle, if the persistent volume is ours.
#[must_use]
pub fn handle_of(persistent: &PersistentVolume) -> Option<&str> {
    let csi = persistent.spec.as_ref()?.csi.as_ref()?;
    (csi.driver == names::LVM_DRIVER).then_some(csi.volume_handle.as_str())
}

impl Index<PersistentVolume> for Ours {
    fn apply(&self, object: Arc<PersistentVolume>) {
        if handle_of(&object).is_some() {
            self.0.apply(object);
        }
    }

    fn delete(&self, key: &Key) {
        self.0.delete(key);
    }

    fn reset(&self, objects: Vec<Arc<PersistentVolume>>, unreadable: &BTreeSet<Key>) {
        self.0.reset(
            objects
                .into_iter()
                .filter(|o| handle_of(o).is_some())
                .collect(),
            unreadable,
        );
    }
}

/// The work that waits, by kind: keys are names.
#[derive(Clone, Debug, Default)]
pub struct Queues {
    pub volumes: Queue<String>,
    pub groups: Queue<String>,
    pub expansions: Queue<String>,
    pub disk_claims: Queue<String>,
    /// Names of persistent volumes.
    pub bindings: Queue<String>,
}

/// Everything shared.
pub struct State {
    pub client: Client,
    pub settings: Settings,
    pub objects: Objects,
    pub inventory: Shared,
    pub storage_nodes: Store<LocalStorageNode>,
    pub persistent: Store<PersistentVolume>,
    pub classes: Store<StorageClass>,
    pub capacities: Store<CSIStorageCapacity>,
    pub events: Recorder,
    /// One CSI call at a time for a volume.
    pub guards: Guards,
    /// Held while room is looked at and taken, never while waiting for a node.
    pub placing: tokio::sync::Mutex<()>,
    pub queues: Queues,
    /// Since when expansions fail.
    pub(crate) failing: Since,
    /// Since when groups have reservations that nobody has used.
    pub(crate) unclaimed: Since,
    health: Health,
    replicas_by_volume: Groups<LocalVolumeReplica, String>,
    groups_by_volume: Groups<LocalVolumeGroup, String>,
    persistent_by_handle: Groups<PersistentVolume, String>,
}

impl State {
    /// Builds the indexes and starts their watches. To be called by who leads already: the first lists then show everything that
    /// an earlier leader has written.
    #[must_use]
    pub fn start(
        client: Client,
        permit: Permit,
        settings: Settings,
        shutdown: &Shutdown,
        health: &Health,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let inventory = Shared::default();
        macro_rules! kind {
            ($kind:ty) => {
                Kind::<$kind>::new(&client, |store| Arc::new((store, inventory.clone())))
            };
        }
        let objects = Objects::new(
            permit,
            kind!(LocalVolume),
            kind!(LocalVolumeReplica),
            kind!(LocalVolumeGroup),
            Kind::<LocalVolumeExpand>::new(&client, |store| Arc::new(store)),
            Kind::<LocalDiskClaim>::new(&client, |store| Arc::new(store)),
        );
        let persistent = Store::<PersistentVolume>::new();
        let state = Arc::new(Self {
            replicas_by_volume: objects
                .replicas
                .store
                .group_by(|r| vec![r.spec.volume_name.clone()]),
            groups_by_volume: objects.groups.store.group_by(|g| {
                g.spec
                    .volumes
                    .iter()
                    .map(|m| m.local_volume.clone())
                    .collect()
            }),
            persistent_by_handle: persistent
                .group_by(|p| handle_of(p).map(str::to_owned).into_iter().collect()),
            events: Recorder::new(
                client.clone(),
                names::managers::PROVISIONER,
                settings.identity.clone(),
                shutdown,
            ),
            storage_nodes: Store::new(),
            classes: Store::new(),
            capacities: Store::new(),
            guards: Guards::default(),
            placing: tokio::sync::Mutex::new(()),
            queues: Queues::default(),
            failing: Since::default(),
            unclaimed: Since::default(),
            health: health.clone(),
            persistent,
            inventory,
            objects,
            settings,
            client,
        });
        state.feed_queues();
        state.watch(&Watches::new(shutdown, health, metrics));
        state
    }

    fn watch(&self, watches: &Watches) {
        fn all<K: Resource<DynamicType = ()>>(client: &Client) -> Api<Tolerant<K>>
        where
            Tolerant<K>: Resource<DynamicType = ()>,
        {
            Api::all_with(client.clone(), &())
        }
        let (client, config) = (&self.client, watcher::Config::default);
        watches.watch_into(
            all::<LocalVolume>(client),
            config(),
            self.objects.volumes.index(),
        );
        watches.watch_into(
            all::<LocalVolumeReplica>(client),
            config(),
            self.objects.replicas.index(),
        );
        watches.watch_into(
            all::<LocalVolumeGroup>(client),
            config(),
            self.objects.groups.index(),
        );
        watches.watch_into(
            all::<LocalVolumeExpand>(client),
            config(),
            self.objects.expansions.index(),
        );
        watches.watch_into(
            all::<LocalDiskClaim>(client),
            config(),
            self.objects.disk_claims.index(),
        );
        let nodes = (self.storage_nodes.clone(), self.inventory.clone());
        watches.watch_into(all::<LocalStorageNode>(client), config(), nodes);
        watches.watch_into(all::<Node>(client), config(), self.inventory.clone());
        let persistent = (Ours(self.persistent.clone()), self.inventory.clone());
        watches.watch_into(all::<PersistentVolume>(client), config(), persistent);
        let classes = (self.classes.clone(), self.inventory.clone());
        watches.watch_into(all::<StorageClass>(client), config(), classes);
        let ours = config().labels(&capacity::selector());
        let api: Api<Tolerant<CSIStorageCapacity>> =
            Api::namespaced(client.clone(), &self.settings.namespace);
        watches.watch_into(api, ours, self.capacities.clone());
    }

    /// Puts the names of what has changed into the queues.
    fn feed_queues(&self) {
        let queues = self.queues.clone();
        self.objects.volumes.store.on_change(move |change| {
            queues.volumes.add(change.key.name.clone());
            queues.expansions.add(change.key.name.clone());
            let group = change
                .new
                .or(change.old)
                .map(|v| v.spec.volume_group.clone())
                .filter(|g| !g.is_empty());
            if let Some(group) = group
                && (change.old.is_none() || change.new.is_none())
            {
                queues.groups.add(group);
            }
        });
        let queues = self.queues.clone();
        self.objects.replicas.store.on_change(move |change| {
            if let Some(replica) = change.new.or(change.old) {
                queues.volumes.add(replica.spec.volume_name.clone());
                queues.expansions.add(replica.spec.volume_name.clone());
            }
        });
        let queues = self.queues.clone();
        self.objects
            .groups
            .store
            .on_change(move |change| queues.groups.add(change.key.name.clone()));
        let queues = self.queues.clone();
        self.objects
            .expansions
            .store
            .on_change(move |change| queues.expansions.add(change.key.name.clone()));
        let queues = self.queues.clone();
        self.objects
            .disk_claims
            .store
            .on_change(move |change| queues.disk_claims.add(change.key.name.clone()));
        let queues = self.queues.clone();
        self.persistent
            .on_change(move |change| queues.bindings.add(change.key.name.clone()));
    }

    /// Whether calls can be served: we lead, and all indexes have had their first list.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.objects.may_write() && self.health.not_ready().is_empty()
    }

    /// All replicas of a volume in order of their names.
    #[must_use]
    pub fn replicas_of(&self, volume: &str) -> Vec<Arc<LocalVolumeReplica>> {
        self.replicas_by_volume.get(volume)
    }

    /// The groups that have the volume as a member, reserved or made.
    #[must_use]
    pub fn groups_of(&self, volume: &str) -> Vec<Arc<LocalVolumeGroup>> {
        self.groups_by_volume.get(volume)
    }

    /// The persistent volumes with this handle; one, unless somebody made a second one by hand.
    #[must_use]
    pub fn persistent_of(&self, handle: &str) -> Vec<Arc<PersistentVolume>> {
        self.persistent_by_handle.get(handle)
    }

    /// Whether Kubernetes has a node of this name.
    #[must_use]
    pub fn knows_node(&self, name: &str) -> bool {
        let state = self
            .inventory
            .with(|i| i.cluster().get(name).map(|node| node.storage));
        state.is_some_and(|state| state != StorageState::NodeMissing)
    }

    /// Whether the API server says that there is no such node: certain, unlike what an index that lags says.
    pub async fn node_is_gone(&self, name: &str) -> Result<bool, kube::Error> {
        if self.knows_node(name) {
            return Ok(false);
        }
        if !crate::objects::is_object_name(name) {
            return Ok(true);
        }
        let nodes: Api<Node> = Api::all(self.client.clone());
        Ok(nodes.get_metadata_opt(name).await?.is_none())
    }

    /// Says on the volume, and on its claim, what happened.
    pub fn tell(
        &self,
        volume: &LocalVolume,
        severity: hawser_runtime::events::Severity,
        reason: &str,
        message: &str,
    ) {
        self.events.record(volume, severity, reason, message);
        for persistent in self.persistent_of(&volume.name_any()) {
            if let Some(claim) = persistent.spec.as_ref().and_then(|s| s.claim_ref.clone()) {
                self.events.record_ref(claim, severity, reason, message);
            }
        }
    }
}
