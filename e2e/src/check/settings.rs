//! Checks of what manifests promise beyond building: that settings arrive where they work, and that pods may do no more than they must.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::manifests::objects;
use super::{Context, none_of};

/// The example of settings, as the README has it copied.
const EXAMPLE: &str = "examples/my-cluster";
/// The one program that works on the host itself.
const ON_THE_HOST: &str = "node-daemon";

/// A copy of the example beside it, with every setting changed, builds objects that have the changes.
pub(super) fn arrive(context: &Context) -> Result<()> {
    let examples = context.workspace.join("examples");
    let copy = tempfile::Builder::new()
        .prefix("check-")
        .tempdir_in(&examples)
        .with_context(|| format!("making a folder in {}", examples.display()))?;
    copy_example(&context.workspace.join(EXAMPLE), copy.path())?;
    let plain = objects(context, EXAMPLE)?;
    let changed = objects(context, &copy.path().to_string_lossy())?;
    let mut found = wrong_settings(&changed);
    // As it is delivered, the example must fit an ordinary cluster.
    let delivered = node_daemon(&plain)["volumes"].to_string();
    if !delivered.contains("\"/var/lib/kubelet\"") {
        found.push(format!(
            "{EXAMPLE} names another kubelet's folder than the usual one: {delivered}"
        ));
    }
    none_of(&found)
}

/// Copies the example with another log level, another kubelet's folder, another registry, and its tolerations in force.
fn copy_example(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let text = std::fs::read_to_string(entry.path())?;
        let mut changed = text
            .replace("HAWSER_LOG_LEVEL: info", "HAWSER_LOG_LEVEL: trace")
            .replace("KUBELET_DIR: /var/lib/kubelet", "KUBELET_DIR: /srv/kubelet")
            .replace("registry.example.com", "registry.test");
        for line in [
            "- path: tolerations.yaml",
            "  target:",
            "    kind: DaemonSet",
            "    name: hwameistor-local-storage",
        ] {
            changed = changed.replace(&format!("  # {line}"), &format!("  {line}"));
        }
        std::fs::write(to.join(entry.file_name()), changed)?;
    }
    Ok(())
}

fn wrong_settings(objects: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    let mut expect = |holds: bool, what: &str, is: &Value| {
        if !holds {
            found.push(format!("{what} does not arrive: {is}"));
        }
    };
    let settings = objects
        .iter()
        .find(|object| object["metadata"]["name"] == "hwameistor-settings")
        .map_or(Value::Null, |object| object["data"].clone());
    expect(
        settings["HAWSER_LOG_LEVEL"] == "trace",
        "the log level",
        &settings,
    );
    let daemon = node_daemon(objects);
    let text = daemon.to_string();
    let kubelet = |text: &str| text.contains("\"/srv/kubelet\"");
    expect(
        kubelet(&daemon["volumes"].to_string()),
        "kubelet's folder on the host",
        &daemon["volumes"],
    );
    let mounts = &daemon["containers"][0]["volumeMounts"];
    expect(
        kubelet(&mounts.to_string()),
        "kubelet's folder in the container",
        mounts,
    );
    expect(
        !text.contains("\"/var/lib/kubelet\""),
        "kubelet's folder everywhere",
        &daemon,
    );
    let tolerations = &daemon["tolerations"];
    let narrowed = tolerations
        .as_array()
        .is_some_and(|all| all.len() > 1 && all[0]["key"].is_string());
    expect(narrowed, "the tolerations", tolerations);
    for pod in objects
        .iter()
        .map(|object| &object["spec"]["template"]["spec"])
    {
        for container in pod["containers"].as_array().into_iter().flatten() {
            let image = &container["image"];
            let ours = image
                .as_str()
                .is_some_and(|image| image.contains("/hawser/"));
            let moved = image
                .as_str()
                .is_some_and(|image| image.starts_with("registry.test/"));
            expect(!ours || moved, "the registry", image);
        }
    }
    found
}

