//! Objects of ours, as users write them: through the whole review, over an API server in memory.

use hawser_runtime::index::Index;
use hawser_runtime::testing::FakeApi;
use serde_json::{Value, json};

use crate::gather::Gatherer;
use crate::gather::tests::a_cluster;
use crate::policy::Judgement;
use crate::policy::tests::a_policy;
use crate::wire::{Answer, Because, Request};

const GIB: i64 = 1 << 30;

/// A cluster with nodes n1 to n3; n1 has a copy of volume pvc-1 (bound to claim shop/bound) up to date, n2 one that is behind.
struct Stage {
    api: FakeApi,
    policies: Vec<(&'static str, Value)>,
    user: &'static str,
}

impl Stage {
    fn set() -> Self {
        let api = FakeApi::new();
        for node in ["n1", "n2", "n3"] {
            api.put(
                &format!("/api/v1/nodes/{node}"),
                json!({ "metadata": { "name": node } }),
            );
        }
        api.put(
            "/apis/hwameistor.io/v1alpha1/localvolumes/pvc-1",
            json!({ "metadata": { "name": "pvc-1" }, "spec": {
                "poolName": "LocalStorage_PoolSSD", "requiredCapacityBytes": 2 * GIB, "pvcNamespace": "shop", "pvcName": "bound"
            } }),
        );
        Self {
            api,
            policies: Vec::new(),
            user: "ann",
        }
    }

    async fn ask(
        &self,
        plural: &str,
        old: Option<Value>,
        new: Option<Value>,
    ) -> (Answer, Judgement) {
        let operation = match (&old, &new) {
            (None, _) => "CREATE",
            (_, Some(_)) => "UPDATE",
            (_, None) => "DELETE",
        };
        let body = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u", "resource": { "group": "hwameistor.io", "version": "v1alpha1", "resource": plural },
            "operation": operation, "name": "it", "userInfo": { "username": self.user }, "object": new, "oldObject": old
        } })
        .to_string();
        let lookups = a_cluster();
        for (name, spec) in &self.policies {
            lookups.policies.apply(a_policy(name, spec));
        }
        let policies = lookups.policies.clone();
        let gatherer = Gatherer::new(lookups, Some(self.api.client()), "hwameistor".to_owned());
        let request = Request::parse(body.as_bytes()).unwrap();
        let mut answer = Answer::default();
        let round = gatherer.round();
        let judgement = super::review(&round, &policies, &request, &mut answer).await;
        (answer, judgement.unwrap())
    }

    /// The refusals.
    async fn refused(&self, plural: &str, old: Option<Value>, new: Option<Value>) -> Vec<String> {
        let (answer, _) = self.ask(plural, old, new).await;
        answer
            .refusals
            .into_iter()
            .map(|(_, sentence)| sentence)
            .collect()
    }
}

fn named(spec: &Value) -> Value {
    json!({ "metadata": { "name": "it" }, "spec": spec })
}

fn with(base: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = base.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    changed.pointer_mut(parent).unwrap()[key] = value;
    changed
}

/// Each change of `base` is refused with a sentence that has the part; `None`: it passes.
async fn changes(plural: &str, base: &Value, cases: &[(&str, Value, Option<&str>)]) {
    let stage = Stage::set();
    for (pointer, value, part) in cases {
        let new = with(base, pointer, value.clone());
        let refused = stage.refused(plural, Some(base.clone()), Some(new)).await;
        match part {
            None => assert_eq!(refused, Vec::<String>::new(), "{pointer} {value}"),
            Some(part) => assert!(
                refused.len() == 1 && refused[0].contains(part),
                "{pointer} {value}: {refused:?}"
            ),
        }
    }
}

fn a_volume() -> Value {
    json!({ "metadata": { "name": "it" }, "spec": {
        "poolName": "LocalStorage_PoolSSD", "requiredCapacityBytes": 2 * GIB, "replicaNumber": 1, "volumegroup": "g",
        "pvcNamespace": "shop", "pvcName": "bound", "accessibility": { "nodes": ["n1"] }
    } })
}

