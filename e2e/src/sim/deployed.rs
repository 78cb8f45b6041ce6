//! What the manifests deploy, taken apart: the objects for the API server, and the arguments and settings with which Hawser's programs and their
//! companions run. So that processes beside simulated nodes run as their containers would.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::command::output;

/// Kinds that would need nodes with containers.
const WORKLOADS: [&str; 3] = ["Deployment", "DaemonSet", "PodDisruptionBudget"];

/// What a kustomization builds.
#[derive(Clone, Debug)]
pub(crate) struct Deployed {
    objects: Vec<Value>,
}

impl Deployed {
    /// Builds the manifests of a project with these of its components. `kubectl` is the command so far.
    pub(crate) fn build(mut kubectl: Command, project: &Path, components: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // kustomize takes folders by relative path only: up to the top, and down again.
        let depth = folder.path().canonicalize()?.components().count() - 1;
        let manifests = format!(
            "{}{}",
            "../".repeat(depth),
            project.canonicalize()?.join("manifests").display()
        );
        let components: Vec<String> = components
            .iter()
            .map(|name| format!("{manifests}/components/{name}"))
            .collect();
        let text = json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
            "resources": [manifests], "components": components,
        });
        std::fs::write(folder.path().join("kustomization.yaml"), text.to_string())?;
        kubectl.arg("kustomize").arg(folder.path());
        Self::parse(&output(&mut kubectl).context("building the manifests")?)
    }

    fn parse(yaml: &str) -> Result<Self> {
        let objects: Vec<Value> =
            serde_saphyr::from_multiple(yaml).context("reading what the manifests build")?;
        ensure!(!objects.is_empty(), "the manifests build nothing");
        Ok(Self { objects })
    }

    /// What is applied: all but the workloads. Services select nothing: their endpoints are processes, not pods.
    pub(crate) fn for_the_api(&self) -> Value {
        let kept = self.objects.iter().filter(|object| {
            !WORKLOADS
                .iter()
                .any(|kind| object["kind"].as_str() == Some(kind))
        });
        let items: Vec<Value> = kept
            .map(|object| {
                let mut object = object.clone();
                if object["kind"] == "Service"
                    && let Some(spec) = object["spec"].as_object_mut()
                {
                    spec.remove("selector");
                }
                object
            })
            .collect();
        json!({ "apiVersion": "v1", "kind": "List", "items": items })
    }

    /// Whether a container of this name is deployed.
    pub(crate) fn runs(&self, container: &str) -> bool {
        self.container(container).is_ok()
    }

    fn container(&self, name: &str) -> Result<&Value> {
        let all = self
            .objects
            .iter()
            .filter_map(|object| object["spec"]["template"]["spec"]["containers"].as_array());
        all.flatten()
            .find(|container| container["name"] == name)
            .with_context(|| format!("the manifests have no container {name}"))
    }

    /// The arguments of a container, without the program; those whose flag is in `other` have that value instead.
    pub(crate) fn arguments(
        &self,
        container: &str,
        other: &[(&str, String)],
    ) -> Result<Vec<String>> {
        let container_object = self.container(container)?;
        let texts = |list: &str| -> Vec<String> {
            let list = container_object[list].as_array();
            let texts = list.into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        let all = [texts("command"), texts("args")].concat();
        let mut arguments: Vec<String> = all
            .into_iter()
            .filter(|argument| argument.starts_with('-'))
            .collect();
        for (flag, value) in other {
            let flag = format!("--{flag}=");
            arguments.retain(|argument| !argument.starts_with(&flag));
            arguments.push(format!("{flag}{value}"));
        }
        Ok(arguments)
    }

    fn config_map(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let found = self
            .objects
            .iter()
            .find(|object| object["kind"] == "ConfigMap" && object["metadata"]["name"] == name)
            .with_context(|| format!("the manifests have no ConfigMap {name}"))?;
        serde_json::from_value(found["data"].clone())
            .with_context(|| format!("ConfigMap {name} has no texts"))
    }

    /// The environment that all of Hawser's containers have.
    pub(crate) fn settings(&self) -> Result<BTreeMap<String, String>> {
        self.config_map("hwameistor-settings")
    }

    /// The scheduler's configuration.
    pub(crate) fn scheduler_config(&self) -> Result<Value> {
        use hawser_api::names::scheduling::{CONFIG_KEY, CONFIG_MAP};
        let data = self.config_map(CONFIG_MAP)?;
        let text = data
            .get(CONFIG_KEY)
            .with_context(|| format!("ConfigMap {CONFIG_MAP} has no {CONFIG_KEY}"))?;
        serde_saphyr::from_str(text).with_context(|| format!("reading {CONFIG_KEY}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = r#"
kind: Deployment
metadata: { name: d }
spec: { template: { spec: { containers: [
  { name: one, command: [/one, --config=/etc/x], args: ["--a=1", "--b=2"] },
] } } }
---
kind: Service
metadata: { name: s }
spec: { selector: { app: d }, ports: [{ port: 443 }] }
---
kind: ConfigMap
metadata: { name: hwameistor-settings }
data: { HAWSER_LOG_LEVEL: info }
---
kind: ConfigMap
metadata: { name: hwameistor-scheduler-config }
data:
  hwameistor-scheduler-config.yaml: |
    kind: KubeSchedulerConfiguration
    extenders: [{ weight: 1 }]
"#;

    #[test]
    fn processes_get_what_containers_would() {
        let deployed = Deployed::parse(YAML).unwrap();
        let arguments = deployed
            .arguments("one", &[("b", "3".to_owned()), ("c", "4".to_owned())])
            .unwrap();
        assert_eq!(arguments, ["--config=/etc/x", "--a=1", "--b=3", "--c=4"]);
        assert_eq!(deployed.settings().unwrap()["HAWSER_LOG_LEVEL"], "info");
        assert_eq!(
            deployed.scheduler_config().unwrap()["extenders"][0]["weight"],
            1
        );
        assert!(deployed.runs("one") && !deployed.runs("two"));
        let error = deployed.arguments("two", &[]).unwrap_err().to_string();
        assert_eq!(error, "the manifests have no container two");
    }

    #[test]
    fn no_workload_is_applied_and_no_service_selects_pods() {
        let list = Deployed::parse(YAML).unwrap().for_the_api();
        let items = list["items"].as_array().unwrap();
        assert!(items.iter().all(|item| item["kind"] != "Deployment"));
        let service = items.iter().find(|item| item["kind"] == "Service").unwrap();
        assert!(service["spec"].get("selector").is_none() && service["spec"]["ports"].is_array());
        assert!(Deployed::parse("").is_err());
    }
}
