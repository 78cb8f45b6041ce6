//! Where certificates are kept and published: a narrow view of the API server, and the real one.

use async_trait::async_trait;
use hawser_api::names;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::certificate::material::Material;

/// What was read, and the version that a write of it must name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    /// `None`: the Secret exists but holds nothing usable.
    pub(crate) material: Option<Material>,
    pub(crate) version: String,
}

/// What publishing the bundle did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// It was published already.
    Already,
    /// It is now.
    Now,
    /// There is no configuration, or it has no webhook of ours.
    NoWebhook,
}

/// Where certificates are kept and published.
#[async_trait]
pub(crate) trait Cluster: Send + Sync {
    /// The Secret; `None` if there is none.
    async fn read(&self) -> Result<Option<Stored>, kube::Error>;

    /// Replaces the version that was read, or creates the Secret if there was none. `false`: somebody else was faster, and
    /// nothing was written.
    async fn write(&self, material: &Material, read: Option<&Stored>) -> Result<bool, kube::Error>;

    /// Makes the API server trust the bundle for our webhook, and changes nothing else.
    async fn publish(&self, bundle: &str) -> Result<Published, kube::Error>;
}

/// The API server.
pub(crate) struct KubeCluster {
    client: Client,
    namespace: String,
}

impl KubeCluster {
    /// Keeps the Secret in this namespace.
    pub(crate) fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace }
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

#[async_trait]
impl Cluster for KubeCluster {
    async fn read(&self) -> Result<Option<Stored>, kube::Error> {
        let found = self
            .secrets()
            .get_opt(names::scheduling::WEBHOOK_SECRET)
            .await?;
        Ok(found.map(|secret| Stored {
            material: secret.data.as_ref().and_then(Material::read),
            version: secret.metadata.resource_version.unwrap_or_default(),
        }))
    }

    async fn write(&self, material: &Material, read: Option<&Stored>) -> Result<bool, kube::Error> {
        let mut secret = Secret {
            data: Some(material.write()),
            ..Secret::default()
        };
        secret.metadata.name = Some(names::scheduling::WEBHOOK_SECRET.to_owned());
        let params = PostParams {
            field_manager: Some(names::managers::ADMISSION.to_owned()),
            ..PostParams::default()
        };
        let written = match read {
            None => self.secrets().create(&params, &secret).await,
            Some(read) => {
                // The rest of a Secret that somebody else made stays: its type can't be changed.
                let mut found = self
                    .secrets()
                    .get(names::scheduling::WEBHOOK_SECRET)
                    .await?;
                if found.metadata.resource_version.as_deref() != Some(read.version.as_str()) {
                    return Ok(false);
                }
                found
                    .data
                    .get_or_insert_default()
                    .extend(secret.data.unwrap_or_default());
                self.secrets()
                    .replace(names::scheduling::WEBHOOK_SECRET, &params, &found)
                    .await
            }
        };
        lost_is_false(written.map(|_| true))
    }

    async fn publish(&self, bundle: &str) -> Result<Published, kube::Error> {
        // Read and written back untyped, so that fields of newer API servers survive; guarded by the resourceVersion.
        let resource = ApiResource::erase::<MutatingWebhookConfiguration>(&());
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let name = names::scheduling::WEBHOOK_CONFIGURATION;
        let Some(mut configuration) = api.get_opt(name).await? else {
            return Ok(Published::NoWebhook);
        };
        let published = set_bundle(&mut configuration.data, bundle);
        if published != Published::Now {
            return Ok(published);
        }
        let params = PostParams {
            field_manager: Some(names::managers::ADMISSION.to_owned()),
            ..PostParams::default()
        };
        // Lost a race: the next round looks again.
        let replaced = lost_is_false(
            api.replace(name, &params, &configuration)
                .await
                .map(|_| true),
        )?;
        Ok(if replaced {
            Published::Now
        } else {
            Published::Already
        })
    }
}

/// Puts the bundle into our webhook of the configuration.
fn set_bundle(configuration: &mut Value, bundle: &str) -> Published {
    let webhooks = configuration
        .get_mut("webhooks")
        .and_then(Value::as_array_mut);
    let ours = webhooks.and_then(|webhooks| {
        webhooks
            .iter_mut()
            .find(|webhook| webhook["name"] == names::scheduling::WEBHOOK)
    });
    let Some(client) = ours
        .and_then(|webhook| webhook.get_mut("clientConfig"))
        .and_then(Value::as_object_mut)
    else {
        return Published::NoWebhook;
    };
    // ByteString writes base64, as the API has it.
    let wanted = json!(ByteString(bundle.as_bytes().to_vec()));
    if client.get("caBundle") == Some(&wanted) {
        return Published::Already;
    }
    client.insert("caBundle".to_owned(), wanted);
    Published::Now
}

