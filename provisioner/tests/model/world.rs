//! The cluster, and what a step does to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hawser_api::LocalVolume;
use hawser_runtime::index::Key;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use provisioner::decide::claimant::selected_node;
use tokio::runtime::Runtime;
use tonic::Code;

use crate::{
    breaks::Break,
    network::Network,
    nodes::{Daemon, Health},
    objects::{Class, GIB, a_persistent, in_shop, pool_name},
    process::{self, Done, Process},
    scheduler::{self, Extender, Scheduled, Scheduler},
    server::{Server, Stored},
    step::Step,
    users::{self, pick_of},
};

/// What the cluster is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// GiB of HDD and of SSD (0: none) for each node.
    pub(crate) nodes: Vec<(i64, i64)>,
    pub(crate) broken: Option<Break>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) what: String,
}

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Allocated and reserved never exceed a pool.
    NeverOvercommitted,
    /// No reservation outlives its pod.
    EndsWithPod,
    /// No pod waits for ever while room exists that every rule allows.
    NobodyWaitsInVain,
    /// The extender and the provisioner agree when both know the same.
    Agreement,
    /// What was answered as made is there, its copies on different nodes.
    PromisesKept,
    /// Everything comes to rest.
    Rest,
    /// Nothing is left when everything was deleted.
    NothingLeft,
}

/// How often things happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) steps: BTreeMap<&'static str, u64>,
    pub(crate) events: BTreeMap<&'static str, u64>,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        for (all, more) in [
            (&mut self.steps, &other.steps),
            (&mut self.events, &other.events),
        ] {
            for (name, count) in more {
                *all.entry(name).or_insert(0) += count;
            }
        }
    }
}

pub(crate) struct World<'r> {
    runtime: &'r Runtime,
    client: &'r kube::Client,
    pub(crate) config: Config,
    pub(crate) server: Server,
    pub(crate) network: Network,
    pub(crate) daemons: Vec<Daemon>,
    pub(crate) processes: Vec<Process>,
    started: usize,
    pub(crate) extender: Extender,
    pub(crate) scheduler: Scheduler,
    pub(crate) counts: Counts,
    /// What happened, in words; only kept when asked for.
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) violation: Option<Violation>,
    /// Volumes whose data went with a node.
    pub(crate) ruined: BTreeSet<String>,
    /// When everything held: the server's version and what nodes had done.
    pub(crate) checked: (u64, u64),
}

/// Who listens to watches: the number of watches that each has.
const SCHEDULER_VIEWS: usize = 4;

impl<'r> World<'r> {
    pub(crate) fn new(runtime: &'r Runtime, client: &'r kube::Client, config: Config) -> Self {
        let mut server = Server::default();
        for class in Class::ALL {
            let created = server.create(class.object());
            created.expect("the server is empty");
        }
        let mut daemons = Vec::new();
        for (i, (hdd, ssd)) in config.nodes.iter().enumerate() {
            let mut pools = vec![("HDD", hdd * GIB)];
            if *ssd > 0 {
                pools.push(("SSD", ssd * GIB));
            }
            let mut daemon = Daemon::new(&format!("n{i}"), i == 0, &pools);
            daemon.join(&mut server);
            daemons.push(daemon);
        }
        let extender = Extender::new(config.broken);
        Self {
            runtime,
            client,
            config,
            server,
            network: Network::default(),
            daemons,
            processes: Vec::new(),
            started: 0,
            extender,
            scheduler: Scheduler::default(),
            counts: Counts::default(),
            trace: None,
            violation: None,
            ruined: BTreeSet::new(),
            checked: (0, 0),
        }
    }

