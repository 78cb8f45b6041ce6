//! Cases after the Kubernetes documentation ("Assigning Pods to Nodes", "Taints and Tolerations") and the table tests of
//! component-helpers.

use super::*;

fn labelled(labels: &[(&str, &str)]) -> Node {
    let labels = labels
        .iter()
        .map(|(key, value)| (Name::from(*key), Name::from(*value)))
        .collect();
    Node {
        labels: std::sync::Arc::new(labels),
        ..Node::new("n1")
    }
}

fn need(key: &str, operator: &str, values: &[&str]) -> Requirement {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Requirement {
        key: key.into(),
        operator: operator.into(),
        values,
    }
}

fn labels(requirements: &[Requirement]) -> Term {
    Term {
        match_expressions: requirements.to_vec(),
        match_fields: Vec::new(),
    }
}

fn fields(requirements: &[Requirement]) -> Term {
    Term {
        match_expressions: Vec::new(),
        match_fields: requirements.to_vec(),
    }
}

fn affinity(terms: &[Term]) -> Constraints {
    Constraints {
        node_affinity: Some(terms.to_vec()),
        ..Constraints::default()
    }
}

#[test]
fn each_operator_on_a_label_that_is_there_and_one_that_is_not() {
    let node = labelled(&[("disktype", "ssd"), ("cores", "16"), ("empty", "")]);
    let table = [
        (need("disktype", "In", &["ssd", "nvme"]), true),
        (need("disktype", "In", &["hdd"]), false),
        (need("missing", "In", &["ssd"]), false),
        (need("disktype", "NotIn", &["hdd"]), true),
        (need("disktype", "NotIn", &["ssd"]), false),
        (need("missing", "NotIn", &["ssd"]), true),
        (need("disktype", "Exists", &[]), true),
        (need("empty", "Exists", &[]), true),
        (need("missing", "Exists", &[]), false),
        (need("missing", "DoesNotExist", &[]), true),
        (need("disktype", "DoesNotExist", &[]), false),
        (need("cores", "Gt", &["15"]), true),
        (need("cores", "Gt", &["16"]), false),
        (need("cores", "Lt", &["17"]), true),
        (need("cores", "Lt", &["16"]), false),
        (need("missing", "Gt", &["0"]), false),
        (need("missing", "Lt", &["0"]), false),
        (need("disktype", "Gt", &["0"]), false),
        (need("empty", "In", &[""]), true),
        (need("cores", "Gt", &["015"]), true),
        (need("cores", "Lt", &["9223372036854775807"]), true),
    ];
    for (requirement, matches) in table {
        assert_eq!(
            labels(std::slice::from_ref(&requirement)).matches(&node),
            matches,
            "{requirement:?}"
        );
    }
}

#[test]
fn what_the_api_would_refuse_matches_nothing() {
    let node = labelled(&[("disktype", "ssd"), ("cores", "16")]);
    let wrong = [
        need("disktype", "In", &[]),
        need("missing", "NotIn", &[]),
        need("disktype", "Exists", &["ssd"]),
        need("missing", "DoesNotExist", &["ssd"]),
        need("cores", "Gt", &[]),
        need("cores", "Gt", &["1", "2"]),
        need("cores", "Gt", &["many"]),
        need("cores", "Lt", &["1.5e3"]),
        need("cores", "Lt", &["9223372036854775808"]),
        need("cores", "Gt", &["-1"]),
        need("cores", "Gt", &["+1"]),
        need("not a key", "Exists", &[]),
        need("missing", "NotIn", &["not/a/value"]),
        need("disktype", "Near", &["ssd"]),
    ];
    for requirement in wrong {
        assert!(
            !labels(std::slice::from_ref(&requirement)).matches(&node),
            "{requirement:?}"
        );
        let beside = affinity(&[
            labels(&[requirement]),
            labels(&[need("disktype", "Exists", &[])]),
        ]);
        assert!(
            beside.selects(&node),
            "a wrong term does not spoil the next"
        );
    }
}

#[test]
fn expressions_of_a_term_must_all_hold_and_terms_are_alternatives() {
    let node = labelled(&[
        ("topology.kubernetes.io/zone", "antarctica-east1"),
        ("disktype", "ssd"),
    ]);
    let here = need(
        "topology.kubernetes.io/zone",
        "In",
        &["antarctica-east1", "antarctica-west1"],
    );
    let elsewhere = need("topology.kubernetes.io/zone", "In", &["arctic"]);
    let ssd = need("disktype", "In", &["ssd"]);
    assert!(affinity(&[labels(&[here.clone(), ssd.clone()])]).selects(&node));
    assert!(!affinity(&[labels(&[elsewhere.clone(), ssd.clone()])]).selects(&node));
    assert!(
        affinity(&[
            labels(std::slice::from_ref(&elsewhere)),
            labels(std::slice::from_ref(&ssd))
        ])
        .selects(&node)
    );
    assert!(!affinity(&[labels(&[elsewhere])]).selects(&node));
}

