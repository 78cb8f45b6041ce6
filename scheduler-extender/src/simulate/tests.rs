//! A simulation says what filter and choose say, and a set of pods what one pod after the other would come to.

use std::cell::Cell;
use std::collections::BTreeMap;

use hawser_api::extender::ExtenderArgs;
use hawser_api::{LocalStorageNode, LocalVolume, LocalVolumeGroup, LocalVolumeReplica};
use hawser_inventory::{Fold, Inventory};
use hawser_placement::{
    Bytes, Candidates, NewVolume, Node as Place, Pool, PoolClass, Reason, StorageState, Volume,
    VolumeKind, choose,
};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use proptest::prelude::ProptestConfig;
use proptest::prelude::{Just, Strategy as _, any, prop, prop_assert, prop_assert_eq, proptest};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::decide;
use crate::record::Outcome;

const EXTENT: u64 = 4 << 20;

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("the fixture is an object of its kind")
}

/// A small cluster, in extents.
#[derive(Clone, Debug)]
struct Setting {
    nodes: Vec<NodeSetting>,
    claims: Vec<ClaimSetting>,
}

#[derive(Clone, Debug)]
struct NodeSetting {
    /// Of the HDD pool and of the SSD pool, if there is one: size, and what is used.
    pools: [Option<(u64, u64)>; 2],
    state: &'static str,
    labelled: bool,
    tainted: bool,
    /// What is reserved in the HDD pool for another pod.
    reserved: u64,
}

#[derive(Clone, Debug)]
struct ClaimSetting {
    ssd: bool,
    size: u64,
    /// Where its volume is.
    bound: Option<usize>,
}

fn setting() -> impl proptest::strategy::Strategy<Value = Setting> {
    let pool = || prop::option::weighted(0.7, (1..12u64, 0..8u64));
    let state = prop::sample::select(vec![
        "Ready", "Ready", "Ready", "Ready", "Maintain", "Offline",
    ]);
    let node = (
        pool(),
        pool(),
        state,
        any::<bool>(),
        prop::bool::weighted(0.2),
        0..3u64,
    )
        .prop_map(
            |(hdd, ssd, state, labelled, tainted, reserved)| NodeSetting {
                pools: [hdd, ssd],
                state,
                labelled,
                tainted,
                reserved,
            },
        );
    let claim = (
        any::<bool>(),
        1..6u64,
        prop::option::weighted(0.3, 0..3usize),
    )
        .prop_map(|(ssd, size, bound)| ClaimSetting { ssd, size, bound });
    (
        prop::collection::vec(node, 1..4),
        prop::collection::vec(claim, 0..4),
    )
        .prop_map(|(nodes, claims)| Setting { nodes, claims })
}

fn class(ssd: bool) -> &'static str {
    if ssd { "SSD" } else { "HDD" }
}

fn claim(name: &str, ssd: bool, size: u64, volume: Option<&str>) -> PersistentVolumeClaim {
    object(json!({
        "metadata": { "name": name, "namespace": "default", "uid": format!("simulated:default/{name}") },
        "spec": claim_spec(ssd, size, volume)
    }))
}

fn claim_spec(ssd: bool, size: u64, volume: Option<&str>) -> Value {
    json!({ "storageClassName": class(ssd).to_lowercase(), "volumeName": volume, "resources": { "requests": { "storage": (size * EXTENT).to_string() } } })
}

fn group(name: &str, pod: &str, node: &str, members: &[(&str, &str, u64)]) -> LocalVolumeGroup {
    let members: Vec<Value> = members
        .iter()
        .map(|(volume, pool, bytes)| json!({ "localvolume": volume, "pvc": "c", "poolName": pool, "requiredCapacityBytes": bytes }))
        .collect();
    object(json!({
        "metadata": { "name": name },
        "spec": { "namespace": "default", "pods": [pod], "accessibility": { "nodes": [node] }, "volumes": members }
    }))
}

/// A volume that is there, up to date.
fn made(inventory: &mut Inventory, volume: &str, node: &str, pool: &str, published: &str) {
    inventory.apply(&object::<LocalVolume>(json!({
        "metadata": { "name": volume }, "spec": { "replicaNumber": 1, "accessibility": { "nodes": [node] } },
        "status": { "state": "Ready", "publishedNode": published }
    })));
    inventory.apply(&object::<LocalVolumeReplica>(json!({
        "metadata": { "name": format!("{volume}-r") },
        "spec": { "volumeName": volume, "nodeName": node, "poolName": pool, "requiredCapacityBytes": EXTENT },
        "status": { "state": "Ready", "synced": true, "allocatedCapacityBytes": EXTENT }
    })));
}

