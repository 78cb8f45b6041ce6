//! What is written for a pod's volumes, case by case.

use hawser_placement::{Node, Pool, StorageState};

use super::*;

const POOL: &str = "LocalStorage_PoolHDD";
const GIB: i64 = 1 << 30;
const EPOCH: &str = "now";

/// Nodes with an empty HDD pool of so many GiB.
fn a_cluster(nodes: &[(&str, u64)]) -> Cluster {
    let node = |(name, gib): &(&str, u64)| Node {
        storage: StorageState::Ready,
        pools: vec![Pool::new(POOL, PoolClass::Hdd, Some(Bytes::gib(*gib)))],
        ..Node::new(*name)
    };
    nodes.iter().map(node).collect()
}

fn a_wish(volume: &str, gib: i64, node: &str, copies: i64) -> Wish {
    Wish {
        volume: volume.into(),
        suggested: volume.into(),
        claim: Some(("shop".into(), format!("claim-{volume}"))),
        class: VolumeClass {
            pool_class: hawser_api::PoolClass::HDD,
            replicas: copies,
            convertible: false,
            fs_type: None,
            thin: false,
            encryption: None,
            qos: None,
            placement: None,
        },
        size: gib * GIB,
        allowed: Some(vec![node.into()]),
    }
}

/// The pod `db-0` that asks for new volumes of these sizes and numbers of copies.
fn a_claimant(volumes: &[(&str, u64, u8)]) -> Claimant {
    let volume = |(name, gib, copies): &(&str, u64, u8)| Volume {
        name: (*name).into(),
        claim: format!("shop/claim-{name}").into(),
        kind: VolumeKind::New(NewVolume {
            copies: *copies,
            ..NewVolume::new(PoolClass::Hdd, Bytes::gib(*gib))
        }),
    };
    Claimant {
        pod: Some(("uid".into(), "db-0".into())),
        request: Request {
            volumes: volumes.iter().map(volume).collect(),
            ..Request::default()
        },
    }
}

fn a_member(volume: &str, nodes: &[&str]) -> VolumeGroupMember {
    VolumeGroupMember {
        local_volume: volume.into(),
        nodes: nodes.iter().map(|n| (*n).to_owned()).collect(),
        pool_name: POOL.into(),
        pvc: format!("claim-{volume}"),
        required_capacity_bytes: 2 * GIB,
    }
}

fn a_group(name: &str, epoch: &str, members: Vec<VolumeGroupMember>) -> Arc<LocalVolumeGroup> {
    let mut group = group::build(name, "shop", Some("db-0"), members);
    fence::stamp(&mut group, epoch);
    Arc::new(group)
}

struct Setup {
    cluster: Cluster,
    claimants: Vec<Claimant>,
    groups: Vec<Arc<LocalVolumeGroup>>,
    /// Volumes that exist: name and group.
    made: Vec<(&'static str, &'static str)>,
}

