//! Several new volumes on one node: which pool for each, or which pool lacks what.
//!
//! Almost always a node has one pool of a class, and then fitting is a sum. Where somebody made a second volume group of the
//! same class it is a packing.

use crate::cluster::Name;
use crate::node::{Node, Pool, PoolHealth, Room};
use crate::pack::{Bin, Item, Packing, pack};
use crate::reason::{Lack, PoolLeft, Reason, Reserved};
use crate::request::{NewVolume, Request, Strategy, Volume};
use crate::score::{Held, Left, Needed, OfClass, strategy_of};
use crate::units::Bytes;

/// A new volume of the request.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) volume: &'a Volume,
    pub(crate) new: &'a NewVolume,
}

/// The request's new volumes, largest first, ties by name: independent of the order they were given in.
pub(crate) fn wanted(request: &Request) -> Vec<Wanted<'_>> {
    let mut all: Vec<Wanted<'_>> = request
        .new_volumes()
        .map(|(volume, new)| Wanted { volume, new })
        .collect();
    all.sort_by(|a, b| {
        b.new
            .size
            .cmp(&a.new.size)
            .then_with(|| a.volume.name.cmp(&b.volume.name))
    });
    all
}

/// Where each wanted volume goes on the node (index into `node.pools`), and what that leaves.
pub(crate) struct Local {
    pub(crate) pools: Vec<usize>,
    pub(crate) left: Left,
}

