//! What a persistent volume says about where it can be used.

use anyhow::{Context, Result, ensure};
use hawser_api::names;
use k8s_openapi::api::core::v1::PersistentVolume;

/// Checks that a volume can be used on this node and on no other, and that schedulers are told so by the driver's topology key.
pub(super) fn check(volume: &PersistentVolume, node: &str) -> Result<()> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let affinity = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.node_affinity.as_ref())
        .and_then(|affinity| affinity.required.as_ref())
        .with_context(|| {
            format!("persistent volume {name} has no node affinity: it could be used anywhere")
        })?;
    // Terms are alternatives, so each must bind to the node.
    let terms = &affinity.node_selector_terms;
    let binds = !terms.is_empty()
        && terms.iter().all(|term| {
            term.match_expressions.iter().flatten().any(|expression| {
                expression.key == names::LVM_TOPOLOGY_KEY
                    && expression.operator == "In"
                    && expression.values.as_deref() == Some(&[node.to_owned()])
            })
        });
    ensure!(
        binds,
        "persistent volume {name} is on node {node}, and its node affinity is {affinity:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn volume(affinity: &Value) -> PersistentVolume {
        serde_json::from_value(json!({ "metadata": { "name": "pvc-1" }, "spec": affinity }))
            .unwrap()
    }

    fn terms(terms: &Value) -> PersistentVolume {
        volume(&json!({ "nodeAffinity": { "required": { "nodeSelectorTerms": terms } } }))
    }

    fn on(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] })
    }

    #[test]
    fn the_one_node_is_right_and_anything_wider_is_not() {
        let key = names::LVM_TOPOLOGY_KEY;
        let right = on(key, "In", &["n1"]);
        check(&terms(&json!([right])), "n1").unwrap();
        for wrong in [
            json!([]),
            json!([on(key, "In", &["n2"])]),
            json!([on(key, "In", &["n1", "n2"])]),
            json!([on(key, "NotIn", &["n1"])]),
            json!([on("kubernetes.io/hostname", "In", &["n1"])]),
            json!([right, on(key, "In", &["n2"])]),
        ] {
            let error = check(&terms(&wrong), "n1").unwrap_err().to_string();
            assert!(error.contains("is on node n1"), "{error}");
        }
        let error = check(&volume(&json!({})), "n1").unwrap_err().to_string();
        assert!(error.contains("no node affinity"), "{error}");
    }
}
