//! The Node service on its real wire: a client over a Unix socket, against a node in memory.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hawser_api::names;
use hawser_csi::registration::registration_client::RegistrationClient;
use hawser_csi::registration::{InfoRequest, RegistrationStatus};
use hawser_csi::v1::identity_client::IdentityClient;
use hawser_csi::v1::node_client::NodeClient;
use hawser_csi::v1::volume_capability::access_mode::Mode;
use hawser_csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use hawser_csi::v1::{
    CapacityRange, GetPluginCapabilitiesRequest, GetPluginInfoRequest, NodeExpandVolumeRequest,
    NodeGetCapabilitiesRequest, NodeGetInfoRequest, NodeGetVolumeHealthRequest,
    NodeGetVolumeStatsRequest, NodePublishVolumeRequest, NodeStageVolumeRequest,
    NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, ProbeRequest, VolumeCapability,
};
use hawser_runtime::health::Health;
use hawser_runtime::shutdown::Shutdown;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::{Settings, serve};
use crate::mount::{Content, FsType, Mount};
use crate::replica::fake::{EXTENT, Extent, FakeNode, POOL, When};
use crate::replica::node::{Node, Settled};
use crate::replica::plan::{Desired, Stage};

mod exposure;
mod info;
mod logs;
mod silence;
mod upkeep;
mod wrong;

struct Driver {
    fake: FakeNode,
    node: Arc<Node>,
    kubelet: PathBuf,
    client: NodeClient<Channel>,
    health: Health,
    shutdown: Shutdown,
    settings: Settings,
    _folder: tempfile::TempDir,
}

