//! `LocalVolumeGroup`: which volumes belong together, on which node. Can't be told from the disks.

use hawser_api::LocalVolumeGroup;

use super::{Fault, Kind};
use crate::gather::Round;

impl Kind for LocalVolumeGroup {
    const NAME: &'static str = "LocalVolumeGroup";
    /// Its volumes that have data.
    type Known = Vec<String>;

    async fn known(round: &Round<'_>, _: Option<&Self>, new: &Self) -> Vec<String> {
        let names = new.spec.volumes.iter().map(|member| &member.local_volume);
        let live = names.filter(|name| !round.copies_of(name).is_empty());
        live.cloned().collect()
    }

    fn faults(&self, _: &Vec<String>) -> Vec<Fault> {
        Vec::new()
    }

    fn step(_: &Self, _: &Self, _: &Vec<String>) -> Vec<Fault> {
        Vec::new()
    }

    fn held(&self, live: &Vec<String>) -> Vec<Fault> {
        let Some(name) = live.first() else {
            return Vec::new();
        };
        vec![Fault::in_use(
            "delete",
            format!(
                "it keeps LocalVolume {name:?} together with its pod's other volumes: it goes by itself with the last of them"
            ),
        )]
    }
}
