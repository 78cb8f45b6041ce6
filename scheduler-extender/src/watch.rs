//! Keeps the inventory in step with the API server. How old it may be is `freshness`' business.

use std::collections::BTreeSet;
use std::sync::Arc;

use hawser_api::{LocalStorageNode, LocalVolume, LocalVolumeGroup, LocalVolumeReplica};
use hawser_inventory::{Fold, Inventory, Listing};
use hawser_runtime::index::{Gradual, Key, Watches};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource};
use parking_lot::{RwLock, RwLockReadGuard};

/// How the readiness checks of watches begin.
pub const SYNCED: &str = "watch ";

/// How long a watch lasts before it is opened anew. A connection that is dead without anybody having said so is noticed a few
/// seconds later at the latest.
const WATCH_SECONDS: u32 = 60;

/// The inventory: written by the watches, a few microseconds an event; read by the handlers, some hundred a decision.
#[derive(Clone, Default)]
pub struct Shared(Arc<RwLock<Inventory>>);

impl Shared {
    #[must_use]
    pub fn new(inventory: Inventory) -> Self {
        Self(Arc::new(RwLock::new(inventory)))
    }

    pub fn read(&self) -> RwLockReadGuard<'_, Inventory> {
        self.0.read()
    }
}

/// Objects are taken in one by one, also those of a complete list: a hundred thousand of them at once would need more memory than
/// all that is kept of them.
impl<K> Gradual<K> for Shared
where
    K: Resource + Send + Sync + 'static,
    Inventory: Fold<K>,
{
    type Listing = Listing;

    fn begin(&self) -> Listing {
        Listing::default()
    }

    fn listed(&self, listing: &mut Listing, object: K) {
        listing.add(&mut self.0.write(), &object);
    }

    fn end(&self, listing: Listing, unreadable: &BTreeSet<Key>) {
        let unreadable: BTreeSet<_> = unreadable.iter().map(known_as).collect();
        let keep = |key: &hawser_inventory::Key| unreadable.contains(key);
        listing.end::<K>(&mut self.0.write(), keep);
    }

    fn apply(&self, object: K) {
        self.0.write().apply(&object);
    }

    fn delete(&self, key: &Key) {
        Fold::<K>::remove(&mut *self.0.write(), &known_as(key));
    }
}

fn known_as(key: &Key) -> hawser_inventory::Key {
    hawser_inventory::Key {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

/// Starts one watch for each kind that decisions depend on.
pub fn start(watches: &Watches, client: &Client, inventory: &Shared) {
    macro_rules! watch {
        ($($kind:ty),+) => { $(
            let config = Config::default().timeout(WATCH_SECONDS);
            watches.watch_gradually::<$kind, _>(Api::all(client.clone()), config, inventory.clone());
        )+ };
    }
    watch!(
        Node,
        PersistentVolume,
        PersistentVolumeClaim,
        StorageClass,
        LocalStorageNode,
        LocalVolume,
        LocalVolumeReplica,
        LocalVolumeGroup
    );
}
