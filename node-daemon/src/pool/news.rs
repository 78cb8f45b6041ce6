//! What of a round is news to people: disks that went and came, pools that broke and mended. Pure; each is told once, since it
//! is the difference between what the objects said and what they say now.

use hawser_api::{DiskState, LocalDisk, LocalStorageNodeStatus};
use hawser_runtime::events::Severity;

use crate::claim::decide::called;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    pub severity: Severity,
    pub reason: &'static str,
    pub message: String,
}

/// Of a disk whose object said `before`.
pub fn of_disk(before: &DiskState, disk: &LocalDisk) -> Option<News> {
    let spec = &disk.spec;
    let serial = match &spec.disk_attributes {
        Some(attributes) if !attributes.serial_number.is_empty() => {
            format!(" with serial number {}", attributes.serial_number)
        }
        _ => String::new(),
    };
    match (before, &spec.state) {
        (DiskState::Active, DiskState::Inactive) => {
            let stake = match spec
                .claim_ref
                .as_ref()
                .and_then(|claim| claim.name.as_ref())
            {
                Some(claim) => format!("; it was given to claim {claim}, put it back"),
                None if spec.owner == hawser_api::names::owners::LOCAL_STORAGE => {
                    "; it is part of a pool, put it back".to_owned()
                }
                None => String::new(),
            };
            let path = &spec.pre_device_path;
            Some(News {
                severity: Severity::Warning,
                reason: "DiskGone",
                message: format!("disk {path}{serial} is not there any more{stake}"),
            })
        }
        (DiskState::Inactive, DiskState::Active) => Some(News {
            severity: Severity::Normal,
            reason: "DiskBack",
            message: format!("disk {}{serial} is there again", called(disk)),
        }),
        _ => None,
    }
}

/// What stands in the condition that something is wrong; empty if nothing is.
fn trouble(status: &LocalStorageNodeStatus) -> &str {
    let bad = status.conditions.iter().find(|c| c.type_ == "UnAvailable");
    bad.map_or("", |condition| &condition.message)
}

/// Of the node's pools.
pub fn of_storage(before: &LocalStorageNodeStatus, now: &LocalStorageNodeStatus) -> Option<News> {
    let (was, is) = (trouble(before), trouble(now));
    if was == is {
        return None;
    }
    Some(if is.is_empty() {
        News {
            severity: Severity::Normal,
            reason: "StorageAvailable",
            message: format!("in order again, after: {was}"),
        }
    } else {
        News {
            severity: Severity::Warning,
            reason: "StorageUnAvailable",
            message: is.to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::builders::{a_bare_disk, an_object};
    use crate::disk::object::gone;
    use hawser_api::StorageNodeCondition;
    use k8s_openapi::api::core::v1::ObjectReference;

    #[test]
    fn a_disk_that_goes_is_a_warning_and_one_that_comes_back_is_not() {
        let here = an_object("localdisk-a", &a_bare_disk('b'));
        assert_eq!(of_disk(&DiskState::Active, &here), None);
        let mut away = here.clone();
        away.spec = gone(&here.spec);
        away.spec.claim_ref = Some(ObjectReference {
            name: Some("c1".to_owned()),
            ..ObjectReference::default()
        });
        assert_eq!(of_disk(&DiskState::Inactive, &away), None, "told already");
        let news = of_disk(&DiskState::Active, &away).unwrap();
        assert_eq!(
            (news.severity, news.reason),
            (Severity::Warning, "DiskGone")
        );
        for part in ["/dev/ubdb", "claim c1", "put it back"] {
            assert!(news.message.contains(part), "{part}: {}", news.message);
        }
        let news = of_disk(&DiskState::Inactive, &here).unwrap();
        assert_eq!((news.severity, news.reason), (Severity::Normal, "DiskBack"));
        assert!(news.message.contains("/dev/ubdb"), "{}", news.message);
    }

    #[test]
    fn pools_that_break_and_mend_are_told_once() {
        let with = |type_: &str, message: &str| LocalStorageNodeStatus {
            conditions: vec![StorageNodeCondition {
                type_: type_.to_owned(),
                message: message.to_owned(),
                ..StorageNodeCondition::default()
            }],
            ..LocalStorageNodeStatus::default()
        };
        let new = LocalStorageNodeStatus::default();
        let (good, bad) = (with("Available", ""), with("UnAvailable", "lacks a disk"));
        assert_eq!(of_storage(&new, &good), None);
        assert_eq!(of_storage(&bad, &bad.clone()), None);
        let broke = of_storage(&good, &bad).unwrap();
        assert_eq!(
            (broke.severity, broke.message.as_str()),
            (Severity::Warning, "lacks a disk")
        );
        let mended = of_storage(&bad, &good).unwrap();
        assert_eq!(
            (mended.severity, mended.message.as_str()),
            (Severity::Normal, "in order again, after: lacks a disk")
        );
    }
}
