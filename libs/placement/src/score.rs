//! How good a node is: one integer key, compared as integers and nothing else, so candidates are totally ordered.
//!
//! | tier | meaning | points for the scheduler |
//! |---|---|---|
//! | 0 | the node's storage is not in service (what is there can be used once it is back) | 0 |
//! | 1 | decisions of the last moments have probably taken the room ([`Hold`]) | 1 |
//! | 2 | a copy here is still syncing | 1 |
//! | 3 | a new volume would go to a degraded pool | 2 |
//! | 4 | further copies would stay in this node's zone | 3 |
//! | 5 | none of these | 4 to 10, by room left |
//!
//! Within a tier: more up-to-date copies first, then the share of room left in the class of pools that is left with least
//! (spread: more is better, bin-pack: less). Tiers come before room because what they say can't be traded for space. Points are
//! 0 to 10, the range of an extender, and never decrease as the key grows; ties of the key go by name, which is left to whoever
//! compares. `docs/placement.md` says why.

use serde::Serialize;

use crate::cluster::Name;
use crate::node::{PoolClass, PoolHealth};
use crate::request::{NewVolume, Strategy};
use crate::units::Bytes;

/// Share of a class's pools that would be left, in units of 1/2^20.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RoomLeft(u64);

impl RoomLeft {
    /// No pool loses anything.
    const ALL: Self = Self(1 << 20);

    fn of(left: Bytes, total: Bytes) -> Self {
        let total = total.0.max(1);
        // Below 16 TiB a division of 64 bits will do, which is many times faster.
        let share = if left.0 >> 44 == 0 {
            (left.0 << 20) / total
        } else {
            let share = (u128::from(left.0) << 20) / u128::from(total);
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        Self(share.min(Self::ALL.0))
    }

    fn key(self, strategy: Strategy) -> u64 {
        match strategy {
            Strategy::Spread => self.0,
            Strategy::BinPack => Self::ALL.0 - self.0,
        }
    }
}

/// A decision of the last moments that the snapshot does not show: room that somebody else's new volume will probably take on
/// this node. It makes the node less wanted and never refuses it, for the decision may come to nothing, and whoever makes the
/// volume looks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub node: Name,
    pub class: PoolClass,
    pub size: Bytes,
    pub thin: bool,
}

/// Everything held on one node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held([Needed; 3]);

impl Held {
    pub(crate) fn add(&mut self, hold: &Hold) {
        let of_class = &mut self.0[hold.class.index()];
        let sum = if hold.thin {
            &mut of_class.thin
        } else {
            &mut of_class.thick
        };
        *sum = *sum + hold.size;
    }

    pub(crate) fn of(&self, class: PoolClass) -> Needed {
        self.0[class.index()]
    }
}

/// What is asked (or held) of the pools of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needed {
    pub(crate) thick: Bytes,
    pub(crate) thin: Bytes,
}

/// What the pools of one class have together; those that have failed, and what is not known, left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OfClass {
    pub(crate) free: Bytes,
    pub(crate) total: Bytes,
    pub(crate) thin_free: Bytes,
    pub(crate) thin_limit: Bytes,
}

/// What new volumes leave of a node, class by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// Of the class with the least.
    room: u64,
    health: PoolHealth,
    /// What is held for others does not fit any more.
    contended: bool,
}

impl Left {
    pub(crate) const ALL: Self = Self {
        room: RoomLeft::ALL.0,
        health: PoolHealth::Healthy,
        contended: false,
    };

    /// Takes note of the volumes that go to pools of one class. `health`: of the worst pool that gets one.
    #[inline]
    pub(crate) fn take(
        &mut self,
        pools: &OfClass,
        needed: Needed,
        held: Needed,
        health: PoolHealth,
        strategy: Strategy,
    ) {
        let parts = [
            (needed.thick, held.thick, pools.free, pools.total),
            (needed.thin, held.thin, pools.thin_free, pools.thin_limit),
        ];
        for (needed, held, free, total) in parts {
            if needed > Bytes::ZERO {
                let left = free.saturating_sub(needed);
                self.contended |= held > left;
                let left = RoomLeft::of(left.saturating_sub(held), total);
                self.room = self.room.min(left.key(strategy));
            }
        }
        self.health = self.health.min(health);
    }

