//! A simulation says what filter and choose say, and a set of pods what one pod after the other would come to.

mod setting;

use std::cell::Cell;
use std::collections::BTreeMap;

use hawser_api::LocalVolumeReplica;
use hawser_inventory::{Fold, Inventory};
use hawser_placement::{
    Bytes, Candidates, NewVolume, Node as Place, Pool, PoolClass, Reason, StorageState, Volume,
    VolumeKind, choose,
};
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};
use serde_json::{Value, json};

use super::*;
use crate::decide::{self, Asks, Verdict};
use setting::{
    EXTENT, NodeSetting, Setting, claim, claim_spec, group, inventory, made, object, pod_setting,
    pod_spec, setting,
};

fn run(inventory: &Inventory, manifest: &Value, options: &Options) -> Simulation {
    let manifest = manifest::parse(manifest.to_string().as_bytes(), "default").unwrap();
    let shared = Shared::new(inventory.clone());
    let before = format!("{:?}", *shared.read());
    let simulation = simulate(&shared, Strategy::Spread, manifest, options, &|| true).unwrap();
    assert_eq!(
        format!("{:?}", *shared.read()),
        before,
        "nothing is written"
    );
    simulation
}

/// The refused nodes of an answer with their reasons.
fn refusals(others: &NodesRefused) -> BTreeMap<String, Vec<Reason>> {
    let groups = others.refused.iter();
    groups
        .flat_map(|group| {
            group
                .nodes
                .iter()
                .map(|node| (node.clone(), group.why.reasons.clone()))
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn simulating_a_pod_says_what_filter_and_choose_say(setting in setting(), asked in pod_setting()) {
        let mut real = inventory(&setting);
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "namespace": "default" }, "spec": pod_spec(&asked) });
        let simulation = run(&real, &pod, &Options::default());
        let [PodShown { came_to, .. }] = simulation.pods.as_slice() else { panic!("{simulation:?}") };

        // The same pod with its claims made.
        for (e, (ssd, size)) in asked.ephemeral.iter().enumerate() {
            real.apply(&claim(&format!("p-e{e}"), *ssd, *size, None));
        }
        let pod: Pod = object(pod);
        let names: Vec<String> = (0..setting.nodes.len()).map(|n| format!("n{n}")).collect();
        let asks = Asks::of(&real, Strategy::Spread, Some(&pod));
        let filtered = decide::filter(&real, &asks, &names);
        match (came_to, asks) {
            (CameTo::NotOurs, Asks::Nothing) => {}
            (CameTo::Unknown { reasons, .. }, Asks::Wrong(unknown) | Asks::NotYet { cause: Some(unknown), .. }) => {
                prop_assert_eq!(reasons, &vec![unknown]);
            }
            (CameTo::Placed { others, .. } | CameTo::Nowhere { others, .. }, Asks::Volumes(request)) => {
                let mut refused: BTreeMap<String, Vec<Reason>> = BTreeMap::new();
                for (node, verdict) in names.into_iter().zip(filtered.verdicts()) {
                    let kept_out = hawser_placement::kept_out(real.cluster(), &request, &node);
                    match (kept_out, verdict) {
                        // The scheduler's own filters have dropped such a node before.
                        (Some(reason), _) => { refused.insert(node, vec![reason]); }
                        (None, Verdict::Refused(refusal)) => { refused.insert(node, refusal.reasons.clone()); }
                        (None, Verdict::Passes(_)) => {}
                    }
                }
                prop_assert_eq!(refusals(others), refused);
                match (came_to, choose(real.cluster(), &request, Candidates::Any)) {
                    (CameTo::Placed { node, score, volumes, .. }, Ok(placement)) => {
                        prop_assert_eq!(node, &*placement.node);
                        prop_assert_eq!(score, &placement.score.parts());
                        prop_assert_eq!(volumes, &Planned::of(&placement.plan));
                    }
                    (CameTo::Nowhere { sentence, .. }, Err(refusal)) => prop_assert_eq!(sentence, &refusal.to_string()),
                    (simulated, chosen) => prop_assert!(false, "{simulated:?} {chosen:?}"),
                }
            }
            (simulated, real) => prop_assert!(false, "{simulated:?} {real:?}"),
        }
    }

    #[test]
    fn a_set_of_pods_is_one_pod_after_the_other(
        setting in setting(),
        mut asked in pod_setting(),
        templates in prop::collection::vec((any::<bool>(), 1..4u64), 1..3),
        replicas in 1..6i32,
    ) {
        // Claims that all share are the next test's.
        asked.claims.clear();
        let mut real = inventory(&setting);
        let spec = |(t, (ssd, size)): (usize, &(bool, u64))| json!({ "metadata": { "name": format!("t{t}") }, "spec": claim_spec(*ssd, *size, None) });
        let set = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "s", "namespace": "default" },
            "spec": { "replicas": replicas, "template": { "spec": pod_spec(&asked) }, "volumeClaimTemplates": templates.iter().enumerate().map(spec).collect::<Vec<_>>() }
        });
        let simulation = run(&real, &set, &Options::default());
        prop_assert_eq!(simulation.pods.len(), usize::try_from(replicas).unwrap());
        for (i, simulated) in simulation.pods.iter().enumerate() {
            let name = format!("s-{i}");
            let mut pod: Pod = object(json!({ "metadata": { "name": name, "namespace": "default" }, "spec": pod_spec(&asked) }));
            let volumes = pod.spec.as_mut().unwrap().volumes.get_or_insert_default();
            for (t, (ssd, size)) in templates.iter().enumerate() {
                real.apply(&claim(&format!("t{t}-{name}"), *ssd, *size, None));
                volumes.push(object(json!({ "name": format!("t{t}"), "persistentVolumeClaim": { "claimName": format!("t{t}-{name}") } })));
            }
            for (e, (ssd, size)) in asked.ephemeral.iter().enumerate() {
                real.apply(&claim(&format!("{name}-e{e}"), *ssd, *size, None));
            }
            let request = real.pod_request(&pod).unwrap().unwrap();
            match (&simulated.came_to, choose(real.cluster(), &request, Candidates::Any)) {
                (CameTo::Placed { node, volumes, score, .. }, Ok(placement)) => {
                    prop_assert_eq!((node.as_str(), volumes, score), (&*placement.node, &Planned::of(&placement.plan), &placement.score.parts()));
                    let size = |volume: &str| request.new_volumes().find(|(known, _)| &*known.name == volume).unwrap().1.size.0;
                    let members: Vec<(&str, &str, u64)> = placement.plan.volumes.iter()
                        .map(|planned| (&*planned.volume, &*planned.copies[0].pool, size(&planned.volume))).collect();
                    real.apply(&group(&name, &name, node, &members));
                }
                (CameTo::Nowhere { sentence, .. }, Err(refusal)) => prop_assert_eq!(sentence, &refusal.to_string()),
                (simulated, chosen) => prop_assert!(false, "{simulated:?} {chosen:?}"),
            }
        }
    }

    #[test]
    fn pods_that_share_a_claim_follow_its_volume(setting in setting(), own in 0..4u64, shared in 1..4u64, replicas in 2..5i32) {
        let mut real = inventory(&setting);
        real.apply(&claim("shared", false, shared, None));
        let spec = json!({ "containers": [], "tolerations": [{ "operator": "Exists" }], "volumes": [
            { "name": "a", "persistentVolumeClaim": { "claimName": "shared" } },
            { "name": "b", "ephemeral": { "volumeClaimTemplate": { "spec": claim_spec(true, own.max(1), None) } } }
        ] });
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d", "namespace": "default" },
            "spec": { "replicas": replicas, "selector": {}, "template": { "spec": spec } }
        });
        let simulation = run(&real, &deployment, &Options::default());
        for (i, simulated) in simulation.pods.iter().enumerate() {
            let name = format!("d-simulated-{i}");
            real.apply(&claim(&format!("{name}-b"), true, own.max(1), None));
            let pod: Pod = object(json!({ "metadata": { "name": name, "namespace": "default" }, "spec": spec }));
            let request = real.pod_request(&pod).unwrap().unwrap();
            let chosen = choose(real.cluster(), &request, Candidates::Any);
            let node = if let CameTo::Placed { node, .. } = &simulated.came_to { Some(node.as_str()) } else { None };
            prop_assert_eq!(node, chosen.as_ref().ok().map(|chosen| &*chosen.node));
            let Ok(placement) = chosen else { continue };
            for planned in &placement.plan.volumes {
                let at = &planned.copies[0];
                if &*planned.claim == "default/shared" {
                    // As large as it is, in its place and in use.
                    made(&mut real, &planned.volume, &at.node, &at.pool, &at.node);
                    let mut replica: LocalVolumeReplica = object(json!({
                        "metadata": { "name": format!("{}-r", planned.volume) },
                        "spec": { "volumeName": &*planned.volume, "nodeName": &*at.node, "poolName": &*at.pool },
                        "status": { "state": "Ready", "synced": true }
                    }));
                    replica.spec.required_capacity_bytes = i64::try_from(shared * EXTENT).unwrap();
                    real.apply(&replica);
                } else {
                    real.apply(&group(&name, &name, &at.node, &[(&planned.volume, &at.pool, own.max(1) * EXTENT)]));
                }
            }
        }
    }
}

