//! Anything may come over the wire: no body makes a handler panic, takes it more than 100 ms, or gets an answer that kube-scheduler
//! would choke on. A few thousand inputs at a time; `PROPTEST_CASES=1000000` for a long run.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use hawser_api::extender::{ExtenderArgs, ExtenderFilterResult, HostPriorityList};
use http_body_util::BodyExt;
use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::tests::{health, shop};

const MOST_TIME: Duration = Duration::from_millis(100);

/// Names of the fixture and others.
fn node_name() -> BoxedStrategy<String> {
    prop_oneof![
        4 => "n[1-4]",
        1 => "[a-z0-9.-]{1,20}",
        1 => any::<String>(),
    ]
    .boxed()
}

/// What stands where a field's value should.
fn anything() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
    .boxed()
}

/// Mostly of the right form.
fn or_anything(right: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop_oneof![9 => right, 1 => anything()].boxed()
}

fn text(pattern: &'static str) -> BoxedStrategy<Value> {
    or_anything(pattern.prop_map(Value::from).boxed())
}

fn list(of: BoxedStrategy<Value>, most: usize) -> BoxedStrategy<Value> {
    or_anything(
        prop::collection::vec(of, 0..most)
            .prop_map(Value::from)
            .boxed(),
    )
}

fn volume() -> BoxedStrategy<Value> {
    let claim = prop_oneof![
        Just("data"),
        Just("log"),
        Just("ledger"),
        Just("odd"),
        Just("unborn"),
        Just("")
    ];
    let used = claim.prop_map(
        |claim| json!({ "name": claim, "persistentVolumeClaim": { "claimName": claim } }),
    );
    let ephemeral = "[a-z]{0,3}".prop_map(
        |name| json!({ "name": name, "ephemeral": { "volumeClaimTemplate": { "spec": {} } } }),
    );
    or_anything(prop_oneof![4 => used, 1 => ephemeral].boxed())
}

fn affinity() -> BoxedStrategy<Value> {
    let requirement = (
        text("[a-z./ -]{0,12}"),
        text("In|NotIn|Exists|DoesNotExist|Gt|Lt|Near"),
        list(text("[0-9a-z -]{0,5}"), 3),
    );
    let requirement = requirement.prop_map(
        |(key, operator, values)| json!({ "key": key, "operator": operator, "values": values }),
    );
    let requirements = || list(requirement.clone().boxed(), 3);
    let term = (requirements(), requirements());
    let term = term
        .prop_map(|(labels, fields)| json!({ "matchExpressions": labels, "matchFields": fields }));
    let terms = list(or_anything(term.boxed()), 3).prop_map(|terms| {
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } })
    });
    or_anything(terms.boxed())
}

fn pod() -> BoxedStrategy<Value> {
    let toleration = (
        text("[a-z]{0,4}"),
        text("|Equal|Exists|Lt|Gt|Near"),
        text("-?[0-9a-z]{0,4}"),
    );
    let toleration = toleration.prop_map(|(key, operator, value)| {
        json!({ "key": key, "operator": operator, "value": value, "tolerationSeconds": 3 })
    });
    let metadata = (
        text("db-0|[a-z]{0,8}"),
        text("shop|[a-z]{0,8}"),
        text("u-1|"),
    );
    let spec = (
        list(volume(), 6),
        affinity(),
        list(toleration.boxed(), 3),
        anything(),
    );
    let pod = (metadata, spec).prop_map(|((name, namespace, uid), (volumes, affinity, tolerations, selector))| {
        json!({
            "metadata": { "name": name, "namespace": namespace, "uid": uid, "creationTimestamp": null },
            "spec": { "containers": [], "volumes": volumes, "affinity": affinity, "tolerations": tolerations, "nodeSelector": selector },
            "status": {}
        })
    });
    or_anything(pod.boxed())
}

