//! An API server that has the objects of the dump: lists in pages, and watches in which nothing happens. For what start and memory
//! are like in a cluster.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Value, json};

/// Objects as texts, by the path under which they are listed.
type Objects = HashMap<String, Vec<String>>;

/// Runs until dropped.
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Api {
    pub(crate) fn start(dump: &Path) -> Result<Self> {
        let objects = Arc::new(read(dump)?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(answer).with_state(objects);
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            address,
            _runtime: runtime,
        })
    }

    /// A file that leads a client here.
    pub(crate) fn kubeconfig(&self) -> Result<tempfile::NamedTempFile> {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "contexts": [{ "name": "bench", "context": { "cluster": "bench", "user": "bench" } }],
            "clusters": [{ "name": "bench", "cluster": { "server": format!("http://{}", self.address) } }],
            "users": [{ "name": "bench", "user": {} }]
        });
        let mut file = tempfile::NamedTempFile::new()?;
        write!(file, "{config}")?;
        Ok(file)
    }
}

fn read(dump: &Path) -> Result<Objects> {
    let mut objects = Objects::new();
    for line in BufReader::with_capacity(1 << 20, File::open(dump)?).lines() {
        let line = line?;
        let text = line.trim_end_matches(',');
        if let Some(path) = path_of(text) {
            objects.entry(path).or_default().push(text.to_owned());
        }
    }
    Ok(objects)
}

fn path_of(text: &str) -> Option<String> {
    let field = |name: &str| {
        let (_, rest) = text.split_once(&format!(r#""{name}":""#))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let (version, kind) = (field("apiVersion")?, field("kind")?);
    let kind = kind.to_lowercase();
    let plural = kind
        .strip_suffix("class")
        .map_or(format!("{kind}s"), |_| format!("{kind}es"));
    let root = if version.contains('/') { "apis" } else { "api" };
    text.starts_with('{')
        .then(|| format!("/{root}/{version}/{plural}"))
}

async fn answer(
    State(objects): State<Arc<Objects>>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let path = request.uri().path();
    if path == "/version" {
        let version = json!({
            "major": "1", "minor": "37", "gitVersion": "v1.37.0", "gitCommit": "", "gitTreeState": "", "buildDate": "",
            "goVersion": "", "compiler": "", "platform": ""
        });
        return axum::Json(version).into_response();
    }
    if query.get("watch").is_some_and(|watch| watch == "true") {
        let nothing = stream::pending::<Result<Bytes, std::io::Error>>();
        return (
            [(CONTENT_TYPE, "application/json")],
            Body::from_stream(nothing),
        )
            .into_response();
    }
    let none = Vec::new();
    let all = objects.get(path).unwrap_or(&none);
    let number = |key: &str| query.get(key).and_then(|text| text.parse::<usize>().ok());
    let first = number("continue").unwrap_or(0).min(all.len());
    let last = (first + number("limit").unwrap_or(all.len())).min(all.len());
    let mut metadata = json!({ "resourceVersion": "1" });
    if last < all.len() {
        metadata["continue"] = Value::from(last.to_string());
    }
    let answer = format!(
        r#"{{"apiVersion":"v1","kind":"List","metadata":{metadata},"items":[{}]}}"#,
        all[first..last].join(",")
    );
    ([(CONTENT_TYPE, "application/json")], answer).into_response()
}

/// The extender's own port of probes says when all lists have arrived.
pub(crate) fn is_ready(address: SocketAddr) -> Result<bool> {
    use std::io::Read;
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(
        stream,
        "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .context("reading /readyz")?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}
