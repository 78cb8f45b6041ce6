//! The cluster as the pods of a simulation change it.

use std::collections::{BTreeMap, HashMap};

use hawser_placement::{
    BoundVolume, Cluster, Name, Plan, Refusal, Replica, ReplicaState, Request, Reservation,
    Verdict, VolumeKind,
};

use super::{CameTo, NodesRefused};
use crate::verdict::{Asked, Planned, Survey, best, refused, survey};

/// Groups of refused nodes that are told, of pods that found a node and of those that did not.
const GROUPS: usize = 500;

/// The cluster as it would be by then.
pub(super) struct World {
    pub(super) cluster: Cluster,
    /// Volumes of pods that were placed.
    pub(super) settled: HashMap<Name, BoundVolume>,
    /// How many groups of refused nodes may still be told: of pods that found a node, and of those that did not.
    pub(super) told: [usize; 2],
}

impl World {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            settled: HashMap::new(),
            told: [GROUPS; 2],
        }
    }

    /// Places the pod, if it can be, and takes note of what it takes.
    pub(super) fn place(
        &mut self,
        pod: &str,
        request: &mut Request,
        go_on: &impl Fn() -> bool,
    ) -> CameTo {
        for volume in &mut request.volumes {
            if let Some(bound) = self.settled.get(&volume.name) {
                volume.kind = VolumeKind::Bound(bound.clone());
            }
        }
        let Some(survey) = survey(&self.cluster, request, &[], go_on) else {
            let sentence =
                "the simulation took too long and was ended; simulate fewer pods at once"
                    .to_owned();
            return CameTo::NotTried { sentence };
        };
        let asks = Asked::of(request);
        let Some((node, score, plan)) = best(&survey) else {
            let others = self.refused(&survey, 1);
            let sentence = refusal(survey).to_string();
            return CameTo::Nowhere {
                sentence,
                asks,
                others,
            };
        };
        let came_to = CameTo::Placed {
            node: node.to_string(),
            score: score.parts(),
            asks,
            volumes: Planned::of(plan),
            also_fit: fitting(&survey) - 1,
            others: self.refused(&survey, 0),
        };
        self.settle(pod, node, plan, request);
        came_to
    }

    /// The pod runs on the node, with its new volumes where the plan has them.
    fn settle(&mut self, pod: &str, node: &Name, plan: &Plan, request: &Request) {
        let pod: Name = pod.into();
        // A node is changed once, whatever the number of volumes: that costs as much as there is on it.
        let mut taken_on: BTreeMap<&Name, Vec<Reservation>> = BTreeMap::new();
        for planned in &plan.volumes {
            let new = request
                .new_volumes()
                .find(|(volume, _)| volume.name == planned.volume);
            let Some((_, new)) = new else {
                continue;
            };
            for place in &planned.copies {
                let taken = Reservation {
                    volume: planned.volume.clone(),
                    owner: pod.clone(),
                    pool: place.pool.clone(),
                    size: new.size,
                    thin: new.thin,
                };
                let at_node = taken_on.entry(&place.node).or_default();
                at_node.push(taken);
            }
            let copies = planned.copies.iter().map(|place| Replica {
                node: place.node.clone(),
                state: ReplicaState::UpToDate,
            });
            let bound = BoundVolume {
                copies: copies.collect(),
                published: Some(node.clone()),
            };
            self.settled.insert(planned.volume.clone(), bound);
        }
        for (name, mut taken) in taken_on {
            self.cluster
                .update(name, |node| node.reservations.append(&mut taken));
        }
        for (volume, bound) in request.bound_volumes() {
            let bound = BoundVolume {
                copies: bound.copies.clone(),
                published: Some(node.clone()),
            };
            self.settled.insert(volume.name.clone(), bound);
        }
    }

    /// `kind`: which of the budgets it is taken from.
    fn refused(&mut self, survey: &Survey, kind: usize) -> NodesRefused {
        let refused_nodes = survey.len() - fitting(survey);
        let mut refused = if self.told[kind] > 0 {
            refused(survey)
        } else {
            Vec::new()
        };
        refused.truncate(self.told[kind]);
        self.told[kind] -= refused.len();
        NodesRefused {
            refused_nodes,
            refused,
        }
    }
}

fn fitting(survey: &Survey) -> usize {
    let fits = |(_, verdict): &&(Name, Verdict)| matches!(verdict, Verdict::Fit { .. });
    survey.iter().filter(fits).count()
}

fn refusal(survey: Survey) -> Refusal {
    let why = |(name, verdict)| match verdict {
        Verdict::NoFit { reasons } => Some((name, reasons)),
        Verdict::Fit { .. } => None,
    };
    Refusal {
        nodes: survey.into_iter().filter_map(why).collect(),
    }
}
