//! Only the leader serves and writes.

use hawser_csi::v1::ProbeRequest;
use tonic::Code;

use crate::support::{World, nodes::GIB, request};

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_lead_any_more_is_not_ready_and_writes_nothing() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = world.start().await;
    let mut identity = provisioner.identity();
    assert_eq!(
        identity
            .probe(ProbeRequest {})
            .await
            .unwrap()
            .into_inner()
            .ready,
        Some(true)
    );
    provisioner.create(request("pvc-1", GIB)).await.unwrap();
    world
        .until("the volume is Ready", |w| {
            w.volume("pvc-1").unwrap()["status"]["state"] == "Ready"
        })
        .await;

    provisioner.permit.fixed(false);
    assert_eq!(
        identity
            .probe(ProbeRequest {})
            .await
            .unwrap()
            .into_inner()
            .ready,
        Some(false)
    );
    world.api.forget_calls();
    for refused in [
        provisioner.create(request("pvc-2", GIB)).await.unwrap_err(),
        provisioner.delete("pvc-1").await.unwrap_err(),
        provisioner.publish("pvc-1", "n1").await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::Unavailable);
    }
    world.api.edit("localvolumes", "", "pvc-1", |v| {
        v["spec"]["delete"] = true.into()
    });
    world.api.edit("localvolumes", "", "pvc-1", |v| {
        v["spec"]["delete"] = false.into()
    });
    let wrote = world
        .api
        .calls()
        .into_iter()
        .any(|c| c.is_write() && c.plural() != "events");
    assert!(!wrote, "wrote without leading");
}
