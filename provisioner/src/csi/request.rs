//! Parsing of what requests have in common: ids, capabilities, capacity ranges, topology. Everything that can be wrong in a
//! field is found here and named; nothing here looks at the cluster.

use std::collections::{BTreeMap, HashMap};

use hawser_api::{
    names,
    parameters::{ClaimMetadata, FS_TYPES, keys},
};
use hawser_csi::v1::{
    self as csi, TopologyRequirement, VolumeCapability,
    volume_capability::{AccessType, access_mode::Mode},
};

use super::refusal::Refusal;
use crate::{decide::size::Range, objects::is_object_name};

/// Longest string of a request, as CSI says.
const LONGEST: usize = 128;

/// How a volume is wanted: as a device or as a file system of this type (empty: the default).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    Block,
    Mount { fs_type: String },
}

/// The claim that a volume is made for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimRef {
    pub namespace: String,
    pub name: String,
}

impl std::fmt::Display for ClaimRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Which nodes may have the volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The only nodes allowed, best first; `None`: any node.
    pub allowed: Option<Vec<String>>,
    /// Nodes to be tried before others, best first.
    pub preferred: Vec<String>,
}

/// The volume id, which must be there. An id that can't be one of ours is not an error here: no volume has it.
pub fn volume_id(id: &str) -> Result<&str, Refusal> {
    if id.is_empty() {
        Err(Refusal::invalid(
            "volume_id is empty; it must name a volume",
        ))
    } else {
        Ok(id)
    }
}

