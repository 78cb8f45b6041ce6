//! Exact packing: items into bins, in order of preference.
//!
//! The problem is bin packing, which has no fast exact algorithm; what makes exact search right here is that a pod has few
//! volumes. Items are placed one by one (the caller puts large ones first), each trying its candidates in order of
//! preference, so the first complete assignment found is the lexicographically best: item one has the best place that any
//! solution gives it, item two the best under that, and so on. Backtracking visits every assignment except
//! - those that a bound rules out (what is still to be placed exceeds what is free in all bins together), and
//! - permutations of interchangeable items, of which only the sorted one is visited (it is lexicographically least).
//!
//! A step budget turns contrived inputs (dozens of volumes into nearly full pools) into [`Packing::Undecided`], which
//! callers report as such, instead of an answer that might be wrong.

use crate::units::Bytes;

/// Enough for every assignment of 8 items to 4 bins, and done within a few milliseconds.
const STEPS: u32 = 200_000;

/// One pool with what is left in it.
#[derive(Clone, Debug)]
pub(crate) struct Bin {
    /// Index of the node that the pool is on.
    pub(crate) node: usize,
    pub(crate) extent: Bytes,
    pub(crate) free: u64,
    pub(crate) thin_free: u64,
    pub(crate) slots: u64,
}

/// One copy of one volume.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Items of one group (copies of one volume) go to different nodes; they stand next to each other.
    pub(crate) group: usize,
    pub(crate) size: Bytes,
    pub(crate) thin: bool,
    /// Bins, the most wanted first.
    pub(crate) candidates: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// The bin of each item.
    Found(Vec<usize>),
    Impossible,
    Undecided,
}

/// `node_slots`: how many volumes each node may still take over all its bins.
pub(crate) fn pack(items: &[Item], bins: Vec<Bin>, node_slots: Vec<u64>) -> Packing {
    let alone = |i: usize| {
        let group = items[i].group;
        items.iter().filter(|item| item.group == group).count() == 1
    };
    let ordered = (0..items.len())
        .map(|i| i > 0 && interchangeable(items, i, &alone))
        .collect();
    let thick_left = suffix_sums(items);
    let mut search = Search {
        items,
        bins,
        node_slots,
        ordered,
        thick_left,
        ranks: Vec::new(),
        steps: STEPS,
    };
    match search.place() {
        Step::Done => Packing::Found(
            items
                .iter()
                .zip(&search.ranks)
                .map(|(item, &rank)| item.candidates[rank])
                .collect(),
        ),
        Step::DeadEnd => Packing::Impossible,
        Step::OutOfSteps => Packing::Undecided,
    }
}

/// Item `i` may change places with the one before it without anybody noticing.
fn interchangeable(items: &[Item], i: usize, alone: &impl Fn(usize) -> bool) -> bool {
    let (a, b) = (&items[i - 1], &items[i]);
    let same = a.size == b.size && a.thin == b.thin && a.candidates == b.candidates;
    same && (a.group == b.group || (alone(i - 1) && alone(i)))
}

/// For each item: bytes of it and of all thick items after it.
fn suffix_sums(items: &[Item]) -> Vec<Bytes> {
    let mut sums: Vec<Bytes> = items
        .iter()
        .rev()
        .scan(Bytes::ZERO, |sum, item| {
            if !item.thin {
                *sum = *sum + item.size;
            }
            Some(*sum)
        })
        .collect();
    sums.reverse();
    sums
}

struct Search<'a> {
    items: &'a [Item],
    bins: Vec<Bin>,
    node_slots: Vec<u64>,
    ordered: Vec<bool>,
    thick_left: Vec<Bytes>,
    /// For each item placed so far, which of its candidates.
    ranks: Vec<usize>,
    steps: u32,
}

enum Step {
    Done,
    DeadEnd,
    OutOfSteps,
}

impl Search<'_> {
    /// Places the next item and all after it. Depth is the number of items.
    fn place(&mut self) -> Step {
        let items = self.items;
        let Some(item) = items.get(self.ranks.len()) else {
            return Step::Done;
        };
        let free: Bytes = self.bins.iter().map(|bin| Bytes(bin.free)).sum();
        if self.thick_left[self.ranks.len()] > free {
            return Step::DeadEnd;
        }
        let first = if self.ordered[self.ranks.len()] {
            self.ranks[self.ranks.len() - 1]
        } else {
            0
        };
        for rank in first..item.candidates.len() {
            let bin = item.candidates[rank];
            if self.steps == 0 {
                return Step::OutOfSteps;
            }
            self.steps -= 1;
            if self.sibling_on_node(item.group, self.bins[bin].node) {
                continue;
            }
            let Some(before) = self.take(item, bin) else {
                continue;
            };
            self.ranks.push(rank);
            match self.place() {
                Step::DeadEnd => {}
                end @ (Step::Done | Step::OutOfSteps) => return end,
            }
            self.ranks.pop();
            self.node_slots[before.node] += 1;
            self.bins[bin] = before;
        }
        Step::DeadEnd
    }

    fn sibling_on_node(&self, group: usize, node: usize) -> bool {
        self.items.iter().zip(&self.ranks).any(|(item, &rank)| {
            item.group == group && self.bins[item.candidates[rank]].node == node
        })
    }

    /// Takes the item's room out of the bin; answers with the bin as it was, or nothing (and no change) if it is too full.
    fn take(&mut self, item: &Item, bin: usize) -> Option<Bin> {
        let before = self.bins[bin].clone();
        let needed = item.size.round_up(before.extent).0;
        let now = &mut self.bins[bin];
        let free = if item.thin {
            &mut now.thin_free
        } else {
            &mut now.free
        };
        let (rest, slots) = (free.checked_sub(needed)?, before.slots.checked_sub(1)?);
        let node_slots = self.node_slots[before.node].checked_sub(1)?;
        *free = rest;
        now.slots = slots;
        self.node_slots[before.node] = node_slots;
        Some(before)
    }
}
