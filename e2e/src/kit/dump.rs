//! What to keep when something failed: objects, events, and the logs of every component and node, in one folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::lab::Lab;

/// What `kubectl` prints into which file.
const OBJECTS: &[(&str, &[&str])] = &[
    (
        "pods.txt",
        &["get", "pods", "--all-namespaces", "--output=wide"],
    ),
    (
        "events.txt",
        &[
            "get",
            "events",
            "--all-namespaces",
            "--sort-by=.metadata.resourceVersion",
        ],
    ),
    (
        "storage.txt",
        &[
            "get",
            "pv,sc,csidriver,csinode,volumeattachment,csistoragecapacity",
            "--all-namespaces",
        ],
    ),
    (
        "claims.yaml",
        &["get", "pvc", "--all-namespaces", "--output=yaml"],
    ),
    (
        "hawser.yaml",
        &["get", "lsn,ldn,ld,ldc,lv,lvr,lvg,lvexpand", "--output=yaml"],
    ),
    (
        "pods.yaml",
        &["get", "pods", "--all-namespaces", "--output=yaml"],
    ),
    ("nodes.yaml", &["get", "nodes", "--output=yaml"]),
];

/// What is asked of each node.
const ON_NODE: &str = "date; dmesg | tail -n 200; echo; lsblk -o NAME,MAJ:MIN,SIZE,TYPE,FSTYPE,SERIAL,MOUNTPOINTS; echo; pvs; vgs; lvs -a -o +lv_tags,devices; echo; dmsetup ls --tree; dmsetup table; echo; findmnt; df -h; free -m; ps aux";

/// Writes everything into a new folder below the lab's and returns it. What can't be had is noted in its place: a dump never fails for a part of it.
///
/// # Errors
/// If the folder can't be written.
pub(crate) fn dump(lab: &Lab, title: &str) -> Result<PathBuf> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let folder = lab
        .cache
        .failures()
        .join(format!("{}-{title}-{now}", lab.name));
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for (file, arguments) in OBJECTS {
        fs::write(folder.join(file), kubectl(lab, arguments))?;
    }
    pod_logs(lab, &folder)?;
    for node in lab.nodes().unwrap_or_default() {
        let text = match lab.sh(&node, ON_NODE) {
            Ok(output) => format!("{}\n{}", output.stdout, output.stderr),
            Err(error) => format!("{error:#}"),
        };
        fs::write(folder.join(format!("node-{node}.txt")), text)?;
    }
    for source in lab.log_folders() {
        let name = source
            .parent()
            .and_then(Path::file_name)
            .unwrap_or_default();
        copy(&source, &folder.join("logs").join(name))?;
    }
    Ok(folder)
}

/// The logs of all containers of Hawser's namespace and of the scenarios', those before a restart too.
fn pod_logs(lab: &Lab, folder: &Path) -> Result<()> {
    let list = kubectl(
        lab,
        &[
            "get",
            "pods",
            "--all-namespaces",
            "--output=jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}",
        ],
    );
    let logs = folder.join("pods");
    fs::create_dir_all(&logs)?;
    for line in list.lines() {
        let Some((namespace, pod)) = line.split_once('/') else {
            continue;
        };
        for (suffix, previous) in [
            ("log", "--previous=false"),
            ("before.log", "--previous=true"),
        ] {
            let text = kubectl(
                lab,
                &[
                    "logs",
                    "--namespace",
                    namespace,
                    pod,
                    "--all-containers",
                    "--prefix",
                    "--tail=5000",
                    previous,
                ],
            );
            fs::write(logs.join(format!("{namespace}-{pod}.{suffix}")), text)?;
        }
    }
    Ok(())
}

/// What kubectl prints, or why it can't.
fn kubectl(lab: &Lab, arguments: &[&str]) -> String {
    let run = || -> Result<String> {
        let mut command = lab.kubectl()?;
        command.arg("--request-timeout=20s").args(arguments);
        let output = lab.net.inside(|| Ok(command.output()?))?;
        Ok(format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ))
    };
    run().unwrap_or_else(|error| format!("{error:#}"))
}

/// Copies the files of a folder and of those below it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let Ok(entries) = fs::read_dir(from) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            copy(&entry.path(), &target)?;
        } else if let Err(error) = fs::copy(entry.path(), &target) {
            fs::write(&target, format!("{error}"))?;
        }
    }
    Ok(())
}
