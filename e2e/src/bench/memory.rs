//! Resident memory of each of Hawser's components, idle and with a hundred volumes.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use futures::future::try_join_all;

use super::table::Row;
use super::{bound, claim, release};
use crate::kit::Scope;

const VOLUMES: usize = 100;
/// Each component and the most it should take, MiB.
const COMPONENTS: [(&str, u64); 4] = [
    ("node-daemon", 25),
    ("provisioner", 25),
    ("scheduler-extender", 15),
    ("admission-webhook", 15),
];

pub(super) fn idle(scope: &Scope) -> Result<Vec<Row>> {
    rows(scope, "idle")
}

pub(super) async fn with_volumes(scope: &Scope) -> Result<Vec<Row>> {
    let names: Vec<String> = (0..VOLUMES).map(|index| format!("many-{index}")).collect();
    for name in &names {
        claim(scope, name, "16Mi", "Filesystem").await?;
    }
    let volumes = try_join_all(names.iter().map(|name| bound(scope, name))).await?;
    let rows = rows(scope, &format!("with {VOLUMES} volumes"))?;
    try_join_all(
        names
            .iter()
            .zip(&volumes)
            .map(|(name, volume)| release(scope, name, volume)),
    )
    .await?;
    Ok(rows)
}

fn rows(scope: &Scope, when: &str) -> Result<Vec<Row>> {
    let resident = resident(scope)?;
    COMPONENTS
        .iter()
        .map(|(component, goal)| {
            let kib = resident
                .get(*component)
                .with_context(|| format!("no process {component} on any node"))?;
            Ok(Row {
                what: format!(
                    "resident memory of {component}, {when} (the largest of its processes)"
                ),
                hawser: format!("{:.1} MiB", f64::from(*kib) / 1024.0),
                beside: "-".to_owned(),
                judgement: format!("goal under {goal} MiB"),
            })
        })
        .collect()
}

/// KiB of the largest process of each component. The kernel cuts a process' name after 15 characters, so the first argument is what counts.
fn resident(scope: &Scope) -> Result<BTreeMap<&'static str, u32>> {
    let mut largest = BTreeMap::new();
    for node in scope.lab.nodes()? {
        let list = scope.lab.sh(&node, "ps -e -o rss=,args=")?.checked()?;
        for line in list.lines() {
            let mut words = line.split_whitespace();
            let (Some(kib), Some(program)) = (words.next(), words.next()) else {
                continue;
            };
            let program = program.rsplit('/').next().unwrap_or(program);
            for (component, _) in COMPONENTS {
                if program == component {
                    let kib: u32 = kib.parse().context("resident memory")?;
                    let entry = largest.entry(component).or_insert(0);
                    *entry = (*entry).max(kib);
                }
            }
        }
    }
    Ok(largest)
}
