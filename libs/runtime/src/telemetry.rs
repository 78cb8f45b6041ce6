//! Logs: where they go, how they look, and the one way in which an error with its sources becomes text.

use std::{error::Error, fmt, io::IsTerminal};

use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::args::{CommonArgs, LogFormat};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `--log-level` is not a level nor a list of directives.
    #[error(
        "--log-level {value:?} is not understood ({reason}); use error, warn, info, debug or trace, or directives such as info,kube=debug"
    )]
    Filter {
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else in this process has installed a subscriber first.
    #[error("logging is already set up in this process")]
    AlreadySet,
}

/// Sends log events to standard error in the format and at the level of `args`.
pub fn init(args: &CommonArgs) -> Result<(), TelemetryError> {
    let filter = filter(&args.log_level)?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(true);
    let lines = match args.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|_| TelemetryError::AlreadySet)
}

/// Whether [`init`] understands what `--log-level` says. A single word that is no level is refused: to the parser it would be
/// the name of a module, whose lines would then be all that is logged.
pub(crate) fn check_directives(directives: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let right =
        "use error, warn, info, debug or trace, or directives such as info,kube=debug".to_owned();
    let no_level = |word: &&str| {
        !word.contains(['=', '[', ']', '{', '}'])
            && !LEVELS.contains(&word.trim().to_ascii_lowercase().as_str())
    };
    match directives.split(',').find(no_level) {
        Some(word) => Err(format!("{:?} is no level; {right}", word.trim())),
        None => match EnvFilter::builder().parse(directives) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error}; {right}")),
        },
    }
}

fn filter(directives: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .parse(directives)
        .map_err(|error| TelemetryError::Filter {
            value: directives.to_owned(),
            reason: error.to_string(),
        })
}

/// Shows an error and all its sources as `what: why: why`, for log fields and messages to users.
///
/// Some crates repeat the source's text in their own; such a source is not said twice.
///
/// ```
/// # let error = std::io::Error::other("disk full");
/// tracing::warn!(error = %hawser_runtime::telemetry::chain(&error), "could not save");
/// ```
#[must_use]
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> Chain<'a> {
    Chain(error)
}

/// The result of [`chain`].
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            let text = error.to_string();
            if !text.is_empty() && !said.contains(&text) {
                write!(f, ": {text}")?;
                said.push_str(": ");
                said.push_str(&text);
            }
            next = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("can't read the pool")]
    struct Outer(#[source] Repeating);

    #[derive(Debug, thiserror::Error)]
    #[error("command failed: {0}")]
    struct Repeating(#[source] std::io::Error);

    #[test]
    fn a_chain_has_each_reason_once() {
        let error = Outer(Repeating(std::io::Error::other("no such volume group")));
        assert_eq!(
            chain(&error).to_string(),
            "can't read the pool: command failed: no such volume group"
        );
    }

    #[test]
    fn a_filter_is_a_level_or_directives() {
        assert!(filter("debug").is_ok());
        assert!(filter("info,kube=debug").is_ok());
        let error = filter("info,kube=loud").unwrap_err().to_string();
        assert!(
            error.contains("info,kube=loud") && error.contains("trace"),
            "{error}"
        );
    }

    #[test]
    fn a_word_that_is_no_level_is_not_taken_for_a_module() {
        for right in [
            "info",
            "WARN",
            "off",
            "info,kube=debug",
            "kube[request]=info",
        ] {
            assert_eq!(check_directives(right), Ok(()), "{right}");
        }
        for wrong in ["loud", "", "info,", "info,kube", "info,kube=loud"] {
            let why = check_directives(wrong).unwrap_err();
            assert!(why.contains("debug or trace"), "{wrong}: {why}");
        }
    }
}
