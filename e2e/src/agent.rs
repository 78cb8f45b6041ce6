//! Commands on a node: the lab's side of `guest/agent`.
//!
//! One TCP connection a command: the length of a shell script and the script go in; frames of stdout and stderr come back as they are written, and at the
//! end the exit status.

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

/// A piece of what a command writes, as it comes: not a line, nor always whole characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Stdout(&'a [u8]),
    Stderr(&'a [u8]),
}

/// Runs `script` with bash on the node; calls `each` for each piece of output as it comes, and returns the exit status.
/// `patience` bounds each silence, not the whole; `None` waits as long as it takes.
///
/// # Errors
/// If the node can't be reached, or the connection ends before the command does (a power cut, say).
pub(crate) fn run(
    net: &Net,
    node: u8,
    script: &str,
    patience: Option<Duration>,
    each: impl FnMut(Piece<'_>),
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

fn read(mut stream: impl BufRead, mut each: impl FnMut(Piece<'_>)) -> Result<i32> {
    let mut bytes = Vec::new();
    loop {
        let mut header = String::new();
        stream
            .read_line(&mut header)
            .context("the node says nothing anymore")?;
        let Some((kind, number)) = header.trim_end().split_once(' ') else {
            bail!("the connection to the node ended before the command did");
        };
        let number: i32 = number
            .parse()
            .with_context(|| format!("the agent sent {header:?}"))?;
        if kind == "x" {
            return Ok(number);
        }
        let length =
            usize::try_from(number).with_context(|| format!("the agent sent {header:?}"))?;
        bytes.resize(length, 0);
        stream
            .read_exact(&mut bytes)
            .context("the connection to the node ended before the command did")?;
        match kind {
            "o" => each(Piece::Stdout(&bytes)),
            "e" => each(Piece::Stderr(&bytes)),
            _ => bail!("the agent sent {header:?}"),
        }
    }
}

/// As [`run`], with the output gathered.
pub(crate) fn gather(net: &Net, node: u8, script: &str, patience: Duration) -> Result<Output> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = run(net, node, script, Some(patience), |piece| match piece {
        Piece::Stdout(bytes) => stdout.extend_from_slice(bytes),
        Piece::Stderr(bytes) => stderr.extend_from_slice(bytes),
    })?;
    Ok(Output {
        status,
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let mut pieces = Vec::new();
        let status = read("o 4\none\ne 3\nbado 0\nx 3\n".as_bytes(), |piece| {
            pieces.push(match piece {
                Piece::Stdout(bytes) => format!("out {}", String::from_utf8_lossy(bytes)),
                Piece::Stderr(bytes) => format!("err {}", String::from_utf8_lossy(bytes)),
            });
        });
        assert_eq!(status.unwrap(), 3);
        assert_eq!(pieces, ["out one\n", "err bad", "out "]);
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error() {
        for text in ["", "o 4\nha", "o 4\nhalf"] {
            let error = read(text.as_bytes(), |_| {}).unwrap_err();
            assert!(error.to_string().contains("ended before"), "{error}");
        }
        assert!(read("o x\n".as_bytes(), |_| {}).is_err());
    }
}
