//! Whole rounds against an API server and an LVM in memory, cut off at every step.

use super::*;
use crate::disk::builders::{a_bare_disk, a_scan};
use crate::disk::scan::Places;
use crate::disk::{Content, Disk};
use crate::lvm::fake::{FakeLvm, Fault as LvmFault};
use crate::pool::prove::Prove;
use crate::signature::Looker;
use async_trait::async_trait;
use hawser_api::DiskClaimState;
use hawser_runtime::events::Recorder;
use hawser_runtime::index::Index;
use hawser_runtime::testing::{FakeApi, Fault};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

const DISKS: &str = "/apis/hwameistor.io/v1alpha1/localdisks/";
const CLAIMS: &str = "/apis/hwameistor.io/v1alpha1/localdiskclaims/";
const STORAGE: &str = "/apis/hwameistor.io/v1alpha1/localstoragenodes/n1";

struct Blank;

#[async_trait]
impl Prove for Blank {
    async fn prove_blank(&self, _: &Disk) -> Result<(), String> {
        Ok(())
    }
}

struct Mounted;

#[async_trait]
impl Prove for Mounted {
    async fn prove_blank(&self, _: &Disk) -> Result<(), String> {
        Err("is mounted at /data".to_owned())
    }
}

/// A node with disks ubdb and ubdc.
struct Lab {
    api: FakeApi,
    lvm: FakeLvm,
    shutdown: Shutdown,
}

impl Lab {
    fn new() -> Self {
        let (api, lvm) = (FakeApi::new(), FakeLvm::default());
        for letter in ['b', 'c'] {
            let disk = a_bare_disk(letter);
            lvm.add_device(&disk.path, disk.number, disk.bytes);
        }
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": "n1", "labels": { "topology.kubernetes.io/zone": "z1" } },
            "status": { "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }] }
        }))
        .unwrap();
        api.put("/api/v1/nodes/n1", serde_json::to_value(node).unwrap());
        Self {
            api,
            lvm,
            shutdown: Shutdown::new(Duration::from_secs(1)),
        }
    }

    /// A daemon that has just started: it knows the objects and nothing else.
    fn daemon(&self, prove: Arc<dyn Prove>) -> Keeper {
        let client = self.api.client();
        let objects = Objects::default();
        let all = |prefix: &str| -> Vec<serde_json::Value> {
            let paths = self.api.paths().into_iter();
            paths
                .filter(|p| p.starts_with(prefix))
                .filter_map(|p| self.api.object(&p))
                .collect()
        };
        for object in all(DISKS) {
            // As the two watches select.
            let object: Arc<LocalDisk> = Arc::new(serde_json::from_value(object).unwrap());
            if object.spec.node_name == "n1" {
                objects.disks.apply(object.clone());
            }
            if object.spec.pre_node_name == "n1" {
                objects.former.apply(object);
            }
        }
        for object in all(CLAIMS) {
            let object = serde_json::from_value(object).unwrap();
            objects.claims.apply(Arc::new(object));
        }
        for object in all(STORAGE) {
            let object = serde_json::from_value(object).unwrap();
            objects.storage.apply(Arc::new(object));
        }
        let places = Places {
            dev: "/nowhere".into(),
            sys: "/nowhere".into(),
            proc: "/nowhere".into(),
            udev_data: "/nowhere".into(),
        };
        let (_, gate) = watch::channel(true);
        Keeper {
            node: "n1".to_owned(),
            client: client.clone(),
            objects,
            scanner: Scanner::new(places, Looker::default()),
            upkeep: Upkeep::new("n1", Api::all(client.clone())),
            claims: Claims {
                node: "n1".to_owned(),
                api: Api::all(client.clone()),
                disks: Api::all(client.clone()),
                storage: Api::all(client.clone()),
                lvm: Arc::new(self.lvm.clone()),
                prove,
                recorder: Recorder::new(client, "test", "n1", &self.shutdown),
            },
            changed: Changed::default(),
            gate,
            rescan: Duration::from_secs(60),
            doubts: Vec::new(),
            grown: std::collections::BTreeSet::new(),
        }
    }

    /// One round of a freshly started daemon, over the disks as LVM has left them.
    async fn round(&self) -> Result<(), RoundError> {
        let scan = a_scan(self.disks().await);
        self.daemon(Arc::new(Blank)).round_over(scan).await
    }

    async fn disks(&self) -> Vec<Disk> {
        use crate::lvm::Lvm as _;
        let report = self.lvm.report().await.unwrap();
        let mut disks = vec![a_bare_disk('b'), a_bare_disk('c')];
        for disk in &mut disks {
            if report
                .pvs()
                .any(|(pv, _)| pv.major_minor == Some(disk.number))
            {
                disk.content = Content::Signature {
                    kind: "LVM2_member".to_owned(),
                    uuid: String::new(),
                };
            }
        }
        disks
    }

    fn claim(&self, name: &str, spec: &serde_json::Value) {
        let object = json!({
            "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalDiskClaim",
            "metadata": { "name": name, "uid": format!("uid-{name}") }, "spec": spec
        });
        self.api.put(&format!("{CLAIMS}{name}"), object);
    }

    fn ssd_claim(&self) {
        self.claim(
            "c1",
            &json!({ "nodeName": "n1", "owner": "local-storage", "description": { "diskType": "SSD" } }),
        );
    }

    fn get_claim(&self, name: &str) -> Option<LocalDiskClaim> {
        let object = self.api.object(&format!("{CLAIMS}{name}"))?;
        Some(serde_json::from_value(object).unwrap())
    }

    fn storage(&self) -> LocalStorageNode {
        serde_json::from_value(self.api.object(STORAGE).unwrap()).unwrap()
    }

    fn disk_states(&self) -> Vec<DiskClaimState> {
        let paths = self.api.paths();
        paths
            .iter()
            .filter(|p| p.starts_with(DISKS))
            .map(|p| {
                let object: LocalDisk =
                    serde_json::from_value(self.api.object(p).unwrap()).unwrap();
                object.status.unwrap_or_default().claim_state
            })
            .collect()
    }

    /// Rounds until one writes nothing; the number of rounds.
    async fn settle(&self) -> usize {
        for n in 1..20 {
            let _ = self.api.calls();
            let result = self.round().await;
            let writes = self.api.calls();
            let quiet = !writes
                .iter()
                .any(|call| !call.starts_with("GET") && !call.contains("/events"));
            if result.is_ok() && quiet {
                return n;
            }
        }
        panic!("does not settle");
    }
}

