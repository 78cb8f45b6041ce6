//! Many pods at once, onto nodes that they fill exactly, sent by a scheduler that cares for processors only. The provisioner comes
//! to nothing before all of them are sent: so what keeps them from being sent to the same room is what was chosen, not what is
//! reserved.

use hawser_runtime::index::Key;
use k8s_openapi::api::core::v1::Pod;
use provisioner::decide::claimant::is_waiting;

use crate::{
    breaks::Break,
    explore::Bench,
    objects::{Class, a_claim, a_pod},
    step::Step,
    world::{Config, World},
};

const PODS: usize = 20;
const NODES: usize = 4;
/// Rounds within which all of them have to run.
const ENOUGH: usize = 60;

/// How many pods came back from a node. `blind`: so many pods are sent before the extender hears of what was chosen.
fn burst(blind: usize, broken: Option<Break>) -> u64 {
    let bench = Bench::new();
    let each = i64::try_from(2 * PODS / NODES).expect("a small number");
    let config = Config {
        nodes: vec![(each, 0); NODES],
        broken,
    };
    let mut world = World::new(&bench.runtime, &bench.client, config);
    world.step(Step::Lead);
    world.step(Step::Run(3));
    let _inside = bench.runtime.enter();
    world.scheduler.by_name = true;
    for pod in 0..PODS {
        let claims = ["data", "log"].map(|claim| format!("{claim}-{pod:02}"));
        for claim in &claims {
            let created = world
                .server
                .create(a_claim(claim, Class::One, 1, None, None));
            created.expect("the name is free");
        }
        let created = world
            .server
            .create(a_pod(&format!("p-{pod:02}"), &claims, &[], false));
        created.expect("the name is free");
    }
    world.hear_all();
    let pods: Vec<Key> = world.server.pods.objects.keys().cloned().collect();
    for (sent, key) in pods.iter().enumerate() {
        while world.schedule_pod(key) {}
        if sent % (blind + 1) == blind {
            world.hear_all();
        }
    }
    let waits = |world: &World<'_>| world.server.list::<Pod>().iter().any(|pod| is_waiting(pod));
    let mut rounds = 0;
    while waits(&world) && rounds < ENOUGH {
        world.round();
        world.wait(5);
        rounds += 1;
    }
    assert_eq!(world.violation, None);
    assert!(!waits(&world), "pods wait after {rounds} rounds");
    let back = world.counts.events.get("pods that came back");
    back.copied().unwrap_or(0)
}

#[test]
fn none_of_many_pods_at_once_is_sent_where_another_goes() {
    assert_eq!(burst(0, None), 0);
}

#[test]
fn without_minding_choices_most_of_many_pods_at_once_come_back() {
    let back = burst(0, Some(Break::ChoicesForgotten));
    println!("{back} of {PODS} came back");
    assert!(back >= 15, "{back}");
}

#[test]
fn only_pods_that_are_sent_before_a_choice_is_heard_of_can_come_back() {
    // Two of three pods are sent blindly: of those only some that meet at the end of a node's room come back.
    let back = burst(2, None);
    println!("{back} of {PODS} came back");
    assert!(
        back <= 2 * u64::try_from(NODES).expect("a small number"),
        "{back}"
    );
}
