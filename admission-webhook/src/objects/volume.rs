//! `LocalVolume`: grows by its claim, never shrinks, never moves by an edit; goes when nobody uses it any more.

use std::sync::Arc;

use hawser_api::names::pools;
use hawser_api::{LocalVolume, LocalVolumeSpec, VolumeQoS, quantity};
use kube::ResourceExt;

use super::{Fault, Kind, fixed, kept};
use crate::claims::Around;
use crate::facts::ClassName;
use crate::gather::{Found, Round};
use crate::policy::{Judgement, Nature, Policies, Wish, judge, limit};

/// What is known around a volume.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Nodes of its accessibility that the cluster does not have.
    no_nodes: Vec<String>,
    /// Persistent volumes that stand for it.
    persistent: Vec<String>,
}

impl Kind for LocalVolume {
    const NAME: &'static str = "LocalVolume";
    type Known = Known;

    async fn known(round: &Round<'_>, old: Option<&Self>, new: &Self) -> Known {
        let nodes = |volume: &Self| volume.spec.accessibility.clone().unwrap_or_default().nodes;
        let before = old.map(nodes).unwrap_or_default();
        let mut no_nodes = Vec::new();
        for node in nodes(new).into_iter().filter(|node| !before.contains(node)) {
            if round.node(&node).await == Found::Missing {
                no_nodes.push(node);
            }
        }
        Known {
            no_nodes,
            persistent: round.persistent_of(&new.name_any()),
        }
    }

    fn faults(&self, known: &Known) -> Vec<Fault> {
        let spec = &self.spec;
        let mut faults = Vec::new();
        if !spec.pool_name.is_empty() && !spec.pool_name.starts_with(pools::VG_PREFIX) {
            faults.push(Fault::invalid(
                "spec.poolName",
                format!(
                    "spec.poolName is {:?}: pools are volume groups whose names begin with {}, such as LocalStorage_PoolSSD",
                    spec.pool_name,
                    pools::VG_PREFIX
                ),
            ));
        }
        let nodes = spec.accessibility.iter().flat_map(|a| &a.nodes);
        if let Some(node) = nodes.into_iter().find(|node| known.no_nodes.contains(node)) {
            faults.push(Fault::invalid(
                "spec.accessibility",
                format!(
                    "spec.accessibility.nodes has {node:?}; there is no node of that name: correct it, or add the node"
                ),
            ));
        }
        let VolumeQoS { iops, throughput } = spec.volume_qos.clone().unwrap_or_default();
        for (at, text) in [
            ("spec.volumeQoS.iops", iops),
            ("spec.volumeQoS.throughput", throughput),
        ] {
            if !text.is_empty() && quantity::parse(&text).is_err() {
                faults.push(Fault::invalid(
                    at,
                    format!("{at} is {text:?}: it must be a quantity such as 300 or 20Mi, or 0 for no limit"),
                ));
            }
        }
        faults
    }

    fn step(old: &Self, new: &Self, known: &Known) -> Vec<Fault> {
        let mut faults = Vec::new();
        places(&old.spec, &new.spec, &mut faults);
        let (before, after) = (
            old.spec.required_capacity_bytes,
            new.spec.required_capacity_bytes,
        );
        if before > 0 && after != before {
            let (from, to) = (quantity::human(before), quantity::human(after));
            let sentence = if after < before {
                format!(
                    "spec.requiredCapacityBytes can't go from {from} to {to}: volumes don't shrink; make a smaller one and copy the data"
                )
            } else {
                format!(
                    "spec.requiredCapacityBytes can't go from {from} to {to} here: ask for more in the claim, or make a LocalVolumeExpand"
                )
            };
            faults.push(Fault::invalid("spec.requiredCapacityBytes", sentence));
        }
        if old.spec.delete && !new.spec.delete {
            faults.push(Fault::invalid(
                "spec.delete",
                "spec.delete can't be taken back: the data is being destroyed",
            ));
        }
        if !old.spec.delete && new.spec.delete {
            faults.extend(in_use(old, known));
        }
        faults
    }

    fn held(&self, _: &Known) -> Vec<Fault> {
        if self.spec.delete {
            return Vec::new();
        }
        vec![Fault::in_use(
            "delete",
            format!(
                "deleting the object destroys no data and can't be taken back. To give the volume up with its data, delete its claim and its \
                 PersistentVolume, then: kubectl patch localvolume {} --type merge -p '{{\"spec\":{{\"delete\":true}}}}'",
                self.name_any()
            ),
        )]
    }

    async fn judged(
        round: &Round<'_>,
        policies: &Policies,
        old: Option<&Self>,
        new: &Self,
    ) -> Judgement {
        let all = policies.all();
        let wish = wish(old.map(|old| &old.spec), &new.spec);
        if all.is_empty() || (wish.bytes.is_none() && wish.volume.is_none()) {
            return Judgement::default();
        }
        judge_for_claim(round, &all, &new.spec, wish, old.is_none()).await
    }
}