    pub(crate) fn say(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(what());
        }
    }

    pub(crate) fn count(&mut self, event: &'static str) {
        *self.counts.events.entry(event).or_insert(0) += 1;
    }

    pub(crate) fn violate(&mut self, rule: Rule, what: String) {
        if self.violation.is_none() {
            self.say(|| format!("VIOLATION {rule:?}: {what}"));
            self.violation = Some(Violation { rule, what });
        }
    }

    /// The provisioner that leads.
    pub(crate) fn leader(&self) -> Option<usize> {
        self.processes.iter().position(|process| process.leads)
    }

    /// Does a step, if it can be done now; then everything must still hold.
    pub(crate) fn step(&mut self, step: Step) {
        let _inside = self.runtime.enter();
        if self.apply(step) {
            *self.counts.steps.entry(step.name()).or_insert(0) += 1;
            self.check();
        }
    }

    fn apply(&mut self, step: Step) -> bool {
        self.say(|| format!("{step:?}"));
        match step {
            Step::Pod(shape) => users::create_pod(&mut self.server, shape),
            Step::DeletePod(pick) => users::delete_pod(&mut self.server, pick),
            Step::DeleteClaim(pick) => users::delete_claim(&mut self.server, pick),
            Step::Grow(pick) => self.grow(pick),
            Step::Silence(pick) => self.toggle(pick, Health::Silent),
            Step::Break(pick) => self.toggle(pick, Health::Broken),
            Step::Lose(pick) => self.lose_node(pick),
            Step::Chore(pick) => self.chore(pick),
            Step::Schedule(pick) => self.schedule(pick),
            Step::RestartScheduler => {
                self.extender.restart();
                self.scheduler.restart();
                true
            }
            Step::Call(pick) => self.call(pick),
            Step::Work(pick) => self.work(pick),
            Step::Poll(pick) => self.poll(pick),
            Step::Serve(pick) => self.on_the_way(pick, true, Network::serve),
            Step::Refuse(pick) => self.on_the_way(pick, true, |n, number, _| n.refuse(number)),
            Step::LoseAnswer(pick) => self.on_the_way(pick, true, Network::lose),
            Step::Delay(pick) => self.on_the_way(pick, true, |n, number, _| n.delay(number)),
            Step::Arrive(pick) => self.on_the_way(pick, false, Network::serve),
            Step::Vanish(pick) => self.on_the_way(pick, false, |n, number, _| n.vanish(number)),
            Step::Hear(pick) => self.hear(pick),
            Step::Catch(pick) => self.catch_up(pick),
            Step::Relist(pick) => self.relist(pick),
            Step::HearAgain(pick) => self.hear_again(pick),
            Step::Daemon(pick) => self.daemon(pick),
            Step::Kill(pick) => self.kill(pick),
            Step::Depose => self.depose(),
            Step::Lead => self.lead(),
            Step::Ready => self.ready(),
            Step::Wait(seconds) => {
                self.wait(u64::from(seconds % 64));
                true
            }
            Step::Run(rounds) => {
                for _ in 0..=(rounds % 4) {
                    self.round();
                }
                true
            }
            Step::RunLeader => {
                let Some(at) = self.leader() else {
                    return false;
                };
                self.run_process(at);
                true
            }
            Step::Compare => self.compare(),
        }
    }

    // Nodes.

    fn grow(&mut self, pick: u16) -> bool {
        let Some(at) = usize::from(pick).checked_rem(self.daemons.len()) else {
            return false;
        };
        let size = self.daemons[at].pools.entry(pool_name("HDD")).or_insert(0);
        *size += GIB;
        true
    }

    fn toggle(&mut self, pick: u16, to: Health) -> bool {
        let Some(at) = usize::from(pick).checked_rem(self.daemons.len()) else {
            return false;
        };
        let health = &mut self.daemons[at].health;
        if *health == Health::Lost {
            return false;
        }
        *health = if *health == Health::Up {
            to
        } else {
            Health::Up
        };
        true
    }

    fn lose_node(&mut self, pick: u16) -> bool {
        let Some(at) = usize::from(pick).checked_rem(self.daemons.len()) else {
            return false;
        };
        let daemon = &mut self.daemons[at];
        if daemon.health == Health::Lost {
            daemon.join(&mut self.server);
        } else {
            self.ruined.extend(daemon.volumes.keys().cloned());
            daemon.leave(&mut self.server);
        }
        true
    }

    fn daemon(&mut self, pick: u16) -> bool {
        let mut all = Vec::new();
        for (at, daemon) in self.daemons.iter().enumerate() {
            let acts = daemon.acts(&self.server);
            all.extend(acts.into_iter().map(|act| (at, act)));
        }
        let Some((at, act)) = pick_of(&all, pick).cloned() else {
            return false;
        };
        self.say(|| format!("  n{at}: {act:?}"));
        let broken = self.config.broken;
        if let Err(what) = self.daemons[at].act(&act, &mut self.server, broken) {
            self.violate(Rule::NeverOvercommitted, what);
        }
        true
    }

    /// Each daemon does all that it has to do.
    fn all_daemons(&mut self) {
        for at in 0..self.daemons.len() {
            while self.daemons[at].view.hear(&self.server) {}
            for act in self.daemons[at].acts(&self.server) {
                self.say(|| format!("  n{at}: {act:?}"));
                let broken = self.config.broken;
                if let Err(what) = self.daemons[at].act(&act, &mut self.server, broken) {
                    self.violate(Rule::NeverOvercommitted, what);
                }
            }
        }
    }

    // Kubernetes.

    fn chore(&mut self, pick: u16) -> bool {
        let chores = users::chores(&self.server);
        let Some(chore) = pick_of(&chores, pick) else {
            return false;
        };
        self.say(|| format!("  {chore:?}"));
        users::perform(&mut self.server, chore);
        true
    }

    fn schedule(&mut self, pick: u16) -> bool {
        let waiting = self.scheduler.waiting();
        let Some(key) = pick_of(&waiting, pick) else {
            return false;
        };
        self.schedule_pod(key)
    }

    pub(crate) fn schedule_pod(&mut self, key: &Key) -> bool {
        let done = self.scheduler.step(key, &self.extender, &mut self.server);
        self.say(|| format!("  {key}: {done:?}"));
        if done == Scheduled::Refused
            && self.trace.is_some()
            && let Some(pod) = self.scheduler.pods.get(key)
        {
            let against = self.extender.objections(pod, &self.nodes_there());
            self.say(|| format!("    {against:?}"));
        }
        match done {
            Scheduled::Chosen => self.count("pods sent to a node"),
            Scheduled::Back => self.count("pods that came back"),
            Scheduled::Bound => self.count("pods bound"),
            Scheduled::Nothing | Scheduled::Refused | Scheduled::Annotated => {}
        }
        !matches!(done, Scheduled::Nothing | Scheduled::Refused)
    }

    // external-provisioner.

    fn call(&mut self, pick: u16) -> bool {
        let mut calls = Vec::new();
        let Some(at) = self.leader().filter(|at| self.processes[*at].serves) else {
            return false;
        };
        calls.extend(self.processes[at].wanted_calls().into_iter().map(Ok));
        calls.extend(self.released(at).into_iter().map(Err));
        match pick_of(&calls, pick).cloned() {
            None => false,
            Some(Ok(claim)) => {
                let nodes: Vec<String> = self.nodes_there();
                if claim.selected.as_ref().is_some_and(|n| !nodes.contains(n)) {
                    self.say(|| format!("  {} was to go to a node that is gone", claim.name));
                    self.take_back(&claim);
                    self.processes[at].in_background.remove(&claim.volume());
                    return true;
                }
                self.say(|| format!("  CreateVolume for {claim:?}"));
                self.count("CreateVolume");
                let ask = Process::ask(&claim, &nodes);
                self.processes[at].create(claim, ask);
                true
            }
            Some(Err(volume)) => {
                self.say(|| format!("  DeleteVolume {volume}"));
                self.count("DeleteVolume");
                self.processes[at].delete(volume);
                true
            }
        }
    }

    fn nodes_there(&self) -> Vec<String> {
        let nodes = self.server.nodes.objects.values();
        nodes.map(|node| node.name_any()).collect()
    }

    /// Persistent volumes whose claims are gone.
    fn released(&self, at: usize) -> Vec<String> {
        let all = self.server.persistent.objects.values();
        all.filter(|persistent| users::bound_claim(&self.server, persistent).is_none())
            .map(|persistent| persistent.name_any())
            .filter(|name| !self.processes[at].calling.contains(name))
            .collect()
    }

    fn finished(&mut self, at: usize, what: &str, done: Done) {
        match done {
            Done::Nothing => {}
            Done::TakenOver(Ok(())) => {
                self.say(|| "  it serves".to_owned());
                self.processes[at].serves = true;
                self.processes[at].taking_over = false;
            }
            Done::TakenOver(Err(error)) => {
                self.say(|| format!("  taking over failed: {error}"));
                self.processes[at].taking_over = false;
            }
            Done::Reconciled(queue, key, result) => {
                self.say(|| format!("  {what}: {result:?}"));
                self.processes[at].finish_work(queue, key, result);
            }
            Done::Deleted(volume, result) => {
                self.say(|| format!("  {what}: {result:?}"));
                self.processes[at].calling.remove(&volume);
                if result.is_ok() {
                    self.server
                        .delete::<PersistentVolume>(&Key::cluster(volume));
                }
            }
            Done::Created(claim, result) => {
                self.say(|| format!("  {what}: {result:?}"));
                self.created(at, claim, result);
            }
        }
    }

    /// What external-provisioner does with an answer.
    fn created(
        &mut self,
        at: usize,
        claim: crate::objects::ClaimInfo,
        result: Result<(), provisioner::csi::refusal::Refusal>,
    ) {
        let (process, volume) = (&mut self.processes[at], claim.volume());
        process.calling.remove(&volume);
        process.in_background.remove(&volume);
        match result.map_err(|refusal| refusal.code) {
            Ok(()) => {
                self.count("CreateVolume answered: made");
                let Some(made) = self.server.named::<LocalVolume>(&volume) else {
                    let what = format!("{volume} was answered as made and is not there");
                    return self.violate(Rule::PromisesKept, what);
                };
                let persistent = a_persistent(&made, &claim);
                // It may have been made by an earlier answer.
                let _ = self.server.create(persistent);
            }
            Err(Code::ResourceExhausted) => {
                self.count("CreateVolume answered: no room");
                self.take_back(&claim);
            }
            Err(Code::Aborted | Code::Unavailable | Code::DeadlineExceeded) => {
                self.count("CreateVolume answered: try again");
                process_of(&mut self.processes, at)
                    .in_background
                    .insert(volume, claim);
            }
            Err(_) => self.count("CreateVolume answered: otherwise"),
        }
    }

    /// The claim's node is to be chosen anew.
    fn take_back(&mut self, claim: &crate::objects::ClaimInfo) {
        let (uid, selected) = (Some(&claim.uid), claim.selected.as_deref());
        self.server
            .edit::<PersistentVolumeClaim>(&in_shop(&claim.name), |c| {
                if c.metadata.uid.as_ref() == uid && selected_node(c) == selected {
                    let key = hawser_api::names::annotations::SELECTED_NODE;
                    c.annotations_mut().remove(key);
                }
            });
    }

    // The provisioner.

    fn lead(&mut self) -> bool {
        if self.leader().is_some() {
            return false;
        }
        self.started += 1;
        let (id, broken) = (self.started, self.config.broken);
        self.count("provisioners started");
        let process = Process::start(id, self.client, &self.network, broken);
        self.processes.push(process);
        true
    }

    fn ready(&mut self) -> bool {
        let began = self.lead();
        let Some(at) = self.leader().filter(|at| !self.processes[*at].serves) else {
            return began;
        };
        for kind in 0..=process::KINDS {
            while self.hear_one(Who::Process(at), kind) {}
        }
        self.begin_taking_over(at);
        self.run_process(at);
        true
    }

    fn depose(&mut self) -> bool {
        let Some(at) = self.leader() else {
            return false;
        };
        self.processes[at].depose();
        self.count("changes of leader with the old one alive");
        true
    }

    fn kill(&mut self, pick: u16) -> bool {
        let Some(at) = usize::from(pick).checked_rem(self.processes.len()) else {
            return false;
        };
        let process = self.processes.remove(at);
        if process.leads {
            self.count("crashes of the leader");
        }
        self.network.orphan(process.id);
        true
    }

    fn work(&mut self, pick: u16) -> bool {
        let Some(at) = self.leader().filter(|at| self.processes[*at].serves) else {
            return false;
        };
        let work = self.processes[at].work();
        let Some((queue, key)) = pick_of(&work, pick) else {
            return false;
        };
        self.say(|| format!("  {queue:?} {key}"));
        self.processes[at].start_work(*queue, key);
        true
    }

    fn poll(&mut self, pick: u16) -> bool {
        let mut all = Vec::new();
        for (at, process) in self.processes.iter().enumerate() {
            all.extend(process.ready().into_iter().map(|task| (at, task)));
        }
        let Some(&(at, task)) = pick_of(&all, pick) else {
            return false;
        };
        self.poll_task(at, task);
        true
    }

    fn poll_task(&mut self, at: usize, task: usize) {
        if self.trace.is_some() {
            let what = format!(
                "  p{} {}",
                self.processes[at].id,
                self.processes[at].task(task)
            );
            self.say(|| what);
        }
        if let Some((what, done)) = self.processes[at].poll(task) {
            self.finished(at, &what, done);
        }
    }

    fn on_the_way(
        &mut self,
        pick: u16,
        awaited: bool,
        happen: impl Fn(&Network, u64, &mut Server) -> Option<String>,
    ) -> bool {
        let numbers = self.network.numbers(|call| call.awaited == awaited);
        let Some(number) = pick_of(&numbers, pick) else {
            return false;
        };
        let what = happen(&self.network, *number, &mut self.server);
        self.say(|| format!("  {}", what.unwrap_or_default()));
        true
    }

    // Watches.

    /// Every watch: who, and which of theirs.
    fn watches(&self) -> Vec<(Who, usize)> {
        let mut all = Vec::new();
        for at in 0..self.processes.len() {
            all.extend((0..=process::KINDS).map(|kind| (Who::Process(at), kind)));
        }
        all.extend((0..scheduler::KINDS).map(|kind| (Who::Extender, kind)));
        all.extend((0..SCHEDULER_VIEWS).map(|kind| (Who::Scheduler, kind)));
        all.extend((0..self.daemons.len()).map(|at| (Who::Daemon(at), 0)));
        all
    }

    fn hear_one(&mut self, who: Who, kind: usize) -> bool {
        let server = &self.server;
        match who {
            Who::Process(at) => self.processes[at].hear(kind, server),
            Who::Extender => self.extender.hear(kind, server),
            Who::Scheduler => self.scheduler.hear(kind, server),
            Who::Daemon(at) => self.daemons[at].view.hear(server),
        }
    }

    fn hear(&mut self, pick: u16) -> bool {
        let watches = self.watches();
        // One that has nothing to tell passes on to the next.
        let from = usize::from(pick) % watches.len();
        let mut order = watches[from..].iter().chain(&watches[..from]).copied();
        let Some((who, kind)) = order.find(|(who, kind)| self.hear_one(*who, *kind)) else {
            return false;
        };
        let more = pick >> 12;
        for _ in 0..more {
            self.hear_one(who, kind);
        }
        self.say(|| format!("  {who:?} {}", name_of(who, kind)));
        if let Who::Process(at) = who {
            self.begin_taking_over(at);
        }
        true
    }

    fn begin_taking_over(&mut self, at: usize) {
        let process = &mut self.processes[at];
        if process.leads && !process.serves && !process.taking_over && process.is_listed() {
            process.take_over();
        }
    }

    fn catch_up(&mut self, pick: u16) -> bool {
        let watches = self.watches();
        let all: BTreeSet<Who> = watches.iter().map(|(who, _)| *who).collect();
        let all: Vec<Who> = all.into_iter().collect();
        let Some(&who) = pick_of(&all, pick) else {
            return false;
        };
        let mut heard = false;
        for (_, kind) in watches.iter().filter(|(of, _)| *of == who) {
            while self.hear_one(who, *kind) {
                heard = true;
            }
        }
        self.say(|| format!("  {who:?}"));
        if let Who::Process(at) = who {
            self.begin_taking_over(at);
        }
        heard
    }

    fn relist(&mut self, pick: u16) -> bool {
        let watches = self.watches();
        let (who, kind) = watches[usize::from(pick) % watches.len()];
        match who {
            Who::Process(at) => self.processes[at].relist(kind),
            Who::Extender => self.extender.relist(kind),
            Who::Scheduler => return false,
            Who::Daemon(at) => self.daemons[at].view.cursor.relist(),
        }
        true
    }

    fn hear_again(&mut self, pick: u16) -> bool {
        let watches = self.watches();
        let (who, kind) = watches[usize::from(pick) % watches.len()];
        match who {
            Who::Process(at) if kind < process::KINDS => {
                self.processes[at].hear_again(kind, &self.server);
            }
            Who::Extender => self.extender.hear_again(kind, &self.server),
            Who::Process(_) | Who::Scheduler | Who::Daemon(_) => return false,
        }
        true
    }

    // Everything together.

    pub(crate) fn wait(&mut self, seconds: u64) {
        let passing = tokio::time::advance(Duration::from_secs(seconds));
        self.runtime.block_on(passing);
    }

    /// Lets a provisioner go on until it waits for others; its calls are answered.
    pub(crate) fn run_process(&mut self, at: usize) {
        for _ in 0..20_000 {
            let ready = self.processes[at].ready();
            if let Some(task) = ready.first() {
                self.poll_task(at, *task);
                continue;
            }
            let id = self.processes[at].id;
            let mine = self.network.numbers(|c| c.awaited && c.process == id);
            let Some(number) = mine.first() else { return };
            let what = self.network.serve(*number, &mut self.server);
            self.say(|| format!("  {}", what.unwrap_or_default()));
        }
        self.violate(Rule::Rest, "a provisioner works without end".to_owned());
    }

    pub(crate) fn hear_all(&mut self) {
        for (who, kind) in self.watches() {
            while self.hear_one(who, kind) {}
        }
        for at in 0..self.processes.len() {
            self.begin_taking_over(at);
        }
    }

    /// Everybody does what there is to do, once.
    pub(crate) fn round(&mut self) {
        if self.leader().is_none() {
            self.lead();
        }
        self.hear_all();
        for at in (0..self.processes.len()).rev() {
            self.run_process(at);
        }
        if let Some(at) = self.leader().filter(|at| self.processes[*at].serves) {
            for (queue, key) in self.processes[at].work() {
                self.processes[at].start_work(queue, &key);
            }
            self.run_process(at);
        }
        self.hear_all();
        self.check();
        for _ in 0..self.calls_wanted() {
            self.call(0);
        }
        if let Some(at) = self.leader() {
            self.run_process(at);
        }
        for _ in 0..3 {
            self.all_daemons();
            self.check();
        }
        for _ in 0..3 {
            for chore in users::chores(&self.server) {
                self.say(|| format!("  {chore:?}"));
                users::perform(&mut self.server, &chore);
            }
        }
        self.hear_all();
        for key in self.scheduler.waiting() {
            for _ in 0..6 {
                if !self.schedule_pod(&key) {
                    break;
                }
            }
        }
        self.check();
    }

    fn calls_wanted(&self) -> usize {
        let Some(at) = self.leader().filter(|at| self.processes[*at].serves) else {
            return 0;
        };
        self.processes[at].wanted_calls().len() + self.released(at).len()
    }

    /// Whether somebody would have to be told of something.
    pub(crate) fn version(&self) -> (u64, usize) {
        let volumes = self.daemons.iter().map(|d| d.volumes.len()).sum();
        (self.server.version, volumes)
    }
}

fn process_of(processes: &mut [Process], at: usize) -> &mut Process {
    &mut processes[at]
}

/// Who has watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Process(usize),
    Extender,
    Scheduler,
    Daemon(usize),
}

fn name_of(who: Who, kind: usize) -> &'static str {
    match who {
        Who::Process(_) => Process::kind(kind),
        Who::Extender => Process::kind(match kind {
            6 => process::KINDS,
            8 => 6,
            other => other,
        }),
        Who::Scheduler => ["pods", "claims", "persistent volumes", "nodes"][kind],
        Who::Daemon(_) => "replicas",
    }
}

/// All objects of a kind whose names a violation may want to show.
pub(crate) fn names<K: Stored>(server: &Server) -> Vec<String> {
    let all = K::table(server).objects.keys();
    all.map(ToString::to_string).collect()
}
