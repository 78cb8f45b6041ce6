//! Checks that cargo does.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{Context, output, show};

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
    let crds = executable(context, "crds")?;
    show(
        context,
        &crds.to_string_lossy(),
        &["--check", "manifests/crds"],
    )
}

/// Path of a program or example of the workspace, built if need be.
///
/// All are built together: cargo chooses features of dependencies for what it is told to build, so that building one package
/// after the other compiles many dependencies several times.
pub(super) fn executable(context: &Context, name: &str) -> Result<PathBuf> {
    let messages = output(
        context,
        "cargo",
        &[
            "build",
            "--locked",
            "--quiet",
            "--workspace",
            "--bins",
            "--examples",
            "--message-format=json-render-diagnostics",
        ],
    )?;
    executable_in(&messages, name)
        .with_context(|| format!("the workspace has no program or example {name}"))
}

/// Finds a program among cargo's messages, one JSON object a line.
fn executable_in(messages: &str, name: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_among_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"p"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"p"},"executable":"/t/debug/p"}"#,
            "\nnot JSON\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable_in(messages, "p"), Some("/t/debug/p".into()));
        assert_eq!(executable_in(messages, "q"), None);
    }
}
