//! A lab with simulated nodes that is up: its processes, and what can be done to them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::deployed::Deployed;
use super::service::{Parts, Recipe, Service, Settings};
use super::{cpu, http, wrong};
use crate::command::run;
use crate::control_plane::ControlPlane;
use crate::kit::{Pending, wait_for};
use crate::lab::Lab;
use crate::process::Process;
use crate::state;
use crate::up::workspace;

/// For a process to be ready, or to be stopped.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A lab with simulated nodes. Clones are the same lab.
#[derive(Clone)]
pub(crate) struct Sim {
    /// Its API server, network and state are those of a lab that has no nodes of its own.
    pub(crate) lab: Lab,
    parts: Arc<Parts>,
    now: Arc<Mutex<Now>>,
}

/// What is applied, and what runs with which recipe.
struct Now {
    settings: Settings,
    deployed: Deployed,
    running: BTreeMap<Service, Recipe>,
}

impl Sim {
    /// Nothing runs yet.
    pub(super) fn new(lab: Lab, parts: Parts, settings: Settings) -> Result<Self> {
        let deployed = Deployed::build(lab.kubectl()?, &workspace()?, &settings.components)?;
        let now = Now {
            settings,
            deployed,
            running: BTreeMap::new(),
        };
        Ok(Self {
            lab,
            parts: Arc::new(parts),
            now: Arc::new(Mutex::new(now)),
        })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether Hawser's scheduler is part of what is deployed.
    pub(crate) fn has_scheduler(&self) -> bool {
        self.now().deployed.runs("kube-scheduler")
    }

    /// Whether a service is started.
    pub(crate) fn runs(&self, service: Service) -> bool {
        self.now().running.contains_key(&service)
    }

    /// Does something that blocks on a thread of its own.
    pub(crate) async fn act<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || work(&this))
            .await
            .context("the thread that works on the lab")?
    }

    /// Applies what is deployed. Blocks.
    pub(super) fn apply(&self) -> Result<()> {
        let path = self.lab.dir().join("manifests.json");
        let list = self.now().deployed.for_the_api();
        std::fs::write(&path, list.to_string())
            .with_context(|| format!("writing {}", path.display()))?;
        let mut apply = self.lab.kubectl()?;
        apply.args(["apply", "-f"]).arg(&path);
        self.lab
            .net
            .inside(|| run(&mut apply))
            .context("applying Hawser's manifests")
    }

    /// Starts etcd or the API server. Blocks.
    pub(super) fn start_first(&self, service: Service) -> Result<()> {
        let control_plane = ControlPlane {
            programs: self.parts.programs.clone(),
            lab: self.parts.lab.clone(),
            net: self.lab.net.clone(),
        };
        self.note(service, control_plane.start(service.name())?)
    }

    /// Starts a service as it is set now, if it is to run at all and does not yet. Blocks.
    pub(crate) fn start(&self, service: Service) -> Result<()> {
        let recipe = {
            let now = self.now();
            let recipe = self.parts.recipe(service, &now.deployed, &now.settings)?;
            recipe.filter(|_| !now.running.contains_key(&service))
        };
        let Some(recipe) = recipe else {
            return Ok(());
        };
        let mut command = recipe.command(service)?;
        command.current_dir(&self.parts.lab);
        let log = fresh_log(&self.parts.lab.join("logs"), service.name());
        let process = self
            .lab
            .net
            .inside(|| Process::start(service.name(), &mut command, &log))?;
        self.now().running.insert(service, recipe);
        self.note(service, process)
    }

    /// Writes down which process is the service now.
    fn note(&self, service: Service, process: Process) -> Result<()> {
        state::update(self.lab.dir(), |state| {
            state.services.retain(|other| other.role != service.name());
            state.services.push(process);
            Ok(())
        })
    }

    fn process(&self, service: Service) -> Result<Process> {
        let state = self.lab.state()?;
        let found = state
            .services
            .into_iter()
            .find(|process| process.role == service.name());
        found.with_context(|| format!("{} was not started", service.name()))
    }

    /// The process of the program itself, not what keeps it alive.
    fn program(&self, service: Service) -> Result<Process> {
        let process = self.process(service)?;
        if matches!(service, Service::Etcd | Service::ApiServer) {
            return Ok(process);
        }
        let mut children = process.children();
        children
            .pop()
            .with_context(|| format!("{} does not run at this moment", service.name()))
    }

    /// Takes a service away until it is started again. Blocks.
    pub(crate) fn stop(&self, service: Service) -> Result<()> {
        self.now().running.remove(&service);
        self.process(service)?.kill()
    }

    /// Kills a service as a power cut does; it is started again a second later. Blocks.
    pub(crate) fn crash(&self, service: Service) -> Result<()> {
        self.program(service)?.kill()
    }

    /// Lets a service hang. Blocks.
    pub(crate) fn pause(&self, service: Service) -> Result<()> {
        self.process(service)?.signal_tree(Signal::STOP, "")
    }

    /// Lets it go on. Blocks.
    pub(crate) fn resume(&self, service: Service) -> Result<()> {
        self.process(service)?.signal_tree(Signal::CONT, "")
    }

    /// Processor time that a service's program has used since it was started.
    pub(crate) fn cpu(&self, service: Service) -> Result<Duration> {
        cpu::used(self.program(service)?.pid)
    }

    /// Changes settings: applies manifests, and starts, stops or starts anew what runs with others than before.
    pub(crate) async fn set(&self, settings: Settings) -> Result<()> {
        self.act(move |sim| {
            let deployed =
                Deployed::build(sim.lab.kubectl()?, &workspace()?, &settings.components)?;
            {
                let mut now = sim.now();
                now.deployed = deployed;
                now.settings = settings;
            }
            sim.apply()?;
            for service in Service::AFTER_API {
                sim.bring_in_step(service)?;
            }
            Ok(())
        })
        .await?;
        self.ready().await
    }

    fn bring_in_step(&self, service: Service) -> Result<()> {
        let (wanted, running) = {
            let now = self.now();
            let wanted = self.parts.recipe(service, &now.deployed, &now.settings)?;
            (wanted, now.running.get(&service).cloned())
        };
        if wanted == running {
            return Ok(());
        }
        if running.is_some() {
            self.stop(service)?;
        }
        self.start(service)
    }

    /// Waits until everything of Hawser's that runs is ready.
    pub(crate) async fn ready(&self) -> Result<()> {
        let running: Vec<Service> = self.now().running.keys().copied().collect();
        for service in running {
            self.service_ready(service).await?;
        }
        Ok(())
    }

    /// Waits until a service says that it is ready; those that say nothing pass.
    pub(crate) async fn service_ready(&self, service: Service) -> Result<()> {
        let Some(port) = service.http() else {
            return Ok(());
        };
        let what = format!("{} to be ready", service.name());
        wait_for(&what, PATIENCE, || async {
            let (status, body) = http::get(port, "/readyz").await?;
            Ok(if status == 200 {
                Ok(())
            } else {
                Err(Pending::because(format!("it answers {status}: {body}")))
            })
        })
        .await
    }

    /// How often the provisioner has refused to make a volume for lack of room, since it was started.
    pub(crate) async fn refusals(&self) -> Result<f64> {
        let port = Service::Provisioner.http().context("it has a port")?;
        let text = http::metrics(port).await?;
        let count = |outcome: &str| {
            let labels = [("operation", "create_volume"), ("outcome", outcome)];
            http::sum(&text, "hawser_csi_requests_total", &labels)
        };
        ensure!(
            count("ok") > 0.0,
            "the provisioner counts no volume that it has made"
        );
        Ok(count("no-room"))
    }

    /// Fails if the simulated nodes saw anything that must never be.
    pub(crate) fn nothing_wrong(&self) -> Result<()> {
        let lines = wrong::read(&self.parts.wrong())?;
        ensure!(
            lines.is_empty(),
            "the nodes saw what must never be:\n{}",
            lines.join("\n")
        );
        Ok(())
    }
}

/// A log file that no earlier start of the service has written to.
fn fresh_log(folder: &Path, name: &str) -> std::path::PathBuf {
    let first = folder.join(format!("{name}.log"));
    let later = (2..).map(|number| folder.join(format!("{name}-{number}.log")));
    std::iter::once(first)
        .chain(later)
        .find(|path| !path.exists())
        .unwrap_or_else(|| folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_has_a_log_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        for wanted in ["a.log", "a-2.log", "a-3.log"] {
            let path = fresh_log(folder.path(), "a");
            assert_eq!(path, folder.path().join(wanted));
            std::fs::write(path, "").unwrap();
        }
    }
}
