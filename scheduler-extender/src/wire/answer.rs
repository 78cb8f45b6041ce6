//! What kube-scheduler gets, written straight into the body: the same JSON as `hawser_api::extender` has it.

use std::borrow::Cow;

use hawser_api::extender::{ExtenderFilterResult, NodeList};

use super::asked::Text;
use crate::decide::{Filtered, Refusal, Verdict};

/// The answer to a filter request that came with names.
pub(super) fn filtered(filtered: &Filtered, names: &[Text<'_>]) -> Vec<u8> {
    if !filtered.error.is_empty() {
        let result = ExtenderFilterResult {
            error: filtered.error.clone(),
            ..ExtenderFilterResult::default()
        };
        return serde_json::to_vec(&result).unwrap_or_default();
    }
    let sentences: Vec<String> = filtered.refusals().iter().map(quoted_sentence).collect();
    let size: usize = names.iter().map(|name| name.as_ref().len() + 3).sum();
    let size_of = |place: &u32| {
        sentences
            .get(*place as usize)
            .map_or(0, |text| text.len() + 2)
    };
    let size = size + filtered.places().iter().map(size_of).sum::<usize>();
    let mut out = Vec::with_capacity(size + 128);
    out.extend_from_slice(br#"{"Nodes":null,"NodeNames":["#);
    let mut list = List::new(&mut out);
    for (name, place) in names.iter().zip(filtered.places()) {
        if sentences.get(*place as usize).is_none() {
            list.next();
            write_name(list.out, name);
        }
    }
    for (field, curable) in [
        (&br#"],"FailedNodes":{"#[..], true),
        (br#"},"FailedAndUnresolvableNodes":{"#, false),
    ] {
        out.extend_from_slice(field);
        let mut list = List::new(&mut out);
        for (name, place) in names.iter().zip(filtered.places()) {
            let place = *place as usize;
            if let Some(refusal) = filtered.refusals().get(place)
                && refusal.curable == curable
            {
                list.next();
                write_name(list.out, name);
                list.out.push(b':');
                list.out.extend_from_slice(sentences[place].as_bytes());
            }
        }
    }
    out.extend_from_slice(br#"},"Error":""}"#);
    out
}

/// The answer to a filter request that came with whole nodes.
pub(super) fn filtered_nodes(filtered: &Filtered, nodes: NodeList) -> Vec<u8> {
    let mut result = ExtenderFilterResult {
        error: filtered.error.clone(),
        ..ExtenderFilterResult::default()
    };
    if result.error.is_empty() {
        let named = nodes
            .items
            .into_iter()
            .filter_map(|node| Some((node.metadata.name.clone()?, node)));
        let mut items = Vec::new();
        for ((name, node), verdict) in named.zip(filtered.verdicts()) {
            let Verdict::Refused(refusal) = verdict else {
                items.push(node);
                continue;
            };
            let failed = if refusal.curable {
                &mut result.failed_nodes
            } else {
                &mut result.failed_and_unresolvable_nodes
            };
            failed.insert(name, refusal.sentence.to_string());
        }
        result.nodes = Some(NodeList { items });
    }
    serde_json::to_vec(&result).unwrap_or_default()
}

/// The answer to a prioritise request.
pub(super) fn prioritized(names: &[Text<'_>], points: &[u8]) -> Vec<u8> {
    const AROUND: usize = r#"{"Host":"","Score":10},"#.len();
    let size: usize = names.iter().map(|name| name.as_ref().len() + AROUND).sum();
    let mut out = Vec::with_capacity(size + 2);
    out.push(b'[');
    let mut list = List::new(&mut out);
    for (name, points) in names.iter().zip(points) {
        list.next();
        list.out.extend_from_slice(br#"{"Host":"#);
        write_name(list.out, name);
        list.out.extend_from_slice(br#","Score":"#);
        if *points >= 10 {
            list.out.push(b'0' + points / 10 % 10);
        }
        list.out.push(b'0' + points % 10);
        list.out.push(b'}');
    }
    out.push(b']');
    out
}

/// Commas between the parts of a list.
struct List<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> List<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, first: true }
    }

    fn next(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
    }
}

fn write_name(out: &mut Vec<u8>, name: &Text<'_>) {
    match &name.0 {
        // It stood between quotation marks like this.
        Cow::Borrowed(name) => {
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.push(b'"');
        }
        Cow::Owned(name) => out.extend_from_slice(quoted(name).as_bytes()),
    }
}

fn quoted_sentence(refusal: &Refusal) -> String {
    quoted(&refusal.sentence)
}

/// As a JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
