//! Parameters of a storage class of logical volumes, parsed once for everybody: `CreateVolume`, the scheduler's
//! extender and the webhook read a class in exactly the same way.
//!
//! Two layers: [`VolumeClass::parse`] is what the API knows; [`VolumeClass::supported`] is what this version serves. What
//! is not served is refused by name, never ignored. Nothing here does I/O.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::quantity;
use crate::{PoolClass, VolumeQoS};

/// Keys of the parameters.
pub mod keys {
    /// Class of the pool: `HDD`, `SSD` or `NVMe`. Required.
    pub const POOL_CLASS: &str = "poolClass";
    /// How many copies. Required.
    pub const REPLICAS: &str = "replicaNumber";
    /// Whether one copy can become two later.
    pub const CONVERTIBLE: &str = "convertible";
    /// Type of the file system; external-provisioner takes it out and passes it as capability.
    pub const FS_TYPE: &str = "csi.storage.k8s.io/fstype";
    /// The former key of the same.
    pub const FS_TYPE_DEPRECATED: &str = "fstype";
    /// Bytes per second.
    pub const THROUGHPUT: &str = "provision-throughput-on-creation";
    /// Operations per second.
    pub const IOPS: &str = "provision-iops-on-creation";
    /// Whether room is taken when written.
    pub const THIN: &str = "thin";
    /// `<namespace>/<name>` of the passphrase's Secret.
    pub const ENCRYPT_SECRET: &str = "encryptSecret";
    /// `LUKS`.
    pub const ENCRYPT_TYPE: &str = "encryptType";
    /// Among nodes that can hold the volumes, which first: `spread` or `binpack`. Ours, not of the API that we took over.
    pub const PLACEMENT: &str = "hawser.io/placement";
    /// Name of the claim, added by external-provisioner.
    pub const PVC_NAME: &str = "csi.storage.k8s.io/pvc/name";
    /// Namespace of the claim, added by external-provisioner.
    pub const PVC_NAMESPACE: &str = "csi.storage.k8s.io/pvc/namespace";
    /// Name of the volume to be, added by external-provisioner.
    pub const PV_NAME: &str = "csi.storage.k8s.io/pv/name";

    /// Accepted, because classes in use carry them; no effect.
    pub const WITHOUT_EFFECT: &[&str] = &["poolType", "volumeKind", "striped"];

    /// Kubernetes' own, for its sidecars; they take them out.
    pub const FOR_SIDECARS: &[&str] = &[
        "csi.storage.k8s.io/provisioner-secret-name",
        "csi.storage.k8s.io/provisioner-secret-namespace",
        "csi.storage.k8s.io/controller-publish-secret-name",
        "csi.storage.k8s.io/controller-publish-secret-namespace",
        "csi.storage.k8s.io/controller-expand-secret-name",
        "csi.storage.k8s.io/controller-expand-secret-namespace",
        "csi.storage.k8s.io/node-stage-secret-name",
        "csi.storage.k8s.io/node-stage-secret-namespace",
        "csi.storage.k8s.io/node-publish-secret-name",
        "csi.storage.k8s.io/node-publish-secret-namespace",
        "csi.storage.k8s.io/node-expand-secret-name",
        "csi.storage.k8s.io/node-expand-secret-namespace",
    ];

    /// What a user of this API may set.
    pub const KNOWN: &[&str] = &[
        POOL_CLASS,
        REPLICAS,
        CONVERTIBLE,
        FS_TYPE,
        THROUGHPUT,
        IOPS,
        THIN,
        ENCRYPT_SECRET,
        ENCRYPT_TYPE,
        PLACEMENT,
        "poolType",
        "volumeKind",
        "striped",
    ];
}

/// The file system of a volume whose class names none.
pub const DEFAULT_FS_TYPE: &str = "ext4";
/// The file systems that this version makes and grows.
pub const FS_TYPES: &[&str] = &["ext4", "xfs", "btrfs"];

