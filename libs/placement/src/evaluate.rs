//! One node: fits, how well and with which plan; or why not.

use std::sync::Arc;

use crate::cluster::{Cluster, Name, Node, StorageState};
use crate::further::{FarCopies, Further, Place};
use crate::local::{self, Local, Wanted};
use crate::reason::Reason;
use crate::request::{BoundVolume, ReplicaState, Request, Volume};
use crate::score::{Score, Tier};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fit {
        score: Score,
        plan: Plan,
    },
    /// At least one reason.
    NoFit {
        reasons: Vec<Reason>,
    },
}

/// Where each new volume of the request goes, by volume name. Existing volumes stay where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub volumes: Vec<VolumePlan>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumePlan {
    pub volume: Name,
    pub claim: Name,
    /// The first is the pod's node; all on different nodes.
    pub copies: Vec<Place>,
}

/// Decides about one request on one snapshot, node by node. What does not depend on the node is worked out once, so asking
/// about thousands of nodes costs little more than looking at each. Answers don't depend on the order of asking.
pub struct Evaluator<'a> {
    cluster: &'a Cluster,
    request: &'a Request,
    /// Existing volumes, by name.
    bound: Vec<(&'a Volume, &'a BoundVolume)>,
    wanted: Vec<Wanted<'a>>,
    further: Further<'a>,
}

/// Decides about a single node; for many use an [`Evaluator`].
#[must_use]
pub fn evaluate(cluster: &Cluster, request: &Request, node: &str) -> Verdict {
    Evaluator::new(cluster, request).verdict(node)
}

impl<'a> Evaluator<'a> {
    #[must_use]
    pub fn new(cluster: &'a Cluster, request: &'a Request) -> Self {
        let wanted = local::wanted(request);
        let further = Further::new(cluster, request, &wanted);
        let mut bound: Vec<_> = request.bound_volumes().collect();
        bound.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        Self {
            cluster,
            request,
            bound,
            wanted,
            further,
        }
    }

    #[must_use]
    pub fn verdict(&mut self, node: &str) -> Verdict {
        let Some(node) = self.cluster.get(node) else {
            return Verdict::NoFit {
                reasons: vec![Reason::UnknownNode],
            };
        };
        match self.decide(node) {
            Ok(decided) => Verdict::Fit {
                score: decided.score,
                plan: self.plan(node, &decided),
            },
            Err(reasons) => Verdict::NoFit { reasons },
        }
    }

    /// As [`Self::verdict`], without the plan, which is what takes memory.
    pub fn score(&mut self, node: &str) -> Result<Score, Vec<Reason>> {
        let Some(node) = self.cluster.get(node) else {
            return Err(vec![Reason::UnknownNode]);
        };
        self.decide(node).map(|decided| decided.score)
    }

    fn decide(&mut self, node: &Node) -> Result<Decided, Vec<Reason>> {
        let mut reasons = Vec::new();
        let (tier, up_to_date) = self.existing(node, &mut reasons);
        let local = self.first_copies(node, &mut reasons);
        if !reasons.is_empty() {
            for reason in &mut reasons {
                reason.name_owners(node, |held| self.request.owns(held));
            }
            return Err(reasons);
        }
        let far = if self.further.is_needed() {
            Some(self.further.beside(node).map_err(|why| vec![why])?)
        } else {
            None
        };
        let mut tier = tier;
        if far.as_ref().is_some_and(|far| !far.other_zone) {
            tier = tier.min(Tier::SameZone);
        }
        if local
            .as_ref()
            .is_some_and(|local| local.health < crate::PoolHealth::Healthy)
        {
            tier = tier.min(Tier::Degraded);
        }
        let room = local.as_ref().map(|local| local.room);
        Ok(Decided {
            score: Score::new(tier, up_to_date, room, self.request.strategy),
            local,
            far,
        })
    }

