//! Histories: made from a seed, run, and, if one fails, made small.

use std::fmt::Write;

use hawser_runtime::index::Key;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use tokio::runtime::Runtime;

use crate::{
    breaks::Break,
    nodes::Health,
    step::Step,
    world::{Config, Counts, Rule, Violation, World},
};

/// Rounds after which a cluster that nobody disturbs has come to rest, or never will.
const MOST_ROUNDS: usize = 120;

/// Numbers by SplitMix64: small, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick(&mut self) -> u16 {
        u16::try_from(self.next() & 0xffff).unwrap_or(0)
    }
}

/// A cluster and what happens in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) config: Config,
    pub(crate) steps: Vec<Step>,
}

type Weighted = (u64, fn(u16) -> Step);

/// How often what happens, in a run without faults of the control plane.
const PLAIN: &[Weighted] = &[
    (10, Step::Pod),
    (4, Step::DeletePod),
    (2, Step::DeleteClaim),
    (1, Step::Grow),
    (8, Step::Chore),
    (24, Step::Schedule),
    (20, Step::Call),
    (12, Step::Work),
    (30, Step::Poll),
    (30, Step::Serve),
    (8, Step::Hear),
    (24, Step::Catch),
    (14, Step::Daemon),
    (2, Step::Run),
    (6, |_| Step::RunLeader),
    (6, |_| Step::Ready),
    (4, |_| Step::Compare),
    (1, Step::Wait),
];

/// What goes wrong.
const FAULTS: &[Weighted] = &[
    (3, Step::Kill),
    (3, |_| Step::Depose),
    (6, |_| Step::Ready),
    (4, Step::Refuse),
    (5, Step::LoseAnswer),
    (8, Step::Delay),
    (5, Step::Arrive),
    (1, Step::Vanish),
    (3, Step::Relist),
    (3, Step::HearAgain),
    (2, Step::Silence),
    (2, Step::Break),
    (2, Step::Lose),
    (1, |_| Step::RestartScheduler),
    (2, Step::Wait),
];

/// These weights, but of some kinds none and of others many: what rarely happens together does in some histories.
fn swarm(random: &mut Random, all: &[Weighted]) -> Vec<Weighted> {
    const TIMES: [u64; 5] = [0, 1, 1, 2, 6];
    let weights = all.iter().map(|(weight, make)| {
        let times = usize::try_from(random.below(5)).unwrap_or(1);
        (weight * TIMES[times], *make)
    });
    weights.collect()
}

fn choose(random: &mut Random, all: &[Weighted]) -> Step {
    let total: u64 = all.iter().map(|(weight, _)| weight).sum();
    let mut at = random.below(total.max(1));
    for (weight, make) in all {
        if at < *weight {
            return make(random.pick());
        }
        at -= weight;
    }
    Step::Compare
}

impl History {
    /// The history of a seed.
    pub(crate) fn of(seed: u64, broken: Option<Break>) -> Self {
        let random = &mut Random::new(seed);
        let nodes = (0..=random.below(3)).map(|_| {
            let hdd = 4 + random.below(9);
            let ssd = random.below(3) * 4;
            (
                i64::try_from(hdd).unwrap_or(4),
                i64::try_from(ssd).unwrap_or(0),
            )
        });
        let config = Config {
            nodes: nodes.collect(),
            broken,
        };
        let length = 30 + random.below(150);
        // Some histories are calm, some are not.
        let faults = [0, 1, 2, 4][usize::try_from(random.below(4)).unwrap_or(0)];
        let (plain, wrong) = (swarm(random, PLAIN), swarm(random, FAULTS));
        // Mostly on a cluster that has been running for a while.
        let mut steps = Vec::new();
        if random.below(8) > 0 {
            steps.push(Step::Run(0));
        }
        for _ in 0..length {
            let step = if random.below(12) < faults {
                choose(random, &wrong)
            } else {
                choose(random, &plain)
            };
            steps.push(step);
        }
        Self { config, steps }
    }

    /// Runs it, lets everything come to rest, then deletes everything and looks at what is left.
    pub(crate) fn run(
        &self,
        bench: &Bench,
        trace: bool,
    ) -> (Counts, Option<Violation>, Vec<String>) {
        let mut world = World::new(&bench.runtime, &bench.client, self.config.clone());
        world.trace = trace.then(Vec::new);
        world.step(Step::Lead);
        for step in &self.steps {
            world.step(*step);
            if world.violation.is_some() {
                break;
            }
        }
        if world.violation.is_none() {
            finish(&bench.runtime, &mut world);
        }
        let trace = world.trace.take().unwrap_or_default();
        (world.counts.clone(), world.violation.clone(), trace)
    }
}

