//! The node's own objects: `LocalStorageNode` and `LocalDiskNode`, made once and kept current.

use hawser_api::names::{annotations, labels};
use hawser_api::{
    LocalDiskNode, LocalDiskNodeSpec, LocalStorageNode, LocalStorageNodeSpec, NodeTopology,
};
use hawser_runtime::error::Category;
use hawser_runtime::patch::{self, PatchError};
use k8s_openapi::api::core::v1::Node;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

/// Zone and region where the node does not say.
const SOMEWHERE: &str = "default";

/// What a new object says of a Kubernetes node.
pub fn storage_node(node: &Node) -> LocalStorageNode {
    let name = node.name_any();
    let label = |key: &str| {
        node.labels()
            .get(key)
            .filter(|v| !v.is_empty())
            .map_or(SOMEWHERE, String::as_str)
            .to_owned()
    };
    let address = node
        .annotations()
        .get(annotations::STORAGE_IPV4)
        .filter(|a| a.parse::<std::net::Ipv4Addr>().is_ok())
        .cloned()
        .or_else(|| internal_ip(node))
        .unwrap_or_default();
    let spec = LocalStorageNodeSpec {
        hostname: name.clone(),
        storage_ip: address,
        topology: Some(NodeTopology {
            region: label(labels::REGION),
            zone: label(labels::ZONE),
        }),
    };
    LocalStorageNode::new(&name, spec)
}

fn internal_ip(node: &Node) -> Option<String> {
    node.status
        .as_ref()?
        .addresses
        .as_ref()?
        .iter()
        .find(|a| a.type_ == "InternalIP")
        .map(|a| a.address.clone())
}

/// Reads the node's storage object, making it if there is none. What is in it stays: the address is chosen once.
pub async fn ensure_storage_node(
    client: &Client,
    name: &str,
) -> Result<LocalStorageNode, PatchError> {
    let api: Api<LocalStorageNode> = Api::all(client.clone());
    let verb = "make";
    let error = |source| api_error(verb, "LocalStorageNode", name, source);
    if let Some(found) = api.get_opt(name).await.map_err(error)? {
        return complete(&api, found, name).await;
    }
    let nodes: Api<Node> = Api::all(client.clone());
    let node = nodes
        .get(name)
        .await
        .map_err(|source| api_error("read", "Node", name, source))?;
    match api
        .create(&PostParams::default(), &storage_node(&node))
        .await
    {
        Ok(created) => Ok(created),
        Err(source) if Category::of_kube(&source) == Category::AlreadyExists => {
            api.get(name).await.map_err(error)
        }
        Err(source) => Err(error(source)),
    }
}

async fn complete(
    api: &Api<LocalStorageNode>,
    found: LocalStorageNode,
    name: &str,
) -> Result<LocalStorageNode, PatchError> {
    let written = patch::update(api, name, Some(found), |object| {
        if object.spec.hostname.is_empty() {
            name.clone_into(&mut object.spec.hostname);
        }
    })
    .await?;
    Ok(written.into_inner())
}

/// Reads the node's disk object, making it if there is none.
pub async fn ensure_disk_node(client: &Client, name: &str) -> Result<LocalDiskNode, PatchError> {
    let api: Api<LocalDiskNode> = Api::all(client.clone());
    let error = |source| api_error("make", "LocalDiskNode", name, source);
    if let Some(found) = api.get_opt(name).await.map_err(error)? {
        return Ok(found);
    }
    let spec = LocalDiskNodeSpec {
        node_name: name.to_owned(),
    };
    let object = LocalDiskNode::new(name, spec);
    match api.create(&PostParams::default(), &object).await {
        Ok(created) => Ok(created),
        Err(source) if Category::of_kube(&source) == Category::AlreadyExists => {
            api.get(name).await.map_err(error)
        }
        Err(source) => Err(error(source)),
    }
}

fn api_error(verb: &'static str, kind: &str, name: &str, source: kube::Error) -> PatchError {
    PatchError::Api {
        verb,
        kind: kind.to_owned(),
        name: name.to_owned(),
        source,
    }
}