async fn connect(path: &std::path::Path) -> Channel {
    Endpoint::try_from(format!("unix://{}", path.display()))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

/// A driver that serves a node with one pool.
async fn a_driver() -> Driver {
    let folder = tempfile::tempdir().unwrap();
    let kubelet = folder.path().join("kubelet");
    std::fs::create_dir(&kubelet).unwrap();
    let settings = Settings {
        node_name: "n1".to_owned(),
        csi_socket: kubelet.join("plugins/lvm.hwameistor.io/csi.sock"),
        registration_dir: kubelet.join("plugins_registry"),
        kubelet_dir: kubelet.clone(),
    };
    let fake = FakeNode::new(200);
    let node = fake.start();
    let shutdown = Shutdown::new(Duration::from_secs(1));
    let health = Health::new(&shutdown);
    serve(&settings, node.clone(), &health, &shutdown).unwrap();
    let client = NodeClient::new(connect(&settings.csi_socket).await);
    Driver {
        fake,
        node,
        kubelet,
        client,
        health,
        shutdown,
        settings,
        _folder: folder,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as messages have it")]
fn mode(mode: Mode) -> Option<AccessMode> {
    Some(AccessMode { mode: mode.into() })
}

#[expect(clippy::unnecessary_wraps, reason = "as messages have it")]
fn mounted(fs: &str, flags: &[&str]) -> Option<VolumeCapability> {
    let mount = MountVolume {
        fs_type: fs.to_owned(),
        mount_flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        ..MountVolume::default()
    };
    Some(VolumeCapability {
        access_mode: mode(Mode::SingleNodeWriter),
        access_type: Some(AccessType::Mount(mount)),
    })
}

#[expect(clippy::unnecessary_wraps, reason = "as messages have it")]
fn block() -> Option<VolumeCapability> {
    Some(VolumeCapability {
        access_mode: mode(Mode::SingleNodeWriter),
        access_type: Some(AccessType::Block(BlockVolume {})),
    })
}

impl Driver {
    /// A volume as its replica makes it.
    async fn volume(&self, name: &str, extents: u64) {
        let desired = Desired {
            replica: format!("{name}-abc123"),
            volume: name.to_owned(),
            pool: POOL.to_owned(),
            bytes: extents * EXTENT,
            ..Desired::default()
        };
        let settled = self.node.settle(&desired, &BTreeSet::new()).await.unwrap();
        assert!(
            matches!(&settled, Settled::Rest { plan, .. } if plan.stage == Stage::Ready),
            "{settled:?}"
        );
    }

    fn path(&self, name: &str) -> String {
        self.kubelet.join(name).display().to_string()
    }

    async fn stage(
        &self,
        volume: &str,
        capability: Option<VolumeCapability>,
    ) -> Result<(), Status> {
        let request = NodeStageVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: self.path(&format!("staging/{volume}")),
            volume_capability: capability,
            ..NodeStageVolumeRequest::default()
        };
        self.client
            .clone()
            .node_stage_volume(request)
            .await
            .map(drop)
    }

    async fn unstage(&self, volume: &str) -> Result<(), Status> {
        let request = NodeUnstageVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: self.path(&format!("staging/{volume}")),
        };
        self.client
            .clone()
            .node_unstage_volume(request)
            .await
            .map(drop)
    }

    fn publication(
        &self,
        volume: &str,
        target: &str,
        capability: Option<VolumeCapability>,
    ) -> NodePublishVolumeRequest {
        NodePublishVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: self.path(&format!("staging/{volume}")),
            target_path: self.path(target),
            volume_capability: capability,
            ..NodePublishVolumeRequest::default()
        }
    }

    async fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), Status> {
        self.client
            .clone()
            .node_publish_volume(request)
            .await
            .map(drop)
    }

    async fn unpublish(&self, volume: &str, target: &str) -> Result<(), Status> {
        let request = NodeUnpublishVolumeRequest {
            volume_id: volume.to_owned(),
            target_path: self.path(target),
        };
        self.client
            .clone()
            .node_unpublish_volume(request)
            .await
            .map(drop)
    }

    async fn expand(&self, volume: &str, target: &str, required_bytes: u64) -> Result<i64, Status> {
        let request = NodeExpandVolumeRequest {
            volume_id: volume.to_owned(),
            volume_path: self.path(target),
            capacity_range: Some(CapacityRange {
                required_bytes: i64::try_from(required_bytes).unwrap(),
                limit_bytes: 0,
            }),
            ..NodeExpandVolumeRequest::default()
        };
        self.client
            .clone()
            .node_expand_volume(request)
            .await
            .map(|answer| answer.into_inner().capacity_bytes)
    }

    fn mounts(&self) -> Vec<Mount> {
        self.fake.world.lock().mounts.clone()
    }

    fn at(&self, target: &str) -> Option<Mount> {
        let path = self.kubelet.join(target);
        self.mounts()
            .into_iter()
            .rev()
            .find(|mount| mount.target == path)
    }

    fn content(&self, volume: &str) -> Content {
        self.fake.world.lock().lv(volume).unwrap().content.clone()
    }
}

fn refused(result: Result<(), Status>, code: Code, part: &str) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{}", status.message());
    assert!(status.message().contains(part), "{}", status.message());
}

#[tokio::test]
async fn a_volume_from_blank_to_two_pods_and_back() {
    let driver = a_driver().await;
    driver.volume("pvc-1", 10).await;
    for _ in 0..2 {
        driver
            .stage("pvc-1", mounted("", &["noatime"]))
            .await
            .unwrap();
    }
    assert_eq!(driver.content("pvc-1"), Content::Filesystem(FsType::Ext4));
    for target in ["pods/1/mount", "pods/2/mount"] {
        for _ in 0..2 {
            driver
                .publish(driver.publication("pvc-1", target, mounted("", &["noatime"])))
                .await
                .unwrap();
        }
        assert!(driver.kubelet.join(target).is_dir());
    }
    assert_eq!(driver.mounts().len(), 3, "each mounted once");
    {
        let world = driver.fake.world.lock();
        let tags = world.tags("pvc-1");
        assert_eq!(
            (tags.fs, tags.unzeroed, tags.formatting),
            (Some(FsType::Ext4), None, None)
        );
        assert_eq!(
            world
                .log
                .iter()
                .filter(|what| what.starts_with("mkfs"))
                .count(),
            1
        );
    }
    for target in ["pods/1/mount", "pods/2/mount"] {
        for _ in 0..2 {
            driver.unpublish("pvc-1", target).await.unwrap();
        }
        assert!(
            !driver.kubelet.join(target).exists(),
            "the target is taken away"
        );
    }
    for _ in 0..2 {
        driver.unstage("pvc-1").await.unwrap();
    }
    assert_eq!(driver.mounts(), []);
    assert_eq!(driver.fake.world.lock().check(), Vec::<String>::new());
}

