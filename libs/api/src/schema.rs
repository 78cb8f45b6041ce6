//! What every custom resource of this crate shares: tolerant decoding and the schema of its definition.
//!
//! Decoding: stored objects were written by many versions and by hand. A root without `spec`, an explicit `null` at any
//! depth and unknown fields all decode; absent and null are the same thing.
//!
//! Schema: a field is required if and only if it is always written (has no `skip_serializing_if`); defaults, limits and
//! enums appear only where a field says so; nothing is nullable. This is what the definitions of the API look like.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde_json::Value;

/// Ties a kind to its spec and status: their tolerant decoding (both derive serde with `remote = "Self"`) and the schema
/// of the root object.
macro_rules! resource {
    ($kind:ident, $spec:ident, $status:ident) => {
        $crate::schema::tolerant!($spec);
        $crate::schema::tolerant!($status);

        impl schemars::JsonSchema for $kind {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($kind).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $crate::schema::root_schema::<$spec, $status>()
            }
        }
    };
}

/// Gives a struct that derives serde with `remote = "Self"` its trait implementations, see [`decode_tolerant`].
macro_rules! tolerant {
    ($type:ident) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                Self::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::schema::decode_tolerant(deserializer, |value| Self::deserialize(value))
            }
        }
    };
}

pub(crate) use {resource, tolerant};

/// Decodes with absent and null as the default value, at any depth.
pub(crate) fn decode_tolerant<'de, D, T>(
    deserializer: D,
    decode: impl FnOnce(Value) -> Result<T, serde_json::Error>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default,
{
    match Option::<Value>::deserialize(deserializer)? {
        None => Ok(T::default()),
        Some(mut value) => {
            drop_nulls(&mut value);
            decode(value).map_err(D::Error::custom)
        }
    }
}

/// Removes null members of objects and null items of arrays, at any depth.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => {
            items.retain(|item| !item.is_null());
            items.iter_mut().for_each(drop_nulls);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The schema of a root object: `spec` and `status`, neither required.
pub(crate) fn root_schema<Spec, Status>() -> Schema
where
    Spec: JsonSchema + DeserializeOwned,
    Status: JsonSchema + DeserializeOwned,
{
    let spec = part_schema::<Spec>();
    let status = part_schema::<Status>();
    json_schema!({
        "type": "object",
        "properties": { "spec": spec, "status": status },
    })
}

fn part_schema<T: JsonSchema>() -> Schema {
    SchemaSettings::openapi3()
        .for_serialize()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .with_transform(RecursiveTransform(not_null))
        .with_transform(RecursiveTransform(without_title))
        .into_generator()
        .into_root_schema_for::<T>()
}

/// Turns "T or null" into T: an optional field is left out, not null.
fn not_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    object.remove("nullable");
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(mut choices)) = object.remove("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
        match choices.as_mut_slice() {
            [Value::Object(only)] => {
                for (key, value) in std::mem::take(only) {
                    object.entry(key).or_insert(value);
                }
            }
            _ => {
                object.insert("anyOf".to_owned(), Value::Array(choices));
            }
        }
    }
}

fn without_title(schema: &mut Schema) {
    schema.remove("title");
}

/// An integer without a format: the API declares a few of them so.
pub(crate) fn plain_integer(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer" })
}

/// For `skip_serializing_if`: a false flag is left out.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
pub(crate) fn is_false(flag: &bool) -> bool {
    !flag
}

/// For `skip_serializing_if`: a size or count that was not given is left out.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
pub(crate) fn is_zero(number: &i64) -> bool {
    *number == 0
}