#[tokio::test]
async fn disks_are_found_claimed_and_made_a_pool() {
    let lab = Lab::new();
    lab.settle().await;
    assert_eq!(
        lab.disk_states(),
        [DiskClaimState::Available, DiskClaimState::Available]
    );
    assert_eq!(lab.storage().spec.storage_ip, "10.0.0.1");
    assert_eq!(lab.storage().spec.topology.unwrap().zone, "z1");

    lab.ssd_claim();
    lab.settle().await;
    let mut changes = lab.lvm.changes();
    changes.sort();
    assert_eq!(
        changes,
        [
            "pvcreate /dev/ubdb",
            "pvcreate /dev/ubdc",
            "vgcreate LocalStorage_PoolSSD 2"
        ]
    );
    assert!(lab.get_claim("c1").is_none(), "consumed and removed");
    assert_eq!(
        lab.disk_states(),
        [DiskClaimState::Bound, DiskClaimState::Bound]
    );
    let status = lab.storage().status.unwrap();
    let pool = &status.pools["LocalStorage_PoolSSD"];
    assert_eq!(pool.disks.len(), 2);
    assert!(pool.free_capacity_bytes > 0);
    let records = &status.pool_extend_records["LocalStorage_PoolSSD"];
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].disk_refs.len(), 2);
}

