//! Open sets of strings as Rust enums.
//!
//! The API declares most of its states as plain strings, and clusters hold values of several releases. Such a set decodes
//! from anything: absent, `null` and `""` are `Unset`, what is not known is `Other` with the text kept, so that an
//! object written by another version is never dropped from a watch and never loses the value on the way back.

/// Defines an open string set: the named variants, `Unset` (the default, written as `""`) and `Other(text)`.
///
/// The JSON schema is a plain `string`; a field whose custom resource definition restricts the values adds its own
/// `enum` with `#[schemars(extend("enum" = [...]))]`.
macro_rules! string_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $text:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            /// Absent, null or empty.
            #[default]
            Unset,
            $( $(#[$variant_meta])* $variant, )+
            /// A value that this version does not know, as it was found.
            Other(String),
        }

        impl $name {
            /// The values that this version knows, in the order of their definition.
            pub const KNOWN: &'static [Self] = &[$( Self::$variant, )+];

            /// The text of the API; `""` for `Unset`.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    Self::Unset => "",
                    $( Self::$variant => $text, )+
                    Self::Other(text) => text,
                }
            }

            /// Whether the value is absent, null or empty.
            #[must_use]
            pub fn is_unset(&self) -> bool {
                matches!(self, Self::Unset)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    "" => Self::Unset,
                    $( $text => Self::$variant, )+
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::from(text.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::convert::Infallible;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(Self::from(text))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <Option<std::borrow::Cow<'de, str>> as serde::Deserialize>::deserialize(deserializer)?;
                Ok(text.map_or(Self::Unset, |text| Self::from(text.as_ref())))
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }
    };
}

pub(crate) use string_enum;

#[cfg(test)]
mod tests {
    use crate::{PoolClass, VolumeState};

    #[test]
    fn every_known_value_survives_the_round_trip() {
        for state in VolumeState::KNOWN {
            let text = serde_json::to_string(state).unwrap();
            assert_eq!(&serde_json::from_str::<VolumeState>(&text).unwrap(), state);
            assert_eq!(&VolumeState::from(state.as_str()), state);
        }
    }

    #[test]
    fn absent_null_and_empty_are_unset_and_unknown_text_is_kept() {
        assert_eq!(
            serde_json::from_str::<VolumeState>("null").unwrap(),
            VolumeState::Unset
        );
        assert_eq!(
            serde_json::from_str::<VolumeState>("\"\"").unwrap(),
            VolumeState::Unset
        );
        let odd: VolumeState = serde_json::from_str("\"Hovering\"").unwrap();
        assert_eq!(odd, VolumeState::Other("Hovering".to_owned()));
        assert_eq!(serde_json::to_string(&odd).unwrap(), "\"Hovering\"");
    }

    #[test]
    fn case_counts() {
        assert_eq!(PoolClass::from("NVMe"), PoolClass::NVMe);
        assert_eq!(PoolClass::from("nvme"), PoolClass::Other("nvme".to_owned()));
    }
}
