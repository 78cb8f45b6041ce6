//! What is on which node, as numbers and names.

use super::random::Random;

pub(super) const EXTENT: u64 = 4 << 20;
const GIB: u64 = 1 << 30;

/// Of a node's three pools: class, smallest and largest size in GiB, and how many of ten volumes are there.
const POOLS: [(&str, u64, u64, u64); 3] = [
    ("HDD", 4000, 16000, 2),
    ("SSD", 1000, 4000, 5),
    ("NVMe", 800, 3200, 3),
];

pub(super) struct Node {
    pub(super) name: String,
    pub(super) zone: &'static str,
    pub(super) rack: u64,
    pub(super) instance: &'static str,
    pub(super) dedicated: bool,
    pub(super) cordoned: bool,
    pub(super) state: &'static str,
    pub(super) pools: Vec<Pool>,
    pub(super) pods: Vec<Pod>,
}

pub(super) struct Pool {
    pub(super) class: &'static str,
    pub(super) total: u64,
    /// Volumes that are made, and what is not ours.
    pub(super) used: u64,
    pub(super) failed: bool,
    /// Names of the volumes that are made.
    pub(super) volumes: Vec<String>,
}

impl Pool {
    pub(super) fn name(&self) -> String {
        pool_name(self.class)
    }
}

pub(super) fn pool_name(class: &str) -> String {
    format!("LocalStorage_Pool{class}")
}

/// A pod with volumes on its node; if they are not made yet, their room is reserved.
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) volumes: Vec<Volume>,
}

pub(super) struct Volume {
    pub(super) uid: String,
    pub(super) claim: String,
    pub(super) class: &'static str,
    pub(super) size: u64,
    pub(super) made: bool,
    pub(super) state: &'static str,
}

impl Volume {
    pub(super) fn name(&self) -> String {
        format!("pvc-{}", self.uid)
    }
}

