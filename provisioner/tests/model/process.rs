//! A provisioner: the product's own state, indexes, calls and controllers, driven by hand. Its futures run only when the model
//! polls them; its watches hear only what the model tells them; its calls arrive only when the model carries them out. Beside it
//! stands external-provisioner, which calls it.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use hawser_api::{LocalStorageNode, LocalVolume, LocalVolumeGroup, LocalVolumeReplica};
use hawser_inventory::Fold;
use hawser_runtime::{events::Recorder, health::Health, index::Index, reconcile::Action};
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use provisioner::{
    controllers,
    csi::{create, delete, refusal::Refusal},
    objects::{Permit, WriteError},
    reserve::takeover,
    state::{Settings, State},
};

use crate::{
    breaks::Break,
    network::Network,
    objects::{ClaimInfo, Class},
    server::{Cursor, Event, News, Server, Stored, View},
};

/// What became of a task.
pub(crate) enum Done {
    Created(ClaimInfo, Result<(), Refusal>),
    Deleted(String, Result<(), Refusal>),
    Reconciled(Queue, String, Result<Action, WriteError>),
    TakenOver(Result<(), WriteError>),
    Nothing,
}

/// A queue of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    Volumes,
    Groups,
    /// Persistent volumes.
    Bindings,
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    what: String,
    future: Pin<Box<dyn Future<Output = Done> + Send>>,
    woken: Arc<Flag>,
}

/// Where the watches are.
#[derive(Default)]
pub(crate) struct Cursors([Cursor; KINDS]);

/// Kinds that a provisioner watches.
pub(crate) const KINDS: usize = 8;

pub(crate) struct Process {
    pub(crate) id: usize,
    pub(crate) state: Arc<State>,
    permit: Permit,
    /// It may write.
    pub(crate) leads: bool,
    /// It has taken over: calls are answered, controllers run.
    pub(crate) serves: bool,
    pub(crate) taking_over: bool,
    cursors: Cursors,
    persistent: Box<dyn Index<PersistentVolume>>,
    storage_nodes: Box<dyn Index<LocalStorageNode>>,
    classes: Box<dyn Index<StorageClass>>,
    tasks: Vec<Task>,
    broken: Option<Break>,
    /// What external-provisioner sees of claims.
    pub(crate) claims: View<PersistentVolumeClaim>,
    /// Volumes with a call under way.
    pub(crate) calling: BTreeSet<String>,
    /// Claims whose last call may have made something: it goes on calling for them.
    pub(crate) in_background: BTreeMap<String, ClaimInfo>,
}

/// Tells an index the next news.
fn feed<K: Stored>(cursor: &mut Cursor, server: &Server, index: &dyn Index<K>) -> bool {
    match cursor.next::<K>(server) {
        None => return false,
        Some(News::List(all)) => index.reset(all, &BTreeSet::new()),
        Some(News::Event(event)) => tell(index, event),
    }
    true
}

fn tell<K: 'static>(index: &dyn Index<K>, event: Event<K>) {
    match event {
        Event::Set(object) => index.apply(object),
        Event::Gone(key) => index.delete(&key),
    }
}

fn again<K: Stored>(cursor: Cursor, server: &Server, index: &dyn Index<K>) {
    if let Some(event) = cursor.last::<K>(server) {
        tell(index, event);
    }
}

/// Calls `$do` with the cursor and the index of the kind of that number.
macro_rules! by_kind {
    ($self:ident, $kind:expr, $do:ident, $($before:expr),*; $server:expr) => {{
        let objects = &$self.state.objects;
        match $kind {
            0 => $do::<LocalVolumeGroup>($($before(0),)* $server, &objects.groups.index()),
            1 => $do::<LocalVolume>($($before(1),)* $server, &objects.volumes.index()),
            2 => $do::<LocalVolumeReplica>($($before(2),)* $server, &objects.replicas.index()),
            3 => $do::<LocalStorageNode>($($before(3),)* $server, &*$self.storage_nodes),
            4 => $do::<Node>($($before(4),)* $server, &$self.state.inventory),
            5 => $do::<PersistentVolume>($($before(5),)* $server, &*$self.persistent),
            6 => $do::<Pod>($($before(6),)* $server, &$self.state.waiting),
            _ => $do::<StorageClass>($($before(7),)* $server, &*$self.classes),
        }
    }};
}