impl Setup {
    fn ask<T>(&self, ask: impl FnOnce(&Facts<'_>) -> T) -> T {
        let volume = |name: &str| {
            let (made, group) = self.made.iter().find(|(made, _)| *made == name)?;
            let mut volume = LocalVolume::default();
            volume.metadata.name = Some((*made).to_owned());
            volume.spec.volume_group = (*group).to_owned();
            Some(Arc::new(volume))
        };
        ask(&Facts {
            epoch: EPOCH,
            cluster: &self.cluster,
            claimants: &self.claimants,
            groups: &self.groups,
            volume: &volume,
            address: &|node| format!("address of {node}"),
        })
    }

    fn decide(&self, wish: &Wish) -> Result<Vec<Write>, NoPlace> {
        self.ask(|facts| decide(wish, facts))
    }
}

fn a_setup(claimants: Vec<Claimant>, groups: Vec<Arc<LocalVolumeGroup>>) -> Setup {
    Setup {
        cluster: a_cluster(&[("n1", 10), ("n2", 10), ("n3", 10)]),
        claimants,
        groups,
        made: Vec::new(),
    }
}

/// Volumes of a group with their nodes.
fn places_in(group: &LocalVolumeGroup) -> Vec<(String, Vec<String>)> {
    let members = group.spec.volumes.iter();
    let place = |m: &VolumeGroupMember| (m.local_volume.clone(), group::places(group, m).to_vec());
    members.map(place).collect()
}

fn on(volume: &str, nodes: &[&str]) -> (String, Vec<String>) {
    (
        volume.to_owned(),
        nodes.iter().map(|n| (*n).to_owned()).collect(),
    )
}

#[test]
fn the_first_call_reserves_for_all_and_makes_its_own() {
    let setup = a_setup(vec![a_claimant(&[("a", 3, 1), ("b", 4, 1)])], vec![]);
    let writes = setup.decide(&a_wish("a", 3, "n1", 1)).unwrap();
    let [Write::CreateGroup(group), Write::CreateVolume(volume)] = &writes[..] else {
        panic!("{writes:?}")
    };
    assert_eq!(group.name_any(), "uid");
    assert_eq!(places_in(group), [on("a", &["n1"]), on("b", &["n1"])]);
    assert_eq!(fence::epoch(group), EPOCH);
    assert_eq!(group.spec.volumes[1].required_capacity_bytes, 4 * GIB);
    assert_eq!(volume.spec.volume_group, "uid");
    let replica = &volume.spec.config.as_ref().unwrap().replicas[0];
    assert_eq!(
        (replica.hostname.as_str(), replica.ip.as_str()),
        ("n1", "address of n1")
    );
}

#[test]
fn a_reservation_is_used_where_it_is_and_if_it_counts() {
    let held = |epoch| a_group("uid", epoch, vec![a_member("a", &["n1"])]);
    let wish = a_wish("a", 2, "n1", 1);
    let only_volume = |writes: Vec<Write>| matches!(writes[..], [Write::CreateVolume(_)]);
    let of = |group| a_setup(vec![a_claimant(&[("a", 2, 1)])], vec![group]);
    assert!(only_volume(of(held(EPOCH)).decide(&wish).unwrap()));
    assert!(!only_volume(of(held("before")).decide(&wish).unwrap()));
    for other in [
        a_wish("a", 3, "n1", 1),
        a_wish("a", 2, "n2", 1),
        a_wish("a", 2, "n1", 2),
    ] {
        assert!(serves(&held(EPOCH), &other, EPOCH).is_none(), "{other:?}");
    }
}

#[test]
fn what_does_not_fit_together_is_refused_with_the_numbers() {
    let setup = a_setup(vec![a_claimant(&[("a", 6, 1), ("b", 6, 1)])], vec![]);
    let refused = setup.decide(&a_wish("a", 6, "n1", 1)).unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("2 volumes need 12.0 GiB together, 10.0 GiB free"),
        "{text}"
    );
}

#[test]
fn of_several_pods_the_first_whose_volumes_fit_is_served() {
    let mut other = a_claimant(&[("a", 3, 1), ("c", 5, 1)]);
    other.pod = Some(("other".into(), "db-1".into()));
    let setup = a_setup(vec![a_claimant(&[("a", 3, 1), ("b", 9, 1)]), other], vec![]);
    let writes = setup.decide(&a_wish("a", 3, "n1", 1)).unwrap();
    assert!(matches!(&writes[0], Write::CreateGroup(g) if g.name_any() == "other"));
}

#[test]
fn a_pod_that_goes_elsewhere_takes_its_reservations_along_but_not_its_volumes() {
    let held = a_group(
        "uid",
        EPOCH,
        vec![a_member("a", &["n1"]), a_member("b", &["n1"])],
    );
    let claimant = a_claimant(&[("a", 2, 1), ("b", 2, 1)]);
    let mut setup = a_setup(vec![claimant], vec![held]);
    let wish = a_wish("a", 2, "n2", 1);
    let writes = setup.decide(&wish).unwrap();
    let [Write::ChangeGroup { wanted, .. }, Write::CreateVolume(_)] = &writes[..] else {
        panic!("{writes:?}")
    };
    assert_eq!(places_in(wanted), [on("a", &["n2"]), on("b", &["n2"])]);

    // A third volume of the pod exists on the old node: its group stays, without what moves.
    let members = ["a", "b", "old"].map(|v| a_member(v, &["n1"]));
    setup.groups = vec![a_group("uid", EPOCH, members.to_vec())];
    setup.made = vec![("old", "uid")];
    let writes = setup.decide(&wish).unwrap();
    let [
        Write::CreateGroup(new),
        Write::ChangeGroup { wanted, .. },
        Write::CreateVolume(volume),
    ] = &writes[..]
    else {
        panic!("{writes:?}")
    };
    assert!(group_names("uid", "n2").contains(&new.name_any()) && new.name_any() != "uid");
    assert_eq!(volume.spec.volume_group, new.name_any());
    assert_eq!(places_in(wanted), [on("old", &["n1"])]);
}

