//! How good a node is: one integer key, compared as integers and nothing else, so candidates are totally ordered.
//!
//! | tier | meaning | points for the scheduler |
//! |---|---|---|
//! | 0 | the node's storage is not in service (what is there can be used once it is back) | 0 |
//! | 1 | a copy here is still syncing | 1 |
//! | 2 | a new volume would go to a degraded pool | 2 |
//! | 3 | further copies would stay in this node's zone | 3 |
//! | 4 | none of these | 4 to 10, by room left |
//!
//! Within a tier: more up-to-date copies first, then room left in the fullest pool concerned (spread: more is better,
//! bin-pack: less). Tiers come before room because what they say can't be traded for space. Points are 0 to 10, the range of
//! an extender, and never decrease as the key grows; ties of the key go by name, which is left to whoever compares.

use serde::Serialize;

use crate::request::Strategy;
use crate::units::Bytes;

/// Share of a pool that would be left, in units of 1/2^20.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RoomLeft(u32);

impl RoomLeft {
    /// No pool loses anything.
    pub(crate) const ALL: Self = Self(1 << 20);

    pub(crate) fn of(left: Bytes, total: Bytes) -> Self {
        let share = (u128::from(left.0) << 20) / u128::from(total.0.max(1));
        Self(u32::try_from(share).unwrap_or(u32::MAX).min(Self::ALL.0))
    }

    pub(crate) fn key(self, strategy: Strategy) -> u64 {
        u64::from(match strategy {
            Strategy::Spread => self.0,
            Strategy::BinPack => Self::ALL.0 - self.0,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Tier {
    /// The node's storage is not in service.
    NotInService,
    /// A copy on the node is still syncing.
    Syncing,
    /// A new volume would go to a degraded pool.
    Degraded,
    /// Further copies would stay in the node's zone.
    SameZone,
    Good,
}

/// The greater, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Score(u64);

impl Score {
    const ROOM_BITS: u32 = 21;
    const LOCAL_BITS: u32 = 10;

    /// `local`: how many of the pod's existing volumes have an up-to-date copy on the node.
    /// `room`: `None` if no new volume is asked for, which counts as the best.
    pub(crate) fn new(
        tier: Tier,
        local: usize,
        room: Option<RoomLeft>,
        strategy: Strategy,
    ) -> Self {
        let local = u64::try_from(local)
            .unwrap_or(u64::MAX)
            .min((1 << Self::LOCAL_BITS) - 1);
        let room = room.map_or(u64::from(RoomLeft::ALL.0), |room| room.key(strategy));
        Self((((tier as u64) << Self::LOCAL_BITS | local) << Self::ROOM_BITS) | room)
    }

    /// 0 to 10, for kube-scheduler.
    #[must_use]
    pub fn points(self) -> u8 {
        let tier = self.0 >> (Self::ROOM_BITS + Self::LOCAL_BITS);
        let room = self.0 & ((1 << Self::ROOM_BITS) - 1);
        let points = if tier < Tier::Good as u64 {
            tier
        } else {
            tier + ((room * 6) >> 20)
        };
        u8::try_from(points.min(10)).unwrap_or(10)
    }

    /// What it is made of, for people and JSON.
    #[must_use]
    pub fn parts(self) -> ScoreParts {
        let room = self.0 & ((1 << Self::ROOM_BITS) - 1);
        let local = (self.0 >> Self::ROOM_BITS) & ((1 << Self::LOCAL_BITS) - 1);
        ScoreParts {
            points: self.points(),
            tier: self.tier(),
            up_to_date: local,
            room: (room * 1000 + (1 << 19)) >> 20,
        }
    }

    fn tier(self) -> Tier {
        let tiers = [
            Tier::NotInService,
            Tier::Syncing,
            Tier::Degraded,
            Tier::SameZone,
        ];
        let tier = self.0 >> (Self::ROOM_BITS + Self::LOCAL_BITS);
        let known = tiers.into_iter().find(|known| *known as u64 == tier);
        known.unwrap_or(Tier::Good)
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
    /// How good the room that would be left is, in thousandths. Spread: the share of the fullest pool concerned that stays free;
    /// bin-pack: the share that is used then. 1000 if no new volume is asked for.
    pub room: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_span_the_extenders_range_and_follow_the_key() {
        let score = |tier, room| {
            Score::new(
                tier,
                0,
                Some(RoomLeft::of(Bytes(room), Bytes(100))),
                Strategy::Spread,
            )
        };
        let ascending = [
            score(Tier::NotInService, 100),
            score(Tier::Syncing, 100),
            score(Tier::Degraded, 100),
            score(Tier::SameZone, 100),
            score(Tier::Good, 0),
            score(Tier::Good, 50),
            score(Tier::Good, 100),
        ];
        assert!(ascending.is_sorted());
        assert_eq!(ascending.map(Score::points), [0, 1, 2, 3, 4, 7, 10]);
    }

    #[test]
    fn bin_packing_turns_room_around() {
        let score = |room| {
            Score::new(
                Tier::Good,
                0,
                Some(RoomLeft::of(Bytes(room), Bytes(100))),
                Strategy::BinPack,
            )
        };
        assert!(score(10) > score(90));
        assert_eq!(score(0).points(), 10);
    }

    #[test]
    fn only_existing_volumes_up_to_date_is_the_best_there_is() {
        assert_eq!(
            Score::new(Tier::Good, 2, None, Strategy::Spread).points(),
            10
        );
    }
}
