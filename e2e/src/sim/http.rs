//! Asking the lab's own processes over plain HTTP: health, and metrics in the text format of Prometheus. For use inside of the lab's network.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A process that hangs has no answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Status and body of a GET on this port of the loopback interface.
pub(crate) async fn get(port: u16, path: &str) -> Result<(u16, String)> {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        parse(&answer)
    };
    tokio::time::timeout(PATIENCE, ask)
        .await
        .context("no answer within 5 s")?
        .with_context(|| format!("asking port {port} for {path}"))
}

fn parse(answer: &str) -> Result<(u16, String)> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer is no HTTP")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .context("the answer has no status")?;
    Ok((status, body.to_owned()))
}

/// Sum of the samples of a metric that have all these labels.
pub(crate) fn sum(text: &str, metric: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    text.lines()
        .filter_map(|line| line.strip_prefix(metric))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter(|rest| wanted.iter().all(|label| rest.contains(label.as_str())))
        .filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

/// The body of /metrics of the process on this port.
pub(crate) async fn metrics(port: u16) -> Result<String> {
    let (status, body) = get(port, "/metrics").await?;
    ensure!(status == 200, "port {port} answers {status} to /metrics");
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_name_and_labels() {
        let text = "# HELP a_total x\na_total{code=\"200\",name=\"x\"} 3\na_total{code=\"500\",name=\"x\"} 1\na_total_more{name=\"x\"} 9\nb 2.5\n";
        let is = |metric: &str, labels: &[(&str, &str)], wanted: f64| {
            (sum(text, metric, labels) - wanted).abs() < f64::EPSILON
        };
        assert!(is("a_total", &[], 4.0));
        assert!(is("a_total", &[("code", "200"), ("name", "x")], 3.0));
        assert!(is("a_total", &[("name", "y")], 0.0));
        assert!(is("b", &[], 2.5));
    }

    #[test]
    fn an_answer_has_status_and_body() {
        let (status, body) = parse("HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\nno").unwrap();
        assert_eq!((status, body.as_str()), (503, "no"));
        assert!(parse("nonsense").is_err());
    }
}
