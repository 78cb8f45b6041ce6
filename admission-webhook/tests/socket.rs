//! Clients on a real socket that are too large, too slow or too many: each gets an error within its time, and memory stays.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test; the lints' exception for tests does not reach its helper functions"
)]

mod common;

use std::time::{Duration, Instant};

use admission_webhook::server::Limits;
use admission_webhook::{BODY_LIMIT, Reader, app};
use common::{a_server, answer, connect, exchange, head, resident, send, trusting};
use hawser_runtime::shutdown::Shutdown;
use tokio::io::AsyncReadExt;

/// For what never ends.
const SOON: Duration = Duration::from_millis(300);
/// For what has to end, on a machine that does other things too.
const LATEST: Duration = Duration::from_secs(60);
/// What all that may cost: the heap grows by pages, and other tests' connections are in the same process.
const MOST_GROWTH: u64 = 24 << 20;

/// Of the connection, nothing is short here: what is tested is the body.
fn patient() -> Limits {
    Limits {
        connections: 64,
        first_request: LATEST,
        idle: LATEST,
    }
}

fn a_router(timeout: Duration) -> axum::Router {
    app::router_over(&[], None, Reader::new(timeout)).unwrap_or_else(|e| panic!("{e}"))
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(LATEST, future).await;
    done.unwrap_or_else(|_| panic!("{what}: no end after {LATEST:?}"))
}

/// Lengths alone, floods without a length, and a body as large as may be: sent a hundred times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_bodies_get_an_error_and_cost_no_memory() {
    let shutdown = Shutdown::new(Duration::from_secs(1));
    let (address, bundle) = a_server(a_router(LATEST), patient(), &shutdown);
    let connector = trusting(&bundle);
    let ask_once = async |more: String, flood: bool| {
        let mut stream = connect(address, &connector).await.unwrap();
        send(&mut stream, &head("/validate", &more)).await.unwrap();
        if flood {
            // Until the server hangs up: it has said no already.
            let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
            for _ in 0..8 {
                if send(&mut stream, chunk.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
        answer(&mut stream).await
    };
    let said = |more: String| within("an oversized body", ask_once(more, false));
    // Once each, to warm up; then memory may not grow any more.
    let (status, text) = said(format!("Content-Length: {}\r\n", BODY_LIMIT + 1))
        .await
        .unwrap();
    assert_eq!(status, "HTTP/1.1 413 Payload Too Large");
    assert!(String::from_utf8_lossy(&text).contains("at most 8388608 are taken"));
    let (status, _) = said("Transfer-Encoding: chunked\r\n".to_owned())
        .await
        .unwrap();
    assert_eq!(status, "HTTP/1.1 411 Length Required");
    let before = resident();
    for n in 0..100_u64 {
        let (status, _) = said(format!("Content-Length: {}\r\n", (9 << 20) + (n << 30)))
            .await
            .unwrap();
        assert_eq!(status, "HTTP/1.1 413 Payload Too Large");
        // The answer may be lost when the server hangs up on who goes on sending; that it hangs up is what counts.
        let _ = within(
            "a flood",
            ask_once("Transfer-Encoding: chunked\r\n".to_owned(), true),
        )
        .await;
    }
    let growth = resident().saturating_sub(before);
    println!(
        "100 oversized bodies and 100 floods: memory grew by {} KiB",
        growth >> 10
    );
    assert!(growth < MOST_GROWTH, "memory grew by {growth} bytes");
    // And it still serves.
    let mut stream = connect(address, &connector).await.unwrap();
    let (status, _) = exchange(&mut stream, "/mutate", b"{}").await.unwrap();
    assert_eq!(status, "HTTP/1.1 400 Bad Request");
    shutdown.begin("test");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_get_an_error_and_cost_no_memory() {
    let shutdown = Shutdown::new(Duration::from_secs(1));
    let (address, bundle) = a_server(a_router(SOON), patient(), &shutdown);
    let connector = trusting(&bundle);
    let before = resident();

    // Says that much comes, and sends a little: as many as there may be, each promising 8 MiB.
    let slow_body = async || {
        let mut stream = connect(address, &connector).await?;
        let mut start = head("/mutate", &format!("Content-Length: {BODY_LIMIT}\r\n"));
        start.push(b'{');
        send(&mut stream, &start).await?;
        answer(&mut stream).await
    };
    let began = Instant::now();
    let all = (0..48).map(|_| slow_body());
    let answers = within("slow bodies", futures::future::join_all(all)).await;
    assert!(began.elapsed() >= SOON);
    let statuses: Vec<String> = answers
        .into_iter()
        .map(|answer| answer.unwrap().0)
        .collect();
    assert!(
        statuses
            .iter()
            .all(|s| s.contains("408 Request Timeout") || s.contains("503 Service Unavailable")),
        "{statuses:?}"
    );

    let growth = resident().saturating_sub(before);
    println!(
        "48 slow bodies that promise 384 MiB: memory grew by {} KiB",
        growth >> 10
    );
    assert!(growth < MOST_GROWTH, "memory grew by {growth} bytes");
    let mut stream = connect(address, &connector).await.unwrap();
    let (status, _) = exchange(&mut stream, "/mutate", b"{}").await.unwrap();
    assert_eq!(status, "HTTP/1.1 400 Bad Request");
    shutdown.begin("test");
}

/// Whoever says nothing is hung up on, wherever they stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_clients_are_closed() {
    let shutdown = Shutdown::new(Duration::from_secs(1));
    let hasty = Limits {
        first_request: SOON,
        ..patient()
    };
    let (address, bundle) = a_server(a_router(SOON), hasty, &shutdown);
    let connector = trusting(&bundle);
    let mut rest = Vec::new();
    // On a busy machine the handshake alone may be too slow, which is the same end.
    if let Ok(mut silent) = connect(address, &connector).await {
        let _ = within("a silent client", silent.read_to_end(&mut rest)).await;
    }
    if let Ok(mut half) = connect(address, &connector).await {
        let _ = send(&mut half, b"POST /mutate HTTP/1.1\r\nHost: x\r\nX-Long: ").await;
        let _ = within("half a header", half.read_to_end(&mut rest)).await;
    }
    let mut bare = tokio::net::TcpStream::connect(address).await.unwrap();
    let _ = within("no handshake", bare.read_to_end(&mut rest)).await;

    let restless = Limits {
        idle: SOON,
        ..patient()
    };
    let (address, bundle) = a_server(a_router(SOON), restless, &shutdown);
    let connector = trusting(&bundle);
    within("an idle connection", async {
        loop {
            let mut idle = connect(address, &connector).await.unwrap();
            if exchange(&mut idle, "/mutate", b"{}").await.is_ok() {
                let _ = idle.read_to_end(&mut rest).await;
                return;
            }
        }
    })
    .await;
    shutdown.begin("test");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_connections_than_there_are_places_are_closed_and_places_come_free() {
    let shutdown = Shutdown::new(Duration::from_secs(1));
    let few = Limits {
        connections: 4,
        first_request: LATEST,
        idle: LATEST,
    };
    let (address, bundle) = a_server(a_router(SOON), few, &shutdown);
    let connector = trusting(&bundle);
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = connect(address, &connector).await.unwrap();
        exchange(&mut stream, "/mutate", b"{}").await.unwrap();
        held.push(stream);
    }
    assert!(
        within("a fifth connection", connect(address, &connector))
            .await
            .is_err()
    );
    held.pop();
    within("a place to come free", async {
        loop {
            if let Ok(mut stream) = connect(address, &connector).await
                && exchange(&mut stream, "/mutate", b"{}").await.is_ok()
            {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    shutdown.begin("test");
}
