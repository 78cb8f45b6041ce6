//! The processes of a lab with simulated nodes, and how each is run: Kubernetes' own, Hawser's as its manifests say, and the simulator.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use hawser_api::names::DEFAULT_NAMESPACE;
use serde_json::{Value, json};

use super::deployed::Deployed;
use crate::command::command;
use crate::pki::Pki;

/// Runs its arguments, and again a second after they have ended, as kubelet does with a container.
const KEEPER: &str = r#"while :; do "$@"; echo "ended with status $?; it is started again in 1 s" >&2; sleep 1; done"#;

/// One of the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Etcd,
    ApiServer,
    ControllerManager,
    /// The scheduler that a cluster has without Hawser.
    DefaultScheduler,
    /// Hawser's scheduler: the same program with its own configuration.
    Scheduler,
    Extender,
    Webhook,
    Provisioner,
    /// csi-provisioner, which stands in the provisioner's pod.
    Sidecar,
    /// The simulator.
    Nodes,
}

impl Service {
    /// What runs once the API server answers, in the order in which it is started.
    pub(crate) const AFTER_API: [Self; 8] = [
        Self::ControllerManager,
        Self::Nodes,
        Self::Extender,
        Self::Webhook,
        Self::Provisioner,
        Self::Sidecar,
        Self::Scheduler,
        Self::DefaultScheduler,
    ];

    /// Its name in the lab's state and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::DefaultScheduler => "default-scheduler",
            Self::Scheduler => "scheduler",
            Self::Extender => "scheduler-extender",
            Self::Webhook => "admission-webhook",
            Self::Provisioner => "provisioner",
            Self::Sidecar => "csi-provisioner",
            Self::Nodes => "simulator",
        }
    }

    /// The port of its health and metrics, if it serves them over plain HTTP.
    pub(crate) fn http(self) -> Option<u16> {
        match self {
            Self::Extender => Some(9811),
            Self::Webhook => Some(9812),
            Self::Provisioner => Some(9813),
            Self::Etcd
            | Self::ApiServer
            | Self::ControllerManager
            | Self::DefaultScheduler
            | Self::Scheduler
            | Self::Sidecar
            | Self::Nodes => None,
        }
    }

    /// The container whose absence from the manifests means that it does not run.
    fn container(self) -> Option<&'static str> {
        match self {
            Self::Scheduler => Some("kube-scheduler"),
            Self::Extender => Some("scheduler-extender"),
            Self::Webhook => Some("admission-webhook"),
            Self::Provisioner => Some("provisioner"),
            Self::Sidecar => Some("csi-provisioner"),
            Self::Etcd
            | Self::ApiServer
            | Self::ControllerManager
            | Self::DefaultScheduler
            | Self::Nodes => None,
        }
    }
}

/// How the lab differs from what the manifests say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Components of the manifests that are applied too.
    pub(crate) components: Vec<&'static str>,
    /// Whether Hawser's scheduler asks the extender.
    pub(crate) extender: bool,
    /// Whether the scheduler and the sidecar may send as many requests as they like. As delivered, their own limits hide what decisions cost.
    pub(crate) unthrottled: bool,
}

impl Default for Settings {
    /// As delivered.
    fn default() -> Self {
        Self {
            components: Vec::new(),
            extender: true,
            unthrottled: false,
        }
    }
}

/// What a process is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// A file that it reads: path and content.
    file: Option<(PathBuf, String)>,
}

impl Recipe {
    fn new(program: PathBuf, arguments: Vec<String>) -> Self {
        Self {
            program,
            arguments,
            environment: Vec::new(),
            file: None,
        }
    }

    /// The command that runs it, over and over.
    pub(crate) fn command(&self, service: Service) -> Result<Command> {
        if let Some((path, text)) = &self.file {
            std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        let mut keeper = command("sh");
        keeper
            .args(["-c", KEEPER, service.name()])
            .arg(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(keeper)
    }
}

/// Where everything is that processes are started from.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// The lab's folder.
    pub(crate) lab: PathBuf,
    /// Kubernetes' programs.
    pub(crate) programs: PathBuf,
    /// Hawser's.
    pub(crate) hawser: PathBuf,
    /// This one, which plays the nodes.
    pub(crate) lab_program: PathBuf,
}

/// Rights of service accounts that processes run with.
pub(crate) const ACCOUNTS: [&str; 3] = [
    "hwameistor-scheduler",
    "hwameistor-admission-controller",
    "hwameistor-local-storage-csi-controller",
];

impl Parts {
    fn file(&self, name: &str) -> PathBuf {
        self.lab.join(name)
    }