fn mirrored(name: &str, extents: u64) -> Request {
    let new = NewVolume {
        copies: 2,
        ..NewVolume::new(PoolClass::Hdd, Bytes(extents * EXTENT))
    };
    Request {
        volumes: vec![Volume {
            name: name.into(),
            claim: format!("default/{name}").into(),
            kind: VolumeKind::New(new),
        }],
        ..Request::default()
    }
}

fn three_nodes() -> World {
    let node = |n: usize| Place {
        storage: StorageState::Ready,
        pools: vec![Pool::new(
            "LocalStorage_PoolHDD",
            PoolClass::Hdd,
            Some(Bytes(10 * EXTENT)),
        )],
        ..Place::new(format!("n{n}"))
    };
    World::new((0..3).map(node).collect())
}

fn copies(came_to: &CameTo) -> Vec<String> {
    let CameTo::Placed { volumes, .. } = came_to else {
        return vec![format!("{came_to:?}")];
    };
    let places = volumes.iter().flat_map(|planned| &planned.copies);
    places.map(|place| place.node.to_string()).collect()
}

#[test]
fn second_copies_take_their_room_too() {
    let mut world = three_nodes();
    let place = |world: &mut World, name: &str, extents| {
        world.place(
            &format!("default/{name}"),
            &mut mirrored(name, extents),
            &|| true,
        )
    };
    assert_eq!(copies(&place(&mut world, "a", 6)), ["n0", "n1"]);
    assert_eq!(
        copies(&place(&mut world, "b", 4)),
        ["n2", "n0"],
        "n2 is empty; of the others n0 by name"
    );
    assert_eq!(copies(&place(&mut world, "c", 4)), ["n2", "n1"]);
    let CameTo::Nowhere {
        sentence, others, ..
    } = place(&mut world, "d", 2)
    else {
        panic!("n0 and n1 are full")
    };
    assert_eq!(
        sentence,
        "none of 3 nodes can hold the volumes: \
         1: claim default/d: 2 copies on different nodes wanted, 1 of 3 nodes with storage can take one (2 without room); \
         2: hdd pool: 0 of 40 MiB free, 40 reserved for default/a and default/b, needs 8"
            .replace("2: hdd pool: 0 of 40 MiB free, 40 reserved for default/a and default/b, needs 8",
                "1: hdd pool: 0 of 40 MiB free, 40 reserved for default/a and default/b, needs 8; \
                 1: hdd pool: 0 of 40 MiB free, 40 reserved for default/a and default/c, needs 8")
    );
    assert_eq!(others.refused_nodes, 3);
    // A pod that shares claim a goes where one of its copies is, and as long as the first pod runs, where that is.
    let again = world.place("default/again", &mut mirrored("a", 6), &|| true);
    let CameTo::Placed { node, others, .. } = &again else {
        panic!("{again:?}")
    };
    assert_eq!(node, "n0");
    let why: Vec<String> = others
        .refused
        .iter()
        .map(|group| group.why.sentence.clone())
        .collect();
    assert_eq!(
        why,
        [
            "claim default/a: in use on node n0",
            "claim default/a: its data is on nodes n0, n1"
        ]
    );
}

