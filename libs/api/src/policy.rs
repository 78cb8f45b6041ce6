//! `StoragePolicy`: who may ask for which volumes, and what they get who don't say. Of the group `hawser.io`; an addition of Hawser.
//!
//! What is wrong with a policy in itself is refused by its schema and its CEL rules, so by the API server alone. Lists and texts have
//! limits: without them the API server takes the cost of a rule for unbounded, and refuses the definition.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, Time,
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Condition;
use crate::schema::{is_zero, tolerant};
use crate::string_enum::string_enum;

string_enum! {
    /// What becomes of a request that a policy does not allow.
    pub enum PolicyMode {
        /// It is refused.
        Enforce = "Enforce",
        /// It passes, and who sent it is warned.
        Warn = "Warn",
        /// It passes, and is counted and noted in the API server's audit log.
        Audit = "Audit",
    }
}

string_enum! {
    /// How strongly pods are drawn to the data of their claims.
    pub enum Locality {
        /// Nodes with the data are preferred.
        Preferred = "Preferred",
        /// Only nodes with the data will do.
        Required = "Required",
    }
}

string_enum! {
    /// Whether volumes are encrypted.
    pub enum EncryptionRule {
        /// Only classes that encrypt.
        Required = "Required",
    }
}

/// What holds for which claims.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hawser.io",
    version = "v1alpha1",
    kind = "StoragePolicy",
    plural = "storagepolicies",
    shortname = "stpol",
    status = "StoragePolicyStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(name = "mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "priority", type_ = "integer", json_path = ".spec.priority"),
    printcolumn(name = "matched", type_ = "integer", json_path = ".status.matched"),
    printcolumn(name = "denied", type_ = "integer", json_path = ".status.denied"),
    printcolumn(
        name = "effective",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Effective\")].status"
    ),
    printcolumn(
        name = "age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.restrict) || has(self.defaults) || has(self.locality)",
        "message": "a policy needs at least one of restrict, defaults and locality: it would do nothing",
    },
    {
        "rule": "self.mode == 'Enforce' || (!has(self.defaults) && !has(self.locality))",
        "message": "defaults and locality change what is asked for, which only a policy of mode Enforce does: use Enforce, or leave them out",
    },
    {
        "rule": "!(has(self.match) && has(self.match.classes) && has(self.restrict) && has(self.restrict.classes))",
        "message": "match.classes and restrict.classes exclude each other: a policy holds for claims of some classes, or says which classes claims may have",
    },
    {
        "rule": "!(has(self.match) && has(self.match.classes) && has(self.defaults) && has(self.defaults.className))",
        "message": "match.classes and defaults.className exclude each other: a claim that gets the default has no class yet to be matched by",
    },
    {
        "rule": "!has(self.restrict) || !has(self.restrict.classes) || !has(self.defaults) || !has(self.defaults.className) || self.defaults.className in self.restrict.classes",
        "message": "defaults.className must be one of restrict.classes: the policy would refuse its own default",
    },
    {
        "rule": "!has(self.restrict) || !has(self.restrict.size) || !has(self.restrict.size.max) || !has(self.defaults) || !has(self.defaults.size) || !isQuantity(self.restrict.size.max) || !isQuantity(self.defaults.size) || quantity(self.defaults.size).compareTo(quantity(self.restrict.size.max)) <= 0",
        "message": "defaults.size must not be above restrict.size.max: the policy would refuse its own default",
    },
    {
        "rule": "!has(self.restrict) || !has(self.restrict.size) || !has(self.restrict.size.min) || !has(self.defaults) || !has(self.defaults.size) || !isQuantity(self.restrict.size.min) || !isQuantity(self.defaults.size) || quantity(self.defaults.size).compareTo(quantity(self.restrict.size.min)) >= 0",
        "message": "defaults.size must not be below restrict.size.min: the policy would refuse its own default",
    },
]))]
pub struct StoragePolicySpec {
    /// What claims get that don't say. Of several policies with the same default, the first in order of precedence gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defaults: Option<PolicyDefaults>,
    /// How strongly pods are drawn to the data of the claims. Required by one policy is required. Absent: preferred.
    #[serde(skip_serializing_if = "Locality::is_unset")]
    #[schemars(extend("enum" = ["Preferred", "Required"]))]
    pub locality: Locality,
    /// Which claims the policy holds for: all that is given must hold. Absent: all claims of Hawser's classes.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub selects: Option<PolicyMatch>,
    /// What becomes of a request that the policy does not allow.
    #[schemars(extend("enum" = ["Enforce", "Warn", "Audit"], "maxLength" = 7))]
    pub mode: PolicyMode,
    /// Order of precedence: higher first, then by name.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(min = -1_000_000, max = 1_000_000), extend("default" = 0))]
    pub priority: i64,
    /// What is allowed. What several policies restrict must be allowed by all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restrict: Option<PolicyRestrict>,
}

