//! Storage classes of ours. Nothing of a class can be changed but its notes, so only new ones are looked at.

use hawser_api::names;
use hawser_api::parameters::{ParameterError, VolumeClass};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::facts::Driver;
use crate::wire::{Answer, Because};

/// What there is to say of a new class.
pub(crate) fn check(class: &StorageClass, answer: &mut Answer) {
    match Driver::of(&class.provisioner) {
        Driver::Foreign => return,
        Driver::Disk => answer.warnings.push(format!(
            "provisioner {:?}: volumes of whole disks are not served by this version; use {:?}",
            names::DISK_DRIVER,
            names::LVM_DRIVER
        )),
        Driver::Lvm => parameters(class, answer),
    }
    topology(class, answer);
}

fn parameters(class: &StorageClass, answer: &mut Answer) {
    let given = class.parameters.clone().unwrap_or_default();
    match VolumeClass::parse_supported(&given) {
        Ok(_) => {}
        // Right, and served by another version: manifests that clusters have go on applying.
        Err(error @ ParameterError::Unsupported { .. }) => answer
            .warnings
            .push(format!("claims of this class will get no volume: {error}")),
        Err(error) => answer.refuse(Because::Invalid, error.to_string()),
    }
}

/// Volumes are on one node, which Kubernetes knows by our label alone: no other key leads to a place for a volume.
fn topology(class: &StorageClass, answer: &mut Answer) {
    let ours = [names::LVM_TOPOLOGY_KEY, names::DISK_TOPOLOGY_KEY];
    let terms = class.allowed_topologies.iter().flatten();
    let expressions = terms.flat_map(|term| term.match_label_expressions.iter().flatten());
    let other = expressions
        .map(|expression| expression.key.as_str())
        .find(|key| !ours.contains(key));
    if let Some(key) = other {
        answer.refuse(
            Because::Invalid,
            format!(
                "allowedTopologies has the key {key:?}, by which no volume can be placed: use {:?} with names of nodes, or leave it out and \
                 give the pods a node affinity",
                names::LVM_TOPOLOGY_KEY
            ),
        );
        return;
    }
    if class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer") {
        return;
    }
    // A claim that is bound before its pod is known is put anywhere; its pod has to follow.
    answer.warnings.push(
        "volumeBindingMode is Immediate: each volume is placed before its pod is known, and a pod with several of them, or with wishes of \
         its own, may find no node; use WaitForFirstConsumer"
            .to_owned(),
    );
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Refusals and warnings.
    fn said(more: &Value) -> (Vec<String>, Vec<String>) {
        let mut class = json!({
            "metadata": { "name": "c" }, "provisioner": names::LVM_DRIVER,
            "parameters": { "poolClass": "SSD", "replicaNumber": "1" }, "volumeBindingMode": "WaitForFirstConsumer"
        });
        for (key, value) in more.as_object().unwrap() {
            class[key] = value.clone();
        }
        let mut answer = Answer::default();
        check(&serde_json::from_value(class).unwrap(), &mut answer);
        assert!(
            answer
                .refusals
                .iter()
                .all(|(because, _)| *because == Because::Invalid)
        );
        let refusals = answer.refusals.into_iter().map(|(_, sentence)| sentence);
        (refusals.collect(), answer.warnings)
    }

    #[test]
    fn right_classes_and_those_of_others_pass_without_a_word() {
        let nothing = (Vec::new(), Vec::new());
        assert_eq!(said(&json!({})), nothing);
        let topology = json!([{ "matchLabelExpressions": [{ "key": names::LVM_TOPOLOGY_KEY, "values": ["n1"] }] }]);
        assert_eq!(said(&json!({ "allowedTopologies": topology })), nothing);
        let other = json!({ "provisioner": "nfs.example", "parameters": { "x": "y" }, "volumeBindingMode": "Immediate" });
        assert_eq!(said(&other), nothing);
    }

    #[test]
    fn wrong_and_unknown_parameters_are_refused() {
        for (parameters, part) in [
            (json!({ "replicaNumber": "1" }), "\"poolClass\" is missing"),
            (
                json!({ "poolClass": "TAPE", "replicaNumber": "1" }),
                "\"poolClass\" is \"TAPE\": it must be HDD, SSD or NVMe",
            ),
            (
                json!({ "poolClass": "SSD", "replicaNumber": "1", "flavour": "sweet" }),
                "\"flavour\" (value \"sweet\") is unknown",
            ),
            (
                json!({ "poolClass": "SSD", "replicaNumber": "2", "thin": "true" }),
                "\"thin\" is \"true\", which needs",
            ),
        ] {
            let (refusals, _) = said(&json!({ "parameters": parameters }));
            assert!(
                refusals.len() == 1 && refusals[0].contains(part),
                "{refusals:?}"
            );
        }
        assert_eq!(said(&json!({ "parameters": null })).0.len(), 1);
    }

    #[test]
    fn what_another_version_serves_is_a_warning() {
        let two = json!({ "parameters": { "poolClass": "SSD", "replicaNumber": "2" } });
        let (refusals, warnings) = said(&two);
        assert!(refusals.is_empty());
        assert!(
            warnings[0].contains("\"replicaNumber\" is \"2\", which this version does not serve")
        );
        let (refusals, warnings) = said(
            &json!({ "provisioner": names::DISK_DRIVER, "parameters": { "diskType": "HDD" } }),
        );
        assert!(refusals.is_empty() && warnings[0].contains("not served by this version"));
    }

    #[test]
    fn immediate_binding_is_warned_of_and_refused_where_no_node_could_be_found() {
        for mode in [json!("Immediate"), json!(null)] {
            let (refusals, warnings) = said(&json!({ "volumeBindingMode": mode }));
            assert!(refusals.is_empty());
            assert!(
                warnings[0].contains("use WaitForFirstConsumer"),
                "{warnings:?}"
            );
        }
        let zones = json!([{ "matchLabelExpressions": [{ "key": "topology.kubernetes.io/zone", "values": ["a"] }] }]);
        for mode in ["Immediate", "WaitForFirstConsumer"] {
            let (refusals, _) =
                said(&json!({ "volumeBindingMode": mode, "allowedTopologies": zones }));
            assert!(
                refusals[0]
                    .contains("\"topology.kubernetes.io/zone\", by which no volume can be placed"),
                "{refusals:?}"
            );
        }
    }
}
