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
    core::v1::{Node, PersistentVolume, Pod},
    storage::v1::{CSIStorageCapacity, StorageClass},
};
use kube::{Api, Client, Resource, ResourceExt, runtime::watcher};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    capacity,
    guard::Guards,
    objects::{Kind, Objects, Permit, WriteError},
    remote::{self, Outside, Remotes},
    reserve::Unsettled,
    since::Since,
    waiting::Waiting,
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
    /// How often open reservations are looked at though nothing was heard of their pods: claims are not watched.
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
            // A watch tells of pods that go, and calls tell of pods that go elsewhere: this is the backstop.
            reservation_check: Duration::from_secs(15),
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

/// The epoch of our reservations (see `decide::fence`): a name that no other process has, not even the next one of our identity,
/// and a number if it was renewed.
struct Epoch {
    base: String,
    now: Mutex<(u32, Arc<str>)>,
}

/// Everything shared.
pub struct State {
    pub client: Client,
    pub settings: Settings,
    epoch: Epoch,
    pub objects: Objects,
    /// What else is asked of the API server.
    pub outside: Arc<dyn Outside>,
    pub inventory: Shared,
    /// The pods that wait for a node, as far as the watch has told.
    pub waiting: Waiting,
    pub storage_nodes: Store<LocalStorageNode>,
    pub persistent: Store<PersistentVolume>,
    pub classes: Store<StorageClass>,
    pub capacities: Store<CSIStorageCapacity>,
    pub events: Recorder,
    /// One CSI call at a time for a volume.
    pub guards: Guards,
    /// Held while room is looked at and taken, never while waiting for a node. In it: writes of which it is not known whether
    /// they took room.
    pub placing: tokio::sync::Mutex<Unsettled>,
    pub queues: Queues,
    /// Since when expansions fail.
    pub(crate) failing: Since,
    /// Since when groups have reservations that nobody has used.
    pub(crate) unclaimed: Since,
    health: Health,
    replicas_by_volume: Groups<LocalVolumeReplica, String>,
    groups_by_volume: Groups<LocalVolumeGroup, String>,
    groups_by_pod: Arc<Groups<LocalVolumeGroup, String>>,
    groups_by_base: Groups<LocalVolumeGroup, String>,
    persistent_by_handle: Groups<PersistentVolume, String>,
}

/// `namespace/pod`, as a group names its pod.
fn pods_of(group: &LocalVolumeGroup) -> Vec<String> {
    let (namespace, pods) = (&group.spec.namespace, group.spec.pods.iter());
    pods.map(|pod| format!("{namespace}/{pod}")).collect()
}

