//! How many volumes the node says it can hold.

use super::*;

async fn max_volumes(driver: &Driver) -> i64 {
    let mut client = driver.client.clone();
    let info = client.node_get_info(NodeGetInfoRequest {}).await;
    info.unwrap().into_inner().max_volumes_per_node
}

/// kubelet may never ask again after the driver has registered, so before there is a pool the node says what it could get to; when it
/// is asked once more, it says what it has.
#[tokio::test]
async fn the_limit_follows_the_pools() {
    let driver = a_driver().await;
    let most = names::pools::MAX_VOLUMES;
    driver.fake.world.lock().groups.clear();
    // Somebody else's group is no pool.
    let mut others = vec![("root".to_owned(), 100)];
    driver.fake.world.lock().groups.extend(others.clone());
    assert_eq!(max_volumes(&driver).await, 3 * most, "no pool yet");
    for (count, class) in (1..).zip(["HDD", "SSD", "NVMe"]) {
        let pool = format!("{}{class}", names::pools::VG_PREFIX);
        others = vec![(pool, 100)];
        driver.fake.world.lock().groups.extend(others.clone());
        assert_eq!(max_volumes(&driver).await, count * most, "{class}");
    }
}
