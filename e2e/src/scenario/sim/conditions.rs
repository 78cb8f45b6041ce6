//! Pods without claims never leave the API server: its own metrics count what it asks of webhooks.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hawser_api::names::scheduling;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use serde_json::json;

use crate::sim::nodes::Shape;
use crate::sim::{Sim, Wish, World, http};

const GIB: i64 = 1 << 30;
const PODS: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(sim: &Sim) -> Result<()> {
    let world = World::open(sim, "conditions").await?;
    world.nodes(&[Shape::new("s1", 10 * GIB)]).await?;
    let before = Counts::read(&world.scope.client).await?;
    // Nobody schedules them: what is looked at is over once they are admitted.
    let pods = (0..PODS).map(|index| {
        json!({
            "metadata": { "name": format!("plain-{index}") },
            "spec": { "schedulerName": "nobody", "containers": [{ "name": "app", "image": "none" }],
                "volumes": [{ "name": "scratch", "emptyDir": {} }] },
        })
    });
    world.create::<Pod>(pods.collect()).await?;
    let between = Counts::read(&world.scope.client).await?;
    let (calls, kept) = (between.calls - before.calls, between.kept - before.kept);
    println!(
        "  {PODS} pods without claims: {calls} calls of webhooks, {kept} times a match condition kept one away"
    );
    ensure!(
        calls < 0.5,
        "{calls} calls of webhooks for pods without claims"
    );
    // The proof that this counts: without the condition there would have been as many calls.
    ensure!(
        kept > f64::from(u32::try_from(PODS)?) - 0.5,
        "only {kept} of {PODS} pods were kept away by a match condition"
    );
    world.make(&Wish::many("claims", 1, &["1Gi"])).await?;
    let of_pods = Counts::read(&world.scope.client).await?.of_pods - between.of_pods;
    println!(
        "  1 pod with a claim: {of_pods} calls of {}",
        scheduling::WEBHOOK
    );
    ensure!(
        of_pods > 0.5,
        "the pod with a claim did not reach the webhook"
    );
    world
        .until("the pod with a claim to run", PATIENCE, |seen| {
            let pod = seen.pods.get("claims-0");
            let runs = pod.is_some_and(|pod| pod.running.is_some());
            let told = || seen.pods.get("claims-0").map(|pod| format!("{pod:?}"));
            if runs {
                Ok(())
            } else {
                Err(told().unwrap_or_default())
            }
        })
        .await?;
    world.close().await
}

/// What the API server counts.
struct Counts {
    /// Calls of all webhooks.
    calls: f64,
    /// Calls of the webhook for pods.
    of_pods: f64,
    /// Requests that a match condition of a webhook kept away.
    kept: f64,
}

impl Counts {
    async fn read(client: &Client) -> Result<Self> {
        let request = http_request()?;
        let text = client
            .request_text(request)
            .await
            .context("asking the API server for its metrics")?;
        let calls = "apiserver_admission_webhook_request_total";
        Ok(Self {
            calls: http::sum(&text, calls, &[]),
            of_pods: http::sum(&text, calls, &[("name", scheduling::WEBHOOK)]),
            kept: http::sum(
                &text,
                "apiserver_admission_match_condition_exclusions_total",
                &[("kind", "webhook")],
            ),
        })
    }
}

fn http_request() -> Result<::http::Request<Vec<u8>>> {
    Ok(::http::Request::get("/metrics").body(Vec::new())?)
}
