//! The server as a process of its own, and clients that keep their connections, as kube-scheduler does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::Options;
use crate::api;
use crate::load::{KINDS, Kind, Question};
use crate::table::{Row, Times};

/// For the server to be ready.
const PATIENCE: Duration = Duration::from_secs(300);

/// One request to the router, without a socket: the answer, and how long it took.
pub(crate) async fn in_process(
    router: &Router,
    path: &str,
    body: &[u8],
) -> Result<(Vec<u8>, Duration)> {
    let request = axum::http::Request::post(path).body(Body::from(body.to_vec()))?;
    let router = router.clone();
    let began = Instant::now();
    let response = router.oneshot(request).await?;
    let status = response.status();
    let answer = response.into_body().collect().await?.to_bytes();
    let took = began.elapsed();
    ensure!(status.is_success(), "{path}: {status}");
    Ok((answer.to_vec(), took))
}

/// The program under test; ended when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    ready: Duration,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has nothing to bring to an end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Server {
    /// `source`: the flag that says where the cluster is read from.
    #[allow(
        clippy::disallowed_methods,
        reason = "it must run beside us, not to its end"
    )]
    fn start(source: &str) -> Result<Self> {
        let (address, health) = (free_address()?, free_address()?);
        let began = Instant::now();
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_scheduler-extender"))
            .arg(source)
            .args([
                format!("--listen={address}"),
                format!("--http-listen={health}"),
            ])
            .arg("--log-level=warn")
            .stdin(Stdio::null())
            .spawn()
            .context("starting the extender")?;
        let mut server = Self {
            child,
            address,
            ready: Duration::ZERO,
        };
        while !api::is_ready(health).unwrap_or(false) {
            if let Some(status) = server.child.try_wait()? {
                bail!("the extender ended: {status}");
            }
            ensure!(began.elapsed() < PATIENCE, "the extender is not ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        server.ready = began.elapsed();
        Ok(server)
    }

    fn memory_row(&self, when: &str) -> Result<Row> {
        let (now, most) = (self.memory("VmRSS:")?, self.memory("VmHWM:")?);
        let value = format!("{now:.0} MiB, at most {most:.0} MiB");
        Ok(Row::fact(format!("memory {when}"), value))
    }

    fn start_rows(&self, from: &str) -> Result<[Row; 2]> {
        let value = format!(
            "{:.2} s, {:.2} s of CPU",
            self.ready.as_secs_f64(),
            self.cpu()?.as_secs_f64()
        );
        Ok([
            Row::fact(format!("start to ready, {from}"), value),
            self.memory_row(&format!("after start, {from}"))?,
        ])
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(&path).with_context(|| format!("can't read {path}"))
    }

    /// A line of /proc/PID/status, in MiB.
    fn memory(&self, key: &str) -> Result<f64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.context("no such line")?.parse::<f64>()? / 1024.0)
    }

    /// All that its threads have used, in ticks of 10 ms.
    fn cpu(&self) -> Result<Duration> {
        let stat = self.proc("stat")?;
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<u64>);
        Ok(Duration::from_millis(10) * u32::try_from(ticks.sum::<Result<u64, _>>()?)?)
    }
}

/// A connection that is kept.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; 1 << 20],
        })
    }

    /// Sends one request; the time until its answer has come completely.
    fn ask(&mut self, request: &[u8]) -> Result<Duration> {
        let began = Instant::now();
        self.stream.write_all(request)?;
        let (mut filled, mut whole) = (0, None);
        loop {
            if filled == self.buffer.len() {
                self.buffer.resize(2 * filled, 0);
            }
            let read = self.stream.read(&mut self.buffer[filled..])?;
            ensure!(read > 0, "the server closed the connection");
            filled += read;
            if whole.is_none() {
                whole = size_of_answer(&self.buffer[..filled])?;
            }
            if whole.is_some_and(|whole| filled >= whole) {
                return Ok(began.elapsed());
            }
        }
    }
}

/// Head and body together, once the head is there.
fn size_of_answer(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end])?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    Ok(Some(
        end + 4 + length.context("no length")?.parse::<usize>()?,
    ))
}

/// A request as it goes over the wire.
fn request(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Starts the extender as in a cluster, on an API server that has the dump's objects.
pub(crate) fn start_in_cluster(options: &Options, rows: &mut Vec<Row>) -> Result<()> {
    let api = api::Api::start(&options.dump)?;
    let kubeconfig = api.kubeconfig()?;
    let server = Server::start(&format!("--kubeconfig={}", kubeconfig.path().display()))?;
    rows.extend(server.start_rows("from an API server")?);
    Ok(())
}

pub(crate) fn run(options: &Options, questions: &[Question], rows: &mut Vec<Row>) -> Result<()> {
    let server = Server::start(&format!("--cluster-from={}", options.dump.display()))?;
    rows.extend(server.start_rows("from the dump")?);
    for clients in [1, options.clients] {
        for kind in KINDS {
            let mut rounds = Vec::new();
            for _ in 0..options.rounds {
                rounds.push(round(options, &server, questions, kind, clients)?);
            }
            let times = Times::median(rounds).context("no rounds (--rounds)")?;
            rows.push(Row::times(
                format!("HTTP, {clients} client(s): {kind}"),
                times,
            ));
        }
    }
    rows.push(server.memory_row("after all requests")?);
    Ok(())
}

fn round(
    options: &Options,
    server: &Server,
    questions: &[Question],
    kind: Kind,
    clients: usize,
) -> Result<Times> {
    let of_kind = questions.iter().filter_map(|question| question.of(kind));
    let requests: Vec<Vec<u8>> = of_kind.map(|(path, body)| request(path, body)).collect();
    ensure!(!requests.is_empty(), "the dump has no pod for: {kind}");
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<Duration>> {
        let mut client = Client::connect(server.address)?;
        let mut times = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= options.requests {
                return Ok(times);
            }
            times.push(client.ask(&requests[at % requests.len()])?);
        }
    };
    let before = server.cpu()?;
    let times = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(
                thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("a client panicked"))??,
            );
        }
        anyhow::Ok(all)
    })?;
    Ok(Times::new(times, server.cpu()?.saturating_sub(before)))
}
