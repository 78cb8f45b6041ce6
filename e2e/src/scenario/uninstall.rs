//! Uninstalling. While there is a volume, the CRDs stay, also on a second try; its pod goes on; and Hawser applied again takes up where it was. Without
//! a volume, nothing stays but the pools.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hawser_api::names;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::install;
use crate::kit::objects::Pool;
use crate::kit::pods::node_of;
use crate::kit::writer::{Writer, Written};
use crate::kit::{Pending, Scope, wait_for};
use crate::lab::Lab;

const NAME: &str = "uninstall";
const PATIENCE: Duration = Duration::from_secs(180);
/// An API server that does not answer within this time fails the command.
const REQUEST_TIMEOUT: &str = "--request-timeout=60s";
/// All kinds of the manifests that lie in no namespace, or in another than Hawser's.
const KINDS: &str = "clusterroles,clusterrolebindings,roles,rolebindings,csidrivers,storageclasses,mutatingwebhookconfigurations,\
                     validatingwebhookconfigurations,\
                     validatingadmissionpolicies,validatingadmissionpolicybindings";

pub(super) async fn run(lab: &Lab) -> Result<()> {
    let scope = Scope::open(lab, NAME).await?;
    let pools = scope.ensure_pools().await?;
    let (node, written) = a_pod_writes(&scope, &pools).await?;
    for attempt in ["the first", "the second"] {
        refused(&scope)
            .await
            .with_context(|| format!("{attempt} delete with a volume there"))?;
        written.verify(&scope, NAME).await?;
    }
    install::apply_again(lab).await?;
    written.verify(&scope, NAME).await?;
    the_volume_goes(&scope).await?;
    complete(&scope, &node).await?;
    install::apply_again(lab).await?;
    adopted(&scope, &pools).await?;
    scope.close().await
}

/// A pod with a volume, whose node is returned with what was written.
async fn a_pod_writes(scope: &Scope, pools: &[Pool]) -> Result<(String, Written)> {
    let pool = pools.first().context("there is no pool")?;
    let class = names::pools::class_of(&pool.name).context("the pool has no class")?;
    scope.class(NAME, &class.to_string(), &[]).await?;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": NAME },
        "spec": { "storageClassName": NAME, "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "64Mi" } } },
    });
    Scope::apply(&scope.api::<PersistentVolumeClaim>(), NAME, claim).await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": NAME },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "c", "image": "docker.io/library/busybox:1.37", "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "2147483647"], "volumeMounts": [{ "name": "v", "mountPath": "/data" }],
            }],
            "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": NAME } }],
        },
    });
    Scope::apply(&scope.api::<Pod>(), NAME, pod).await?;
    let pod = scope.pod_ready(NAME, PATIENCE).await?;
    let mut writer = Writer::start(scope, NAME, "/data/file", 1);
    writer.reached(20).await?;
    Ok((node_of(&pod), writer.stop()))
}

/// `kubectl delete -k` must fail for the CRDs with a sentence that says why, and take the workloads.
async fn refused(scope: &Scope) -> Result<()> {
    let (succeeded, said) = delete(scope)?;
    ensure!(!succeeded, "`kubectl delete -k` reports success:\n{said}");
    ensure!(
        said.contains("still describes data"),
        "`kubectl delete -k` does not say why it is refused:\n{said}"
    );
    let crds = definitions(scope).await?;
    // Policies describe no data: their definition goes.
    let all = hawser_api::crd::definitions();
    let wanted = all
        .iter()
        .filter(|crd| crd.spec.group == names::GROUP)
        .count();
    ensure!(
        crds.len() == wanted,
        "{} of {wanted} definitions are left",
        crds.len()
    );
    for crd in crds {
        ensure!(
            crd.metadata.deletion_timestamp.is_none(),
            "{:?} is being deleted",
            crd.metadata.name
        );
    }
    namespace_gone(scope).await
}

async fn the_volume_goes(scope: &Scope) -> Result<()> {
    let now = DeleteParams::default();
    scope.api::<Pod>().delete(NAME, &now).await?;
    scope
        .api::<PersistentVolumeClaim>()
        .delete(NAME, &now)
        .await?;
    wait_for("the volume's objects to go", PATIENCE, || async {
        let kinds = "localvolumes,localvolumereplicas,localvolumegroups,persistentvolumes";
        let left = kubectl(scope, &["get", REQUEST_TIMEOUT, kinds, "--output=name"])?.1;
        Ok(nothing(&left))
    })
    .await?;
    scope.cluster::<StorageClass>().delete(NAME, &now).await?;
    Ok(())
}

