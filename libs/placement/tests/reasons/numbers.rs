//! Which numbers, names and owners a reason has.

use super::*;

#[test]
fn pools_made_by_hand_are_named_and_many_owners_are_counted() {
    let lack = room(
        3,
        20,
        4,
        reserved(&[("default/a", 9), ("default/b", 5), ("default/c", 1)], 4),
    );
    assert_eq!(
        in_pool("LocalStorage_PoolBig", lack).to_string(),
        "hdd pool LocalStorage_PoolBig: 3 of 20 GiB free, 15 reserved for default/a, default/b and 5 others, needs 4"
    );
    let nowhere = Reason::Pool {
        pool: "x".into(),
        class: None,
        lack: Lack::Pool,
    };
    assert_eq!(nowhere.to_string(), "pool x: is not there any more");
    assert_eq!(
        serde_json::to_value(nowhere).unwrap(),
        json!({ "reason": "PoolGone", "pool": "x", "class": null })
    );
    let nodes = (1..=9).map(|n| format!("n{n}").as_str().into()).collect();
    let many = Reason::SourceElsewhere {
        claim: "shop/data".into(),
        nodes,
    };
    assert_eq!(
        many.to_string(),
        "claim shop/data: its source is on nodes n1, n2, n3 and 6 more"
    );
}

#[test]
fn owners_are_the_largest_few_of_the_pool_and_never_who_asks() {
    let mut node = Node::new("n1");
    let extent = Bytes::mib(4);
    node.pools = vec![Pool::new(
        "LocalStorage_PoolHDD",
        PoolClass::Hdd,
        Some(Bytes::gib(5)),
    )];
    let held = |volume: &str, owner: &str, pool: &str, size: Bytes, thin| Reservation {
        volume: volume.into(),
        owner: owner.into(),
        pool: pool.into(),
        size,
        thin,
    };
    let here = "LocalStorage_PoolHDD";
    node.reservations = vec![
        held("v1", "shop/a", here, Bytes(1), false),
        held("v2", "shop/b", here, Bytes::mib(8), false),
        held("v3", "shop/a", here, Bytes::mib(5), false),
        held("v4", "shop/c", here, Bytes::mib(4), false),
        held("v5", "shop/d", here, Bytes::mib(4), false),
        held("v6", "shop/e", here, Bytes::mib(4), true),
        held("v7", "shop/f", "another", Bytes::mib(4), false),
        held("mine", "shop/me", here, Bytes::gib(1), false),
    ];
    let owners = |lack: Lack| {
        let mut reason = hdd(lack);
        reason.name_owners(&node, |held| &*held.volume == "mine");
        let Reason::Pool {
            lack:
                Lack::Room { reserved, .. }
                | Lack::Slots { reserved, .. }
                | Lack::ThinRoom { reserved, .. },
            ..
        } = reason
        else {
            panic!("{reason:?}")
        };
        let names: Vec<String> = reserved
            .owners
            .iter()
            .map(|share| format!("{} {}", share.owner, share.size.0 / extent.0))
            .collect();
        (
            names,
            reserved.size.0 / extent.0,
            reserved.volumes,
            reserved.others,
        )
    };
    let three = |names: [&str; 3]| names.map(str::to_owned).to_vec();
    assert_eq!(
        owners(room(3, 5, 4, Reserved::default())),
        (three(["shop/a 3", "shop/b 2", "shop/c 1"]), 7, 5, 1),
        "in whole extents"
    );
    let slots = Lack::Slots {
        volumes: 1,
        free: 0,
        used: 0,
        limit: 6,
        reserved: Reserved::default(),
    };
    assert_eq!(
        owners(slots),
        (three(["shop/a 3", "shop/b 2", "shop/c 1"]), 8, 6, 2),
        "thin ones take a place, too"
    );
}
