//! The flags that all binaries have, how durations are written, and the list of effective settings that is logged at start.
//!
//! Not here: what a flag of one binary means. Each binary flattens [`CommonArgs`] into its own `Args`.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use clap::{CommandFactory, FromArgMatches, error::ErrorKind, parser::ValueSource};

use crate::telemetry;

/// The kernel's limit for the path of a Unix socket, without the zero byte at its end.
const MAX_SOCKET_PATH: usize = 107;

/// Flags of every binary. All can be set by environment too, so that manifests need no templating of argument lists.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonArgs {
    /// How log lines look: JSON for collectors, text for people.
    #[arg(long, env = "HAWSER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,

    /// What is logged: a level (error, warn, info, debug, trace) or a list of directives such as `info,hawser_runtime::lease=debug`.
    #[arg(long, env = "HAWSER_LOG_LEVEL", default_value = "info", value_parser = log_level)]
    pub log_level: String,

    /// Address of /livez, /readyz and /metrics.
    // All interfaces, since kubelet probes the pod's address and not loopback; nothing secret is served there.
    #[arg(long, env = "HAWSER_HTTP_LISTEN", default_value = "0.0.0.0:9810")]
    pub http_listen: SocketAddr,

    /// Kubeconfig file. Without it the service account of the pod is used.
    #[arg(long, env = "KUBECONFIG", value_parser = readable_file)]
    pub kubeconfig: Option<PathBuf>,

    /// How long work in progress may go on after a termination signal, for example `25s`.
    // kubelet kills after 30 s unless told otherwise; 5 s are left for the process to end.
    #[arg(long, env = "HAWSER_DRAIN_TIMEOUT", default_value = "25s", value_parser = duration)]
    pub drain_timeout: Duration,

    /// How long the API server may take to begin its answer to one request.
    // Longer than the server's own limit for etcd, shorter than a lease's renew deadline.
    #[arg(long, env = "HAWSER_API_TIMEOUT", default_value = "15s", value_parser = positive_duration)]
    pub api_timeout: Duration,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line of text for each event, with colours if standard error is a terminal.
    Text,
    /// One JSON object for each event.
    Json,
}

/// Parses a duration such as `30s`, `1m30s`, `250ms`. For clap: `value_parser = hawser_runtime::args::duration`.
///
/// Refuses negative durations and numbers without a unit: "30" might be meant as seconds or milliseconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |why: String| {
        format!("{why}; write a number with its unit, for example 30s, 1m30s or 250ms")
    };
    let parsed: jiff::SignedDuration = text.parse().map_err(|error| wrong(format!("{error}")))?;
    Duration::try_from(parsed).map_err(|_| wrong("a duration can't be negative".to_owned()))
}

/// As [`duration`], without zero: for what would never wait, or never stop.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than zero, for example 30s".to_owned()),
        longer => Ok(longer),
    }
}

/// A path from the root, without `..`: what is made or removed below it must be where the words say.
pub fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err("must be an absolute path, such as /var/lib/kubelet".to_owned());
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("must not contain `..`; write the path that is meant".to_owned());
    }
    Ok(path.to_owned())
}

/// As [`absolute_path`], short enough for a Unix socket.
pub fn socket_path(text: &str) -> Result<PathBuf, String> {
    if text.len() > MAX_SOCKET_PATH {
        return Err(format!(
            "has {} bytes; the path of a socket has at most {MAX_SOCKET_PATH}",
            text.len()
        ));
    }
    absolute_path(text)
}

/// The name of a namespace or Service: what can be one part of a DNS name.
pub fn dns_label(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if text.len() <= 63 && text.starts_with(ends) && text.ends_with(ends) && text.chars().all(inner)
    {
        Ok(text.to_owned())
    } else {
        Err("must be at most 63 lower case letters, digits and hyphens, and begin and end with a letter or digit".to_owned())
    }
}

fn log_level(text: &str) -> Result<String, String> {
    telemetry::check_directives(text).map(|()| text.to_owned())
}

