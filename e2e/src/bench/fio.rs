//! fio through a volume's published device beside the bare logical volume under it: the same blocks, the same node, in turns.

use anyhow::{Context, Result};
use hawser_api::{LocalVolumeReplica, names};
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use super::table::{Row, median};
use super::{bound, claim, release};
use crate::kit::Scope;

/// So many pairs of runs. A pair's two runs follow each other, so that what else the machine does meets both; the median of the
/// pairs' ratios is what counts.
const ROUNDS: usize = 9;
/// Name, mode and block size of each job, and whether its figure is operations or bytes a second.
const JOBS: [(&str, &str, &str, bool); 4] = [
    ("4 KiB random reads", "randread", "4k", true),
    ("4 KiB random writes", "randwrite", "4k", true),
    ("1 MiB sequential reads", "read", "1M", false),
    ("1 MiB sequential writes", "write", "1M", false),
];

pub(super) async fn run(scope: &Scope) -> Result<Vec<Row>> {
    claim(scope, "fio", "512Mi", "Block").await?;
    let volume = bound(scope, "fio").await?;
    let replicas: Api<LocalVolumeReplica> = scope.cluster();
    let of_volume = ListParams::default().fields(&format!("spec.volumeName={volume}"));
    let replica = replicas
        .list(&of_volume)
        .await?
        .items
        .pop()
        .context("the volume has no replica")?;
    let node = replica.spec.node_name.clone();
    let front = format!("/dev/mapper/{volume}{}", names::devices::FRONT_SUFFIX);
    let bare = format!("/dev/{}/{volume}", replica.spec.pool_name);
    // The node's disks are sparse files of the host: whoever writes a block first pays for its allocation.
    fill(scope, &node, &front)?;
    let mut rows = Vec::new();
    for (name, mode, block, operations) in JOBS {
        let mut pairs = Vec::new();
        for round in 0..ROUNDS {
            let figure = |device: &str| job(scope, &node, device, mode, block, operations);
            // Who goes first alternates.
            pairs.push(if round % 2 == 0 {
                let hawser = figure(&front)?;
                (hawser, figure(&bare)?)
            } else {
                let bare = figure(&bare)?;
                (figure(&front)?, bare)
            });
        }
        let show = |value: f64| {
            if operations {
                format!("{value:.0} IOPS")
            } else {
                format!("{:.0} MiB/s", value / 1_048_576.0)
            }
        };
        let of = |figure: fn(&(f64, f64)) -> f64| pairs.iter().map(figure).collect::<Vec<_>>();
        let mut ratios = of(|(hawser, bare)| hawser / bare);
        ratios.sort_by(f64::total_cmp);
        let (low, high) = (ratios[ROUNDS / 4], ratios[ROUNDS - 1 - ROUNDS / 4]);
        rows.push(Row {
            what: format!(
                "fio {name}, queue depth 8, direct, {ROUNDS} pairs (bare: the logical volume)"
            ),
            hawser: show(median(&of(|pair| pair.0))),
            beside: show(median(&of(|pair| pair.1))),
            judgement: format!(
                "{:.3}, half of the pairs within {low:.3} to {high:.3} (goal 0.98)",
                median(&ratios)
            ),
        });
    }
    release(scope, "fio", &volume).await?;
    Ok(rows)
}

/// Writes each block of the device once.
fn fill(scope: &Scope, node: &str, device: &str) -> Result<()> {
    let script = format!(
        "fio --name=fill --filename={device} --rw=write --bs=1M --direct=1 --ioengine=libaio --iodepth=8 --output-format=terse 2>&1"
    );
    scope.lab.sh(node, &script)?.checked()?;
    Ok(())
}

/// Operations or bytes a second of one job.
fn job(
    scope: &Scope,
    node: &str,
    device: &str,
    mode: &str,
    block: &str,
    operations: bool,
) -> Result<f64> {
    let script = format!(
        "fio --name=bench --filename={device} --rw={mode} --bs={block} --direct=1 --ioengine=libaio --iodepth=8 --size=512M \
         --runtime=3 --time_based --randseed=7 --output-format=json 2>/dev/null"
    );
    let output = scope.lab.sh(node, &script)?.checked()?;
    let json = output
        .find('{')
        .map(|start| &output[start..])
        .context("fio wrote no JSON")?;
    let report: Value = serde_json::from_str(json).context("reading fio's report")?;
    let direction = if mode.ends_with("read") {
        "read"
    } else {
        "write"
    };
    let key = if operations { "iops" } else { "bw_bytes" };
    report["jobs"][0][direction][key]
        .as_f64()
        .with_context(|| format!("fio's report has no {direction}.{key}"))
}
