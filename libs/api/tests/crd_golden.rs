//! The generated definitions, fact by fact, against what existing clusters and manifests rely on.

#![allow(
    clippy::panic,
    reason = "a test; the lint's exception for tests does not reach its helper functions"
)]

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value};

/// What Hawser adds: optional fields, by kind.
const ADDITIONS: &[(&str, &str)] = &[
    ("LocalDiskClaim", "status.message string"),
    ("LocalVolume", "status.conditions array"),
    ("LocalVolume", "status.conditions[] object"),
    (
        "LocalVolume",
        "status.conditions[].lastTransitionTime string required {\"format\":\"date-time\"}",
    ),
    (
        "LocalVolume",
        "status.conditions[].message string required {\"maxLength\":32768}",
    ),
    (
        "LocalVolume",
        "status.conditions[].observedGeneration integer {\"format\":\"int64\",\"minimum\":0}",
    ),
    (
        "LocalVolume",
        r#"status.conditions[].reason string required {"maxLength":1024,"minLength":1,"pattern":"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"}"#,
    ),
    (
        "LocalVolume",
        r#"status.conditions[].status string required {"enum":["True","False","Unknown"]}"#,
    ),
    (
        "LocalVolume",
        r#"status.conditions[].type string required {"maxLength":316,"pattern":"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"}"#,
    ),
    ("LocalVolumeGroup", "spec.volumes[].poolName string"),
    (
        "LocalVolumeGroup",
        "spec.volumes[].requiredCapacityBytes integer {\"format\":\"int64\"}",
    ),
];

/// What Hawser adds: fields that watches may select by.
const SELECTABLE: &[(&str, &[&str])] = &[
    ("LocalDisk", &[".spec.nodeName", ".spec.preNodeName"]),
    ("LocalDiskClaim", &[".spec.nodeName"]),
    (
        "LocalVolumeReplica",
        &[".spec.nodeName", ".spec.volumeName"],
    ),
];

/// What a schema may say besides the facts.
const CONSTRAINTS: &[&str] = &[
    "format",
    "enum",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
];

/// The kinds that existing clusters know. What Hawser adds is of a group of its own.
fn inherited() -> Vec<CustomResourceDefinition> {
    let all = hawser_api::crd::definitions().into_iter();
    all.filter(|crd| crd.spec.group == hawser_api::names::GROUP)
        .collect()
}

