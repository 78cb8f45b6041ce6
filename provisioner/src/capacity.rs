//! `CSIStorageCapacity` objects, for those who schedule with the default scheduler alone: one for each of our classes and each
//! node with storage, following the inventory. Off by default; switched off, it removes what it has made.
//!
//! An object belongs to its class and goes with it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hawser_api::{names, parameters::VolumeClass};
use hawser_placement::{PoolClass, StorageState};
use hawser_runtime::{index::Key, patch::merge_diff, telemetry::chain};
use k8s_openapi::{
    api::storage::v1::{CSIStorageCapacity, StorageClass},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{csi::room::room, decide::name::digest, state::State};

/// Says that an object is ours.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", names::managers::PROVISIONER);
/// How long changes are gathered. A pod's volumes come together; what is published follows within this and one write.
const GATHER: Duration = Duration::from_secs(1);
/// Looked at again after this time although nothing has changed: somebody may have changed an object unseen.
const AT_LEAST: Duration = Duration::from_secs(30);
/// And after this time if a write has failed. With [`GATHER`] and the write, what is published is 5 s old at most.
const RETRY: Duration = Duration::from_secs(2);

/// Selects our objects.
#[must_use]
pub(crate) fn selector() -> String {
    format!("{}={}", MANAGED_BY.0, MANAGED_BY.1)
}

/// What ought to be published, by name of the object.
#[must_use]
pub(crate) fn wanted(state: &State) -> BTreeMap<String, CSIStorageCapacity> {
    if !state.settings.publish_capacity {
        return BTreeMap::new();
    }
    let cluster = state.inventory.cluster();
    let mut wanted = BTreeMap::new();
    for class in state.classes.filter(|c| c.provisioner == names::LVM_DRIVER) {
        let Some(pool) = pool_class(&class) else {
            continue;
        };
        for node in cluster
            .nodes()
            .filter(|n| !matches!(n.storage, StorageState::Absent | StorageState::NodeMissing))
        {
            let (available, largest) = room(node, Some(pool));
            let object = build(state, &class, &node.name, available, largest);
            wanted.insert(object.name_any(), object);
        }
    }
    wanted
}

/// The pool class of a storage class that this version serves.
fn pool_class(class: &StorageClass) -> Option<PoolClass> {
    let class = VolumeClass::parse_supported(class.parameters.iter().flatten()).ok()?;
    match class.pool_class {
        hawser_api::PoolClass::HDD => Some(PoolClass::Hdd),
        hawser_api::PoolClass::SSD => Some(PoolClass::Ssd),
        hawser_api::PoolClass::NVMe => Some(PoolClass::Nvme),
        hawser_api::PoolClass::Unset | hawser_api::PoolClass::Other(_) => None,
    }
}

fn build(
    state: &State,
    class: &StorageClass,
    node: &str,
    available: u64,
    largest: u64,
) -> CSIStorageCapacity {
    let name = format!(
        "hawser-{}",
        &digest(&format!("{}\n{node}", class.name_any()))[..32]
    );
    CSIStorageCapacity {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(state.settings.namespace.clone()),
            labels: Some([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())].into()),
            owner_references: class.owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        capacity: Some(Quantity(available.to_string())),
        maximum_volume_size: Some(Quantity(largest.to_string())),
        node_topology: Some(LabelSelector {
            match_labels: Some([(names::LVM_TOPOLOGY_KEY.to_owned(), node.to_owned())].into()),
            ..LabelSelector::default()
        }),
        storage_class_name: class.name_any(),
    }
}

/// Whether a published object says what it should; its sizes may be written in other units.
fn says(held: &CSIStorageCapacity, wanted: &CSIStorageCapacity) -> bool {
    let bytes = |q: &Option<Quantity>| {
        q.as_ref()
            .and_then(|q| hawser_api::quantity::parse(&q.0).ok())
    };
    bytes(&held.capacity) == bytes(&wanted.capacity)
        && bytes(&held.maximum_volume_size) == bytes(&wanted.maximum_volume_size)
}

/// Keeps what is published as it should be, until shutdown.
pub(crate) async fn publish(state: Arc<State>, token: CancellationToken) {
    let mut inventory = state.inventory.changed();
    let mut classes = state.classes.changed();
    let mut held = state.capacities.changed();
    loop {
        inventory.mark_unchanged();
        classes.mark_unchanged();
        held.mark_unchanged();
        let failures = bring_in_step(&state).await;
        let pause = if failures == 0 { AT_LEAST } else { RETRY };
        let change = async {
            // All are cancel-safe; what changed is looked at anew.
            tokio::select! {
                _ = inventory.changed(), if state.settings.publish_capacity => {}
                _ = classes.changed(), if state.settings.publish_capacity => {}
                _ = held.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
            tokio::time::sleep(GATHER).await;
        };
        if token.run_until_cancelled(change).await.is_none() {
            return;
        }
    }
}

/// Writes what differs, each object by itself: one that the API server refuses hinders no other. Returns how many failed.
async fn bring_in_step(state: &State) -> usize {
    let api: Api<CSIStorageCapacity> =
        Api::namespaced(state.client.clone(), &state.settings.namespace);
    let wanted = wanted(state);
    let mut failures = 0;
    let mut count = |name: &str, result: Result<(), kube::Error>| {
        if let Err(error) = result {
            failures += 1;
            tracing::warn!(object = name, error = %chain(&error), "capacity not published, trying again");
        }
    };
    for held in state.capacities.list() {
        let name = held.name_any();
        match wanted.get(&name) {
            None => {
                let deleted = api.delete(&name, &DeleteParams::default()).await;
                count(&name, ignore_missing(deleted.map(drop)));
            }
            Some(wanted) if says(&held, wanted) => {}
            Some(wanted) => count(&name, correct(&api, &held, wanted).await),
        }
    }
    for (name, object) in &wanted {
        let key = Key::namespaced(state.settings.namespace.clone(), name.clone());
        if state.capacities.get_key(&key).is_none() {
            let created = match api.create(&PostParams::default(), object).await {
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                other => other.map(drop),
            };
            count(name, created);
        }
    }
    failures
}

async fn correct(
    api: &Api<CSIStorageCapacity>,
    held: &CSIStorageCapacity,
    wanted: &CSIStorageCapacity,
) -> Result<(), kube::Error> {
    let json = |object: &CSIStorageCapacity| json!({"capacity": object.capacity, "maximumVolumeSize": object.maximum_volume_size});
    let Some(patch) = merge_diff(&json(held), &json(wanted)) else {
        return Ok(());
    };
    let (name, params) = (held.name_any(), PatchParams::default());
    let sent = api.patch(&name, &params, &Patch::Merge(patch)).await;
    ignore_missing(sent.map(drop))
}

/// The index lags: what it still shows may be gone.
fn ignore_missing(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}
