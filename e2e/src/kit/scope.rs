//! Where a scenario works: a lab, a client of its API server, and a namespace that is its own.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::wait::{Pending, wait_for};
use crate::lab::Lab;

/// Field manager of what scenarios apply.
const MANAGER: &str = "hawser-lab";

/// A lab, a client, and a namespace.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) lab: Lab,
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Scope {
    /// Makes the namespace. One that a failed run left under the same name is deleted first.
    ///
    /// # Errors
    /// If the API server refuses, or the left namespace does not go within two minutes.
    pub(crate) async fn open(lab: &Lab, namespace: &str) -> Result<Self> {
        let scope = Self {
            lab: lab.clone(),
            client: lab.client().await?,
            namespace: namespace.to_owned(),
        };
        scope.close().await?;
        let namespaces: Api<Namespace> = Api::all(scope.client.clone());
        let object = serde_json::from_value(json!({ "metadata": { "name": namespace } }))?;
        namespaces
            .create(&PostParams::default(), &object)
            .await
            .with_context(|| format!("making the namespace {namespace}"))?;
        Ok(scope)
    }

    /// Deletes the namespace with all that is in it, and waits until it is gone.
    ///
    /// # Errors
    /// If it does not go within two minutes; the reason is what the API server says of it.
    pub(crate) async fn close(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        match namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(error).context("deleting the scenario's namespace"),
        }
        let what = format!("namespace {} to go", self.namespace);
        wait_for(&what, Duration::from_secs(120), || async {
            Ok(match namespaces.get_opt(&self.namespace).await? {
                None => Ok(()),
                Some(left) => Err(Pending::because(
                    left.status
                        .and_then(|status| status.conditions)
                        .into_iter()
                        .flatten()
                        .filter_map(|condition| condition.message)
                        .collect::<Vec<_>>()
                        .join("; "),
                )),
            })
        })
        .await
    }

    /// An API of the scenario's namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        <K as kube::Resource>::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// An API of cluster-wide objects.
    pub(crate) fn cluster<K>(&self) -> Api<K>
    where
        K: kube::Resource,
        <K as kube::Resource>::DynamicType: Default,
    {
        Api::all(self.client.clone())
    }

    /// Applies an object to an API (server-side, forced).
    pub(crate) async fn apply<K>(api: &Api<K>, name: &str, object: serde_json::Value) -> Result<K>
    where
        K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
        <K as kube::Resource>::DynamicType: Default,
    {
        api.patch(
            name,
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(&object),
        )
        .await
        .with_context(|| format!("applying {name}"))
    }

    /// A class of Hawser's with one replica on the pool of a disk type, bound late, its volumes deleted with their claims.
    pub(crate) async fn class(
        &self,
        name: &str,
        disk_type: &str,
        parameters: &[(&str, &str)],
    ) -> Result<()> {
        let mut all = BTreeMap::from([("poolClass", disk_type), ("replicaNumber", "1")]);
        all.extend(parameters.iter().copied());
        let object = json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": { "name": name },
            "provisioner": hawser_api::names::LVM_DRIVER,
            "parameters": all,
            "volumeBindingMode": "WaitForFirstConsumer",
            "allowVolumeExpansion": true,
            "reclaimPolicy": "Delete",
        });
        Self::apply(&self.cluster::<StorageClass>(), name, object).await?;
        Ok(())
    }
}
