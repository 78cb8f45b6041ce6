//! Checks of what a user applies: manifests and Containerfiles against the programs and images they name.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Context, none_of, output};
use crate::image::hawser::{BINARIES, REGISTRY, SIDECARS};
use crate::image::tools;

/// What must build: the manifests, and the example of settings on top of them.
const OVERLAYS: [&str; 2] = ["manifests", "examples/my-cluster"];

/// The objects of a kustomization.
pub(super) fn objects(context: &Context, folder: &str) -> Result<Vec<Value>> {
    let kubectl = context.go_bin.join("kubectl");
    let yaml = output(context, &kubectl.to_string_lossy(), &["kustomize", folder])?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&yaml)
        .with_context(|| format!("reading what {folder} builds"))?;
    ensure!(!objects.is_empty(), "{folder} builds nothing");
    Ok(objects)
}

/// One container of a workload.
struct Container {
    /// `Kind name/container`, for messages.
    place: String,
    image: String,
    args: Vec<String>,
    /// Whether it takes the settings' environment.
    settings: bool,
}

fn containers(objects: &[Value]) -> Vec<Container> {
    let mut found = Vec::new();
    for object in objects {
        let pod = &object["spec"]["template"]["spec"];
        let all = ["initContainers", "containers"]
            .into_iter()
            .filter_map(|list| pod[list].as_array());
        for container in all.flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let list = |name: &str| {
                container[name]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(text)
                    .collect::<Vec<_>>()
            };
            found.push(Container {
                place: format!(
                    "{} {}/{}",
                    text(&object["kind"]),
                    text(&object["metadata"]["name"]),
                    text(&container["name"])
                ),
                image: text(&container["image"]),
                args: [list("command"), list("args")].concat(),
                settings: container["envFrom"]
                    .as_array()
                    .is_some_and(|from| !from.is_empty()),
            });
        }
    }
    found
}

pub(super) fn build(context: &Context) -> Result<()> {
    for folder in OVERLAYS {
        objects(context, folder)?;
    }
    components(context)?;
    let objects = objects(context, OVERLAYS[0])?;
    let containers = containers(&objects);
    let mut known: BTreeSet<String> = BINARIES
        .iter()
        .map(|name| format!("{REGISTRY}/{name}:{}", env!("CARGO_PKG_VERSION")))
        .collect();
    known.extend(
        SIDECARS
            .iter()
            .map(|(_, repository, tag)| format!("{repository}:{tag}")),
    );
    let mut found: Vec<String> = containers
        .iter()
        .filter(|container| !known.contains(&container.image))
        .map(|container| {
            format!(
                "{}: nobody makes the image {}",
                container.place, container.image
            )
        })
        .collect();
    for name in BINARIES {
        let image = format!("{REGISTRY}/{name}:");
        if !containers
            .iter()
            .any(|container| container.image.starts_with(&image))
        {
            found.push(format!("no container of manifests/ runs {name}"));
        }
    }
    let definitions = objects
        .iter()
        .filter(|object| object["kind"] == "CustomResourceDefinition")
        .count();
    let wanted = hawser_api::crd::definitions().len();
    if definitions != wanted {
        found.push(format!(
            "manifests/crds/kustomization.yaml lists {definitions} of {wanted} definitions"
        ));
    }
    none_of(&found)
}

/// Each component, by itself on top of the manifests, must build and change something.
fn components(context: &Context) -> Result<()> {
    let plain = objects(context, OVERLAYS[0])?;
    let folder = context.workspace.join("manifests/components");
    for entry in
        std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
    {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // kustomize takes folders by relative path only: up to the top, and down again.
        let overlay = tempfile::tempdir()?;
        let up = "../".repeat(overlay.path().canonicalize()?.components().count() - 1);
        let manifests = format!("{up}{}", context.workspace.join("manifests").display());
        let text =
            format!("resources: [{manifests}]\ncomponents: [{manifests}/components/{name}]\n");
        std::fs::write(overlay.path().join("kustomization.yaml"), text)?;
        let changed = objects(context, &overlay.path().to_string_lossy())?;
        ensure!(
            changed != plain,
            "manifests/components/{name} changes nothing"
        );
    }
    Ok(())
}

pub(super) fn flags(context: &Context) -> Result<()> {
    let objects = objects(context, OVERLAYS[0])?;
    let environment: Vec<String> = objects
        .iter()
        .filter(|object| {
            object["kind"] == "ConfigMap" && object["metadata"]["name"] == "hwameistor-settings"
        })
        .filter_map(|object| object["data"].as_object())
        .flat_map(|data| {
            data.keys()
                .filter(|key| key.starts_with("HAWSER_"))
                .cloned()
        })
        .collect();
    let mut helps = BTreeMap::new();
    let mut found = Vec::new();
    for container in containers(&objects) {
        let program = program_of(&container.image);
        if !helps.contains_key(program) {
            helps.insert(program.to_owned(), help(context, program)?);
        }
        let help = &helps[program];
        for flag in container
            .args
            .iter()
            .filter_map(|argument| flag_of(argument))
        {
            if !has_flag(help, flag) {
                found.push(format!(
                    "{}: {program} has no flag --{flag}",
                    container.place
                ));
            }
        }
        for name in environment.iter().filter(|_| container.settings) {
            if !help.contains(&format!("[env: {name}")) {
                found.push(format!(
                    "{}: {program} does not know the variable {name} of the settings",
                    container.place
                ));
            }
        }
    }
    none_of(&found)
}