/// A pod that waits for a node.
pub(super) struct Pending {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) zone: Option<&'static str>,
    pub(super) tolerates: bool,
    /// Name, uid, class and size of each claim.
    pub(super) claims: [(String, String, &'static str, u64); 2],
}

const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

/// How many volumes each node gets. Of two nodes drawn for each volume the one that is wanted more gets it, so that some nodes
/// have several times as many as others.
pub(super) fn volumes_of_nodes(random: &mut Random, nodes: u32, volumes: u32) -> Vec<u32> {
    let nodes = u64::from(nodes);
    let wanted: Vec<u64> = (0..nodes).map(|_| random.next()).collect();
    let mut counts = vec![0u32; wanted.len()];
    let draw = |random: &mut Random| usize::try_from(random.below(nodes)).unwrap_or(0);
    for _ in 0..volumes {
        let (a, b) = (draw(random), draw(random));
        counts[if wanted[a] >= wanted[b] { a } else { b }] += 1;
    }
    counts
}

pub(super) fn node(random: &mut Random, index: u32, volumes: u32) -> Node {
    let state = match random.below(1000) {
        0..5 => "Maintain",
        5..12 => "Offline",
        _ => "Ready",
    };
    let mut node = Node {
        name: format!("worker-{index:05}"),
        zone: random.pick::<&str>(&ZONES),
        rack: random.below(40),
        instance: random.pick::<&str>(&["bare-32", "bare-64", "bare-128"]),
        dedicated: random.permille(30),
        cordoned: random.permille(10),
        state,
        pools: POOLS.iter().map(|pool| empty_pool(random, *pool)).collect(),
        pods: Vec::new(),
    };
    node.pods = pods(random, index, volumes);
    fill(random, &mut node);
    if random.permille(40) {
        reserve(random, index, &mut node);
    }
    node
}

fn empty_pool(random: &mut Random, (class, least, most, _): (&'static str, u64, u64, u64)) -> Pool {
    Pool {
        class,
        total: random.between(least, most) * GIB,
        used: 0,
        failed: random.permille(5),
        volumes: Vec::new(),
    }
}

/// Pods of one or two volumes each; sizes come later.
fn pods(random: &mut Random, node: u32, volumes: u32) -> Vec<Pod> {
    let mut pods = Vec::new();
    let mut left = volumes;
    while left > 0 {
        let wanted = if random.permille(700) { 2 } else { 1 };
        let count = left.min(wanted);
        left -= count;
        let name = format!("db-{node}-{}", pods.len());
        let volumes = ["data", "log"].into_iter().take(count as usize);
        let volumes = volumes
            .map(|of| a_volume(random, &format!("{of}-{name}")))
            .collect();
        pods.push(Pod {
            namespace: format!("team-{:03}", random.below(200)),
            uid: random.uid(),
            name,
            volumes,
        });
    }
    pods
}

fn a_volume(random: &mut Random, claim: &str) -> Volume {
    let of_ten = random.below(10);
    let mut classes = POOLS.iter().scan(0, |sum, (class, _, _, share)| {
        *sum += share;
        Some((*sum, *class))
    });
    let class = classes.find(|(upto, _)| of_ten < *upto);
    let state = match random.below(1000) {
        0..10 => "Creating",
        10..15 => "NotReady",
        _ => "Ready",
    };
    Volume {
        uid: random.uid(),
        claim: claim.to_owned(),
        class: class.map_or("SSD", |(_, class)| class),
        size: 0,
        made: true,
        state,
    }
}

/// Divides a part of each pool, from little to nearly all, among the volumes that are there.
fn fill(random: &mut Random, node: &mut Node) {
    for pool in &mut node.pools {
        let foreign = if random.permille(50) {
            pool.total / 100
        } else {
            0
        };
        let mine = node.pods.iter_mut().flat_map(|pod| &mut pod.volumes);
        let mine: Vec<&mut Volume> = mine.filter(|volume| volume.class == pool.class).collect();
        // The mean of two draws: most pools are half full, few are nearly empty or full.
        let percent = random.between(2, 98).midpoint(random.between(2, 98));
        let percent = if random.permille(100) {
            random.between(90, 98)
        } else {
            percent
        };
        let weights: Vec<u64> = mine.iter().map(|_| 1 << random.below(6)).collect();
        let sum: u64 = weights.iter().sum();
        let room = pool.total / 100 * percent;
        for (volume, weight) in mine.into_iter().zip(weights) {
            // Rounded down, so that all together never exceed it; a pool of 800 GiB holds more than 100,000 extents.
            volume.size = (room / sum * weight / EXTENT).max(1) * EXTENT;
            pool.used += volume.size;
            pool.volumes.push(volume.name());
        }
        pool.used = (pool.used + foreign / EXTENT * EXTENT).min(pool.total);
    }
}

/// A pod was sent here, its volumes are not made yet.
fn reserve(random: &mut Random, index: u32, node: &mut Node) {
    let name = format!("new-{index}");
    let mut volumes = Vec::new();
    for (of, class) in [("data", "SSD"), ("log", "NVMe")] {
        let free = node.pools.iter().find(|pool| pool.class == class);
        let free = free.map_or(0, |pool| pool.total - pool.used);
        if free < 2 * GIB {
            continue;
        }
        let mut volume = a_volume(random, &format!("{of}-{name}"));
        volume.class = class;
        volume.size = (free / random.between(2, 20) / EXTENT).max(1) * EXTENT;
        volume.made = false;
        volumes.push(volume);
    }
    if !volumes.is_empty() {
        node.pods.push(Pod {
            namespace: "team-new".to_owned(),
            name,
            uid: random.uid(),
            volumes,
        });
    }
}

pub(super) fn pending(random: &mut Random, index: u32) -> Pending {
    let name = format!("pending-{index:05}");
    let mut claim = |of: &str, classes: &[&'static str]| {
        let gib = *random.pick(&[5, 10, 20, 50, 100, 400]);
        let class = *random.pick(classes);
        (format!("{of}-{name}"), random.uid(), class, gib * GIB)
    };
    let claims = [
        claim(
            "data",
            &["local-ssd", "local-ssd", "local-hdd", "local-ssd-packed"],
        ),
        claim("log", &["local-nvme", "local-ssd"]),
    ];
    Pending {
        uid: random.uid(),
        zone: random.permille(100).then(|| *random.pick(&ZONES)),
        tolerates: random.permille(50),
        name,
        claims,
    }
}

/// A pod that no node has room for.
pub(super) fn too_large(random: &mut Random) -> Pending {
    let mut claim = |of: &str, class| {
        let size = 1024 * 1024 * GIB;
        (format!("{of}-too-large"), random.uid(), class, size)
    };
    let claims = [claim("data", "local-ssd"), claim("log", "local-nvme")];
    Pending {
        name: "too-large".to_owned(),
        uid: random.uid(),
        zone: None,
        tolerates: false,
        claims,
    }
}
