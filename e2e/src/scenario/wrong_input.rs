//! What a user meets who asks for what can't be: a sentence that names the wish and what would be right, at the object where its author looks, and
//! nothing changed by it. The cases know nothing of each other, and most run at the same time; each says all that it saw when it fails.

mod by_hand;
mod claims;
mod disks;
mod kinds;
mod volumes;

use std::fmt::Write as _;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::FutureExt;
use futures::future::join_all;
use hawser_api::names;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::kit::Scope;
use crate::kit::disks::Spare;
use crate::kit::objects::Pool;
use crate::kit::volumes::{Mode, Use, delete};
use crate::lab::Lab;

/// The namespace, and what the names of all cluster-wide objects of the scenario begin with.
const NAME: &str = "wrong-input";
const PATIENCE: Duration = Duration::from_secs(120);
/// More than any pool has.
const HUGE: &str = "100Ti";

/// Runs the scenario.
///
/// # Errors
/// Every case that does not hold, with its reason. What the cases made is then left for the dump, but for the disks, which would be in the way of others.
pub(super) async fn run(lab: &Lab) -> Result<()> {
    let scope = Scope::open(lab, NAME).await?;
    sweep(&scope).await?;
    let pools = scope.ensure_pools().await?;
    let stage = Stage::set(&scope, pools).await?;
    let mut disks = disks::Disks::open(&scope, &stage).await?;
    let mut failed = String::new();
    let mut failures = cases(&scope, &stage, &mut disks).await;
    // By themselves: while these are there, no volume can be placed on their node.
    let volumes = case("volumes by hand", by_hand::volumes(&scope, &stage));
    failures.extend(volumes.await.err());
    let asleep = by_hand::unknown_state(&scope, &stage);
    failures.extend(case("a node of an unknown state", asleep).await.err());
    for failure in failures {
        let _ = write!(failed, "\n    {failure:#}");
    }
    if let Err(error) = disks.away().await {
        let _ = write!(failed, "\n    taking the extra disks away: {error:#}");
    }
    if !failed.is_empty() {
        bail!("what does not hold:{failed}");
    }
    scope.close().await?;
    sweep(&scope).await?;
    scope.until_pools(&stage.pools, PATIENCE).await
}

/// What all cases find.
struct Stage {
    pools: Vec<Pool>,
    /// The class of disk of the pools that are on every node.
    disk_type: String,
    /// A class of which there is no pool.
    spare: Spare,
    /// The node whose disks are only asked for.
    asked: String,
    /// The node that gets and loses disks.
    handled: String,
}

impl Stage {
    /// Finds out, and makes the class [`NAME`] of the pools on every node.
    async fn set(scope: &Scope, pools: Vec<Pool>) -> Result<Self> {
        let nodes = scope.lab.nodes()?;
        let [asked, .., handled] = nodes.as_slice() else {
            bail!("the scenario needs at least two nodes");
        };
        let pool = pools.first().context("there is no pool")?;
        let class = names::pools::class_of(&pool.name).context("the pool has no class")?;
        let disk_type = class.to_string();
        scope.class(NAME, &disk_type, &[]).await?;
        Ok(Self {
            disk_type,
            asked: asked.clone(),
            handled: handled.clone(),
            spare: Spare::beside(&pools)?,
            pools,
        })
    }
}

/// All cases at once; those that do not hold.
async fn cases(scope: &Scope, stage: &Stage, disks: &mut disks::Disks) -> Vec<anyhow::Error> {
    let all = [
        case("parameters of a class", volumes::parameters(scope, stage)).boxed(),
        case("a claim too large", volumes::too_large(scope, stage)).boxed(),
        case("one volume, two nodes", volumes::two_nodes(scope)).boxed(),
        case("growth without room", volumes::growth(scope)).boxed(),
        case("claims for disks", claims::disks(scope, stage)).boxed(),
        case("growth by hand", claims::growth_by_hand(scope)).boxed(),
        case("copies by hand", by_hand::replicas(scope, stage)).boxed(),
        case("a reservation by hand", by_hand::group(scope, stage)).boxed(),
        case("kinds that are not served", kinds::not_served(scope)).boxed(),
        case("disks that go, a pool that is half there", disks.story()).boxed(),
    ];
    let outcomes = join_all(all).await;
    outcomes.into_iter().filter_map(Result::err).collect()
}

/// Runs a case; says that it holds and what it saw, or in its failure which one it was.
async fn case(name: &str, work: impl Future<Output = Result<String>>) -> Result<()> {
    let start = Instant::now();
    let saw = work.await.with_context(|| format!("case `{name}`"))?;
    println!("  {name} ({:.0} s): {saw}", start.elapsed().as_secs_f64());
    Ok(())
}

/// Applies an object that the API server has to refuse, and returns its words, which must have all of these.
async fn refused<K>(api: &Api<K>, name: &str, object: Value, words: &[&str]) -> Result<String>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let said = match Scope::apply(api, name, object).await {
        Ok(_) => {
            delete(api, name).await?;
            bail!("the API server takes {name}, of which nothing would come");
        }
        Err(error) => format!("{error:#}"),
    };
    let missing = words.iter().find(|word| !said.contains(**word));
    match missing {
        None => Ok(said),
        Some(word) => bail!("{name} is refused without the words {word:?}: {said}"),
    }
}

/// A class of Hawser's that is bound at once, so that its claims need no pod to be refused.
async fn class_at_once(
    scope: &Scope,
    name: &str,
    disk_type: &str,
    more: &(&str, &str),
) -> Result<()> {
    let object = at_once(name, disk_type, more);
    Scope::apply(&scope.cluster::<StorageClass>(), name, object).await?;
    Ok(())
}

fn at_once(name: &str, disk_type: &str, more: &(&str, &str)) -> Value {
    let mut parameters = json!({ "poolClass": disk_type, "replicaNumber": "1" });
    parameters[more.0] = json!(more.1);
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": name },
        "provisioner": names::LVM_DRIVER, "parameters": parameters,
        "volumeBindingMode": "Immediate", "reclaimPolicy": "Delete",
    })
}

async fn claim(scope: &Scope, name: &str, class: &str, access: &str, size: &str) -> Result<()> {
    let mode = Mode::Filesystem;
    scope.claim(name, class, size, access, mode).await.map(drop)
}

/// A pod that sleeps beside a claim at /data; `more` goes into its spec.
async fn pod(scope: &Scope, name: &str, claim: &str, more: Value) -> Result<()> {
    let uses = [Use {
        claim,
        at: "/data",
        mode: Mode::Filesystem,
        read_only: false,
    }];
    scope.pod(name, &uses, more).await
}

/// Deletes the scenario's cluster-wide objects, also those of a run that failed.
async fn sweep(scope: &Scope) -> Result<()> {
    sweep_kind(&scope.cluster::<StorageClass>()).await?;
    sweep_kind(&scope.cluster::<hawser_api::LocalDiskClaim>()).await?;
    sweep_kind(&scope.cluster::<hawser_api::LocalVolumeExpand>()).await?;
    by_hand::sweep(scope).await
}

async fn sweep_kind<K>(api: &Api<K>) -> Result<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    for object in api.list(&ListParams::default()).await? {
        let name = object.meta().name.clone().unwrap_or_default();
        if name.starts_with(NAME) {
            delete(api, &name).await?;
        }
    }
    Ok(())
}
