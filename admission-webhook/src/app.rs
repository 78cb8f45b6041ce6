//! The order of things: health first (it says "not ready"), then the watches, then a certificate, then the server.

use std::sync::Arc;

use axum::Router;
use axum_server::tls_rustls::RustlsConfig;
use hawser_api::{StoragePolicy, names};
use hawser_runtime::health::{Health, Readiness};
use hawser_runtime::index::{Index, Watches};
use hawser_runtime::lease::LeaseConfig;
use hawser_runtime::metrics::{Metrics, Requests};
use hawser_runtime::shutdown::Shutdown;
use hawser_runtime::tls::{RELOAD_INTERVAL, ReloadingCertificate};
use hawser_runtime::{client, observability};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Client;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::Args;
use crate::certificate::{self, CHECK_INTERVAL, KubeCluster, Names};
use crate::gather::{Gatherer, Lookups};
use crate::policy::{Book, Keeper, keep};
use crate::server::{LINGER, Limits, serve};
use crate::wire::{Reader, Webhook, router};

/// Runs until shutdown.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    let (health, metrics) = (Health::new(&shutdown), Metrics::new("admission-webhook"));
    // Before the first probe can be answered: no checks at all would count as ready.
    let ready = health.readiness("certificate");
    ready.not_ready("no certificate yet");
    observability::serve(args.common.http_listen, &health, &metrics, &shutdown).await?;
    let client = client::connect(&args.common, "admission-webhook").await?;

    let lookups = Lookups::default();
    lookups.watch(&client, &Watches::new(&shutdown, &health, &metrics));
    let book = Book::default();
    let keeper = Keeper {
        client: client.clone(),
        book: book.clone(),
        policies: lookups.policy_objects.clone(),
        classes: lookups.classes.clone(),
        namespace: args.namespace.clone(),
        identity: args.identity.clone(),
    };
    let lease = LeaseConfig::new(
        &args.namespace,
        names::leases::ADMISSION,
        &args.identity,
        &args.lease,
    )?;
    keep(keeper, lease, &shutdown);

    let webhook = Webhook {
        gatherer: Gatherer::new(lookups, Some(client.clone()), args.namespace.clone()),
        book,
        requests: Requests::register(&metrics, "webhook", "admission reviews"),
        reader: Reader::default(),
    };
    if let Some(config) = certificate(&args, client, &ready, &shutdown).await? {
        let linger = LINGER.min(args.common.drain_timeout / 2);
        let address = serve(
            args.listen,
            config,
            router(webhook),
            linger,
            Limits::default(),
            &shutdown,
        )?;
        ready.ready();
        tracing::info!(%address, "serving admission reviews");
    }
    shutdown.finished().await?;
    Ok(())
}

/// A certificate that is kept current from now on; `None` if the process stops before there is one.
async fn certificate(
    args: &Args,
    client: Client,
    ready: &Readiness,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<RustlsConfig>> {
    if let Some(folder) = &args.certificate_folder {
        let (chain, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        let certificate = ReloadingCertificate::load(chain, key).await?;
        let config = certificate.config();
        certificate.follow(RELOAD_INTERVAL, shutdown);
        return Ok(Some(config));
    }
    let names = Names::of_service(&args.service, &args.namespace);
    let cluster = KubeCluster::new(client, args.service.clone(), args.namespace.clone());
    let mut keeper = certificate::Keeper::new(cluster, names, Arc::new(jiff::Timestamp::now));
    let config = keeper.first(ready, shutdown).await;
    if config.is_some() {
        keeper.follow(CHECK_INTERVAL, shutdown);
    }
    Ok(config)
}

/// The routes over a cluster that is told in objects instead of watched: for tests.
///
/// # Errors
/// Names the object that is of a kind that no watch tells of, or can't be read.
pub fn router_over(
    objects: &[Value],
    client: Option<Client>,
    reader: Reader,
) -> Result<Router, String> {
    let lookups = Lookups::default();
    for object in objects {
        tell(&lookups, object)?;
    }
    let metrics = Metrics::new("admission-webhook");
    Ok(router(Webhook {
        gatherer: Gatherer::new(lookups, client, names::DEFAULT_NAMESPACE.to_owned()),
        book: Book::default(),
        requests: Requests::register(&metrics, "webhook", "admission reviews"),
        reader,
    }))
}

fn tell(lookups: &Lookups, object: &Value) -> Result<(), String> {
    fn apply<K: DeserializeOwned>(index: &impl Index<K>, object: &Value) -> Result<(), String> {
        let read = serde_json::from_value(object.clone());
        index.apply(Arc::new(
            read.map_err(|error| format!("{object}: {error}"))?,
        ));
        Ok(())
    }
    match object["kind"].as_str().unwrap_or_default() {
        "PersistentVolumeClaim" => apply::<PersistentVolumeClaim>(&lookups.claims, object),
        "PersistentVolume" => apply::<PersistentVolume>(&lookups.volumes, object),
        "StorageClass" => apply::<StorageClass>(&lookups.classes, object),
        "Namespace" => apply::<Namespace>(&lookups.spaces, object),
        "StatefulSet" => {
            apply::<k8s_openapi::api::apps::v1::StatefulSet>(&lookups.templates, object)
        }
        "LocalVolumeReplica" => apply::<hawser_api::LocalVolumeReplica>(&lookups.copies, object),
        "LocalStorageNode" => apply::<hawser_api::LocalStorageNode>(&lookups.pools, object),
        "StoragePolicy" => apply::<StoragePolicy>(&lookups.policies, object),
        other => Err(format!("no watch tells of {other:?}: {object}")),
    }
}