    /// Volumes that exist: the node must have a usable copy of each.
    fn existing(&self, node: &Node, reasons: &mut Vec<Reason>) -> (Tier, usize) {
        let (mut tier, mut up_to_date) = (Tier::Good, 0);
        for (volume, bound) in &self.bound {
            match self.copy_here(node, volume, bound) {
                Err(reason) => reasons.push(reason),
                Ok(ReplicaState::UpToDate) => up_to_date += 1,
                Ok(ReplicaState::Syncing | ReplicaState::Broken) => tier = tier.min(Tier::Syncing),
            }
            // A silent daemon does not make the data unreachable for good, and there may be no other copy: the node stays
            // possible, at the lowest score, and the kubelet waits for the daemon.
            match node.storage {
                StorageState::Ready | StorageState::Maintain => {}
                StorageState::Offline | StorageState::Absent | StorageState::NodeMissing => {
                    tier = Tier::NotInService;
                }
            }
        }
        reasons.dedup();
        (tier, up_to_date)
    }

    fn copy_here(
        &self,
        node: &Node,
        volume: &Volume,
        bound: &BoundVolume,
    ) -> Result<ReplicaState, Reason> {
        let claim = || volume.claim.clone();
        let copies = || {
            let mut copies = bound.copies.clone();
            copies.sort();
            copies
        };
        if bound.copies.is_empty() {
            return Err(Reason::NoCopies { claim: claim() });
        }
        let Some(copy) = bound.copies.iter().find(|copy| copy.node == node.name) else {
            return Err(Reason::DataElsewhere {
                claim: claim(),
                copies: copies(),
            });
        };
        if copy.state == ReplicaState::Broken {
            return Err(Reason::CopyBroken {
                claim: claim(),
                copies: copies(),
            });
        }
        match &bound.published {
            Some(other) if *other != node.name && self.is_alive(other) => {
                Err(Reason::InUseElsewhere {
                    claim: claim(),
                    node: other.clone(),
                    copies: copies(),
                })
            }
            Some(_) | None => Ok(copy.state),
        }
    }

    fn is_alive(&self, node: &str) -> bool {
        let state = self.cluster.get(node).map(|node| node.storage);
        matches!(state, Some(StorageState::Ready | StorageState::Maintain))
    }

    /// The first copies of the new volumes, all on this node.
    fn first_copies(&self, node: &Node, reasons: &mut Vec<Reason>) -> Option<Local> {
        if self.wanted.is_empty() {
            return None;
        }
        if node.storage != StorageState::Ready {
            reasons.push(Reason::Storage {
                state: node.storage,
            });
            return None;
        }
        for one in &self.wanted {
            if let Some(source) = one
                .new
                .source
                .as_ref()
                .filter(|source| !source.contains(&node.name))
            {
                let mut nodes = source.clone();
                nodes.sort();
                reasons.push(Reason::SourceElsewhere {
                    claim: one.volume.claim.clone(),
                    nodes,
                });
            }
        }
        match local::place(self.request, &self.wanted, node) {
            Ok(local) => Some(local),
            Err(mut why) => {
                reasons.append(&mut why);
                None
            }
        }
    }

    fn plan(&self, node: &Node, decided: &Decided) -> Plan {
        let pools = decided.local.as_ref().map_or(&[][..], |local| &local.pools);
        let far = |volume: &Name| {
            let all = decided.far.as_deref().map_or(&[][..], |far| &far.volumes);
            all.iter()
                .find(|(name, _)| name == volume)
                .map_or(&[][..], |(_, places)| places)
        };
        let mut volumes: Vec<VolumePlan> = (self.wanted.iter().zip(pools))
            .map(|(one, &pool)| {
                let first = Place {
                    node: node.name.clone(),
                    pool: node.pools[pool].name.clone(),
                };
                let copies = std::iter::once(first)
                    .chain(far(&one.volume.name).iter().cloned())
                    .collect();
                VolumePlan {
                    volume: one.volume.name.clone(),
                    claim: one.volume.claim.clone(),
                    copies,
                }
            })
            .collect();
        volumes.sort_by(|a, b| a.volume.cmp(&b.volume));
        Plan { volumes }
    }
}

struct Decided {
    score: Score,
    local: Option<Local>,
    far: Option<Arc<FarCopies>>,
}