    fn pki(&self) -> Pki {
        Pki::of(&self.lab)
    }

    /// The kubeconfig that acts as a service account of Hawser's namespace: its rights, and no others, are what a process has.
    pub(crate) fn kubeconfig_of(&self, account: &str) -> PathBuf {
        self.pki().file(&format!("{account}.kubeconfig"))
    }

    /// What the simulator saw that must never be.
    pub(crate) fn wrong(&self) -> PathBuf {
        self.file("logs/wrong")
    }

    /// How a service is run; `None` if it is not, by what is deployed and set.
    pub(crate) fn recipe(
        &self,
        service: Service,
        deployed: &Deployed,
        settings: &Settings,
    ) -> Result<Option<Recipe>> {
        if service.container().is_some_and(|name| !deployed.runs(name))
            || (service == Service::Extender && !settings.extender)
        {
            return Ok(None);
        }
        let recipe = match service {
            // Not among those that are kept alive: without them nothing can go on.
            Service::Etcd | Service::ApiServer => return Ok(None),
            Service::ControllerManager => self.controller_manager(),
            Service::DefaultScheduler => self.default_scheduler(),
            Service::Scheduler => self.scheduler(deployed, settings)?,
            Service::Extender => self.hawser(service, "hwameistor-scheduler", deployed, &[])?,
            Service::Webhook => {
                self.hawser(service, "hwameistor-admission-controller", deployed, &[])?
            }
            Service::Provisioner => self.hawser(
                service,
                "hwameistor-local-storage-csi-controller",
                deployed,
                &[("csi-socket", self.socket())],
            )?,
            Service::Sidecar => self.sidecar(deployed, settings)?,
            Service::Nodes => self.simulator(),
        };
        Ok(Some(recipe))
    }

    fn admin(&self) -> String {
        format!("--kubeconfig={}", self.pki().kubeconfig().display())
    }

    fn socket(&self) -> String {
        self.file("csi.sock").display().to_string()
    }

    fn controller_manager(&self) -> Recipe {
        let pki = self.pki();
        let file = |name: &str| pki.file(name).display().to_string();
        let arguments = vec![
            self.admin(),
            format!("--service-account-private-key-file={}", file("sa.key")),
            format!("--root-ca-file={}", file("ca.crt")),
            "--use-service-account-credentials".to_owned(),
            "--leader-elect=false".to_owned(),
            // Nobody attaches: the simulated kubelets look for the volume itself.
            "--controllers=*,-persistentvolume-attach-detach-controller".to_owned(),
            // So that nothing is spent on leases (`kubelet::RENEW`).
            "--node-monitor-grace-period=1h".to_owned(),
            // Its own limit of 20 requests a second would hide what is looked at.
            "--kube-api-qps=1000".to_owned(),
            "--kube-api-burst=2000".to_owned(),
        ];
        Recipe::new(self.programs.join("kube-controller-manager"), arguments)
    }

    fn default_scheduler(&self) -> Recipe {
        let arguments = vec![self.admin(), "--leader-elect=false".to_owned()];
        Recipe::new(self.programs.join("kube-scheduler"), arguments)
    }

    fn scheduler(&self, deployed: &Deployed, settings: &Settings) -> Result<Recipe> {
        let path = self.file("scheduler.json");
        let kubeconfig = self.kubeconfig_of("hwameistor-scheduler");
        let config = scheduler_config(deployed.scheduler_config()?, &kubeconfig, settings);
        let other = [
            ("config", path.display().to_string()),
            ("secure-port", "10261".to_owned()),
        ];
        let arguments = deployed.arguments("kube-scheduler", &other)?;
        Ok(Recipe {
            file: Some((path, config.to_string())),
            ..Recipe::new(self.programs.join("kube-scheduler"), arguments)
        })
    }

