//! Checks that cargo does.

use anyhow::Result;

use super::{Context, show};

pub(super) fn format(context: &Context) -> Result<()> {
    show(context, "cargo", &["fmt", "--all", "--check"])
}

pub(super) fn clippy(context: &Context) -> Result<()> {
    show(
        context,
        "cargo",
        &[
            "clippy",
            "--locked",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    )
}

pub(super) fn test(context: &Context) -> Result<()> {
    show(
        context,
        "cargo",
        &["test", "--locked", "--quiet", "--workspace"],
    )
}

pub(super) fn generated(context: &Context) -> Result<()> {
    let crds = [
        "run",
        "--locked",
        "--quiet",
        "--package",
        "hawser-api",
        "--example",
        "crds",
    ];
    show(
        context,
        "cargo",
        &[&crds[..], &["--", "--check", "manifests/crds"]].concat(),
    )
}
