//! Which crate may depend on which: docs/architecture.md, "Crates".

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use cargo_metadata::{DependencyKind, Metadata};

use super::{Context, none_of};

/// Crates by name, with the names that each reaches directly.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// `from` must not reach any of `to`, over however many crates.
struct Ban {
    from: &'static [&'static str],
    to: &'static [&'static str],
    why: &'static str,
}

const KUBERNETES: &[&str] = &["kube", "k8s-openapi", "hawser-api", "hawser-runtime"];

const BANS: [Ban; 4] = [
    Ban {
        from: &["hawser-api"],
        to: &["hawser-placement"],
        why: "the API says what is written, not what is chosen",
    },
    Ban {
        from: &["node-daemon"],
        to: &["hawser-placement", "hawser-inventory"],
        why: "a node does not choose",
    },
    Ban {
        from: &["lvm2-cmd", "drbd-cmd", "hawser-command"],
        to: KUBERNETES,
        why: "drivers of commands know no Kubernetes",
    },
    Ban {
        from: &["hawser-csi"],
        to: KUBERNETES,
        why: "generated code and nothing else",
    },
];

pub(super) fn arrows(context: &Context) -> Result<()> {
    let metadata = metadata(context)?;
    let members: BTreeSet<String> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    let libraries = metadata
        .workspace_packages()
        .iter()
        .filter(|package| {
            package
                .manifest_path
                .starts_with(context.workspace.join("libs").to_string_lossy().as_ref())
        })
        .map(|package| package.name.to_string())
        .collect();
    none_of(&violations(&graph(&metadata), &members, &libraries))
}

pub(super) fn metadata(context: &Context) -> Result<Metadata> {
    Ok(cargo_metadata::MetadataCommand::new()
        .current_dir(&context.workspace)
        // What is built for the one platform that Hawser runs on.
        .other_options(
            ["--locked", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned),
        )
        .exec()?)
}

/// What is built into each crate: dependencies for tests are left out.
fn graph(metadata: &Metadata) -> Graph {
    let name = |id| metadata[id].name.to_string();
    let nodes = metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
    let mut graph = Graph::new();
    for node in nodes {
        let built_in = node.deps.iter().filter(|dependency| {
            dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind != DependencyKind::Development)
        });
        // Two versions of one crate are one name here, which can only make the check stricter.
        graph
            .entry(name(&node.id))
            .or_default()
            .extend(built_in.map(|dependency| name(&dependency.pkg)));
    }
    graph
}

fn violations(
    graph: &Graph,
    members: &BTreeSet<String>,
    libraries: &BTreeSet<String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for member in members {
        for other in graph
            .get(member)
            .into_iter()
            .flatten()
            .filter(|other| members.contains(*other))
        {
            if !libraries.contains(other) {
                found.push(format!("{member} depends on {other}, which is no library: arrows go from binaries to libs"));
            }
            if member == "hawser-placement" {
                found.push(format!(
                    "hawser-placement depends on {other}: it is pure and depends on none of ours"
                ));
            }
        }
    }
    for ban in &BANS {
        for from in ban.from {
            for to in ban.to {
                if let Some(path) = path(graph, from, to) {
                    found.push(format!("{}: {}", path.join(" -> "), ban.why));
                }
            }
        }
    }
    found
}

/// The shortest way from one crate to another, if there is one.
fn path(graph: &Graph, from: &str, to: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![from.to_owned()]];
    let mut seen = BTreeSet::from([from.to_owned()]);
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in way
                .last()
                .and_then(|last| graph.get(last))
                .into_iter()
                .flatten()
            {
                let mut way = way.clone();
                way.push(next.clone());
                if next == to {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_graph(arrows: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::new();
        for (from, to) in arrows {
            graph
                .entry((*from).to_owned())
                .or_default()
                .insert((*to).to_owned());
        }
        graph
    }

    fn found(arrows: &[(&str, &str)]) -> Vec<String> {
        let names = |list: &[&str]| {
            list.iter()
                .map(|name| (*name).to_owned())
                .collect::<BTreeSet<_>>()
        };
        let libraries = names(&[
            "hawser-placement",
            "hawser-inventory",
            "hawser-api",
            "hawser-runtime",
            "lvm2-cmd",
        ]);
        let mut members = libraries.clone();
        members.extend(names(&["node-daemon", "provisioner"]));
        violations(&a_graph(arrows), &members, &libraries)
    }

    #[test]
    fn allowed_arrows_pass() {
        let fine = [
            ("provisioner", "hawser-placement"),
            ("provisioner", "hawser-api"),
            ("hawser-inventory", "hawser-placement"),
            ("node-daemon", "lvm2-cmd"),
            ("hawser-placement", "serde"),
        ];
        assert_eq!(found(&fine), Vec::<String>::new());
    }

    #[test]
    fn each_forbidden_arrow_is_found_also_over_another_crate() {
        for (arrows, want) in [
            (
                vec![("hawser-placement", "hawser-api")],
                "depends on none of ours",
            ),
            (vec![("hawser-api", "hawser-placement")], "what is chosen"),
            (
                vec![("node-daemon", "x"), ("x", "hawser-placement")],
                "node-daemon -> x -> hawser-placement",
            ),
            (
                vec![("lvm2-cmd", "x"), ("x", "y"), ("y", "kube")],
                "lvm2-cmd -> x -> y -> kube",
            ),
            (vec![("provisioner", "node-daemon")], "is no library"),
        ] {
            let found = found(&arrows);
            assert!(
                found.iter().any(|line| line.contains(want)),
                "{arrows:?}: {found:?}"
            );
        }
    }

    #[test]
    fn a_cycle_ends() {
        assert_eq!(path(&a_graph(&[("a", "b"), ("b", "a")]), "a", "c"), None);
    }
}
