//! What the disks of all simulated nodes hold: pools and the volumes in them. Pure. It does what LVM does: it takes whole extents, and refuses what a
//! pool has no room for, whoever had promised it.

use std::collections::BTreeMap;

use hawser_api::names::pools;
use hawser_api::quantity::DEFAULT_EXTENT_BYTES as EXTENT;
use hawser_api::{PoolDisk, PoolDiskState, PoolStatus, Pools};

/// A node and the name of something on it.
type On = (String, String);

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Volume {
    pool: String,
    bytes: i64,
}

/// Why LVM would not make or grow a volume, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// The node has no such pool.
    #[error("there is no volume group {pool}")]
    NoPool { pool: String },
    /// The pool is too full.
    #[error("volume group {pool} has {free} bytes free, {wanted} more are needed")]
    NoRoom {
        pool: String,
        free: i64,
        wanted: i64,
    },
}

/// The disks of all nodes.
#[derive(Debug, Default)]
pub(super) struct Disks {
    /// Bytes of each pool.
    pools: BTreeMap<On, i64>,
    volumes: BTreeMap<On, Volume>,
}

fn on(node: &str, name: &str) -> On {
    (node.to_owned(), name.to_owned())
}

/// Whole extents that hold `bytes`.
fn extents(bytes: i64) -> i64 {
    bytes.max(1).saturating_add(EXTENT - 1) / EXTENT * EXTENT
}

impl Disks {
    /// Gives a node these pools (bytes by name); others it has no longer. Volumes stay.
    pub(super) fn set_pools(&mut self, node: &str, pools: &BTreeMap<String, i64>) {
        self.pools.retain(|(of, _), _| of != node);
        for (pool, bytes) in pools {
            // What is left of an extent at the end can't be used.
            self.pools.insert(on(node, pool), bytes / EXTENT * EXTENT);
        }
    }

    /// The node and all that was on it are gone.
    pub(super) fn forget(&mut self, node: &str) {
        self.pools.retain(|(of, _), _| of != node);
        self.volumes.retain(|(of, _), _| of != node);
    }

    fn used(&self, node: &str, pool: &str) -> i64 {
        self.of_pool(node, pool)
            .map(|(_, volume)| volume.bytes)
            .sum()
    }

