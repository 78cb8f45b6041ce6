//! Objects of Hawser's own that ask for what can't be: claims for disks, growth by hand.

use anyhow::{Context, Result, ensure};
use hawser_api::{ClaimPhase, DiskClaimState, LocalDisk, LocalDiskClaim, LocalVolumeExpand, names};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{NAME, PATIENCE, Stage, refused};
use crate::kit::Scope;
use crate::kit::volumes::delete;

/// More bytes than any disk has.
const PETABYTE: i64 = 1 << 50;

/// Instead of the reason of an event: the API server does not take it.
const REFUSED: &str = "refused";

/// A claim for disks that is wrong in one thing.
struct Wrong {
    name: &'static str,
    spec: Value,
    /// Reason of the event.
    reason: &'static str,
    /// What status and event say.
    words: Vec<String>,
}

impl Wrong {
    fn object(&self) -> String {
        format!("{NAME}-{}", self.name)
    }
}

/// Disks that are not for claims.
struct Disks {
    /// One that is reserved.
    reserved: String,
    /// One that a pool has, and what is said of it.
    taken: String,
    taken_by: String,
    /// One of another node.
    elsewhere: String,
}

/// What a claim is told of a disk that a pool has.
fn taken_by(disk: &LocalDisk) -> String {
    let claim = disk.spec.claim_ref.as_ref().and_then(|r| r.name.as_ref());
    match claim {
        Some(claim) => format!("belongs to claim {claim}"),
        // Adopted with its pool.
        None => "is in use by a pool already".to_owned(),
    }
}

/// Claims for disks of a node, each wrong in one thing.
fn all_wrong(node: &str, disk_type: &str, disks: &Disks) -> Vec<Wrong> {
    let spec = |node: &str, description: Value| json!({ "nodeName": node, "owner": names::owners::LOCAL_STORAGE, "description": description });
    let wrong = |name, description, reason, words: &[&str]| Wrong {
        name,
        spec: spec(node, description),
        reason,
        words: words.iter().map(|word| (*word).to_owned()).collect(),
    };
    let refers = |name, disk: &str, words: &[&str]| {
        let reference =
            json!({ "kind": "LocalDisk", "apiVersion": "hwameistor.io/v1alpha1", "name": disk });
        let mut one = wrong(name, json!({}), "NoDisk", words);
        one.spec["diskRefs"] = json!([reference]);
        one
    };
    let type_only = json!({ "diskType": disk_type });
    let size = json!({ "diskType": disk_type, "capacity": PETABYTE });
    let path = json!({ "devicePaths": ["/dev/../etc/passwd"] });
    let name = json!({ "localDiskNames": ["localdisk-of-nobody"] });
    let (reserved, no_disk) = (&disks.reserved, "localdisk-of-nobody");
    let stranger = "localdisk-of-nobody is no disk of this node";
    let other = format!("{} is no disk of this node", disks.elsewhere);
    let nowhere = Wrong {
        spec: spec("nowhere", type_only.clone()),
        ..wrong(
            "node",
            json!({}),
            REFUSED,
            &["spec.nodeName is \"nowhere\""],
        )
    };
    let mut system = wrong("owner", type_only, REFUSED, &["spec.owner is system"]);
    system.spec["owner"] = json!(names::owners::SYSTEM);
    vec![
        wrong("size", size, "NoDisk", &[&format!("{PETABYTE} are asked")]),
        wrong(
            "type",
            json!({ "diskType": "ssd" }),
            REFUSED,
            &["\"ssd\"", "HDD, SSD or NVMe"],
        ),
        wrong("path", path, REFUSED, &["\"/dev/../etc/passwd\""]),
        wrong("name", name, "NoDisk", &[stranger]),
        wrong("all", json!({}), REFUSED, &["spec.description is empty"]),
        wrong(
            "reserved",
            json!({ "localDiskNames": [reserved] }),
            "NoDisk",
            &[reserved, "is reserved"],
        ),
        refers("ref-nobody", no_disk, &[stranger]),
        refers("ref-elsewhere", &disks.elsewhere, &[&other]),
        refers("ref-taken", &disks.taken, &[&disks.taken, &disks.taken_by]),
        system,
        nowhere,
    ]
}

