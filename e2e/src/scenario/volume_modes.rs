//! Every way to use a volume: as ext4, xfs, btrfs and as a block device, each by two pods at once, by one that may only read, by one pod alone
//! (`ReadWriteOncePod`), and grown while it is written to. What was written is known by its checksum and read from the disk, not from a cache.

mod affinity;
mod lane;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::future::join_all;
use hawser_api::names;

use crate::kit::objects::Pool;
use crate::kit::volumes::Mode;
use crate::kit::{Scope, cleanup, nodes};
use crate::lab::Lab;
use lane::Lane;

/// The namespace, and what the names of the classes begin with.
const NAME: &str = "volume-modes";
const PATIENCE: Duration = Duration::from_secs(180);

/// A kind of volume. Sizes are MiB.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    mode: Mode,
    size: u64,
    grown: u64,
    /// Of the volume that one pod has alone.
    alone: u64,
}

/// xfs is not made below 300 MiB, and btrfs does not grow below 256 MiB.
const KINDS: [Kind; 4] = [
    Kind {
        name: "ext4",
        mode: Mode::Filesystem,
        size: 64,
        grown: 160,
        alone: 32,
    },
    Kind {
        name: "xfs",
        mode: Mode::Filesystem,
        size: 320,
        grown: 448,
        alone: 320,
    },
    Kind {
        name: "btrfs",
        mode: Mode::Filesystem,
        size: 320,
        grown: 448,
        alone: 160,
    },
    Kind {
        name: "block",
        mode: Mode::Block,
        size: 64,
        grown: 160,
        alone: 32,
    },
];

/// Runs the scenario, all kinds at once.
///
/// # Errors
/// What does not hold, for each kind.
pub(super) async fn run(lab: &Lab) -> Result<()> {
    let scope = Scope::open(lab, NAME).await?;
    let pools = scope.ensure_pools().await?;
    let result = story(&scope, &pools).await;
    cleanup::after(lab, NAME, result, clean(&scope, &pools)).await
}

async fn story(scope: &Scope, pools: &[Pool]) -> Result<()> {
    let pool = pools.first().context("there is no pool")?;
    let class = names::pools::class_of(&pool.name).context("the pool has no class")?;
    for kind in &KINDS {
        let fs_type = ("csi.storage.k8s.io/fstype", kind.name);
        let parameters = match kind.mode {
            Mode::Filesystem => &[fs_type][..],
            Mode::Block => &[],
        };
        scope
            .class(&class_of(kind), &class.to_string(), parameters)
            .await?;
    }
    let lanes = KINDS.iter().map(|kind| async move {
        let start = Instant::now();
        let saw = Lane::new(scope, *kind)
            .run()
            .await
            .with_context(|| format!("kind {}", kind.name))?;
        println!(
            "  {} ({:.0} s): {saw}",
            kind.name,
            start.elapsed().as_secs_f64()
        );
        Ok::<(), anyhow::Error>(())
    });
    let failed: Vec<String> = join_all(lanes)
        .await
        .into_iter()
        .filter_map(Result::err)
        .map(|error| format!("\n    {error:#}"))
        .collect();
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("what does not hold:{}", failed.concat())
    }
}

fn class_of(kind: &Kind) -> String {
    format!("{NAME}-{}", kind.name)
}

/// Deletes the pods and claims with the namespace; then every byte must be free again, and nothing left on the nodes.
async fn clean(scope: &Scope, pools: &[Pool]) -> Result<()> {
    scope.close().await?;
    scope.sweep_classes(NAME).await?;
    scope.until_pools(pools, PATIENCE).await?;
    nodes::no_volumes(&scope.lab)
}