    /// One of Hawser's programs, as its container runs it.
    fn hawser(
        &self,
        service: Service,
        account: &str,
        deployed: &Deployed,
        other: &[(&str, String)],
    ) -> Result<Recipe> {
        let name = service.name();
        let arguments = deployed.arguments(name, other)?;
        let mut environment: Vec<(String, String)> = deployed
            .settings()?
            .into_iter()
            .filter(|(name, _)| name.starts_with("HAWSER_"))
            .collect();
        let port = service.http().context("Hawser's programs have a port")?;
        let own = [
            (
                "KUBECONFIG",
                self.kubeconfig_of(account).display().to_string(),
            ),
            ("HAWSER_HTTP_LISTEN", format!("127.0.0.1:{port}")),
            ("POD_NAME", format!("{name}-0")),
            ("POD_NAMESPACE", DEFAULT_NAMESPACE.to_owned()),
        ];
        environment.extend(own.map(|(name, value)| (name.to_owned(), value)));
        Ok(Recipe {
            environment,
            ..Recipe::new(self.hawser.join(name), arguments)
        })
    }

    fn sidecar(&self, deployed: &Deployed, settings: &Settings) -> Result<Recipe> {
        let kubeconfig = self.kubeconfig_of("hwameistor-local-storage-csi-controller");
        let mut other = vec![
            ("csi-address", self.socket()),
            ("kubeconfig", kubeconfig.display().to_string()),
        ];
        if settings.unthrottled {
            other.push(("kube-api-qps", "1000".to_owned()));
            other.push(("kube-api-burst", "2000".to_owned()));
        }
        let arguments = deployed.arguments("csi-provisioner", &other)?;
        Ok(Recipe::new(
            self.programs.join("csi-provisioner"),
            arguments,
        ))
    }

    fn simulator(&self) -> Recipe {
        let arguments = vec![
            "sim".to_owned(),
            "play".to_owned(),
            self.admin(),
            format!("--wrong={}", self.wrong().display()),
        ];
        Recipe::new(self.lab_program.clone(), arguments)
    }
}

/// The delivered configuration, for one scheduler that is a process.
fn scheduler_config(mut config: Value, kubeconfig: &Path, settings: &Settings) -> Value {
    // One process needs no election, and one that was killed would have to wait for its own lease.
    config["leaderElection"] = json!({ "leaderElect": false });
    config["clientConnection"]["kubeconfig"] = json!(kubeconfig);
    if settings.unthrottled {
        config["clientConnection"]["qps"] = json!(1000);
        config["clientConnection"]["burst"] = json!(2000);
    }
    if !settings.extender
        && let Some(config) = config.as_object_mut()
    {
        config.remove("extenders");
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedulers_configuration_is_the_delivered_one_but_for_what_is_asked() {
        let delivered = json!({
            "kind": "KubeSchedulerConfiguration", "leaderElection": { "leaderElect": true, "resourceName": "x" },
            "profiles": [{ "schedulerName": "s" }], "extenders": [{ "weight": 1 }],
        });
        let path = Path::new("/k");
        let plain = scheduler_config(delivered.clone(), path, &Settings::default());
        assert_eq!(plain["extenders"], delivered["extenders"]);
        assert_eq!(plain["profiles"], delivered["profiles"]);
        assert_eq!(plain["clientConnection"], json!({ "kubeconfig": "/k" }));
        let bare = Settings {
            extender: false,
            unthrottled: true,
            ..Settings::default()
        };
        let bare = scheduler_config(delivered, path, &bare);
        assert!(bare.get("extenders").is_none());
        assert_eq!(bare["clientConnection"]["qps"], 1000);
    }

    #[test]
    fn a_kept_program_is_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        // The third time it ends its keeper.
        let script = format!(
            "echo x >> {0}; test $(wc -l < {0}) -lt 3 || kill $PPID",
            runs.display()
        );
        let recipe = Recipe::new("sh".into(), vec!["-c".to_owned(), script]);
        let status = recipe.command(Service::Nodes).unwrap().status().unwrap();
        assert!(!status.success());
        assert_eq!(std::fs::read_to_string(runs).unwrap(), "x\nx\nx\n");
    }

    #[test]
    fn names_and_ports_are_unique() {
        let mut names: Vec<_> = Service::AFTER_API
            .iter()
            .map(|service| service.name())
            .collect();
        let mut ports: Vec<_> = Service::AFTER_API.iter().filter_map(|s| s.http()).collect();
        names.sort_unstable();
        names.dedup();
        ports.dedup();
        assert_eq!((names.len(), ports.len()), (Service::AFTER_API.len(), 3));
    }
}