#[tokio::test]
async fn every_field_that_can_be_wrong_is_named() {
    let driver = a_driver().await;
    driver.volume("pvc-1", 10).await;
    let changes = driver.fake.world.lock().log.len();
    refused(
        driver.stage("", mounted("", &[])).await,
        Code::InvalidArgument,
        "volume_id",
    );
    refused(
        driver.stage("pvc-1", None).await,
        Code::InvalidArgument,
        "volume_capability",
    );
    refused(
        driver.stage("pvc-9", mounted("", &[])).await,
        Code::NotFound,
        "pvc-9 is not on this node",
    );
    refused(
        driver.stage(&"x".repeat(128), mounted("", &[])).await,
        Code::NotFound,
        "is not on this node",
    );
    refused(
        driver.stage("pvc-1", mounted("ntfs", &[])).await,
        Code::InvalidArgument,
        "ext4, xfs or btrfs",
    );
    refused(
        driver.stage("pvc-1", mounted("", &["ro"])).await,
        Code::FailedPrecondition,
        "blank",
    );

    let mut request = driver.publication("pvc-1", "pods/1", mounted("", &[]));
    request.target_path = String::new();
    refused(
        driver.publish(request.clone()).await,
        Code::InvalidArgument,
        "target_path is empty",
    );
    request.target_path = driver.path("pods/../../etc");
    refused(
        driver.publish(request.clone()).await,
        Code::InvalidArgument,
        "contains ..",
    );
    request.target_path = "/etc".to_owned();
    refused(
        driver.publish(request).await,
        Code::InvalidArgument,
        "outside of kubelet's folder",
    );
    refused(
        driver
            .publish(driver.publication("pvc-9", "pods/1", mounted("", &[])))
            .await,
        Code::NotFound,
        "pvc-9",
    );

    let wrong = NodeUnpublishVolumeRequest {
        volume_id: "pvc-1".to_owned(),
        target_path: "x".to_owned(),
    };
    refused(
        driver
            .client
            .clone()
            .node_unpublish_volume(wrong)
            .await
            .map(drop),
        Code::InvalidArgument,
        "not absolute",
    );
    let wrong = NodeUnstageVolumeRequest {
        volume_id: "pvc-1".to_owned(),
        ..NodeUnstageVolumeRequest::default()
    };
    refused(
        driver
            .client
            .clone()
            .node_unstage_volume(wrong)
            .await
            .map(drop),
        Code::InvalidArgument,
        "staging_target_path",
    );
    assert_eq!(
        driver.fake.world.lock().log.len(),
        changes,
        "nothing was changed"
    );
}