#[test]
fn reservations_that_do_not_count_are_dropped_with_the_next_write() {
    let held = a_group(
        "uid",
        "before",
        ["void", "old"].map(|v| a_member(v, &["n1"])).to_vec(),
    );
    let mut setup = a_setup(vec![a_claimant(&[("a", 2, 1)])], vec![held]);
    setup.made = vec![("old", "uid")];
    let writes = setup.decide(&a_wish("a", 2, "n1", 1)).unwrap();
    let Write::ChangeGroup { wanted, .. } = &writes[0] else {
        panic!("{writes:?}")
    };
    assert_eq!(places_in(wanted), [on("old", &["n1"]), on("a", &["n1"])]);
    assert_eq!(fence::epoch(wanted), EPOCH);
}

#[test]
fn a_claim_that_another_pod_reserved_elsewhere_moves_and_in_the_same_place_is_shared() {
    let held = |node| {
        let mut group = (*a_group(
            "other",
            EPOCH,
            vec![a_member("a", &[node]), a_member("x", &[node])],
        ))
        .clone();
        group.spec.pods = vec!["db-1".into()];
        Arc::new(group)
    };
    let wish = a_wish("a", 2, "n1", 1);
    let mut setup = a_setup(
        vec![a_claimant(&[("a", 2, 1), ("b", 2, 1)])],
        vec![held("n2")],
    );
    let writes = setup.decide(&wish).unwrap();
    let Write::ChangeGroup { wanted, .. } = &writes[1] else {
        panic!("{writes:?}")
    };
    assert_eq!(places_in(wanted), [on("x", &["n2"])]);
    // There it serves as it is; asked for by the pod's other volume, both groups have it.
    setup.groups = vec![held("n1")];
    let writes = setup.decide(&a_wish("b", 2, "n1", 1)).unwrap();
    let [Write::CreateGroup(group), Write::CreateVolume(_)] = &writes[..] else {
        panic!("{writes:?}")
    };
    assert_eq!(places_in(group), [on("a", &["n1"]), on("b", &["n1"])]);
}

#[test]
fn second_copies_are_reserved_each_on_its_node() {
    let cluster = a_cluster(&[("n1", 10), ("n2", 5), ("n3", 5)]);
    let mut setup = a_setup(
        vec![a_claimant(&[("a", 4, 2), ("b", 4, 2), ("c", 1, 1)])],
        vec![],
    );
    setup.cluster = cluster;
    let writes = setup.decide(&a_wish("a", 4, "n1", 2)).unwrap();
    let Write::CreateGroup(group) = &writes[0] else {
        panic!("{writes:?}")
    };
    let places = places_in(group);
    let far: Vec<&str> = places[..2]
        .iter()
        .map(|(_, nodes)| nodes[1].as_str())
        .collect();
    assert!(far == ["n2", "n3"] || far == ["n3", "n2"], "{places:?}");
    assert_eq!(places[2], on("c", &["n1"]));
    assert_eq!(group::nodes(group)[0], "n1");
    let Write::CreateVolume(volume) = &writes[1] else {
        panic!("{writes:?}")
    };
    assert_eq!(volume.wanted_nodes(), places[0].1);
    // The other one finds its own place in the group.
    setup.groups = vec![Arc::new((**group).clone())];
    let writes = setup.decide(&a_wish("b", 4, "n1", 2)).unwrap();
    let [Write::CreateVolume(volume)] = &writes[..] else {
        panic!("{writes:?}")
    };
    assert_eq!(volume.wanted_nodes(), places[1].1);
}

