//! Wire types between kube-scheduler and an extender, version v1.
//!
//! The Go types carry no JSON tags, so names go out as they are in Go (`NodeNames`) and come in by Go's rule, which
//! ignores case. Objects of the core API inside (the pod, nodes) have their usual names.
//! Reference: `k8s.io/kube-scheduler/extender/v1`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde::{Deserialize, Serialize};

/// Lowest score of a node.
pub const MIN_PRIORITY: i64 = 0;
/// Highest score of a node. The scheduler multiplies by the extender's weight and by 10.
pub const MAX_PRIORITY: i64 = 10;

/// A request to filter or to prioritise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExtenderArgs {
    /// The pod to be placed.
    #[serde(alias = "pod")]
    pub pod: Option<Pod>,
    /// The candidates, unless the extender is `nodeCacheCapable`.
    #[serde(alias = "nodes")]
    pub nodes: Option<NodeList>,
    /// The candidates' names, if the extender is `nodeCacheCapable`.
    #[serde(alias = "nodeNames", alias = "nodenames")]
    pub node_names: Option<Vec<String>>,
}

impl ExtenderArgs {
    /// The candidates' names, however they came.
    #[must_use]
    pub fn candidates(&self) -> Vec<String> {
        match (&self.node_names, &self.nodes) {
            (Some(names), _) => names.clone(),
            (None, Some(nodes)) => nodes
                .items
                .iter()
                .filter_map(|node| node.metadata.name.clone())
                .collect(),
            (None, None) => Vec::new(),
        }
    }
}

/// A list of nodes. Unlike the typed list of the client it bears items without `apiVersion` and `kind`, which is how the
/// scheduler sends them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeList {
    /// The nodes.
    #[serde(deserialize_with = "null_is_empty")]
    pub items: Vec<Node>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Node>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Nodes and why they were refused.
pub type FailedNodes = BTreeMap<String, String>;

/// The answer to a filter request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExtenderFilterResult {
    /// The nodes left, if they came as nodes.
    #[serde(alias = "nodes")]
    pub nodes: Option<NodeList>,
    /// The names left, if they came as names.
    #[serde(alias = "nodeNames", alias = "nodenames")]
    pub node_names: Option<Vec<String>>,
    /// Refused, but evicting other pods might help.
    #[serde(alias = "failedNodes")]
    pub failed_nodes: FailedNodes,
    /// Refused, and evicting other pods would not help. Wins over `failed_nodes`.
    #[serde(alias = "failedAndUnresolvableNodes")]
    pub failed_and_unresolvable_nodes: FailedNodes,
    /// Not empty: the request itself failed.
    #[serde(alias = "error")]
    pub error: String,
}

/// The score of one node, [`MIN_PRIORITY`] to [`MAX_PRIORITY`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HostPriority {
    /// The node.
    #[serde(alias = "host")]
    pub host: String,
    /// Higher is better.
    #[serde(alias = "score")]
    pub score: i64,
}

/// The answer to a prioritise request.
pub type HostPriorityList = Vec<HostPriority>;

/// A request to judge victims of a preemption.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExtenderPreemptionArgs {
    /// The pod to be placed.
    #[serde(alias = "pod")]
    pub pod: Option<Pod>,
    /// Victims by node, unless the extender is `nodeCacheCapable`.
    #[serde(alias = "nodeNameToVictims")]
    pub node_name_to_victims: Option<BTreeMap<String, Victims>>,
    /// Victims' uids by node, if the extender is `nodeCacheCapable`.
    #[serde(alias = "nodeNameToMetaVictims")]
    pub node_name_to_meta_victims: Option<BTreeMap<String, MetaVictims>>,
}

/// Pods that would go from one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Victims {
    /// The pods.
    #[serde(alias = "pods")]
    pub pods: Option<Vec<Pod>>,
    /// How many disruption budgets would be broken.
    #[serde(rename = "NumPDBViolations", alias = "numPDBViolations")]
    pub num_pdb_violations: i64,
}

/// Pods that would go from one node, by uid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MetaVictims {
    /// The pods.
    #[serde(alias = "pods")]
    pub pods: Option<Vec<MetaPod>>,
    /// How many disruption budgets would be broken.
    #[serde(rename = "NumPDBViolations", alias = "numPDBViolations")]
    pub num_pdb_violations: i64,
}