/// Places one copy of each wanted volume on this node, or says everything that stands against it. `held`: for others, which
/// matters only for what is left.
pub(crate) fn place(
    request: &Request,
    wanted: &[Wanted<'_>],
    node: &Node,
    held: Held,
) -> Result<Local, Vec<Reason>> {
    let mut plan = Local {
        pools: vec![0; wanted.len()],
        left: Left::ALL,
    };
    let mut reasons = Vec::new();
    for (i, one) in wanted.iter().enumerate() {
        let class = one.new.class;
        if wanted[..i].iter().any(|earlier| earlier.new.class == class) {
            continue;
        }
        let mine: Vec<usize> = (i..wanted.len())
            .filter(|&k| wanted[k].new.class == class)
            .collect();
        let mut pools = (0..node.pools.len()).filter(|&p| node.pools[p].class == class);
        let done = match (pools.next(), pools.next()) {
            (None, _) => Err(vec![Reason::NoPool {
                class,
                claims: claims(wanted, &mine),
                needed: mine.iter().map(|&k| wanted[k].new.size).sum(),
            }]),
            (Some(pool), None) => {
                into_one_pool(request, wanted, &mine, node, pool, &mut plan.pools)
            }
            (Some(_), Some(_)) => into_several_pools(request, wanted, &mine, node, &mut plan.pools),
        };
        match done {
            Ok(()) => account(request, wanted, &mine, node, held.of(class), &mut plan),
            Err(mut why) => reasons.append(&mut why),
        }
    }
    if let Some(limit) = node.volume_limit {
        let used = node.volumes(|held| request.owns(held));
        let volumes = wanted.len() as u64;
        if used.saturating_add(volumes) > limit && volumes > 0 {
            reasons.push(Reason::NodeFull {
                volumes,
                used: node.volumes(|_| true),
                limit,
                reserved: Reserved::default(),
            });
        }
    }
    if reasons.is_empty() {
        Ok(plan)
    } else {
        Err(reasons)
    }
}

fn claims(wanted: &[Wanted<'_>], which: &[usize]) -> Vec<Name> {
    let mut claims: Vec<Name> = which
        .iter()
        .map(|&k| wanted[k].volume.claim.clone())
        .collect();
    claims.sort();
    claims
}

fn into_one_pool(
    request: &Request,
    wanted: &[Wanted<'_>],
    mine: &[usize],
    node: &Node,
    index: usize,
    places: &mut [usize],
) -> Result<(), Vec<Reason>> {
    let pool = &node.pools[index];
    let room = node.room(pool, |held| request.owns(held));
    let reasons = against(wanted, mine, pool, &room);
    if !reasons.is_empty() {
        return Err(reasons);
    }
    for &k in mine {
        places[k] = index;
    }
    Ok(())
}

/// Everything that stands against all of these volumes in this pool.
fn against(wanted: &[Wanted<'_>], mine: &[usize], pool: &Pool, room: &Room) -> Vec<Reason> {
    if pool.health == PoolHealth::Failed {
        return vec![Reason::Pool {
            pool: pool.name.clone(),
            class: Some(pool.class),
            lack: Lack::Health,
        }];
    }
    let mut lacks = Vec::new();
    let (needed, volumes) = need(wanted, mine, pool, false);
    if volumes > 0 {
        match room.free.zip(pool.total) {
            None => lacks.push(Lack::Capacity { needed }),
            Some((free, total)) if needed > free => {
                lacks.push(Lack::Room {
                    volumes,
                    needed,
                    free,
                    total,
                    used: pool.used,
                    extent: pool.extent,
                    reserved: Reserved::default(),
                });
            }
            Some(_) => {}
        }
    }
    let (needed, volumes) = need(wanted, mine, pool, true);
    if volumes > 0 {
        match room.thin_free.zip(pool.thin) {
            None => lacks.push(Lack::ThinPool { needed }),
            Some((free, thin_pool)) if needed > free => {
                lacks.push(Lack::ThinRoom {
                    volumes,
                    needed,
                    free,
                    limit: thin_pool.limit,
                    promised: thin_pool.promised,
                    extent: pool.extent,
                    reserved: Reserved::default(),
                });
            }
            Some(_) => {}
        }
    }
    if let Some((slots, limit)) = room.slots.zip(pool.volume_limit) {
        let volumes = mine.len() as u64;
        if volumes > slots {
            lacks.push(Lack::Slots {
                volumes,
                free: slots,
                used: pool.volumes,
                limit,
                reserved: Reserved::default(),
            });
        }
    }
    let largest = pool.volume_size_limit.unwrap_or(Bytes(u64::MAX));
    lacks.extend(
        mine.iter()
            .filter(|&&k| wanted[k].new.size > largest)
            .map(|&k| Lack::VolumeSize {
                claim: wanted[k].volume.claim.clone(),
                needed: wanted[k].new.size,
                limit: largest,
            }),
    );
    lacks
        .into_iter()
        .map(|lack| Reason::Pool {
            pool: pool.name.clone(),
            class: Some(pool.class),
            lack,
        })
        .collect()
}

/// What the thick (or thin) ones among these volumes need in this pool, and how many they are.
fn need(wanted: &[Wanted<'_>], mine: &[usize], pool: &Pool, thin: bool) -> (Bytes, usize) {
    let sizes = mine
        .iter()
        .filter(|&&k| wanted[k].new.thin == thin)
        .map(|&k| wanted[k].new.size.round_up(pool.extent));
    sizes.fold((Bytes::ZERO, 0), |(sum, count), size| {
        (sum + size, count + 1)
    })
}

/// Takes note of what volumes of one class, which have their pools, leave in the pools of that class together. It does not
/// matter which pool got which, so that more room in any of them never looks like less.
fn account(
    request: &Request,
    wanted: &[Wanted<'_>],
    mine: &[usize],
    node: &Node,
    held: Needed,
    plan: &mut Local,
) {
    let (mut pools, mut needed) = (OfClass::default(), Needed::default());
    let mut health = PoolHealth::Healthy;
    let Some(&first) = mine.first() else {
        return;
    };
    let class = wanted[first].new.class;
    for (index, pool) in node.pools.iter().enumerate() {
        if pool.class != class || pool.health == PoolHealth::Failed {
            continue;
        }
        let room = node.room(pool, |held| request.owns(held));
        if let (Some(free), Some(total)) = (room.free, pool.total) {
            pools.free = pools.free + free;
            pools.total = pools.total + total;
        }
        if let (Some(free), Some(thin)) = (room.thin_free, pool.thin) {
            pools.thin_free = pools.thin_free + free;
            pools.thin_limit = pools.thin_limit + thin.limit;
        }
        let here: Vec<usize> = mine
            .iter()
            .copied()
            .filter(|&k| plan.pools[k] == index)
            .collect();
        needed.thick = needed.thick + need(wanted, &here, pool, false).0;
        needed.thin = needed.thin + need(wanted, &here, pool, true).0;
        if !here.is_empty() {
            health = health.min(pool.health);
        }
    }
    let strategy = strategy_of(mine.iter().map(|&k| wanted[k].new), request.strategy);
    plan.left.take(&pools, needed, held, health, strategy);
}

fn into_several_pools(
    request: &Request,
    wanted: &[Wanted<'_>],
    mine: &[usize],
    node: &Node,
    places: &mut [usize],
) -> Result<(), Vec<Reason>> {
    let Some(&first) = mine.first() else {
        return Ok(());
    };
    let class = wanted[first].new.class;
    let of_class = (0..node.pools.len()).filter(|&p| node.pools[p].class == class);
    let strategy = strategy_of(mine.iter().map(|&k| wanted[k].new), request.strategy);
    let pools = pools_by_preference(request, strategy, node, of_class);
    let mut reasons = Vec::new();
    let mut items = Vec::with_capacity(mine.len());
    for &k in mine {
        let candidates = candidates(wanted, k, &pools);
        if candidates.is_empty() {
            reasons.extend(
                pools
                    .iter()
                    .flat_map(|(_, pool, room)| against(wanted, &[k], pool, room)),
            );
        }
        items.push(Item {
            group: k,
            size: wanted[k].new.size,
            thin: wanted[k].new.thin,
            candidates,
        });
    }
    if !reasons.is_empty() {
        return Err(reasons);
    }
    let bins = pools
        .iter()
        .map(|(_, pool, room)| bin(0, pool, room))
        .collect();
    match pack(&items, bins, vec![u64::MAX]) {
        Packing::Impossible => Err(vec![Reason::NoPacking {
            class,
            volumes: mine.len(),
            needed: needed(wanted, mine, &pools),
            pools: pools.iter().map(left).collect(),
        }]),
        Packing::Undecided => Err(vec![Reason::Undecided {
            volumes: mine.len(),
        }]),
        Packing::Found(found) => {
            for (&k, bin) in mine.iter().zip(found) {
                places[k] = pools[bin].0;
            }
            Ok(())
        }
    }
}

/// The sum of the volumes, each rounded up to the largest extents that it may come to lie in.
fn needed(wanted: &[Wanted<'_>], mine: &[usize], pools: &[(usize, &Pool, Room)]) -> Bytes {
    let extent = pools.iter().map(|(_, pool, _)| pool.extent).max();
    let rounded = |&k: &usize| wanted[k].new.size.round_up(extent.unwrap_or_default());
    mine.iter().map(rounded).sum()
}

fn left((_, pool, room): &(usize, &Pool, Room)) -> PoolLeft {
    PoolLeft {
        pool: pool.name.clone(),
        free: room.free,
        thin_free: room.thin_free,
    }
}

/// Healthy before degraded, then by room left as the strategy has it, then by name.
pub(crate) fn pools_by_preference<'n>(
    request: &Request,
    strategy: Strategy,
    node: &'n Node,
    which: impl Iterator<Item = usize>,
) -> Vec<(usize, &'n Pool, Room)> {
    let with_room = |index: usize| {
        let pool = &node.pools[index];
        (index, pool, node.room(pool, |held| request.owns(held)))
    };
    let mut pools: Vec<_> = which.map(with_room).collect();
    pools.sort_by(|(_, a, room_a), (_, b, room_b)| {
        let by_room = match strategy {
            Strategy::Spread => room_b.free.cmp(&room_a.free),
            Strategy::BinPack => room_a.free.cmp(&room_b.free),
        };
        b.health
            .cmp(&a.health)
            .then(by_room)
            .then_with(|| a.name.cmp(&b.name))
    });
    pools
}

/// Which of the pools can take this one volume by itself.
pub(crate) fn candidates(
    wanted: &[Wanted<'_>],
    k: usize,
    pools: &[(usize, &Pool, Room)],
) -> Vec<usize> {
    let fits = |b: &usize| against(wanted, &[k], pools[*b].1, &pools[*b].2).is_empty();
    (0..pools.len()).filter(fits).collect()
}

pub(crate) fn bin(node: usize, pool: &Pool, room: &Room) -> Bin {
    Bin {
        node,
        extent: pool.extent,
        free: room.free.map_or(0, |free| free.0),
        thin_free: room.thin_free.map_or(0, |free| free.0),
        slots: room.slots.unwrap_or(u64::MAX),
    }
}
