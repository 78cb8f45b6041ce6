//! fio through a volume's published device beside the bare logical volume under it: the same blocks, the same node, in turns.

use anyhow::{Context, Result};
use hawser_api::{LocalVolumeReplica, names};
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use super::table::{Row, median};
use super::{bound, claim, release};
use crate::kit::Scope;

const ROUNDS: usize = 5;
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
    let mut rows = Vec::new();
    for (name, mode, block, operations) in JOBS {
        let (mut hawser_figures, mut bare_figures) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            // Who goes first alternates.
            let order = if round % 2 == 0 {
                [true, false]
            } else {
                [false, true]
            };
            for through_hawser in order {
                let device = if through_hawser { &front } else { &bare };
                let figure = job(scope, &node, device, mode, block, operations)?;
                if through_hawser {
                    &mut hawser_figures
                } else {
                    &mut bare_figures
                }
                .push(figure);
            }
        }
        let (hawser, bare) = (median(&hawser_figures), median(&bare_figures));
        let show = |value: f64| {
            if operations {
                format!("{value:.0} IOPS")
            } else {
                format!("{:.0} MiB/s", value / 1_048_576.0)
            }
        };
        rows.push(Row {
            what: format!(
                "fio {name}, queue depth 8, direct, median of {ROUNDS} (bare: the logical volume)"
            ),
            hawser: show(hawser),
            beside: show(bare),
            judgement: format!("{:.3} (goal 0.98)", hawser / bare),
        });
    }
    release(scope, "fio", &volume).await?;
    Ok(rows)
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
         --runtime=4 --time_based --randseed=7 --output-format=json 2>/dev/null"
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
