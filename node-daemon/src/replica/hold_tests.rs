//! Objects that lack Hawser's finalizer, as HwameiStor wrote them: those with data get it, before anybody can ask for their end.

use hawser_api::{LocalVolumeReplicaSpec, LocalVolumeReplicaStatus};
use hawser_runtime::testing::FakeApi;
use serde_json::Value;

use super::fake::{EXTENT, FakeNode, POOL};
use super::*;

const PATH: &str = "/apis/hwameistor.io/v1alpha1/localvolumereplicas/pvc-1-x7k2mq";

/// An object of HwameiStor's; `made`: with the status of a volume that is there.
fn an_old_replica(made: bool) -> LocalVolumeReplica {
    let bytes = i64::try_from(10 * EXTENT).unwrap();
    let mut replica = LocalVolumeReplica::new(
        "pvc-1-x7k2mq",
        LocalVolumeReplicaSpec {
            volume_name: "pvc-1".to_owned(),
            pool_name: POOL.to_owned(),
            node_name: "n1".to_owned(),
            required_capacity_bytes: bytes,
            ..LocalVolumeReplicaSpec::default()
        },
    );
    replica.status = made.then(|| LocalVolumeReplicaStatus {
        allocated_capacity_bytes: bytes,
        state: ReplicaState::Ready,
        ..LocalVolumeReplicaStatus::default()
    });
    replica
}

/// What a daemon that has the object and an untagged logical volume of its name makes of the object.
async fn settled(replica: &LocalVolumeReplica) -> Value {
    let (api, fake) = (FakeApi::new(), FakeNode::new(100));
    fake.foreign("pvc-1", 10);
    api.put(PATH, serde_json::to_value(replica).unwrap());
    let stored = serde_json::from_value(api.object(PATH).unwrap()).unwrap();
    let shutdown = Shutdown::new(Duration::from_secs(1));
    let (_keep, gate) = watch::channel(true);
    let replicas = Replicas {
        node: fake.start(),
        api: Api::all(api.client()),
        store: Store::of([stored]),
        recorder: Recorder::new(api.client(), "test", "n1", &shutdown),
        gate,
    };
    replicas.settle_all("pvc-1").await.unwrap();
    api.object(PATH).unwrap()
}

#[tokio::test]
async fn a_copy_with_data_that_lacks_the_finalizer_gets_it() {
    let object = settled(&an_old_replica(true)).await;
    let finalizers = &object["metadata"]["finalizers"];
    assert_eq!(*finalizers, serde_json::json!([names::finalizers::REPLICA]));
    assert_eq!(object["status"]["state"], "Ready");
}

#[tokio::test]
async fn a_copy_that_was_never_made_is_not_held() {
    let object = settled(&an_old_replica(false)).await;
    assert_eq!(object["metadata"]["finalizers"], Value::Null);
}

#[tokio::test]
async fn a_copy_that_is_to_go_is_not_held_any_more() {
    let mut replica = an_old_replica(true);
    replica.spec.delete = true;
    let object = settled(&replica).await;
    assert_eq!(object["metadata"]["finalizers"], Value::Null);
}
