//! What is asked: the pods of the dump that wait, with the names of all its nodes.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// How many objects of a kind are enough to take times of their events.
const SOME: usize = 2000;

/// Of the dump, what questions are made of.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) nodes: Vec<String>,
    pub(crate) pods: Vec<Value>,
    /// Some objects as texts.
    pub(crate) replicas: Vec<String>,
    pub(crate) storage: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Filter,
    Prioritize,
    /// A filter request for which no node has room.
    Nowhere,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::Filter, Kind::Prioritize, Kind::Nowhere];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "filter",
            Self::Prioritize => "prioritize",
            Self::Nowhere => "filter, nothing fits",
        })
    }
}

/// What is asked about one pod.
pub(crate) enum Question {
    Somewhere {
        filter: Vec<u8>,
        prioritize: Vec<u8>,
    },
    /// No node has room.
    Nowhere { filter: Vec<u8> },
}

impl Question {
    /// Path and body.
    pub(crate) fn of(&self, kind: Kind) -> Option<(&'static str, &[u8])> {
        match (kind, self) {
            (Kind::Filter, Self::Somewhere { filter, .. })
            | (Kind::Nowhere, Self::Nowhere { filter }) => Some(("/filter", filter)),
            (Kind::Prioritize, Self::Somewhere { prioritize, .. }) => {
                Some(("/prioritize", prioritize))
            }
            (Kind::Filter | Kind::Prioritize, Self::Nowhere { .. })
            | (Kind::Nowhere, Self::Somewhere { .. }) => None,
        }
    }
}

impl Load {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let file =
            File::open(path).with_context(|| format!("can't read {} (--dump)", path.display()))?;
        let mut load = Self::default();
        for line in BufReader::with_capacity(1 << 20, file).lines() {
            load.line(line?.trim_end_matches(','))?;
        }
        ensure!(
            !load.pods.is_empty() && !load.nodes.is_empty(),
            "{} has no pods and nodes, one a line: write it with `cargo lab synth`",
            path.display()
        );
        Ok(load)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let kind = |kind: &str| {
            line.starts_with('{') && line.contains(&format!(r#""kind":"{kind}","metadata""#))
        };
        if kind("Node") {
            let node: Value = serde_json::from_str(line)?;
            let name = node["metadata"]["name"].as_str();
            self.nodes
                .push(name.context("a node without name")?.to_owned());
        } else if kind("Pod") {
            self.pods.push(serde_json::from_str(line)?);
        } else if kind("LocalVolumeReplica") && self.replicas.len() < SOME {
            self.replicas.push(line.to_owned());
        } else if kind("LocalStorageNode") && self.storage.len() < SOME {
            self.storage.push(line.to_owned());
        }
        Ok(())
    }

    /// The questions; prioritize asks about the nodes that filtering left.
    pub(crate) fn questions(
        &self,
        filter: impl Fn(&[u8]) -> Result<Vec<u8>>,
    ) -> Result<Vec<Question>> {
        let asks = |pod: &Value, names: &Value| {
            json!({ "Pod": pod, "Nodes": null, "NodeNames": names })
                .to_string()
                .into_bytes()
        };
        let all = Value::from(self.nodes.clone());
        let question = |pod: &Value| {
            let body = asks(pod, &all);
            let answer: Value = serde_json::from_slice(&filter(&body)?)?;
            let left = &answer["NodeNames"];
            ensure!(left.is_array(), "no answer: {}", answer["Error"]);
            if left.as_array().is_some_and(Vec::is_empty) {
                return Ok(Question::Nowhere { filter: body });
            }
            Ok(Question::Somewhere {
                prioritize: asks(pod, left),
                filter: body,
            })
        };
        self.pods.iter().map(question).collect()
    }
}
