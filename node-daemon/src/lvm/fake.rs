//! LVM in memory, with LVM's own rules (nothing is overwritten, groups and names are unique) and injected faults.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use lvm2_cmd::{LvmError, Pv, Report, Vg};
use parking_lot::Mutex;

use super::Lvm;

const EXTENT: u64 = 4 << 20;

/// What happens to the next change instead of its success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done.
    Before,
    /// It is done, but the caller is told that it failed, or dies before it hears of it.
    After,
}

#[derive(Debug, Default)]
struct State {
    /// Devices by path: number, bytes, UUID of the physical volume on it.
    devices: BTreeMap<PathBuf, Device>,
    groups: BTreeMap<String, Vec<PathBuf>>,
    faults: VecDeque<Option<Fault>>,
    changes: Vec<String>,
}

#[derive(Debug, Clone)]
struct Device {
    number: (u32, u32),
    bytes: u64,
    /// As large as the device was when LVM looked last.
    pv_bytes: u64,
    pv: Option<String>,
}

/// Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct FakeLvm(Arc<Mutex<State>>);

impl FakeLvm {
    pub fn add_device(&self, path: impl Into<PathBuf>, number: (u32, u32), bytes: u64) {
        let device = Device {
            number,
            bytes,
            pv_bytes: 0,
            pv: None,
        };
        self.0.lock().devices.insert(path.into(), device);
    }

    pub fn grow_device(&self, path: &Path, bytes: u64) {
        if let Some(device) = self.0.lock().devices.get_mut(path) {
            device.bytes = bytes;
        }
    }

    /// Faults of the next changes, one each; `None`: that one works.
    pub fn inject(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.0.lock().faults.extend(faults);
    }

    /// What was changed since the last call of this.
    pub fn changes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().changes)
    }

    fn change(
        &self,
        what: &str,
        body: impl FnOnce(&mut State) -> Result<(), String>,
    ) -> Result<(), LvmError> {
        let mut state = self.0.lock();
        let fault = state.faults.pop_front().flatten();
        let failed = |problem: &str| LvmError::Request {
            object: what.to_owned(),
            problem: problem.to_owned(),
        };
        if fault == Some(Fault::Before) {
            return Err(failed("injected before"));
        }
        body(&mut state).map_err(|problem| failed(&problem))?;
        state.changes.push(what.to_owned());
        if fault == Some(Fault::After) {
            return Err(failed("injected after"));
        }
        Ok(())
    }
}

impl State {
    fn pv(path: &Path, device: &Device, in_use: bool) -> Pv {
        Pv {
            uuid: device.pv.clone().unwrap_or_default(),
            device: Some(path.to_owned()),
            major_minor: Some(device.number),
            device_bytes: device.bytes,
            size_bytes: device.pv_bytes - EXTENT,
            extents: device.pv_bytes / EXTENT - 1,
            allocatable: true,
            in_use,
            ..Pv::default()
        }
    }

    fn group_of(&self, path: &Path) -> Option<&String> {
        self.groups
            .iter()
            .find(|(_, members)| members.iter().any(|m| m == path))
            .map(|(vg, _)| vg)
    }

    fn check_orphans(&self, devices: &[PathBuf]) -> Result<(), String> {
        for path in devices {
            let device = self.devices.get(path).ok_or("no such device")?;
            if device.pv.is_none() {
                return Err(format!("{} is no physical volume", path.display()));
            }
            if let Some(vg) = self.group_of(path) {
                return Err(format!("{} is in {vg}", path.display()));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Lvm for FakeLvm {
    async fn report(&self) -> Result<Report, LvmError> {
        let state = self.0.lock();
        let mut report = Report::default();
        for (name, members) in &state.groups {
            let pvs: Vec<Pv> = members
                .iter()
                .filter_map(|path| Some(State::pv(path, state.devices.get(path)?, true)))
                .collect();
            let extents = pvs.iter().map(|pv| pv.extents).sum();
            report.vgs.push(Vg {
                name: name.clone(),
                writeable: true,
                extendable: true,
                extent_bytes: EXTENT,
                extents,
                free_extents: extents,
                pvs,
                ..Vg::default()
            });
        }
        for (path, device) in &state.devices {
            if device.pv.is_some() && state.group_of(path).is_none() {
                report.orphans.push(State::pv(path, device, false));
            }
        }
        Ok(report)
    }

    async fn pv_create(&self, device: &Path, uuid: &str) -> Result<(), LvmError> {
        let path = device.to_owned();
        self.change(&format!("pvcreate {}", path.display()), |state| {
            let device = state.devices.get_mut(&path).ok_or("no such device")?;
            if device.pv.is_some() {
                return Err("carries a signature".to_owned());
            }
            device.pv = Some(uuid.to_owned());
            device.pv_bytes = device.bytes;
            Ok(())
        })
    }

    async fn pv_resize(&self, device: &Path) -> Result<(), LvmError> {
        let path = device.to_owned();
        self.change(&format!("pvresize {}", path.display()), |state| {
            let device = state.devices.get_mut(&path).ok_or("no such device")?;
            device.pv_bytes = device.bytes;
            Ok(())
        })
    }

    async fn vg_create(&self, vg: &str, devices: &[PathBuf]) -> Result<(), LvmError> {
        self.change(&format!("vgcreate {vg} {}", devices.len()), |state| {
            state.check_orphans(devices)?;
            if state.groups.contains_key(vg) {
                return Err("exists".to_owned());
            }
            state.groups.insert(vg.to_owned(), devices.to_vec());
            Ok(())
        })
    }

    async fn vg_extend(&self, vg: &str, devices: &[PathBuf]) -> Result<(), LvmError> {
        self.change(&format!("vgextend {vg} {}", devices.len()), |state| {
            state.check_orphans(devices)?;
            let members = state.groups.get_mut(vg).ok_or("no such group")?;
            members.extend_from_slice(devices);
            Ok(())
        })
    }
}
