//! Running programs of this machine: the one place of the lab that starts processes.
//!
//! Owns how a command's failure is told (whole argv, exit status, end of stderr). Which programs run, and what they leave behind, is the callers' matter.
#![allow(
    clippy::disallowed_methods,
    reason = "the lab drives the machine's own tools (ip, nft, debootstrap, go); hawser_command is for the services"
)]

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A command that reads nothing.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// `program` with `args`.
pub(crate) fn with_args<I, S>(program: &str, args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = command(program);
    command.args(args);
    command
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs to the end and returns what was written to stdout.
///
/// # Errors
/// If it can't be started or exits with another status than 0; the error holds argv and the end of stderr.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = shown(command);
    let output = command
        .output()
        .with_context(|| format!("starting `{line}`"))?;
    if !output.status.success() {
        bail!(
            "`{line}`: {}: {}",
            output.status,
            tail(&String::from_utf8_lossy(&output.stderr), 20)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs to the end; what it writes is only shown if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// The same command, but it is killed when the thread that starts it ends: a killed lab leaves no build behind.
pub(crate) fn leashed(command: &Command) -> Command {
    behind(&["setpriv", "--pdeathsig", "KILL", "--"], command)
}

/// As [`leashed`], with all that the command starts: it is the first process of a process namespace, which ends with it.
fn leashed_whole(command: &Command) -> Command {
    leashed(&behind(
        &["unshare", "--pid", "--fork", "--kill-child", "--"],
        command,
    ))
}

/// `command` as the last arguments of another one.
fn behind(first: &[&str], command: &Command) -> Command {
    let mut leashed = with_args(first[0], &first[1..]);
    leashed.arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        leashed.current_dir(dir);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => leashed.env(name, value),
            None => leashed.env_remove(name),
        };
    }
    leashed
}

/// Runs to the end with stdout and stderr in the file `log`, calling `tick` every `every` while it runs.
/// It does not outlive the calling thread.
///
/// # Errors
/// As [`output`]; the error holds the end of the log.
pub(crate) fn run_logged(
    command: &Command,
    log: &Path,
    every: Duration,
    mut tick: impl FnMut(),
) -> Result<()> {
    let line = shown(command);
    let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let mut child = leashed_whole(command)
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("starting `{line}`"))?;
    let mut last = std::time::Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(50));
        if last.elapsed() >= every {
            last = std::time::Instant::now();
            tick();
        }
    };
    if !status.success() {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        bail!(
            "`{line}`: {status}; end of {}:\n{}",
            log.display(),
            tail(&text, 25)
        );
    }
    Ok(())
}

/// The last `lines` lines of `text`.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Where `program` is found on the search path, if anywhere.
pub(crate) fn which(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/local/go/bin", "/usr/sbin", "/sbin"].map(Into::into))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_tells_argv_status_and_stderr() {
        let error = run(&mut with_args(
            "sh",
            ["-c", "echo some >&2; echo reason >&2; exit 3"],
        ))
        .unwrap_err()
        .to_string();
        assert!(error.contains("sh -c"), "{error}");
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("some\nreason"), "{error}");
    }

    #[test]
    fn a_command_behind_another_keeps_its_arguments_folder_and_environment() {
        let mut inner = with_args("go", ["build", "."]);
        inner.current_dir("/tmp").env("CGO_ENABLED", "0");
        let whole = leashed_whole(&inner);
        assert_eq!(
            shown(&whole),
            "setpriv --pdeathsig KILL -- unshare --pid --fork --kill-child -- go build ."
        );
        assert_eq!(whole.get_current_dir(), Some(Path::new("/tmp")));
        assert_eq!(whole.get_envs().count(), 1);
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
    }
}
