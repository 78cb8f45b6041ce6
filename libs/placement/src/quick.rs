//! New volumes against a node's row: fits and how well, or what lacks. Says the same as `local::place`, without looking at the
//! node, for nodes that have one pool of each class and no reservation of the request's own.

use crate::cluster::NodeId;
use crate::lacks::{Lacks, OfNode, OfPool};
use crate::local::Wanted;
use crate::node::{PoolClass, PoolHealth};
use crate::request::Strategy;
use crate::rows::{PoolRow, Rows};
use crate::score::{Held, Left, Needed, OfClass};
use crate::units::Bytes;

/// A request's new volumes (or some of them), by class.
#[derive(Clone, Debug)]
pub(crate) struct Quick {
    groups: Vec<Group>,
    volumes: u32,
}

#[derive(Clone, Debug)]
struct Group {
    class: PoolClass,
    strategy: Strategy,
    thick: Vec<Bytes>,
    thin: Vec<Bytes>,
    largest: Bytes,
    /// What they need in extents of the last pool's size: pools of different extents are rare.
    extent: u64,
    need: Needed,
}

impl Quick {
    pub(crate) fn new(wanted: &[Wanted<'_>], default: Strategy) -> Self {
        let group = |class: PoolClass| {
            let of_class = || wanted.iter().filter(move |one| one.new.class == class);
            let sizes = |thin: bool| of_class().filter(move |one| one.new.thin == thin);
            let sizes = |thin| sizes(thin).map(|one| one.new.size).collect::<Vec<_>>();
            let largest = of_class().map(|one| one.new.size).max()?;
            Some(Group {
                class,
                strategy: crate::score::strategy_of(of_class().map(|one| one.new), default),
                thick: sizes(false),
                thin: sizes(true),
                largest,
                extent: 0,
                need: Needed::default(),
            })
        };
        Self {
            groups: PoolClass::ALL.into_iter().filter_map(group).collect(),
            volumes: u32::try_from(wanted.len()).unwrap_or(u32::MAX),
        }
    }

    /// The node must be a `simple` one whose storage is in service.
    #[inline]
    pub(crate) fn look(
        &mut self,
        rows: &Rows,
        node: NodeId,
        others: Option<&Held>,
    ) -> Result<Left, Lacks> {
        let (mut left, mut lacks) = (Left::ALL, Lacks::NOTHING);
        for group in &mut self.groups {
            let row = rows.pool(group.class, node);
            let Some(health) = row.health else {
                lacks = lacks.with_pool(group.class, OfPool::Missing);
                continue;
            };
            if health == PoolHealth::Failed {
                lacks = lacks.with_pool(group.class, OfPool::Failed);
                continue;
            }
            let need = group.need(row.extent);
            let fits = compare(&group.thick, &group.thin, group.largest, need, row);
            if !fits {
                lacks = causes(lacks, group, need, row);
                continue;
            }
            let of_class = OfClass {
                free: Bytes(row.free),
                total: Bytes(row.total),
                thin_free: Bytes(row.thin_free),
                thin_limit: Bytes(row.thin_limit),
            };
            let held = others.map(|held| held.of(group.class)).unwrap_or_default();
            left.take(&of_class, need, held, health, group.strategy);
        }
        let head = rows.head(node);
        if self.volumes > head.slots {
            lacks = lacks.with(if self.volumes > head.slot_limit {
                OfNode::SlotLimit
            } else {
                OfNode::Slots
            });
        }
        if lacks == Lacks::NOTHING {
            Ok(left)
        } else {
            Err(lacks)
        }
    }

    /// How much is missing on such a node, as `Reason::missing` over all of its reasons.
    pub(crate) fn missing(&mut self, rows: &Rows, node: NodeId) -> u128 {
        let slots = self.volumes.saturating_sub(rows.head(node).slots);
        let of_classes = self.groups.iter_mut().map(|group| {
            let row = rows.pool(group.class, node);
            let works = row.health.is_some_and(|health| health > PoolHealth::Failed);
            if works { group.missing(row) } else { 0 }
        });
        u128::from(slots) + of_classes.sum::<u128>()
    }
}

#[inline]
fn compare(thick: &[Bytes], thin: &[Bytes], largest: Bytes, need: Needed, row: &PoolRow) -> bool {
    let volumes = thick.len() + thin.len();
    (thick.is_empty() || (row.known && need.thick.0 <= row.free))
        && (thin.is_empty() || (row.thin && need.thin.0 <= row.thin_free))
        && volumes <= row.slots as usize
        && largest.0 <= row.largest
}

fn causes(mut lacks: Lacks, group: &Group, need: Needed, row: &PoolRow) -> Lacks {
    let mut add = |cause| lacks = lacks.with_pool(group.class, cause);
    if !group.thick.is_empty() {
        if !row.known {
            add(OfPool::UnknownCapacity);
        } else if need.thick.0 > row.total {
            add(OfPool::Total);
        } else if need.thick.0 > row.free {
            add(OfPool::Room);
        }
    }
    if !group.thin.is_empty() {
        if !row.thin {
            add(OfPool::ThinPool);
        } else if need.thin.0 > row.thin_limit {
            add(OfPool::ThinLimit);
        } else if need.thin.0 > row.thin_free {
            add(OfPool::ThinRoom);
        }
    }
    let volumes = group.thick.len() + group.thin.len();
    if volumes > row.slot_limit as usize {
        add(OfPool::SlotLimit);
    } else if volumes > row.slots as usize {
        add(OfPool::Slots);
    }
    if group.largest.0 > row.largest {
        add(OfPool::VolumeSize);
    }
    lacks
}

impl Group {
    fn missing(&mut self, row: &PoolRow) -> u128 {
        let need = self.need(row.extent);
        let mut missing = 0;
        if !self.thick.is_empty() && row.known {
            missing += u128::from(need.thick.0.saturating_sub(row.free));
        }
        if !self.thin.is_empty() && row.thin {
            missing += u128::from(need.thin.0.saturating_sub(row.thin_free));
        }
        let volumes = (self.thick.len() + self.thin.len()) as u64;
        missing += u128::from(volumes.saturating_sub(u64::from(row.slots)));
        if self.largest.0 > row.largest {
            let too_large = self.thick.iter().chain(&self.thin);
            let above = too_large.map(|size| u128::from(size.0.saturating_sub(row.largest)));
            missing += above.sum::<u128>();
        }
        missing
    }

    #[inline]
    fn need(&mut self, extent: u64) -> Needed {
        if self.extent != extent {
            let sum = |sizes: &[Bytes]| sizes.iter().map(|size| size.round_up(Bytes(extent))).sum();
            self.need = Needed {
                thick: sum(&self.thick),
                thin: sum(&self.thin),
            };
            self.extent = extent;
        }
        self.need
    }
}