/// A pod by its uid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetaPod {
    /// The uid.
    #[serde(rename = "UID", alias = "uid")]
    pub uid: String,
}

/// The answer about victims: the nodes where preempting helps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExtenderPreemptionResult {
    /// Victims' uids by node.
    #[serde(alias = "nodeNameToMetaVictims")]
    pub node_name_to_meta_victims: BTreeMap<String, MetaVictims>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_of_the_scheduler_with_names() {
        let args: ExtenderArgs = serde_json::from_value(json!({
            "Pod": { "metadata": { "name": "db-0", "namespace": "shop", "creationTimestamp": null },
                     "spec": { "containers": [{ "name": "db", "resources": {} }], "nodeSelector": null },
                     "status": {} },
            "Nodes": null,
            "NodeNames": ["n1", "n2"]
        }))
        .unwrap();
        assert_eq!(
            args.pod.as_ref().unwrap().metadata.name.as_deref(),
            Some("db-0")
        );
        assert_eq!(args.candidates(), ["n1", "n2"]);
    }

    #[test]
    fn a_request_of_the_scheduler_with_nodes() {
        let args: ExtenderArgs = serde_json::from_value(json!({
            "Pod": { "metadata": {} },
            "Nodes": { "metadata": {}, "items": [{ "metadata": { "name": "n1" }, "spec": {}, "status": {} }] },
            "NodeNames": null
        }))
        .unwrap();
        assert_eq!(args.candidates(), ["n1"]);
        let none: ExtenderArgs =
            serde_json::from_value(json!({ "Nodes": { "items": null } })).unwrap();
        assert!(none.candidates().is_empty());
    }

    #[test]
    fn lower_case_is_understood() {
        let args: ExtenderArgs =
            serde_json::from_value(json!({ "pod": {}, "nodenames": ["n1"] })).unwrap();
        assert!(args.pod.is_some());
        assert_eq!(args.candidates(), ["n1"]);
        let args: ExtenderArgs = serde_json::from_value(json!({ "nodeNames": ["n2"] })).unwrap();
        assert_eq!(args.candidates(), ["n2"]);
    }

    #[test]
    fn a_filter_answer_in_the_names_of_go() {
        let result = ExtenderFilterResult {
            node_names: Some(vec!["n1".to_owned()]),
            failed_nodes: BTreeMap::from([("n2".to_owned(), "room".to_owned())]),
            failed_and_unresolvable_nodes: BTreeMap::from([(
                "n3".to_owned(),
                "replica".to_owned(),
            )]),
            ..ExtenderFilterResult::default()
        };
        let wanted = json!({
            "Nodes": null,
            "NodeNames": ["n1"],
            "FailedNodes": { "n2": "room" },
            "FailedAndUnresolvableNodes": { "n3": "replica" },
            "Error": ""
        });
        assert_eq!(serde_json::to_value(result).unwrap(), wanted);
    }

    #[test]
    fn scores_in_the_names_of_go() {
        let list: HostPriorityList = vec![HostPriority {
            host: "n1".to_owned(),
            score: 10,
        }];
        assert_eq!(
            serde_json::to_value(list).unwrap(),
            json!([{ "Host": "n1", "Score": 10 }])
        );
    }

    #[test]
    fn preemption_in_the_names_of_go() {
        let args: ExtenderPreemptionArgs = serde_json::from_value(json!({
            "Pod": {},
            "NodeNameToVictims": null,
            "NodeNameToMetaVictims": { "n1": { "Pods": [{ "UID": "u1" }], "NumPDBViolations": 1 }, "n2": { "Pods": null } }
        }))
        .unwrap();
        let victims = args.node_name_to_meta_victims.unwrap();
        assert_eq!(victims["n1"].num_pdb_violations, 1);
        let result = ExtenderPreemptionResult {
            node_name_to_meta_victims: BTreeMap::from([("n1".to_owned(), victims["n1"].clone())]),
        };
        assert_eq!(
            serde_json::to_value(result).unwrap(),
            json!({ "NodeNameToMetaVictims": { "n1": { "Pods": [{ "UID": "u1" }], "NumPDBViolations": 1 } } })
        );
    }
}
