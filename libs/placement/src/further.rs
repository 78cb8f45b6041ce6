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

use crate::cluster::{Cluster, Name, Node, Pool, Reservation, StorageState};
use crate::json;
use crate::local::{self, Wanted};
use crate::pack::{Bin, Item, Packing, pack};
use crate::reason::{Exclusions, Reason};
use crate::request::{ReplicaState, Request};
use crate::score::RoomLeft;

/// For each volume that wants further copies: where they go. Sorted by volume name; the most wanted place first.
#[derive(Debug)]
pub(crate) struct FarCopies {
    pub(crate) volumes: Vec<(Name, Vec<Place>)>,
    /// At least one copy of each volume is outside the zone of the first (or zones are not known).
    pub(crate) other_zone: bool,
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
    request: &'a Request,
    /// Volumes that want more than one copy.
    wanted: Vec<Wanted<'a>>,
    able: Vec<Able<'a>>,
    counts: Exclusions,
    by_zone: HashMap<Option<Name>, Result<Arc<FarCopies>, Reason>>,
}

/// A node that can take at least one further copy of at least one volume.
struct Able<'a> {
    node: &'a Node,
    /// The first layer that it can take as a whole.
    layer: Option<u8>,
    /// For each wanted volume: can take that one alone.
    alone: Vec<bool>,
    /// How many of the pod's existing volumes have a usable copy here, so that the pod could move here.
    held: usize,
    room: u64,
}