#[test]
fn an_empty_term_and_no_terms_match_nothing_but_no_affinity_matches_all() {
    let node = labelled(&[("disktype", "ssd")]);
    assert!(!affinity(&[]).selects(&node));
    assert!(!affinity(&[Term::default()]).selects(&node));
    assert!(
        affinity(&[Term::default(), labels(&[need("disktype", "Exists", &[])])]).selects(&node)
    );
    assert!(Constraints::default().selects(&node));
}

#[test]
fn fields_know_the_name_only_and_join_the_labels_of_their_term() {
    let node = labelled(&[("disktype", "ssd")]);
    assert!(fields(&[need("metadata.name", "In", &["n1"])]).matches(&node));
    assert!(!fields(&[need("metadata.name", "In", &["n2"])]).matches(&node));
    assert!(fields(&[need("metadata.name", "NotIn", &["n2"])]).matches(&node));
    assert!(!fields(&[need("metadata.name", "NotIn", &["n1"])]).matches(&node));
    assert!(
        !fields(&[need("metadata.name", "In", &["n1", "n2"])]).matches(&node),
        "one value only"
    );
    assert!(!fields(&[need("metadata.name", "Exists", &[])]).matches(&node));
    assert!(!fields(&[need("spec.nodeName", "In", &["n1"])]).matches(&node));
    let both = |disk: &str| Term {
        match_expressions: vec![need("disktype", "In", &[disk])],
        match_fields: vec![need("metadata.name", "In", &["n1"])],
    };
    assert!(both("ssd").matches(&node));
    assert!(!both("hdd").matches(&node));
}

#[test]
fn node_selector_and_affinity_must_both_hold() {
    let node = labelled(&[("disktype", "ssd"), ("gpu", "true")]);
    let selector = |value: &str| BTreeMap::from([("gpu".to_owned(), value.to_owned())]);
    let terms = Some(vec![labels(&[need("disktype", "In", &["ssd"])])]);
    let constraints = |value: &str| Constraints {
        node_selector: selector(value),
        node_affinity: terms.clone(),
        ..Constraints::default()
    };
    assert!(constraints("true").selects(&node));
    assert!(!constraints("false").selects(&node));
    let absent = Constraints {
        node_selector: BTreeMap::from([("other".into(), String::new())]),
        ..Constraints::default()
    };
    assert!(
        !absent.selects(&node),
        "an absent label is not an empty one"
    );
}

fn taint(key: &str, value: &str, effect: &str) -> Taint {
    Taint {
        key: key.into(),
        value: value.into(),
        effect: effect.into(),
    }
}

fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
    let effect = (!effect.is_empty()).then(|| effect.into());
    Toleration {
        key: key.into(),
        operator: operator.into(),
        value: value.into(),
        effect,
    }
}

#[test]
fn tolerations_match_by_key_value_and_effect() {
    let taint = taint("key1", "value1", "NoSchedule");
    let table = [
        (toleration("key1", "Equal", "value1", "NoSchedule"), true),
        (toleration("key1", "", "value1", "NoSchedule"), true),
        (toleration("key1", "Exists", "", "NoSchedule"), true),
        (toleration("key1", "Equal", "value1", ""), true),
        (toleration("", "Exists", "", ""), true),
        (toleration("", "Exists", "", "NoExecute"), false),
        (toleration("key1", "Equal", "value2", "NoSchedule"), false),
        (toleration("key2", "Exists", "", "NoSchedule"), false),
        (toleration("key1", "Equal", "value1", "NoExecute"), false),
        (toleration("key1", "Near", "value1", "NoSchedule"), false),
    ];
    for (toleration, tolerates) in table {
        assert_eq!(toleration.tolerates(&taint), tolerates, "{toleration:?}");
    }
}

#[test]
fn tolerations_by_number() {
    let level = |value: &str| taint("sla", value, "NoExecute");
    assert!(toleration("sla", "Gt", "900", "NoExecute").tolerates(&level("950")));
    assert!(!toleration("sla", "Gt", "950", "NoExecute").tolerates(&level("950")));
    assert!(toleration("sla", "Lt", "960", "").tolerates(&level("950")));
    assert!(!toleration("sla", "Lt", "960", "").tolerates(&level("high")));
}

#[test]
fn every_hard_taint_needs_its_toleration_and_soft_ones_none() {
    let mut node = labelled(&[]);
    node.taints = vec![
        taint("a", "", "PreferNoSchedule"),
        taint("b", "1", "NoSchedule"),
        taint("c", "", "NoExecute"),
    ];
    let with = |tolerations: &[Toleration]| Constraints {
        tolerations: tolerations.to_vec(),
        ..Constraints::default()
    };
    let b = toleration("b", "Equal", "1", "NoSchedule");
    let c = toleration("c", "Exists", "", "");
    assert_eq!(
        with(&[])
            .untolerated(&node)
            .map(ToString::to_string)
            .as_deref(),
        Some("b=1:NoSchedule")
    );
    assert_eq!(
        with(std::slice::from_ref(&b))
            .untolerated(&node)
            .map(ToString::to_string)
            .as_deref(),
        Some("c:NoExecute")
    );
    assert_eq!(with(&[b, c]).untolerated(&node), None);
}
