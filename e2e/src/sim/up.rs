//! Brings a lab with simulated nodes up: a control plane, Hawser's programs, and the simulator, as processes in a network namespace of their own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hawser_api::names::{DEFAULT_NAMESPACE, scheduling};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::lab::{PATIENCE, Sim};
use super::service::{ACCOUNTS, Parts, Service, Settings};
use crate::cache::remove;
use crate::down;
use crate::image::hawser::{Inputs, binaries};
use crate::kit::{Pending, wait_for};
use crate::lab::{Lab, Place};
use crate::pki::{self, Pki};
use crate::progress::Progress;
use crate::state::{self, State};
use crate::up::workspace;
use crate::{host, kubernetes, net, ready};

/// What the lab's name gets, so that one with nodes of its own may run beside it.
const SUFFIX: &str = "-sim";

/// Where the lab with simulated nodes is that belongs to a lab's place.
pub(crate) fn place(place: &Place) -> Result<Place> {
    Ok(Place {
        name: host::check_name(&format!("{}{SUFFIX}", place.name))
            .context("the lab with simulated nodes is named after the lab")?,
        ..place.clone()
    })
}

/// Everything that is built once.
pub(crate) struct Built {
    programs: PathBuf,
    hawser: PathBuf,
}

/// Builds what is missing or has changed.
pub(crate) fn build(place: &Place, progress: &Progress) -> Result<Built> {
    host::check_root()?;
    let lab = Lab::at(place)?;
    let cold = !kubernetes::exists(&lab.cache);
    host::check_room(lab.cache.dir(), cold, 0, 0)?;
    host::install_packages(progress)?;
    host::check_kernel(&lab.name)?;
    let programs = kubernetes::ensure(&lab.cache, progress)?;
    let hawser = binaries(&Inputs {
        workspace: workspace()?,
        root_fs: PathBuf::new(),
        go_bin: programs.clone(),
        cache: lab.cache.dir().join("images"),
    })?;
    Ok(Built { programs, hawser })
}

/// Brings a lab up afresh, without nodes yet; what an earlier one of the name has left is cleaned up. `place` is that of [`place`].
///
/// # Errors
/// If a step fails; what was started then stays for a look, until the next time or `down`.
pub(crate) fn up(
    place: &Place,
    built: &Built,
    settings: Settings,
    progress: &Progress,
) -> Result<Sim> {
    let lab = Lab::at(place)?;
    let _lock = lab
        .cache
        .try_lock(&format!("lab-{}", lab.name))?
        .with_context(|| {
            format!(
                "lab {} is being brought up or down by another command: wait for it, or take another --name",
                lab.name
            )
        })?;
    down::stop(&lab)?;
    remove(lab.dir())?;
    let parts = create(&lab, built)?;
    let sim = Sim::new(lab, parts, settings)?;
    progress.say(format!("lab {}: starting the control plane", sim.lab.name));
    sim.start_first(Service::Etcd)?;
    sim.start_first(Service::ApiServer)?;
    let logs = sim.lab.log_folders()[0].display().to_string();
    sim.lab
        .block_on(ready::api(&sim.lab, PATIENCE))
        .with_context(|| format!("see the logs in {logs}"))?;
    sim.apply()?;
    for service in Service::AFTER_API {
        sim.start(service)?;
    }
    sim.lab
        .block_on(settle(&sim))
        .with_context(|| format!("see the logs in {logs}"))?;
    state::update(sim.lab.dir(), |state| {
        state.complete = true;
        Ok(())
    })?;
    progress.say(format!("lab {} is up", sim.lab.name));
    Ok(sim)
}

/// Makes the lab's folder, network and state.
fn create(lab: &Lab, built: &Built) -> Result<Parts> {
    let dir = lab.dir();
    std::fs::create_dir_all(dir.join("logs"))?;
    pki::create(&Pki::of(dir), &dir.join("guest"), 0)?;
    // The running program is copied: a build replaces the file while its nodes are still played.
    let lab_program = dir.join("lab");
    std::fs::copy(std::env::current_exe()?, &lab_program)
        .context("copying this program, which plays the nodes")?;
    let parts = Parts {
        lab: dir.to_owned(),
        programs: built.programs.clone(),
        hawser: built.hawser.clone(),
        lab_program,
    };
    for account in ACCOUNTS {
        let admin = std::fs::read_to_string(Pki::of(dir).kubeconfig())?;
        write_key(&parts.kubeconfig_of(account), &acting_as(&admin, account)?)?;
    }
    state::write(
        dir,
        &State {
            name: lab.name.clone(),
            complete: false,
            root: PathBuf::new(),
            programs: built.programs.clone(),
            scripts: PathBuf::new(),
            memory: 0,
            shape: "simulated nodes".to_owned(),
            nodes: Vec::new(),
            services: Vec::new(),
            installed: true,
        },
    )?;
    lab.net.create(0)?;
    Ok(parts)
}