impl<'a> Further<'a> {
    /// Looks at every node once. Without volumes that want several copies it looks at none.
    pub(crate) fn new(cluster: &'a Cluster, request: &'a Request, all: &[Wanted<'a>]) -> Self {
        let wanted: Vec<Wanted<'a>> = all
            .iter()
            .copied()
            .filter(|one| one.new.copies > 1)
            .collect();
        let mut further = Self {
            request,
            wanted,
            able: Vec::new(),
            counts: Exclusions::default(),
            by_zone: HashMap::new(),
        };
        if !further.wanted.is_empty() {
            for node in cluster.nodes() {
                further.consider(node);
            }
        }
        further
    }

    pub(crate) fn is_needed(&self) -> bool {
        !self.wanted.is_empty()
    }

    fn consider(&mut self, node: &'a Node) {
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
        let fits = |wanted: &[Wanted<'_>]| local::place(self.request, wanted, node);
        let alone: Vec<bool> = self
            .wanted
            .iter()
            .map(|one| allowed(one) && fits(&[*one]).is_ok())
            .collect();
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
        let layers = (1..=self.layers()).find_map(|layer| {
            let all = self.layer(layer);
            if !all.iter().all(allowed) {
                return None;
            }
            fits(&all).ok().map(|plan| (layer, plan.room))
        });
        let room = layers
            .map_or(RoomLeft::ALL, |(_, room)| room)
            .key(self.request.strategy);
        self.able.push(Able {
            node,
            layer: layers.map(|(layer, _)| layer),
            alone,
            held: self.held(node),
            room,
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
        let zone = node.zone.clone();
        let anywhere = if let Some(known) = self.by_zone.get(&zone) {
            known.clone()
        } else {
            let found = self.solve(zone.as_ref(), None).map(Arc::new);
            self.by_zone.insert(zone.clone(), found.clone());
            found
        };
        let uses_node = |found: &FarCopies| {
            found
                .volumes
                .iter()
                .flat_map(|(_, at)| at)
                .any(|at| at.node == node.name)
        };
        match anywhere {
            Ok(found) if uses_node(&found) => {
                self.solve(zone.as_ref(), Some(&node.name)).map(Arc::new)
            }
            as_it_is => as_it_is,
        }
    }

    fn solve(&self, zone: Option<&Name>, exclude: Option<&Name>) -> Result<FarCopies, Reason> {
        let order = self.by_preference(zone, exclude);
        let places = match self.together(&order) {
            Some(places) => places,
            None => self.spread(&order)?,
        };
        let other_zone = |at: &(Place, &Node)| {
            zone.is_none() || at.1.zone.is_none() || at.1.zone.as_ref() != zone
        };
        let mut volumes: Vec<(Name, Vec<Place>)> = Vec::with_capacity(places.len());
        let mut all_other = true;
        for (one, at) in self.wanted.iter().zip(&places) {
            all_other &= at.iter().any(other_zone);
            volumes.push((
                one.volume.name.clone(),
                at.iter().map(|(place, _)| place.clone()).collect(),
            ));
        }
        volumes.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(FarCopies {
            volumes,
            other_zone: all_other,
        })
    }

    /// The able nodes, the most wanted first: those that hold the pod's existing volumes, those in another zone, by room, by name.
    fn by_preference(&self, zone: Option<&Name>, exclude: Option<&Name>) -> Vec<&Able<'a>> {
        let mut order: Vec<&Able<'a>> = self
            .able
            .iter()
            .filter(|able| Some(&able.node.name) != exclude)
            .collect();
        let same_zone = |able: &Able<'_>| zone.is_some() && able.node.zone.as_ref() == zone;
        order.sort_by_cached_key(|able| {
            (
                Reverse(able.held),
                same_zone(able),
                Reverse(able.room),
                able.node.name.clone(),
            )
        });
        order
    }

    /// Each layer on one node, or nothing.
    fn together(&self, order: &[&Able<'a>]) -> Option<Placed<'a>> {
        let mut places = vec![Vec::new(); self.wanted.len()];
        let mut used: Vec<&Name> = Vec::new();
        for layer in 1..=self.layers() {
            let takes = |able: &&&Able<'a>| {
                able.layer.is_some_and(|from| from <= layer) && !used.contains(&&able.node.name)
            };
            let able = order.iter().find(takes)?;
            used.push(&able.node.name);
            let plan = local::place(self.request, &self.layer(layer), able.node).ok()?;
            let volumes = (0..self.wanted.len()).filter(|&k| self.wanted[k].new.copies > layer);
            for (k, pool) in volumes.zip(plan.pools) {
                let pool = able.node.pools[pool].name.clone();
                places[k].push((
                    Place {
                        node: able.node.name.clone(),
                        pool,
                    },
                    able.node,
                ));
            }
        }
        Some(places)
    }

    /// Each copy by itself.
    fn spread(&self, order: &[&Able<'a>]) -> Result<Placed<'a>, Reason> {
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
                .flat_map(|able| self.bins_for(k, able.node, &mut pools))
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
                let mut places = vec![Vec::new(); self.wanted.len()];
                for (item, bin) in items.iter().zip(found) {
                    let (node, pool) = pools.at[bin];
                    let place = Place {
                        node: node.name.clone(),
                        pool: pool.name.clone(),
                    };
                    places[item.group].push((place, node));
                }
                Ok(places)
            }
        }
    }

    /// The node's pools that can take volume `k` alone, the most wanted first.
    fn bins_for(&self, k: usize, node: &'a Node, pools: &mut Pools<'a>) -> Vec<usize> {
        let mine = |held: &Reservation| self.request.owns(held);
        let first = *pools.first_of.entry(&node.name).or_insert_with(|| {
            let used = node.volumes(mine);
            let slots = node.volume_limit.map(|limit| limit.saturating_sub(used));
            pools.node_slots.push(slots.unwrap_or(u64::MAX));
            let first = pools.bins.len();
            let node_index = pools.node_slots.len() - 1;
            for pool in &node.pools {
                let room = node.room(pool, mine);
                pools.bins.push(local::bin(node_index, pool, &room));
                pools.at.push((node, pool));
            }
            first
        });
        let class = self.wanted[k].new.class;
        let of_class = (0..node.pools.len()).filter(|&p| node.pools[p].class == class);
        let by_preference = local::pools_by_preference(self.request, node, of_class);
        local::candidates(&self.wanted, k, &by_preference)
            .into_iter()
            .map(|at| first + by_preference[at].0)
            .collect()
    }

    fn refusal(&self) -> Reason {
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

/// For each wanted volume, its places and their nodes.
type Placed<'a> = Vec<Vec<(Place, &'a Node)>>;

/// The pools that take part in a search over several nodes.
#[derive(Default)]
struct Pools<'a> {
    bins: Vec<Bin>,
    /// What each bin is.
    at: Vec<(&'a Node, &'a Pool)>,
    node_slots: Vec<u64>,
    /// The bin of a node's first pool; the others follow.
    first_of: HashMap<&'a str, usize>,
}
