//! Where the copies of each volume are. Folded from `LocalVolumeReplica`s; a pod asks for one volume's, so they are kept by volume.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hawser_api::{LocalVolumeReplica, ReplicaState};
use hawser_runtime::index::{Index, Key};
use parking_lot::RwLock;

/// The copy that one object speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) node: Arc<str>,
    /// Whether its data can be served there now.
    pub(crate) up_to_date: bool,
}

/// The volume and the copy; `None` for one that goes or has no place yet.
fn read(object: &LocalVolumeReplica) -> Option<(&str, Replica)> {
    let status = object.status.as_ref();
    let state = status.map_or(&ReplicaState::Unset, |status| &status.state);
    let going = matches!(
        state,
        ReplicaState::Invalid | ReplicaState::ToBeDeleted | ReplicaState::Deleted
    );
    if going || object.spec.delete || object.spec.node_name.is_empty() {
        return None;
    }
    let synced = status.is_some_and(|status| status.synced);
    let replica = Replica {
        node: object.spec.node_name.as_str().into(),
        up_to_date: *state == ReplicaState::Ready && synced,
    };
    Some((&object.spec.volume_name, replica))
}

#[derive(Debug, Default)]
struct State {
    /// By volume, then by the name of the object.
    volumes: BTreeMap<Arc<str>, BTreeMap<Box<str>, Replica>>,
    /// The volume of each object.
    objects: BTreeMap<Box<str>, Arc<str>>,
}

impl State {
    fn put(&mut self, object: &str, volume: &str, replica: Replica) {
        self.take(object);
        let volume: Arc<str> = match self.volumes.get_key_value(volume) {
            Some((known, _)) => known.clone(),
            None => volume.into(),
        };
        self.objects.insert(object.into(), volume.clone());
        let copies = self.volumes.entry(volume).or_default();
        copies.insert(object.into(), replica);
    }

    fn take(&mut self, object: &str) {
        let Some(volume) = self.objects.remove(object) else {
            return;
        };
        if let Some(copies) = self.volumes.get_mut(&volume) {
            copies.remove(object);
            if copies.is_empty() {
                self.volumes.remove(&volume);
            }
        }
    }
}

/// All copies. Clones share one state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Copies(Arc<RwLock<State>>);

impl Copies {
    /// The copies of a volume, by the name of their objects.
    pub(crate) fn of(&self, volume: &str) -> Vec<(String, Replica)> {
        let state = self.0.read();
        let copies = state.volumes.get(volume).into_iter().flatten();
        copies
            .map(|(object, replica)| (object.to_string(), replica.clone()))
            .collect()
    }

    /// The volumes that have a copy on this node. Looks at all of them: for rare questions.
    pub(crate) fn on(&self, node: &str) -> Vec<String> {
        let state = self.0.read();
        let there = |copies: &BTreeMap<_, Replica>| copies.values().any(|c| &*c.node == node);
        let volumes = state.volumes.iter().filter(|(_, copies)| there(copies));
        volumes.map(|(volume, _)| volume.to_string()).collect()
    }
}

impl Index<LocalVolumeReplica> for Copies {
    fn apply(&self, object: Arc<LocalVolumeReplica>) {
        let name = Key::of(&*object).name;
        let mut state = self.0.write();
        match read(&object) {
            Some((volume, replica)) => state.put(&name, volume, replica),
            None => state.take(&name),
        }
    }

    fn delete(&self, key: &Key) {
        self.0.write().take(&key.name);
    }

    fn reset(&self, objects: Vec<Arc<LocalVolumeReplica>>, unreadable: &BTreeSet<Key>) {
        let mut fresh = State::default();
        let mut state = self.0.write();
        for key in unreadable {
            let volume = state.objects.get(key.name.as_str());
            let kept = volume.and_then(|volume| {
                let copy = state.volumes.get(volume)?.get(key.name.as_str())?;
                Some((volume, copy))
            });
            if let Some((volume, replica)) = kept {
                fresh.put(&key.name, volume, replica.clone());
            }
        }
        for object in &objects {
            if let Some((volume, replica)) = read(object) {
                fresh.put(&Key::of(&**object).name, volume, replica);
            }
        }
        *state = fresh;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn a_replica(name: &str, volume: &str, node: &str, state: &str) -> LocalVolumeReplica {
        serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "volumeName": volume, "nodeName": node },
            "status": { "state": state, "synced": true }
        }))
        .unwrap()
    }

    fn nodes(copies: &Copies, volume: &str) -> Vec<(String, bool)> {
        let all = copies.of(volume).into_iter();
        all.map(|(_, copy)| (copy.node.to_string(), copy.up_to_date))
            .collect()
    }

    #[test]
    fn what_goes_is_none_and_what_is_not_ready_is_behind() {
        let state = |state: &str, synced: bool, delete: bool| {
            let mut replica = a_replica("r", "v", "n1", state);
            replica.status.as_mut().unwrap().synced = synced;
            replica.spec.delete = delete;
            read(&replica).map(|(_, replica)| replica.up_to_date)
        };
        assert_eq!(state("Ready", true, false), Some(true));
        assert_eq!(state("Ready", false, false), Some(false));
        assert_eq!(state("NotReady", true, false), Some(false));
        assert_eq!(state("", false, false), Some(false));
        assert_eq!(state("ToBeDeleted", true, false), None);
        assert_eq!(state("Ready", true, true), None);
    }

    #[test]
    fn copies_come_move_and_go() {
        let copies = Copies::default();
        let apply = |replica| copies.apply(Arc::new(replica));
        apply(a_replica("a", "v", "n1", "Ready"));
        apply(a_replica("b", "v", "n2", "Creating"));
        apply(a_replica("c", "w", "n1", "Ready"));
        assert_eq!(
            nodes(&copies, "v"),
            [("n1".to_owned(), true), ("n2".to_owned(), false)]
        );
        assert_eq!(copies.on("n1"), ["v", "w"]);
        apply(a_replica("b", "v", "n2", "Ready"));
        apply(a_replica("a", "v", "n1", "ToBeDeleted"));
        assert_eq!(nodes(&copies, "v"), [("n2".to_owned(), true)]);
        copies.delete(&Key::cluster("b"));
        assert!(copies.of("v").is_empty() && copies.0.read().volumes.len() == 1);
        copies.reset(
            vec![Arc::new(a_replica("d", "x", "n3", "Ready"))],
            &BTreeSet::from([Key::cluster("c")]),
        );
        assert_eq!(
            (copies.on("n1"), copies.on("n3")),
            (vec!["w".to_owned()], vec!["x".to_owned()])
        );
    }
}
