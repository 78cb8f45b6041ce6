//! Certificates change under load, and no request fails: with two replicas that share a Secret, and with files as kubelet brings them.
//!
//! The client is as the API server: it trusts what the webhook's configuration says at the moment it connects, and does not try again.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test; the lints' exception for tests does not reach its helper functions"
)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use admission_webhook::certificate::{Keeper, KubeCluster, Names};
use admission_webhook::server::{Limits, serve};
use admission_webhook::{Reader, app};
use common::{a_pair, connect, exchange, trusting};
use hawser_runtime::shutdown::Shutdown;
use hawser_runtime::testing::FakeApi;
use hawser_runtime::tls::{ReloadingCertificate, install_provider};
use k8s_openapi::ByteString;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

const SECRET: &str = "/api/v1/namespaces/storage/secrets/hwameistor-admission-ca";
const CONFIGURATIONS: [(&str, &str); 2] = [
    (
        "MutatingWebhookConfiguration",
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/hwameistor-admission-mutate",
    ),
    (
        "ValidatingWebhookConfiguration",
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/hwameistor-admission-validate",
    ),
];
const CLIENTS: usize = 4;
/// Requests on one connection; then the client looks again at whom to trust.
const ON_ONE_CONNECTION: usize = 20;

/// What clients have done so far.
#[derive(Default)]
struct Tally {
    /// By client.
    done: [AtomicUsize; CLIENTS],
    failures: Mutex<Vec<String>>,
    /// Certificates that were seen.
    seen: Mutex<BTreeSet<Vec<u8>>>,
    stop: AtomicBool,
    /// Told after each connection.
    progress: Notify,
}

impl Tally {
    fn total(&self) -> usize {
        self.done
            .iter()
            .map(|done| done.load(Ordering::Relaxed))
            .sum()
    }

    /// Until each client has begun two connections since now: by then it has looked at whom to trust.
    async fn all_have_looked(&self) {
        let before: Vec<usize> = self
            .done
            .iter()
            .map(|done| done.load(Ordering::Relaxed))
            .collect();
        let looked = |(n, before): (usize, &usize)| {
            self.done[n].load(Ordering::Relaxed) >= before + 2 * ON_ONE_CONNECTION
        };
        self.until(|| before.iter().enumerate().all(looked)).await;
    }

    /// Until this holds, or a request has failed.
    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let told = self.progress.notified();
            if holds() || self.stop.load(Ordering::Relaxed) {
                return;
            }
            told.await;
        }
    }
}

/// A review that passes both paths.
fn a_body() -> Vec<u8> {
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "resource": { "group": "", "version": "v1", "resource": "pods" }, "namespace": "shop", "operation": "CREATE",
        "object": { "metadata": { "name": "p" }, "spec": { "containers": [] } } } })
    .to_string()
    .into_bytes()
}

