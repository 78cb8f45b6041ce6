//! Commands on a node: the lab's side of `guest/agent`.
//!
//! One TCP connection a command: the length of a shell script and the script go in; lines led by `o` (stdout) or `e` (stderr) come back, and at the end
//! `x` with the exit status. A last line without its end gets one.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::net::{AGENT_PORT, Net, agent_ip};

/// What a command on a node gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// The stdout of a command that ended with status 0.
    ///
    /// # Errors
    /// If it ended with another one; the error holds what it wrote.
    pub(crate) fn checked(self) -> Result<String> {
        if self.status != 0 {
            bail!(
                "exit status {}: {}{}",
                self.status,
                self.stderr.trim_end(),
                self.stdout.trim_end()
            );
        }
        Ok(self.stdout)
    }
}

/// A line that a command wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Stdout(&'a str),
    Stderr(&'a str),
}

/// Runs `script` with bash on the node; calls `each` for each line as it comes, and returns the exit status.
/// `patience` bounds each silence, not the whole; `None` waits as long as it takes.
///
/// # Errors
/// If the node can't be reached, or the connection ends before the command does (a power cut, say).
pub(crate) fn run(
    net: &Net,
    node: u8,
    script: &str,
    patience: Option<Duration>,
    each: impl FnMut(Line<'_>),
) -> Result<i32> {
    let address = SocketAddr::from((agent_ip(node), AGENT_PORT));
    let mut stream = net.inside(|| {
        TcpStream::connect_timeout(&address, Duration::from_secs(5)).with_context(|| {
            format!("reaching the agent of node n{node} at {address}: is it booted?")
        })
    })?;
    stream.set_read_timeout(patience)?;
    write!(stream, "{}\n{script}", script.len())?;
    read(BufReader::new(stream), each)
}

fn read(stream: impl BufRead, mut each: impl FnMut(Line<'_>)) -> Result<i32> {
    for line in stream.split(b'\n') {
        let line = line.context("the node says nothing anymore")?;
        let line = String::from_utf8_lossy(&line);
        match line.split_at_checked(1) {
            Some(("o", text)) => each(Line::Stdout(text)),
            Some(("e", text)) => each(Line::Stderr(text)),
            Some(("x", status)) => {
                return status
                    .parse()
                    .with_context(|| format!("the agent gave no exit status but {status:?}"));
            }
            _ => {}
        }
    }
    bail!("the connection to the node ended before the command did")
}

/// As [`run`], with the lines gathered.
pub(crate) fn gather(net: &Net, node: u8, script: &str, patience: Duration) -> Result<Output> {
    let mut output = Output::default();
    output.status = run(net, node, script, Some(patience), |line| {
        let (text, into) = match line {
            Line::Stdout(text) => (text, &mut output.stdout),
            Line::Stderr(text) => (text, &mut output.stderr),
        };
        into.push_str(text);
        into.push('\n');
    })?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let mut lines = Vec::new();
        let status = read("oone\nebad\n\no two\n\nx3\n".as_bytes(), |line| {
            lines.push(match line {
                Line::Stdout(text) => format!("out {text}"),
                Line::Stderr(text) => format!("err {text}"),
            });
        });
        assert_eq!(status.unwrap(), 3);
        assert_eq!(lines, ["out one", "err bad", "out  two"]);
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error() {
        let error = read("ohalf\n".as_bytes(), |_| {}).unwrap_err();
        assert!(error.to_string().contains("ended before"), "{error}");
    }
}
