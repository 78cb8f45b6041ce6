//! A set of nodes of one snapshot, as one bit for each.

use crate::cluster::NodeId;

#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Vec<u64>);

impl Places {
    /// Room for ids of a cluster with so many places.
    pub(crate) fn none(places: usize) -> Self {
        Self(vec![0; places.div_ceil(64)])
    }

    pub(crate) fn add(&mut self, id: NodeId) {
        if let Some(word) = self.0.get_mut(id.index() / 64) {
            *word |= 1 << (id.index() % 64);
        }
    }

    #[inline]
    pub(crate) fn has(&self, id: NodeId) -> bool {
        self.0
            .get(id.index() / 64)
            .is_some_and(|word| word >> (id.index() % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_what_was_added_and_nothing_else() {
        let mut places = Places::none(130);
        let added = [0, 63, 64, 129].map(NodeId);
        for id in added {
            places.add(id);
        }
        for id in (0..200).map(NodeId) {
            assert_eq!(places.has(id), added.contains(&id), "{id:?}");
        }
    }
}