/// A parameter that is wrong. The text names parameter, value and what would be right.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum ParameterError {
    /// Required and not there.
    #[error("parameter {parameter:?} is missing: set it to {expected}")]
    Missing {
        /// The key.
        parameter: &'static str,
        /// What would be right.
        expected: &'static str,
    },
    /// A value that the parameter can't have.
    #[error("parameter {parameter:?} is {value:?}: it must be {expected}")]
    Invalid {
        /// The key.
        parameter: String,
        /// The value found.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A value that does not go with another parameter.
    #[error("parameter {parameter:?} is {value:?}, which needs {needs}")]
    Conflict {
        /// The key.
        parameter: &'static str,
        /// The value found.
        value: String,
        /// What would be right.
        needs: &'static str,
    },
    /// A key that the API does not have.
    #[error("parameter {parameter:?} (value {value:?}) is unknown: the known ones are {known}", known = keys::KNOWN.join(", "))]
    Unknown {
        /// The key.
        parameter: String,
        /// The value found.
        value: String,
    },
    /// Right, but not served by this version.
    #[error(
        "parameter {parameter:?} is {value:?}, which this version does not serve: use {expected}"
    )]
    Unsupported {
        /// The key.
        parameter: &'static str,
        /// The value found.
        value: String,
        /// What is served.
        expected: &'static str,
    },
}

impl ParameterError {
    /// The key of the parameter, which may be logged; values may not.
    #[must_use]
    pub fn parameter(&self) -> &str {
        match self {
            Self::Missing { parameter, .. }
            | Self::Conflict { parameter, .. }
            | Self::Unsupported { parameter, .. } => parameter,
            Self::Invalid { parameter, .. } | Self::Unknown { parameter, .. } => parameter,
        }
    }
}

/// What a storage class says about its volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeClass {
    /// The pool's class: HDD, SSD or NVMe.
    pub pool_class: PoolClass,
    /// Copies, 1 to 4.
    pub replicas: i64,
    /// Whether the volume lies on a replicated device; always so with several copies.
    pub convertible: bool,
    /// Type of the file system, if the class names one; else [`DEFAULT_FS_TYPE`].
    pub fs_type: Option<String>,
    /// Whether room is taken when written.
    pub thin: bool,
    /// Encryption at rest.
    pub encryption: Option<Encryption>,
    /// Limits; `None`: no limit at all.
    pub qos: Option<VolumeQoS>,
    /// Among nodes that can hold the volumes, which first; `None`: as the scheduler's extender is set.
    pub placement: Option<PlacementStrategy>,
}

/// Among nodes that can hold the volumes, which first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlacementStrategy {
    /// `spread`: where the largest share of the pool stays free.
    Spread,
    /// `binpack`: where the smallest share stays free.
    BinPack,
}

/// Encryption at rest with LUKS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// Namespace of the passphrase's Secret.
    pub secret_namespace: String,
    /// Name of the passphrase's Secret.
    pub secret_name: String,
}

/// The claim that a volume is made for, as external-provisioner tells with `--extra-create-metadata`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimMetadata {
    /// Namespace of the claim.
    pub namespace: String,
    /// Name of the claim.
    pub name: String,
    /// Name of the volume to be; may be empty.
    pub volume: String,
}

impl ClaimMetadata {
    /// The claim named in the parameters; `None` unless both its name and namespace are there.
    pub fn parse<K: AsRef<str>, V: AsRef<str>>(
        parameters: impl IntoIterator<Item = (K, V)>,
    ) -> Option<Self> {
        let mut claim = Self::default();
        for (key, value) in parameters {
            match key.as_ref() {
                keys::PVC_NAMESPACE => value.as_ref().clone_into(&mut claim.namespace),
                keys::PVC_NAME => value.as_ref().clone_into(&mut claim.name),
                keys::PV_NAME => value.as_ref().clone_into(&mut claim.volume),
                _ => {}
            }
        }
        (!claim.namespace.is_empty() && !claim.name.is_empty()).then_some(claim)
    }
}

