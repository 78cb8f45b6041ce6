//! Logical volumes that say they are Hawser's, and that no object speaks of. Pure.
//!
//! They come about when the API server loses a replica: its node was deleted and came back, a backup was restored. Nothing removes
//! them, since nobody asked for their data to be destroyed; so a person is told that they are there and take room.

use std::collections::BTreeSet;

use hawser_api::names::{pools, tags};
use hawser_api::{ConditionStatus, LocalStorageNodeStatus, StorageNodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lvm2_cmd::Report;

/// The condition's type; it is there while there are such volumes.
const TYPE: &str = "StrayVolumes";
const REASON: &str = "NoReplica";

/// Each stray volume in a pool, in words. `known`: the volumes that this node's `LocalVolumeReplica`s name.
fn strays(report: &Report, known: &BTreeSet<String>) -> Vec<String> {
    let pools = report
        .vgs
        .iter()
        .filter(|vg| vg.name.starts_with(pools::VG_PREFIX));
    let all = pools.flat_map(|vg| vg.lvs.iter().map(move |lv| (&vg.name, lv)));
    all.filter(|(_, lv)| {
        let volume = lv.tag_value(tags::VOLUME);
        // One that is being wiped goes by itself.
        !lv.hidden
            && volume == Some(&lv.name)
            && !known.contains(&lv.name)
            && !lv.has_tag(tags::WIPING)
    })
    .map(|(vg, lv)| {
        let claim = lv.tag_value(tags::CLAIM);
        let claim = claim.map_or_else(String::new, |claim| format!(", of claim {claim}"));
        format!("{vg}/{} ({} bytes{claim})", lv.name, lv.size_bytes)
    })
    .collect()
}

/// The status with or without the condition. Times move only when something else does.
pub fn told(
    status: LocalStorageNodeStatus,
    report: &Report,
    known: &BTreeSet<String>,
    now: &Time,
) -> LocalStorageNodeStatus {
    let (old, mut conditions): (Vec<_>, Vec<_>) = status
        .conditions
        .into_iter()
        .partition(|condition| condition.type_ == TYPE);
    let strays = strays(report, known);
    if !strays.is_empty() {
        let message = format!(
            "logical volumes that no LocalVolumeReplica speaks of take up room: {}; if nobody needs the data of one, remove its front \
             device with `dmsetup remove NAME-front` and then `lvremove POOL/NAME`",
            strays.join(", ")
        );
        let kept = old.into_iter().next();
        let since = kept.as_ref().and_then(|c| c.last_transition_time.clone());
        let same = kept.filter(|condition| condition.message == message);
        conditions.push(same.unwrap_or_else(|| StorageNodeCondition {
            last_transition_time: Some(since.unwrap_or_else(|| now.clone())),
            last_update_time: Some(now.clone()),
            message,
            reason: REASON.to_owned(),
            status: ConditionStatus::True,
            type_: TYPE.to_owned(),
        }));
    }
    LocalStorageNodeStatus {
        conditions,
        ..status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use lvm2_cmd::{Lv, Vg};

    fn an_lv(name: &str, tags: &[&str]) -> Lv {
        Lv {
            name: name.to_owned(),
            size_bytes: 4096,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..Lv::default()
        }
    }

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn volumes_of_ours_without_a_replica_are_told_until_they_are_gone() {
        let vg = Vg {
            name: "LocalStorage_PoolHDD".to_owned(),
            lvs: vec![
                an_lv("pvc-1", &["hawser.io/volume=pvc-1"]),
                an_lv(
                    "pvc-2",
                    &["hawser.io/volume=pvc-2", "hawser.io/claim=shop/data"],
                ),
                an_lv("pvc-3", &["hawser.io/volume=pvc-3", "hawser.io/wiping"]),
                an_lv("backup", &["nightly"]),
                an_lv("of-before", &[]),
            ],
            ..Vg::default()
        };
        let report = Report {
            vgs: vec![vg],
            ..Report::default()
        };
        let other = StorageNodeCondition {
            type_: "Available".to_owned(),
            ..StorageNodeCondition::default()
        };
        let status = LocalStorageNodeStatus {
            conditions: vec![other],
            ..LocalStorageNodeStatus::default()
        };
        let known = BTreeSet::from(["pvc-1".to_owned()]);
        let first = told(status.clone(), &report, &known, &at(1));
        let stray = &first.conditions[1];
        assert_eq!(
            (stray.type_.as_str(), &stray.status),
            (TYPE, &ConditionStatus::True)
        );
        assert!(
            stray
                .message
                .contains("LocalStorage_PoolHDD/pvc-2 (4096 bytes, of claim shop/data);"),
            "{}",
            stray.message
        );
        for name in ["pvc-1", "pvc-3", "backup", "of-before"] {
            assert!(!stray.message.contains(name), "{}", stray.message);
        }
        let again = told(first.clone(), &report, &known, &at(9));
        assert_eq!(again, first, "nothing is written when nothing changed");
        let known = known.into_iter().chain(["pvc-2".to_owned()]).collect();
        assert_eq!(told(again, &report, &known, &at(10)), status);
    }
}
