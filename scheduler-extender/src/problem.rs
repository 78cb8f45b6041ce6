//! What is wrong with a question of a person (`/why`, `/simulate`), and what would be right.

use axum::http::StatusCode;
use serde::Serialize;

/// Shown as a sentence, and as JSON with the field apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// A parameter of the address.
    #[error("parameter {parameter} is {value}: {expected}")]
    Parameter {
        parameter: String,
        value: String,
        expected: String,
    },
    /// Neither JSON nor YAML.
    #[error("the body can't be read: {why}")]
    Syntax { why: String },
    #[error(
        "the body is larger than {limit} bytes: leave out what is not the pod's, its claims' and templates' own"
    )]
    TooLarge { limit: usize },
    /// A field of the manifest.
    #[error("{object}: {field} is {value}: {expected}")]
    Field {
        object: String,
        field: String,
        value: String,
        expected: String,
    },
    #[error("{why}")]
    NotKnown { why: String },
    /// No list of objects has arrived yet, or what is known is too old.
    #[error("{why}")]
    NotNow { why: String },
    /// A fault of ours.
    #[error("{why}")]
    Broken { why: String },
}

#[derive(Serialize)]
pub(crate) struct Body<'a> {
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<&'a str>,
}

impl Problem {
    pub(crate) fn parameter(
        parameter: &str,
        value: impl Into<Option<String>>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Parameter {
            parameter: parameter.to_owned(),
            value: quoted(value.into().as_deref()),
            expected: expected.into(),
        }
    }

    /// `value`: as it is to be shown.
    pub(crate) fn field(
        object: &str,
        field: impl Into<String>,
        value: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Field {
            object: object.to_owned(),
            field: field.into(),
            value: value.into(),
            expected: expected.into(),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Parameter { .. } | Self::Syntax { .. } => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Field { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotKnown { .. } => StatusCode::NOT_FOUND,
            Self::NotNow { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The outcome for the metrics.
    pub(crate) fn outcome(&self) -> &'static str {
        use hawser_runtime::error::Category;
        let category = match self {
            Self::Parameter { .. } | Self::Syntax { .. } | Self::TooLarge { .. } => {
                Category::Invalid
            }
            Self::Field { .. } => Category::Invalid,
            Self::NotKnown { .. } => Category::NotFound,
            Self::NotNow { .. } => Category::Unavailable,
            Self::Broken { .. } => Category::Internal,
        };
        category.as_str()
    }

    pub(crate) fn body(&self) -> Body<'_> {
        let mut body = Body {
            error: self.to_string(),
            object: None,
            field: None,
            value: None,
            expected: None,
        };
        match self {
            Self::Parameter {
                parameter,
                value,
                expected,
            } => {
                body.field = Some(parameter);
                body.value = Some(value);
                body.expected = Some(expected);
            }
            Self::Field {
                object,
                field,
                value,
                expected,
            } => {
                body.object = Some(object);
                body.field = Some(field);
                body.value = Some(value);
                body.expected = Some(expected);
            }
            Self::Syntax { .. }
            | Self::TooLarge { .. }
            | Self::NotKnown { .. }
            | Self::NotNow { .. }
            | Self::Broken { .. } => {}
        }
        body
    }
}

/// As it is shown: in quotes, and not at any length. `missing` for nothing.
pub(crate) fn quoted(value: Option<&str>) -> String {
    const SHOWN: usize = 80;
    let Some(value) = value else {
        return "missing".to_owned();
    };
    let mut shown: String = value.chars().take(SHOWN).collect();
    if shown.len() < value.len() {
        shown.push_str("..");
    }
    format!("{shown:?}")
}