fn finish(runtime: &Runtime, world: &mut World<'_>) {
    let _inside = runtime.enter();
    world.say(|| "--- everything is let come to rest".to_owned());
    calm(world);
    rest(world);
    if world.violation.is_none() {
        world.check_rest();
    }
    if world.violation.is_some() {
        return;
    }
    world.say(|| "--- everything is deleted".to_owned());
    let pods: Vec<Key> = world.server.pods.objects.keys().cloned().collect();
    let claims: Vec<Key> = world.server.claims.objects.keys().cloned().collect();
    for key in &pods {
        world.server.delete::<Pod>(key);
    }
    for key in &claims {
        world.server.delete::<PersistentVolumeClaim>(key);
    }
    rest(world);
    if world.violation.is_none() {
        world.check_nothing_left();
    }
}

/// Nobody disturbs any more: nodes work, calls arrive or do not, one provisioner leads.
fn calm(world: &mut World<'_>) {
    for number in world.network.numbers(|call| !call.awaited) {
        let what = world.network.serve(number, &mut world.server);
        world.say(|| format!("  {}", what.unwrap_or_default()));
        world.check();
    }
    let mut at = 0;
    while at < world.processes.len() {
        if world.processes[at].leads {
            at += 1;
        } else {
            let process = world.processes.remove(at);
            world.network.orphan(process.id);
        }
    }
    for number in world.network.numbers(|call| !call.awaited) {
        world.network.serve(number, &mut world.server);
        world.check();
    }
    for daemon in &mut world.daemons {
        if matches!(daemon.health, Health::Silent | Health::Broken) {
            daemon.health = Health::Up;
        }
    }
}

/// Rounds, and time, until nothing changes any more.
fn rest(world: &mut World<'_>) {
    let mut calm_rounds = 0;
    for _ in 0..MOST_ROUNDS {
        let before = world.version();
        world.round();
        if world.violation.is_some() {
            return;
        }
        if world.version() != before {
            calm_rounds = 0;
            continue;
        }
        calm_rounds += 1;
        if calm_rounds > 1 {
            return;
        }
        // Longer than every deadline and pause of the provisioner.
        world.wait(70);
    }
    world.violate(Rule::Rest, format!("no rest after {MOST_ROUNDS} rounds"));
}

/// What all histories share.
pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    pub(crate) client: kube::Client,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O");
        let client = {
            let _inside = runtime.enter();
            let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| async {
                Err::<http::Response<http_body_util::Full<hyper::body::Bytes>>, _>(
                    std::io::Error::other("the model has no HTTP"),
                )
            });
            kube::Client::new(nobody, "default")
        };
        Self { runtime, client }
    }

    /// Whether a history fails by this rule.
    fn fails(&self, history: &History, rule: Rule) -> bool {
        let (_, violation, _) = history.run(self, false);
        violation.is_some_and(|violation| violation.rule == rule)
    }

    /// The smallest history that is found and still fails so.
    pub(crate) fn shrink(&self, mut history: History, rule: Rule) -> History {
        loop {
            let before = history.clone();
            self.drop_steps(&mut history, rule);
            self.drop_nodes(&mut history, rule);
            self.lower_picks(&mut history, rule);
            if history == before {
                return history;
            }
        }
    }

    fn drop_steps(&self, history: &mut History, rule: Rule) {
        let mut size = history.steps.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < history.steps.len() {
                let mut smaller = history.clone();
                let end = (at + size).min(smaller.steps.len());
                smaller.steps.drain(at..end);
                if self.fails(&smaller, rule) {
                    *history = smaller;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
    }

    fn drop_nodes(&self, history: &mut History, rule: Rule) {
        while history.config.nodes.len() > 1 {
            let mut smaller = history.clone();
            smaller.config.nodes.pop();
            if !self.fails(&smaller, rule) {
                return;
            }
            *history = smaller;
        }
    }

    fn lower_picks(&self, history: &mut History, rule: Rule) {
        for at in 0..history.steps.len() {
            let step = history.steps[at];
            for pick in [0, 1, 2, step.pick() % 64] {
                let mut smaller = history.clone();
                smaller.steps[at] = step.with(pick);
                if pick < step.pick() && self.fails(&smaller, rule) {
                    *history = smaller;
                    break;
                }
            }
        }
    }
}

/// The history as it is written in a test, and what happens in it.
pub(crate) fn show(bench: &Bench, history: &History, violation: &Violation) -> String {
    let mut text = format!("{:?}: {}\n", violation.rule, violation.what);
    let (_, _, trace) = history.run(bench, true);
    let _ = writeln!(text, "what happens:");
    for line in trace {
        let _ = writeln!(text, "  {line}");
    }
    let _ = writeln!(text, "as a test:");
    let _ = writeln!(
        text,
        "  holds(&{:?}, &[{}]);",
        history.config.nodes,
        history
            .steps
            .iter()
            .map(|step| format!("{step:?}"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    text
}