/// Looked at here and not where it is read, so that a wrong name ends the program as any other wrong flag does.
fn readable_file(text: &str) -> Result<PathBuf, String> {
    let wrong = |why: String| format!("{why}; name a file that can be read");
    match std::fs::metadata(text) {
        Ok(found) if found.is_dir() => Err(wrong("is a folder".to_owned())),
        Ok(_) => std::fs::File::open(text)
            .map(|_| text.into())
            .map_err(|error| wrong(error.to_string())),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// One flag and where its value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The long name of the flag, without dashes.
    pub name: String,
    /// The value as it was written; several values are joined by a comma.
    pub value: String,
    /// `flag`, `environment` or `default`.
    pub source: &'static str,
}

/// The effective settings of a binary, for its first log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings(pub Vec<Setting>);

impl Settings {
    /// Logs all settings in one event. Flags hold no secrets: these come from files and API objects.
    pub fn log(&self, component: &'static str) {
        let effective = self
            .0
            .iter()
            .map(|setting| format!("{}={} ({})", setting.name, setting.value, setting.source))
            .collect::<Vec<_>>()
            .join(" ");
        tracing::info!(component, version = env!("CARGO_PKG_VERSION"), %effective, "starting");
    }
}

/// Parses the command line and the environment. On a mistake prints what is wrong and exits with status 2, on `--help` with 0.
#[must_use]
pub fn parse<T: CommandFactory + FromArgMatches>() -> (T, Settings) {
    try_parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// As [`parse`], for binaries with flags that must agree with each other: `check` answers with a sentence that names them.
#[must_use]
pub fn parse_checked<T: CommandFactory + FromArgMatches>(
    check: impl FnOnce(&T) -> Result<(), String>,
) -> (T, Settings) {
    try_parse_checked_from(std::env::args_os(), check).unwrap_or_else(|error| error.exit())
}

/// As [`parse_checked`], from the given words, for tests.
pub fn try_parse_checked_from<T: CommandFactory + FromArgMatches>(
    words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<(T, Settings), clap::Error> {
    let (args, settings) = try_parse_from::<T>(words)?;
    match check(&args) {
        Ok(()) => Ok((args, settings)),
        Err(sentence) => Err(T::command().error(ErrorKind::ValueValidation, sentence)),
    }
}

/// As [`parse`], from the given words (the first is the program's name), for tests.
pub fn try_parse_from<T: CommandFactory + FromArgMatches>(
    words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<(T, Settings), clap::Error> {
    let mut command = T::command();
    let matches = command.try_get_matches_from_mut(words)?;
    let args = T::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let settings = command
        .get_arguments()
        .filter_map(|arg| {
            let source = match matches.value_source(arg.get_id().as_str())? {
                ValueSource::DefaultValue => "default",
                ValueSource::EnvVariable => "environment",
                ValueSource::CommandLine | _ => "flag",
            };
            let values = matches.try_get_raw(arg.get_id().as_str()).ok().flatten()?;
            let value = values
                .map(|value| value.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(",");
            let name = arg
                .get_long()
                .unwrap_or_else(|| arg.get_id().as_str())
                .to_owned();
            Some(Setting {
                name,
                value,
                source,
            })
        })
        .collect();
    Ok((args, Settings(settings)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Example {
        #[command(flatten)]
        common: CommonArgs,
        #[arg(long)]
        verbose: bool,
    }

    #[test]
    fn durations_need_a_unit_and_a_positive_value() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["30", "-5s", "", "soon"] {
            let message = duration(wrong).unwrap_err();
            assert!(message.contains("for example 30s"), "{wrong}: {message}");
        }
    }

    #[test]
    fn effective_settings_say_where_each_value_came_from() {
        let (args, settings) = try_parse_from::<Example>([
            "example",
            "--log-level",
            "debug",
            "--drain-timeout=3s",
            "--verbose",
        ])
        .unwrap();
        assert_eq!(args.common.drain_timeout, Duration::from_secs(3));
        assert!(args.verbose);
        let find = |name: &str| {
            settings
                .0
                .iter()
                .find(|setting| setting.name == name)
                .cloned()
                .unwrap()
        };
        assert_eq!(
            (find("log-level").value.as_str(), find("log-level").source),
            ("debug", "flag")
        );
        assert_eq!(
            (
                find("http-listen").value.as_str(),
                find("http-listen").source
            ),
            ("0.0.0.0:9810", "default")
        );
        assert_eq!(find("drain-timeout").source, "flag");
    }

    #[test]
    fn a_wrong_flag_is_refused_with_its_name_its_value_and_what_would_be_right() {
        for (flag, value, right) in [
            ("--api-timeout", "15", "30s"),
            ("--api-timeout", "0s", "longer than zero"),
            ("--drain-timeout", "-1s", "for example 30s"),
            ("--log-level", "loud", "debug or trace"),
            ("--log-level", "info,kube=loud", "debug or trace"),
            ("--log-level", "", "debug or trace"),
            ("--log-format", "xml", "json"),
            ("--http-listen", "9810", "socket address"),
            ("--kubeconfig", "/nonexistent/config", "can be read"),
            ("--kubeconfig", "/", "is a folder"),
        ] {
            let error =
                try_parse_from::<Example>(["example".to_owned(), format!("{flag}={value}")])
                    .unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let text = error.to_string();
            assert!(
                text.contains(flag) && text.contains(&format!("'{value}'")) && text.contains(right),
                "{flag} {value:?}: {text}"
            );
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_or_are_too_long_are_refused() {
        assert_eq!(
            absolute_path("/var/lib/kubelet"),
            Ok("/var/lib/kubelet".into())
        );
        for (wrong, part) in [
            ("var/lib", "absolute"),
            ("", "absolute"),
            ("/var/../etc", ".."),
        ] {
            assert!(absolute_path(wrong).unwrap_err().contains(part), "{wrong}");
        }
        let long = format!("/{}", "x".repeat(107));
        assert!(socket_path(&long).unwrap_err().contains("at most 107"));
        assert!(socket_path(&long[..107]).is_ok());
        assert!(socket_path("csi.sock").is_err());
    }

    #[test]
    fn flags_that_do_not_agree_end_with_status_2_too() {
        let disagree = |_: &Example| Err("--verbose needs --log-level debug".to_owned());
        let error = try_parse_checked_from::<Example>(["example"], disagree).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error.to_string().contains("--verbose needs --log-level"),
            "{error}"
        );
        assert!(try_parse_checked_from::<Example>(["example"], |_| Ok(())).is_ok());
    }
}