/// One client: connects to one replica after the other.
async fn client(n: usize, replicas: &[SocketAddr], bundle: impl Fn() -> String, tally: &Tally) {
    let body = a_body();
    let mut turn = n;
    while !tally.stop.load(Ordering::Relaxed) {
        turn += 1;
        let outcome = async {
            let connector = trusting(&bundle());
            let mut stream = connect(replicas[turn % replicas.len()], &connector).await?;
            let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
            tally.seen.lock().insert(certificate);
            for _ in 0..ON_ONE_CONNECTION {
                let path = if turn.is_multiple_of(2) {
                    "/mutate"
                } else {
                    "/validate"
                };
                let (status, answer) = exchange(&mut stream, path, &body).await?;
                let answer: Value =
                    serde_json::from_slice(&answer).map_err(std::io::Error::other)?;
                if status != "HTTP/1.1 200 OK" || answer["response"]["allowed"] != true {
                    return Err(std::io::Error::other(format!("{status} {answer}")));
                }
                tally.done[n].fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        if let Err(error) = outcome.await {
            tally.failures.lock().push(error.to_string());
            tally.stop.store(true, Ordering::Relaxed);
        }
        tally.progress.notify_waiters();
    }
}

fn trusted(api: &FakeApi) -> String {
    let configuration = api.object(CONFIGURATIONS[1].1).unwrap();
    let bundle = configuration["webhooks"][0]["clientConfig"]["caBundle"].clone();
    let bundle: ByteString = serde_json::from_value(bundle).unwrap_or_default();
    String::from_utf8(bundle.0).unwrap()
}

/// What people do to have new certificates: break the one, break the authority's key, delete it all.
fn force(api: &FakeApi, n: usize) {
    let mut secret = api.object(SECRET).unwrap();
    match n % 3 {
        0 => secret["data"]["tls.crt"] = json!(ByteString(b"nonsense".to_vec())),
        1 => secret["data"] = json!({}),
        _ => secret["data"]["ca.key"] = json!(ByteString(b"nonsense".to_vec())),
    }
    api.put(SECRET, secret);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_requests_over_nine_forced_rotations_with_two_replicas() {
    const REQUESTS: usize = 20_000;
    const ROTATIONS: usize = 9;
    install_provider();
    let api = FakeApi::new();
    for (kind, path) in CONFIGURATIONS {
        api.put(path, json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": path.rsplit('/').next() },
            "webhooks": [{ "name": "a", "clientConfig": { "service": { "name": "hook", "namespace": "storage" } } }] }));
    }
    let shutdown = Shutdown::new(Duration::from_secs(5));
    let router = app::router_over(&[], None, Reader::default()).unwrap();
    let (mut keepers, mut replicas) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let cluster = KubeCluster::new(api.client(), "hook".to_owned(), "storage".to_owned());
        let names = Names::of_service("hook", "storage");
        let mut keeper = Keeper::new(cluster, names, Arc::new(jiff::Timestamp::now));
        let config = keeper.round().await.unwrap();
        let address = serve(
            "127.0.0.1:0".parse().unwrap(),
            config,
            router.clone(),
            Duration::ZERO,
            Limits::default(),
            &shutdown,
        );
        replicas.push(address.unwrap());
        keepers.push(keeper);
    }

    let tally = Tally::default();
    let clients = (0..CLIENTS).map(|n| client(n, &replicas, || trusted(&api), &tally));
    let rotating = async {
        for n in 0..ROTATIONS {
            force(&api, n);
            // As the timers of both would go, one after the other: enough rounds for what one round holds back.
            for _ in 0..3 {
                for keeper in &mut keepers {
                    keeper.round().await.unwrap();
                    tally.all_have_looked().await;
                }
            }
        }
        tally.until(|| tally.total() >= REQUESTS).await;
        tally.stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(rotating, futures::future::join_all(clients));
    let (total, seen) = (tally.total(), tally.seen.lock().len());
    println!(
        "{total} requests, {seen} certificates seen, {} failures",
        tally.failures.lock().len()
    );
    assert_eq!(*tally.failures.lock(), Vec::<String>::new());
    assert!(total >= REQUESTS);
    // Every rotation has reached the wire.
    assert!(seen > ROTATIONS, "{seen} certificates were seen");
    shutdown.begin("test");
}

/// As kubelet does: files are links into ..data, which is a link to a dated folder and is swapped by a rename.
fn swap(mount: &Path, dated: &str, (certificate, key): &(String, String)) {
    let folder = mount.join(dated);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("tls.crt"), certificate).unwrap();
    fs::write(folder.join("tls.key"), key).unwrap();
    let next = mount.join("..data_tmp");
    symlink(dated, &next).unwrap();
    fs::rename(next, mount.join("..data")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_thousand_requests_while_kubelet_swaps_the_files() {
    const REQUESTS: usize = 4000;
    install_provider();
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path();
    let pairs: Vec<(String, String)> = (0..6).map(|_| a_pair()).collect();
    swap(mount, "..0", &pairs[0]);
    for file in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{file}"), mount.join(file)).unwrap();
    }
    let mut certificate = ReloadingCertificate::load(mount.join("tls.crt"), mount.join("tls.key"))
        .await
        .unwrap();
    let shutdown = Shutdown::new(Duration::from_secs(5));
    let address = serve(
        "127.0.0.1:0".parse().unwrap(),
        certificate.config(),
        app::router_over(&[], None, Reader::default()).unwrap(),
        Duration::ZERO,
        Limits::default(),
        &shutdown,
    );
    let replicas = [address.unwrap()];
    // Who brings the files trusts the next one before it comes.
    let bundle: String = pairs
        .iter()
        .map(|(certificate, _)| certificate.as_str())
        .collect();
    let tally = Tally::default();
    let clients = (0..CLIENTS).map(|n| client(n, &replicas, || bundle.clone(), &tally));
    let swapping = async {
        for (n, pair) in pairs.iter().enumerate().skip(1) {
            tally.all_have_looked().await;
            swap(mount, &format!("..{n}"), pair);
            assert!(certificate.reload().await.unwrap());
            tally.all_have_looked().await;
        }
        tally.until(|| tally.total() >= REQUESTS).await;
        tally.stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(swapping, futures::future::join_all(clients));
    println!(
        "{} requests, {} certificates seen",
        tally.total(),
        tally.seen.lock().len()
    );
    assert_eq!(*tally.failures.lock(), Vec::<String>::new());
    assert_eq!(tally.seen.lock().len(), pairs.len());
    shutdown.begin("test");
}
