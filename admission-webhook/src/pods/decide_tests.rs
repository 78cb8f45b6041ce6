//! What pods get, decided without a cluster. The patches themselves are golden files: `tests/golden.rs`.

use serde_json::{Value, json};

use super::*;
use crate::policy::tests::policies;

fn a_pod(more: &Value) -> PodView {
    let mut spec = json!({ "containers": [], "volumes": [
        { "name": "data", "persistentVolumeClaim": { "claimName": "data" } }
    ] });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({ "metadata": { "name": "db-0" }, "spec": spec })).unwrap()
}

fn plain() -> PodView {
    a_pod(&json!({}))
}

fn a_class(driver: Driver, thin: bool) -> Class {
    let pairs = [
        ("poolClass", "SSD"),
        ("replicaNumber", "1"),
        ("thin", if thin { "true" } else { "false" }),
    ];
    Class {
        driver,
        parameters: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        default: false,
        since: None,
    }
}

fn a_copy(node: &str, up_to_date: bool) -> Copy {
    Copy {
        node: node.into(),
        zone: None,
        up_to_date,
    }
}

fn bound(copies: &[Copy]) -> Source {
    Source::Bound {
        driver: Driver::Lvm,
        copies: copies.to_vec(),
    }
}

fn known(source: Source, class: Option<&str>) -> Known {
    let claim = KnownClaim {
        source,
        class: class.map(str::to_owned),
        labels: None,
    };
    let nodes = ["n7", "n8"].into_iter().map(Arc::from).collect();
    Known {
        namespace: "shop".to_owned(),
        claims: BTreeMap::from([("data".to_owned(), claim)]),
        classes: BTreeMap::from([
            ("ssd".to_owned(), a_class(Driver::Lvm, false)),
            ("thin".to_owned(), a_class(Driver::Lvm, true)),
            ("disk".to_owned(), a_class(Driver::Disk, false)),
            ("nfs".to_owned(), a_class(Driver::Foreign, false)),
        ]),
        pools: BTreeMap::from([(PoolClass::SSD, Nodes::Few(nodes))]),
        ..Known::default()
    }
}

#[test]
fn our_scheduler_for_new_claims_of_ours_only() {
    for (class, wanted) in [
        (Some("ssd"), true),
        (Some("disk"), true),
        (Some("nfs"), false),
        (Some("unheard-of"), false),
        (None, false),
    ] {
        let decision = decide(&plain(), &known(Source::New, class));
        assert_eq!(decision.scheduler, wanted, "{class:?}");
        assert_eq!(
            decision.preferred.is_empty(),
            class != Some("ssd"),
            "{class:?}"
        );
    }
}

#[test]
fn a_claim_that_comes_later_is_taken_for_one_of_the_default_class() {
    for ours in [true, false] {
        let known = Known {
            default_is_ours: ours,
            ..known(Source::Missing, None)
        };
        let decision = decide(&plain(), &known);
        assert_eq!(decision.scheduler, ours);
        assert!(decision.preferred.is_empty() && decision.warnings.is_empty());
    }
    assert_eq!(
        decide(&plain(), &known(Source::Unknown, None)),
        Decision::default()
    );
}

#[test]
fn a_scheduler_that_the_user_chose_stays_and_the_pod_is_drawn_to_its_data_all_the_same() {
    for (name, replaced) in [
        ("", true),
        ("default-scheduler", true),
        ("mine", false),
        ("hwameistor-scheduler", false),
    ] {
        let pod = a_pod(&json!({ "schedulerName": name }));
        let decision = decide(&pod, &known(bound(&[a_copy("n1", true)]), Some("ssd")));
        assert_eq!(decision.scheduler, replaced, "{name}");
        assert_eq!(decision.preferred.len(), 1);
    }
}

#[test]
fn claims_of_others_are_left_alone_whatever_their_class() {
    let foreign = Source::Bound {
        driver: Driver::Foreign,
        copies: Vec::new(),
    };
    assert_eq!(
        decide(&plain(), &known(foreign, Some("ssd"))),
        Decision::default()
    );
}

