//! Where certificates are kept and published: a narrow view of the API server, and the real one.

use async_trait::async_trait;
use hawser_api::names;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::certificate::material::Material;

/// What was read, and the version that a write of it must name.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// `None`: the Secret exists but holds nothing usable.
    pub material: Option<Material>,
    pub version: String,
}

/// What publishing the bundle did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It was published already.
    Already,
    /// It is now.
    Now,
    /// A configuration is missing, or has no webhook of ours. The others have the bundle.
    NoWebhook,
}

/// Where certificates are kept and published.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// The Secret; `None` if there is none.
    async fn read(&self) -> Result<Option<Stored>, kube::Error>;

    /// Replaces the version that was read, or creates the Secret if there was none. `false`: somebody else was faster, and
    /// nothing was written.
    async fn write(&self, material: &Material, read: Option<&Stored>) -> Result<bool, kube::Error>;

    /// Makes the API server trust the bundle for our webhooks, and changes nothing else.
    async fn publish(&self, bundle: &str) -> Result<Published, kube::Error>;
}

/// The API server.
pub struct KubeCluster {
    client: Client,
    service: String,
    namespace: String,
}

impl KubeCluster {
    /// Keeps the Secret in this namespace, and the bundle of all webhooks that lead to this Service of it.
    #[must_use]
    pub fn new(client: Client, service: String, namespace: String) -> Self {
        Self {
            client,
            service,
            namespace,
        }
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
        let changing = ApiResource::erase::<MutatingWebhookConfiguration>(&());
        let allowing = ApiResource::erase::<ValidatingWebhookConfiguration>(&());
        let outcomes = [
            self.publish_in(&changing, names::scheduling::WEBHOOK_CONFIGURATION, bundle)
                .await?,
            self.publish_in(
                &allowing,
                names::scheduling::VALIDATING_CONFIGURATION,
                bundle,
            )
            .await?,
        ];
        // What is missing is told, what was written counts as written.
        let worst = [Published::Now, Published::NoWebhook];
        let worst = worst.into_iter().find(|outcome| outcomes.contains(outcome));
        Ok(worst.unwrap_or(Published::Already))
    }
}

impl KubeCluster {
    async fn publish_in(
        &self,
        resource: &ApiResource,
        name: &str,
        bundle: &str,
    ) -> Result<Published, kube::Error> {
        // Read and written back untyped, so that fields of newer API servers survive; guarded by the resourceVersion.
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), resource);
        let Some(mut configuration) = api.get_opt(name).await? else {
            return Ok(Published::NoWebhook);
        };
        let service = (self.service.as_str(), self.namespace.as_str());
        let published = set_bundle(&mut configuration.data, service, bundle);
        if published != Published::Now {
            return Ok(published);
        }
        let params = PostParams {
            field_manager: Some(names::managers::ADMISSION.to_owned()),
            ..PostParams::default()
        };
        // Lost a race: the next round looks again.
        let replaced = api.replace(name, &params, &configuration).await;
        lost_is_false(replaced.map(|_| true)).map(|_| Published::Now)
    }
}

