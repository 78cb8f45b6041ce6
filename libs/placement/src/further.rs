//! Where the second (third, fourth) copies go. They depend on the pod's node only in two ways: they are elsewhere, and rather
//! in another zone. So one answer per zone serves almost every node; only for nodes that the answer itself uses it is worked
//! out again without them.
//!
//! Copies of one pod's volumes are kept together: if the pod must move, it needs a node that has *all* of them. Layer j (j = 1,
//! 2, ..) is the set of volumes that want more than j copies, and it goes to one node as a whole. Layers are nested, so a node
//! that can take layer j can take every later layer, and picking the best node layer by layer finds a solution if one exists.
//!
//! Where no node can take a whole layer, the copies are spread, by exact search over single copies. With m copies to place it
//! suffices to give each volume its m most wanted nodes: in any solution the other m-1 copies are on at most m-1 nodes, so one of
//! these m is free of them, takes the copy (it can take it alone) and is more wanted than any node beyond the m. Hence the best
//! solution uses only them, and the search does not grow with the cluster.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use crate::cluster::{Cluster, Name, NodeId};
use crate::json;
use crate::lacks::Lacks;
use crate::local::{self, Wanted};
use crate::node::{Node, Pool, Reservation, StorageState};
use crate::pack::{Bin, Item, Packing, pack};
use crate::places::Places;
use crate::quick::Quick;
use crate::reason::{Exclusions, Reason};
use crate::request::{ReplicaState, Request};
use crate::score::{Held, strategy_of};

/// For each volume that wants further copies: where they go. Sorted by volume name; the most wanted place first.
#[derive(Debug)]
pub(crate) struct FarCopies {
    pub(crate) volumes: Vec<(Name, Vec<Place>)>,
    /// At least one copy of each volume is outside the zone of the first (or zones are not known).
    pub(crate) other_zone: bool,
    /// The nodes of all these places.
    nodes: Vec<NodeId>,
}

/// A pool on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    #[serde(serialize_with = "json::name")]
    pub node: Name,
    #[serde(serialize_with = "json::name")]
    pub pool: Name,
}

pub(crate) struct Further<'a> {
    cluster: &'a Cluster,
    request: &'a Request,
    /// Volumes that want more than one copy.
    wanted: Vec<Wanted<'a>>,
    able: Vec<Able<'a>>,
    counts: Exclusions,
    /// For nodes without a zone, and then for those of each zone of the cluster's rows.
    by_zone: Vec<Option<Result<Arc<FarCopies>, Reason>>>,
}

/// A node that can take at least one further copy of at least one volume.
struct Able<'a> {
    id: NodeId,
    node: &'a Node,
    /// The first layer that it can take as a whole.
    layer: Option<u8>,
    /// For each wanted volume: can take that one alone.
    alone: Vec<bool>,
    /// How many of the pod's existing volumes have a usable copy here, so that the pod could move here.
    held: usize,
    room: u64,
}

/// Volumes that go to one node, in the form that rows are compared with.
struct Set<'a> {
    wanted: Vec<Wanted<'a>>,
    quick: Quick,
}

impl<'a> Set<'a> {
    fn new(wanted: Vec<Wanted<'a>>, request: &Request) -> Self {
        Self {
            quick: Quick::new(&wanted, request.strategy),
            wanted,
        }
    }

    /// What is left of the node after these volumes, by which nodes are compared; `None`: they don't fit.
    fn fits(&mut self, cluster: &Cluster, request: &Request, id: NodeId, row: bool) -> Option<u64> {
        if row {
            let left = self.quick.look(cluster.rows(), id, None).ok()?;
            return Some(left.room());
        }
        let node = cluster.node(id)?;
        let plan = local::place(request, &self.wanted, node, Held::default()).ok()?;
        Some(plan.left.room())
    }
}

