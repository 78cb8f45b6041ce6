//! Writes the status of policies: each replica of the webhook what it has counted, under its own name; and whoever holds the webhook's lease
//! the rest, the sums among it. So no fact has two writers.
//!
//! Rate: at most one write of each kind for a policy in [`PERIOD`], none if nothing has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hawser_api::names::managers;
use hawser_api::{PolicyCounts, StoragePolicy};
use hawser_runtime::error::Category;
use hawser_runtime::lease::{Candidate, LeaseConfig};
use hawser_runtime::patch;
use hawser_runtime::shutdown::Shutdown;
use hawser_runtime::store::Store;
use hawser_runtime::telemetry::chain;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use crate::facts::{Class, Driver, Facts};
use crate::policy::book::Book;
use crate::policy::sum::{add, sum};

/// How often what was counted is written.
pub(crate) const PERIOD: Duration = Duration::from_secs(10);
/// How often it is looked whether replicas that have counted are still there: every so many periods.
const CENSUS: u32 = 6;

/// What is needed to write.
#[derive(Clone)]
pub(crate) struct Keeper {
    pub(crate) client: Client,
    pub(crate) book: Book,
    /// As the watch has them.
    pub(crate) policies: Store<StoragePolicy>,
    pub(crate) classes: Facts<Class>,
    pub(crate) namespace: String,
    /// The name of this pod.
    pub(crate) identity: String,
}

/// Starts both writers; they run until shutdown, and what was counted last is written then.
pub(crate) fn keep(keeper: Keeper, lease: LeaseConfig, shutdown: &Shutdown) {
    let (reporter, token) = (keeper.clone(), shutdown.token());
    shutdown.spawn("policy counts", async move {
        let mut bases = BTreeMap::new();
        let mut ticks = tokio::time::interval(PERIOD);
        while token.run_until_cancelled(ticks.tick()).await.is_some() {
            reporter.report(&mut bases).await;
        }
        reporter.report(&mut bases).await;
    });
    let stop = shutdown.clone();
    shutdown.spawn("policy sums", async move {
        // Losing the lease costs nothing but the sums: another replica writes them, and this one goes on as a candidate.
        while !stop.is_stopping() {
            let candidate = Candidate::new(keeper.client.clone(), lease.clone());
            let Ok(leader) = candidate.acquire(&stop, |_| {}).await else {
                return;
            };
            let token = stop.token();
            let (mut ticks, mut round) = (tokio::time::interval(PERIOD), 0_u32);
            while token.run_until_cancelled(ticks.tick()).await.is_some()
                && leader.is_valid_at(Instant::now())
            {
                let census = round.is_multiple_of(CENSUS);
                round = round.wrapping_add(1);
                keeper.sum_up(census).await;
            }
        }
    });
}

impl Keeper {
    fn api(&self) -> Api<StoragePolicy> {
        Api::all(self.client.clone())
    }

    /// Writes what this replica has counted. `bases`: what stood under its name when it began: a container that was restarted in its pod goes
    /// on from there.
    async fn report(&self, bases: &mut BTreeMap<String, PolicyCounts>) {
        for (name, counts) in self.book.take() {
            let Some(policy) = self.policies.get(&name) else {
                self.book.forget(&name);
                bases.remove(&name);
                continue;
            };
            let base = bases.entry(name.clone()).or_insert_with(|| {
                let replicas = policy.status.as_ref().map(|status| &status.replicas);
                let own = replicas.and_then(|replicas| replicas.get(&self.identity));
                own.cloned().unwrap_or_default()
            });
            let mut total = base.clone();
            add(&mut total, &counts);
            // Nobody else writes this key, so no version is named.
            let entry = json!({ "status": { "replicas": { &self.identity: total } } });
            let params = PatchParams {
                field_manager: Some(managers::ADMISSION.to_owned()),
                ..PatchParams::default()
            };
            let (api, entry) = (self.api(), Patch::Merge(entry));
            match api.patch_status(&name, &params, &entry).await {
                Ok(_) => {}
                Err(error) if Category::of_kube(&error) == Category::NotFound => {
                    self.book.forget(&name);
                }
                Err(error) => {
                    tracing::warn!(policy = %name, error = %chain(&error), "counts not written, trying again");
                    self.book.put_back(&name);
                }
            }
        }
    }

    /// Writes the rest of each policy's status, where it differs.
    async fn sum_up(&self, census: bool) {
        let policies = self.policies.list();
        let gone = if census {
            let names = policies.iter().filter_map(|policy| policy.status.as_ref());
            let names = names.flat_map(|status| status.replicas.keys().cloned());
            self.gone(names.collect()).await
        } else {
            BTreeSet::new()
        };
        let ours: BTreeSet<String> = self.classes.read(|classes| {
            let ours = classes
                .iter()
                .filter(|(_, class)| class.driver != Driver::Foreign);
            ours.map(|(key, _)| key.name.clone()).collect()
        });
        for policy in policies {
            let wanted = sum(&policy, &gone, &ours, &Time(Timestamp::now()));
            if let Err(error) = patch::status(&self.api(), &*policy, &wanted).await {
                // Changed meanwhile, or gone: the next round decides anew.
                if !matches!(error.category(), Category::Conflict | Category::NotFound) {
                    tracing::warn!(policy = %policy.name_any(), error = %chain(&error), "status not written, trying again");
                }
            }
        }
    }

