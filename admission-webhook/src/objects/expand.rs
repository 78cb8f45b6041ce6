//! `LocalVolumeExpand`: of a volume that is there, to more than it has.

use hawser_api::{LocalVolume, LocalVolumeExpand, quantity};

use super::volume::judge_for_claim;
use super::{Fault, Kind, fixed};
use crate::gather::{Found, Round};
use crate::policy::{Judgement, Policies, Wish};

impl Kind for LocalVolumeExpand {
    const NAME: &'static str = "LocalVolumeExpand";
    type Known = Found<LocalVolume>;

    async fn known(round: &Round<'_>, _: Option<&Self>, new: &Self) -> Found<LocalVolume> {
        if new.spec.volume_name.is_empty() {
            return Found::Unknown;
        }
        round.local_volume(&new.spec.volume_name).await
    }

    fn faults(&self, volume: &Found<LocalVolume>) -> Vec<Fault> {
        let spec = &self.spec;
        let mut faults = Vec::new();
        if spec.volume_name.is_empty() {
            faults.push(Fault::invalid(
                "spec.volumeName",
                "spec.volumeName is missing: it names the LocalVolume that is to grow",
            ));
        }
        // Whoever stops it needs no size.
        if spec.abort {
            return faults;
        }
        if spec.required_capacity_bytes <= 0 {
            faults.push(Fault::invalid(
                "spec.requiredCapacityBytes",
                "spec.requiredCapacityBytes is missing: it is the new size in bytes",
            ));
        }
        match volume {
            Found::Missing => faults.push(Fault::invalid(
                "spec.volumeName",
                format!(
                    "spec.volumeName is {:?}; there is no LocalVolume of that name: kubectl get localvolumes lists them",
                    spec.volume_name
                ),
            )),
            Found::There(volume) => faults.extend(against(self, volume)),
            Found::Unknown => {}
        }
        faults
    }

    fn step(old: &Self, new: &Self, _: &Found<LocalVolume>) -> Vec<Fault> {
        let mut faults = Vec::new();
        fixed(
            "spec.volumeName",
            (&old.spec.volume_name, &new.spec.volume_name),
            "make another LocalVolumeExpand for another volume",
            &mut faults,
        );
        faults
    }

    fn held(&self, _: &Found<LocalVolume>) -> Vec<Fault> {
        Vec::new()
    }

    async fn judged(
        round: &Round<'_>,
        policies: &Policies,
        old: Option<&Self>,
        new: &Self,
    ) -> Judgement {
        let all = policies.all();
        let before = old.map_or(0, |old| old.spec.required_capacity_bytes);
        let bytes = new.spec.required_capacity_bytes;
        if all.is_empty() || new.spec.abort || bytes <= before {
            return Judgement::default();
        }
        let Found::There(volume) = round.local_volume(&new.spec.volume_name).await else {
            return Judgement::default();
        };
        let wish = Wish {
            bytes: Some(bytes),
            ..Wish::default()
        };
        judge_for_claim(round, &all, &volume.spec, wish, false).await
    }
}

fn against(operation: &LocalVolumeExpand, volume: &LocalVolume) -> Option<Fault> {
    if volume.spec.delete {
        return Some(Fault::invalid(
            "spec.volumeName",
            format!(
                "LocalVolume {:?} is being deleted and can't grow any more",
                operation.spec.volume_name
            ),
        ));
    }
    let (has, wanted) = (
        volume.spec.required_capacity_bytes,
        operation.spec.required_capacity_bytes,
    );
    (0 < wanted && wanted < has).then(|| {
        let (has, wanted) = (quantity::human(has), quantity::human(wanted));
        Fault::invalid(
            "spec.requiredCapacityBytes",
            format!("spec.requiredCapacityBytes is {wanted}, and the volume has {has}: volumes don't shrink; ask for more than it has"),
        )
    })
}