fn names() -> BoxedStrategy<Value> {
    let name = || or_anything(node_name().prop_map(Value::from).boxed());
    let few = list(name(), 6);
    let many =
        (1..400usize).prop_map(|n| (0..n).map(|i| format!("n{i}")).collect::<Vec<_>>().into());
    prop_oneof![8 => few, 1 => many, 1 => Just(Value::Null)].boxed()
}

fn arguments() -> BoxedStrategy<Value> {
    let node = node_name().prop_map(|name| json!({ "metadata": { "name": name } }));
    let nodes = list(or_anything(node.boxed()), 4).prop_map(|items| json!({ "items": items }));
    let nodes = prop_oneof![3 => Just(Value::Null), 1 => nodes];
    (pod(), names(), nodes)
        .prop_map(|(pod, names, nodes)| json!({ "Pod": pod, "NodeNames": names, "Nodes": nodes }))
        .boxed()
}

fn victims() -> BoxedStrategy<Value> {
    let uid = text("[a-z0-9-]{0,8}").prop_map(|uid| json!({ "UID": uid }));
    let meta = (list(uid.boxed(), 3), any::<i64>());
    let meta = meta.prop_map(|(pods, broken)| json!({ "Pods": pods, "NumPDBViolations": broken }));
    let by_node = |of: BoxedStrategy<Value>| {
        let map = prop::collection::btree_map(node_name(), or_anything(of), 0..4);
        or_anything(
            map.prop_map(|map| Value::Object(map.into_iter().collect()))
                .boxed(),
        )
    };
    let whole = list(pod(), 3).prop_map(|pods| json!({ "Pods": pods, "NumPDBViolations": 0 }));
    (pod(), by_node(meta.boxed()), by_node(whole.boxed()), 0..3u8)
        .prop_map(|(pod, meta, whole, which)| {
            let (meta, whole) = match which {
                0 => (meta, Value::Null),
                1 => (Value::Null, whole),
                _ => (meta, whole),
            };
            json!({ "Pod": pod, "NodeNameToMetaVictims": meta, "NodeNameToVictims": whole })
        })
        .boxed()
}

/// What happens to a body on its way.
#[derive(Clone, Debug)]
pub(super) enum Damage {
    None,
    Cut(prop::sample::Index),
    Set(prop::sample::Index, u8),
    Twice(prop::sample::Index, prop::sample::Index),
    Nested(usize),
}

pub(super) fn damage() -> BoxedStrategy<Damage> {
    prop_oneof![
        6 => Just(Damage::None),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        2 => any::<(prop::sample::Index, u8)>().prop_map(|(at, byte)| Damage::Set(at, byte)),
        1 => any::<(prop::sample::Index, prop::sample::Index)>().prop_map(|(from, to)| Damage::Twice(from, to)),
        1 => (1..2000usize).prop_map(Damage::Nested),
    ]
    .boxed()
}

pub(super) fn damaged(mut body: Vec<u8>, damage: &Damage) -> Vec<u8> {
    if body.is_empty() {
        return body;
    }
    match damage {
        Damage::None => {}
        Damage::Cut(at) => body.truncate(at.index(body.len())),
        Damage::Set(at, byte) => {
            let at = at.index(body.len());
            body[at] = *byte;
        }
        Damage::Twice(from, to) => {
            let part = body[from.index(body.len())..].to_vec();
            let at = to.index(body.len());
            body.splice(at..at, part);
        }
        Damage::Nested(depth) => {
            let nested = format!(r#"{{"Pod": {}"#, "[".repeat(*depth));
            body = nested.into_bytes();
        }
    }
    body
}

fn request() -> BoxedStrategy<(&'static str, Vec<u8>)> {
    let path = prop_oneof![Just("/filter"), Just("/prioritize")];
    let asked = (path.clone(), arguments(), damage());
    let asked =
        asked.prop_map(|(path, body, damage)| (path, damaged(body.to_string().into(), &damage)));
    let preempted = (victims(), damage());
    let preempted = preempted
        .prop_map(|(body, damage)| ("/preempt", damaged(body.to_string().into(), &damage)));
    let bytes = (
        prop_oneof![path, Just("/preempt")],
        prop::collection::vec(any::<u8>(), 0..200),
    );
    prop_oneof![6 => asked, 3 => preempted, 1 => bytes].boxed()
}

/// Processor time of this thread: other load on the machine does not count.
pub(super) fn spent() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        now.tv_sec.try_into().unwrap_or(0),
        now.tv_nsec.try_into().unwrap_or(0),
    )
}