impl Process {
    pub(crate) fn start(
        id: usize,
        client: &kube::Client,
        network: &Network,
        broken: Option<Break>,
    ) -> Self {
        let permit = Permit::none();
        permit.fixed(true);
        let settings = Settings::new("hwameistor", format!("p{id}"));
        let epoch = if broken == Some(Break::NoEpochs) {
            "always".to_owned()
        } else {
            format!("p{id}")
        };
        let shutdown = hawser_runtime::shutdown::Shutdown::new(settings.patience);
        let state = State::assemble(
            client.clone(),
            &network.remotes(id, broken),
            permit.clone(),
            (settings, epoch),
            Recorder::nowhere(),
            &Health::new(&shutdown),
        );
        let mut process = Self {
            id,
            permit,
            leads: true,
            serves: false,
            taking_over: false,
            cursors: Cursors::default(),
            persistent: Box::new(state.persistent_index()),
            storage_nodes: Box::new(state.storage_node_index()),
            classes: Box::new(state.class_index()),
            tasks: Vec::new(),
            broken,
            claims: View::default(),
            calling: BTreeSet::new(),
            in_background: BTreeMap::new(),
            state,
        };
        let objects = &process.state.objects;
        let doubts = [
            Box::pin(objects.volumes.resolve_doubts()) as Pin<Box<dyn Future<Output = ()> + Send>>,
            Box::pin(objects.replicas.resolve_doubts()),
            Box::pin(objects.groups.resolve_doubts()),
        ];
        for doubts in doubts {
            process.run("doubts", async move {
                doubts.await;
                Done::Nothing
            });
        }
        process
    }

    /// It has lost its leadership, and goes on for a while.
    pub(crate) fn depose(&mut self) {
        self.leads = false;
        self.permit.fixed(false);
    }

    fn run(&mut self, what: impl Into<String>, work: impl Future<Output = Done> + Send + 'static) {
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        self.tasks.push(Task {
            what: what.into(),
            future: Box::pin(work),
            woken,
        });
    }

    // Watches.

    /// Tells the watch of one kind its next news; false if there is none.
    pub(crate) fn hear(&mut self, kind: usize, server: &Server) -> bool {
        if kind == KINDS {
            return self.claims.hear(server);
        }
        let mut cursor = self.cursors.0[kind];
        let at = &mut cursor;
        let objects = &self.state.objects;
        let heard = match kind {
            0 => feed::<LocalVolumeGroup>(at, server, &objects.groups.index()),
            1 => feed::<LocalVolume>(at, server, &objects.volumes.index()),
            2 => feed::<LocalVolumeReplica>(at, server, &objects.replicas.index()),
            3 => feed::<LocalStorageNode>(at, server, &*self.storage_nodes),
            4 => feed::<Node>(at, server, &self.state.inventory),
            5 => feed::<PersistentVolume>(at, server, &*self.persistent),
            6 => feed::<Pod>(at, server, &self.state.waiting),
            _ => {
                let heard = feed::<StorageClass>(at, server, &*self.classes);
                self.assume_copies();
                heard
            }
        };
        self.cursors.0[kind] = cursor;
        self.blind();
        heard
    }

    fn assume_copies(&self) {
        self.state.inventory.with(|inventory| {
            for class in Class::ALL {
                inventory.assume_copies(class.name(), class.copies());
            }
        });
    }

    /// The last news of a kind once more.
    pub(crate) fn hear_again(&mut self, kind: usize, server: &Server) {
        let cursor = self.cursors.0[kind.min(KINDS - 1)];
        let cursor = |_| cursor;
        by_kind!(self, kind, again, cursor; server);
        self.assume_copies();
        self.blind();
    }

    pub(crate) fn relist(&mut self, kind: usize) {
        self.cursors.0[kind.min(KINDS - 1)].relist();
    }

    pub(crate) fn is_listed(&self) -> bool {
        self.cursors.0.iter().all(|cursor| cursor.is_listed())
    }

