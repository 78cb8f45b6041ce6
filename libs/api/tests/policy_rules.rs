//! The rules of `StoragePolicy`'s schema: each compiles, holds for the examples, and refuses what it says it refuses, in its own words.
//!
//! Evaluated as the API server does it, at every part of the schema that the object has. Quantities are Kubernetes' functions, here by our
//! own parser.

#![allow(
    clippy::panic,
    reason = "a test; the lint's exception for tests does not reach its helper functions"
)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use cel::extractors::This;
use cel::{Context, Env, Program};
use hawser_api::quantity::{self, QuantityError};
use serde_json::{Value, json};

fn schema() -> Value {
    let crd = hawser_api::crd::definitions()
        .into_iter()
        .find(|crd| crd.spec.names.kind == "StoragePolicy")
        .expect("it is defined");
    let version = crd.spec.versions.into_iter().next().expect("one version");
    let schema = version.schema.and_then(|s| s.open_api_v3_schema);
    serde_json::to_value(schema.expect("a schema")).expect("a schema is JSON")
}

/// The rule, compiled once for a test: that takes longer than all the rest.
fn compiled(rule: &str) -> Result<Rc<Program>, String> {
    thread_local! {
        static KNOWN: RefCell<HashMap<String, Rc<Program>>> = RefCell::default();
    }
    if let Some(program) = KNOWN.with_borrow(|known| known.get(rule).cloned()) {
        return Ok(program);
    }
    let program = Env::stdlib().compile(rule);
    let program = Rc::new(program.map_err(|e| format!("{rule}: {e}"))?);
    KNOWN.with_borrow_mut(|known| known.insert(rule.to_owned(), program.clone()));
    Ok(program)
}

/// Whether the rule holds for the value; `Err`: it can't be evaluated.
fn holds(rule: &str, value: &Value) -> Result<bool, String> {
    let program = compiled(rule)?;
    let mut context = Context::with_env(Arc::new(Env::stdlib()));
    let parsed = |text: &str| match quantity::parse(text) {
        Ok(number) => Some(number),
        Err(QuantityError::Negative(_)) => Some(-1),
        Err(QuantityError::TooLarge(_)) => Some(i64::MAX),
        Err(QuantityError::Malformed(_)) => None,
    };
    let functions = [
        context.add_function("isQuantity", move |text: Arc<String>| {
            parsed(&text).is_some()
        }),
        context.add_function("quantity", move |text: Arc<String>| {
            parsed(&text).expect("rules ask isQuantity first")
        }),
        context.add_function("compareTo", |This(a): This<i64>, b: i64| a.cmp(&b) as i64),
    ];
    for added in functions {
        added.map_err(|e| format!("{e:?}"))?;
    }
    context
        .add_variable("self", value)
        .map_err(|e| e.to_string())?;
    match program.execute(&context) {
        Ok(cel::Value::Bool(outcome)) => Ok(outcome),
        other => Err(format!("{rule}: {other:?}")),
    }
}

/// The messages of all rules that the value breaks, in the order of the schema.
fn broken(schema: &Value, value: &Value) -> Vec<String> {
    let mut messages = Vec::new();
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let text = rule["rule"].as_str().expect("a rule has a text");
        if !holds(text, value).unwrap_or_else(|error| panic!("{error}")) {
            messages.push(rule["message"].as_str().expect("a message").to_owned());
        }
    }
    for (name, part) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(member) = value.get(name) {
            messages.extend(broken(part, member));
        }
    }
    for item in value.as_array().into_iter().flatten() {
        messages.extend(broken(&schema["items"], item));
    }
    messages
}

fn refused(spec: &Value) -> Vec<String> {
    broken(&schema(), &json!({ "spec": spec }))
}

