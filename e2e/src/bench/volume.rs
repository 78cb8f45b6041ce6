//! How long a volume takes from the claim to Bound, beside the bare `lvcreate` on a node.

use std::time::Instant;

use anyhow::{Context, Result};

use super::table::{Row, median};
use super::{bound, claim, release};
use crate::kit::Scope;
use crate::kit::objects::Pool;

const ROUNDS: usize = 15;

pub(super) async fn run(scope: &Scope, pools: &[Pool]) -> Result<Vec<Row>> {
    let pool = pools.first().context("there is no pool")?;
    let (mut hawser, mut bare) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let name = format!("create-{round}");
        let start = Instant::now();
        claim(scope, &name, "256Mi", "Filesystem").await?;
        let volume = bound(scope, &name).await?;
        hawser.push(start.elapsed().as_secs_f64());
        release(scope, &name, &volume).await?;
        bare.push(lvcreate(scope, pool)?);
    }
    let (hawser, bare) = (median(&hawser), median(&bare));
    Ok(vec![Row {
        what: format!(
            "claim to Bound, 256 MiB, one at a time, median of {ROUNDS} (bare: `lvcreate`)"
        ),
        hawser: format!("{hawser:.2} s"),
        beside: format!("{bare:.2} s"),
        judgement: format!("{:.1} x", hawser / bare),
    }])
}

/// Seconds of a bare `lvcreate` on the pool's node, by that node's clock.
fn lvcreate(scope: &Scope, pool: &Pool) -> Result<f64> {
    let name = &pool.name;
    let script = format!(
        "a=$(date +%s%N); lvcreate -q -q -y -n bench-bare -L 256M {name} >&2 || exit 1; b=$(date +%s%N); \
         lvremove -q -q -y {name}/bench-bare >&2 || exit 1; echo $(( (b - a) / 1000 ))"
    );
    let microseconds: u32 = scope
        .lab
        .sh(&pool.node, &script)?
        .checked()?
        .trim()
        .parse()
        .context("the time that lvcreate took")?;
    Ok(f64::from(microseconds) / 1e6)
}
