//! One copy of each name. A volume's name stands in its claim, its persistent volume, its replicas, its node's report: a hundred
//! thousand of them, five times each, would be most of what is kept.

use std::collections::HashSet;

use foldhash::fast::RandomState;
use hawser_placement::Name;

/// Below this it is not worth looking for names that nobody uses.
const SMALL: usize = 1024;

/// Names in use. A name that nobody else keeps any more is dropped at some later time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    known: HashSet<Name, RandomState>,
    /// When there are so many, it is time to look for unused ones.
    sweep_at: usize,
}

impl Names {
    pub(crate) fn get(&mut self, name: &str) -> Name {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at.max(SMALL) {
            self.sweep();
        }
        let name = Name::from(name);
        self.known.insert(name.clone());
        name
    }

    /// Each sweep is paid for by as many new names as it looks at.
    fn sweep(&mut self) {
        self.known.retain(|name| Name::strong_count(name) > 1);
        self.sweep_at = self.known.len().saturating_mul(2);
    }
}

/// Names in order, mostly none or one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Few {
    #[default]
    None,
    One(Name),
    More(Box<[Name]>),
}

impl Few {
    pub(crate) fn add(&mut self, name: Name) {
        let Err(at) = self.as_slice().binary_search(&name) else {
            return;
        };
        *self = match std::mem::take(self) {
            Self::None => Self::One(name),
            Self::One(other) if at == 0 => Self::More([name, other].into()),
            Self::One(other) => Self::More([other, name].into()),
            Self::More(names) => {
                let mut names = Vec::from(names);
                names.reserve_exact(1);
                names.insert(at, name);
                Self::More(names.into())
            }
        };
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let found = self
            .as_slice()
            .binary_search_by(|known| (**known).cmp(name));
        let Ok(at) = found else {
            return;
        };
        *self = match std::mem::take(self) {
            Self::None | Self::One(_) => Self::None,
            Self::More(names) => {
                let mut names = Vec::from(names);
                names.remove(at);
                names.into_iter().collect()
            }
        };
    }

    pub(crate) fn as_slice(&self) -> &[Name] {
        match self {
            Self::None => &[],
            Self::One(name) => std::slice::from_ref(name),
            Self::More(names) => names,
        }
    }
}

/// Sorted, each once.
impl FromIterator<Name> for Few {
    fn from_iter<I: IntoIterator<Item = Name>>(names: I) -> Self {
        let mut names = names.into_iter();
        let Some(first) = names.next() else {
            return Self::None;
        };
        let Some(second) = names.next() else {
            return Self::One(first);
        };
        let mut all = vec![first, second];
        all.extend(names);
        all.sort();
        all.dedup();
        match <[Name; 1]>::try_from(all) {
            Ok([only]) => Self::One(only),
            Err(all) => Self::More(all.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_dropped_when_nobody_uses_it() {
        let mut names = Names::default();
        let (a, b) = (names.get("pvc-1"), names.get("pvc-1"));
        assert!(Name::ptr_eq(&a, &b));
        for n in 0..10 * SMALL {
            names.get(&format!("gone-{n}"));
        }
        assert!(names.known.len() <= 2 * SMALL, "{}", names.known.len());
        assert!(Name::ptr_eq(&a, &names.get("pvc-1")), "still in use");
        let kept: Vec<Name> = (0..5 * SMALL)
            .map(|n| names.get(&format!("kept-{n}")))
            .collect();
        assert!(names.known.len() > kept.len(), "names in use stay");
    }

    #[test]
    fn few_names_are_sorted_and_unique() {
        let few = |names: &[&str]| names.iter().map(|name| Name::from(*name)).collect::<Few>();
        let text = |few: &Few| few.as_slice().join(",");
        assert_eq!(few(&[]), Few::None);
        assert_eq!(few(&["b", "b"]), Few::One("b".into()));
        assert_eq!(text(&few(&["c", "a", "b", "a"])), "a,b,c");
        assert!(size_of::<Few>() <= 24);
    }

    #[test]
    fn names_come_and_go_in_any_order() {
        let mut few = Few::default();
        for name in ["c", "a", "b", "a", "d"] {
            few.add(name.into());
        }
        assert_eq!(
            few,
            ["a", "b", "c", "d"].map(Name::from).into_iter().collect()
        );
        for name in ["b", "x", "d", "a"] {
            few.remove(name);
        }
        assert_eq!(few, Few::One("c".into()));
        few.remove("c");
        assert_eq!(few, Few::None);
    }
}
