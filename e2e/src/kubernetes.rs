//! The Kubernetes programs: control plane, kubelet, etcd, `CoreDNS`, the CSI sidecars and csi-sanity, built from their Go modules at the versions that
//! `e2e/kubernetes/go.mod` pins.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cache::{Cache, key};
use crate::command::{command, output, run_logged, which};
use crate::progress::Progress;

const MODULE: [(&str, &str); 2] = [
    ("go.mod", include_str!("../kubernetes/go.mod")),
    ("go.sum", include_str!("../kubernetes/go.sum")),
];
const DNS_MODULE: [(&str, &str); 3] = [
    ("go.mod", include_str!("../kubernetes/dns/go.mod")),
    ("go.sum", include_str!("../kubernetes/dns/go.sum")),
    ("main.go", include_str!("../kubernetes/dns/main.go")),
];
/// Raised when the way of building changes.
const VERSION: &str = "1";

/// The version of a module that go.mod pins, with its `v`.
pub(crate) fn version_of(module: &str) -> Option<&'static str> {
    MODULE[0].1.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split(' ');
        (words.next() == Some(module))
            .then(|| words.next())
            .flatten()
            .filter(|version| version.starts_with('v'))
    })
}

/// The packages that go.mod names as tools.
fn tools() -> impl Iterator<Item = &'static str> {
    MODULE[0]
        .1
        .lines()
        .filter_map(|line| line.trim().strip_prefix("tool "))
}

fn item_key() -> String {
    let parts: Vec<&str> = [VERSION]
        .into_iter()
        .chain(MODULE.iter().chain(&DNS_MODULE).map(|(_, text)| *text))
        .collect();
    key(&parts)
}

/// Whether the programs are already built.
pub(crate) fn exists(cache: &Cache) -> bool {
    cache.find("programs", &item_key()).is_some()
}

/// The folder with the programs, built if they are not there.
pub(crate) fn ensure(cache: &Cache, progress: &Progress) -> Result<PathBuf> {
    if !exists(cache) {
        progress.say("Kubernetes: building control plane, kubelet, etcd, CoreDNS and CSI sidecars from their Go modules (8 to 15 minutes on 2 cores, once)");
    }
    cache.item("programs", &item_key(), |dir| {
        let go = which("go").context(
            "Go was not found: install Go 1.26 or newer (https://go.dev/dl/), it builds Kubernetes and the CSI sidecars",
        )?;
        let sources = tempfile::tempdir_in(cache.dir()).context("a folder for the Go modules")?;
        let module = unpack(&sources.path().join("kubernetes"), &MODULE)?;
        let version = version_of("k8s.io/kubernetes").context("go.mod pins no k8s.io/kubernetes")?;
        let flags = format!(
            "-s -w -X k8s.io/component-base/version.gitVersion={version} -X k8s.io/client-go/pkg/version.gitVersion={version}"
        );
        let total = packages(&go, &module)?;
        let mut build = go_build(&go, &module, &flags, dir);
        build.args(tools());
        watched(&build, cache, "kubernetes", dir, total, progress)?;
        std::fs::rename(dir.join("server"), dir.join("etcd"))
            .context("etcd's package gives a program named server")?;

        let module = unpack(&sources.path().join("dns"), &DNS_MODULE)?;
        let mut build = go_build(&go, &module, "-s -w", &dir.join("coredns"));
        watched(build.arg("."), cache, "coredns", dir, None, progress)
    })
}

fn unpack(folder: &Path, files: &[(&str, &str)]) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    for (name, text) in files {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(folder.to_owned())
}

fn go_command(go: &Path, module: &Path) -> Command {
    let mut command = command(go);
    command
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=mod");
    command
}

fn go_build(go: &Path, module: &Path, flags: &str, out: &Path) -> Command {
    let mut command = go_command(go, module);
    command.args(["build", "-v", "-trimpath", "-ldflags", flags, "-o"]);
    // A folder as the target of several programs is told by the slash at its end.
    if out.is_dir() {
        command.arg(format!("{}/", out.display()));
    } else {
        command.arg(out);
    }
    command
}

/// How many packages there are to compile at most; also downloads the modules.
fn packages(go: &Path, module: &Path) -> Result<Option<usize>> {
    let mut list = go_command(go, module);
    list.args(["list", "-deps"]).args(tools());
    let text = output(&mut list).context("downloading the Go modules of Kubernetes")?;
    let count = text.lines().count();
    ensure!(count > 0, "go list names no packages");
    Ok(Some(count))
}

fn watched(
    build: &Command,
    cache: &Cache,
    what: &str,
    out: &Path,
    total: Option<usize>,
    progress: &Progress,
) -> Result<()> {
    let log = cache.log(what);
    let label = what.to_owned();
    run_logged(build, &log.clone(), Duration::from_secs(15), || {
        let done = std::fs::read_to_string(&log).map_or(0, |text| text.lines().count());
        let of = total.map_or_else(String::new, |total| format!(" of at most {total}"));
        let linked = std::fs::read_dir(out).map_or(0, Iterator::count);
        progress.say(format!(
            "{label}: {done}{of} packages compiled (what is in Go's cache is not), {linked} programs linked"
        ));
    })
    .with_context(|| format!("building {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_pinned_module() {
        assert!(version_of("k8s.io/kubernetes").is_some_and(|v| v.starts_with("v1.")));
        assert!(
            version_of("github.com/kubernetes-csi/external-provisioner/v6")
                .is_some_and(|v| v.starts_with("v6."))
        );
        assert_eq!(version_of("example.org/nothing"), None);
    }

    #[test]
    fn all_programs_that_the_lab_starts_are_built() {
        let names: Vec<&str> = tools().filter_map(|tool| tool.rsplit('/').next()).collect();
        for name in [
            "kube-apiserver",
            "kubelet",
            "kubectl",
            "kube-proxy",
            "csi-sanity",
        ] {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
    }
}