fn node_daemon(objects: &[Value]) -> Value {
    objects
        .iter()
        .find(|object| object["kind"] == "DaemonSet")
        .map_or(Value::Null, |object| {
            object["spec"]["template"]["spec"].clone()
        })
}

/// Every container but the node daemon's runs as nobody, on a read-only root, without capabilities.
pub(super) fn confined(context: &Context) -> Result<()> {
    let objects = objects(context, "manifests")?;
    let mut seen = 0;
    let mut found = Vec::new();
    for object in &objects {
        let pod = &object["spec"]["template"]["spec"];
        for container in pod["containers"].as_array().into_iter().flatten() {
            seen += 1;
            let name = container["name"].as_str().unwrap_or_default();
            found.extend(
                too_free(pod, container)
                    .into_iter()
                    .filter(|_| name != ON_THE_HOST)
                    .map(|what| format!("{}/{name}: {what}", object["metadata"]["name"])),
            );
        }
    }
    ensure!(seen > 0, "manifests/ has no container");
    none_of(&found)
}

/// What a container may do though it need not.
fn too_free(pod: &Value, container: &Value) -> Vec<String> {
    let own = &container["securityContext"];
    let either = |key: &str| {
        let of_pod = pod["securityContext"][key].clone();
        own.get(key).cloned().unwrap_or(of_pod)
    };
    let dropped = own["capabilities"]["drop"].as_array();
    let seccomp = either("seccompProfile")["type"].clone();
    [
        (either("runAsNonRoot") == true, "may run as root"),
        (
            own["readOnlyRootFilesystem"] == true,
            "may write to its root",
        ),
        (
            own["allowPrivilegeEscalation"] == false,
            "may gain privileges",
        ),
        (
            dropped.is_some_and(|all| all.contains(&"ALL".into())),
            "keeps capabilities",
        ),
        (
            seccomp == "RuntimeDefault",
            "may make every system call (no seccomp profile)",
        ),
        (
            pod["hostNetwork"] != true && pod["hostPID"] != true && pod["hostIPC"] != true,
            "shares the host's namespaces",
        ),
    ]
    .into_iter()
    .filter(|(holds, _)| !holds)
    .map(|(_, what)| what.to_owned())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_that_may_do_more_than_it_must_is_told() {
        let confined = json!({
            "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }
        });
        let pod = json!({ "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } } });
        let none: [String; 0] = [];
        assert_eq!(
            too_free(&pod, &json!({ "securityContext": confined })),
            none
        );
        assert_eq!(too_free(&json!({}), &json!({})).len(), 5);
        let own = json!({ "securityContext": { "runAsNonRoot": false } });
        assert!(too_free(&pod, &own).contains(&"may run as root".to_owned()));
        assert_eq!(
            too_free(
                &json!({ "hostPID": true, "securityContext": pod["securityContext"] }),
                &json!({ "securityContext": confined })
            ),
            ["shares the host's namespaces"]
        );
    }

    #[test]
    fn a_setting_that_does_not_arrive_is_told() {
        let daemon = |folder: &str| {
            json!({ "kind": "DaemonSet", "spec": { "template": { "spec": {
                "tolerations": [{ "key": "a" }, { "key": "b" }],
                "volumes": [{ "hostPath": { "path": folder } }],
                "containers": [{ "image": "registry.test/hawser/x:1", "volumeMounts": [{ "mountPath": folder }] }],
            } } } })
        };
        let settings = json!({ "metadata": { "name": "hwameistor-settings" }, "data": { "HAWSER_LOG_LEVEL": "trace" } });
        let none: [String; 0] = [];
        assert_eq!(
            wrong_settings(&[settings.clone(), daemon("/srv/kubelet")]),
            none
        );
        assert_eq!(
            wrong_settings(&[settings, daemon("/var/lib/kubelet")]).len(),
            3
        );
        assert!(!wrong_settings(&[daemon("/srv/kubelet")]).is_empty());
    }
}