/// What decides where the data is and what it is.
fn places(old: &LocalVolumeSpec, new: &LocalVolumeSpec, faults: &mut Vec<Fault>) {
    const MOVE: &str =
        "data moves by operations, not by an edit; make another volume and copy the data";
    fixed(
        "spec.poolName",
        (&old.pool_name, &new.pool_name),
        MOVE,
        faults,
    );
    fixed(
        "spec.volumegroup",
        (&old.volume_group, &new.volume_group),
        MOVE,
        faults,
    );
    kept(
        "spec.accessibility",
        (&old.accessibility, &new.accessibility),
        MOVE,
        faults,
    );
    kept(
        "spec.config",
        (&old.config, &new.config),
        "the provisioner writes it",
        faults,
    );
    kept(
        "spec.thinOrigin",
        (&old.thin_origin, &new.thin_origin),
        MOVE,
        faults,
    );
    kept(
        "spec.volumeEncrypt",
        (&old.volume_encrypt, &new.volume_encrypt),
        "data that is there is not encrypted or decrypted in place; make another volume and copy the data",
        faults,
    );
    for (at, old, new) in [
        ("spec.thin", old.thin, new.thin),
        ("spec.convertible", old.convertible, new.convertible),
    ] {
        if old != new {
            faults.push(Fault::invalid(
                at,
                format!("{at} is {old} and can't become {new}: {MOVE}"),
            ));
        }
    }
    fixed(
        "spec.replicaNumber",
        (&old.replica_number, &new.replica_number),
        "the number of copies changes by a LocalVolumeConvert, where that is served",
        faults,
    );
}

/// Why the data can't be given up now.
fn in_use(volume: &LocalVolume, known: &Known) -> Option<Fault> {
    let status = volume.status.as_ref();
    let node = status
        .map(|status| status.published_node.as_str())
        .unwrap_or_default();
    if !node.is_empty() {
        return Some(Fault::in_use(
            "spec.delete",
            format!(
                "it is in use on node {node}: end its pods and wait until it is detached, then set spec.delete"
            ),
        ));
    }
    let name = known.persistent.first()?;
    Some(Fault::in_use(
        "spec.delete",
        format!(
            "PersistentVolume {name:?} still stands for it: delete its claim and the PersistentVolume first, then set spec.delete"
        ),
    ))
}

/// What is asked for that was not before: all of a new volume, of a change only what asks for more.
fn wish(old: Option<&LocalVolumeSpec>, new: &LocalVolumeSpec) -> Wish {
    let more = |before: i64, after: i64| (after > before).then_some(after);
    let qos = new.volume_qos.clone().unwrap_or_default();
    let encrypted = |spec: &LocalVolumeSpec| spec.volume_encrypt.as_ref().is_some_and(|e| e.enable);
    let Some(old) = old else {
        return Wish {
            class: None,
            bytes: more(0, new.required_capacity_bytes),
            volume: Some(Nature {
                whose: "the volume".to_owned(),
                replicas: Some(new.replica_number.max(1)),
                iops: Some(limit(&qos.iops)),
                throughput: Some(limit(&qos.throughput)),
                encrypted: Some(encrypted(new)),
            }),
        };
    };
    let before = old.volume_qos.clone().unwrap_or_default();
    // A higher limit, or none instead of one.
    let raised =
        |before: &str, after: &str| Some(limit(after)).filter(|after| *after > limit(before));
    let volume = Nature {
        whose: "the volume".to_owned(),
        replicas: (new.replica_number != old.replica_number).then_some(new.replica_number.max(1)),
        iops: raised(&before.iops, &qos.iops),
        throughput: raised(&before.throughput, &qos.throughput),
        encrypted: (encrypted(old) && !encrypted(new)).then_some(false),
    };
    let asks = volume.replicas.is_some()
        || volume.iops.is_some()
        || volume.throughput.is_some()
        || volume.encrypted.is_some();
    Wish {
        class: None,
        bytes: more(old.required_capacity_bytes, new.required_capacity_bytes),
        volume: asks.then_some(volume),
    }
}

/// Asks the policies that hold for the claim of a volume. Without a claim, none does: they speak of claims.
pub(super) async fn judge_for_claim(
    round: &Round<'_>,
    policies: &[Arc<crate::policy::Policy>],
    volume: &LocalVolumeSpec,
    mut wish: Wish,
    is_new: bool,
) -> Judgement {
    let (namespace, name) = (&volume.pvc_namespace, &volume.pvc_name);
    if namespace.is_empty() || name.is_empty() {
        return Judgement::default();
    }
    let space = round.space(namespace).await;
    if space.ignored {
        return Judgement::default();
    }
    let claim = round.claim(namespace, name).await.there();
    let class = claim.as_ref().and_then(|claim| match &claim.class {
        ClassName::Named(class) => Some(class.clone()),
        ClassName::Default | ClassName::None => None,
    });
    let labels = claim.and_then(|claim| claim.labels);
    let around = Around {
        namespace,
        space: &space,
        labels: &labels,
    };
    if is_new {
        wish.class.clone_from(&class);
    }
    let what = format!("claim {namespace}/{name}: ");
    judge(policies, &around.asker(class.as_deref()), &wish, &what)
}
