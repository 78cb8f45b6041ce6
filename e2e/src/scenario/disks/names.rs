//! Which object is which disk, over a reboot that gives the disks other device names, and beside a disk of the same serial number.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use hawser_api::{DiskState, LocalDisk};
use kube::ResourceExt;

use super::{BYTES, CLAIM, PATIENCE, READY, Stage, TWIN};
use crate::kit::disks::Plugged;
use crate::kit::faults::{on, sh};
use crate::kit::{Pending, wait_for};

/// What an object says, and of which disk: by the lab's name of it, whatever the kernel calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    disk: String,
    bytes: i64,
    serial: String,
}

/// The lab's name by the kernel's.
type Devices = BTreeMap<String, String>;

/// The objects of the disks that are there.
fn picture(objects: &BTreeMap<String, LocalDisk>, devices: &Devices) -> BTreeMap<String, Seen> {
    let active = objects
        .iter()
        .filter(|(_, object)| object.spec.state == DiskState::Active);
    active
        .map(|(name, object)| {
            let spec = &object.spec;
            let device = spec.device_path.trim_start_matches("/dev/");
            let serial = spec
                .disk_attributes
                .as_ref()
                .map(|attributes| attributes.serial_number.clone());
            let seen = Seen {
                disk: devices
                    .get(device)
                    .map_or_else(|| device.to_owned(), Clone::clone),
                bytes: spec.capacity,
                serial: serial.unwrap_or_default(),
            };
            (name.clone(), seen)
        })
        .collect()
}

/// How many disks have another device name than before.
fn renamed(before: &Devices, after: &Devices) -> usize {
    before
        .iter()
        .filter(|(device, disk)| after.get(*device) != Some(*disk))
        .count()
}

impl Stage {
    async fn device_names(&self) -> Result<Devices> {
        let node = self.node.clone();
        let all = on(&self.scope.lab, move |lab| lab.disk_devices(&node)).await?;
        Ok(all
            .into_iter()
            .map(|(disk, device)| (device, disk))
            .collect())
    }

    /// Plugs in a larger disk with the serial number of one that is in a pool: it gets an object of its own, and the other's stays.
    pub(super) async fn a_twin(&mut self, one: &Plugged) -> Result<Plugged> {
        let known = |disk: &LocalDisk| {
            let links = &disk.spec.dev_links;
            links.iter().any(|link| link.contains("/lvm-pv-uuid-"))
        };
        let first = self
            .bay
            .object(one, "known by its physical volume", known)
            .await?;
        let twin = self.bay.plug_twin(one, TWIN).await?;
        let second = self.bay.offered(&twin).await?;
        let serial = |disk: &LocalDisk| {
            let attributes = disk.spec.disk_attributes.clone();
            attributes.unwrap_or_default().serial_number
        };
        ensure!(
            serial(&first) == serial(&second) && !serial(&first).is_empty(),
            "the lab's disks have the serial numbers {:?} and {:?}: they should be the same",
            serial(&first),
            serial(&second)
        );
        ensure!(
            first.name_any() != second.name_any(),
            "two disks of one serial number share the object {}",
            first.name_any()
        );
        self.bay.object(one, "as before", known).await?;
        println!(
            "  two disks of serial number {}: {} and {}",
            serial(&first),
            first.name_any(),
            second.name_any()
        );
        Ok(twin)
    }

    /// Cuts the power and boots with the disks found in the other order.
    pub(super) async fn names_outlast_a_reboot(&self) -> Result<()> {
        let devices = self.device_names().await?;
        let before = picture(&self.scope.disks_of(&self.node).await?, &devices);
        let node = self.node.clone();
        on(&self.scope.lab, move |lab| {
            lab.power_cut(&node)?;
            lab.boot_with_disks_reversed(&node)?;
            lab.wait_ready(&node, READY)
        })
        .await?;
        let moved = renamed(&devices, &self.device_names().await?);
        ensure!(moved >= 2, "the reboot renamed {moved} disks");
        wait_for("each object to follow its disk", PATIENCE, || async {
            let devices = self.device_names().await?;
            let now = picture(&self.scope.disks_of(&self.node).await?, &devices);
            Ok(if now == before {
                Ok(())
            } else {
                Err(Pending::because(format!(
                    "they say {now:?}, before it was {before:?}"
                )))
            })
        })
        .await?;
        self.pool_has("both disks after the reboot", 2).await?;
        println!(
            "  a reboot that renamed {moved} disks: the {} objects of {} follow them",
            before.len(),
            self.node
        );
        Ok(())
    }

    /// The second disk joins the pool, and LVM finds both where their objects say.
    pub(super) async fn the_twin_is_no_other(&self, one: &Plugged, twin: &Plugged) -> Result<()> {
        let object = self.bay.offered(twin).await?;
        self.bay.give(CLAIM, &[&object]).await?;
        self.pool_has("three disks", 3).await?;
        for (disk, bytes) in [(one, BYTES), (twin, TWIN)] {
            let device = self.bay.device(disk).await?;
            let script =
                format!("pvs --noheadings --nosuffix --units b -o vg_name,dev_size {device}");
            let said = sh(&self.scope.lab, &self.node, script).await?;
            let said: Vec<&str> = said.split_whitespace().collect();
            ensure!(
                said == [self.pool.as_str(), &bytes.to_string()],
                "LVM says of {device}: {said:?}; it should be in {} with {bytes} bytes",
                self.pool
            );
        }
        println!("  the second of them joins the pool, and the first is where it was");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(device: &str, bytes: i64, state: &str) -> LocalDisk {
        serde_json::from_value(json!({
            "metadata": {},
            "spec": {
                "nodeName": "n1", "devLinks": [], "devicePath": device, "capacity": bytes, "state": state,
                "diskAttributes": { "serialNumber": "S" },
            },
        }))
        .unwrap()
    }

    fn devices(all: &[(&str, &str)]) -> Devices {
        all.iter()
            .map(|(device, disk)| ((*device).to_owned(), (*disk).to_owned()))
            .collect()
    }

    #[test]
    fn an_object_that_follows_its_disk_looks_the_same_and_one_that_does_not_differs() {
        let one = |device| BTreeMap::from([("a".to_owned(), object(device, 64, "Active"))]);
        let before = devices(&[("sda", "d1"), ("sdb", "d2")]);
        let after = devices(&[("sda", "d2"), ("sdb", "d1")]);
        let seen = picture(&one("/dev/sda"), &before);
        assert_eq!(picture(&one("/dev/sdb"), &after), seen);
        assert_ne!(picture(&one("/dev/sda"), &after), seen);
        assert_eq!(seen["a"].disk, "d1");
        let gone = BTreeMap::from([("a".to_owned(), object("/dev/sda", 64, "Inactive"))]);
        assert!(picture(&gone, &before).is_empty());
    }

    #[test]
    fn renamed_disks_are_counted() {
        let before = devices(&[("sda", "d1"), ("sdb", "d2"), ("sdc", "d3")]);
        assert_eq!(renamed(&before, &before), 0);
        let after = devices(&[("sda", "d3"), ("sdb", "d2"), ("sdc", "d1")]);
        assert_eq!(renamed(&before, &after), 2);
    }
}
