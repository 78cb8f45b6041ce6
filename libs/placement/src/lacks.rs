//! What a node lacks, in one number: for telling thousands of refused nodes apart without writing a sentence for each.
//!
//! Where many nodes are refused, a sentence with each node's own numbers is of no use (kube-scheduler's event has room for some
//! ten) and takes longer than the decision. Then nodes that lack the same share a sentence, with the best numbers among them.

use std::fmt::Write;

use crate::cluster::{NodeId, PoolClass, StorageState};
use crate::quick::Quick;
use crate::reason::{Reason, Sentence};
use crate::rows::Rows;
use crate::units::Bytes;

/// Kinds of causes. Equal for nodes that lack the same, whatever their numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lacks(u64);

/// Causes that a pool of one class can have; each class has such a group of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum OfPool {
    Missing,
    Failed,
    UnknownCapacity,
    /// More than is free.
    Room,
    /// More than there is.
    Total,
    ThinPool,
    ThinRoom,
    ThinLimit,
    Slots,
    SlotLimit,
    VolumeSize,
}

const POOL_BITS: u32 = 11;

/// Causes that concern the whole node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum OfNode {
    /// Something that only looking at the node tells: ask for its reasons.
    Other = 33,
    /// Existing volumes, or the sources of new ones, are on other nodes.
    Elsewhere,
    NoStorage,
    Maintain,
    Offline,
    Missing,
    Slots,
    SlotLimit,
    /// Further copies find no place.
    Further,
}

const ALL_OF_POOL: [OfPool; POOL_BITS as usize] = [
    OfPool::Missing,
    OfPool::Failed,
    OfPool::UnknownCapacity,
    OfPool::Room,
    OfPool::Total,
    OfPool::ThinPool,
    OfPool::ThinRoom,
    OfPool::ThinLimit,
    OfPool::Slots,
    OfPool::SlotLimit,
    OfPool::VolumeSize,
];

impl Lacks {
    pub(crate) const NOTHING: Self = Self(0);
    pub(crate) const OTHER: Self = Self::NOTHING.with(OfNode::Other);
    pub(crate) const ELSEWHERE: Self = Self::NOTHING.with(OfNode::Elsewhere);
    pub(crate) const FURTHER: Self = Self::NOTHING.with(OfNode::Further);

    pub(crate) const fn with(self, cause: OfNode) -> Self {
        Self(self.0 | 1 << cause as u8)
    }

    pub(crate) fn with_pool(self, class: PoolClass, cause: OfPool) -> Self {
        Self(self.0 | 1 << Self::bit(class, cause))
    }

    pub(crate) fn storage(state: StorageState) -> Self {
        match state {
            StorageState::Absent => Self::NOTHING.with(OfNode::NoStorage),
            StorageState::Maintain => Self::NOTHING.with(OfNode::Maintain),
            StorageState::Offline => Self::NOTHING.with(OfNode::Offline),
            StorageState::NodeMissing => Self::NOTHING.with(OfNode::Missing),
            StorageState::Ready => Self::NOTHING,
        }
    }

    fn bit(class: PoolClass, cause: OfPool) -> u32 {
        u32::try_from(class.index()).unwrap_or(0) * POOL_BITS + cause as u32
    }

    pub(crate) fn has(self, cause: OfNode) -> bool {
        self.0 >> cause as u8 & 1 == 1
    }

    pub(crate) fn has_pool(self, class: PoolClass, cause: OfPool) -> bool {
        self.0 >> Self::bit(class, cause) & 1 == 1
    }

    /// Whether this says everything. If not, the node's reasons must be asked for (`Evaluator::score`).
    #[must_use]
    pub fn is_complete(self) -> bool {
        !self.has(OfNode::Other)
    }

    /// As `Reason::curable_by_preemption` of all the node's reasons, if this is complete.
    #[must_use]
    pub fn curable_by_preemption(self) -> bool {
        let of_node = 1 << OfNode::Slots as u8;
        let of_pools = PoolClass::ALL.into_iter().fold(0u64, |bits, class| {
            [OfPool::Room, OfPool::ThinRoom, OfPool::Slots]
                .into_iter()
                .fold(bits, |bits, cause| bits | 1 << Self::bit(class, cause))
        });
        self.0 & !(of_node | of_pools) == 0
    }
}

/// The best that was seen among the nodes that lack something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Best {
    pools: [BestPool; 3],
}

#[derive(Clone, Copy, Debug, Default)]
struct BestPool {
    free: u64,
    thin_free: u64,
}

impl Best {
    pub(crate) fn note(&mut self, rows: &Rows, node: NodeId, lacks: Lacks) {
        for class in PoolClass::ALL {
            let room = lacks.has_pool(class, OfPool::Room) || lacks.has_pool(class, OfPool::Total);
            let thin =
                lacks.has_pool(class, OfPool::ThinRoom) || lacks.has_pool(class, OfPool::ThinLimit);
            if room || thin {
                let (best, row) = (&mut self.pools[class.index()], rows.pool(class, node));
                best.free = best.free.max(row.free);
                best.thin_free = best.thin_free.max(row.thin_free);
            }
        }
    }
}