    /// The greater, the more wanted among nodes of one tier.
    pub(crate) fn room(&self) -> u64 {
        self.room
    }
}

/// How volumes of one class are placed: what asks for room to grow wins over what wants to fill gaps.
pub(crate) fn strategy_of<'a>(
    volumes: impl Iterator<Item = &'a NewVolume>,
    default: Strategy,
) -> Strategy {
    let spread = |new: &NewVolume| new.strategy.unwrap_or(default) == Strategy::Spread;
    let mut volumes = volumes;
    if volumes.any(spread) {
        Strategy::Spread
    } else {
        Strategy::BinPack
    }
}

/// Ordered: the better is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Tier {
    /// The node's storage is not in service.
    NotInService,
    /// Decisions of the last moments have probably taken the room.
    Contended,
    /// A copy on the node is still syncing.
    Syncing,
    /// A new volume would go to a degraded pool.
    Degraded,
    /// Further copies would stay in the node's zone.
    SameZone,
    Good,
}

impl Tier {
    /// By their place in a score.
    const ALL: [Self; 6] = [
        Self::NotInService,
        Self::Contended,
        Self::Syncing,
        Self::Degraded,
        Self::SameZone,
        Self::Good,
    ];

    /// The least and the most points of a score of this tier.
    const fn points(self) -> (u8, u8) {
        match self {
            Self::NotInService => (0, 0),
            Self::Contended | Self::Syncing => (1, 1),
            Self::Degraded => (2, 2),
            Self::SameZone => (3, 3),
            Self::Good => (4, 10),
        }
    }

    /// Lowered by what the new volumes leave.
    pub(crate) fn with(self, left: &Left) -> Self {
        let health = if left.health < PoolHealth::Healthy {
            Self::Degraded
        } else {
            Self::Good
        };
        let contended = if left.contended {
            Self::Contended
        } else {
            Self::Good
        };
        self.min(health).min(contended)
    }
}

/// The greater, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Score(u64);

impl Score {
    const ROOM_BITS: u32 = 21;
    const LOCAL_BITS: u32 = 10;

    /// `local`: how many of the pod's existing volumes have an up-to-date copy on the node.
    /// `left`: [`Left::ALL`] if no new volume is asked for, which counts as the best.
    #[inline]
    pub(crate) fn new(tier: Tier, local: usize, left: &Left) -> Self {
        let local = u64::try_from(local)
            .unwrap_or(u64::MAX)
            .min((1 << Self::LOCAL_BITS) - 1);
        Self((((tier as u64) << Self::LOCAL_BITS | local) << Self::ROOM_BITS) | left.room)
    }

    /// 0 to 10, for kube-scheduler.
    #[must_use]
    #[inline]
    pub fn points(self) -> u8 {
        let (least, most) = self.tier().points();
        let by_room = (self.room() * u64::from(most - least)) >> 20;
        u8::try_from(by_room).map_or(most, |by_room| least + by_room)
    }

    /// What it is made of, for people and JSON.
    #[must_use]
    pub fn parts(self) -> ScoreParts {
        ScoreParts {
            points: self.points(),
            tier: self.tier(),
            up_to_date: (self.0 >> Self::ROOM_BITS) & ((1 << Self::LOCAL_BITS) - 1),
            room: (self.room() * 1000 + (1 << 19)) >> 20,
        }
    }

    fn tier(self) -> Tier {
        let at = usize::try_from(self.0 >> (Self::ROOM_BITS + Self::LOCAL_BITS));
        let known = at.ok().and_then(|at| Tier::ALL.get(at));
        known.copied().unwrap_or(Tier::Good)
    }

    fn room(self) -> u64 {
        self.0 & ((1 << Self::ROOM_BITS) - 1)
    }
}