#[test]
fn pods_that_are_placed_or_opt_out_and_namespaces_to_be_ignored_are_left_alone() {
    let ours = || known(bound(&[a_copy("n1", true)]), Some("ssd"));
    let placed = a_pod(&json!({ "nodeName": "n1" }));
    assert_eq!(decide(&placed, &ours()), Decision::default());
    let ignored = Known {
        ignored: true,
        ..ours()
    };
    assert_eq!(decide(&plain(), &ignored), Decision::default());
    let opted: PodView = serde_json::from_value(json!({
        "metadata": { "name": "p", "labels": { "hwameistor.io/webhook": "ignore" } },
        "spec": { "volumes": [{ "name": "d", "persistentVolumeClaim": { "claimName": "data" } }] }
    }))
    .unwrap();
    assert_eq!(decide(&opted, &ours()), Decision::default());
}

/// As a DaemonSet's controller does it.
fn tied(node: &str) -> Value {
    json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [node] }] }]
    } } } })
}

#[test]
fn a_pod_that_is_tied_to_a_node_has_nothing_to_prefer() {
    let decision = decide(
        &a_pod(&tied("n1")),
        &known(bound(&[a_copy("n1", true)]), None),
    );
    assert!(decision.scheduler && decision.preferred.is_empty());
}

#[test]
fn a_class_that_can_not_be_served_and_a_pool_that_no_node_has_are_warnings() {
    let decision = decide(&plain(), &known(Source::New, Some("thin")));
    assert!(decision.scheduler);
    let wanted = concat!(
        r#"claim "data" will get no volume: storage class "thin": parameter "thin" is "true", "#,
        "which this version does not serve: use false, or leave it out"
    );
    assert_eq!(decision.warnings, [wanted]);

    let bare = Known {
        pools: BTreeMap::new(),
        ..known(Source::New, Some("ssd"))
    };
    let decision = decide(&plain(), &bare);
    assert!(decision.scheduler && decision.preferred.is_empty());
    assert!(decision.warnings[0].starts_with("no node has a SSD pool now"));
}

fn required(name: &str) -> Arc<[Arc<Policy>]> {
    policies(&[(name, json!({ "mode": "Enforce", "locality": "Required" }))])
}

fn demanded(copies: &[Copy]) -> Known {
    Known {
        policies: required("p"),
        ..known(bound(copies), Some("ssd"))
    }
}

#[test]
fn a_policy_ties_pods_to_copies_that_are_up_to_date_or_to_any_if_none_is() {
    let nodes = |copies: &[Copy]| -> Vec<Vec<String>> {
        let required = decide(&plain(), &demanded(copies)).required.into_iter();
        required
            .map(|wanted| wanted.values.unwrap().into_iter().collect())
            .collect()
    };
    assert_eq!(nodes(&[a_copy("n1", true), a_copy("n2", false)]), [["n1"]]);
    assert_eq!(
        nodes(&[a_copy("n1", false), a_copy("n2", false)]),
        [["n1", "n2"]]
    );
    assert!(
        nodes(&[]).is_empty(),
        "a pod must not wait for what nobody knows of"
    );
    assert!(
        decide(&plain(), &known(bound(&[a_copy("n1", true)]), None))
            .required
            .is_empty()
    );
}

#[test]
fn a_pod_that_is_not_tied_to_its_data_is_told_so_by_each_policy_that_asks_for_it() {
    let copies = [a_copy("n1", true), a_copy("n2", false)];
    let on = |nodes: Value| {
        json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [{ "key": "topology.lvm.hwameistor.io/node", "operator": "In", "values": nodes }] }]
        } } } })
    };
    for (pod, fine) in [
        (json!({}), false),
        (on(json!(["n1"])), true),
        (on(json!(["n1", "n2"])), true),
        (on(json!(["n1", "n3"])), false),
        (on(json!([])), false),
        (tied("n2"), true),
        (tied("n3"), false),
        (json!({ "nodeName": "n1" }), true),
        (json!({ "nodeName": "n3" }), false),
    ] {
        let judgement = judge_locality(&a_pod(&pod), &demanded(&copies));
        assert_eq!(judgement.matched, ["p"]);
        assert_eq!(
            judgement.violations.is_empty(),
            fine,
            "{pod}: {judgement:?}"
        );
    }
    let nobody = judge_locality(&plain(), &demanded(&[]));
    assert_eq!(nobody, Judgement::default());
    let sentence = &judge_locality(&plain(), &demanded(&copies)).violations[0].sentence;
    assert!(
        sentence.contains("claim \"data\", which is on n1, n2"),
        "{sentence}"
    );
}
