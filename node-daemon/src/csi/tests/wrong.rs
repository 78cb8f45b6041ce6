//! Requests that make no sense, field by field: refused over the wire, and nothing is changed.

use super::*;

/// What a wrong path is, and how the refusal says it.
const PATHS: [(&str, &str); 4] = [
    ("", "is empty"),
    ("staging/pvc-1", "is not absolute"),
    ("/etc", "outside of kubelet's folder"),
    ("KUBELET/pods/../../etc", "contains .."),
];

impl Driver {
    /// A path of [`PATHS`] for this driver's kubelet.
    fn wrong_path(&self, pattern: &str) -> String {
        pattern.replace("KUBELET", &self.kubelet.display().to_string())
    }

    /// Whatever a call can change.
    fn changes(&self) -> (usize, Vec<Mount>, Vec<PathBuf>) {
        let world = self.fake.world.lock();
        (world.log.len(), world.mounts.clone(), world.grown.clone())
    }
}

#[tokio::test]
async fn paths_that_lead_elsewhere_are_refused_by_every_call() {
    let driver = a_driver().await;
    driver.volume("pvc-1", 10).await;
    driver.stage("pvc-1", mounted("", &[])).await.unwrap();
    let before = driver.changes();
    let mut client = driver.client.clone();
    for (pattern, part) in PATHS {
        let path = driver.wrong_path(pattern);
        let stage = NodeStageVolumeRequest {
            volume_id: "pvc-1".to_owned(),
            staging_target_path: path.clone(),
            volume_capability: mounted("", &[]),
            ..NodeStageVolumeRequest::default()
        };
        let unstage = NodeUnstageVolumeRequest {
            volume_id: "pvc-1".to_owned(),
            staging_target_path: path.clone(),
        };
        let publish = NodePublishVolumeRequest {
            target_path: path.clone(),
            ..driver.publication("pvc-1", "pods/1", mounted("", &[]))
        };
        let unpublish = NodeUnpublishVolumeRequest {
            volume_id: "pvc-1".to_owned(),
            target_path: path.clone(),
        };
        let grow = NodeExpandVolumeRequest {
            volume_id: "pvc-1".to_owned(),
            volume_path: path.clone(),
            ..NodeExpandVolumeRequest::default()
        };
        let answers = [
            client.node_stage_volume(stage).await.map(drop),
            client.node_unstage_volume(unstage).await.map(drop),
            client.node_publish_volume(publish).await.map(drop),
            client.node_unpublish_volume(unpublish).await.map(drop),
            client.node_expand_volume(grow).await.map(drop),
        ];
        for answer in answers {
            refused(answer, Code::InvalidArgument, part);
        }
    }
    // Where it may be left out, it must not be wrong either.
    for (pattern, part) in &PATHS[1..] {
        let publish = NodePublishVolumeRequest {
            staging_target_path: driver.wrong_path(pattern),
            ..driver.publication("pvc-1", "pods/1", mounted("", &[]))
        };
        refused(driver.publish(publish).await, Code::InvalidArgument, part);
    }
    assert_eq!(driver.changes(), before, "nothing was changed");
}

#[tokio::test]
async fn a_volume_must_be_named_and_known() {
    let driver = a_driver().await;
    driver.volume("pvc-1", 10).await;
    let before = driver.changes();
    let mut client = driver.client.clone();
    let long = "x".repeat(128);
    for (volume, code, part) in [
        ("", Code::InvalidArgument, "volume_id is empty"),
        ("pvc-9", Code::NotFound, "pvc-9"),
        ("../pvc-1", Code::NotFound, "../pvc-1"),
        (long.as_str(), Code::NotFound, long.as_str()),
    ] {
        let path = driver.path("pods/1");
        let publish = NodePublishVolumeRequest {
            volume_id: volume.to_owned(),
            ..driver.publication("pvc-1", "pods/1", mounted("", &[]))
        };
        let stats = NodeGetVolumeStatsRequest {
            volume_id: volume.to_owned(),
            volume_path: path.clone(),
            ..NodeGetVolumeStatsRequest::default()
        };
        let health = NodeGetVolumeHealthRequest {
            volume_id: volume.to_owned(),
            ..NodeGetVolumeHealthRequest::default()
        };
        let grow = NodeExpandVolumeRequest {
            volume_id: volume.to_owned(),
            volume_path: path,
            ..NodeExpandVolumeRequest::default()
        };
        let answers = [
            driver.publish(publish).await,
            client.node_get_volume_stats(stats).await.map(drop),
            client.node_get_volume_health(health).await.map(drop),
            client.node_expand_volume(grow).await.map(drop),
        ];
        for answer in answers {
            refused(answer, code, part);
        }
    }
    for answer in [
        driver.unstage("").await,
        driver.unpublish("", "pods/1").await,
    ] {
        refused(answer, Code::InvalidArgument, "volume_id is empty");
    }
    assert_eq!(driver.changes(), before, "nothing was changed");
}

#[tokio::test]
async fn sizes_and_capabilities_that_make_no_sense_are_named() {
    let driver = a_driver().await;
    driver.volume("pvc-1", 10).await;
    driver.stage("pvc-1", mounted("", &[])).await.unwrap();
    let publication = driver.publication("pvc-1", "pods/1/mount", mounted("", &[]));
    driver.publish(publication).await.unwrap();
    let before = driver.changes();
    let mut client = driver.client.clone();
    for (required_bytes, limit_bytes, code, part) in [
        (-1, 0, Code::InvalidArgument, "required_bytes is -1"),
        (0, -1, Code::InvalidArgument, "limit_bytes is -1"),
        (
            8 << 20,
            4 << 20,
            Code::InvalidArgument,
            "limit_bytes is 4194304, less than required_bytes 8388608",
        ),
        // The device comes first; it has not grown to that.
        (i64::MAX, 0, Code::Unavailable, "9223372036854775807"),
    ] {
        let request = NodeExpandVolumeRequest {
            volume_id: "pvc-1".to_owned(),
            volume_path: driver.path("pods/1/mount"),
            capacity_range: Some(CapacityRange {
                required_bytes,
                limit_bytes,
            }),
            ..NodeExpandVolumeRequest::default()
        };
        let answer = client.node_expand_volume(request).await.map(drop);
        refused(answer, code, part);
    }
    let mut without_mode = mounted("", &[]);
    without_mode.as_mut().unwrap().access_mode = None;
    for (capability, part) in [
        (None, "volume_capability is missing"),
        (without_mode, "access_mode is missing"),
        (mounted("ext4 -o exec", &[]), "ext4, xfs or btrfs"),
        (mounted("", &["remount"]), "\"remount\""),
    ] {
        let publication = driver.publication("pvc-1", "pods/2/mount", capability.clone());
        refused(
            driver.publish(publication).await,
            Code::InvalidArgument,
            part,
        );
        refused(
            driver.stage("pvc-1", capability).await,
            Code::InvalidArgument,
            part,
        );
    }
    assert_eq!(driver.changes(), before, "nothing was changed");
}
