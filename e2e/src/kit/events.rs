//! Events as users meet them, told apart from those of an earlier object of the same name.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::scope::Scope;
use super::wait::{Pending, wait_for};

/// Where the API server keeps events about objects that lie in no namespace.
const CLUSTER: &str = "default";

impl Scope {
    /// Waits for an event about an object of `api` that has all the words; returns it as `reason: message`. Only events about this very object count: not
    /// those about an earlier one of its name, which stay for an hour.
    ///
    /// # Errors
    /// If there is no such object, or no such event within `patience`; then with what is said instead.
    pub(crate) async fn told<K>(
        &self,
        api: &Api<K>,
        name: &str,
        words: &[&str],
        patience: Duration,
    ) -> Result<String>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let what = format!("an event about {} {name} with {words:?}", K::kind(&()));
        let about = self.about(api, name).await?;
        wait_for(&what, patience, || async {
            let said: Vec<String> = about.list().await?.iter().map(text).collect();
            Ok(match find(&said, words) {
                Some(found) => Ok(found),
                None => Err(Pending::because(format!("its events are {said:?}"))),
            })
        })
        .await
    }

    /// The warnings about an object so far, each as `reason: message`.
    pub(crate) async fn warnings<K>(&self, api: &Api<K>, name: &str) -> Result<Vec<String>>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let events = self.about(api, name).await?.list().await?;
        let warnings = events
            .iter()
            .filter(|event| event.type_.as_deref() == Some("Warning"));
        Ok(warnings.map(text).collect())
    }

    async fn about<K>(&self, api: &Api<K>, name: &str) -> Result<About>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let object = api
            .get(name)
            .await
            .with_context(|| format!("looking at {} {name}", K::kind(&())))?;
        let meta = object.meta();
        let namespace = meta.namespace.as_deref().unwrap_or(CLUSTER);
        Ok(About {
            events: Api::namespaced(self.client.clone(), namespace),
            name: name.to_owned(),
            uid: meta.uid.clone().context("an object without uid")?,
        })
    }
}

/// The object whose events are looked for.
struct About {
    events: Api<Event>,
    name: String,
    uid: String,
}

impl About {
    async fn list(&self) -> Result<Vec<Event>> {
        let about = ListParams::default().fields(&format!("involvedObject.name={}", self.name));
        let all = self.events.list(&about).await?.items;
        Ok(all.into_iter().filter(|e| is_about(e, &self.uid)).collect())
    }
}

/// Whether an event is about the object of this uid.
fn is_about(event: &Event, uid: &str) -> bool {
    event.involved_object.uid.as_deref() == Some(uid)
}

/// `reason: message` of an event.
fn text(event: &Event) -> String {
    format!(
        "{}: {}",
        event.reason.as_deref().unwrap_or_default(),
        event.message.as_deref().unwrap_or_default()
    )
}

fn find(said: &[String], words: &[&str]) -> Option<String> {
    said.iter()
        .find(|text| words.iter().all(|word| text.contains(word)))
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_events_about_this_very_object_with_all_words_count() {
        let event = |uid: &str, message: &str| -> Event {
            serde_json::from_value(json!({
                "metadata": {}, "involvedObject": { "name": "c", "uid": uid }, "reason": "NoDisk", "message": message,
            }))
            .unwrap()
        };
        let events = [event("old", "no disk of n1"), event("new", "no disk of n2")];
        let said: Vec<_> = events
            .iter()
            .filter(|event| is_about(event, "new"))
            .map(text)
            .collect();
        assert_eq!(said, ["NoDisk: no disk of n2"]);
        assert_eq!(find(&said, &["NoDisk", "n2"]).as_ref(), said.first());
        assert_eq!(find(&said, &["NoDisk", "n1"]), None);
    }
}
