//! The server on a real socket: who sends slowly, too much, nothing, or takes no answer, is cut off; and the others are served.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test; the lints' exception for tests does not reach its helper functions"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use hawser_placement::Strategy;
use hawser_runtime::health::Health;
use hawser_runtime::metrics::Metrics;
use hawser_runtime::shutdown::Shutdown;
use scheduler_extender::dump;
use scheduler_extender::serve::{Limits, listen, serve};
use scheduler_extender::watch::Shared;
use scheduler_extender::wire::{App, router_within};

/// Longer than anything here takes, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is allowed to take some time in these tests.
const SHORT: Duration = Duration::from_millis(300);

/// Runs until dropped.
struct Server {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

fn a_server(limits: Limits, request: Duration) -> Server {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/shop.yaml");
    let inventory = Shared::new(dump::read(&fixture).unwrap().inventory);
    let shutdown = Shutdown::new(Duration::from_secs(1));
    let (health, metrics) = (Health::new(&shutdown), Metrics::new("test"));
    let app = App::new(inventory, Strategy::Spread, &health, &metrics);
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    {
        let _inside = runtime.enter();
        serve(listener, router_within(app, request), limits, &shutdown).unwrap();
    }
    Server {
        address,
        _runtime: runtime,
    }
}

impl Server {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

const BODY: &str = r#"{"Pod": {"metadata": {"name": "p"}}, "NodeNames": ["n1"]}"#;

fn head(length: usize) -> String {
    format!(
        "POST /filter HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// Status and body of one answer.
fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return (status, body.to_owned());
            }
        }
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "closed after {text:?}");
        bytes.extend_from_slice(&buffer[..read]);
    }
}

fn ask(stream: &mut TcpStream) -> (u16, String) {
    write!(stream, "{}{BODY}", head(BODY.len())).unwrap();
    answer(stream)
}

/// Until the other side has closed; how long that took.
fn closed(stream: &mut TcpStream) -> Duration {
    let (began, mut buffer) = (Instant::now(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return began.elapsed(),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return began.elapsed(),
            Err(error) => panic!("not closed: {error}"),
        }
    }
}

#[test]
fn a_connection_serves_many_requests() {
    let server = a_server(Limits::default(), PATIENCE);
    let mut stream = server.connect();
    for _ in 0..3 {
        let (status, body) = ask(&mut stream);
        assert_eq!(status, 200);
        assert!(body.contains(r#""NodeNames":["n1"]"#), "{body}");
    }
}

#[test]
fn who_sends_a_head_bit_by_bit_is_cut_off() {
    let limits = Limits {
        first_head: SHORT,
        next_head: SHORT,
        ..Limits::default()
    };
    let server = a_server(limits, PATIENCE);
    let mut silent = server.connect();
    assert!(closed(&mut silent) < PATIENCE);
    let mut slow = server.connect();
    let began = Instant::now();
    let mut cut_off = false;
    for byte in head(1 << 20).bytes().cycle() {
        // The point of a slow loris: each byte comes in time.
        std::thread::sleep(SHORT / 10);
        if slow.write_all(&[byte]).is_err() {
            cut_off = true;
            break;
        }
        if began.elapsed() > PATIENCE {
            break;
        }
    }
    assert!(cut_off, "a head that takes {:?} was borne", began.elapsed());
    let mut second = server.connect();
    assert_eq!(ask(&mut second).0, 200);
    write!(second, "POST /filter HT").unwrap();
    assert!(
        closed(&mut second) < PATIENCE,
        "also a later one on the same connection"
    );
}

#[test]
fn who_sends_a_body_bit_by_bit_gets_an_error() {
    let server = a_server(Limits::default(), SHORT);
    let mut slow = server.connect();
    write!(slow, "{}", head(1 << 20)).unwrap();
    slow.write_all(b"{\"Pod\":").unwrap();
    let (status, _) = answer(&mut slow);
    assert_eq!(status, 408);
    assert_eq!(ask(&mut server.connect()).0, 200, "others are served");
}

#[test]
fn a_body_that_says_it_is_too_large_is_refused_before_it_comes() {
    let server = a_server(Limits::default(), PATIENCE);
    let mut large = server.connect();
    write!(large, "{}", head((8 << 20) + 1)).unwrap();
    let (status, why) = answer(&mut large);
    assert_eq!(status, 413);
    assert!(
        why.contains("8388608 bytes") && why.contains("nodeCacheCapable"),
        "{why}"
    );
}

#[test]
fn a_body_that_does_not_say_its_size_is_refused_when_it_goes_beyond() {
    let server = a_server(Limits::default(), PATIENCE);
    let mut large = server.connect();
    let head = "POST /filter HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    large.write_all(head.as_bytes()).unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    // 32 MiB, four times what is allowed.
    let sent = (0..512)
        .take_while(|_| large.write_all(chunk.as_bytes()).is_ok())
        .count();
    assert!(
        (128..512).contains(&sent) || answer(&mut large).0 == 413,
        "{sent} chunks"
    );
    assert_eq!(ask(&mut server.connect()).0, 200);
}

#[test]
fn there_are_no_more_connections_than_may_be() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let server = a_server(limits, PATIENCE);
    let (mut one, mut two) = (server.connect(), server.connect());
    assert_eq!((ask(&mut one).0, ask(&mut two).0), (200, 200));
    closed(&mut server.connect());
    drop(one);
    let began = Instant::now();
    loop {
        let mut next = server.connect();
        let taken = write!(next, "{}{BODY}", head(BODY.len())).is_ok();
        let mut first = [0];
        if taken && matches!(next.read(&mut first), Ok(1)) {
            break;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "the place is not given to another"
        );
    }
    assert_eq!(ask(&mut two).0, 200);
}

#[test]
fn who_takes_no_answers_is_cut_off() {
    let limits = Limits {
        unread: SHORT,
        ..Limits::default()
    };
    let server = a_server(limits, PATIENCE);
    let mut deaf = server.connect();
    deaf.set_write_timeout(Some(SHORT)).unwrap();
    let names = vec![format!("\"{}\"", "n".repeat(200)); 5000].join(",");
    let body = format!(r#"{{"Pod": {{"metadata": {{"name": "p"}}}}, "NodeNames": [{names}]}}"#);
    let request = format!("{}{body}", head(body.len()));
    let began = Instant::now();
    loop {
        match deaf.write_all(request.as_bytes()) {
            Ok(()) => {}
            // Nobody reads at the other side: it waits for its answers to be taken.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => {
                let gone = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                assert!(gone.contains(&error.kind()), "{error}");
                break;
            }
        }
        assert!(
            began.elapsed() < PATIENCE,
            "answers that nobody takes are kept"
        );
    }
    assert_eq!(ask(&mut server.connect()).0, 200);
}
