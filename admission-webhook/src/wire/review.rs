//! `AdmissionReview` of `admission.k8s.io/v1`, as much of it as is needed.
//!
//! The object stays the text that it is in the body: each kind reads the few fields that it decides by. A tree of a large object
//! costs a dozen times its text.

use std::collections::BTreeMap;

use json_patch::PatchOperation;
use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// A body that is no review. Answered with status 400.
#[derive(Debug, Error)]
pub(crate) enum BadReview {
    #[error("the body is no AdmissionReview: {0}")]
    Json(#[source] serde_json::Error),
    #[error(
        "the body is {api_version:?} {kind:?}: it must be \"admission.k8s.io/v1\" \"AdmissionReview\""
    )]
    Version { api_version: String, kind: String },
    #[error("the AdmissionReview has no request")]
    NoRequest,
    #[error("the AdmissionReview's request has no {field}")]
    NoObject { field: &'static str },
    #[error("the AdmissionReview's {field} is no {kind}: {source}")]
    WrongObject {
        field: &'static str,
        kind: &'static str,
        source: serde_json::Error,
    },
    #[error("the answer can't be written: {0}")]
    Answer(#[source] serde_json::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: String,
    kind: String,
    #[serde(borrow, default)]
    request: Option<Request<'a>>,
}

/// What is to be done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    /// As the API writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

#[derive(Debug, Deserialize)]
struct GroupResource {
    #[serde(default)]
    group: String,
    resource: String,
}

#[derive(Debug, Default, Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: Option<String>,
}

/// The request of a review.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request<'a> {
    pub(crate) uid: String,
    resource: GroupResource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    pub(crate) operation: Operation,
    #[serde(default)]
    user_info: Option<UserInfo>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
    #[serde(default)]
    dry_run: Option<bool>,
}

impl<'a> Request<'a> {
    /// Reads a body.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, BadReview> {
        let review: Review<'a> = serde_json::from_slice(body).map_err(BadReview::Json)?;
        if review.api_version != API_VERSION || review.kind != KIND {
            return Err(BadReview::Version {
                api_version: review.api_version,
                kind: review.kind,
            });
        }
        review.request.ok_or(BadReview::NoRequest)
    }

    /// Group and plural of the kind; the third is the subresource, empty for the object itself.
    pub(crate) fn target(&self) -> (&str, &str, &str) {
        let sub = self.sub_resource.as_deref().unwrap_or_default();
        (&self.resource.group, &self.resource.resource, sub)
    }

    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// The object's name; empty for one whose name the API server will make.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn user(&self) -> &str {
        let user = self.user_info.as_ref().and_then(|u| u.username.as_deref());
        user.unwrap_or_default()
    }

    /// Nothing will be stored: nothing may be noted either.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run.unwrap_or(false)
    }

    /// The object as it is to be.
    pub(crate) fn object<T: Deserialize<'a>>(&self, kind: &'static str) -> Result<T, BadReview> {
        read(self.object, "object", kind)
    }

    /// The object as it is stored.
    pub(crate) fn old_object<T: Deserialize<'a>>(
        &self,
        kind: &'static str,
    ) -> Result<T, BadReview> {
        read(self.old_object, "oldObject", kind)
    }
}

fn read<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    field: &'static str,
    kind: &'static str,
) -> Result<T, BadReview> {
    let raw = raw.ok_or(BadReview::NoObject { field })?;
    serde_json::from_str(raw.get()).map_err(|source| BadReview::WrongObject {
        field,
        kind,
        source,
    })
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Because {
    /// It makes no sense. Status 422.
    Invalid,
    /// It is not allowed, or what it concerns is in use. Status 403. Never 409, which clients answer by trying again.
    Forbidden,
}

/// What is answered to a request. Empty: it passes as it is.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Changes of the object, in order.
    pub(crate) patch: Vec<PatchOperation>,
    /// Sentences; one is enough to refuse.
    pub(crate) refusals: Vec<(Because, String)>,
    /// Sentences for who sent it.
    pub(crate) warnings: Vec<String>,
    /// Sentences for the API server's audit log.
    pub(crate) audit: Vec<String>,
}

impl Answer {
    pub(crate) fn refuse(&mut self, because: Because, sentence: impl Into<String>) {
        self.refusals.push((because, sentence.into()));
    }

    /// The whole body of the answer.
    pub(crate) fn body(self, uid: &str) -> Result<Vec<u8>, BadReview> {
        let status = self.refusals.first().map(|(because, _)| {
            let (code, reason) = match because {
                Because::Invalid => (422, "Invalid"),
                Because::Forbidden => (403, "Forbidden"),
            };
            let sentences = self.refusals.iter().map(|(_, sentence)| sentence.as_str());
            Failure {
                status: "Failure",
                code,
                reason,
                message: sentences.collect::<Vec<_>>().join("; "),
            }
        });
        // Who is refused needs no patch.
        let patch = if status.is_some() || self.patch.is_empty() {
            None
        } else {
            Some(ByteString(
                serde_json::to_vec(&self.patch).map_err(BadReview::Answer)?,
            ))
        };
        let response = Response {
            uid,
            allowed: status.is_none(),
            patch_type: patch.as_ref().map(|_| "JSONPatch"),
            patch,
            status,
            warnings: self.warnings,
            audit_annotations: if self.audit.is_empty() {
                BTreeMap::new()
            } else {
                BTreeMap::from([("storagepolicy", self.audit.join("; "))])
            },
        };
        let review = ReviewOut {
            api_version: API_VERSION,
            kind: KIND,
            response,
        };
        serde_json::to_vec(&review).map_err(BadReview::Answer)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReviewOut<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Failure>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<&'static str, String>,
}

/// A `metav1.Status`.
#[derive(Serialize)]
struct Failure {
    status: &'static str,
    code: u16,
    reason: &'static str,
    message: String,
}
