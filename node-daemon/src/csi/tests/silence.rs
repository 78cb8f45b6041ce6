//! Devices that do not answer.

use super::*;
use hawser_csi::v1::VolumeHealthErrorType;

#[tokio::test]
async fn a_device_that_does_not_answer_is_told_and_nothing_waits_for_it() {
    let driver = a_driver().await;
    driver.volume("pvc-1", 10).await;
    driver.stage("pvc-1", mounted("", &[])).await.unwrap();
    let publication = driver.publication("pvc-1", "pods/1/mount", mounted("", &[]));
    driver.publish(publication).await.unwrap();
    driver.fake.world.lock().silent = true;

    let request = NodeGetVolumeStatsRequest {
        volume_id: "pvc-1".to_owned(),
        volume_path: driver.path("pods/1/mount"),
        ..NodeGetVolumeStatsRequest::default()
    };
    let mut client = driver.client.clone();
    let status = client.node_get_volume_stats(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let message = status.message();
    assert!(
        message.contains("pods/1/mount") && message.contains("not been answered"),
        "{message}"
    );

    let request = NodeGetVolumeHealthRequest {
        volume_id: "pvc-1".to_owned(),
        ..NodeGetVolumeHealthRequest::default()
    };
    let health = client.node_get_volume_health(request).await.unwrap();
    let health = health.into_inner().volume_health.unwrap();
    let [trouble] = health.health_statuses.as_slice() else {
        panic!("{health:?}");
    };
    assert_eq!(
        (trouble.status(), trouble.reason.as_str()),
        (VolumeHealthErrorType::Degraded, "NoAnswer")
    );
    assert!(trouble.message.contains("pvc-1"), "{}", trouble.message);
}