/// Which claims a policy holds for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct PolicyMatch {
    /// Claims with these labels. Absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<PolicySelector>,
    /// Claims of these classes. Absent: all of Hawser's. Classes of other drivers are never matched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1, "maxItems" = 64, "x-kubernetes-list-type" = "set"), inner(length(min = 1, max = 253)))]
    pub classes: Vec<String>,
    /// Claims in these namespaces. Absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<PolicyNamespaces>,
}

/// Namespaces, by name or by label: one of both is enough.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.names) || has(self.selector)",
    "message": "namespaces needs names or a selector; leave namespaces out for all",
}]))]
pub struct PolicyNamespaces {
    /// These.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1, "maxItems" = 256, "x-kubernetes-list-type" = "set"), inner(length(min = 1, max = 63)))]
    pub names: Vec<String>,
    /// And those with these labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<PolicySelector>,
}

/// A label selector of Kubernetes, with limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct PolicySelector {
    /// Requirements that must all hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 16))]
    pub match_expressions: Vec<PolicyRequirement>,
    /// Labels that must all be there with these values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub match_labels: BTreeMap<String, String>,
}

/// One requirement of a label selector.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(self.operator in ['In', 'NotIn']) == has(self.values)",
    "message": "In and NotIn need values; Exists and DoesNotExist have none",
}]))]
pub struct PolicyRequirement {
    /// Key of the label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How the label's value relates to `values`.
    #[schemars(extend("enum" = ["In", "NotIn", "Exists", "DoesNotExist"], "maxLength" = 12))]
    pub operator: String,
    /// Values, for `In` and `NotIn`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1, "maxItems" = 64, "x-kubernetes-list-type" = "set"), inner(length(max = 63)))]
    pub values: Vec<String>,
}

impl From<&PolicySelector> for LabelSelector {
    fn from(selector: &PolicySelector) -> Self {
        let expressions = selector.match_expressions.iter();
        Self {
            match_labels: Some(selector.match_labels.clone()),
            match_expressions: Some(
                expressions
                    .map(|requirement| LabelSelectorRequirement {
                        key: requirement.key.clone(),
                        operator: requirement.operator.clone(),
                        values: Some(requirement.values.clone()),
                    })
                    .collect(),
            ),
        }
    }
}

/// What is allowed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.classes) || has(self.encryption) || has(self.qos) || has(self.replicas) || has(self.size)",
    "message": "restrict needs at least one of classes, encryption, qos, replicas and size; leave restrict out to restrict nothing",
}]))]
pub struct PolicyRestrict {
    /// The classes of Hawser that claims may have. Absent: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1, "maxItems" = 64, "x-kubernetes-list-type" = "set"), inner(length(min = 1, max = 253)))]
    pub classes: Vec<String>,
    /// `Required`: only classes that encrypt.
    #[serde(skip_serializing_if = "EncryptionRule::is_unset")]
    #[schemars(extend("enum" = ["Required"]))]
    pub encryption: EncryptionRule,
    /// The most that a volume may do. A volume without a limit is above every ceiling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<PolicyQoS>,
    /// How many copies a volume may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<PolicyReplicas>,
    /// How large a claim may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<PolicySize>,
}

/// Ceilings of a volume's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.maxIops) || has(self.maxThroughput)",
        "message": "qos needs maxIops or maxThroughput",
    },
    {
        "rule": "!has(self.maxIops) || (isQuantity(self.maxIops) && quantity(self.maxIops).compareTo(quantity('0')) > 0)",
        "message": "maxIops must be a quantity above 0, such as \"1000\"",
    },
    {
        "rule": "!has(self.maxThroughput) || (isQuantity(self.maxThroughput) && quantity(self.maxThroughput).compareTo(quantity('0')) > 0)",
        "message": "maxThroughput must be a quantity above 0, such as 200Mi",
    },
]))]
pub struct PolicyQoS {
    /// Operations per second, a quantity.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub max_iops: String,
    /// Bytes per second, a quantity.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub max_throughput: String,
}

