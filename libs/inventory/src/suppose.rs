//! What if: claims that do not exist (yet), asked about as if they did.

use std::collections::HashMap;

use hawser_api::names::annotations;
use hawser_placement::Name;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::claim::ClaimFacts;
use crate::fold::Key;
use crate::inventory::Inventory;
use crate::names::Names;

/// Claims that are supposed to exist beside those of the inventory, which they never hide.
#[derive(Clone, Debug, Default)]
pub struct Supposed {
    pub(crate) claims: HashMap<Key, ClaimFacts>,
    names: Names,
}

/// How the names of supposed volumes begin. No other does: uids hold no colon.
const VOLUME: &str = "pvc-simulated:";

impl Supposed {
    /// Whether the volume of this name is of a supposed claim.
    #[must_use]
    pub fn is_volume(name: &str) -> bool {
        name.starts_with(VOLUME)
    }

    /// Adds the claim as the API server would make it: without a class it gets the default one; whose it was in another life
    /// (uid, the volume it was bound to) is forgotten, so that it is a new claim. One that was added before stays.
    pub fn add(&mut self, inventory: &Inventory, mut claim: PersistentVolumeClaim) {
        let key = Key::of(&claim);
        let volume = format!(
            "{VOLUME}{}/{}",
            key.namespace.as_deref().unwrap_or_default(),
            key.name
        );
        claim.metadata.uid = volume.strip_prefix("pvc-").map(str::to_owned);
        claim.metadata.deletion_timestamp = None;
        let annotated = |key: &str| {
            let all = claim.metadata.annotations.as_ref();
            all.is_some_and(|all| all.contains_key(key))
        };
        let old_way = annotated(annotations::BETA_CLASS);
        let spec = claim.spec.get_or_insert_default();
        spec.volume_name = None;
        if spec.storage_class_name.is_none() && !old_way {
            spec.storage_class_name = inventory.default_class().map(ToString::to_string);
        }
        let names = &mut self.names;
        self.claims
            .entry(key)
            .or_insert_with(|| ClaimFacts::of(&claim, names));
    }
}

impl Inventory {
    /// The class of claims that name none: of those marked as default the newest, ties by name, as the API server has it
    /// (`storage/util.GetDefaultClass`).
    #[must_use]
    pub fn default_class(&self) -> Option<&Name> {
        let marked = self
            .classes
            .iter()
            .filter_map(|(name, facts)| facts.default_since.map(|since| (since, name)));
        marked
            .max_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.cmp(a.1)))
            .map(|(_, name)| name)
    }
}
