//! Calls on their way: sent by a process, carried out by the server at some later moment, or never; answered, or not. A process
//! that ends leaves its calls behind, and they may still arrive.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use hawser_runtime::index::Key;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
};
use kube::ResourceExt;
use parking_lot::Mutex;
use provisioner::{
    decide::claimant::is_waiting,
    remote::{Exactly, Outside, Part, Remote, Remotes, WriteError},
};
use tokio::sync::oneshot;

use crate::{
    breaks::Break,
    server::{Server, Stored},
};

/// Namespace of the lease.
const OURS: &str = "hwameistor";

type Answer<T> = Arc<Mutex<Option<oneshot::Sender<Result<T, WriteError>>>>>;
type Carry = Box<dyn FnOnce(&mut Server) + Send>;
type Fail = Box<dyn Fn(WriteError) + Send>;

/// One call.
pub(crate) struct Call {
    pub(crate) process: usize,
    pub(crate) what: String,
    pub(crate) writes: bool,
    /// Somebody waits for the answer.
    pub(crate) awaited: bool,
    carry: Carry,
    fail: Fail,
}

/// The calls that have not arrived yet, in the order in which they were sent. Clones share one state.
#[derive(Clone, Default)]
pub(crate) struct Network(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    next: u64,
    calls: BTreeMap<u64, Call>,
}

impl Network {
    fn send<T: Send + 'static>(
        &self,
        process: usize,
        what: String,
        writes: bool,
        carry: impl FnOnce(&mut Server) -> Result<T, WriteError> + Send + 'static,
    ) -> oneshot::Receiver<Result<T, WriteError>> {
        let (sender, receiver) = oneshot::channel();
        let answer: Answer<T> = Arc::new(Mutex::new(Some(sender)));
        let failed = answer.clone();
        let call = Call {
            process,
            what,
            writes,
            awaited: true,
            carry: Box::new(move |server| {
                let done = carry(server);
                if let Some(sender) = answer.lock().take() {
                    // Nobody may be waiting any more.
                    let _ = sender.send(done);
                }
            }),
            fail: Box::new(move |error| {
                if let Some(sender) = failed.lock().take() {
                    let _ = sender.send(Err(error));
                }
            }),
        };
        let mut inner = self.0.lock();
        inner.next += 1;
        let number = inner.next;
        inner.calls.insert(number, call);
        receiver
    }

    /// The calls that `wanted` accepts, oldest first.
    pub(crate) fn numbers(&self, wanted: impl Fn(&Call) -> bool) -> Vec<u64> {
        let inner = self.0.lock();
        let calls = inner.calls.iter().filter(|(_, call)| wanted(call));
        calls.map(|(number, _)| *number).collect()
    }

    fn take(&self, number: u64) -> Option<Call> {
        self.0.lock().calls.remove(&number)
    }

    /// Carried out, and answered if somebody waits.
    pub(crate) fn serve(&self, number: u64, server: &mut Server) -> Option<String> {
        let call = self.take(number)?;
        (call.carry)(server);
        Some(call.what)
    }

    /// Not carried out.
    pub(crate) fn refuse(&self, number: u64) -> Option<String> {
        let call = self.take(number)?;
        (call.fail)(WriteError::Unavailable {
            what: call.what.clone(),
            why: "refused by the model".to_owned(),
        });
        Some(call.what)
    }

    /// Carried out, the answer lost.
    pub(crate) fn lose(&self, number: u64, server: &mut Server) -> Option<String> {
        let call = self.take(number)?;
        (call.fail)(WriteError::TimedOut {
            what: call.what.clone(),
        });
        (call.carry)(server);
        Some(call.what)
    }

    /// The caller gives up; the call is still on its way.
    pub(crate) fn delay(&self, number: u64) -> Option<String> {
        let mut inner = self.0.lock();
        let call = inner.calls.get_mut(&number)?;
        (call.fail)(WriteError::TimedOut {
            what: call.what.clone(),
        });
        call.awaited = false;
        let what = call.what.clone();
        if !call.writes {
            inner.calls.remove(&number);
        }
        Some(what)
    }

    /// Never arrives.
    pub(crate) fn vanish(&self, number: u64) -> Option<String> {
        self.take(number).map(|call| call.what)
    }

    /// The process is gone: nobody waits for its calls, and of its reads nothing is left.
    pub(crate) fn orphan(&self, process: usize) {
        let mut inner = self.0.lock();
        let of_process = |call: &Call| call.process == process;
        inner
            .calls
            .retain(|_, call| !of_process(call) || call.writes);
        let orphans = inner.calls.values_mut().filter(|call| of_process(call));
        orphans.for_each(|call| call.awaited = false);
    }

    /// What a process reaches the server by.
    pub(crate) fn remotes(&self, process: usize, broken: Option<Break>) -> Remotes {
        let line = Line {
            network: self.clone(),
            process,
            broken,
        };
        Remotes {
            volumes: Arc::new(Of::new(&line)),
            replicas: Arc::new(Of::new(&line)),
            groups: Arc::new(Of::new(&line)),
            expansions: Arc::new(Of::new(&line)),
            disk_claims: Arc::new(Of::new(&line)),
            outside: Arc::new(line),
        }
    }
}