/// `kubectl delete -k` must succeed and leave nothing in the API; on the node, the pool and nothing in it.
async fn complete(scope: &Scope, node: &str) -> Result<()> {
    let (succeeded, said) = delete(scope)?;
    ensure!(succeeded, "`kubectl delete -k` without a volume:\n{said}");
    namespace_gone(scope).await?;
    wait_for("all of Hawser's objects to go", PATIENCE, || async {
        let ours = "--selector=app.kubernetes.io/part-of=hawser";
        let mut left = kubectl(
            scope,
            &[
                "get",
                REQUEST_TIMEOUT,
                KINDS,
                ours,
                "--all-namespaces",
                "--output=name",
            ],
        )?
        .1;
        for crd in definitions(scope).await? {
            left.push_str(&crd.metadata.name.unwrap_or_default());
        }
        Ok(nothing(&left))
    })
    .await?;
    wait_for("kubelet to forget the driver", PATIENCE, || async {
        let drivers = "--output=jsonpath={.spec.drivers[*].name}";
        let known = kubectl(scope, &["get", REQUEST_TIMEOUT, "csinode", node, drivers])?.1;
        Ok(if known.contains(names::LVM_DRIVER) {
            Err(Pending::because(known))
        } else {
            Ok(())
        })
    })
    .await?;
    let on_node = |script: &str| scope.lab.sh(node, script)?.checked();
    let pools = on_node("vgs --noheadings -o vg_name,lv_count")?;
    let empty = pools
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .any(|fields| matches!(fields.as_slice(), [name, "0"] if name.starts_with("LocalStorage_Pool")));
    ensure!(empty, "{node} has no empty pool left:\n{pools}");
    let left = on_node(
        "dmsetup ls | grep -e -front || true; grep lvm.hwameistor.io /proc/mounts || true",
    )?;
    ensure!(left.trim().is_empty(), "left on {node}:\n{left}");
    Ok(())
}

/// Hawser installed anew finds the pools that it left.
async fn adopted(scope: &Scope, before: &[Pool]) -> Result<()> {
    let list = |pools: &[Pool]| {
        let mut names: Vec<String> = pools
            .iter()
            .map(|pool| format!("{} {} of {}", pool.node, pool.name, pool.total))
            .collect();
        names.sort();
        names
    };
    let before = list(before);
    wait_for("the pools to be found again", PATIENCE, || async {
        let now = list(&scope.pools().await?);
        Ok(if now == before {
            Ok(())
        } else {
            Err(Pending::because(format!("{now:?}, not {before:?}")))
        })
    })
    .await
}

async fn namespace_gone(scope: &Scope) -> Result<()> {
    let namespaces: Api<Namespace> = scope.cluster();
    wait_for("Hawser's namespace to go", PATIENCE, || async {
        Ok(match namespaces.get_opt(install::NAMESPACE).await? {
            None => Ok(()),
            Some(left) => Err(Pending::because(format!("{:?}", left.status))),
        })
    })
    .await
}

async fn definitions(scope: &Scope) -> Result<Vec<CustomResourceDefinition>> {
    let all: Api<CustomResourceDefinition> = scope.cluster();
    let list = all.list(&ListParams::default()).await?;
    Ok(list
        .items
        .into_iter()
        .filter(|crd| crd.spec.group == names::GROUP)
        .collect())
}

fn nothing(left: &str) -> std::result::Result<(), Pending> {
    if left.trim().is_empty() {
        Ok(())
    } else {
        Err(Pending::because(left))
    }
}

fn delete(scope: &Scope) -> Result<(bool, String)> {
    let overlay = install::overlay_folder(&scope.lab);
    let arguments = ["delete", "--timeout=120s", "-k", &overlay.to_string_lossy()];
    kubectl(scope, &arguments)
}

/// Runs kubectl; whether it succeeded, and all that it said.
fn kubectl(scope: &Scope, arguments: &[&str]) -> Result<(bool, String)> {
    let output = scope
        .lab
        .kubectl()?
        .args(arguments)
        .output()
        .context("running kubectl")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}