#[tokio::test]
async fn what_is_not_blank_is_never_formatted() {
    let driver = a_driver().await;
    for (content, part) in [
        (
            Content::Filesystem(FsType::Xfs),
            "holds a file system of type xfs",
        ),
        (
            Content::Other("LVM2_member data".to_owned()),
            "holds LVM2_member data",
        ),
    ] {
        driver.volume("pvc-1", 10).await;
        driver
            .fake
            .world
            .lock()
            .lvs
            .values_mut()
            .next()
            .unwrap()
            .content = content.clone();
        refused(
            driver.stage("pvc-1", mounted("ext4", &[])).await,
            Code::FailedPrecondition,
            part,
        );
        assert_eq!(driver.content("pvc-1"), content);
    }
    // What it held is not to be seen any more.
    driver.volume("pvc-3", 10).await;
    driver.stage("pvc-3", mounted("", &[])).await.unwrap();
    driver.unstage("pvc-3").await.unwrap();
    let key = (POOL.to_owned(), "pvc-3".to_owned());
    driver.fake.world.lock().lvs.get_mut(&key).unwrap().content = Content::Blank;
    refused(
        driver.stage("pvc-3", mounted("", &[])).await,
        Code::FailedPrecondition,
        "held a file system of type ext4",
    );
    // A block volume's content has no signature that a probe knows.
    driver.volume("pvc-2", 10).await;
    driver.stage("pvc-2", block()).await.unwrap();
    refused(
        driver.stage("pvc-2", mounted("ext4", &[])).await,
        Code::FailedPrecondition,
        "published as a block device",
    );
}