fn ask(router: &Router, path: &str, body: &[u8]) -> (StatusCode, Vec<u8>, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let request = axum::http::Request::post(path)
            .body(Body::from(body.to_vec()))
            .unwrap();
        let began = spent();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let answer = response.into_body().collect().await.unwrap().to_bytes();
        (status, answer.to_vec(), spent().saturating_sub(began))
    })
}

/// The scheduler takes the answer, and it is about the nodes that were asked about.
fn is_sound(path: &str, body: &[u8], answer: &[u8]) -> Result<(), TestCaseError> {
    let wrong =
        |why: String| TestCaseError::fail(format!("{why}: {}", String::from_utf8_lossy(answer)));
    if path == "/preempt" {
        let answer: Value =
            serde_json::from_slice(answer).map_err(|error| wrong(error.to_string()))?;
        prop_assert!(answer["NodeNameToMetaVictims"].is_object(), "{answer}");
        return Ok(());
    }
    let asked: ExtenderArgs =
        serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))?;
    let names = asked.candidates();
    let unique: BTreeSet<&String> = names.iter().collect();
    if path == "/prioritize" {
        let points: HostPriorityList =
            serde_json::from_slice(answer).map_err(|error| wrong(error.to_string()))?;
        prop_assert!(
            points.iter().all(|node| (0..=10).contains(&node.score)),
            "{points:?}"
        );
        let hosts: Vec<&String> = points.iter().map(|node| &node.host).collect();
        prop_assert_eq!(hosts, names.iter().collect::<Vec<_>>());
        return Ok(());
    }
    let result: ExtenderFilterResult =
        serde_json::from_slice(answer).map_err(|error| wrong(error.to_string()))?;
    let left: Vec<String> = match (&result.node_names, &result.nodes) {
        (Some(names), None) => names.clone(),
        (None, Some(nodes)) => nodes
            .items
            .iter()
            .filter_map(|node| node.metadata.name.clone())
            .collect(),
        (None, None) if !result.error.is_empty() => return Ok(()),
        _ => return Err(wrong("neither names nor nodes".to_owned())),
    };
    let failed = result
        .failed_nodes
        .iter()
        .chain(&result.failed_and_unresolvable_nodes);
    let all: BTreeSet<&String> = left
        .iter()
        .chain(failed.clone().map(|(name, _)| name))
        .collect();
    prop_assert_eq!(&all, &unique, "each node is left or refused");
    prop_assert!(
        failed.clone().all(|(_, why)| !why.is_empty()),
        "{:?}",
        result
    );
    Ok(())
}

pub(super) fn config() -> ProptestConfig {
    let seeds = proptest::test_runner::FileFailurePersistence::WithSource("regressions");
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: default.cases.max(3000),
        failure_persistence: Some(Box::new(seeds)),
        max_global_rejects: u32::MAX,
        ..default
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_body_does_harm((path, body) in request()) {
        thread_local!(static SHOP: Router = shop(&health()));
        let (status, answer, took) = SHOP.with(|router| ask(router, path, &body));
        prop_assert!(took < MOST_TIME, "{took:?}");
        match status {
            StatusCode::OK => is_sound(path, &body, &answer)?,
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => prop_assert!(!answer.is_empty()),
            other => prop_assert!(false, "{other}"),
        }
    }
}
