//! From an object to those that point at it, by name.

use crate::inventory::Map;
use crate::names::Few;
use hawser_placement::Name;

#[derive(Clone, Debug, Default)]
pub(crate) struct Links(Map<Name, Few>);

impl Links {
    pub(crate) fn of(&self, from: &str) -> &[Name] {
        self.0.get(from).map_or(&[], Few::as_slice)
    }

    pub(crate) fn add(&mut self, from: &Name, to: &Name) {
        self.0.entry(from.clone()).or_default().add(to.clone());
    }

    pub(crate) fn remove(&mut self, from: &str, to: &str) {
        if let Some(few) = self.0.get_mut(from) {
            few.remove(to);
            if *few == Few::None {
                self.0.remove(from);
            }
        }
    }
}