    /// Whether the watches have told everything.
    pub(crate) fn is_current(&self, server: &Server) -> bool {
        let at = &self.cursors.0;
        at[0].is_current::<LocalVolumeGroup>(server)
            && at[1].is_current::<LocalVolume>(server)
            && at[2].is_current::<LocalVolumeReplica>(server)
            && at[3].is_current::<LocalStorageNode>(server)
            && at[4].is_current::<Node>(server)
            && at[5].is_current::<PersistentVolume>(server)
            && at[6].is_current::<Pod>(server)
            && at[7].is_current::<StorageClass>(server)
    }

    /// Keeps the inventory from seeing reservations, if that is what is broken.
    fn blind(&self) {
        if self.broken == Some(Break::OthersReservations) {
            self.state.inventory.with(|inventory| {
                for key in Fold::<LocalVolumeGroup>::missing(inventory, &|_, _| false) {
                    Fold::<LocalVolumeGroup>::remove(inventory, &key);
                }
            });
        }
    }

    // Work.

    /// Starts to take over, once everything is listed.
    pub(crate) fn take_over(&mut self) {
        self.taking_over = true;
        let state = self.state.clone();
        if self.broken == Some(Break::NoEpochs) {
            self.run("take over", async { Done::TakenOver(Ok(())) });
        } else {
            self.run("take over", async move {
                Done::TakenOver(takeover::take_over(&state).await)
            });
        }
    }

    /// Keys that wait for a controller, in a fixed order.
    pub(crate) fn work(&self) -> Vec<(Queue, String)> {
        let queues = &self.state.queues;
        let mut groups = queues.groups.waiting();
        if self.broken == Some(Break::KeeperSleeps) {
            groups.clear();
        }
        let all = [
            (Queue::Groups, groups),
            (Queue::Volumes, queues.volumes.waiting()),
            (Queue::Bindings, queues.bindings.waiting()),
        ];
        let sorted = all.into_iter().flat_map(|(queue, mut keys)| {
            keys.sort();
            keys.into_iter().map(move |key| (queue, key))
        });
        sorted.collect()
    }

    pub(crate) fn start_work(&mut self, queue: Queue, key: &String) {
        let (state, work_key) = (self.state.clone(), key.clone());
        let queues = self.state.queues.clone();
        let what = format!("{queue:?} {key}");
        match queue {
            Queue::Groups if queues.groups.start(key) => self.run(what, async move {
                let done = controllers::group::reconcile(state, work_key.clone()).await;
                Done::Reconciled(Queue::Groups, work_key, done)
            }),
            Queue::Volumes if queues.volumes.start(key) => self.run(what, async move {
                let done = controllers::volume::reconcile(state, work_key.clone()).await;
                Done::Reconciled(Queue::Volumes, work_key, done)
            }),
            Queue::Bindings if queues.bindings.start(key) => self.run(what, async move {
                let done = controllers::binding::reconcile(state, work_key.clone()).await;
                Done::Reconciled(Queue::Bindings, work_key, done)
            }),
            Queue::Groups | Queue::Volumes | Queue::Bindings => {}
        }
    }

    pub(crate) fn finish_work(&self, queue: Queue, key: String, done: Result<Action, WriteError>) {
        match queue {
            Queue::Groups => self.state.queues.groups.finish(key, done),
            Queue::Volumes => self.state.queues.volumes.finish(key, done),
            Queue::Bindings => self.state.queues.bindings.finish(key, done),
        }
    }

    pub(crate) fn create(&mut self, claim: ClaimInfo, mut ask: create::Ask) {
        if self.broken == Some(Break::NotJoint) {
            ask.claim = None;
        }
        self.calling.insert(claim.volume());
        let state = self.state.clone();
        self.run(format!("CreateVolume {}", claim.name), async move {
            let answer = create::serve(state, ask).await;
            Done::Created(claim, answer.map(drop))
        });
    }

    pub(crate) fn delete(&mut self, volume: String) {
        self.calling.insert(volume.clone());
        let state = self.state.clone();
        self.run(format!("DeleteVolume {volume}"), async move {
            let answer = delete::serve(state, volume.clone()).await;
            Done::Deleted(volume, answer.map(drop))
        });
    }