impl<'a> Further<'a> {
    /// Looks at every node once. `special`: nodes about which rows do not say everything.
    pub(crate) fn new(
        cluster: &'a Cluster,
        request: &'a Request,
        all: &[Wanted<'a>],
        special: &Places,
    ) -> Self {
        let several = |one: &Wanted<'_>| one.new.copies > 1;
        let mut further = Self {
            cluster,
            request,
            wanted: all.iter().copied().filter(several).collect(),
            able: Vec::new(),
            counts: Exclusions::default(),
            by_zone: vec![None; cluster.rows().zones() + 1],
        };
        let set = |wanted| Set::new(wanted, request);
        let mut alone: Vec<Set<'_>> = further.wanted.iter().map(|one| set(vec![*one])).collect();
        let mut layers: Vec<Set<'_>> = (1..=further.layers())
            .map(|layer| set(further.layer(layer)))
            .collect();
        for (id, node) in cluster.entries() {
            let row = cluster.rows().head(id).simple && !special.has(id);
            further.consider((id, node), row, &mut alone, &mut layers);
        }
        further
    }

    fn consider(
        &mut self,
        (id, node): (NodeId, &'a Node),
        row: bool,
        alone: &mut [Set<'a>],
        layers: &mut [Set<'a>],
    ) {
        let counts = &mut self.counts;
        match node.storage {
            StorageState::Absent | StorageState::NodeMissing => return,
            StorageState::Maintain | StorageState::Offline => {
                counts.nodes += 1;
                counts.not_serving += 1;
                return;
            }
            StorageState::Ready => counts.nodes += 1,
        }
        let selected = self.request.constraints.selects(node);
        let tolerated = self.request.constraints.untolerated(node).is_none();
        let allowed = |one: &Wanted<'_>| one.new.anywhere || (selected && tolerated);
        if !self.wanted.iter().any(allowed) {
            *(if selected {
                &mut counts.tainted
            } else {
                &mut counts.not_selected
            }) += 1;
            return;
        }
        let (cluster, request) = (self.cluster, self.request);
        let fits = |set: &mut Set<'a>| {
            let all_allowed = set.wanted.iter().all(allowed);
            let fits = || set.fits(cluster, request, id, row);
            all_allowed.then(fits).flatten()
        };
        let alone: Vec<bool> = alone.iter_mut().map(|set| fits(set).is_some()).collect();
        if !alone.contains(&true) {
            let pool = self
                .wanted
                .iter()
                .any(|one| allowed(one) && node.pools_of(one.new.class).next().is_some());
            *(if pool {
                &mut counts.no_room
            } else {
                &mut counts.no_pool
            }) += 1;
            return;
        }
        let layer = (1u8..)
            .zip(layers)
            .find_map(|(layer, set)| fits(set).map(|room| (layer, room)));
        self.able.push(Able {
            id,
            node,
            layer: layer.map(|(layer, _)| layer),
            alone,
            held: self.held(node),
            room: layer.map_or(u64::MAX, |(_, room)| room),
        });
    }

    fn held(&self, node: &Node) -> usize {
        let usable =
            |copy: &&crate::Replica| copy.node == node.name && copy.state > ReplicaState::Broken;
        self.request
            .bound_volumes()
            .filter(|(_, bound)| bound.copies.iter().any(|copy| usable(&copy)))
            .count()
    }

    /// How many further copies the volume with the most wants.
    fn layers(&self) -> u8 {
        self.wanted
            .iter()
            .map(|one| one.new.copies - 1)
            .max()
            .unwrap_or(0)
    }

    fn layer(&self, layer: u8) -> Vec<Wanted<'a>> {
        self.wanted
            .iter()
            .copied()
            .filter(|one| one.new.copies > layer)
            .collect()
    }

    /// The further copies for a pod on `node`.
    pub(crate) fn beside(&mut self, node: &Node) -> Result<Arc<FarCopies>, Reason> {
        let Some(id) = self.cluster.id(&node.name) else {
            return self.solve(None, None).map(Arc::new);
        };
        match self.elsewhere(id) {
            Ok(found) if found.nodes.contains(&id) => {
                self.solve(node.zone.as_ref(), Some(id)).map(Arc::new)
            }
            as_it_is => as_it_is.clone(),
        }
    }

    /// As [`Self::beside`], only whether the copies are in another zone.
    pub(crate) fn is_in_other_zone(&mut self, id: NodeId) -> Result<bool, Lacks> {
        let lacks = |reason: &Reason| {
            if matches!(reason, Reason::NoFurtherNodes { .. }) {
                Lacks::FURTHER
            } else {
                Lacks::OTHER
            }
        };
        let cluster = self.cluster;
        match self.elsewhere(id) {
            Ok(found) if found.nodes.contains(&id) => {
                let zone = cluster.node(id).and_then(|node| node.zone.as_ref());
                let found = self.solve(zone, Some(id)).map_err(|why| lacks(&why))?;
                Ok(found.other_zone)
            }
            Ok(found) => Ok(found.other_zone),
            Err(reason) => Err(lacks(reason)),
        }
    }

    /// The answer for all nodes of this one's zone that are not used by it.
    fn elsewhere(&mut self, id: NodeId) -> &Result<Arc<FarCopies>, Reason> {
        let zone = self.cluster.rows().head(id).zone.index();
        let at = zone.map_or(0, |zone| zone + 1);
        if self.by_zone[at].is_none() {
            let zone = self.cluster.node(id).and_then(|node| node.zone.as_ref());
            self.by_zone[at] = Some(self.solve(zone, None).map(Arc::new));
        }
        self.by_zone[at]
            .as_ref()
            .expect("it has just been put there")
    }

    fn solve(&self, zone: Option<&Name>, exclude: Option<NodeId>) -> Result<FarCopies, Reason> {
        let places = match self.together(zone, exclude) {
            Some(places) => places,
            None => self.spread(zone, exclude)?,
        };
        let other_zone = |able: &Able<'_>| !same_zone(able.node, zone);
        let mut volumes: Vec<(Name, Vec<Place>)> = Vec::with_capacity(places.len());
        let (mut all_other, mut nodes) = (true, Vec::new());
        for (one, at) in self.wanted.iter().zip(places) {
            all_other &= at.iter().any(|(_, able)| other_zone(able));
            nodes.extend(at.iter().map(|(_, able)| able.id));
            let places = at.into_iter().map(|(place, _)| place);
            volumes.push((one.volume.name.clone(), places.collect()));
        }
        volumes.sort_by(|a, b| a.0.cmp(&b.0));
        nodes.sort_unstable();
        nodes.dedup();
        Ok(FarCopies {
            volumes,
            other_zone: all_other,
            nodes,
        })
    }

    /// Able nodes but the excluded one, with what they are ordered by, the most wanted first: those that hold the pod's
    /// existing volumes, those in another zone, by room, by name.
    fn candidates<'s>(
        &'s self,
        zone: Option<&Name>,
        exclude: Option<NodeId>,
    ) -> impl Iterator<Item = (Preference<'s>, &'s Able<'a>)> {
        let others = self
            .able
            .iter()
            .filter(move |able| Some(able.id) != exclude);
        others.map(move |able| {
            let preference = (
                Reverse(able.held),
                same_zone(able.node, zone),
                Reverse(able.room),
                &able.node.name,
            );
            (preference, able)
        })
    }

    /// Each layer on one node, or nothing.
    fn together<'s>(
        &'s self,
        zone: Option<&Name>,
        exclude: Option<NodeId>,
    ) -> Option<Placed<'s, 'a>> {
        let mut places: Placed<'s, 'a> = vec![Vec::new(); self.wanted.len()];
        let mut used: Vec<NodeId> = Vec::new();
        for layer in 1..=self.layers() {
            let takes = |able: &Able<'a>| {
                able.layer.is_some_and(|from| from <= layer) && !used.contains(&able.id)
            };
            let (_, able) = self
                .candidates(zone, exclude)
                .filter(|(_, able)| takes(able))
                .min_by(|(a, _), (b, _)| a.cmp(b))?;
            used.push(able.id);
            let volumes = self.layer(layer);
            let plan = local::place(self.request, &volumes, able.node, Held::default()).ok()?;
            let volumes = (0..self.wanted.len()).filter(|&k| self.wanted[k].new.copies > layer);
            for (k, pool) in volumes.zip(plan.pools) {
                let place = Place {
                    node: able.node.name.clone(),
                    pool: able.node.pools[pool].name.clone(),
                };
                places[k].push((place, able));
            }
        }
        Some(places)
    }

    /// Each copy by itself.
    fn spread<'s>(
        &'s self,
        zone: Option<&Name>,
        exclude: Option<NodeId>,
    ) -> Result<Placed<'s, 'a>, Reason> {
        let mut order: Vec<_> = self.candidates(zone, exclude).collect();
        order.sort_unstable_by_key(|(rank, _)| *rank);
        let order: Vec<&Able<'a>> = order.into_iter().map(|(_, able)| able).collect();
        let copies: usize = self
            .wanted
            .iter()
            .map(|one| usize::from(one.new.copies) - 1)
            .sum();
        let mut pools = Pools::default();
        let mut items = Vec::with_capacity(copies);
        for (k, one) in self.wanted.iter().enumerate() {
            let able = order.iter().filter(|able| able.alone[k]).take(copies);
            let candidates = able
                .flat_map(|able| self.bins_for(k, able, &mut pools))
                .collect();
            let item = Item {
                group: k,
                size: one.new.size,
                thin: one.new.thin,
                candidates,
            };
            items.extend(std::iter::repeat_n(item, usize::from(one.new.copies) - 1));
        }
        match pack(&items, pools.bins, pools.node_slots) {
            Packing::Impossible => Err(self.refusal()),
            Packing::Undecided => Err(Reason::Undecided { volumes: copies }),
            Packing::Found(found) => {
                let mut places: Placed<'s, 'a> = vec![Vec::new(); self.wanted.len()];
                for (item, bin) in items.iter().zip(found) {
                    let (able, pool) = pools.at[bin];
                    let place = Place {
                        node: able.node.name.clone(),
                        pool: pool.name.clone(),
                    };
                    places[item.group].push((place, able));
                }
                Ok(places)
            }
        }
    }

    /// The node's pools that can take volume `k` alone, the most wanted first.
    fn bins_for<'s>(
        &'s self,
        k: usize,
        able: &'s Able<'a>,
        pools: &mut Pools<'s, 'a>,
    ) -> Vec<usize> {
        let node = able.node;
        let mine = |held: &Reservation| self.request.owns(held);
        let first = *pools.first_of.entry(able.id).or_insert_with(|| {
            let used = node.volumes(mine);
            let slots = node.volume_limit.map(|limit| limit.saturating_sub(used));
            pools.node_slots.push(slots.unwrap_or(u64::MAX));
            let first = pools.bins.len();
            let node_index = pools.node_slots.len() - 1;
            for pool in &node.pools {
                let room = node.room(pool, mine);
                pools.bins.push(local::bin(node_index, pool, &room));
                pools.at.push((able, pool));
            }
            first
        });
        let new = self.wanted[k].new;
        let strategy = strategy_of(std::iter::once(new), self.request.strategy);
        let of_class = (0..node.pools.len()).filter(|&p| node.pools[p].class == new.class);
        let by_preference = local::pools_by_preference(self.request, strategy, node, of_class);
        local::candidates(&self.wanted, k, &by_preference)
            .into_iter()
            .map(|at| first + by_preference[at].0)
            .collect()
    }

    /// Why there is no place, if there is none.
    pub(crate) fn refusal(&self) -> Reason {
        let mut claims: Vec<Name> = self
            .wanted
            .iter()
            .map(|one| one.volume.claim.clone())
            .collect();
        claims.sort();
        Reason::NoFurtherNodes {
            claims,
            copies: self.layers() + 1,
            able: self.able.len(),
            counts: self.counts,
        }
    }
}

type Preference<'s> = (Reverse<usize>, bool, Reverse<u64>, &'s Name);

/// Zones that are not known are not the same.
fn same_zone(node: &Node, zone: Option<&Name>) -> bool {
    zone.is_some() && node.zone.as_ref() == zone
}

/// For each wanted volume, its places and their nodes.
type Placed<'s, 'a> = Vec<Vec<(Place, &'s Able<'a>)>>;

/// The pools that take part in a search over several nodes.
#[derive(Default)]
struct Pools<'s, 'a> {
    bins: Vec<Bin>,
    /// What each bin is.
    at: Vec<(&'s Able<'a>, &'a Pool)>,
    node_slots: Vec<u64>,
    /// The bin of a node's first pool; the others follow.
    first_of: HashMap<NodeId, usize>,
}
