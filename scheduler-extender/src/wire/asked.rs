//! What kube-scheduler sends, read without copying: at 5,000 nodes the names are nearly all of a request, and a string for each
//! would cost more than the decision. Says the same as `hawser_api::extender::ExtenderArgs`, which is where errors are worded.

use std::borrow::Cow;
use std::fmt;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use hawser_api::extender::{ExtenderArgs, NodeList};
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

/// A request to filter or to prioritise.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Asked<'a> {
    #[serde(alias = "pod")]
    pub(crate) pod: Option<Pod>,
    #[serde(alias = "nodes")]
    pub(crate) nodes: Option<NodeList>,
    #[serde(borrow, alias = "nodeNames", alias = "nodenames")]
    pub(crate) node_names: Option<Names<'a>>,
}

#[derive(Debug, Default)]
pub(crate) struct Names<'a>(pub(crate) Vec<Text<'a>>);

/// A string. Borrowed, it stands in the body without escapes, so it can go out as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'a> Asked<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, JsonRejection> {
        if let Ok(asked) = serde_json::from_slice(body) {
            return Ok(asked);
        }
        // The second time for the words: they name the field.
        let Json(args) = Json::<ExtenderArgs>::from_bytes(body)?;
        let owned = |name: String| Text(Cow::Owned(name));
        Ok(Self {
            pod: args.pod,
            nodes: args.nodes,
            node_names: args
                .node_names
                .map(|names| Names(names.into_iter().map(owned).collect())),
        })
    }

    /// The candidates' names, however they came. Nodes are taken out of the request by that.
    pub(crate) fn take_candidates(&mut self) -> Candidates<'a> {
        match (self.node_names.take(), self.nodes.take()) {
            (Some(Names(names)), _) => Candidates::Names(names),
            (None, nodes) => Candidates::Nodes(nodes.unwrap_or_default()),
        }
    }
}

/// What came as names goes back as names, what came as nodes as nodes.
#[derive(Debug)]
pub(crate) enum Candidates<'a> {
    Names(Vec<Text<'a>>),
    Nodes(NodeList),
}

impl Candidates<'_> {
    /// Names of nodes; of those that have one.
    pub(crate) fn of_nodes(nodes: &NodeList) -> Vec<Text<'_>> {
        let name = |node: &k8s_openapi::api::core::v1::Node| node.metadata.name.clone();
        let names = nodes.items.iter().filter_map(name);
        names.map(|name| Text(Cow::Owned(name))).collect()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Names<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Names<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut names = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(1 << 16));
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a node")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_borrowed_unless_they_have_escapes() {
        let body = br#"{"Pod": null, "NodeNames": ["n1", "n\u0032"]}"#;
        let asked = Asked::parse(body).unwrap();
        let names = asked.node_names.unwrap().0;
        assert!(matches!(names[0].0, Cow::Borrowed("n1")));
        assert!(matches!(&names[1].0, Cow::Owned(name) if name == "n2"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        let refused = |body: &str| Asked::parse(body.as_bytes()).unwrap_err().body_text();
        assert!(refused(r#"{"NodeNames": "n1"}"#).contains("NodeNames"));
        assert!(refused(r#"{"NodeNames": ["n1", 2]}"#).contains("NodeNames[1]"));
        let text = refused(r#"{"Pod": {"metadata": {"name": 3}}}"#);
        assert!(text.contains("Pod.metadata.name"), "{text}");
    }

    #[test]
    fn every_way_to_write_the_names() {
        for key in ["NodeNames", "nodeNames", "nodenames"] {
            let body = format!(r#"{{"{key}": ["n1"]}}"#);
            let mut asked = Asked::parse(body.as_bytes()).unwrap();
            let Candidates::Names(names) = asked.take_candidates() else {
                panic!("{body}")
            };
            assert_eq!(names[0].as_ref(), "n1");
        }
        let mut none = Asked::parse(b"{}").unwrap();
        assert!(
            matches!(none.take_candidates(), Candidates::Nodes(nodes) if nodes.items.is_empty())
        );
    }
}
