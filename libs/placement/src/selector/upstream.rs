//! What Kubernetes' own tests and documentation say of node affinity and tolerations, case by case, with the source of each:
//! - `nodeaffinity`: component-helpers, `scheduling/corev1/nodeaffinity/nodeaffinity_test.go`
//! - `helpers`: component-helpers, `scheduling/corev1/helpers_test.go`
//! - `toleration`: api, `core/v1/toleration_test.go`
//! - `labels`: apimachinery, `pkg/labels/selector_test.go`
//! - `assign`, `taints`: the pages "Assigning Pods to Nodes" and "Taints and Tolerations"

use std::sync::Arc;

use super::*;

/// (source, labels and name of the node, node selector, terms of the affinity, whether the node is selected)
type Case<'a> = (
    &'a str,
    &'a [(&'a str, &'a str)],
    &'a [(&'a str, &'a str)],
    Option<Vec<Term>>,
    bool,
);

fn node(name: &str, labels: &[(&str, &str)]) -> Node {
    let labels = labels
        .iter()
        .map(|(key, value)| (Name::from(*key), Name::from(*value)))
        .collect();
    Node {
        labels: Arc::new(labels),
        ..Node::new(name)
    }
}

fn need(key: &str, operator: &str, values: &[&str]) -> Requirement {
    Requirement {
        key: key.into(),
        operator: operator.into(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    }
}

fn term(labels: &[Requirement], fields: &[Requirement]) -> Term {
    Term {
        match_expressions: labels.to_vec(),
        match_fields: fields.to_vec(),
    }
}

fn by_labels(labels: &[Requirement]) -> Term {
    term(labels, &[])
}

fn named(name: &str) -> Requirement {
    need("metadata.name", "In", &[name])
}

fn check(name: &str, cases: Vec<Case<'_>>) {
    for (source, labels, selector, node_affinity, selected) in cases {
        let constraints = Constraints {
            node_selector: selector
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            node_affinity,
            tolerations: Vec::new(),
        };
        let node = node(name, labels);
        assert_eq!(constraints.selects(&node), selected, "{source}");
    }
}

const FOO: &[(&str, &str)] = &[("foo", "bar")];
const GPU: &[(&str, &str)] = &[("GPU", "NVIDIA-GRID-K1")];

#[test]
fn the_node_selector() {
    let more: &[(&str, &str)] = &[("foo", "bar"), ("baz", "blah")];
    check(
        "",
        vec![
            ("nodeaffinity: no selector", &[], &[], None, true),
            ("nodeaffinity: missing labels", &[], FOO, None, false),
            ("nodeaffinity: same labels", FOO, FOO, None, true),
            (
                "nodeaffinity: node labels are superset",
                more,
                FOO,
                None,
                true,
            ),
            (
                "nodeaffinity: node labels are subset",
                FOO,
                more,
                None,
                false,
            ),
        ],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn operators_on_labels() {
    let one = |key: &str, operator: &str, values: &[&str]| {
        Some(vec![by_labels(&[need(key, operator, values)])])
    };
    let kernel: &[(&str, &str)] = &[("kernel-version", "0206")];
    let memory: &[(&str, &str)] = &[("mem-type", "DDR3")];
    let zone: &[(&str, &str)] = &[("topology.kubernetes.io/zone", "antarctica-west1")];
    let numbers: &[(&str, &str)] = &[("x", "20"), ("word", "a"), ("negative", "-1")];
    let east_west = &["antarctica-east1", "antarctica-west1"];
    check(
        "",
        vec![
            (
                "nodeaffinity: In that matches",
                FOO,
                &[],
                one("foo", "In", &["bar", "value2"]),
                true,
            ),
            (
                "nodeaffinity: Gt that matches",
                kernel,
                &[],
                one("kernel-version", "Gt", &["0204"]),
                true,
            ),
            (
                "nodeaffinity: NotIn that matches",
                memory,
                &[],
                one("mem-type", "NotIn", &["DDR", "DDR2"]),
                true,
            ),
            (
                "nodeaffinity: Exists that matches",
                GPU,
                &[],
                one("GPU", "Exists", &[]),
                true,
            ),
            (
                "nodeaffinity: affinity that doesn't match",
                FOO,
                &[],
                one("foo", "In", &["value1", "value2"]),
                false,
            ),
            (
                "nodeaffinity: an invalid value in affinity term",
                FOO,
                &[],
                one("foo", "NotIn", &["invalid value: ___@#$%^"]),
                false,
            ),
            (
                "nodeaffinity: Exists with values",
                FOO,
                &[],
                one("foo", "Exists", &["bar", "baz"]),
                false,
            ),
            (
                "nodeaffinity: invalid key",
                &[("invalid key", "label_value")],
                &[],
                one("invalid key", "In", &["label_value"]),
                false,
            ),
            (
                "assign: zone in one of two",
                zone,
                &[],
                one("topology.kubernetes.io/zone", "In", east_west),
                true,
            ),
            (
                "assign: NotIn is for anti-affinity, and holds without the label",
                &[],
                &[],
                one("foo", "NotIn", &["bar"]),
                true,
            ),
            (
                "assign: DoesNotExist",
                &[],
                &[],
                one("foo", "DoesNotExist", &[]),
                true,
            ),
            (
                "assign: DoesNotExist of a label that is there",
                FOO,
                &[],
                one("foo", "DoesNotExist", &[]),
                false,
            ),
            (
                "labels: x>10 of 20",
                numbers,
                &[],
                one("x", "Gt", &["10"]),
                true,
            ),
            (
                "labels: x<10 of 20",
                numbers,
                &[],
                one("x", "Lt", &["10"]),
                false,
            ),
            (
                "labels: x<30 of 20",
                numbers,
                &[],
                one("x", "Lt", &["30"]),
                true,
            ),
            (
                "labels: Gt of what is no number",
                numbers,
                &[],
                one("word", "Gt", &["1"]),
                false,
            ),
            (
                "labels: Lt of a missing label",
                numbers,
                &[],
                one("missing", "Lt", &["1"]),
                false,
            ),
            (
                "labels: a label below zero can't be, but would compare",
                numbers,
                &[],
                one("negative", "Lt", &["0"]),
                true,
            ),
            (
                "labels: values must be values of labels, so no sign",
                numbers,
                &[],
                one("x", "Gt", &["-5"]),
                false,
            ),
            (
                "labels: Gt with a fraction",
                numbers,
                &[],
                one("x", "Gt", &["1.1"]),
                false,
            ),
            (
                "labels: Gt with two values",
                numbers,
                &[],
                one("x", "Gt", &["1", "2"]),
                false,
            ),
            (
                "labels: In without values",
                numbers,
                &[],
                one("x", "In", &[]),
                false,
            ),
            (
                "labels: NotIn without values",
                numbers,
                &[],
                one("missing", "NotIn", &[]),
                false,
            ),
        ],
    );
}

#[test]
fn and_within_a_term_or_between_terms() {
    let both = |values: &[&str], operator: &str| {
        let labels = [need("GPU", "Exists", &[]), need("GPU", operator, values)];
        Some(vec![by_labels(&labels)])
    };
    let two_terms = vec![
        by_labels(&[need("foo", "In", &["bar", "value2"])]),
        by_labels(&[need("diffkey", "In", &["wrong", "value2"])]),
    ];
    let exists = || Some(vec![by_labels(&[need("foo", "Exists", &[])])]);
    check(
        "",
        vec![
            (
                "nodeaffinity: multiple matchExpressions ANDed that match",
                GPU,
                &[],
                both(&["AMD", "INTER"], "NotIn"),
                true,
            ),
            (
                "nodeaffinity: multiple matchExpressions ANDed that don't",
                GPU,
                &[],
                both(&["AMD", "INTER"], "In"),
                false,
            ),
            (
                "nodeaffinity: multiple NodeSelectorTerms ORed",
                FOO,
                &[],
                Some(two_terms),
                true,
            ),
            (
                "nodeaffinity: affinity and node selector both satisfied",
                FOO,
                FOO,
                exists(),
                true,
            ),
            (
                "nodeaffinity: affinity matches, node selector does not",
                &[("foo", "barrrrrr")],
                FOO,
                exists(),
                false,
            ),
            (
                "nodeaffinity: nil and empty NodeSelectorTerms",
                FOO,
                &[],
                Some(Vec::new()),
                false,
            ),
            (
                "nodeaffinity: empty MatchExpressions",
                FOO,
                &[],
                Some(vec![Term::default()]),
                false,
            ),
            (
                "nodeaffinity: affinity but nil NodeSelector",
                FOO,
                &[],
                None,
                true,
            ),
        ],
    );
}

#[test]
fn fields_of_the_node() {
    let by_fields = |fields: &[Requirement]| Some(vec![term(&[], fields)]);
    let foo = || need("foo", "In", &["bar"]);
    let wrong = || need("foo", "In", &["not-match-to-bar"]);
    let label = |name: &str| Some(vec![by_labels(&[named(name)])]);
    let both = |name: &str| Some(vec![term(&[foo()], &[named(name)])]);
    let either = |name: &str, label| Some(vec![term(&[], &[named(name)]), by_labels(&[label])]);
    let two_names = need("metadata.name", "In", &["node_1", "host_2"]);
    check(
        "node_1",
        vec![
            (
                "nodeaffinity: matchFields In that matches",
                &[],
                &[],
                by_fields(&[named("node_1")]),
                true,
            ),
            (
                "nodeaffinity: matchFields In that does not match",
                &[],
                &[],
                by_fields(&[named("node_2")]),
                false,
            ),
            (
                "nodeaffinity: two terms, only matchExpressions matches",
                FOO,
                &[],
                either("node_2", foo()),
                true,
            ),
            (
                "nodeaffinity: one term, only matchExpressions matches",
                FOO,
                &[],
                both("node_2"),
                false,
            ),
            (
                "nodeaffinity: one term, both match",
                FOO,
                &[],
                both("node_1"),
                true,
            ),
            (
                "nodeaffinity: two terms, neither matches",
                FOO,
                &[],
                either("node_2", wrong()),
                false,
            ),
            (
                "nodeaffinity: second term matches, by its fields",
                &[],
                &[],
                either("node_1", foo()),
                true,
            ),
            (
                "helpers: invalid node field requirement, two values",
                &[],
                &[],
                by_fields(&[two_names]),
                false,
            ),
            (
                "helpers: field selector does not look at labels",
                &[("metadata.name", "other")],
                &[],
                by_fields(&[named("other")]),
                false,
            ),
            (
                "helpers: label selector does not look at fields",
                &[],
                &[],
                label("node_1"),
                false,
            ),
            (
                "helpers: labels and fields set, only the fields there",
                &[],
                &[],
                both("node_1"),
                false,
            ),
        ],
    );
}

fn a_taint(key: &str, value: &str, effect: &str) -> Taint {
    Taint {
        key: key.into(),
        value: value.into(),
        effect: effect.into(),
    }
}

fn a_toleration(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
    Toleration {
        key: key.into(),
        operator: operator.into(),
        value: value.into(),
        effect: (!effect.is_empty()).then(|| effect.into()),
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn one_toleration_and_one_taint() {
    const NO: &str = "NoSchedule";
    let sla = |value: &str| a_taint("node.kubernetes.io/sla", value, NO);
    let for_sla =
        |operator: &str, value: &str| a_toleration("node.kubernetes.io/sla", operator, value, NO);
    let numbered = |operator: &str, value: &str| a_toleration("test-key", operator, value, NO);
    let large = "9223372036854775806";
    let cases = [
        (
            "toleration: Exists, taint without value",
            a_toleration("foo", "Exists", "", NO),
            a_taint("foo", "", NO),
            true,
        ),
        (
            "toleration: Exists, taint with value",
            a_toleration("foo", "Exists", "", NO),
            a_taint("foo", "bar", NO),
            true,
        ),
        (
            "toleration: empty key and Exists",
            a_toleration("", "Exists", "", NO),
            a_taint("foo", "bar", NO),
            true,
        ),
        (
            "toleration: Equal, same",
            a_toleration("foo", "Equal", "bar", NO),
            a_taint("foo", "bar", NO),
            true,
        ),
        (
            "toleration: Equal, other value",
            a_toleration("foo", "Equal", "value1", NO),
            a_taint("foo", "value2", NO),
            false,
        ),
        (
            "toleration: Equal, other effect",
            a_toleration("foo", "Equal", "bar", NO),
            a_taint("foo", "bar", "NoExecute"),
            false,
        ),
        (
            "toleration: Gt, taint less",
            for_sla("Gt", "950"),
            sla("800"),
            false,
        ),
        (
            "toleration: Gt, taint greater",
            for_sla("Gt", "750"),
            sla("950"),
            true,
        ),
        (
            "toleration: Lt, taint greater",
            for_sla("Lt", "800"),
            sla("950"),
            false,
        ),
        (
            "toleration: Lt, taint less",
            for_sla("Lt", "950"),
            sla("800"),
            true,
        ),
        (
            "toleration: Gt, equal",
            for_sla("Gt", "950"),
            sla("950"),
            false,
        ),
        (
            "toleration: Gt, not numeric",
            for_sla("Gt", "950"),
            sla("high"),
            false,
        ),
        (
            "toleration: Gt, negative",
            numbered("Gt", "-100"),
            a_taint("test-key", "-200", NO),
            false,
        ),
        (
            "toleration: Gt, negative, greater",
            numbered("Gt", "-300"),
            a_taint("test-key", "-200", NO),
            true,
        ),
        (
            "toleration: Gt, large",
            numbered("Gt", large),
            a_taint("test-key", "100", NO),
            false,
        ),
        (
            "taints: an empty effect matches all effects of the key",
            a_toleration("key1", "Exists", "", ""),
            a_taint("key1", "v", "NoExecute"),
            true,
        ),
        (
            "taints: the default operator is Equal",
            a_toleration("key1", "", "value1", NO),
            a_taint("key1", "value1", NO),
            true,
        ),
        (
            "taints: Equal without value is for a taint without value",
            a_toleration("key1", "", "", NO),
            a_taint("key1", "", NO),
            true,
        ),
        (
            "taints: keys are compared whole",
            a_toleration("key1", "Exists", "", NO),
            a_taint("key11", "", NO),
            false,
        ),
    ];
    for (source, toleration, taint, tolerated) in cases {
        assert_eq!(toleration.tolerates(&taint), tolerated, "{source}");
    }
}

/// The example of the page "Taints and Tolerations": three taints, two of them tolerated.
#[test]
fn what_is_left_when_tolerated_taints_are_ignored() {
    let taints = |third: &str| {
        vec![
            a_taint("key1", "value1", "NoSchedule"),
            a_taint("key1", "value1", "NoExecute"),
            a_taint("key2", "value2", third),
        ]
    };
    let constraints = Constraints {
        tolerations: vec![
            a_toleration("key1", "Equal", "value1", "NoSchedule"),
            a_toleration("key1", "Equal", "value1", "NoExecute"),
        ],
        ..Constraints::default()
    };
    let untolerated = |third: &str| {
        let node = Node {
            taints: taints(third),
            ..Node::new("n")
        };
        constraints.untolerated(&node).map(ToString::to_string)
    };
    assert_eq!(
        untolerated("NoSchedule").as_deref(),
        Some("key2=value2:NoSchedule"),
        "there is no toleration matching the third taint"
    );
    assert_eq!(
        untolerated("PreferNoSchedule"),
        None,
        "taints: the scheduler tries to avoid the node, but may use it"
    );
    assert_eq!(
        untolerated("SomethingNew"),
        None,
        "the scheduler looks at NoSchedule and NoExecute only"
    );
}