/// Whatever fails, and wherever the daemon dies, the end is the same.
#[tokio::test]
async fn every_interruption_ends_in_the_same_state() {
    let faults = [None, Some(LvmFault::Before), Some(LvmFault::After)];
    for lvm_fault in faults {
        for step in 0..3 {
            for api_fault in 0..14 {
                let lab = Lab::new();
                lab.settle().await;
                lab.ssd_claim();
                lab.lvm
                    .inject(std::iter::repeat_n(None, step).chain([lvm_fault]));
                if api_fault > 0 {
                    lab.api.inject(
                        std::iter::repeat_n(Fault::Delay(Duration::ZERO), api_fault - 1)
                            .chain([Fault::LoseAnswer(500)]),
                    );
                }
                lab.settle().await;
                let at = format!("{lvm_fault:?} at {step}, API fault at {api_fault}");
                assert!(lab.get_claim("c1").is_none(), "{at}");
                let status = lab.storage().status.unwrap();
                assert_eq!(status.pools["LocalStorage_PoolSSD"].disks.len(), 2, "{at}");
                let records = &status.pool_extend_records["LocalStorage_PoolSSD"];
                assert_eq!(records.len(), 1, "{at}");
                let mut changes = lab.lvm.changes();
                changes.sort();
                assert_eq!(
                    changes,
                    [
                        "pvcreate /dev/ubdb",
                        "pvcreate /dev/ubdc",
                        "vgcreate LocalStorage_PoolSSD 2"
                    ],
                    "{at}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_disk_that_is_mounted_at_the_last_moment_is_not_touched() {
    let lab = Lab::new();
    lab.settle().await;
    lab.ssd_claim();
    for _ in 0..3 {
        let scan = a_scan(lab.disks().await);
        lab.daemon(Arc::new(Mounted))
            .round_over(scan)
            .await
            .unwrap();
    }
    assert!(lab.lvm.changes().is_empty());
    let status = lab.get_claim("c1").unwrap().status.unwrap();
    assert_eq!(status.status, hawser_api::ClaimPhase::Bound);
    assert!(
        status.message.contains("is mounted at /data"),
        "{}",
        status.message
    );
}

#[tokio::test]
async fn a_disk_that_disappears_while_it_is_claimed_is_waited_for() {
    let lab = Lab::new();
    lab.settle().await;
    lab.ssd_claim();
    lab.lvm.inject([Some(LvmFault::Before)]);
    lab.round().await.unwrap_err();
    let without = a_scan([a_bare_disk('b')]);
    lab.daemon(Arc::new(Blank))
        .round_over(without)
        .await
        .unwrap();
    assert!(lab.lvm.changes().is_empty());
    let message = lab.get_claim("c1").unwrap().status.unwrap().message;
    assert!(message.contains("is not there now"), "{message}");
    // It comes back.
    lab.settle().await;
    assert!(lab.get_claim("c1").is_none());
}

/// As the generation before Hawser left it: with no node but a former one.
#[tokio::test]
async fn a_disk_that_was_away_comes_back_as_what_it_was() {
    let lab = Lab::new();
    let object = json!({
        "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalDisk",
        "metadata": { "name": "localdisk-0b5c2f3e9d7a4816a2c45e10f9b8d673" },
        "spec": {
            "nodeName": "", "preNodeName": "n1", "preDevicePath": "/dev/ubdx", "state": "Inactive", "reserved": true,
            "capacity": a_bare_disk('b').bytes, "devLinks": a_bare_disk('b').links,
            "diskAttributes": { "devType": "disk", "type": "NVMe" },
        },
        "status": { "claimState": "Available" },
    });
    let path = format!("{DISKS}localdisk-0b5c2f3e9d7a4816a2c45e10f9b8d673");
    lab.api.put(&path, object.clone());
    // Another node's.
    let mut elsewhere = object;
    elsewhere["metadata"]["name"] = json!("localdisk-x");
    elsewhere["spec"]["preNodeName"] = json!("n2");
    lab.api
        .put(&format!("{DISKS}localdisk-x"), elsewhere.clone());
    lab.settle().await;
    let back: LocalDisk = serde_json::from_value(lab.api.object(&path).unwrap()).unwrap();
    assert_eq!(
        (
            &back.spec.state,
            back.spec.node_name.as_str(),
            back.spec.device_path.as_str()
        ),
        (&DiskState::Active, "n1", "/dev/ubdb")
    );
    assert!(back.spec.reserved);
    assert_eq!(
        back.spec.disk_attributes.unwrap().type_,
        hawser_api::DiskType::NVMe
    );
    assert_eq!(lab.disk_states().len(), 3, "one more for ubdc");
    // And away again.
    let without = a_scan([a_bare_disk('c')]);
    lab.daemon(Arc::new(Blank))
        .round_over(without)
        .await
        .unwrap();
    let away: LocalDisk = serde_json::from_value(lab.api.object(&path).unwrap()).unwrap();
    assert_eq!(
        (
            &away.spec.state,
            away.spec.node_name.as_str(),
            away.spec.pre_node_name.as_str()
        ),
        (&DiskState::Inactive, "", "n1")
    );
    lab.settle().await;
    let spec = lab.api.object(&format!("{DISKS}localdisk-x")).unwrap();
    assert_eq!(spec["spec"], elsewhere["spec"]);
}

/// One read error at the wrong moment, and all that is left of the pool is its disk's looking empty.
#[tokio::test]
async fn a_disk_of_a_pool_that_looks_empty_is_not_given_away() {
    let lab = Lab::new();
    lab.settle().await;
    lab.ssd_claim();
    lab.settle().await;
    let changes = lab.lvm.changes();
    assert_eq!(changes.len(), 3, "{changes:?}");
    // LVM sees neither the group nor the disks' labels.
    let blind = Arc::new(FakeLvm::default());
    for _ in 0..3 {
        let scan = a_scan([a_bare_disk('b'), a_bare_disk('c')]);
        let mut keeper = lab.daemon(Arc::new(Blank));
        keeper.claims.lvm = blind.clone();
        keeper.round_over(scan).await.unwrap();
    }
    assert_eq!(
        lab.disk_states(),
        [DiskClaimState::Bound, DiskClaimState::Bound]
    );
}

#[tokio::test]
async fn a_deleted_claim_gives_its_disks_back() {
    let lab = Lab::new();
    lab.settle().await;
    lab.ssd_claim();
    lab.lvm.inject([Some(LvmFault::Before)]);
    lab.round().await.unwrap_err();
    assert_eq!(
        lab.disk_states(),
        [DiskClaimState::Bound, DiskClaimState::Bound]
    );
    let client = lab.api.client();
    let claims: Api<LocalDiskClaim> = Api::all(client);
    claims
        .delete("c1", &kube::api::DeleteParams::default())
        .await
        .unwrap();
    lab.settle().await;
    assert_eq!(
        lab.disk_states(),
        [DiskClaimState::Available, DiskClaimState::Available]
    );
    assert!(lab.lvm.changes().is_empty());
}

/// The API server and the node are spared while LVM refuses the same step again and again.
#[tokio::test(start_paused = true)]
async fn a_step_that_fails_makes_the_next_try_wait() {
    let lab = Lab::new();
    lab.settle().await;
    lab.ssd_claim();
    lab.lvm
        .inject(std::iter::repeat_n(Some(LvmFault::Before), 2));
    lab.round().await.unwrap_err();
    let mut keeper = lab.daemon(Arc::new(Blank));
    let nowhere = std::path::Path::new("/nowhere");
    let mut signs = Signs::new(&keeper, Events::open(nowhere, nowhere));
    signs.wait(&mut None, None).await;
    let scan = a_scan(lab.disks().await);
    let error = keeper.round_over(scan).await.unwrap_err();
    assert!(chain(&error).to_string().contains("c1"), "{error:?}");
    let begin = Instant::now();
    signs.wait(&mut None, Some(Instant::now() + pause(3))).await;
    assert_eq!(begin.elapsed(), pause(3), "nothing begins a round before");
    let message = lab.get_claim("c1").unwrap().status.unwrap().message;
    assert!(message.contains("injected before"), "{message}");
    lab.settle().await;
    assert!(lab.get_claim("c1").is_none(), "then it goes on");
}

/// One claim's trouble is not another's.
#[tokio::test]
async fn a_claim_whose_step_fails_does_not_hold_up_the_others() {
    let lab = Lab::new();
    lab.settle().await;
    let one = |name: &str, path: &str| {
        let description = json!({ "devicePaths": [path] });
        lab.claim(
            name,
            &json!({ "nodeName": "n1", "owner": "local-storage", "description": description }),
        );
    };
    one("c1", "/dev/ubdb");
    one("c2", "/dev/ubdc");
    lab.lvm.inject([Some(LvmFault::Before)]);
    lab.round().await.unwrap_err();
    assert_eq!(
        lab.lvm.changes(),
        ["pvcreate /dev/ubdc", "vgcreate LocalStorage_PoolSSD 1"]
    );
}

#[tokio::test]
async fn a_claim_that_is_deleted_between_two_steps_gives_its_disks_back() {
    let lab = Lab::new();
    lab.settle().await;
    lab.ssd_claim();
    lab.lvm.inject([None, None, Some(LvmFault::Before)]);
    lab.round().await.unwrap_err();
    let mut changes = lab.lvm.changes();
    changes.sort();
    assert_eq!(changes, ["pvcreate /dev/ubdb", "pvcreate /dev/ubdc"]);
    let claims: Api<LocalDiskClaim> = Api::all(lab.api.client());
    claims
        .delete("c1", &kube::api::DeleteParams::default())
        .await
        .unwrap();
    lab.settle().await;
    assert_eq!(
        lab.disk_states(),
        [DiskClaimState::Available, DiskClaimState::Available]
    );
    // The next claim goes on from there.
    lab.ssd_claim();
    lab.settle().await;
    assert!(lab.get_claim("c1").is_none(), "consumed and removed");
    assert_eq!(lab.lvm.changes(), ["vgcreate LocalStorage_PoolSSD 2"]);
}

#[tokio::test]
async fn a_grown_disk_that_could_not_be_taken_in_is_tried_again() {
    let lab = Lab::new();
    lab.settle().await;
    lab.ssd_claim();
    lab.settle().await;
    lab.lvm.changes();
    let disk = a_bare_disk('b');
    lab.lvm.grow_device(&disk.path, 2 * disk.bytes);
    lab.lvm.inject([Some(LvmFault::Before)]);
    let scan = a_scan(lab.disks().await);
    let mut keeper = lab.daemon(Arc::new(Blank));
    let error = keeper.round_over(scan.clone()).await.unwrap_err();
    assert!(chain(&error).to_string().contains("/dev/ubdb"), "{error:?}");
    assert!(lab.lvm.changes().is_empty());
    // The same daemon, which has heard of what it wrote.
    let mut again = lab.daemon(Arc::new(Blank));
    again.grown = keeper.grown;
    again.round_over(scan.clone()).await.unwrap();
    assert_eq!(lab.lvm.changes(), ["pvresize /dev/ubdb"]);
    let mut once_more = lab.daemon(Arc::new(Blank));
    once_more.grown = again.grown;
    once_more.round_over(scan).await.unwrap();
    assert!(lab.lvm.changes().is_empty(), "once is enough");
}

#[tokio::test]
async fn a_wrong_claim_changes_nothing_but_its_message() {
    let lab = Lab::new();
    lab.settle().await;
    lab.claim(
        "c2",
        &json!({ "nodeName": "n1", "owner": "local-storage", "description": { "capacity": -1 } }),
    );
    lab.settle().await;
    let status = lab.get_claim("c2").unwrap().status.unwrap();
    assert_eq!(status.status, hawser_api::ClaimPhase::Pending);
    assert!(status.message.contains("capacity is -1"));
    assert_eq!(
        lab.disk_states(),
        [DiskClaimState::Available, DiskClaimState::Available]
    );
}

#[tokio::test]
async fn an_empty_node_settles_at_once() {
    let lab = Lab::new();
    lab.settle().await;
    assert_eq!(lab.settle().await, 1);
}

#[test]
fn pauses_grow_to_a_limit() {
    let pauses: Vec<u64> = (1..8).map(|n| pause(n).as_secs()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(pause(u32::MAX), LONGEST);
}

/// A claim that is made while a round runs begins another.
#[tokio::test(start_paused = true)]
async fn what_changes_during_a_round_is_not_missed() {
    let lab = Lab::new();
    lab.settle().await;
    let keeper = lab.daemon(Arc::new(Blank));
    let claims = keeper.objects.claims.clone();
    let nowhere = std::path::Path::new("/nowhere");
    let mut signs = Signs::new(&keeper, Events::open(nowhere, nowhere));
    let mut stale = None;
    signs.wait(&mut stale, None).await;
    assert_eq!(stale, Some(Stale::All), "the first look");
    // The round.
    claims.apply(Arc::new(LocalDiskClaim::default()));
    let begin = Instant::now();
    signs.wait(&mut stale, None).await;
    assert_eq!(begin.elapsed(), SETTLE);
}