/// How many copies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.min) || has(self.max)",
        "message": "replicas needs min or max",
    },
    {
        "rule": "!has(self.min) || !has(self.max) || self.min <= self.max",
        "message": "replicas.min must not be above replicas.max",
    },
]))]
pub struct PolicyReplicas {
    /// At most; 0: not given.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(min = 1, max = 4))]
    pub max: i64,
    /// At least; 0: not given.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(min = 1, max = 4))]
    pub min: i64,
}

/// How large a claim may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.min) || has(self.max)",
        "message": "size needs min or max",
    },
    {
        "rule": "!has(self.min) || (isQuantity(self.min) && quantity(self.min).compareTo(quantity('0')) > 0)",
        "message": "size.min must be a quantity above 0, such as 1Gi",
    },
    {
        "rule": "!has(self.max) || (isQuantity(self.max) && quantity(self.max).compareTo(quantity('0')) > 0)",
        "message": "size.max must be a quantity above 0, such as 100Gi",
    },
    {
        "rule": "!has(self.min) || !has(self.max) || !isQuantity(self.min) || !isQuantity(self.max) || quantity(self.min).compareTo(quantity(self.max)) <= 0",
        "message": "size.min must not be above size.max",
    },
]))]
pub struct PolicySize {
    /// At most, a quantity.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub max: String,
    /// At least, a quantity.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub min: String,
}

/// What claims get that don't say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.className) || has(self.size)",
        "message": "defaults needs className or size; leave defaults out for none",
    },
    {
        "rule": "!has(self.size) || (isQuantity(self.size) && quantity(self.size).compareTo(quantity('0')) > 0)",
        "message": "defaults.size must be a quantity above 0, such as 10Gi",
    },
]))]
pub struct PolicyDefaults {
    /// The StorageClass of a claim that names none, where the cluster has no default class.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: String,
    /// The size of a claim that asks for none, a quantity.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub size: String,
}

/// What came of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct StoragePolicyStatus {
    /// Requests that it does not allow and that were let through by mode `Audit`.
    #[serde(skip_serializing_if = "is_zero")]
    pub audited: i64,
    /// Whether it is in force, and whether the classes that it names exist.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Requests that it refused.
    #[serde(skip_serializing_if = "is_zero")]
    pub denied: i64,
    /// What replicas of the webhook had counted that are gone now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earlier: Option<PolicyCounts>,
    /// The newest request that it did not allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_violation: Option<PolicyViolation>,
    /// Requests that it held for.
    #[serde(skip_serializing_if = "is_zero")]
    pub matched: i64,
    /// The generation of the spec that conditions speak of.
    #[serde(skip_serializing_if = "is_zero")]
    pub observed_generation: i64,
    /// What each replica of the webhook has counted since it started, by the name of its pod; each writes its own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub replicas: BTreeMap<String, PolicyCounts>,
    /// Requests that it does not allow and that were let through with a warning.
    #[serde(skip_serializing_if = "is_zero")]
    pub warned: i64,
}

/// Numbers of requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct PolicyCounts {
    /// Let through by mode `Audit`.
    #[serde(skip_serializing_if = "is_zero")]
    pub audited: i64,
    /// Refused.
    #[serde(skip_serializing_if = "is_zero")]
    pub denied: i64,
    /// The newest one of those that were not allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_violation: Option<PolicyViolation>,
    /// That the policy held for.
    #[serde(skip_serializing_if = "is_zero")]
    pub matched: i64,
    /// Let through with a warning.
    #[serde(skip_serializing_if = "is_zero")]
    pub warned: i64,
}

/// A request that a policy did not allow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct PolicyViolation {
    /// What was said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Which object, such as `PersistentVolumeClaim shop/data`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// `CREATE` or `UPDATE`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operation: String,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Who asked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}

tolerant!(StoragePolicySpec);
tolerant!(StoragePolicyStatus);

impl JsonSchema for StoragePolicy {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StoragePolicy".into()
    }

    /// As of all kinds, and a policy without spec is none.
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = crate::schema::root_schema::<StoragePolicySpec, StoragePolicyStatus>();
        schema.insert("required".to_owned(), serde_json::json!(["spec"]));
        schema
    }
}