impl VolumeClass {
    /// Reads the parameters of a class, with or without what the sidecars take out or add.
    ///
    /// The first error in a fixed order: unknown keys in theirs, then the known ones. A class that parses may still ask
    /// for what this version does not serve: see [`Self::supported`].
    pub fn parse<K: AsRef<str>, V: AsRef<str>>(
        parameters: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ParameterError> {
        let given: BTreeMap<String, String> = parameters
            .into_iter()
            .map(|(key, value)| (key.as_ref().to_owned(), value.as_ref().to_owned()))
            .collect();
        let given = Given(given);
        given.refuse_unknown()?;

        let pool_class = given.pool_class()?;
        let replicas = given.replicas()?;
        let convertible = given.flag(keys::CONVERTIBLE)?;
        let thin = given.flag(keys::THIN)?;
        if thin && replicas > 1 {
            let needs = "\"replicaNumber\" to be \"1\"";
            return Err(ParameterError::Conflict {
                parameter: keys::THIN,
                value: "true".to_owned(),
                needs,
            });
        }
        if thin && convertible {
            let needs = "\"convertible\" to be \"false\"";
            return Err(ParameterError::Conflict {
                parameter: keys::THIN,
                value: "true".to_owned(),
                needs,
            });
        }
        Ok(Self {
            pool_class,
            replicas,
            convertible: convertible || replicas > 1,
            fs_type: given.fs_type()?,
            thin,
            encryption: given.encryption()?,
            qos: given.qos()?,
            placement: given.placement()?,
        })
    }

    /// [`Self::parse`] and [`Self::supported`] in one.
    pub fn parse_supported<K: AsRef<str>, V: AsRef<str>>(
        parameters: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ParameterError> {
        let class = Self::parse(parameters)?;
        class.supported()?;
        Ok(class)
    }

    /// Whether this version serves the class: one copy, thick, not convertible, not encrypted, without limits, on a file
    /// system of [`FS_TYPES`].
    pub fn supported(&self) -> Result<(), ParameterError> {
        let refuse = |parameter, value: &dyn ToString, expected| {
            Err(ParameterError::Unsupported {
                parameter,
                value: value.to_string(),
                expected,
            })
        };
        if self.replicas != 1 {
            return refuse(keys::REPLICAS, &self.replicas, "1");
        }
        if self.convertible {
            return refuse(keys::CONVERTIBLE, &true, "false, or leave it out");
        }
        if self.thin {
            return refuse(keys::THIN, &true, "false, or leave it out");
        }
        if let Some(Encryption {
            secret_namespace,
            secret_name,
        }) = &self.encryption
        {
            let value = format!("{secret_namespace}/{secret_name}");
            return refuse(
                keys::ENCRYPT_SECRET,
                &value,
                "no encryption: leave it and \"encryptType\" out",
            );
        }
        if let Some(VolumeQoS { iops, throughput }) = &self.qos {
            return if iops.is_empty() {
                refuse(keys::THROUGHPUT, throughput, "0, or leave it out")
            } else {
                refuse(keys::IOPS, iops, "0, or leave it out")
            };
        }
        match self.fs_type.as_deref() {
            Some(fs_type) if !FS_TYPES.contains(&fs_type) => refuse(
                keys::FS_TYPE,
                &fs_type,
                "ext4, xfs or btrfs, or leave it out for ext4",
            ),
            _ => Ok(()),
        }
    }

    /// The volume group that the class takes its volumes from.
    #[must_use]
    pub fn pool_name(&self) -> String {
        format!("{}{}", crate::names::pools::VG_PREFIX, self.pool_class)
    }
}

/// The parameters as they were given.
struct Given(BTreeMap<String, String>);

impl Given {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The value, unless absent or empty.
    fn filled(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    fn refuse_unknown(&self) -> Result<(), ParameterError> {
        let added = [
            keys::FS_TYPE_DEPRECATED,
            keys::PVC_NAME,
            keys::PVC_NAMESPACE,
            keys::PV_NAME,
        ];
        for (key, value) in &self.0 {
            let key = key.as_str();
            if !keys::KNOWN.contains(&key)
                && !keys::FOR_SIDECARS.contains(&key)
                && !added.contains(&key)
            {
                return Err(ParameterError::Unknown {
                    parameter: key.to_owned(),
                    value: value.clone(),
                });
            }
        }
        Ok(())
    }

    fn pool_class(&self) -> Result<PoolClass, ParameterError> {
        let expected = "HDD, SSD or NVMe";
        let value = self.get(keys::POOL_CLASS).ok_or(ParameterError::Missing {
            parameter: keys::POOL_CLASS,
            expected,
        })?;
        let class = PoolClass::from(value);
        if PoolClass::KNOWN.contains(&class) {
            Ok(class)
        } else {
            Err(invalid(keys::POOL_CLASS, value, expected))
        }
    }

    fn replicas(&self) -> Result<i64, ParameterError> {
        let expected = "a whole number from 1 to 4";
        let value = self.get(keys::REPLICAS).ok_or(ParameterError::Missing {
            parameter: keys::REPLICAS,
            expected,
        })?;
        match value.parse() {
            Ok(number @ 1..=4) => Ok(number),
            _ => Err(invalid(keys::REPLICAS, value, expected)),
        }
    }

    fn flag(&self, key: &'static str) -> Result<bool, ParameterError> {
        match self.filled(key) {
            None => Ok(false),
            Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some(value) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some(value) => Err(invalid(key, value, "true or false")),
        }
    }

    fn fs_type(&self) -> Result<Option<String>, ParameterError> {
        match (
            self.filled(keys::FS_TYPE),
            self.filled(keys::FS_TYPE_DEPRECATED),
        ) {
            (Some(_), Some(old)) => Err(invalid(
                keys::FS_TYPE_DEPRECATED,
                old,
                "left out when \"csi.storage.k8s.io/fstype\" is there",
            )),
            (new, old) => Ok(new.or(old).map(str::to_owned)),
        }
    }

    fn encryption(&self) -> Result<Option<Encryption>, ParameterError> {
        let (secret, kind) = match (
            self.filled(keys::ENCRYPT_SECRET),
            self.filled(keys::ENCRYPT_TYPE),
        ) {
            (None, None) => return Ok(None),
            (Some(secret), Some(kind)) => (secret, kind),
            // Half a wish for encryption must not become a volume in plain text.
            (Some(value), None) => {
                let needs = "\"encryptType\" to be \"LUKS\"";
                return Err(ParameterError::Conflict {
                    parameter: keys::ENCRYPT_SECRET,
                    value: value.to_owned(),
                    needs,
                });
            }
            (None, Some(value)) => {
                let needs = "\"encryptSecret\" to be the <namespace>/<name> of a Secret";
                return Err(ParameterError::Conflict {
                    parameter: keys::ENCRYPT_TYPE,
                    value: value.to_owned(),
                    needs,
                });
            }
        };
        if kind != "LUKS" {
            return Err(invalid(keys::ENCRYPT_TYPE, kind, "LUKS"));
        }
        match secret.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Some(Encryption {
                    secret_namespace: namespace.to_owned(),
                    secret_name: name.to_owned(),
                }))
            }
            _ => Err(invalid(
                keys::ENCRYPT_SECRET,
                secret,
                "the <namespace>/<name> of a Secret",
            )),
        }
    }

