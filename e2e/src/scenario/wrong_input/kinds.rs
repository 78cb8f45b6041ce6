//! Kinds that clusters know and this version does nothing with: none of them can be made, and who tries is told in words of ours.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Map, Value, json};

use super::NAME;
use crate::kit::Scope;
use crate::kit::volumes::delete;

/// Where the manifests say which kinds these are.
const POLICY: &str = include_str!("../../../../manifests/admission/not-served.yaml");

/// Each of them is refused by the API server, by the reason that the manifests give.
pub(super) async fn not_served(scope: &Scope) -> Result<String> {
    let kinds = listed()?;
    for crd in &kinds {
        refused(scope, crd)
            .await
            .with_context(|| format!("kind {}", crd.spec.names.kind))?;
    }
    let names: Vec<&str> = kinds
        .iter()
        .map(|crd| crd.spec.names.kind.as_str())
        .collect();
    Ok(format!("{} kinds: {}", names.len(), names.join(", ")))
}

async fn refused(scope: &Scope, crd: &CustomResourceDefinition) -> Result<()> {
    let (names, version) = (&crd.spec.names, &crd.spec.versions[0]);
    ensure!(
        crd.spec.scope == "Cluster",
        "it lies in a namespace, which this does not know"
    );
    let kind = GroupVersionKind::gvk(&crd.spec.group, &version.name, &names.kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, &names.plural);
    let api: Api<DynamicObject> = Api::all_with(scope.client.clone(), &resource);
    let name = format!("{NAME}-not-served");
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": kind.api_version(), "kind": names.kind, "metadata": { "name": name }, "spec": a_spec(crd)?,
    }))?;
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => {
            delete(&api, &name).await?;
            bail!("the API server takes an object that nothing would come of");
        }
        Err(kube::Error::Api(status)) => ensure!(
            status
                .message
                .contains(&format!("does not serve {}", names.kind)),
            "it is refused with other words: {}",
            status.message
        ),
        Err(error) => return Err(error).context("asking the API server"),
    }
    Ok(())
}

/// The definitions of the kinds that the policy lists.
///
/// # Errors
/// If it lists none, or one that the API does not have.
fn listed() -> Result<Vec<CustomResourceDefinition>> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(POLICY).context("reading the manifest of the policy")?;
    let policy = documents
        .iter()
        .find(|document| document["kind"] == "ValidatingAdmissionPolicy");
    let policy = policy.context("the manifest has no policy")?;
    let mut all = hawser_api::crd::definitions();
    let mut kinds = Vec::new();
    let rules = policy["spec"]["matchConstraints"]["resourceRules"].as_array();
    for rule in rules.into_iter().flatten() {
        for resource in rule["resources"].as_array().into_iter().flatten() {
            let place = all
                .iter()
                .position(|crd| Some(crd.spec.names.plural.as_str()) == resource.as_str());
            let place = place.with_context(|| format!("the API has no kind {resource}"))?;
            kinds.push(all.swap_remove(place));
        }
    }
    ensure!(!kinds.is_empty(), "the policy lists no kind");
    Ok(kinds)
}

/// A spec that the kind's schema takes, since the schema is looked at first.
fn a_spec(crd: &CustomResourceDefinition) -> Result<Value> {
    let schema = crd.spec.versions[0].schema.as_ref();
    let schema = schema.and_then(|schema| schema.open_api_v3_schema.as_ref());
    let schema = serde_json::to_value(schema.context("a kind without a schema")?)?;
    Ok(sample(&schema["properties"]["spec"]))
}

/// The least value that a schema takes: only what is required.
fn sample(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten();
            let fields: Map<String, Value> = required
                .filter_map(Value::as_str)
                .map(|name| (name.to_owned(), sample(&schema["properties"][name])))
                .collect();
            Value::Object(fields)
        }
        Some("array") => json!([]),
        Some("boolean") => json!(false),
        Some("integer" | "number") => {
            let least = schema["minimum"].as_f64().unwrap_or(1.0);
            // Schemas give whole numbers as floating ones.
            serde_json::from_str(&format!("{least:.0}")).unwrap_or_default()
        }
        _ => json!("x"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_the_policy_is_found_with_what_its_schema_requires() {
        let kinds = listed().unwrap();
        let names: Vec<_> = kinds
            .iter()
            .map(|crd| crd.spec.names.kind.clone())
            .collect();
        assert!(
            names.contains(&"LocalVolumeMigrate".to_owned()),
            "{names:?}"
        );
        assert_eq!(
            names.len(),
            POLICY.matches("          - local").count()
                + POLICY.matches("          - resizepolicies").count()
                + POLICY.matches("          - thinpoolclaims").count()
        );
        for crd in kinds {
            a_spec(&crd).unwrap();
        }
    }

    #[test]
    fn samples_have_what_is_required_and_nothing_else() {
        let schema = json!({
            "type": "object", "required": ["a", "b", "c", "d"],
            "properties": {
                "a": { "type": "string", "enum": ["rollback", "create"] },
                "b": { "type": "integer", "minimum": 4_194_304.0 },
                "c": { "type": "object", "required": ["x"], "properties": { "x": { "type": "string" } } },
                "d": { "type": "array", "items": { "type": "string" } },
                "e": { "type": "boolean" },
            },
        });
        let wanted = json!({ "a": "rollback", "b": 4_194_304, "c": { "x": "x" }, "d": [] });
        assert_eq!(sample(&schema), wanted);
    }
}