    /// Those replicas that are no more. Who can't be asked for is taken to be there.
    async fn gone(&self, names: BTreeSet<String>) -> BTreeSet<String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut gone = BTreeSet::new();
        for name in names.into_iter().filter(|name| *name != self.identity) {
            if let Ok(None) = pods.get_metadata_opt(&name).await {
                gone.insert(name);
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hawser_api::PolicyMode;
    use hawser_runtime::index::Index;
    use hawser_runtime::testing::FakeApi;
    use serde_json::Value;

    use super::*;
    use crate::policy::book::Occasion;
    use crate::policy::judge::{Judgement, Violation};

    const POLICY: &str = "/apis/hawser.io/v1alpha1/storagepolicies/p";

    fn a_keeper(api: &FakeApi, identity: &str) -> Keeper {
        Keeper {
            client: api.client(),
            book: Book::default(),
            policies: Store::new(),
            classes: Facts::default(),
            namespace: "storage".to_owned(),
            identity: identity.to_owned(),
        }
    }

    /// What the watch would tell.
    fn hear(keeper: &Keeper, api: &FakeApi) {
        let object = api.object(POLICY).unwrap();
        keeper
            .policies
            .apply(Arc::new(serde_json::from_value(object).unwrap()));
    }

    fn deny(keeper: &Keeper) {
        let judgement = Judgement {
            matched: vec!["p".to_owned()],
            violations: vec![Violation {
                policy: "p".to_owned(),
                mode: PolicyMode::Enforce,
                sentence: "too large".to_owned(),
            }],
        };
        let occasion = || Occasion {
            object: "PersistentVolumeClaim shop/data".to_owned(),
            operation: "CREATE",
            user: "ann".to_owned(),
        };
        keeper
            .book
            .enter(&judgement, occasion, &Time(Timestamp::now()));
    }

    fn status(api: &FakeApi) -> Value {
        api.object(POLICY).unwrap()["status"].clone()
    }

    fn an_api() -> FakeApi {
        let api = FakeApi::new();
        api.put(
            POLICY,
            json!({ "apiVersion": "hawser.io/v1alpha1", "kind": "StoragePolicy",
                    "metadata": { "name": "p", "generation": 1 }, "spec": { "mode": "Enforce" } }),
        );
        for name in ["one", "two"] {
            api.put(
                &format!("/api/v1/namespaces/storage/pods/{name}"),
                json!({ "metadata": { "name": name, "namespace": "storage" } }),
            );
        }
        api
    }

    #[tokio::test]
    async fn each_replica_writes_its_own_and_the_sum_has_all_also_of_those_that_are_gone() {
        let api = an_api();
        let (one, two) = (a_keeper(&api, "one"), a_keeper(&api, "two"));
        for keeper in [&one, &two] {
            hear(keeper, &api);
            deny(keeper);
            keeper.report(&mut BTreeMap::new()).await;
        }
        deny(&two);
        two.report(&mut BTreeMap::from([(
            "p".to_owned(),
            PolicyCounts::default(),
        )]))
        .await;
        assert_eq!(status(&api)["replicas"]["one"]["denied"], 1);
        assert_eq!(status(&api)["replicas"]["two"]["denied"], 2);
        assert_eq!(status(&api)["denied"], Value::Null);

        hear(&one, &api);
        one.sum_up(true).await;
        let summed = status(&api);
        assert_eq!(
            (&summed["denied"], &summed["matched"]),
            (&json!(3), &json!(3))
        );
        assert_eq!(
            summed["lastViolation"]["object"],
            "PersistentVolumeClaim shop/data"
        );
        assert_eq!(summed["observedGeneration"], 1);
        assert_eq!(summed["conditions"][1]["status"], "True");

        // Nothing new: nothing is sent.
        hear(&one, &api);
        let _ = api.calls();
        one.report(&mut BTreeMap::new()).await;
        one.sum_up(false).await;
        assert_eq!(api.calls(), Vec::<String>::new());

        // The other pod ends: its counts stay in the sum.
        api.reject("pods/two", 404);
        one.sum_up(true).await;
        let after = status(&api);
        assert_eq!(
            (&after["denied"], &after["earlier"]["denied"]),
            (&json!(3), &json!(2))
        );
        assert_eq!(after["replicas"]["two"], Value::Null);
    }

    #[tokio::test]
    async fn a_restarted_container_goes_on_from_what_its_pod_had_counted() {
        let api = an_api();
        let before = a_keeper(&api, "one");
        hear(&before, &api);
        deny(&before);
        before.report(&mut BTreeMap::new()).await;
        let after = a_keeper(&api, "one");
        hear(&after, &api);
        deny(&after);
        after.report(&mut BTreeMap::new()).await;
        assert_eq!(status(&api)["replicas"]["one"]["denied"], 2);
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_written_next_time_and_a_policy_that_is_gone_is_forgotten()
    {
        let api = an_api();
        let keeper = a_keeper(&api, "one");
        hear(&keeper, &api);
        deny(&keeper);
        api.reject("PATCH", 503);
        let mut bases = BTreeMap::new();
        keeper.report(&mut bases).await;
        assert_eq!(status(&api), Value::Null);
        api.reject("PATCH", 0);
        keeper.report(&mut bases).await;
        assert_eq!(status(&api)["replicas"]["one"]["denied"], 1);

        deny(&keeper);
        keeper
            .policies
            .delete(&hawser_runtime::index::Key::cluster("p"));
        let _ = api.calls();
        keeper.report(&mut bases).await;
        assert!(api.calls().is_empty() && keeper.book.take().is_empty());
    }
}
