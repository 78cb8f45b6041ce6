//! Front devices and zeroing of the node in memory.

use std::path::Path;

use async_trait::async_trait;

use super::{EXTENT, Extent, FakeNode, refused};
use crate::mount::Content;
use crate::replica::effects::{EffectError, Front, Fronts, Wipe, Zero, front_name};
use crate::replica::tags::Tags;

#[async_trait]
impl Fronts for FakeNode {
    async fn list(&self) -> Result<Vec<Front>, EffectError> {
        tokio::task::yield_now().await;
        let world = self.world.lock();
        let fronts = world.fronts.iter();
        Ok(fronts
            .map(|(volume, front)| Front {
                open: world.front_open(volume),
                ..front.clone()
            })
            .collect())
    }

    async fn create(&self, volume: &str, lower: &Path, bytes: u64) -> Result<(), EffectError> {
        self.change(format!("dm create {}", front_name(volume)), |world| {
            let (key, minor) = world
                .lv_at(lower)
                .ok_or_else(|| refused("no lower device"))?;
            if world.fronts.contains_key(volume) || world.mounts_of(minor) > 0 {
                return Err(refused("busy"));
            }
            if Tags::read(&world.lvs[&key].tags).unzeroed == Some(0) {
                world
                    .violations
                    .push(format!("{volume} exposed before its beginning was zeroed"));
            }
            let number = (253, world.minor());
            let front = Front {
                volume: volume.to_owned(),
                number,
                open: 0,
                suspended: false,
                bytes,
                lower: vec![(253, minor)],
            };
            world.fronts.insert(volume.to_owned(), front);
            Ok(())
        })
        .await
    }

    async fn reload(&self, volume: &str, lower: &Path, bytes: u64) -> Result<(), EffectError> {
        // Two ioctls: a crash in between leaves it suspended.
        self.change(format!("dm suspend {}", front_name(volume)), |world| {
            world
                .fronts
                .get_mut(volume)
                .ok_or_else(|| refused("no such device"))?
                .suspended = true;
            Ok(())
        })
        .await?;
        self.change(format!("dm resume {}", front_name(volume)), |world| {
            let (_, minor) = world
                .lv_at(lower)
                .ok_or_else(|| refused("no lower device"))?;
            let front = world
                .fronts
                .get_mut(volume)
                .ok_or_else(|| refused("no such device"))?;
            (front.suspended, front.bytes, front.lower) = (false, bytes, vec![(253, minor)]);
            Ok(())
        })
        .await
    }

    async fn resume(&self, volume: &str) -> Result<(), EffectError> {
        self.change(format!("dm resume {}", front_name(volume)), |world| {
            world
                .fronts
                .get_mut(volume)
                .ok_or_else(|| refused("no such device"))?
                .suspended = false;
            Ok(())
        })
        .await
    }

    async fn remove(&self, volume: &str) -> Result<(), EffectError> {
        self.change(format!("dm remove {}", front_name(volume)), |world| {
            if world.front_open(volume) > 0 {
                return Err(refused("busy"));
            }
            world.fronts.remove(volume);
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Wipe for FakeNode {
    async fn zero(&self, zero: &Zero) -> Result<(), EffectError> {
        let mut held = self.zeroing_held.subscribe();
        let _ = held.wait_for(|held| !held).await;
        self.change(
            format!(
                "zero {} {}+{}",
                zero.device.display(),
                zero.offset,
                zero.length
            ),
            |world| {
                let (key, _) = world
                    .lv_at(&zero.device)
                    .ok_or_else(|| refused("no such device"))?;
                if world.broken_zeroing {
                    return Err(refused("Input/output error"));
                }
                let lv = &world.lvs[&key];
                if zero.exclusive && world.lv_open(&key.1, lv) {
                    return Err(refused("busy"));
                }
                let mut wrong = Vec::new();
                if lv.uuid.starts_with("foreign") {
                    wrong.push(format!("{} of somebody else was zeroed", key.1));
                }
                if !world.snapshots_of(&key.0, &key.1).is_empty() {
                    wrong.push(format!("snapshots of {} overflowed", key.1));
                }
                let kept = !Tags::read(&lv.tags).wiping;
                let (begin, end) = (
                    usize::try_from(zero.offset.div_ceil(EXTENT)).unwrap(),
                    usize::try_from((zero.offset + zero.length) / EXTENT).unwrap(),
                );
                let lv = world.lvs.get_mut(&key).unwrap();
                let range = lv.extents.get_mut(begin..end).unwrap_or_default();
                if kept && range.contains(&Extent::User) {
                    wrong.push(format!("data of {} was zeroed", key.1));
                }
                range.fill(Extent::Zero);
                if zero.offset == 0 && end > 0 {
                    lv.content = Content::Blank;
                }
                world.violations.extend(wrong);
                Ok(())
            },
        )
        .await
    }

    async fn discard(&self, _zero: &Zero) -> Result<(), EffectError> {
        let mut held = self.discard_held.subscribe();
        let _ = held.wait_for(|held| !held).await;
        Ok(())
    }
}