/// The last part of an image's name, which is the program's.
fn program_of(image: &str) -> &str {
    let base = image.rsplit('/').next().unwrap_or(image);
    base.split(':').next().unwrap_or(base)
}

/// `--name=value` or `--name`: the name.
fn flag_of(argument: &str) -> Option<&str> {
    argument
        .strip_prefix("--")
        .map(|flag| flag.split('=').next().unwrap_or(flag))
}

/// Whether a help text explains the flag: `--flag` of clap, or `-flag` of Go.
fn has_flag(help: &str, flag: &str) -> bool {
    help.split(|c: char| c.is_whitespace() || "=,[".contains(c))
        .any(|word| word.trim_start_matches('-') == flag && word.starts_with('-'))
}

fn help(context: &Context, program: &str) -> Result<String> {
    if BINARIES.contains(&program) {
        let built = super::cargo::executable(context, program)?;
        return output(context, &built.to_string_lossy(), &["--help"]);
    }
    let path = context.go_bin.join(program);
    // Go's flag package writes to standard error, and programs differ in the exit status of --help.
    let told = super::command(context, &path.to_string_lossy(), &["--help"])
        .output()
        .with_context(|| format!("running {}", path.display()))?;
    Ok(format!(
        "{}{}",
        String::from_utf8_lossy(&told.stdout),
        String::from_utf8_lossy(&told.stderr)
    ))
}

pub(super) fn containerfiles(context: &Context) -> Result<()> {
    let listed = tools::packages(&context.workspace)?;
    let mut found = Vec::new();
    for name in BINARIES {
        let path = context.workspace.join(name).join("Containerfile");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        found.extend(
            wrong_in_containerfile(name, &text)
                .into_iter()
                .map(|what| format!("{}: {what}", path.display())),
        );
        if name == "node-daemon" {
            let by_hand = listed
                .iter()
                .filter(|package| text.split_whitespace().any(|word| word == package.name));
            found.extend(by_hand.map(|package| {
                format!(
                    "{}: {} is to come from tools.txt",
                    path.display(),
                    package.name
                )
            }));
        }
    }
    none_of(&found)
}

fn wrong_in_containerfile(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("FROM ")) {
        let image = line.split_whitespace().nth(1).unwrap_or_default();
        if image != "scratch" && (!image.contains(':') || image.ends_with(":latest")) {
            found.push(format!("{image} names no version"));
        }
    }
    let mut wanted = vec![
        format!("ENTRYPOINT [\"/{name}\"]"),
        "target-feature=+crt-static".to_owned(),
        "--profile image".to_owned(),
    ];
    wanted.push(if name == "node-daemon" {
        "node-daemon/tools.txt".to_owned()
    } else {
        "USER 65532:65532".to_owned()
    });
    found.extend(
        wanted
            .into_iter()
            .filter(|want| !text.contains(want))
            .map(|want| format!("`{want}` is missing")),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_found_in_both_kinds_of_help() {
        let clap = "  -h, --help\n      --csi-socket <PATH>  Where [env: X]\n";
        let go = "  -csi-address string\n  -v, --v Level\n  --feature-gates=a=b,...";
        assert!(has_flag(clap, "csi-socket") && has_flag(clap, "help"));
        assert!(has_flag(go, "csi-address") && has_flag(go, "v") && has_flag(go, "feature-gates"));
        assert!(!has_flag(clap, "csi") && !has_flag(clap, "Where") && !has_flag(go, "address"));
        assert_eq!(flag_of("--a-b=c=d"), Some("a-b"));
        assert_eq!(flag_of("/kube-scheduler"), None);
    }

    #[test]
    fn containers_of_workloads() {
        let objects: Vec<Value> = serde_saphyr::from_multiple(
            "kind: Service\nspec: {ports: []}\n---\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {spec: {containers: [{name: c, image: 'r/p:1', args: [--x], envFrom: [{}]}]}}}\n",
        )
        .unwrap();
        let found = containers(&objects);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].place.as_str(), found[0].args.as_slice()),
            ("Deployment d/c", &["--x".to_owned()][..])
        );
        assert!(found[0].settings);
        assert_eq!(program_of(&found[0].image), "p");
        assert_eq!(program_of("host:5000/a/b:v1"), "b");
    }

    #[test]
    fn a_containerfile_without_versions_or_user_is_wrong() {
        let fine = "FROM docker.io/library/rust:1.95.0 AS build\nRUN x -C target-feature=+crt-static cargo build --profile image\nFROM scratch\nUSER 65532:65532\nENTRYPOINT [\"/p\"]\n";
        assert_eq!(wrong_in_containerfile("p", fine), Vec::<String>::new());
        let wrong = wrong_in_containerfile(
            "p",
            &fine.replace(":1.95.0", ":latest").replace("USER", "#"),
        );
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }
}