#[test]
fn what_takes_too_long_is_ended_and_told() {
    let setting = Setting {
        nodes: vec![NodeSetting {
            pools: [Some((10, 0)), None],
            state: "Ready",
            labelled: false,
            tainted: false,
            reserved: 0,
        }],
        claims: vec![],
    };
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "s" },
        "spec": { "replicas": 3, "template": {}, "volumeClaimTemplates": [{ "metadata": { "name": "t" }, "spec": claim_spec(false, 1, None) }] }
    });
    let manifest = manifest::parse(set.to_string().as_bytes(), "default").unwrap();
    let left = Cell::new(2);
    let go_on = || {
        left.set(left.get() - 1);
        left.get() >= 0
    };
    let shared = Shared::new(inventory(&setting));
    let simulation = simulate(
        &shared,
        Strategy::Spread,
        manifest,
        &Options::default(),
        &go_on,
    )
    .unwrap();
    let ended: Vec<bool> = simulation
        .pods
        .iter()
        .map(|pod| matches!(pod.came_to, CameTo::NotTried { .. }))
        .collect();
    assert_eq!((ended, simulation.placed), (vec![false, false, true], 2));
}

#[test]
fn the_answer_is_bounded() {
    let mut world = three_nodes();
    world.told = [2, 1];
    let mut counts = Vec::new();
    for i in 0..4 {
        let (CameTo::Placed { others, .. } | CameTo::Nowhere { others, .. }) =
            world.place("default/p", &mut mirrored(&format!("v{i}"), 7), &|| true)
        else {
            panic!()
        };
        counts.push((others.refused_nodes, others.refused.len()));
    }
    assert_eq!(counts, [(0, 0), (3, 1), (3, 0), (3, 0)]);
}