    fn qos(&self) -> Result<Option<VolumeQoS>, ParameterError> {
        let qos = VolumeQoS {
            iops: self.limit(keys::IOPS)?,
            throughput: self.limit(keys::THROUGHPUT)?,
        };
        Ok((qos != VolumeQoS::default()).then_some(qos))
    }

    fn placement(&self) -> Result<Option<PlacementStrategy>, ParameterError> {
        match self.get(keys::PLACEMENT) {
            None => Ok(None),
            Some("spread") => Ok(Some(PlacementStrategy::Spread)),
            Some("binpack") => Ok(Some(PlacementStrategy::BinPack)),
            Some(value) => Err(invalid(keys::PLACEMENT, value, "spread or binpack")),
        }
    }

    /// The limit as it was written; empty if there is none.
    fn limit(&self, key: &'static str) -> Result<String, ParameterError> {
        let Some(value) = self.filled(key) else {
            return Ok(String::new());
        };
        match quantity::parse(value) {
            Ok(0) => Ok(String::new()),
            Ok(_) => Ok(value.to_owned()),
            Err(_) => Err(invalid(
                key,
                value,
                "a quantity such as 300 or 20Mi, or 0 for no limit",
            )),
        }
    }
}

fn invalid(parameter: &str, value: &str, expected: &str) -> ParameterError {
    ParameterError::Invalid {
        parameter: parameter.to_owned(),
        value: value.to_owned(),
        expected: expected.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIMPLE: [(&str, &str); 2] = [("poolClass", "HDD"), ("replicaNumber", "1")];

    fn with(more: &[(&str, &str)]) -> Result<VolumeClass, ParameterError> {
        let mut all: BTreeMap<&str, &str> = SIMPLE.into_iter().collect();
        all.extend(more.iter().copied());
        VolumeClass::parse(all)
    }

    fn message(result: Result<impl std::fmt::Debug, ParameterError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn the_least_class() {
        let class = VolumeClass::parse(SIMPLE).unwrap();
        let wanted = VolumeClass {
            pool_class: PoolClass::HDD,
            replicas: 1,
            convertible: false,
            fs_type: None,
            thin: false,
            encryption: None,
            qos: None,
            placement: None,
        };
        assert_eq!(class, wanted);
        assert_eq!(class.pool_name(), "LocalStorage_PoolHDD");
        assert_eq!(class.supported(), Ok(()));
    }

    #[test]
    fn a_class_with_everything_that_has_no_effect() {
        let class = with(&[
            ("poolType", "REGULAR"),
            ("volumeKind", "LVM"),
            ("striped", "true"),
            ("convertible", "False"),
            ("thin", ""),
            ("provision-iops-on-creation", "0"),
            ("csi.storage.k8s.io/fstype", "xfs"),
            ("csi.storage.k8s.io/node-stage-secret-name", "any"),
            ("csi.storage.k8s.io/pvc/name", "data"),
        ])
        .unwrap();
        assert_eq!(class.fs_type.as_deref(), Some("xfs"));
        assert_eq!(
            (class.convertible, class.thin, &class.qos),
            (false, false, &None)
        );
        assert_eq!(class.supported(), Ok(()));
    }

    #[test]
    fn a_class_may_say_how_its_volumes_are_placed() {
        let placement = |value: &str| with(&[("hawser.io/placement", value)]);
        let spread = placement("spread").unwrap();
        assert_eq!(spread.placement, Some(PlacementStrategy::Spread));
        assert_eq!(spread.supported(), Ok(()));
        let packed = placement("binpack").unwrap();
        assert_eq!(packed.placement, Some(PlacementStrategy::BinPack));
        for wrong in ["", "Spread", "bin-pack", "pile"] {
            assert_eq!(
                message(placement(wrong)),
                format!(
                    r#"parameter "hawser.io/placement" is "{wrong}": it must be spread or binpack"#
                )
            );
        }
    }

    #[test]
    fn several_copies_are_convertible_whatever_is_written() {
        let class = with(&[("replicaNumber", "2"), ("convertible", "false")]).unwrap();
        assert!(class.convertible);
    }

    #[test]
    fn parameters_as_prost_hands_them_over() {
        let map: std::collections::HashMap<String, String> = SIMPLE
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        assert!(VolumeClass::parse(&map).is_ok());
    }

    #[test]
    fn each_wrong_parameter_is_named_with_what_would_be_right() {
        assert_eq!(
            message(VolumeClass::parse([("replicaNumber", "1")])),
            r#"parameter "poolClass" is missing: set it to HDD, SSD or NVMe"#
        );
        assert_eq!(
            message(with(&[("poolClass", "hdd")])),
            r#"parameter "poolClass" is "hdd": it must be HDD, SSD or NVMe"#
        );
        assert_eq!(
            message(VolumeClass::parse([("poolClass", "HDD")])),
            r#"parameter "replicaNumber" is missing: set it to a whole number from 1 to 4"#
        );
        for number in ["0", "5", "-1", "two", "", "1.0", "99999999999999999999"] {
            assert_eq!(
                message(with(&[("replicaNumber", number)])),
                format!(
                    r#"parameter "replicaNumber" is "{number}": it must be a whole number from 1 to 4"#
                )
            );
        }
        assert_eq!(
            message(with(&[("convertible", "yes")])),
            r#"parameter "convertible" is "yes": it must be true or false"#
        );
        assert_eq!(
            message(with(&[("thin", "TRUE"), ("replicaNumber", "2")])),
            r#"parameter "thin" is "true", which needs "replicaNumber" to be "1""#
        );
        assert_eq!(
            message(with(&[("thin", "true"), ("convertible", "true")])),
            r#"parameter "thin" is "true", which needs "convertible" to be "false""#
        );
        assert_eq!(
            message(with(&[("encryptSecret", "vault/key")])),
            r#"parameter "encryptSecret" is "vault/key", which needs "encryptType" to be "LUKS""#
        );
        for secret in ["vault", "/key", "vault/", "a/b/c"] {
            assert_eq!(
                message(with(&[("encryptSecret", secret), ("encryptType", "LUKS")])),
                format!(
                    r#"parameter "encryptSecret" is "{secret}": it must be the <namespace>/<name> of a Secret"#
                )
            );
        }
        assert_eq!(
            message(with(&[("encryptSecret", "a/b"), ("encryptType", "luks")])),
            r#"parameter "encryptType" is "luks": it must be LUKS"#
        );
        assert_eq!(
            message(with(&[("provision-iops-on-creation", "many")])),
            r#"parameter "provision-iops-on-creation" is "many": it must be a quantity such as 300 or 20Mi, or 0 for no limit"#
        );
        assert_eq!(
            message(with(&[
                ("fstype", "xfs"),
                ("csi.storage.k8s.io/fstype", "ext4")
            ])),
            r#"parameter "fstype" is "xfs": it must be left out when "csi.storage.k8s.io/fstype" is there"#
        );
        let unknown = message(with(&[("replicanumber", "2")]));
        assert!(unknown.starts_with(
            r#"parameter "replicanumber" (value "2") is unknown: the known ones are poolClass, "#
        ));
    }

    #[test]
    fn what_this_version_does_not_serve_is_refused_by_name() {
        for (parameters, key, value) in [
            (vec![("replicaNumber", "2")], "replicaNumber", "2"),
            (vec![("convertible", "true")], "convertible", "true"),
            (vec![("thin", "True")], "thin", "true"),
            (
                vec![("encryptSecret", "a/b"), ("encryptType", "LUKS")],
                "encryptSecret",
                "a/b",
            ),
            (
                vec![("provision-iops-on-creation", "300")],
                "provision-iops-on-creation",
                "300",
            ),
            (
                vec![("provision-throughput-on-creation", "20Mi")],
                "provision-throughput-on-creation",
                "20Mi",
            ),
            (
                vec![("csi.storage.k8s.io/fstype", "zfs")],
                "csi.storage.k8s.io/fstype",
                "zfs",
            ),
        ] {
            let text = message(with(&parameters).unwrap().supported());
            let begin =
                format!("parameter {key:?} is {value:?}, which this version does not serve: use ");
            assert!(text.starts_with(&begin), "{text}");
        }
    }

    #[test]
    fn the_claim_is_known_if_both_its_names_are_there() {
        let claim = ClaimMetadata::parse([
            ("csi.storage.k8s.io/pvc/name", "data"),
            ("csi.storage.k8s.io/pvc/namespace", "shop"),
            ("csi.storage.k8s.io/pv/name", "pvc-1"),
        ]);
        let wanted = ClaimMetadata {
            namespace: "shop".to_owned(),
            name: "data".to_owned(),
            volume: "pvc-1".to_owned(),
        };
        assert_eq!(claim, Some(wanted));
        assert_eq!(
            ClaimMetadata::parse([("csi.storage.k8s.io/pvc/name", "data")]),
            None
        );
        assert_eq!(ClaimMetadata::parse(SIMPLE), None);
    }
}