    /// Tasks that can go on.
    pub(crate) fn ready(&self) -> Vec<usize> {
        let tasks = self.tasks.iter().enumerate();
        let woken = tasks.filter(|(_, task)| task.woken.0.load(Ordering::Relaxed));
        woken.map(|(number, _)| number).collect()
    }

    /// Whether nothing runs but what waits for news.
    pub(crate) fn is_idle(&self) -> bool {
        let busy = |task: &Task| task.what != "doubts" && !task.what.starts_with("CreateVolume");
        !self.tasks.iter().any(busy)
    }

    /// Lets a task go on until it waits.
    pub(crate) fn poll(&mut self, number: usize) -> Option<(String, Done)> {
        let task = self.tasks.get_mut(number)?;
        task.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(task.woken.clone());
        let polled = task.future.as_mut().poll(&mut Context::from_waker(&waker));
        let done = match polled {
            Poll::Pending => None,
            Poll::Ready(done) => Some((self.tasks.remove(number).what, done)),
        };
        self.blind();
        if self.broken == Some(Break::LostAnswersForgotten)
            && let Ok(mut unsettled) = self.state.placing.try_lock()
        {
            *unsettled = provisioner::reserve::Unsettled::default();
        }
        done
    }

    pub(crate) fn task(&self, number: usize) -> &str {
        self.tasks.get(number).map_or("", |task| &task.what)
    }

    /// Whether no write is in doubt and nobody is placing anything.
    pub(crate) fn is_settled(&self) -> bool {
        self.state
            .placing
            .try_lock()
            .is_ok_and(|unsettled| unsettled.is_settled())
    }

    /// The request that external-provisioner makes for a claim.
    pub(crate) fn ask(claim: &ClaimInfo, nodes: &[String]) -> create::Ask {
        let allowed = match &claim.selected {
            Some(node) => vec![node.clone()],
            None => nodes.to_vec(),
        };
        let pool_class = if claim.class == Class::Fast {
            hawser_api::PoolClass::SSD
        } else {
            hawser_api::PoolClass::HDD
        };
        let range = provisioner::decide::size::Range::new(claim.bytes, 0);
        create::Ask {
            suggested: claim.volume(),
            volume: claim.volume(),
            range: range.expect("sizes are positive"),
            size: claim.bytes,
            class: hawser_api::parameters::VolumeClass {
                pool_class,
                replicas: i64::from(claim.class.copies()),
                convertible: false,
                fs_type: None,
                thin: false,
                encryption: None,
                placement: None,
                qos: None,
            },
            topology: provisioner::csi::request::Topology {
                allowed: Some(allowed),
                preferred: Vec::new(),
            },
            claim: Some(provisioner::csi::request::ClaimRef {
                namespace: crate::objects::SHOP.to_owned(),
                name: claim.name.clone(),
            }),
            context: BTreeMap::new(),
        }
    }

    /// Keys of claims as external-provisioner sees them, for whose volume it has no call under way and that it would call for now.
    pub(crate) fn wanted_calls(&self) -> Vec<ClaimInfo> {
        let seen = self.claims.objects.values();
        let mut wanted: Vec<ClaimInfo> = seen
            .filter(|claim| !provisioner::decide::claimant::is_bound(claim))
            .filter(|claim| claim.metadata.deletion_timestamp.is_none())
            .filter_map(|claim| ClaimInfo::of(claim))
            .filter(|claim| claim.selected.is_some() || claim.class == Class::Now)
            .collect();
        let gone = self.in_background.values().filter(|claim| {
            let seen = self.claims.get(&crate::objects::in_shop(&claim.name));
            seen.is_none_or(|c| c.metadata.uid.as_deref() != Some(&claim.uid))
        });
        wanted.extend(gone.cloned());
        wanted.retain(|claim| !self.calling.contains(&claim.volume()));
        wanted
    }

    /// How a key is shown in a trace.
    pub(crate) fn kind(number: usize) -> &'static str {
        [
            "groups",
            "volumes",
            "replicas",
            "storage nodes",
            "nodes",
            "persistent volumes",
            "pods",
            "classes",
            "claims",
        ][number.min(KINDS)]
    }
}