/// The way from one process to the server.
#[derive(Clone)]
struct Line {
    network: Network,
    process: usize,
    broken: Option<Break>,
}

impl Line {
    async fn call<T: Send + 'static>(
        &self,
        what: String,
        writes: bool,
        carry: impl FnOnce(&mut Server) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, WriteError> {
        let lost = WriteError::TimedOut { what: what.clone() };
        let answer = self.network.send(self.process, what, writes, carry);
        answer.await.unwrap_or(Err(lost))
    }

    async fn read<K: Stored>(&self, key: Key) -> Result<Option<Arc<K>>, WriteError> {
        let what = format!("get {} {key}", K::kind(&()));
        self.call(what, false, move |server| Ok(server.get::<K>(&key)))
            .await
    }
}

/// The objects of one kind.
struct Of<K>(Line, PhantomData<fn() -> K>);

impl<K> Of<K> {
    fn new(line: &Line) -> Self {
        Self(line.clone(), PhantomData)
    }
}

#[async_trait]
impl<K: Stored> Remote<K> for Of<K> {
    async fn get(&self, name: &str) -> Result<Option<K>, WriteError> {
        if self.0.broken == Some(Break::NoLook) && K::kind(&()) == "LocalVolumeReplica" {
            return Ok(None);
        }
        let found = self.0.read::<K>(Key::cluster(name)).await?;
        Ok(found.map(|object| (*object).clone()))
    }

    async fn create(&self, object: &K) -> Result<K, WriteError> {
        let what = format!("create {} {}", K::kind(&()), object.name_any());
        let object = object.clone();
        self.0
            .call(what, true, move |server| server.create(object))
            .await
    }

    async fn change(&self, seen: &K, wanted: &K, _: Part) -> Result<K, WriteError> {
        let what = format!("change {} {}", K::kind(&()), seen.name_any());
        let versions = self.0.broken != Some(Break::NoVersions);
        let version = seen.resource_version().filter(|_| versions);
        let wanted = wanted.clone();
        self.0
            .call(what, true, move |server| {
                server.replace(wanted, version.as_deref())
            })
            .await
    }

    async fn delete(&self, seen: &K, exactly: Exactly) -> Result<Option<K>, WriteError> {
        let what = format!("delete {} {}", K::kind(&()), seen.name_any());
        let seen = seen.clone();
        self.0
            .call(what, true, move |server| {
                server.delete_exactly(&seen, exactly)
            })
            .await
    }
}

#[async_trait]
impl Outside for Line {
    async fn claim(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<PersistentVolumeClaim>, WriteError> {
        let found = self.read(Key::namespaced(namespace, name)).await?;
        Ok(found.map(|claim: Arc<PersistentVolumeClaim>| (*claim).clone()))
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, WriteError> {
        let found = self.read(Key::namespaced(namespace, name)).await?;
        Ok(found.map(|pod: Arc<Pod>| (*pod).clone()))
    }

    async fn waiting_pods(&self, _: &str) -> Result<Vec<Pod>, WriteError> {
        self.call("list Pods".to_owned(), false, |server| {
            let pods = server.list::<Pod>();
            let waiting = pods.iter().filter(|pod| is_waiting(pod));
            Ok(waiting.map(|pod| (**pod).clone()).collect())
        })
        .await
    }

    async fn persistent_exists(&self, name: &str) -> Result<bool, WriteError> {
        let found = self.read::<PersistentVolume>(Key::cluster(name)).await?;
        Ok(found.is_some())
    }

    async fn node_exists(&self, name: &str) -> Result<bool, WriteError> {
        Ok(self.read::<Node>(Key::cluster(name)).await?.is_some())
    }

    async fn reservations(&self) -> Result<Option<Lease>, WriteError> {
        let name = hawser_api::names::leases::RESERVATIONS;
        let found = self.read::<Lease>(Key::namespaced(OURS, name)).await?;
        Ok(found.map(|lease| (*lease).clone()))
    }

    async fn write_reservations(&self, lease: &Lease) -> Result<Lease, WriteError> {
        let mut lease = lease.clone();
        lease.metadata.namespace = Some(OURS.to_owned());
        let what = "write the lease of reservations".to_owned();
        self.call(what, true, move |server| match lease.resource_version() {
            Some(version) => server.replace(lease, Some(&version)),
            None => server.create(lease),
        })
        .await
    }
}

/// The lease, as the server has it.
pub(crate) fn fence(server: &Server) -> Option<Arc<Lease>> {
    let name = hawser_api::names::leases::RESERVATIONS;
    server.get::<Lease>(&Key::namespaced(OURS, name))
}
