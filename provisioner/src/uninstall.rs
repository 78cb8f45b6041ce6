//! The guard against deleting the CRDs while there are volumes.
//!
//! Deleting a CRD deletes its objects: here the cluster's knowledge of whose data lies where, and with no controller left to drop
//! their finalizers the delete would hang half way. So the API server is told to refuse it, by admission policies that take our
//! objects as parameters: asked once for each volume, the answer is no; without a volume nobody is asked.
//!
//! The policies are not among the manifests, since what deletes the manifests would take them along, and a second try would find
//! nothing in its way. They belong to a CRD instead (owner reference), and go when it goes.

use std::time::Duration;

use hawser_runtime::telemetry::chain;
use k8s_openapi::{
    api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Whose going ends the guard.
const OWNER: &str = "localvolumes.hwameistor.io";
/// Kinds whose objects keep the CRDs: each of them has a finalizer of ours.
const KINDS: [&str; 3] = ["LocalVolume", "LocalVolumeReplica", "LocalVolumeGroup"];
const MANAGER: &str = "hawser-uninstall-guard";
/// Someone may have deleted the guard by hand.
const AGAIN: Duration = Duration::from_secs(600);
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Keeps the guard in place until `stop`. That it can't is told in the log once; nothing else waits for it.
pub(crate) async fn keep_guard(client: Client, stop: CancellationToken) {
    let mut told = false;
    loop {
        let pause = match ensure(&client).await {
            Ok(()) => {
                told = false;
                AGAIN
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(
                        error = %chain(&error),
                        "CRDs are not guarded against deletion while volumes exist"
                    );
                }
                AFTER_FAILURE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Writes the guard as it should be. Without the CRD there is nothing to guard.
async fn ensure(client: &Client) -> kube::Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let Some(owner) = crds.get_opt(OWNER).await? else {
        return Ok(());
    };
    if owner.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let uid = owner.uid().unwrap_or_default();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let apply = PatchParams::apply(MANAGER).force();
    for kind in KINDS {
        let name = name(kind);
        policies
            .patch(&name, &apply, &Patch::Apply(policy(kind, &uid)))
            .await?;
        bindings
            .patch(&name, &apply, &Patch::Apply(binding(kind, &uid)))
            .await?;
    }
    Ok(())
}

fn name(kind: &str) -> String {
    format!("hwameistor-uninstall-guard-{}s", kind.to_lowercase())
}

fn metadata(kind: &str, uid: &str) -> Value {
    json!({
        "name": name(kind),
        "labels": { "app.kubernetes.io/part-of": "hawser" },
        "ownerReferences": [{
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "name": OWNER, "uid": uid,
        }],
    })
}

fn policy(kind: &str, uid: &str) -> Value {
    let refusal = format!(
        "\"{kind} \" + params.metadata.name + \" still describes data. Delete its claim (and its PersistentVolume, if that is kept) and \
         wait until `kubectl get localvolumes,localvolumereplicas,localvolumegroups` shows none; or, to keep the data, leave the CRDs \
         installed\""
    );
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": metadata(kind, uid),
        "spec": {
            // Once the CRD of the parameters is gone the policy can't be evaluated: the other CRDs may follow.
            "failurePolicy": "Ignore",
            "paramKind": { "apiVersion": "hwameistor.io/v1alpha1", "kind": kind },
            "matchConstraints": { "resourceRules": [{
                "apiGroups": ["apiextensions.k8s.io"], "apiVersions": ["*"], "operations": ["DELETE"],
                "resources": ["customresourcedefinitions"],
            }]},
            "matchConditions": [{ "name": "ours", "expression": "oldObject.spec.group == \"hwameistor.io\"" }],
            "validations": [{ "expression": "false", "reason": "Forbidden", "messageExpression": refusal }],
        },
    })
}

fn binding(kind: &str, uid: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": metadata(kind, uid),
        "spec": {
            "policyName": name(kind),
            "validationActions": ["Deny"],
            "paramRef": { "selector": {}, "parameterNotFoundAction": "Allow" },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_policy_and_a_binding_that_the_api_knows_and_that_go_with_the_crd() {
        for kind in KINDS {
            let policy: ValidatingAdmissionPolicy =
                serde_json::from_value(policy(kind, "u1")).unwrap();
            let binding: ValidatingAdmissionPolicyBinding =
                serde_json::from_value(binding(kind, "u1")).unwrap();
            assert_eq!(policy.owner_references()[0].uid, "u1");
            assert_eq!(binding.owner_references()[0].name, OWNER);
            let bound = binding.spec.unwrap();
            assert_eq!(
                bound.policy_name.as_deref(),
                policy.metadata.name.as_deref()
            );
            let parameters = bound.param_ref.unwrap();
            assert_eq!(
                parameters.parameter_not_found_action.as_deref(),
                Some("Allow")
            );
            let spec = policy.spec.unwrap();
            assert_eq!(spec.param_kind.unwrap().kind.as_deref(), Some(kind));
            assert_eq!(spec.validations.unwrap()[0].expression, "false");
        }
    }
}
