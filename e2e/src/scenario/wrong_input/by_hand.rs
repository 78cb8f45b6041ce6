//! Objects that Hawser writes itself, written by hand and wrong: what the API's schema takes and can't be is said at the object, and goes without a trace.

use anyhow::{Result, bail};
use hawser_api::{
    Condition, LocalStorageNode, LocalVolume, LocalVolumeGroup, LocalVolumeReplica, NodeState,
};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{NAME, PATIENCE, Stage};
use crate::kit::volumes::{delete, remove};
use crate::kit::{Pending, Scope, wait_for};

/// More bytes than any pool has.
const PETABYTE: i64 = 1 << 50;
const MIB: i64 = 1 << 20;

/// An object that is wrong in one thing.
struct Wrong {
    name: String,
    spec: Value,
    /// What a condition of it says, or a warning about it.
    words: Vec<String>,
}

impl Wrong {
    fn new(kind: &str, name: &str, spec: Value, words: &[&str]) -> Self {
        Self {
            name: format!("{NAME}-{kind}-{name}"),
            spec,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    fn object(&self, kind: &str) -> Value {
        json!({
            "apiVersion": "hwameistor.io/v1alpha1", "kind": kind, "metadata": { "name": self.name }, "spec": self.spec,
        })
    }

    /// Where it is said.
    fn said(&self, conditions: &[Condition], warnings: &[String]) -> Option<String> {
        let fits = |message: &&String| self.words.iter().all(|word| message.contains(word));
        let messages = conditions.iter().map(|condition| &condition.message);
        messages.chain(warnings).find(fits).cloned()
    }
}

/// The same spec with another value for some fields; null: without the field.
fn with(spec: &Value, changes: &Value) -> Value {
    let mut spec = spec.clone();
    if let (Some(fields), Some(changes)) = (spec.as_object_mut(), changes.as_object()) {
        for (name, value) in changes {
            if value.is_null() {
                fields.remove(name);
            } else {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
    spec
}

fn wrong_volumes(node: &str, pool: &str) -> Vec<Wrong> {
    let right = json!({
        "accessibility": { "nodes": [node] }, "poolName": pool, "replicaNumber": 1, "requiredCapacityBytes": 64 * MIB,
    });
    let wrong = |name: &str, changes: &Value, words: &[&str]| {
        Wrong::new("lv", name, with(&right, changes), words)
    };
    vec![
        wrong(
            "nodes",
            &json!({ "accessibility": null }),
            &["spec.accessibility.nodes is empty"],
        ),
        wrong(
            "absent",
            &json!({ "poolName": "LocalStorage_PoolTape" }),
            &["LocalStorage_PoolTape"],
        ),
        wrong(
            "size",
            &json!({ "requiredCapacityBytes": PETABYTE }),
            &[&format!("pool {pool}"), "free"],
        ),
        wrong("thin", &json!({ "thin": true }), &["spec.thin is true"]),
    ]
}

/// What the schema or the webhook does not take: field, value, and what the API server says of it.
fn not_taken() -> [(&'static str, Value, &'static str); 4] {
    [
        ("replicaNumber", json!(9), "spec.replicaNumber"),
        (
            "requiredCapacityBytes",
            json!(1),
            "spec.requiredCapacityBytes",
        ),
        ("poolName", json!(7), "poolName"),
        ("poolName", json!("tape"), "spec.poolName is \"tape\""),
    ]
}

/// Volumes: each says what is wrong with it, none gets a byte, and each goes when that is asked.
pub(super) async fn volumes(scope: &Scope, stage: &Stage) -> Result<String> {
    let volumes: Api<LocalVolume> = scope.cluster();
    let wrong = wrong_volumes(&stage.asked, &stage.pools[0].name);
    for (field, value, word) in not_taken() {
        let spec = with(&wrong[0].spec, &json!({ field: value }));
        let refused = Wrong::new("lv", "refused", spec, &[]);
        let object = refused.object("LocalVolume");
        match Scope::apply(&volumes, &refused.name, object).await {
            Ok(_) => bail!("the API server takes a LocalVolume whose {field} is {value}"),
            Err(error) if format!("{error:#}").contains(word) => {}
            Err(error) => return Err(error.context(format!("{field} is {value}"))),
        }
    }
    for one in &wrong {
        Scope::apply(&volumes, &one.name, one.object("LocalVolume")).await?;
    }
    let mut said = Vec::new();
    for one in &wrong {
        let what = format!("LocalVolume {} to say {:?}", one.name, one.words);
        let words = wait_for(&what, PATIENCE, || async {
            let status = volumes.get(&one.name).await?.status.unwrap_or_default();
            let warnings = scope.warnings(&volumes, &one.name).await?;
            Ok(match one.said(&status.conditions, &warnings) {
                Some(words) => Ok(words),
                None => Err(Pending::because(format!(
                    "its status is {status:?}, the warnings {warnings:?}"
                ))),
            })
        });
        said.push(words.await?);
    }
    for one in &wrong {
        end_volume(&volumes, &one.name).await?;
    }
    Ok(said.join("; "))
}

/// Asks for a volume's end, in the way that is documented, and waits for it.
async fn end_volume(volumes: &Api<LocalVolume>, name: &str) -> Result<()> {
    let patch = json!({ "spec": { "delete": true } });
    volumes
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    wait_for(&format!("LocalVolume {name} to go"), PATIENCE, || async {
        Ok(match volumes.get_opt(name).await? {
            None => Ok(()),
            Some(left) => Err(Pending::because(format!("{:?}", left.status))),
        })
    })
    .await
}

fn wrong_replicas(node: &str, pool: &str) -> Vec<Wrong> {
    let right = json!({
        "nodeName": node, "poolName": pool, "volumeName": format!("{NAME}-copy"), "requiredCapacityBytes": 64 * MIB,
    });
    let wrong = |name: &str, changes: &Value, words: &[&str]| {
        Wrong::new("lvr", name, with(&right, changes), words)
    };
    vec![
        wrong(
            "pool",
            &json!({ "poolName": "tape" }),
            &["spec.poolName \"tape\"", "LocalStorage_Pool"],
        ),
        wrong(
            "name",
            &json!({ "volumeName": "../volume" }),
            &["spec.volumeName", "../volume"],
        ),
        wrong(
            "size",
            &json!({ "requiredCapacityBytes": null }),
            &["spec.requiredCapacityBytes is 0"],
        ),
        wrong("thin", &json!({ "thin": true }), &["spec.thin is true"]),
    ]
}

/// Copies of no volume: each says what is wrong with it.
pub(super) async fn replicas(scope: &Scope, stage: &Stage) -> Result<String> {
    let replicas: Api<LocalVolumeReplica> = scope.cluster();
    let wrong = wrong_replicas(&stage.asked, &stage.pools[0].name);
    for one in &wrong {
        Scope::apply(&replicas, &one.name, one.object("LocalVolumeReplica")).await?;
    }
    let mut said = Vec::new();
    for one in &wrong {
        let what = format!("LocalVolumeReplica {} to say {:?}", one.name, one.words);
        let words = wait_for(&what, PATIENCE, || async {
            let status = replicas.get(&one.name).await?.status.unwrap_or_default();
            Ok(match one.said(&status.conditions, &[]) {
                Some(words) => Ok(words),
                None => Err(Pending::because(format!("its status is {status:?}"))),
            })
        });
        said.push(words.await?);
    }
    for one in &wrong {
        remove(&replicas, &one.name, PATIENCE).await?;
    }
    Ok(said.join("; "))
}

/// A reservation for a pod that is not there keeps no room from others.
pub(super) async fn group(scope: &Scope, stage: &Stage) -> Result<String> {
    let groups: Api<LocalVolumeGroup> = scope.cluster();
    let spec = json!({
        "accessibility": { "nodes": [stage.asked] }, "namespace": scope.namespace, "pods": ["nobody"],
        "volumes": [{
            "localvolume": "pvc-of-nobody", "pvc": "nobody", "poolName": stage.pools[0].name, "requiredCapacityBytes": 4 * MIB,
        }],
    });
    let one = Wrong::new("lvg", "nobody", spec, &[]);
    Scope::apply(&groups, &one.name, one.object("LocalVolumeGroup")).await?;
    let what = format!("LocalVolumeGroup {} to go", one.name);
    wait_for(&what, PATIENCE, || async {
        Ok(match groups.get_opt(&one.name).await? {
            None => Ok(()),
            Some(left) => Err(Pending::because(format!("{:?}", left.spec))),
        })
    })
    .await?;
    Ok("it is taken away".to_owned())
}

/// What a node does is its daemon's to say: a state that nobody knows is put right.
pub(super) async fn unknown_state(scope: &Scope, stage: &Stage) -> Result<String> {
    let nodes: Api<LocalStorageNode> = scope.cluster();
    let node = &stage.asked;
    let patch = json!({ "status": { "state": "Sleeping" } });
    nodes
        .patch_status(node, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    let what = format!("LocalStorageNode {node} to be Ready again");
    wait_for(&what, PATIENCE, || async {
        let now = nodes.get(node).await?.status.unwrap_or_default().state;
        Ok(if now == NodeState::Ready {
            Ok(())
        } else {
            Err(Pending::because(format!("it is {now}")))
        })
    })
    .await?;
    Ok("Sleeping became Ready".to_owned())
}

/// Takes away what a run that failed has left.
pub(super) async fn sweep(scope: &Scope) -> Result<()> {
    let all = ListParams::default();
    let volumes: Api<LocalVolume> = scope.cluster();
    for volume in volumes.list(&all).await? {
        if volume.name_any().starts_with(NAME) {
            end_volume(&volumes, &volume.name_any()).await?;
        }
    }
    let replicas: Api<LocalVolumeReplica> = scope.cluster();
    for replica in replicas.list(&all).await? {
        if replica.name_any().starts_with(NAME) {
            remove(&replicas, &replica.name_any(), PATIENCE).await?;
        }
    }
    let groups: Api<LocalVolumeGroup> = scope.cluster();
    for group in groups.list(&all).await? {
        if group.name_any().starts_with(NAME) {
            delete(&groups, &group.name_any()).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_is_wrong_in_one_thing_and_of_its_kind_otherwise() {
        for one in wrong_volumes("n1", "LocalStorage_PoolSSD") {
            let volume: LocalVolume = serde_json::from_value(one.object("LocalVolume")).unwrap();
            let named = volume.spec.accessibility.is_some();
            assert_eq!(named, !one.name.ends_with("-nodes"), "{}", one.name);
            assert!(volume.name_any().starts_with(NAME) && !one.words.is_empty());
        }
        for one in wrong_replicas("n1", "LocalStorage_PoolSSD") {
            let object = one.object("LocalVolumeReplica");
            let replica: LocalVolumeReplica = serde_json::from_value(object).unwrap();
            assert_eq!(replica.spec.node_name, "n1");
            assert!(replica.name_any().starts_with(NAME) && !one.words.is_empty());
        }
    }

    #[test]
    fn it_is_said_with_all_words_or_not_at_all() {
        let one = Wrong::new("lv", "x", json!({}), &["poolName", "tape"]);
        let condition = |message: &str| Condition {
            message: message.to_owned(),
            ..Condition::default()
        };
        let both = [condition("poolName"), condition("poolName is tape")];
        let said = |conditions: &[Condition], warnings: &[String]| one.said(conditions, warnings);
        assert_eq!(said(&both, &[]).as_deref(), Some("poolName is tape"));
        assert_eq!(said(&both[..1], &[]), None);
        let warnings = ["NoRoom: poolName tape".to_owned()];
        assert_eq!(said(&both[..1], &warnings).as_ref(), warnings.first());
    }
}
