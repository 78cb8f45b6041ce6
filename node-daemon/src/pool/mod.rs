//! Pools: volume groups `LocalStorage_Pool{HDD,SSD,NVMe}`, how disks get into them, and what the node's objects say of them.
//!
//! Owns: making and growing these volume groups, `LocalStorageNode` and `LocalDiskNode`. Does not own: logical volumes.

pub mod extend;
pub mod health;
pub mod news;
pub mod nodes;
pub mod prove;
pub mod status;
pub mod strays;
