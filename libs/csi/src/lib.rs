//! The Container Storage Interface and kubelet's plugin registration as Rust code: messages, clients, servers.
//!
//! Nothing else lives here: no validation, no behaviour. See `proto/README.md` for where the `.proto` files come from.

pub use prost_types::Timestamp;

/// `csi.v1`: the services Identity, Controller, Node and the others, each as `<service>_client` and `<service>_server`.
///
/// `Debug` of a message hides secrets, parameters and contexts. `VolumeCondition`, which CSI 1.13 removed, is still here
/// (build.rs says why).
#[allow(
    clippy::all,
    clippy::pedantic,
    missing_docs,
    unreachable_pub,
    rustdoc::all,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("csi.v1");

    /// Stands for a hidden map of so many entries.
    struct Hidden(usize);

    impl ::core::fmt::Debug for Hidden {
        fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
            write!(f, "<{} hidden>", self.0)
        }
    }

    include!(concat!(env!("OUT_DIR"), "/redacted.rs"));
}

/// `pluginregistration`: what kubelet asks a plugin on its registration socket.
#[allow(
    clippy::all,
    clippy::pedantic,
    missing_docs,
    unreachable_pub,
    rustdoc::all,
    reason = "generated code"
)]
pub mod registration {
    tonic::include_proto!("pluginregistration");
}

#[cfg(test)]
mod tests {
    use super::v1::{CreateVolumeRequest, NodePublishVolumeRequest, NodeStageVolumeRequest};

    #[test]
    fn volume_condition_keeps_its_old_numbers_on_the_wire() {
        use super::v1::{NodeGetVolumeStatsResponse, VolumeCondition, node_service_capability};
        let response = NodeGetVolumeStatsResponse {
            usage: Vec::new(),
            volume_condition: Some(VolumeCondition {
                abnormal: true,
                message: "x".to_owned(),
            }),
        };
        assert_eq!(
            prost::Message::encode_to_vec(&response),
            [0x12, 5, 0x08, 1, 0x12, 1, b'x']
        );
        assert_eq!(
            node_service_capability::rpc::Type::VolumeCondition as i32,
            4
        );
    }

    fn a_map() -> std::collections::HashMap<String, String> {
        std::iter::once(("the-key".to_owned(), "the-value".to_owned())).collect()
    }

    #[test]
    fn debug_hides_secrets_and_parameters_and_shows_the_rest() {
        let create = CreateVolumeRequest {
            name: "pvc-1".to_owned(),
            parameters: a_map(),
            secrets: a_map(),
            mutable_parameters: a_map(),
            ..Default::default()
        };
        let stage = NodeStageVolumeRequest {
            volume_id: "pvc-1".to_owned(),
            secrets: a_map(),
            volume_context: a_map(),
            publish_context: a_map(),
            ..Default::default()
        };
        let publish = NodePublishVolumeRequest {
            volume_id: "pvc-1".to_owned(),
            target_path: "/pods/1".to_owned(),
            secrets: a_map(),
            volume_context: a_map(),
            publish_context: a_map(),
            ..Default::default()
        };
        for text in [
            format!("{create:?}"),
            format!("{stage:?}"),
            format!("{publish:?}"),
        ] {
            assert!(text.contains("pvc-1"), "{text}");
            assert!(
                !text.contains("the-key") && !text.contains("the-value"),
                "{text}"
            );
        }
    }
}