/// One sentence for all nodes that lack this, parts joined like a [`Sentence`].
pub(crate) fn sentence(
    lacks: Lacks,
    best: &Best,
    quick: &Quick,
    elsewhere: &[Reason],
    further: Option<&Reason>,
) -> String {
    let mut parts: Vec<String> = Vec::new();
    if lacks.has(OfNode::Elsewhere) {
        parts.push(Sentence(elsewhere).to_string());
    }
    let states = [
        (OfNode::NoStorage, StorageState::Absent),
        (OfNode::Maintain, StorageState::Maintain),
        (OfNode::Offline, StorageState::Offline),
        (OfNode::Missing, StorageState::NodeMissing),
    ];
    for (cause, state) in states {
        if lacks.has(cause) {
            parts.push(Reason::Storage { state }.to_string());
        }
    }
    for class in PoolClass::ALL {
        for cause in ALL_OF_POOL {
            if lacks.has_pool(class, cause) {
                parts.push(of_pool(class, cause, best.pools[class.index()], quick));
            }
        }
    }
    if lacks.has(OfNode::Slots) || lacks.has(OfNode::SlotLimit) {
        let mut part = String::from("the node's limit of volumes");
        // Writing into a String can't fail.
        let _ = write!(part, ": {} more are needed", quick.volumes());
        parts.push(part);
    }
    if let (true, Some(reason)) = (lacks.has(OfNode::Further), further) {
        parts.push(reason.to_string());
    }
    parts.join("; ")
}

fn of_pool(class: PoolClass, cause: OfPool, best: BestPool, quick: &Quick) -> String {
    let asked = quick.asked(class);
    let (needs, thin_needs) = (asked.thick, asked.thin);
    let (free, thin_free) = (Bytes(best.free), Bytes(best.thin_free));
    match cause {
        OfPool::Missing => format!("no {class} pool"),
        OfPool::Failed => {
            format!("{class} pool: has failed, see its disks in LocalStorageNode")
        }
        OfPool::UnknownCapacity => format!("{class} pool: its capacity is not known yet"),
        OfPool::Room => {
            format!("{class} pool: at most {free} free on one of these nodes, needs {needs}")
        }
        OfPool::Total => {
            format!("{class} pool: smaller than the {needs} that are needed, at most {free} free")
        }
        OfPool::ThinPool => {
            format!("{class} pool: has no thin pool, make one with a ThinPoolClaim")
        }
        OfPool::ThinRoom | OfPool::ThinLimit => format!(
            "{class} pool, thin: at most {thin_free} may still be promised on one of these nodes, needs {thin_needs}"
        ),
        OfPool::Slots | OfPool::SlotLimit => format!(
            "{class} pool: its limit of volumes, {} more are needed",
            asked.volumes
        ),
        OfPool::VolumeSize => format!(
            "{class} pool: larger than one volume may be, needs {}",
            asked.largest
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_do_not_share_bits() {
        let mut seen = 0u64;
        for class in PoolClass::ALL {
            for cause in ALL_OF_POOL {
                let bit = Lacks::NOTHING.with_pool(class, cause).0;
                assert_eq!((seen & bit, bit.count_ones()), (0, 1));
                seen |= bit;
            }
        }
        for cause in [
            OfNode::Other,
            OfNode::Elsewhere,
            OfNode::NoStorage,
            OfNode::Maintain,
            OfNode::Offline,
            OfNode::Missing,
            OfNode::Slots,
            OfNode::SlotLimit,
            OfNode::Further,
        ] {
            let bit = Lacks::NOTHING.with(cause).0;
            assert_eq!((seen & bit, bit.count_ones()), (0, 1), "{cause:?}");
            seen |= bit;
        }
    }

    #[test]
    fn only_room_and_slots_are_cured_by_evicting() {
        let ssd = |cause| Lacks::NOTHING.with_pool(PoolClass::Ssd, cause);
        assert!(ssd(OfPool::Room).curable_by_preemption());
        assert!(
            ssd(OfPool::Slots)
                .with(OfNode::Slots)
                .curable_by_preemption()
        );
        for never in [
            ssd(OfPool::Total),
            ssd(OfPool::Room).with_pool(PoolClass::Hdd, OfPool::Failed),
            Lacks::ELSEWHERE,
            Lacks::FURTHER,
            Lacks::storage(StorageState::Offline),
            ssd(OfPool::Room).with(OfNode::SlotLimit),
        ] {
            assert!(!never.curable_by_preemption(), "{never:?}");
        }
    }
}
