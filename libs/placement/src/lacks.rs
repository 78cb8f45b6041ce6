//! What a node lacks, in one number: for telling thousands of refused nodes apart without working out reasons for each.
//!
//! Where many nodes are refused, each node's own numbers are of no use (kube-scheduler's event has room for some ten sentences) and
//! take longer than the decision. Then of the nodes that lack the same only the one that lacks least is looked at.

use crate::node::{PoolClass, StorageState};

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

    /// Whether this says everything. If not, the node's reasons must be asked for (`Evaluator::score`).
    #[must_use]
    pub fn is_complete(self) -> bool {
        !self.has(OfNode::Other)
    }

    /// Whether it depends on numbers: nodes that lack the same may lack more or less of it. Otherwise they have the same reasons.
    #[must_use]
    pub fn is_of_amounts(self) -> bool {
        let of_pools = (1u64 << OfNode::Other as u8) - 1;
        let slots = Self::NOTHING.with(OfNode::Slots).with(OfNode::SlotLimit);
        self.0 & (of_pools | slots.0) != 0
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

#[cfg(test)]
mod tests {
    use super::*;

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