/// The administrator's kubeconfig, but acting as a service account of Hawser's namespace.
fn acting_as(admin: &str, account: &str) -> Result<String> {
    let mut config: Value = serde_json::from_str(admin).context("the lab's own kubeconfig")?;
    let user = config
        .pointer_mut("/users/0/user")
        .and_then(Value::as_object_mut)
        .context("the lab's own kubeconfig has no user")?;
    let name = format!("system:serviceaccount:{DEFAULT_NAMESPACE}:{account}");
    user.insert("as".to_owned(), json!(name));
    Ok(config.to_string())
}

/// Writes a file that only root may read.
fn write_key(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// Waits until everything works together.
async fn settle(sim: &Sim) -> Result<()> {
    let client = sim.lab.client().await?;
    point_service_at_webhook(&client).await?;
    sim.ready().await?;
    account_exists(&client, "default").await?;
    if sim.has_scheduler() {
        webhook_is_asked(&client).await?;
    }
    Ok(())
}

/// The webhook's Service leads to its process.
async fn point_service_at_webhook(client: &Client) -> Result<()> {
    let name = scheduling::WEBHOOK_SERVICE;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), DEFAULT_NAMESPACE);
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": name } },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [net::API], "conditions": { "ready": true } }],
        "ports": [{ "name": "webhook", "port": scheduling::WEBHOOK_PORT, "protocol": "TCP" }],
    });
    let apply = PatchParams::apply("hawser-lab").force();
    slices
        .patch(name, &apply, &Patch::Apply(&slice))
        .await
        .context("pointing the webhook's Service at its process")?;
    Ok(())
}

/// Waits until pods can be made in a namespace: each has a service account, which a controller makes.
pub(super) async fn account_exists(client: &Client, namespace: &str) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let what = format!("the default service account of namespace {namespace}");
    wait_for(&what, PATIENCE, || async {
        let found = accounts.get_opt("default").await?;
        Ok(found
            .map(drop)
            .ok_or_else(|| Pending::because("it is not there yet")))
    })
    .await
}

/// Waits until the API server asks the webhook about pods with volumes of Hawser's.
pub(crate) async fn webhook_is_asked(client: &Client) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let probe: Pod = serde_json::from_value(json!({
        "metadata": { "name": "probe" },
        "spec": {
            "containers": [{ "name": "probe", "image": "none" }],
            "volumes": [{ "name": "v", "ephemeral": { "volumeClaimTemplate": { "spec": {
                "storageClassName": "hwameistor-storage-lvm-ssd", "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": "1Gi" } },
            }}}}],
        },
    }))?;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    wait_for("the webhook to be asked about pods", PATIENCE, || async {
        let seen = pods.create(&dry, &probe).await?;
        let scheduler = seen.spec.and_then(|spec| spec.scheduler_name);
        Ok(if scheduler.as_deref() == Some(scheduling::SCHEDULER) {
            Ok(())
        } else {
            Err(Pending::because(format!("a pod gets {scheduler:?}")))
        })
    })
    .await
}

/// Refuses to touch a lab that runs.
pub(super) fn is_free(place: &Place) -> Result<()> {
    let lab = Lab::at(place)?;
    let up = state::read(lab.dir())?.is_some_and(|state| state.complete) && lab.net.exists();
    ensure!(!up, "lab {} is up: `cargo lab sim down` first", lab.name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_acts_as_its_account_and_with_the_labs_key() {
        let admin = json!({ "users": [{ "name": "user", "user": { "client-key-data": "k" } }] });
        let text = acting_as(&admin.to_string(), "x").unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            config["users"][0]["user"],
            json!({ "client-key-data": "k", "as": "system:serviceaccount:hwameistor:x" })
        );
        assert!(acting_as("{}", "x").is_err());
    }

    #[test]
    fn the_lab_is_named_after_the_other_one() {
        let other = Place {
            name: "a".to_owned(),
            dir: "/d".into(),
            suite: "forky".to_owned(),
            mirror: None,
        };
        assert_eq!(place(&other).unwrap().name, "a-sim");
        let long = Place {
            name: "x".repeat(18),
            ..other
        };
        assert!(place(&long).is_err());
    }
}
