//! `ResizePolicy`: which claims grow by themselves, and when.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::resource;

/// Thresholds, and what they hold for: the first selector that is given of claim, namespace, class; none: everything.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "ResizePolicy",
    plural = "resizepolicies",
    status = "ResizePolicyStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct ResizePolicySpec {
    /// Namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Use of the pool above which nothing grows, percent.
    #[schemars(schema_with = "crate::schema::plain_integer")]
    pub node_pool_usage_limit: i64,
    /// Claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc_selector: Option<LabelSelector>,
    /// Use of the volume at which it grows, percent.
    #[schemars(schema_with = "crate::schema::plain_integer")]
    pub resize_threshold: i64,
    /// Classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_selector: Option<LabelSelector>,
    /// Use of the volume below which growing stops, percent.
    #[schemars(schema_with = "crate::schema::plain_integer")]
    pub warning_threshold: i64,
}

/// Empty: the API declares it without content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default)]
#[schemars(!default, !remote)]
pub struct ResizePolicyStatus {}

resource!(ResizePolicy, ResizePolicySpec, ResizePolicyStatus);
