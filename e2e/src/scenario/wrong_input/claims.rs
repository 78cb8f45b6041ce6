//! Objects of Hawser's own that ask for what can't be: claims for disks, growth by hand.

use anyhow::{Result, ensure};
use hawser_api::{
    ClaimPhase, LocalDisk, LocalDiskClaim, LocalVolumeExpand, LocalVolumeMigrate, names,
};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{NAME, PATIENCE, Stage, delete, refused, told};
use crate::kit::{Pending, Scope, wait_for};

/// More bytes than any disk has.
const PETABYTE: i64 = 1 << 50;
/// Where the API server keeps events about cluster-wide objects.
const EVENTS: &str = "default";

/// Instead of the reason of an event.
const REFUSED: &str = "refused";

/// A claim for disks that is wrong in one thing.
struct Wrong {
    name: &'static str,
    node: String,
    description: Value,
    /// Reason of the event; `None`: the API server refuses it.
    reason: Option<&'static str>,
    /// What status and event, or the API server, say.
    words: Vec<String>,
}

impl Wrong {
    fn object(&self) -> String {
        format!("{NAME}-{}", self.name)
    }
}

/// Claims for disks of a node, each wrong in one thing.
fn all_wrong(node: &str, disk_type: &str, reserved: Option<String>) -> Vec<Wrong> {
    let wrong = |name, description, reason: &'static str, words: &[&str]| Wrong {
        name,
        node: node.to_owned(),
        description,
        reason: (reason != REFUSED).then_some(reason),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
    };
    let size = json!({ "diskType": disk_type, "capacity": PETABYTE });
    let path = json!({ "devicePaths": ["/dev/../etc/passwd"] });
    let name = json!({ "localDiskNames": ["localdisk-of-nobody"] });
    let mut all = vec![
        wrong("size", size, "NoDisk", &[&format!("{PETABYTE} are asked")]),
        wrong(
            "type",
            json!({ "diskType": "ssd" }),
            REFUSED,
            &["\"ssd\"", "HDD, SSD or NVMe"],
        ),
        wrong("path", path, REFUSED, &["\"/dev/../etc/passwd\""]),
        wrong(
            "name",
            name,
            "NoDisk",
            &["localdisk-of-nobody is no disk of this node"],
        ),
        wrong("all", json!({}), REFUSED, &["spec.description is empty"]),
        Wrong {
            node: "nowhere".to_owned(),
            ..wrong(
                "node",
                json!({ "diskType": disk_type }),
                REFUSED,
                &["spec.nodeName is \"nowhere\""],
            )
        },
    ];
    if let Some(disk) = reserved {
        let description = json!({ "localDiskNames": [disk] });
        all.push(wrong(
            "reserved",
            description,
            "NoDisk",
            &[&disk, "is reserved"],
        ));
    }
    all
}

/// Each of them is refused, or waits and says for what; no disk changes hands.
pub(super) async fn disks(scope: &Scope, stage: &Stage) -> Result<String> {
    let before = given(scope, &stage.asked).await?;
    let reserved = reserved(scope, &stage.asked).await?;
    let wrong = all_wrong(&stage.asked, &stage.disk_type, reserved);
    let claims: Api<LocalDiskClaim> = scope.cluster();
    let mut said = Vec::new();
    for one in &wrong {
        let words: Vec<&str> = one.words.iter().map(String::as_str).collect();
        match one.reason {
            Some(_) => apply(&claims, &one.object(), &one.node, &one.description).await?,
            None => {
                let object = a_claim(&one.object(), &one.node, &one.description);
                said.push(refused(&claims, &one.object(), object, &words).await?);
            }
        }
    }
    for one in &wrong {
        let Some(reason) = one.reason else { continue };
        let mut words: Vec<&str> = one.words.iter().map(String::as_str).collect();
        said.push(waits(scope, &one.object(), &words).await?);
        words.push(reason);
        told(scope, EVENTS, &one.object(), &words).await?;
    }
    for one in &wrong {
        delete(&claims, &one.object()).await?;
    }
    let after = given(scope, &stage.asked).await?;
    ensure!(
        before == after,
        "the disks of {} were given to {before:?} and are now to {after:?}",
        stage.asked
    );
    Ok(said.join("; "))
}

/// A claim for disks of a node, for pools.
pub(super) async fn apply(
    claims: &Api<LocalDiskClaim>,
    name: &str,
    node: &str,
    description: &Value,
) -> Result<()> {
    Scope::apply(claims, name, a_claim(name, node, description)).await?;
    Ok(())
}

fn a_claim(name: &str, node: &str, description: &Value) -> Value {
    json!({
        "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalDiskClaim", "metadata": { "name": name },
        "spec": { "nodeName": node, "owner": names::owners::LOCAL_STORAGE, "description": description },
    })
}

/// Waits until a claim for disks is Pending with a message that has all the words.
async fn waits(scope: &Scope, name: &str, words: &[&str]) -> Result<String> {
    let claims: Api<LocalDiskClaim> = scope.cluster();
    let what = format!("claim {name} to be Pending with the words {words:?}");
    wait_for(&what, PATIENCE, || async {
        let status = claims.get(name).await?.status.unwrap_or_default();
        let fits = words.iter().all(|word| status.message.contains(word));
        Ok(if status.status == ClaimPhase::Pending && fits {
            Ok(status.message)
        } else {
            Err(Pending::because(format!("its status is {status:?}")))
        })
    })
    .await
}

/// A disk that is not for claims.
async fn reserved(scope: &Scope, node: &str) -> Result<Option<String>> {
    let disks: Api<LocalDisk> = scope.cluster();
    let list = disks.list(&ListParams::default()).await?;
    Ok(list
        .into_iter()
        .find(|disk| disk.spec.node_name == node && disk.spec.reserved)
        .map(|disk| disk.name_any()))
}

/// To whom each disk of a node is given.
async fn given(scope: &Scope, node: &str) -> Result<Vec<(String, Option<String>)>> {
    let disks: Api<LocalDisk> = scope.cluster();
    let list = disks.list(&ListParams::default()).await?;
    let mut given: Vec<_> = list
        .into_iter()
        .filter(|disk| disk.spec.node_name == node)
        .map(|disk| {
            let claim = disk.spec.claim_ref.as_ref().and_then(|r| r.name.clone());
            (disk.name_any(), claim)
        })
        .collect();
    given.sort();
    Ok(given)
}

/// Growth of a volume that is not there: the operation is refused.
pub(super) async fn growth_by_hand(scope: &Scope) -> Result<String> {
    let name = format!("{NAME}-by-hand");
    let operations: Api<LocalVolumeExpand> = scope.cluster();
    let object = json!({
        "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalVolumeExpand", "metadata": { "name": name },
        "spec": { "volumeName": "pvc-of-nobody", "requiredCapacityBytes": 1 << 30 },
    });
    let words = [
        "spec.volumeName is \"pvc-of-nobody\"",
        "no LocalVolume of that name",
    ];
    refused(&operations, &name, object, &words).await
}

/// Kinds that are not served are refused by the API server, in words of ours.
pub(super) async fn not_served(scope: &Scope) -> Result<String> {
    let name = format!("{NAME}-move");
    let operations: Api<LocalVolumeMigrate> = scope.cluster();
    let object = json!({
        "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalVolumeMigrate", "metadata": { "name": name },
        "spec": { "volumeName": "pvc-of-nobody", "sourceNode": "n1", "targetNodesSuggested": ["n2"], "migrateAllVols": false },
    });
    let words = ["does not serve LocalVolumeMigrate"];
    refused(&operations, &name, object, &words).await
}