#[test]
fn definitions_say_what_the_api_says() {
    let mut wanted = facts();
    for (kind, addition) in ADDITIONS {
        let lines = wanted
            .get_mut(*kind)
            .expect("additions are made to known kinds");
        assert!(
            lines.insert((*addition).to_owned()),
            "{kind}: {addition} is no addition"
        );
    }
    let generated: BTreeMap<String, BTreeSet<String>> = inherited()
        .iter()
        .map(|crd| (crd.spec.names.kind.clone(), describe(crd)))
        .collect();

    let mut differences = Vec::new();
    for kind in wanted
        .keys()
        .chain(generated.keys())
        .collect::<BTreeSet<_>>()
    {
        let empty = BTreeSet::new();
        let (wanted, generated) = (
            wanted.get(kind).unwrap_or(&empty),
            generated.get(kind).unwrap_or(&empty),
        );
        differences.extend(
            wanted
                .difference(generated)
                .map(|line| format!("{kind}: lacks  {line}")),
        );
        differences.extend(
            generated
                .difference(wanted)
                .map(|line| format!("{kind}: has    {line}")),
        );
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn selectable_fields_are_those_that_watches_use() {
    let selectable: Vec<(String, Vec<String>)> = hawser_api::crd::definitions()
        .into_iter()
        .filter_map(|crd| {
            let fields = crd.spec.versions[0].selectable_fields.clone()?;
            Some((
                crd.spec.names.kind,
                fields.into_iter().map(|field| field.json_path).collect(),
            ))
        })
        .collect();
    let selectable: Vec<(&str, Vec<&str>)> = selectable
        .iter()
        .map(|(kind, paths)| (kind.as_str(), paths.iter().map(String::as_str).collect()))
        .collect();
    let wanted: Vec<(&str, Vec<&str>)> = SELECTABLE
        .iter()
        .map(|(kind, paths)| (*kind, paths.to_vec()))
        .collect();
    assert_eq!(selectable, wanted);
}

#[test]
fn every_definition_is_a_structural_cluster_scoped_single_version() {
    for crd in hawser_api::crd::definitions() {
        assert_eq!(crd.spec.scope, "Cluster");
        let group = match crd.spec.names.kind.as_str() {
            "StoragePolicy" => "hawser.io",
            _ => "hwameistor.io",
        };
        assert_eq!(crd.spec.group, group);
        assert_eq!(
            crd.metadata.name,
            Some(format!("{}.{group}", crd.spec.names.plural))
        );
        let [version] = crd.spec.versions.as_slice() else {
            panic!("one version")
        };
        assert_eq!(
            (version.name.as_str(), version.served, version.storage),
            ("v1alpha1", true, true)
        );
    }
}

/// The facts by kind.
fn facts() -> BTreeMap<String, BTreeSet<String>> {
    let mut kinds = BTreeMap::new();
    let mut kind = String::new();
    let mut columns = 0;
    for line in include_str!("crd_facts.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let mut line = line.to_owned();
        if let Some(rest) = line.strip_prefix("kind ") {
            rest.split(' ')
                .next()
                .expect("split yields one item")
                .clone_into(&mut kind);
            columns = 0;
        } else if line.starts_with("column ") {
            line = format!("{columns}. {line}");
            columns += 1;
        }
        kinds
            .entry(kind.clone())
            .or_insert_with(BTreeSet::new)
            .insert(line);
    }
    kinds
}

/// A definition in the words of the facts; columns are numbered, since their order counts.
fn describe(crd: &CustomResourceDefinition) -> BTreeSet<String> {
    let names = &crd.spec.names;
    let version = &crd.spec.versions[0];
    let mut lines = BTreeSet::new();
    lines.insert(format!(
        "kind {} plural={} singular={} list={} short={} subresources={}",
        names.kind,
        names.plural,
        names.singular.as_deref().unwrap_or_default(),
        names.list_kind.as_deref().unwrap_or_default(),
        names.short_names.clone().unwrap_or_default().join(","),
        if version
            .subresources
            .as_ref()
            .is_some_and(|sub| sub.status.is_some())
        {
            "status"
        } else {
            ""
        },
    ));
    for (n, column) in version
        .additional_printer_columns
        .iter()
        .flatten()
        .enumerate()
    {
        lines.insert(format!(
            "{n}. column {} | {} | {} | {}",
            column.name,
            column.type_,
            column.json_path,
            column.priority.unwrap_or(0)
        ));
    }
    let schema = version
        .schema
        .as_ref()
        .and_then(|schema| schema.open_api_v3_schema.as_ref())
        .expect("a schema");
    let schema = serde_json::to_value(schema).expect("a schema is JSON");
    assert_eq!(schema["type"], "object");
    walk_properties(
        schema.as_object().expect("a schema is an object"),
        "",
        &mut lines,
    );
    lines
}

fn walk_properties(schema: &Map<String, Value>, prefix: &str, lines: &mut BTreeSet<String>) {
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        assert!(
            required.is_empty(),
            "{prefix} requires what it does not have"
        );
        return;
    };
    for (name, property) in properties {
        walk(
            property,
            &format!("{prefix}{name}"),
            required.contains(&name.as_str()),
            lines,
        );
    }
}

fn walk(schema: &Value, path: &str, required: bool, lines: &mut BTreeSet<String>) {
    let schema = schema
        .as_object()
        .unwrap_or_else(|| panic!("{path} is {schema}"));
    let mut constraints = Map::new();
    for (key, value) in schema {
        match key.as_str() {
            "type"
            | "description"
            | "properties"
            | "required"
            | "items"
            | "additionalProperties" => {}
            key if CONSTRAINTS.contains(&key) => {
                constraints.insert(key.to_owned(), whole(value));
            }
            key => panic!("{path} has {key}"),
        }
    }
    let mut line = format!(
        "{path} {}",
        schema["type"].as_str().expect("every part has one type")
    );
    if required {
        line.push_str(" required");
    }
    if !constraints.is_empty() {
        line = format!("{line} {}", Value::Object(constraints));
    }
    lines.insert(line);
    walk_properties(schema, &format!("{path}."), lines);
    if let Some(items) = schema.get("items") {
        walk(items, &format!("{path}[]"), false, lines);
    }
    if let Some(values) = schema.get("additionalProperties") {
        walk(values, &format!("{path}{{}}"), false, lines);
    }
}

/// Limits are floating point numbers in the Rust types of a schema.
fn whole(value: &Value) -> Value {
    match value.as_f64() {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "limits are small whole numbers"
        )]
        Some(number) if number.fract() == 0.0 => Value::from(number as i64),
        _ => value.clone(),
    }
}