#[tokio::test]
async fn volumes_neither_shrink_nor_move_and_grow_by_their_claims() {
    let fixed = "can't";
    changes(
        "localvolumes",
        &a_volume(),
        &[
            (
                "/spec/requiredCapacityBytes",
                json!(GIB),
                Some("can't go from 2 GiB to 1 GiB: volumes don't shrink"),
            ),
            (
                "/spec/requiredCapacityBytes",
                json!(3 * GIB),
                Some("ask for more in the claim, or make a LocalVolumeExpand"),
            ),
            (
                "/spec/poolName",
                json!("LocalStorage_PoolHDD"),
                Some("spec.poolName is LocalStorage_PoolSSD and can't become"),
            ),
            (
                "/spec/accessibility",
                json!({ "nodes": ["n2"] }),
                Some("spec.accessibility can't be changed"),
            ),
            ("/spec/volumegroup", json!("h"), Some(fixed)),
            (
                "/spec/thin",
                json!(true),
                Some("spec.thin is false and can't become true"),
            ),
            ("/spec/convertible", json!(true), Some(fixed)),
            ("/spec/replicaNumber", json!(2), Some("LocalVolumeConvert")),
            (
                "/spec/volumeQoS",
                json!({ "iops": "many" }),
                Some("spec.volumeQoS.iops is \"many\": it must be a quantity"),
            ),
            // What users do change.
            ("/spec/volumeQoS", json!({ "iops": "300" }), None),
            ("/spec/pvcName", json!("again"), None),
            ("/metadata/labels", json!({ "a": "b" }), None),
            ("/metadata/finalizers", json!([]), None),
        ],
    )
    .await;
}

