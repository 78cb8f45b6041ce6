//! `ThinPoolClaim`: asks for a thin pool in a volume group of one node. Removed once it is done.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ThinPoolDescription;
use crate::schema::resource;
use crate::string_enum::string_enum;

string_enum! {
    /// How far a claim for a thin pool has come.
    pub enum ThinPoolClaimPhase {
        /// Not looked at yet.
        Pending = "Pending",
        /// Checked, to be carried out.
        ToBeConsumed = "ToBeConsumed",
        /// Carried out.
        Consumed = "Consumed",
        /// Asked to go.
        ToBeDeleted = "ToBeDeleted",
        /// Done with; the object goes next.
        Deleted = "Deleted",
    }
}

/// Which pool on which node.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "ThinPoolClaim",
    plural = "thinpoolclaims",
    shortname = "tpc",
    status = "ThinPoolClaimStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(name = "NodeName", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.status")
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct ThinPoolClaimSpec {
    /// What the pool shall be like.
    pub description: ThinPoolDescription,
    /// The node.
    pub node_name: String,
}

/// How far the claim has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct ThinPoolClaimStatus {
    /// How far the claim has come.
    #[serde(skip_serializing_if = "ThinPoolClaimPhase::is_unset")]
    pub status: ThinPoolClaimPhase,
}

resource!(ThinPoolClaim, ThinPoolClaimSpec, ThinPoolClaimStatus);