/// Each of them is refused, or waits and says for what; no disk changes hands.
pub(super) async fn disks(scope: &Scope, stage: &Stage) -> Result<String> {
    let before = given(scope, &stage.asked).await?;
    let reserved = one(scope, "reserved", &stage.asked, |disk| disk.spec.reserved).await?;
    let taken = one(scope, "in a pool", &stage.asked, is_bound).await?;
    let elsewhere = one(scope, "in a pool", &stage.handled, is_bound).await?;
    let disks = Disks {
        reserved: reserved.name_any(),
        taken: taken.name_any(),
        taken_by: taken_by(&taken),
        elsewhere: elsewhere.name_any(),
    };
    let wrong = all_wrong(&stage.asked, &stage.disk_type, &disks);
    let claims: Api<LocalDiskClaim> = scope.cluster();
    let mut said = Vec::new();
    for one in &wrong {
        let object = json!({
            "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalDiskClaim", "metadata": { "name": one.object() }, "spec": one.spec,
        });
        let words: Vec<&str> = one.words.iter().map(String::as_str).collect();
        if one.reason == REFUSED {
            said.push(refused(&claims, &one.object(), object, &words).await?);
        } else {
            Scope::apply(&claims, &one.object(), object).await?;
        }
    }
    let wrong: Vec<Wrong> = wrong
        .into_iter()
        .filter(|one| one.reason != REFUSED)
        .collect();
    for one in &wrong {
        let mut words: Vec<&str> = one.words.iter().map(String::as_str).collect();
        said.push(waits(scope, &one.object(), &words).await?);
        words.push(one.reason);
        scope.told(&claims, &one.object(), &words, PATIENCE).await?;
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

/// Waits until a claim for disks is Pending with a message that has all the words.
async fn waits(scope: &Scope, name: &str, words: &[&str]) -> Result<String> {
    let what = format!("to be Pending with the words {words:?}");
    let status = scope
        .until_disk_claim(name, &what, |status| {
            status.status == ClaimPhase::Pending
                && words.iter().all(|word| status.message.contains(word))
        })
        .await?;
    Ok(status.message)
}

fn is_bound(disk: &LocalDisk) -> bool {
    disk.status
        .as_ref()
        .is_some_and(|status| status.claim_state == DiskClaimState::Bound)
}

/// A node's disk that is so.
///
/// # Errors
/// If there is none: a case that can't be tried must not pass.
async fn one(
    scope: &Scope,
    what: &str,
    node: &str,
    is: impl Fn(&LocalDisk) -> bool,
) -> Result<LocalDisk> {
    let disks: Api<LocalDisk> = scope.cluster();
    let list = disks.list(&ListParams::default()).await?;
    let found = list
        .into_iter()
        .find(|disk| disk.spec.node_name == node && is(disk));
    found.with_context(|| {
        format!("{node} has no LocalDisk that is {what}; its system disk should be reserved, and its data disks in a pool")
    })
}

/// To whom each disk of a node is given.
async fn given(scope: &Scope, node: &str) -> Result<Vec<(String, Option<String>)>> {
    let disks = scope.disks_of(node).await?;
    Ok(disks
        .into_iter()
        .map(|(name, disk)| (name, disk.spec.claim_ref.and_then(|r| r.name)))
        .collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_of_their_kind_and_have_names_of_their_own() {
        let disks = Disks {
            reserved: "localdisk-r".into(),
            taken: "localdisk-t".into(),
            taken_by: "belongs to claim c".into(),
            elsewhere: "localdisk-e".into(),
        };
        let all = all_wrong("n1", "SSD", &disks);
        let mut names: Vec<_> = all.iter().map(Wrong::object).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        for one in &all {
            let claim: LocalDiskClaim =
                serde_json::from_value(json!({ "metadata": {}, "spec": one.spec })).unwrap();
            let refers = !claim.spec.disk_refs.is_empty();
            assert_eq!(refers, one.name.starts_with("ref-"), "{}", one.name);
            let node = if one.name == "node" { "nowhere" } else { "n1" };
            assert_eq!(claim.spec.node_name, node, "{}", one.name);
        }
    }
}