/// What a group may be called after: its name, or its name without the last part (see `decide::reserve::group_names`).
fn bases_of(group: &LocalVolumeGroup) -> Vec<String> {
    let name = group.name_any();
    let shorter = name.rsplit_once('-').map(|(base, _)| base.to_owned());
    [Some(name), shorter].into_iter().flatten().collect()
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
        let remotes = Remotes::of(&client, &settings.namespace);
        let events = Recorder::new(
            client.clone(),
            names::managers::PROVISIONER,
            settings.identity.clone(),
            shutdown,
        );
        let epoch = format!("{}/{}", settings.identity, uuid::Uuid::new_v4());
        let state = Self::assemble(client, &remotes, permit, (settings, epoch), events, health);
        let objects = &state.objects;
        tokio::spawn(objects.volumes.resolve_doubts());
        tokio::spawn(objects.replicas.resolve_doubts());
        tokio::spawn(objects.groups.resolve_doubts());
        tokio::spawn(objects.expansions.resolve_doubts());
        tokio::spawn(objects.disk_claims.resolve_doubts());
        state.watch(&Watches::new(shutdown, health, metrics));
        state
    }

    /// The indexes, empty and not watched yet: for [`State::start`], and for tests that feed them by hand.
    #[must_use]
    pub fn assemble(
        client: Client,
        remotes: &Remotes,
        permit: Permit,
        (settings, epoch): (Settings, String),
        events: Recorder,
        health: &Health,
    ) -> Arc<Self> {
        let inventory = Shared::default();
        macro_rules! kind {
            ($kind:ty, $remote:ident) => {
                Kind::<$kind>::new(remotes.$remote.clone(), |store| {
                    Arc::new((store, inventory.clone()))
                })
            };
        }
        let objects = Objects::new(
            permit,
            kind!(LocalVolume, volumes),
            kind!(LocalVolumeReplica, replicas),
            kind!(LocalVolumeGroup, groups),
            Kind::<LocalVolumeExpand>::new(remotes.expansions.clone(), |store| Arc::new(store)),
            Kind::<LocalDiskClaim>::new(remotes.disk_claims.clone(), |store| Arc::new(store)),
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
            groups_by_pod: Arc::new(objects.groups.store.group_by(pods_of)),
            groups_by_base: objects.groups.store.group_by(bases_of),
            persistent_by_handle: persistent
                .group_by(|p| handle_of(p).map(str::to_owned).into_iter().collect()),
            events,
            outside: remotes.outside.clone(),
            waiting: Waiting::default(),
            storage_nodes: Store::new(),
            classes: Store::new(),
            capacities: Store::new(),
            guards: Guards::default(),
            placing: tokio::sync::Mutex::default(),
            queues: Queues::default(),
            failing: Since::default(),
            unclaimed: Since::default(),
            health: health.clone(),
            persistent,
            inventory,
            objects,
            settings,
            epoch: Epoch {
                now: Mutex::new((1, epoch.as_str().into())),
                base: epoch,
            },
            client,
        });
        state.feed_queues();
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
        watches.watch_into(
            all::<LocalStorageNode>(client),
            config(),
            self.storage_node_index(),
        );
        watches.watch_into(all::<Node>(client), config(), self.inventory.clone());
        watches.watch_into(
            all::<PersistentVolume>(client),
            config(),
            self.persistent_index(),
        );
        watches.watch_into(all::<StorageClass>(client), config(), self.class_index());
        let waiting = config().fields(remote::WAITING);
        watches.watch_into(all::<Pod>(client), waiting, self.waiting.clone());
        let ours = config().labels(&capacity::selector());
        let api: Api<Tolerant<CSIStorageCapacity>> =
            Api::namespaced(client.clone(), &self.settings.namespace);
        watches.watch_into(api, ours, self.capacities.clone());
    }

    /// What the watch of this kind is folded into.
    pub fn storage_node_index(&self) -> impl Index<LocalStorageNode> + use<> {
        (self.storage_nodes.clone(), self.inventory.clone())
    }

    /// What the watch of this kind is folded into.
    pub fn persistent_index(&self) -> impl Index<PersistentVolume> + use<> {
        (Ours(self.persistent.clone()), self.inventory.clone())
    }

    /// What the watch of this kind is folded into.
    pub fn class_index(&self) -> impl Index<StorageClass> + use<> {
        (self.classes.clone(), self.inventory.clone())
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
        let (queues, by_pod) = (self.queues.clone(), self.groups_by_pod.clone());
        self.waiting.store.on_change(move |change| {
            // A pod that has gone, or has a node.
            if change.new.is_none() {
                for group in by_pod.get(&change.key.to_string()) {
                    queues.groups.add(group.name_any());
                }
            }
        });
    }

    /// Whether calls can be served: we lead, and all indexes have had their first list.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.objects.may_write() && self.health.not_ready().is_empty()
    }

    /// The epoch of our reservations.
    #[must_use]
    pub fn epoch(&self) -> Arc<str> {
        self.epoch.now.lock().1.clone()
    }

    /// Another epoch; what was reserved counts again once it was taken over.
    pub(crate) fn renew_epoch(&self) {
        let mut now = self.epoch.now.lock();
        now.0 += 1;
        now.1 = format!("{}.{}", self.epoch.base, now.0).into();
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

    /// The groups that are called after a pod's uid or a volume's name.
    #[must_use]
    pub fn groups_called(&self, base: &str) -> Vec<Arc<LocalVolumeGroup>> {
        self.groups_by_base.get(base)
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
    pub async fn node_is_gone(&self, name: &str) -> Result<bool, WriteError> {
        if self.knows_node(name) {
            return Ok(false);
        }
        if !crate::objects::is_object_name(name) {
            return Ok(true);
        }
        Ok(!self.outside.node_exists(name).await?)
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