/// All rules of a schema.
fn rules(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            let own = members.get("x-kubernetes-validations");
            for rule in own.and_then(Value::as_array).into_iter().flatten() {
                found.push(rule["rule"].as_str().expect("a rule").to_owned());
            }
            members.values().for_each(|member| rules(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| rules(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_rule_compiles_and_has_a_message_of_its_own() {
    let mut all = Vec::new();
    rules(&schema(), &mut all);
    assert_eq!(all.len(), 22, "{all:#?}");
    for rule in all {
        assert_eq!(compiled(&rule).err(), None);
    }
}

#[test]
fn sensible_policies_pass() {
    for spec in [
        json!({ "mode": "Enforce", "locality": "Required" }),
        json!({ "mode": "Warn", "restrict": { "size": { "max": "10Gi" } } }),
        json!({ "mode": "Audit", "restrict": { "replicas": { "min": 2 } }, "match": {
            "classes": ["fast"],
            "namespaces": { "names": ["shop"], "selector": { "matchExpressions": [
                { "key": "team", "operator": "In", "values": ["a", "b"] }, { "key": "x", "operator": "Exists" }
            ] } },
            "claims": { "matchLabels": { "tier": "db" } }
        } }),
        json!({
            "mode": "Enforce", "priority": 10,
            "restrict": {
                "classes": ["fast", "slow"], "encryption": "Required",
                "qos": { "maxIops": "1000", "maxThroughput": "200Mi" },
                "replicas": { "min": 1, "max": 1 }, "size": { "min": "1Gi", "max": "1Ti" }
            },
            "defaults": { "className": "slow", "size": "10Gi" }
        }),
    ] {
        assert_eq!(refused(&spec), Vec::<String>::new(), "{spec}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_wrong_policy_is_told_what_is_wrong_and_what_would_be_right() {
    for (spec, message) in [
        (
            json!({ "mode": "Enforce" }),
            "a policy needs at least one of",
        ),
        (
            json!({ "mode": "Warn", "defaults": { "size": "1Gi" } }),
            "defaults and locality change what is asked for",
        ),
        (
            json!({ "mode": "Audit", "locality": "Required" }),
            "defaults and locality change what is asked for",
        ),
        (
            json!({ "mode": "Warn", "match": { "classes": ["a"] }, "restrict": { "classes": ["b"] } }),
            "match.classes and restrict.classes exclude each other",
        ),
        (
            json!({ "mode": "Enforce", "match": { "classes": ["a"] }, "defaults": { "className": "a" } }),
            "match.classes and defaults.className exclude each other",
        ),
        (
            json!({ "mode": "Enforce", "restrict": { "classes": ["a"] }, "defaults": { "className": "b" } }),
            "defaults.className must be one of restrict.classes",
        ),
        (
            json!({ "mode": "Enforce", "restrict": { "size": { "max": "1Gi" } }, "defaults": { "size": "1.5Gi" } }),
            "defaults.size must not be above restrict.size.max",
        ),
        (
            json!({ "mode": "Enforce", "restrict": { "size": { "min": "1Gi" } }, "defaults": { "size": "512Mi" } }),
            "defaults.size must not be below restrict.size.min",
        ),
        (
            json!({ "mode": "Warn", "match": { "namespaces": {} }, "restrict": { "encryption": "Required" } }),
            "namespaces needs names or a selector",
        ),
        (
            json!({ "mode": "Warn", "restrict": { "encryption": "Required" }, "match": { "claims": { "matchExpressions": [
                { "key": "a", "operator": "In" }
            ] } } }),
            "In and NotIn need values",
        ),
        (
            json!({ "mode": "Warn", "restrict": { "encryption": "Required" }, "match": { "namespaces": { "selector": {
                "matchExpressions": [{ "key": "a", "operator": "Exists", "values": ["b"] }]
            } } } }),
            "In and NotIn need values",
        ),
        (
            json!({ "mode": "Warn", "restrict": {} }),
            "restrict needs at least one of",
        ),
        (
            json!({ "mode": "Warn", "restrict": { "qos": {} } }),
            "qos needs maxIops or maxThroughput",
        ),
        (
            json!({ "mode": "Warn", "restrict": { "qos": { "maxIops": "many" } } }),
            "maxIops must be a quantity",
        ),
        (
            json!({ "mode": "Warn", "restrict": { "qos": { "maxThroughput": "0" } } }),
            "maxThroughput must be a quantity",
        ),
        (
            json!({ "mode": "Warn", "restrict": { "replicas": {} } }),
            "replicas needs min or max",
        ),
        (
            json!({ "mode": "Warn", "restrict": { "replicas": { "min": 2, "max": 1 } } }),
            "replicas.min must not be above replicas.max",
        ),
        (
            json!({ "mode": "Warn", "restrict": { "size": {} } }),
            "size needs min or max",
        ),
        (
            json!({ "mode": "Warn", "restrict": { "size": { "min": "-1Gi" } } }),
            "size.min must be a quantity above 0",
        ),
        (
            json!({ "mode": "Warn", "restrict": { "size": { "max": "10 GB" } } }),
            "size.max must be a quantity above 0",
        ),
        (
            json!({ "mode": "Warn", "restrict": { "size": { "min": "2Gi", "max": "1Gi" } } }),
            "size.min must not be above size.max",
        ),
        (
            json!({ "mode": "Enforce", "defaults": {} }),
            "defaults needs className or size",
        ),
        (
            json!({ "mode": "Enforce", "defaults": { "size": "big" } }),
            "defaults.size must be a quantity above 0",
        ),
    ] {
        let messages = refused(&spec);
        let [only] = messages.as_slice() else {
            panic!("{spec}: {messages:?}")
        };
        assert!(only.starts_with(message), "{spec}: {only}");
    }
}

/// The API server refuses a definition whose rules could cost too much; what has no limit counts as huge.
#[test]
fn whatever_a_rule_reads_has_a_limit() {
    fn look(schema: &Value, path: &str, found: &mut Vec<String>) {
        let limited = match schema["type"].as_str() {
            Some("string") => ["maxLength", "format", "enum"]
                .iter()
                .any(|k| !schema[k].is_null()),
            Some("array") => !schema["maxItems"].is_null(),
            Some("object") if !schema["additionalProperties"].is_null() => {
                !schema["maxProperties"].is_null()
            }
            _ => true,
        };
        if !limited {
            found.push(path.to_owned());
        }
        for (name, part) in schema["properties"].as_object().into_iter().flatten() {
            look(part, &format!("{path}.{name}"), found);
        }
        if !schema["items"].is_null() {
            look(&schema["items"], &format!("{path}[]"), found);
        }
    }
    let schema = schema();
    let mut found = Vec::new();
    look(&schema["properties"]["spec"], "spec", &mut found);
    assert_eq!(found, Vec::<String>::new());
    assert_eq!(schema["required"], json!(["spec"]));
    assert_eq!(schema["properties"]["spec"]["required"], json!(["mode"]));
}
