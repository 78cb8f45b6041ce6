//! What comes after a volume is in use: growth, figures and health, and how kubelet gets to know the driver.

use super::*;

#[tokio::test]
async fn a_file_system_grows_with_its_device() {
    let driver = a_driver().await;
    driver.volume("pvc-1", 10).await;
    driver.stage("pvc-1", mounted("xfs", &[])).await.unwrap();
    driver
        .publish(driver.publication("pvc-1", "pods/1/mount", mounted("xfs", &[])))
        .await
        .unwrap();
    let status = driver
        .expand("pvc-1", "pods/1/mount", 20 * EXTENT)
        .await
        .unwrap_err();
    assert_eq!(
        status.code(),
        Code::Unavailable,
        "the replica has not grown yet"
    );
    driver.volume("pvc-1", 20).await;
    driver.fake.world.lock().grown.clear();
    assert_eq!(
        driver
            .expand("pvc-1", "pods/1/mount", 20 * EXTENT)
            .await
            .unwrap(),
        i64::try_from(20 * EXTENT).unwrap()
    );
    assert_eq!(
        driver.fake.world.lock().grown,
        [driver.kubelet.join("pods/1/mount")]
    );

    assert_eq!(
        driver
            .expand("pvc-9", "pods/1/mount", 0)
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    assert_eq!(
        driver
            .expand("pvc-1", "pods/9/mount", 0)
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    let request = NodeExpandVolumeRequest {
        volume_id: "pvc-9".to_owned(),
        volume_path: "some/path".to_owned(),
        ..NodeExpandVolumeRequest::default()
    };
    let status = driver
        .client
        .clone()
        .node_expand_volume(request)
        .await
        .unwrap_err();
    assert_eq!(
        status.code(),
        Code::NotFound,
        "an unknown volume is told before a wrong path"
    );
}

#[tokio::test]
async fn stats_and_health_say_what_is_wrong() {
    let driver = a_driver().await;
    driver.volume("pvc-1", 10).await;
    driver.stage("pvc-1", mounted("", &[])).await.unwrap();
    driver
        .publish(driver.publication("pvc-1", "pods/1/mount", mounted("", &[])))
        .await
        .unwrap();
    let stats = |volume: &str, path: String| {
        let request = NodeGetVolumeStatsRequest {
            volume_id: volume.to_owned(),
            volume_path: path,
            ..NodeGetVolumeStatsRequest::default()
        };
        let mut client = driver.client.clone();
        async move {
            client
                .node_get_volume_stats(request)
                .await
                .map(tonic::Response::into_inner)
        }
    };
    let good = stats("pvc-1", driver.path("pods/1/mount")).await.unwrap();
    assert_eq!(good.usage.len(), 2);
    assert_eq!(
        (
            good.usage[0].total,
            good.usage[0].available,
            good.usage[0].used
        ),
        (100, 60, 30)
    );
    assert!(!good.volume_condition.unwrap().abnormal);
    for (volume, path) in [
        ("pvc-9", "some/path"),
        ("pvc-1", "some/path"),
        ("pvc-1", "/nowhere"),
    ] {
        assert_eq!(
            stats(volume, path.to_owned()).await.unwrap_err().code(),
            Code::NotFound
        );
    }
    assert_eq!(
        stats("pvc-1", String::new()).await.unwrap_err().code(),
        Code::InvalidArgument
    );

    {
        let mut world = driver.fake.world.lock();
        world.broken_zeroing = true;
        world
            .mounts
            .iter_mut()
            .for_each(|mount| mount.super_options = "ro".to_owned());
    }
    let bad = stats("pvc-1", driver.path("pods/1/mount"))
        .await
        .unwrap()
        .volume_condition
        .unwrap();
    assert!(
        bad.abnormal
            && bad.message.contains("refuses writes")
            && bad.message.contains("Input/output"),
        "{bad:?}"
    );
    let request = NodeGetVolumeHealthRequest {
        volume_id: "pvc-1".to_owned(),
        ..NodeGetVolumeHealthRequest::default()
    };
    let health = driver
        .client
        .clone()
        .node_get_volume_health(request)
        .await
        .unwrap()
        .into_inner()
        .volume_health
        .unwrap();
    let reasons: Vec<_> = health
        .health_statuses
        .iter()
        .map(|entry| entry.reason.as_str())
        .collect();
    assert_eq!(reasons, ["FileSystemReadOnly", "ReadFailed"]);
}

#[tokio::test]
async fn the_node_and_the_plugin_introduce_themselves() {
    let driver = a_driver().await;
    let info = driver
        .client
        .clone()
        .node_get_info(NodeGetInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (info.node_id.as_str(), info.max_volumes_per_node),
        ("n1", 1000)
    );
    let segments = info.accessible_topology.unwrap().segments;
    assert_eq!(
        segments,
        HashMap::from([(names::LVM_TOPOLOGY_KEY.to_owned(), "n1".to_owned())])
    );
    let capabilities = driver
        .client
        .clone()
        .node_get_capabilities(NodeGetCapabilitiesRequest {})
        .await
        .unwrap();
    assert_eq!(capabilities.into_inner().capabilities.len(), 6);

    let mut identity = IdentityClient::new(connect(&driver.settings.csi_socket).await);
    let plugin = identity
        .get_plugin_info(GetPluginInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(plugin.name, "lvm.hwameistor.io");
    assert_eq!(
        identity
            .probe(ProbeRequest {})
            .await
            .unwrap()
            .into_inner()
            .ready,
        Some(true)
    );
    let capabilities = identity
        .get_plugin_capabilities(GetPluginCapabilitiesRequest {})
        .await
        .unwrap();
    assert_eq!(capabilities.into_inner().capabilities.len(), 3);
}

#[tokio::test]
async fn kubelet_registers_the_driver_and_the_sockets_go_at_the_end() {
    let driver = a_driver().await;
    let socket = driver
        .settings
        .registration_dir
        .join("lvm.hwameistor.io-reg.sock");
    let mut client = RegistrationClient::new(connect(&socket).await);
    let info = client.get_info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!(
        (info.r#type.as_str(), info.name.as_str()),
        ("CSIPlugin", "lvm.hwameistor.io")
    );
    assert_eq!(
        info.endpoint,
        driver.settings.csi_socket.display().to_string()
    );
    assert_eq!(driver.health.not_ready().len(), 1);
    let failed = RegistrationStatus {
        plugin_registered: false,
        error: "x".to_owned(),
    };
    client.notify_registration_status(failed).await.unwrap();
    assert_eq!(driver.health.not_ready().len(), 1);
    let done = RegistrationStatus {
        plugin_registered: true,
        error: String::new(),
    };
    client.notify_registration_status(done).await.unwrap();
    assert_eq!(driver.health.not_ready().len(), 0);

    driver.shutdown.begin("test");
    drop((client, driver.client));
    driver.shutdown.finished().await.unwrap();
    assert!(!socket.exists() && !driver.settings.csi_socket.exists());
}