#[tokio::test]
async fn data_is_given_up_only_when_nobody_uses_it() {
    let stage = Stage::set();
    let give_up = |volume: &Value| with(volume, "/spec/delete", json!(true));
    let free = a_volume();
    assert!(
        stage
            .refused("localvolumes", Some(free.clone()), Some(give_up(&free)))
            .await
            .is_empty()
    );

    let used = with(&free, "/status", json!({ "publishedNode": "n1" }));
    let refused = stage
        .refused("localvolumes", Some(used.clone()), Some(give_up(&used)))
        .await;
    assert!(
        refused[0].contains("in use on node n1: end its pods"),
        "{refused:?}"
    );

    let kept = with(&free, "/metadata/name", json!("pvc-1"));
    let refused = stage
        .refused("localvolumes", Some(kept.clone()), Some(give_up(&kept)))
        .await;
    assert!(
        refused[0].contains("PersistentVolume \"pvc-1\" still stands for it"),
        "{refused:?}"
    );

    let going = give_up(&free);
    let refused = stage
        .refused("localvolumes", Some(going.clone()), Some(free.clone()))
        .await;
    assert!(refused[0].contains("can't be taken back"), "{refused:?}");

    // Deleting the object destroys nothing, and would leave it half gone.
    let refused = stage
        .refused("localvolumes", Some(free.clone()), None)
        .await;
    assert!(
        refused[0].contains("kubectl patch localvolume it --type merge"),
        "{refused:?}"
    );
    assert!(
        stage
            .refused("localvolumes", Some(going), None)
            .await
            .is_empty()
    );
    let twice = with(
        &free,
        "/metadata/deletionTimestamp",
        json!("2026-01-01T00:00:00Z"),
    );
    assert!(
        stage
            .refused("localvolumes", Some(twice), None)
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn new_volumes_name_pools_and_nodes_that_can_be() {
    let stage = Stage::set();
    let new = |pointer: &str, value: Value| with(&a_volume(), pointer, value);
    assert!(
        stage
            .refused("localvolumes", None, Some(a_volume()))
            .await
            .is_empty()
    );
    let refused = stage
        .refused(
            "localvolumes",
            None,
            Some(new("/spec/poolName", json!("ssd"))),
        )
        .await;
    assert!(
        refused[0].contains("spec.poolName is \"ssd\": pools are volume groups"),
        "{refused:?}"
    );
    let nowhere = new("/spec/accessibility", json!({ "nodes": ["n1", "n9"] }));
    let refused = stage.refused("localvolumes", None, Some(nowhere)).await;
    assert!(
        refused[0].contains("has \"n9\"; there is no node of that name"),
        "{refused:?}"
    );
    // Could not be found out: not held against it.
    stage.api.reject("nodes/", 503);
    let unknown = new("/spec/accessibility", json!({ "nodes": ["n9"] }));
    assert!(
        stage
            .refused("localvolumes", None, Some(unknown))
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn what_was_wrong_before_may_stay_so() {
    let stage = Stage::set();
    let odd = json!({ "metadata": { "name": "it" }, "spec": {
        "poolName": "ssd", "volumeQoS": { "iops": "many", "someday": 1 }, "accessibility": { "nodes": ["n9", "n9"] }
    }, "someday": [1] });
    let touched = with(&odd, "/metadata/labels", json!({ "a": "b" }));
    assert!(
        stage
            .refused("localvolumes", Some(odd.clone()), Some(touched))
            .await
            .is_empty()
    );
    let still = with(&odd, "/spec/volumeQoS", json!({ "iops": "more" }));
    assert!(
        stage
            .refused("localvolumes", Some(odd.clone()), Some(still))
            .await
            .is_empty()
    );
    let worse = with(
        &odd,
        "/spec/volumeQoS",
        json!({ "iops": "many", "throughput": "fast" }),
    );
    let refused = stage.refused("localvolumes", Some(odd), Some(worse)).await;
    assert!(
        refused.len() == 1 && refused[0].contains("spec.volumeQoS.throughput"),
        "{refused:?}"
    );

    for plural in [
        "localvolumes",
        "localvolumereplicas",
        "localvolumegroups",
        "localvolumeexpands",
        "localdisks",
        "localdiskclaims",
        "localdisknodes",
        "localstoragenodes",
    ] {
        let bare = json!({ "metadata": { "name": "it" } });
        let labelled = json!({ "metadata": { "name": "it", "labels": { "a": "b" } }, "spec": null, "status": null });
        let refused = stage.refused(plural, Some(bare), Some(labelled)).await;
        assert_eq!(refused, Vec::<String>::new(), "{plural}");
    }
}

#[tokio::test]
async fn our_own_parts_and_cleaners_are_not_asked() {
    let mut stage = Stage::set();
    let shrunk = with(&a_volume(), "/spec/requiredCapacityBytes", json!(GIB));
    for (user, asked) in [
        ("ann", true),
        ("system:serviceaccount:shop:robot", true),
        (
            "system:serviceaccount:hwameistor:hwameistor-local-storage-csi-controller",
            false,
        ),
        (
            "system:serviceaccount:kube-system:generic-garbage-collector",
            false,
        ),
    ] {
        stage.user = user;
        let refused = stage
            .refused("localvolumes", Some(a_volume()), Some(shrunk.clone()))
            .await;
        assert_eq!(!refused.is_empty(), asked, "{user}");
        let refused = stage.refused("localvolumes", Some(a_volume()), None).await;
        assert_eq!(!refused.is_empty(), asked, "{user}");
    }
}

#[tokio::test]
async fn an_object_that_opts_out_is_left_alone_but_not_by_the_step_itself() {
    let stage = Stage::set();
    let label = json!({ "hwameistor.io/webhook": "ignore" });
    let opted = with(&a_volume(), "/metadata/labels", label);
    assert!(
        stage
            .refused("localvolumes", Some(opted.clone()), None)
            .await
            .is_empty()
    );
    let shrunk = with(&opted, "/spec/requiredCapacityBytes", json!(GIB));
    assert_eq!(
        stage
            .refused("localvolumes", Some(a_volume()), Some(shrunk))
            .await
            .len(),
        1
    );
}

#[tokio::test]
async fn the_last_good_copy_is_not_given_up() {
    let stage = Stage::set();
    let copy = |name: &str, node: &str| {
        json!({ "metadata": { "name": name }, "spec": {
            "volumeName": "pvc-1", "nodeName": node, "poolName": "LocalStorage_PoolSSD", "requiredCapacityBytes": 2 * GIB
        } })
    };
    let plural = "localvolumereplicas";
    let (good, behind) = (copy("pvc-1-n1", "n1"), copy("pvc-1-n2", "n2"));
    let gone = |copy: &Value| with(copy, "/spec/delete", json!(true));
    let refused = stage
        .refused(plural, Some(good.clone()), Some(gone(&good)))
        .await;
    assert!(
        refused[0].contains("no other copy of LocalVolume \"pvc-1\" is up to date"),
        "{refused:?}"
    );
    assert!(
        stage
            .refused(plural, Some(behind.clone()), Some(gone(&behind)))
            .await
            .is_empty()
    );
    // One that was never made is nothing to keep.
    assert!(
        stage
            .refused(plural, Some(good.clone()), None)
            .await
            .is_empty()
    );
    let with_status = |state: &str, reason: Option<&str>| {
        let create = reason.map(|reason| {
            json!({ "type": "Create", "status": "False", "reason": reason, "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z" })
        });
        let conditions: Vec<Value> = create.into_iter().collect();
        with(
            &good,
            "/status",
            json!({ "state": state, "conditions": conditions }),
        )
    };
    let never = with_status("NotReady", Some("Invalid"));
    assert!(stage.refused(plural, Some(never), None).await.is_empty());
    for made in [
        with_status("Ready", None),
        with_status("NotReady", None),
        with_status("NotReady", Some("DataLost")),
    ] {
        let refused = stage.refused(plural, Some(made), None).await;
        assert!(
            refused[0].contains("goes with its LocalVolume"),
            "{refused:?}"
        );
    }
    assert!(
        stage
            .refused(plural, Some(gone(&good)), None)
            .await
            .is_empty()
    );
    changes(
        plural,
        &good,
        &[
            (
                "/spec/nodeName",
                json!("n2"),
                Some("spec.nodeName is n1 and can't become n2"),
            ),
            (
                "/spec/poolName",
                json!("x"),
                Some("a copy stays where it was made"),
            ),
            (
                "/spec/requiredCapacityBytes",
                json!(GIB),
                Some("volumes don't shrink"),
            ),
            ("/spec/requiredCapacityBytes", json!(3 * GIB), None),
        ],
    )
    .await;
    stage.api.put(
        "/apis/hwameistor.io/v1alpha1/localvolumes/pvc-1",
        json!({ "metadata": { "name": "pvc-1" }, "spec": { "delete": true } }),
    );
    assert!(
        stage
            .refused(plural, Some(good.clone()), Some(gone(&good)))
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn a_group_stays_while_one_of_its_volumes_has_data() {
    let stage = Stage::set();
    let group = |volume: &str| {
        named(&json!({ "volumes": [{ "localvolume": "none" }, { "localvolume": volume }] }))
    };
    let refused = stage
        .refused("localvolumegroups", Some(group("pvc-1")), None)
        .await;
    assert!(
        refused[0].contains("keeps LocalVolume \"pvc-1\" together"),
        "{refused:?}"
    );
    assert!(
        stage
            .refused("localvolumegroups", Some(group("other")), None)
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn growth_by_hand_is_of_a_volume_that_is_there_to_more_than_it_has() {
    let stage = Stage::set();
    let plural = "localvolumeexpands";
    for (spec, part) in [
        (json!({}), Some("spec.volumeName is missing")),
        (
            json!({ "volumeName": "pvc-1" }),
            Some("spec.requiredCapacityBytes is missing"),
        ),
        (
            json!({ "volumeName": "nothing", "requiredCapacityBytes": GIB }),
            Some("spec.volumeName is \"nothing\"; there is no LocalVolume of that name"),
        ),
        (
            json!({ "volumeName": "pvc-1", "requiredCapacityBytes": GIB }),
            Some("is 1 GiB, and the volume has 2 GiB: volumes don't shrink"),
        ),
        (
            json!({ "volumeName": "pvc-1", "requiredCapacityBytes": 3 * GIB }),
            None,
        ),
        (json!({ "volumeName": "pvc-1", "abort": true }), None),
    ] {
        let refused = stage.refused(plural, None, Some(named(&spec))).await;
        match part {
            None => assert!(refused.is_empty(), "{spec}: {refused:?}"),
            Some(part) => assert!(
                refused.iter().any(|r| r.contains(part)),
                "{spec}: {refused:?}"
            ),
        }
    }
    let base = named(&json!({ "volumeName": "pvc-1", "requiredCapacityBytes": 3 * GIB }));
    changes(
        plural,
        &base,
        &[
            (
                "/spec/volumeName",
                json!("pvc-2"),
                Some("make another LocalVolumeExpand"),
            ),
            ("/spec/abort", json!(true), None),
        ],
    )
    .await;
    assert!(stage.refused(plural, Some(base), None).await.is_empty());
}

#[tokio::test]
async fn disks_that_are_given_and_there_keep_their_objects() {
    let stage = Stage::set();
    let disk = |state: &str| {
        named(
            &json!({ "nodeName": "n1", "devicePath": "/dev/sdb", "state": state, "claimRef": { "name": "n1-ssd" },
                       "diskAttributes": { "type": "SSD" } }),
        )
    };
    let refused = stage
        .refused("localdisks", Some(disk("Active")), None)
        .await;
    assert!(
        refused[0].contains("disk /dev/sdb of node n1 is there and was given to claim \"n1-ssd\""),
        "{refused:?}"
    );
    let (answer, _) = stage.ask("localdisks", Some(disk("Inactive")), None).await;
    assert!(answer.refusals.is_empty() && answer.warnings[0].contains("which has 1 volumes"));
    let free = with(&disk("Active"), "/spec/claimRef", json!(null));
    assert!(
        stage
            .refused("localdisks", Some(free), None)
            .await
            .is_empty()
    );
    changes(
        "localdisks",
        &disk("Active"),
        &[
            (
                "/spec/nodeName",
                json!("n2"),
                Some("spec.nodeName is n1 and can't become n2"),
            ),
            (
                "/spec/diskAttributes",
                json!({ "type": "ssd" }),
                Some("is \"ssd\": it can be HDD, SSD or NVMe"),
            ),
            ("/spec/diskAttributes", json!({ "type": "HDD" }), None),
            ("/spec/reserved", json!(true), None),
            ("/spec/owner", json!("system"), None),
        ],
    )
    .await;
}

#[tokio::test]
async fn claims_for_disks_mean_something_and_name_a_node_that_is_there() {
    let stage = Stage::set();
    let plural = "localdiskclaims";
    let fine = named(
        &json!({ "nodeName": "n1", "owner": "local-storage", "description": { "diskType": "SSD" } }),
    );
    assert!(
        stage
            .refused(plural, None, Some(fine.clone()))
            .await
            .is_empty()
    );
    for (pointer, value, part) in [
        (
            "/spec/nodeName",
            json!("nowhere"),
            "spec.nodeName is \"nowhere\"; there is no node of that name",
        ),
        ("/spec/nodeName", json!(""), "spec.nodeName is missing"),
        ("/spec/owner", json!("system"), "stands for the host itself"),
        ("/spec/owner", json!(""), "spec.owner is empty"),
        (
            "/spec/description",
            json!({}),
            "spec.description is empty, which would be every disk",
        ),
        (
            "/spec/description",
            json!({ "diskType": "ssd" }),
            "is \"ssd\"; it can be HDD, SSD or NVMe",
        ),
        (
            "/spec/description",
            json!({ "capacity": -1 }),
            "capacity is -1",
        ),
        (
            "/spec/description",
            json!({ "devicePaths": ["/dev/../etc"] }),
            "devicePaths has \"/dev/../etc\"",
        ),
    ] {
        let refused = stage
            .refused(plural, None, Some(with(&fine, pointer, value)))
            .await;
        assert!(
            refused.len() == 1 && refused[0].contains(part),
            "{refused:?}"
        );
    }
    let whole = with(&fine, "/spec/owner", json!("local-disk-manager"));
    let (answer, _) = stage.ask(plural, None, Some(whole)).await;
    assert!(answer.refusals.is_empty() && answer.warnings[0].contains("no volumes of whole disks"));
    // Correcting is what one does while it waits; what was given is given.
    let stray = with(&fine, "/spec/nodeName", json!("nowhere"));
    assert!(
        stage
            .refused(plural, Some(stray), Some(fine.clone()))
            .await
            .is_empty()
    );
    let given = with(&fine, "/status", json!({ "status": "Bound" }));
    changes(
        plural,
        &given,
        &[
            (
                "/spec/nodeName",
                json!("n2"),
                Some("its disks are given already"),
            ),
            (
                "/spec/owner",
                json!("other"),
                Some("its disks are given already"),
            ),
            ("/spec/description", json!({ "diskType": "HDD" }), None),
        ],
    )
    .await;
    assert!(stage.refused(plural, Some(given), None).await.is_empty());
}

#[tokio::test]
async fn nodes_with_data_keep_their_objects_until_they_leave_the_cluster() {
    let stage = Stage::set();
    let node = |name: &str| json!({ "metadata": { "name": name }, "spec": { "hostname": name } });
    let plural = "localstoragenodes";
    let refused = stage.refused(plural, Some(node("n1")), None).await;
    assert!(
        refused[0].contains("it has 1 volumes, LocalVolume \"pvc-1\" among them"),
        "{refused:?}"
    );
    assert!(
        stage
            .refused(plural, Some(node("n9")), None)
            .await
            .is_empty(),
        "no volumes"
    );
    stage.api.reject("nodes/n1", 404);
    assert!(
        stage
            .refused(plural, Some(node("n1")), None)
            .await
            .is_empty(),
        "no node"
    );
    let refused = stage.refused(plural, None, Some(node("n9"))).await;
    assert!(
        refused[0].contains("there is no node \"n9\""),
        "{refused:?}"
    );
    changes(
        plural,
        &node("n2"),
        &[
            (
                "/spec/hostname",
                json!("other"),
                Some("spec.hostname is n2 and can't become other"),
            ),
            ("/spec/storageIP", json!("10.0.0.1"), None),
        ],
    )
    .await;

    let records = json!({ "poolExtendRecords": { "LocalDisk_PoolHDD": [{ "nodeName": "n2", "owner": "local-disk-manager" }] } });
    let disks =
        json!({ "metadata": { "name": "n2" }, "spec": { "nodeName": "n2" }, "status": records });
    let refused = stage
        .refused("localdisknodes", Some(disks.clone()), None)
        .await;
    assert!(
        refused[0].contains("records which disks were given"),
        "{refused:?}"
    );
    let bare = with(&disks, "/status", json!({}));
    assert!(
        stage
            .refused("localdisknodes", Some(bare), None)
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn policies_hold_for_volumes_and_growth_whoever_asks() {
    let mut stage = Stage::set();
    stage.policies = vec![(
        "small",
        json!({ "mode": "Enforce", "match": { "namespaces": { "names": ["shop"] }, "classes": ["local-ssd"] }, "restrict": {
            "size": { "max": "1Gi" }, "replicas": { "max": 1 }, "qos": { "maxIops": "500" }, "encryption": "Required"
        } }),
    )];
    let sentences = |judgement: &Judgement| -> Vec<String> {
        judgement
            .violations
            .iter()
            .map(|v| v.sentence.clone())
            .collect()
    };
    for user in ["ann", "system:serviceaccount:hwameistor:provisioner"] {
        stage.user = user;
        let (_, judgement) = stage.ask("localvolumes", None, Some(a_volume())).await;
        let said = sentences(&judgement);
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(
            said[0]
                .starts_with("claim shop/bound: 2 GiB is more than StoragePolicy \"small\" allows")
        );
        let grow = named(&json!({ "volumeName": "pvc-1", "requiredCapacityBytes": 3 * GIB }));
        let (_, judgement) = stage.ask("localvolumeexpands", None, Some(grow)).await;
        assert_eq!(sentences(&judgement).len(), 1);
    }
    // What is there may stay: only what asks for more is judged.
    stage.user = "ann";
    let limited = with(&a_volume(), "/spec/volumeQoS", json!({ "iops": "400" }));
    for (qos, wrong) in [
        (json!({ "iops": "450" }), false),
        (json!({ "iops": "600" }), true),
        (json!({}), true),
        (json!({ "iops": "300" }), false),
    ] {
        let new = with(&limited, "/spec/volumeQoS", qos.clone());
        let (_, judgement) = stage
            .ask("localvolumes", Some(limited.clone()), Some(new))
            .await;
        assert_eq!(!sentences(&judgement).is_empty(), wrong, "{qos}");
    }
    let labelled = with(&a_volume(), "/metadata/labels", json!({ "a": "b" }));
    let (_, judgement) = stage
        .ask("localvolumes", Some(a_volume()), Some(labelled))
        .await;
    assert_eq!(judgement, Judgement::default());
    // Another namespace's volumes are none of this policy's.
    let other = with(&a_volume(), "/spec/pvcNamespace", json!("lab"));
    let (_, judgement) = stage.ask("localvolumes", None, Some(other)).await;
    assert_eq!(judgement, Judgement::default());
}

#[test]
fn a_refusal_is_never_a_conflict() {
    // Clients answer a conflict by trying again, for ever.
    for because in [Because::Invalid, Because::Forbidden] {
        let mut answer = Answer::default();
        answer.refuse(because, "no");
        let body = String::from_utf8(answer.body("u").unwrap()).unwrap();
        assert!(
            body.contains("\"code\":4") && !body.contains("409"),
            "{body}"
        );
    }
}