/// Conflict: another replica was faster.
fn lost_is_false(result: Result<bool, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use hawser_runtime::testing::FakeApi;

    use super::*;

    #[test]
    fn only_our_webhook_gets_the_bundle() {
        let mut configuration = json!({ "webhooks": [
            { "name": "other.example", "clientConfig": { "caBundle": "b3RoZXI=", "service": { "name": "x" } } },
            { "name": "hwameistor.io.mutate-hook", "timeoutSeconds": 5, "fieldOfTomorrow": true,
              "clientConfig": { "service": { "name": "hwameistor-admission-controller" } } }
        ] });
        assert_eq!(set_bundle(&mut configuration, "pem"), Published::Now);
        assert_eq!(
            configuration,
            json!({ "webhooks": [
                { "name": "other.example", "clientConfig": { "caBundle": "b3RoZXI=", "service": { "name": "x" } } },
                { "name": "hwameistor.io.mutate-hook", "timeoutSeconds": 5, "fieldOfTomorrow": true,
                  "clientConfig": { "caBundle": "cGVt", "service": { "name": "hwameistor-admission-controller" } } }
            ] })
        );
        assert_eq!(set_bundle(&mut configuration, "pem"), Published::Already);
        assert_eq!(set_bundle(&mut configuration, "other"), Published::Now);
    }

    #[test]
    fn a_configuration_without_our_webhook_is_left_alone() {
        for configuration in [
            json!({}),
            json!({ "webhooks": null }),
            json!({ "webhooks": [{ "name": "x" }] }),
        ] {
            let mut after = configuration.clone();
            assert_eq!(set_bundle(&mut after, "pem"), Published::NoWebhook);
            assert_eq!(after, configuration);
        }
    }

    const SECRET: &str = "/api/v1/namespaces/storage/secrets/hwameistor-admission-ca";
    const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/hwameistor-admission-mutate";

    fn some(text: &str) -> Material {
        let part = || text.to_owned();
        Material {
            authority: part(),
            authority_key: part(),
            bundle: part(),
            certificate: part(),
            certificate_key: part(),
        }
    }

    #[tokio::test]
    async fn only_the_first_of_two_writers_wins() {
        let api = FakeApi::new();
        let (one, two) = (
            KubeCluster::new(api.client(), "storage".to_owned()),
            KubeCluster::new(api.client(), "storage".to_owned()),
        );
        assert_eq!(one.read().await.unwrap(), None);
        assert!(one.write(&some("one"), None).await.unwrap());
        assert!(!two.write(&some("two"), None).await.unwrap());

        let read = two.read().await.unwrap().unwrap();
        assert_eq!(read.material, Some(some("one")));
        assert!(two.write(&some("two"), Some(&read)).await.unwrap());
        assert!(!one.write(&some("one again"), Some(&read)).await.unwrap());
        assert_eq!(
            one.read().await.unwrap().unwrap().material,
            Some(some("two"))
        );
    }

    #[tokio::test]
    async fn what_somebody_else_keeps_in_the_secret_stays() {
        let api = FakeApi::new();
        api.put(
            SECRET,
            json!({
                "metadata": { "name": "hwameistor-admission-ca", "namespace": "storage" },
                "type": "kubernetes.io/tls", "data": { "tls.crt": "", "note": "aGk=" }
            }),
        );
        let cluster = KubeCluster::new(api.client(), "storage".to_owned());
        let read = cluster.read().await.unwrap().unwrap();
        assert_eq!(read.material, None);
        assert!(cluster.write(&some("x"), Some(&read)).await.unwrap());
        let secret = api.object(SECRET).unwrap();
        assert_eq!(
            (&secret["type"], &secret["data"]["note"]),
            (&json!("kubernetes.io/tls"), &json!("aGk="))
        );
        assert_eq!(
            cluster.read().await.unwrap().unwrap().material,
            Some(some("x"))
        );
    }

    #[tokio::test]
    async fn publishing_twice_writes_once() {
        let api = FakeApi::new();
        let cluster = KubeCluster::new(api.client(), "storage".to_owned());
        assert_eq!(cluster.publish("pem").await.unwrap(), Published::NoWebhook);
        api.put(CONFIGURATION, json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": "hwameistor-admission-mutate" },
            "webhooks": [{ "name": "hwameistor.io.mutate-hook", "fieldOfTomorrow": 1, "clientConfig": {} }]
        }));
        assert_eq!(cluster.publish("pem").await.unwrap(), Published::Now);
        let _ = api.calls();
        assert_eq!(cluster.publish("pem").await.unwrap(), Published::Already);
        assert_eq!(api.calls(), [format!("GET {CONFIGURATION}")]);
        let webhook = &api.object(CONFIGURATION).unwrap()["webhooks"][0];
        assert_eq!(
            (
                &webhook["clientConfig"]["caBundle"],
                &webhook["fieldOfTomorrow"]
            ),
            (&json!("cGVt"), &json!(1))
        );
    }
}