/// The parts of a [`Score`], the weightiest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScoreParts {
    /// 0 to 10: what the scheduler is told.
    pub points: u8,
    pub tier: Tier,
    /// How many of the pod's existing volumes have an up-to-date copy on the node.
    pub up_to_date: u64,
    /// How good the room that would be left is, in thousandths. Spread: the share of its class's pools that stays free, of the class
    /// that is left with least; bin-pack: the share that is used then. 1000 if no new volume is asked for.
    pub room: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(free: u64, held: u64, strategy: Strategy) -> Left {
        let pools = OfClass {
            free: Bytes(free + 1),
            total: Bytes(100),
            ..OfClass::default()
        };
        let thick = |n: u64| Needed {
            thick: Bytes(n),
            thin: Bytes::ZERO,
        };
        let mut left = Left::ALL;
        left.take(&pools, thick(1), thick(held), PoolHealth::Healthy, strategy);
        left
    }

    #[test]
    fn points_span_the_extenders_range_and_follow_the_key() {
        let score = |tier, room| Score::new(tier, 0, &left(room, 0, Strategy::Spread));
        let ascending = [
            score(Tier::NotInService, 100),
            score(Tier::Contended, 100),
            score(Tier::Syncing, 100),
            score(Tier::Degraded, 100),
            score(Tier::SameZone, 100),
            score(Tier::Good, 0),
            score(Tier::Good, 50),
            score(Tier::Good, 100),
        ];
        assert!(ascending.is_sorted());
        assert_eq!(ascending.map(Score::points), [0, 1, 1, 2, 3, 4, 7, 10]);
    }

    #[test]
    fn parts_are_what_the_score_was_made_of() {
        for (at, tier) in Tier::ALL.into_iter().enumerate() {
            assert_eq!(tier as usize, at, "its place in a score");
            let parts = Score::new(tier, 3, &left(20, 0, Strategy::Spread)).parts();
            assert_eq!((parts.tier, parts.up_to_date, parts.room), (tier, 3, 200));
            assert!((tier.points().0..=tier.points().1).contains(&parts.points));
        }
        assert!(Tier::ALL.is_sorted());
        let best = Score::new(Tier::Good, usize::MAX, &Left::ALL).parts();
        assert_eq!((best.points, best.up_to_date, best.room), (10, 1023, 1000));
    }

    #[test]
    fn bin_packing_turns_room_around() {
        let score = |room| Score::new(Tier::Good, 0, &left(room, 0, Strategy::BinPack));
        assert!(score(10) > score(90));
        assert_eq!(score(0).points(), 10);
    }

    #[test]
    fn only_existing_volumes_up_to_date_is_the_best_there_is() {
        assert_eq!(Score::new(Tier::Good, 2, &Left::ALL).points(), 10);
    }

    #[test]
    fn what_is_held_counts_as_taken_and_contends_when_it_does_not_fit() {
        let spread = |held| left(50, held, Strategy::Spread);
        assert!(spread(10).room() < spread(0).room());
        assert_eq!(Tier::Good.with(&spread(50)), Tier::Good);
        assert_eq!(Tier::Good.with(&spread(51)), Tier::Contended);
        assert_eq!(Tier::NotInService.with(&spread(51)), Tier::NotInService);
    }

    #[test]
    fn shares_of_huge_pools_are_exact() {
        let tib = |n: u64| Bytes(n << 40);
        assert_eq!(RoomLeft::of(tib(512), tib(1024)), RoomLeft(1 << 19));
        assert_eq!(RoomLeft::of(tib(15), tib(30)), RoomLeft(1 << 19));
        assert_eq!(RoomLeft::of(tib(16), tib(32)), RoomLeft(1 << 19));
        assert_eq!(RoomLeft::of(Bytes(u64::MAX), Bytes(1)), RoomLeft::ALL);
        assert_eq!(RoomLeft::of(Bytes(0), Bytes(0)), RoomLeft(0));
    }
}