fn inventory(setting: &Setting) -> Inventory {
    let mut inventory = Inventory::new();
    for ssd in [false, true] {
        inventory.apply(&object::<StorageClass>(json!({
            "metadata": { "name": class(ssd).to_lowercase() }, "provisioner": "lvm.hwameistor.io", "volumeBindingMode": "WaitForFirstConsumer",
            "parameters": { "poolClass": class(ssd), "replicaNumber": "1" }
        })));
    }
    for (n, node) in setting.nodes.iter().enumerate() {
        let name = format!("n{n}");
        let labels = if node.labelled {
            json!({ "room": "back" })
        } else {
            json!({})
        };
        let taints = if node.tainted {
            json!([{ "key": "hot", "effect": "NoSchedule" }])
        } else {
            json!([])
        };
        inventory.apply(&object::<Node>(
            json!({ "metadata": { "name": name, "labels": labels }, "spec": { "taints": taints } }),
        ));
        let mut pools = serde_json::Map::new();
        for (ssd, pool) in [(false, node.pools[0]), (true, node.pools[1])] {
            let Some((total, used)) = pool else { continue };
            let pool = json!({ "class": class(ssd), "type": "REGULAR", "totalCapacityBytes": total * EXTENT, "usedCapacityBytes": used.min(total) * EXTENT, "totalVolumeCount": 6 });
            pools.insert(format!("LocalStorage_Pool{}", class(ssd)), pool);
        }
        inventory.apply(&object::<LocalStorageNode>(
            json!({ "metadata": { "name": name }, "spec": { "hostname": name }, "status": { "state": node.state, "pools": pools } }),
        ));
        if node.reserved > 0 {
            inventory.apply(&group(
                &format!("other-{n}"),
                "other",
                &name,
                &[(
                    &format!("pvc-other-{n}"),
                    "LocalStorage_PoolHDD",
                    node.reserved * EXTENT,
                )],
            ));
        }
    }
    for (c, setting) in setting.claims.iter().enumerate() {
        let (name, volume) = (format!("c{c}"), format!("pvc-bound-{c}"));
        let bound = setting.bound.map(|node| {
            made(&mut inventory, &volume, &format!("n{node}"), &format!("LocalStorage_Pool{}", class(setting.ssd)), "");
            inventory.apply(&object::<PersistentVolume>(
                json!({ "metadata": { "name": volume }, "spec": { "csi": { "driver": "lvm.hwameistor.io", "volumeHandle": volume } } }),
            ));
            volume.as_str()
        });
        inventory.apply(&claim(&name, setting.ssd, setting.size, bound));
    }
    inventory
}

/// What a pod uses: claims by number (some of which do not exist), and ephemeral volumes.
#[derive(Clone, Debug)]
struct PodSetting {
    claims: Vec<usize>,
    ephemeral: Vec<(bool, u64)>,
    selects: bool,
    tolerates: bool,
}

fn pod_setting() -> impl proptest::strategy::Strategy<Value = PodSetting> {
    let claims = prop_oneof_claims();
    let ephemeral = prop::collection::vec((any::<bool>(), 1..5u64), 0..3);
    (claims, ephemeral, prop::bool::weighted(0.3), any::<bool>()).prop_map(
        |(claims, ephemeral, selects, tolerates)| PodSetting {
            claims,
            ephemeral,
            selects,
            tolerates,
        },
    )
}

fn prop_oneof_claims() -> impl proptest::strategy::Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_numbers(), 0..3)
}

fn prop_numbers() -> impl proptest::strategy::Strategy<Value = usize> {
    (0..20usize, Just(())).prop_map(|(n, ())| if n == 19 { 9 } else { n % 4 })
}

fn pod_spec(setting: &PodSetting) -> Value {
    let used = setting.claims.iter().map(|c| json!({ "name": format!("v{c}"), "persistentVolumeClaim": { "claimName": format!("c{c}") } }));
    let ephemeral = setting.ephemeral.iter().enumerate().map(|(e, (ssd, size))| {
        json!({ "name": format!("e{e}"), "ephemeral": { "volumeClaimTemplate": { "spec": claim_spec(*ssd, *size, None) } } })
    });
    let volumes: Vec<Value> = used.chain(ephemeral).collect();
    let selector = if setting.selects {
        json!({ "room": "back" })
    } else {
        json!({})
    };
    let tolerations = if setting.tolerates {
        json!([{ "operator": "Exists" }])
    } else {
        json!([])
    };
    json!({ "containers": [], "volumes": volumes, "nodeSelector": selector, "tolerations": tolerations })
}

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
        let args = ExtenderArgs { pod: Some(pod.clone()), nodes: None, node_names: Some(names.clone()) };
        let filtered = decide::filter(&real, Strategy::Spread, args);
        match (came_to, filtered.outcome) {
            (CameTo::NotOurs, Outcome::NotOurs { .. }) => {}
            (CameTo::Unknown { reasons, .. }, Outcome::Refused { unknown, .. } | Outcome::Failed { unknown: Some(unknown), .. }) => {
                prop_assert_eq!(reasons, &vec![unknown]);
            }
            (CameTo::Placed { others, .. } | CameTo::Nowhere { others, .. }, Outcome::Judged { nodes, verdicts }) => {
                let request = real.pod_request(&pod).unwrap().unwrap();
                let mut refused: BTreeMap<String, Vec<Reason>> = BTreeMap::new();
                for (node, verdict) in nodes.into_iter().zip(verdicts) {
                    let kept_out = hawser_placement::kept_out(real.cluster(), &request, &node);
                    match (kept_out, verdict) {
                        // The scheduler's own filters have dropped such a node before.
                        (Some(reason), _) => { refused.insert(node, vec![reason]); }
                        (None, Err(reasons)) => { refused.insert(node, reasons); }
                        (None, Ok(_)) => {}
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
    match came_to {
        CameTo::Placed { volumes, .. } => volumes
            .iter()
            .flat_map(|planned| planned.copies.iter().map(|place| place.node.to_string()))
            .collect(),
        other => vec![format!("{other:?}")],
    }
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