    fn of_pool<'a>(
        &'a self,
        node: &'a str,
        pool: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Volume)> {
        self.volumes
            .range(on(node, "")..)
            .take_while(move |((of, _), _)| of == node)
            .filter(move |(_, volume)| volume.pool == pool)
            .map(|((_, name), volume)| (name.as_str(), volume))
    }

    /// Makes the volume, or grows it to at least `bytes`; its size afterwards. One that is there and large enough stays as it is.
    ///
    /// # Errors
    /// If there is no such pool, or no room in it: nothing is changed then.
    pub(super) fn make(
        &mut self,
        node: &str,
        pool: &str,
        volume: &str,
        bytes: i64,
    ) -> Result<i64, Refused> {
        let wanted = extents(bytes);
        let has = self
            .volumes
            .get(&on(node, volume))
            .map_or(0, |volume| volume.bytes);
        if has >= wanted {
            return Ok(has);
        }
        let Some(total) = self.pools.get(&on(node, pool)) else {
            return Err(Refused::NoPool {
                pool: pool.to_owned(),
            });
        };
        let (free, wanted_more) = (total - self.used(node, pool), wanted - has);
        if wanted_more > free {
            return Err(Refused::NoRoom {
                pool: pool.to_owned(),
                free,
                wanted: wanted_more,
            });
        }
        self.adopt(node, pool, volume, wanted);
        Ok(wanted)
    }

    /// Takes over a volume that had been made before this program was started.
    pub(super) fn adopt(&mut self, node: &str, pool: &str, volume: &str, bytes: i64) {
        let made = Volume {
            pool: pool.to_owned(),
            bytes,
        };
        self.volumes.insert(on(node, volume), made);
    }

    /// Removes the volume, if it is there.
    pub(super) fn remove(&mut self, node: &str, volume: &str) {
        self.volumes.remove(&on(node, volume));
    }

    /// Whether the volume is on the node.
    pub(super) fn has(&self, node: &str, volume: &str) -> bool {
        self.volumes.contains_key(&on(node, volume))
    }

    /// The node's pools as its daemon reports them.
    pub(super) fn report(&self, node: &str) -> Pools {
        let of_node = self.pools.iter().filter(|((of, _), _)| of == node);
        of_node
            .map(|((_, pool), total)| (pool.clone(), self.pool(node, pool, *total)))
            .collect()
    }

    fn pool(&self, node: &str, pool: &str, total: i64) -> PoolStatus {
        let volumes: Vec<String> = self
            .of_pool(node, pool)
            .map(|(name, _)| name.to_owned())
            .collect();
        let class = pools::class_of(pool).unwrap_or_default();
        let used = self.used(node, pool);
        let count = i64::try_from(volumes.len()).unwrap_or(i64::MAX);
        PoolStatus {
            disks: vec![PoolDisk {
                capacity_bytes: total,
                dev_path: format!("/dev/{}", class.as_str().to_lowercase()),
                state: PoolDiskState::InUse,
                type_: class.clone(),
            }],
            free_capacity_bytes: total - used,
            free_volume_count: (pools::MAX_VOLUMES - count).max(0),
            name: pool.to_owned(),
            path: format!("/dev/{pool}"),
            thin_pool: None,
            total_capacity_bytes: total,
            total_volume_count: pools::MAX_VOLUMES,
            type_: pools::REGULAR.to_owned(),
            used_capacity_bytes: used,
            used_volume_count: count,
            volume_capacity_bytes_limit: total,
            volumes,
            class,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSD: &str = "LocalStorage_PoolSSD";
    const MIB: i64 = 1 << 20;

    fn with_pool(bytes: i64) -> Disks {
        let mut disks = Disks::default();
        disks.set_pools("n1", &BTreeMap::from([(SSD.to_owned(), bytes)]));
        disks
    }

    #[test]
    fn a_pool_takes_what_fits_in_whole_extents_and_no_more() {
        let mut disks = with_pool(13 * MIB);
        assert_eq!(disks.make("n1", SSD, "a", 1), Ok(4 * MIB));
        assert_eq!(disks.make("n1", SSD, "b", 5 * MIB), Ok(8 * MIB));
        let refused = disks.make("n1", SSD, "c", 1).unwrap_err();
        assert_eq!(
            refused,
            Refused::NoRoom {
                pool: SSD.to_owned(),
                free: 0,
                wanted: 4 * MIB
            }
        );
        disks.remove("n1", "a");
        assert_eq!(disks.make("n1", SSD, "c", 1), Ok(4 * MIB));
        assert!(disks.make("n2", SSD, "d", 1).is_err(), "no such pool");
    }

    #[test]
    fn a_volume_grows_never_shrinks_and_is_made_once() {
        let mut disks = with_pool(12 * MIB);
        assert_eq!(disks.make("n1", SSD, "a", 8 * MIB), Ok(8 * MIB));
        assert_eq!(disks.make("n1", SSD, "a", 8 * MIB), Ok(8 * MIB));
        assert_eq!(disks.make("n1", SSD, "a", 1), Ok(8 * MIB));
        assert_eq!(disks.make("n1", SSD, "a", 12 * MIB), Ok(12 * MIB));
        assert!(disks.make("n1", SSD, "a", 13 * MIB).is_err());
    }

    #[test]
    fn the_report_is_what_is_there() {
        let mut disks = with_pool(12 * MIB);
        disks.adopt("n1", SSD, "b", 4 * MIB);
        disks.adopt("n1", SSD, "a", 4 * MIB);
        disks.adopt("n10", SSD, "c", 4 * MIB);
        let report = disks.report("n1");
        let pool = &report[SSD];
        assert_eq!(pool.volumes, ["a", "b"]);
        assert_eq!(
            (pool.free_capacity_bytes, pool.used_capacity_bytes),
            (4 * MIB, 8 * MIB)
        );
        assert_eq!(pool.class, hawser_api::PoolClass::SSD);
        disks.forget("n1");
        assert!(disks.report("n1").is_empty() && !disks.has("n1", "a") && disks.has("n10", "c"));
    }

    #[test]
    fn a_pool_that_grows_keeps_its_volumes() {
        let mut disks = with_pool(4 * MIB);
        disks.make("n1", SSD, "a", 1).unwrap();
        disks.set_pools("n1", &BTreeMap::from([(SSD.to_owned(), 8 * MIB)]));
        assert_eq!(disks.report("n1")[SSD].free_capacity_bytes, 4 * MIB);
    }
}
