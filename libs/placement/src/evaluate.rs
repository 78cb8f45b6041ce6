//! One node: fits, how well and with which plan; or why not.
//!
//! There are two ways to the same answer. [`Evaluator::look`] compares the request with the node's row of numbers, which takes
//! some ten nanoseconds and is enough for almost every node of a large cluster. [`Evaluator::verdict`] and [`Evaluator::score`]
//! look at the node itself, and know plan and reasons. That they agree is tested on random clusters.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::cluster::{Cluster, Name, NodeId};
use crate::further::{FarCopies, Further, Place};
use crate::lacks::Lacks;
use crate::local::{self, Local, Wanted};
use crate::node::{Node, StorageState};
use crate::places::Places;
use crate::quick::Quick;
use crate::reason::Reason;
use crate::request::{BoundVolume, ReplicaState, Request, Volume};
use crate::score::{Held, Hold, Left, Score, Tier};

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
    /// Made when first needed: it looks at every node.
    further: Option<Further<'a>>,
    quick: Quick,
    /// Nodes about which a row does not say everything: those with copies of existing volumes, sources of new ones, or
    /// reservations of this request's own.
    special: Places,
    /// Only special nodes can do.
    pinned: bool,
    held: HashMap<NodeId, Held, RandomState>,
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
        let mut bound: Vec<_> = request.bound_volumes().collect();
        bound.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        let mut special = Places::none(cluster.places());
        let copies = bound.iter().flat_map(|(_, bound)| &bound.copies);
        let sources = wanted.iter().filter_map(|one| one.new.source.as_ref());
        copies
            .map(|copy| &copy.node)
            .chain(sources.clone().flatten())
            .filter_map(|name| cluster.id(name))
            .for_each(|id| special.add(id));
        for volume in &request.volumes {
            for id in cluster.reserving(&volume.name) {
                special.add(*id);
            }
        }
        Self {
            cluster,
            request,
            pinned: !bound.is_empty() || sources.count() > 0,
            bound,
            quick: Quick::new(&wanted, request.strategy),
            wanted,
            further: None,
            special,
            held: HashMap::default(),
        }
    }

    /// Takes into account what decisions of the last moments will probably take. Nodes that are not known are left out.
    #[must_use]
    pub fn with_holds<'h>(mut self, holds: impl IntoIterator<Item = &'h Hold>) -> Self {
        for hold in holds {
            if let Some(id) = self.cluster.id(&hold.node) {
                self.held.entry(id).or_default().add(hold);
            }
        }
        self
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

    /// As [`Self::score`], if the node of this name were like this and the others as they are.
    pub fn score_as(&mut self, node: &Node) -> Result<Score, Vec<Reason>> {
        self.decide(node).map(|decided| decided.score)
    }

    /// As [`Self::score`], with the kinds of reasons in place of reasons. `node` must be an id of this evaluator's cluster.
    #[inline]
    pub fn look(&mut self, node: NodeId) -> Result<Score, Lacks> {
        let head = self.cluster.rows().head(node);
        if !head.simple || self.special.has(node) {
            return self.look_closely(node);
        }
        if self.pinned {
            return Err(Lacks::ELSEWHERE);
        }
        if self.wanted.is_empty() {
            return Ok(Score::new(Tier::Good, 0, &Left::ALL));
        }
        if head.storage != StorageState::Ready {
            return Err(Lacks::storage(head.storage));
        }
        let others = if self.held.is_empty() {
            None
        } else {
            self.held.get(&node)
        };
        let left = self.quick.look(self.cluster.rows(), node, others)?;
        let mut tier = Tier::Good.with(&left);
        if let Some(further) = self.further()
            && !further.is_in_other_zone(node)?
        {
            tier = tier.min(Tier::SameZone);
        }
        Ok(Score::new(tier, 0, &left))
    }

    #[cold]
    fn look_closely(&mut self, node: NodeId) -> Result<Score, Lacks> {
        let node = self.cluster.node(node).ok_or(Lacks::OTHER)?;
        let decided = self.decide(node).map_err(|_| Lacks::OTHER)?;
        Ok(decided.score)
    }

    /// How far the node is from fitting, which tells the nearest of several nodes that lack the same: as [`Reason::missing`], over
    /// all of its reasons. `lacks`: what [`Self::look`] said of it, if that was complete.
    pub fn missing(&mut self, node: NodeId, lacks: Lacks) -> u128 {
        if lacks.is_of_amounts() {
            self.quick.missing(self.cluster.rows(), node)
        } else {
            0
        }
    }

    /// The reasons of a node that lacks this, as far as they are those of all nodes that lack it: where the request is bound to
    /// other nodes, what else a node lacks does not matter.
    pub fn reasons(&mut self, node: NodeId, lacks: Lacks) -> Vec<Reason> {
        if lacks == Lacks::ELSEWHERE {
            let (nowhere, mut reasons) = (Node::new(""), Vec::new());
            self.existing(&nowhere, &mut reasons);
            self.sources(&nowhere, &mut reasons);
            return reasons;
        }
        match self.cluster.node(node) {
            Some(node) => self.decide(node).err().unwrap_or_default(),
            None => vec![Reason::UnknownNode],
        }
    }

    /// `None` if no volume wants further copies.
    fn further(&mut self) -> Option<&mut Further<'a>> {
        if self.wanted.iter().all(|one| one.new.copies <= 1) {
            return None;
        }
        let (cluster, request) = (self.cluster, self.request);
        let (wanted, special) = (&self.wanted, &self.special);
        Some(
            self.further
                .get_or_insert_with(|| Further::new(cluster, request, wanted, special)),
        )
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
        let far = match self.further() {
            Some(further) => Some(further.beside(node).map_err(|why| vec![why])?),
            None => None,
        };
        let left = local.as_ref().map_or(Left::ALL, |local| local.left);
        let mut tier = tier.with(&left);
        if far.as_ref().is_some_and(|far| !far.other_zone) {
            tier = tier.min(Tier::SameZone);
        }
        Ok(Decided {
            score: Score::new(tier, up_to_date, &left),
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
        self.sources(node, reasons);
        let id = self.cluster.id(&node.name);
        let held = id.and_then(|id| self.held.get(&id)).copied();
        match local::place(self.request, &self.wanted, node, held.unwrap_or_default()) {
            Ok(local) => Some(local),
            Err(mut why) => {
                reasons.append(&mut why);
                None
            }
        }
    }

    /// New volumes that are made from something: it must be here.
    fn sources(&self, node: &Node, reasons: &mut Vec<Reason>) {
        for one in &self.wanted {
            let source = one.new.source.as_ref();
            if let Some(source) = source.filter(|source| !source.contains(&node.name)) {
                let mut nodes = source.clone();
                nodes.sort();
                reasons.push(Reason::SourceElsewhere {
                    claim: one.volume.claim.clone(),
                    nodes,
                });
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