/// A name suggested for a new volume.
pub fn new_name(name: &str) -> Result<&str, Refusal> {
    if name.is_empty() {
        return Err(Refusal::invalid(
            "name is empty; it must name the volume to be made",
        ));
    }
    if name.len() > LONGEST {
        let start: String = name.chars().take(40).collect();
        return Err(Refusal::invalid(format!(
            "name {start:?}... has {} bytes; at most {LONGEST} are allowed",
            name.len()
        )));
    }
    if let Some(odd) = name
        .chars()
        .find(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r'))
    {
        return Err(Refusal::invalid(format!(
            "name {name:?} contains the control character {odd:?}; leave it out"
        )));
    }
    Ok(name)
}

pub fn range(range: Option<&csi::CapacityRange>) -> Result<Range, Refusal> {
    let (required, limit) = range.map_or((0, 0), |r| (r.required_bytes, r.limit_bytes));
    Ok(Range::new(required, limit)?)
}

/// Checks one capability.
///
/// Access modes: every mode is served, always on the one node that has the volume. Claims that say `ReadWriteMany` or
/// `ReadOnlyMany` exist in running clusters and their pods share a node; publishing on a second node is what is refused.
pub fn capability(capability: &VolumeCapability) -> Result<Access, Refusal> {
    let mode = capability.access_mode.as_ref().map_or(0, |m| m.mode);
    match Mode::try_from(mode) {
        Ok(Mode::Unknown) => {
            return Err(Refusal::invalid(
                "volume_capability.access_mode is missing or UNKNOWN; use SINGLE_NODE_WRITER or another of CSI's modes",
            ));
        }
        Err(_) => {
            return Err(Refusal::invalid(format!(
                "volume_capability.access_mode is {mode}, which this driver does not know; use SINGLE_NODE_WRITER, \
                 SINGLE_NODE_SINGLE_WRITER or SINGLE_NODE_MULTI_WRITER"
            )));
        }
        Ok(_) => {}
    }
    match &capability.access_type {
        None => Err(Refusal::invalid(
            "volume_capability.access_type is missing; it must be block or mount",
        )),
        Some(AccessType::Block(_)) => Ok(Access::Block),
        Some(AccessType::Mount(mount)) => {
            let fs_type = mount.fs_type.as_str();
            if !fs_type.is_empty() && !FS_TYPES.contains(&fs_type) {
                return Err(Refusal::invalid(format!(
                    "volume_capability.mount.fs_type is {fs_type:?}; this driver makes {}",
                    FS_TYPES.join(", ")
                )));
            }
            Ok(Access::Mount {
                fs_type: fs_type.to_owned(),
            })
        }
    }
}

/// Checks a list of capabilities, all of which one volume must serve.
pub fn capabilities(list: &[VolumeCapability]) -> Result<Vec<Access>, Refusal> {
    if list.is_empty() {
        return Err(Refusal::invalid(
            "volume_capabilities is empty; at least one is needed",
        ));
    }
    let accesses: Vec<Access> = list.iter().map(capability).collect::<Result<_, _>>()?;
    let block = accesses.iter().filter(|a| **a == Access::Block).count();
    if block != 0 && block != accesses.len() {
        return Err(Refusal::invalid(
            "volume_capabilities asks for block and mount of the same volume; a volume is one or the other",
        ));
    }
    Ok(accesses)
}

/// The node that a topology's segments name.
fn node_of(segments: &HashMap<String, String>, field: &str) -> Result<String, Refusal> {
    let node = segments
        .get(names::LVM_TOPOLOGY_KEY)
        .filter(|node| !node.is_empty());
    node.cloned().ok_or_else(|| {
        let mut keys: Vec<&str> = segments.keys().map(String::as_str).collect();
        keys.sort_unstable();
        Refusal::invalid(format!(
            "{field} has a topology with the keys [{}]; each must have {:?} with the name of a node",
            keys.join(", "),
            names::LVM_TOPOLOGY_KEY
        ))
    })
}

/// The one node of a topology, if any is given.
pub fn topology_node(topology: Option<&csi::Topology>) -> Result<Option<String>, Refusal> {
    match topology {
        Some(topology) if !topology.segments.is_empty() => {
            node_of(&topology.segments, "accessible_topology").map(Some)
        }
        _ => Ok(None),
    }
}

/// Which nodes a new volume may be on.
pub fn topology(requirement: Option<&TopologyRequirement>) -> Result<Topology, Refusal> {
    let Some(requirement) = requirement else {
        return Ok(Topology::default());
    };
    let nodes = |list: &[csi::Topology], field: &str| -> Result<Vec<String>, Refusal> {
        let mut nodes = Vec::new();
        for topology in list {
            let node = node_of(&topology.segments, field)?;
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        Ok(nodes)
    };
    let preferred = nodes(
        &requirement.preferred,
        "accessibility_requirements.preferred",
    )?;
    let requisite = nodes(
        &requirement.requisite,
        "accessibility_requirements.requisite",
    )?;
    if requisite.is_empty() {
        return Ok(Topology {
            allowed: None,
            preferred,
        });
    }
    let first = preferred.iter().filter(|node| requisite.contains(node));
    let rest = requisite.iter().filter(|node| !preferred.contains(node));
    let allowed = first.chain(rest).cloned().collect();
    Ok(Topology {
        allowed: Some(allowed),
        preferred,
    })
}

/// The claim, if the sidecar tells (`--extra-create-metadata`). A name that no object can have is refused: it would become a
/// part of a URL.
pub fn claim<'a>(
    parameters: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<Option<ClaimRef>, Refusal> {
    let Some(ClaimMetadata {
        namespace, name, ..
    }) = ClaimMetadata::parse(parameters)
    else {
        return Ok(None);
    };
    for (key, value) in [(keys::PVC_NAMESPACE, &namespace), (keys::PVC_NAME, &name)] {
        if !is_object_name(value) {
            return Err(Refusal::parameter(
                key,
                format!(
                    "parameter {key:?} is {value:?}, which no object can be called; leave it to external-provisioner"
                ),
            ));
        }
    }
    Ok(Some(ClaimRef { namespace, name }))
}

/// What of the parameters becomes the volume's attributes: all but what Kubernetes keeps for itself (the file system's type,
/// names of secrets); the claim's and the volume's names stay.
#[must_use]
pub fn context<'a>(
    parameters: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> BTreeMap<String, String> {
    let kept = [keys::PVC_NAME, keys::PVC_NAMESPACE, keys::PV_NAME];
    parameters
        .into_iter()
        .filter(|(key, _)| !key.starts_with("csi.storage.k8s.io/") || kept.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use hawser_csi::v1::volume_capability::{AccessMode, BlockVolume, MountVolume};
    use tonic::Code;

    use super::*;

    fn a_capability(mode: i32, access: Option<AccessType>) -> VolumeCapability {
        VolumeCapability {
            access_mode: Some(AccessMode { mode }),
            access_type: access,
        }
    }

    fn mount(fs_type: &str) -> AccessType {
        AccessType::Mount(MountVolume {
            fs_type: fs_type.to_owned(),
            ..MountVolume::default()
        })
    }

    fn node(name: &str) -> csi::Topology {
        csi::Topology {
            segments: [(names::LVM_TOPOLOGY_KEY.to_owned(), name.to_owned())].into(),
        }
    }

    #[test]
    fn every_known_mode_is_served_and_unknown_ones_are_named() {
        for mode in 1..=7 {
            assert_eq!(
                capability(&a_capability(mode, Some(mount("xfs")))),
                Ok(Access::Mount {
                    fs_type: "xfs".into()
                })
            );
        }
        for mode in [0, 8, -1, i32::MAX] {
            let refusal = capability(&a_capability(mode, Some(mount("")))).unwrap_err();
            assert_eq!(refusal.code, Code::InvalidArgument);
            assert!(refusal.message.contains("access_mode"), "{refusal}");
        }
    }

    #[test]
    fn a_file_system_that_nobody_makes_is_refused_by_name() {
        let refusal = capability(&a_capability(1, Some(mount("ntfs")))).unwrap_err();
        assert!(
            refusal.message.contains("\"ntfs\"") && refusal.message.contains("ext4"),
            "{refusal}"
        );
        assert!(capability(&a_capability(1, None)).is_err());
    }

    #[test]
    fn block_and_mount_of_one_volume_are_refused() {
        let block = a_capability(1, Some(AccessType::Block(BlockVolume {})));
        assert_eq!(
            capabilities(std::slice::from_ref(&block)),
            Ok(vec![Access::Block])
        );
        assert!(capabilities(&[block, a_capability(1, Some(mount("")))]).is_err());
        assert!(capabilities(&[]).is_err());
    }

    #[test]
    fn names_have_limits() {
        assert!(new_name(&"n".repeat(128)).is_ok());
        assert!(new_name(&"n".repeat(129)).is_err());
        assert!(new_name("").is_err());
        assert!(new_name("a\u{7}b").is_err());
        assert!(
            new_name("../../etc").is_ok(),
            "odd names get a name made from them"
        );
    }

    #[test]
    fn preferred_nodes_come_first_among_the_allowed() {
        let requirement = TopologyRequirement {
            requisite: vec![node("a"), node("b"), node("c")],
            preferred: vec![node("c"), node("x"), node("a")],
        };
        let topology = topology(Some(&requirement)).unwrap();
        assert_eq!(
            topology.allowed,
            Some(vec!["c".into(), "a".into(), "b".into()])
        );
    }

    #[test]
    fn a_topology_without_our_key_is_refused() {
        let other = csi::Topology {
            segments: [("zone".to_owned(), "z".to_owned())].into(),
        };
        let requirement = TopologyRequirement {
            requisite: vec![other],
            preferred: Vec::new(),
        };
        let refusal = topology(Some(&requirement)).unwrap_err();
        assert!(
            refusal.message.contains("[zone]") && refusal.message.contains(names::LVM_TOPOLOGY_KEY),
            "{refusal}"
        );
    }

    #[test]
    fn the_volume_context_leaves_out_what_kubernetes_keeps() {
        let parameters: HashMap<String, String> = [
            ("poolClass", "HDD"),
            ("csi.storage.k8s.io/fstype", "xfs"),
            ("csi.storage.k8s.io/provisioner-secret-name", "s"),
            (keys::PVC_NAME, "data"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        let context = context(&parameters);
        assert_eq!(
            context.keys().map(String::as_str).collect::<Vec<_>>(),
            [keys::PVC_NAME, "poolClass"]
        );
    }
}