#[tokio::test]
async fn formatting_that_was_cut_off_is_done_again() {
    for (changes, when) in (0..6).flat_map(|n| [(n, When::Before), (n, When::After)]) {
        let driver = a_driver().await;
        driver.volume("pvc-1", 10).await;
        driver.fake.world.lock().fault = Some((changes, when));
        let first = driver.stage("pvc-1", mounted("xfs", &[])).await;
        driver.fake.world.lock().fault = None;
        driver
            .stage("pvc-1", mounted("xfs", &[]))
            .await
            .unwrap_or_else(|status| panic!("{changes} {when:?} {first:?} {status:?}"));
        assert_eq!(driver.content("pvc-1"), Content::Filesystem(FsType::Xfs));
        let staged = driver.mounts();
        assert!(!staged.is_empty());
        assert_eq!(driver.fake.world.lock().check(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_block_volume_shows_nothing_of_others_and_serves_several_pods() {
    let driver = a_driver().await;
    driver.volume("pvc-1", 30).await;
    for _ in 0..2 {
        driver.stage("pvc-1", block()).await.unwrap();
    }
    {
        let world = driver.fake.world.lock();
        assert!(
            world
                .lv("pvc-1")
                .unwrap()
                .extents
                .iter()
                .all(|extent| *extent == Extent::Zero)
        );
        assert!(world.tags("pvc-1").raw);
        assert_eq!(world.check(), Vec::<String>::new());
    }
    for target in ["publish/1", "publish/2"] {
        for _ in 0..2 {
            driver
                .publish(driver.publication("pvc-1", target, block()))
                .await
                .unwrap();
        }
        assert!(driver.kubelet.join(target).is_file());
        assert_eq!(driver.at(target).unwrap().fs_type, "devtmpfs");
    }
    refused(
        driver
            .publish(driver.publication("pvc-1", "publish/1", mounted("", &[])))
            .await,
        Code::AlreadyExists,
        "as a block device",
    );
    driver.unpublish("pvc-1", "publish/1").await.unwrap();
    assert!(!driver.kubelet.join("publish/1").exists() && driver.at("publish/2").is_some());
}

#[tokio::test]
async fn read_only_is_read_only_also_after_an_interruption() {
    let driver = a_driver().await;
    driver.volume("pvc-1", 10).await;
    driver.stage("pvc-1", mounted("", &[])).await.unwrap();
    let mut request = driver.publication("pvc-1", "pods/1/mount", mounted("", &[]));
    request.readonly = true;
    // The bind succeeds, making it read-only fails: nothing may be left that could be written.
    driver.fake.world.lock().fault = Some((1, When::Before));
    driver.publish(request.clone()).await.unwrap_err();
    assert!(driver.at("pods/1/mount").is_none());
    driver.publish(request.clone()).await.unwrap();
    assert!(driver.at("pods/1/mount").unwrap().bound_read_only());
    assert!(!driver.at("staging/pvc-1").unwrap().bound_read_only());
    // Killed in between.
    driver.fake.world.lock().mounts.last_mut().unwrap().options = "rw".to_owned();
    driver.publish(request.clone()).await.unwrap();
    assert!(driver.at("pods/1/mount").unwrap().bound_read_only());
    request.readonly = false;
    refused(
        driver.publish(request).await,
        Code::AlreadyExists,
        "read-only",
    );
}

#[tokio::test]
async fn attachments_of_before_staging_are_served() {
    let driver = a_driver().await;
    driver.volume("pvc-1", 10).await;
    driver.unstage("pvc-1").await.unwrap();
    let mut request = driver.publication("pvc-1", "pods/1/mount", mounted("", &[]));
    request.staging_target_path = String::new();
    request.publish_context =
        HashMap::from([("volumeReplicaDevicePath".to_owned(), "/dev/x/y".to_owned())]);
    driver.publish(request).await.unwrap();
    assert_eq!(driver.at("pods/1/mount").unwrap().fs_type, "ext4");
    // A staging path at which nothing is mounted.
    driver
        .publish(driver.publication("pvc-1", "pods/2/mount", mounted("", &[])))
        .await
        .unwrap();
    assert_eq!(driver.mounts().len(), 2);
    driver.unpublish("pvc-1", "pods/1/mount").await.unwrap();
    driver.unpublish("pvc-1", "pods/2/mount").await.unwrap();
    assert_eq!(driver.mounts(), []);
}

#[tokio::test]
async fn a_single_writer_has_one_target() {
    let driver = a_driver().await;
    driver.volume("pvc-1", 10).await;
    driver.stage("pvc-1", mounted("", &[])).await.unwrap();
    let mut single = mounted("", &[]);
    single.as_mut().unwrap().access_mode = mode(Mode::SingleNodeSingleWriter);
    driver
        .publish(driver.publication("pvc-1", "pods/1/mount", single.clone()))
        .await
        .unwrap();
    driver
        .publish(driver.publication("pvc-1", "pods/1/mount", single.clone()))
        .await
        .unwrap();
    refused(
        driver
            .publish(driver.publication("pvc-1", "pods/2/mount", single))
            .await,
        Code::FailedPrecondition,
        "SINGLE_NODE_SINGLE_WRITER and is published at",
    );
}

#[tokio::test]
async fn places_that_are_taken_are_left_alone() {
    let driver = a_driver().await;
    driver.volume("pvc-1", 10).await;
    driver.volume("pvc-2", 10).await;
    driver.stage("pvc-1", mounted("", &[])).await.unwrap();
    let mut other = driver.at("staging/pvc-1").unwrap();
    other.target = driver.kubelet.join("staging/pvc-2");
    driver.fake.world.lock().mounts.push(other);
    refused(
        driver.stage("pvc-2", mounted("", &[])).await,
        Code::FailedPrecondition,
        "is taken",
    );
    refused(
        driver.stage("pvc-1", mounted("xfs", &[])).await,
        Code::AlreadyExists,
        "with file system ext4",
    );
    // Files of somebody in a target.
    let folder = driver.kubelet.join("pods/1");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("file"), "x").unwrap();
    refused(
        driver.unpublish("pvc-1", "pods/1").await,
        Code::FailedPrecondition,
        "holds files",
    );
    assert!(folder.join("file").exists());
}

#[tokio::test]
async fn one_operation_per_volume_and_others_go_on() {
    let driver = a_driver().await;
    driver.volume("pvc-1", 10).await;
    driver.volume("pvc-2", 10).await;
    let guard = driver.node.locks.for_call("pvc-1").await.unwrap();
    refused(
        driver.stage("pvc-1", mounted("", &[])).await,
        Code::Aborted,
        "pvc-1",
    );
    refused(driver.unstage("pvc-1").await, Code::Aborted, "pvc-1");
    driver.stage("pvc-2", mounted("", &[])).await.unwrap();
    drop(guard);
    driver.stage("pvc-1", mounted("", &[])).await.unwrap();
}
