//! Which node and pool can hold which volumes, how good each is, and why not: pure, no I/O, no clock.
//!
//! A [`Cluster`] is an immutable snapshot, a [`Request`] all volumes of one pod. [`Evaluator`] answers for each node: fits, how
//! well and with which plan, or every reason why not with its numbers. [`choose`] picks one node. Everybody who places
//! anything asks here, so what the scheduler is told and what volume creation does can't differ, given the same snapshot.
//!
//! What is promised: "fits" is never wrong in either direction (exact search, see `pack` and `further`); the answer does not
//! depend on the order of nodes, pools or volumes; candidates are totally ordered.

mod amounts;
mod choose;
mod cluster;
mod evaluate;
mod further;
mod json;
mod lacks;
mod local;
mod node;
mod pack;
mod places;
mod quick;
mod reason;
mod request;
mod rows;
mod score;
pub mod selector;
mod sentence;
mod tell;
mod units;

pub use choose::{Candidates, Placement, Refusal, choose, grow, kept_out};
pub use cluster::{Cluster, Labels, Name, NodeId, Roster};
pub use evaluate::{Evaluator, Plan, Verdict, VolumePlan, evaluate};
pub use further::Place;
pub use lacks::Lacks;
pub use node::{Node, Pool, PoolClass, PoolHealth, Reservation, Room, StorageState, ThinPool};
pub use reason::{Exclusions, Lack, NAMED_OWNERS, PoolLeft, Reason, Reserved, Share};
pub use request::{
    BoundVolume, NewVolume, Replica, ReplicaState, Request, Strategy, Volume, VolumeKind,
};
pub use score::{Hold, Score, ScoreParts, Tier};
pub use selector::Constraints;
pub use sentence::Sentence;
pub use tell::{Refused, SPOKEN, tell};
pub use units::Bytes;