/// Puts the bundle into all webhooks of the configuration that lead to this Service (name and namespace).
fn set_bundle(configuration: &mut Value, service: (&str, &str), bundle: &str) -> Published {
    // ByteString writes base64, as the API has it.
    let wanted = json!(ByteString(bundle.as_bytes().to_vec()));
    let webhooks = configuration
        .get_mut("webhooks")
        .and_then(Value::as_array_mut);
    let mut outcome = Published::NoWebhook;
    for webhook in webhooks.into_iter().flatten() {
        let Some(client) = webhook
            .get_mut("clientConfig")
            .and_then(Value::as_object_mut)
        else {
            continue;
        };
        let ours = client.get("service").is_some_and(|to| {
            (to["name"].as_str(), to["namespace"].as_str()) == (Some(service.0), Some(service.1))
        });
        if !ours {
            continue;
        }
        if client.get("caBundle") != Some(&wanted) {
            client.insert("caBundle".to_owned(), wanted.clone());
            outcome = Published::Now;
        } else if outcome == Published::NoWebhook {
            outcome = Published::Already;
        }
    }
    outcome
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

    const SERVICE: (&str, &str) = ("hook", "storage");

    #[test]
    fn all_webhooks_of_our_service_get_the_bundle_and_no_others() {
        let ours = |name: &str, bundle: Value| {
            json!({ "name": name, "timeoutSeconds": 5, "fieldOfTomorrow": true,
                    "clientConfig": { "caBundle": bundle, "service": { "name": "hook", "namespace": "storage" } } })
        };
        let others = [
            json!({ "name": "other.example", "clientConfig": { "caBundle": "b3RoZXI=", "service": { "name": "hook", "namespace": "x" } } }),
            json!({ "name": "url.example", "clientConfig": { "url": "https://x" } }),
            json!({ "name": "broken.example" }),
        ];
        let before = [
            &others[..],
            &[ours("a", json!(null)), ours("b", json!("b2xk"))],
        ]
        .concat();
        let mut configuration = json!({ "webhooks": before });
        assert_eq!(
            set_bundle(&mut configuration, SERVICE, "pem"),
            Published::Now
        );
        let after = [
            &others[..],
            &[ours("a", json!("cGVt")), ours("b", json!("cGVt"))],
        ]
        .concat();
        assert_eq!(configuration, json!({ "webhooks": after }));
        assert_eq!(
            set_bundle(&mut configuration, SERVICE, "pem"),
            Published::Already
        );
        assert_eq!(
            set_bundle(&mut configuration, SERVICE, "other"),
            Published::Now
        );
    }

    #[test]
    fn a_configuration_without_our_webhook_is_left_alone() {
        for configuration in [
            json!({}),
            json!({ "webhooks": null }),
            json!({ "webhooks": [{ "name": "x" }] }),
        ] {
            let mut after = configuration.clone();
            assert_eq!(set_bundle(&mut after, SERVICE, "pem"), Published::NoWebhook);
            assert_eq!(after, configuration);
        }
    }

    const SECRET: &str = "/api/v1/namespaces/storage/secrets/hwameistor-admission-ca";
    const CHANGING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/hwameistor-admission-mutate";
    const ALLOWING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/hwameistor-admission-validate";

    fn a_cluster(api: &FakeApi) -> KubeCluster {
        KubeCluster::new(api.client(), "hook".to_owned(), "storage".to_owned())
    }

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
        let (one, two) = (a_cluster(&api), a_cluster(&api));
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
        let cluster = a_cluster(&api);
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
    async fn publishing_twice_writes_once_and_one_configuration_does_not_wait_for_the_other() {
        let api = FakeApi::new();
        let cluster = a_cluster(&api);
        assert_eq!(cluster.publish("pem").await.unwrap(), Published::NoWebhook);
        let put = |path: &str, kind: &str| {
            api.put(path, json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
                "metadata": { "name": path.rsplit('/').next() },
                "webhooks": [{ "name": "hwameistor.io.mutate-hook", "fieldOfTomorrow": 1,
                               "clientConfig": { "service": { "name": "hook", "namespace": "storage" } } }]
            }));
        };
        put(ALLOWING, "ValidatingWebhookConfiguration");
        assert_eq!(cluster.publish("pem").await.unwrap(), Published::Now);
        assert_eq!(cluster.publish("pem").await.unwrap(), Published::NoWebhook);
        put(CHANGING, "MutatingWebhookConfiguration");
        assert_eq!(cluster.publish("pem").await.unwrap(), Published::Now);
        let _ = api.calls();
        assert_eq!(cluster.publish("pem").await.unwrap(), Published::Already);
        assert_eq!(
            api.calls(),
            [format!("GET {CHANGING}"), format!("GET {ALLOWING}")]
        );
        for path in [CHANGING, ALLOWING] {
            let webhook = &api.object(path).unwrap()["webhooks"][0];
            assert_eq!(
                (
                    &webhook["clientConfig"]["caBundle"],
                    &webhook["fieldOfTomorrow"]
                ),
                (&json!("cGVt"), &json!(1))
            );
        }
    }
}