#[test]
fn without_a_pod_the_group_is_the_volumes_own() {
    let setup = a_setup(vec![], vec![]);
    let mut wish = a_wish("a", 2, "n1", 1);
    wish.allowed = Some(vec!["n9".into(), "n2".into()]);
    let writes = setup.decide(&wish).unwrap();
    let Write::CreateGroup(group) = &writes[0] else {
        panic!("{writes:?}")
    };
    assert_eq!(group.name_any(), "a");
    assert_eq!(places_in(group), [on("a", &["n2"])]);
    assert!(group.spec.pods.is_empty());
}

#[test]
fn where_no_scheduler_has_chosen_the_class_says_which_node_is_best() {
    let mut setup = a_setup(vec![], vec![]);
    setup.cluster = a_cluster(&[("large", 20), ("small", 10)]);
    for (placement, node) in [
        (None, "large"),
        (Some(PlacementStrategy::Spread), "large"),
        (Some(PlacementStrategy::BinPack), "small"),
    ] {
        let mut wish = a_wish("a", 2, "n1", 1);
        wish.allowed = None;
        wish.class.placement = placement;
        let writes = setup.decide(&wish).unwrap();
        let Write::CreateGroup(group) = &writes[0] else {
            panic!("{writes:?}")
        };
        assert_eq!(places_in(group), [on("a", &[node])], "{placement:?}");
    }
}

#[test]
fn a_group_that_goes_is_not_used_again() {
    let mut held = (*a_group("uid", EPOCH, vec![a_member("a", &["n1"])])).clone();
    held.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
    ));
    let setup = a_setup(vec![a_claimant(&[("a", 2, 1)])], vec![Arc::new(held)]);
    let writes = setup.decide(&a_wish("a", 2, "n1", 1)).unwrap();
    assert!(
        matches!(&writes[0], Write::CreateGroup(g) if g.name_any() != "uid"),
        "{writes:?}"
    );
}

#[test]
fn a_volume_made_by_hand_gets_room_on_each_of_its_nodes_or_is_refused() {
    let setup = a_setup(vec![], vec![]);
    let mut volume = LocalVolume::default();
    volume.metadata.name = Some("hand".into());
    volume.spec.pool_name = POOL.into();
    volume.spec.replica_number = 2;
    volume.spec.required_capacity_bytes = 6 * GIB;
    volume.spec.accessibility = Some(Accessibility::nodes(["n1", "n2"]));
    let writes = setup.ask(|facts| by_hand(&volume, facts)).unwrap();
    let [Write::CreateGroup(group)] = &writes[..] else {
        panic!("{writes:?}")
    };
    let held = [Arc::new((**group).clone())];
    assert_eq!(reserved_nodes(&volume, &held, EPOCH), ["n1", "n2"]);
    assert!(reserved_nodes(&volume, &held, "later").is_empty());
    "LocalStorage_PoolTape".clone_into(&mut volume.spec.pool_name);
    let refused = setup.ask(|facts| by_hand(&volume, facts)).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("spec.poolName is \"LocalStorage_PoolTape\""),
        "{refused}"
    );
    volume.spec.pool_name = POOL.into();
    volume.spec.required_capacity_bytes = 11 * GIB;
    let refused = setup.ask(|facts| by_hand(&volume, facts)).unwrap_err();
    assert!(refused.to_string().contains("node n1"), "{refused}");
    assert!(
        reserved_nodes(&volume, &held, EPOCH).is_empty(),
        "too small by now"
    );
}

#[test]
fn what_another_decision_created_is_not_taken_for_this_one() {
    let setup = a_setup(vec![a_claimant(&[("a", 2, 1)])], vec![]);
    let made = |node| {
        let writes = setup.decide(&a_wish("a", 2, node, 1)).unwrap();
        writes.into_iter().find_map(|write| match write {
            Write::CreateVolume(volume) => Some(*volume),
            Write::CreateGroup(_) | Write::ChangeGroup { .. } | Write::RemoveGroup(_) => None,
        })
    };
    let (here, there) = (made("n1").unwrap(), made("n2").unwrap());
    assert!(is_same(&here, &here.clone()) && !is_same(&here, &there));
}
