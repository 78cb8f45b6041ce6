//! What is said of thousands of nodes stays short, and says what matters.

use std::collections::BTreeMap;

use hawser_placement::{
    Bytes, Lack, PoolClass, Reason, Refused, Reserved, SPOKEN, Sentence, Share, StorageState, tell,
};
use proptest::prelude::*;

fn room(class: PoolClass, free: u64, reserved: Option<&str>) -> Reason {
    let share = |owner: &str| Share {
        owner: owner.into(),
        size: Bytes::mib(4),
        volumes: 1,
    };
    Reason::Pool {
        pool: format!("LocalStorage_Pool{class}").into(),
        class: Some(class),
        lack: Lack::Room {
            volumes: 1,
            needed: Bytes::gib(40),
            free: Bytes(free),
            total: Bytes::gib(100),
            used: Bytes::ZERO,
            extent: Bytes::mib(4),
            reserved: reserved.map_or_else(Reserved::default, |owner| Reserved {
                size: Bytes::mib(4),
                volumes: 1,
                owners: vec![share(owner)],
                others: 0,
            }),
        },
    }
}

/// As kube-scheduler puts it together: equal sentences counted, sorted as text, joined.
fn event(refused: &[Vec<Reason>]) -> String {
    let refused: Vec<Refused<'_>> = refused.iter().map(|why| Refused::one(why)).collect();
    event_of(&refused)
}

fn event_of(refused: &[Refused<'_>]) -> String {
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    for (refused, sentence) in refused.iter().zip(tell(refused)) {
        *counts.entry(sentence).or_default() += refused.nodes;
    }
    let mut counted: Vec<String> = counts
        .iter()
        .map(|(sentence, count)| format!("{count} {sentence}"))
        .collect();
    counted.sort();
    counted.join(", ")
}

#[test]
fn few_nodes_get_their_own_numbers() {
    let gib = |n: u64| Bytes::gib(n).0;
    let refused = [
        vec![room(PoolClass::Hdd, gib(3), Some("default/db-1"))],
        vec![room(PoolClass::Hdd, gib(7), None)],
        vec![room(PoolClass::Hdd, gib(7), None)],
        vec![Reason::Storage {
            state: StorageState::Absent,
        }],
    ];
    assert_eq!(
        event(&refused),
        "1 hdd pool: 3 GiB of 100 GiB free, 4 MiB reserved for default/db-1, needs 40 GiB, \
         1 node has no storage (no LocalStorageNode), 2 hdd pool: 7 of 100 GiB free, needs 40"
    );
}

#[test]
fn thousands_of_nodes_get_one_sentence_a_cause_with_the_nearest_miss() {
    let owner = |i: u64| format!("default/db-{i}");
    let node = |i: u64| match i % 10 {
        0 => vec![Reason::Storage {
            state: StorageState::Offline,
        }],
        1 => vec![
            room(PoolClass::Hdd, i << 20, None),
            room(PoolClass::Ssd, i << 22, Some(&owner(i))),
        ],
        _ => vec![room(PoolClass::Hdd, i << 22, Some(&owner(i)))],
    };
    let mut refused: Vec<Vec<Reason>> = (0..5000).map(node).collect();
    let golden = "4000 hdd pool: at best 19.5 GiB of 100 GiB free, 4 MiB reserved for default/db-4999, needs 40 GiB, \
                  500 hdd pool: at best 4.8 of 100 GiB free, needs 40; \
                  ssd pool: at best 19.4 GiB of 100 GiB free, 4 MiB reserved for default/db-4991, needs 40 GiB, \
                  500 storage daemon of the node is offline";
    let told = event(&refused);
    assert_eq!(told, golden);
    refused.reverse();
    assert_eq!(event(&refused), golden, "in whatever order they come");
    let exact: usize = refused
        .iter()
        .map(|why| Sentence::of(why).to_string().len() + 3)
        .sum();
    assert!(
        exact > 200_000 && told.len() < 400,
        "{exact} characters otherwise"
    );
}

#[test]
fn kinds_of_nodes_are_told_as_the_nodes_are() {
    let all: Vec<Vec<Reason>> = (0..90)
        .map(|i| match i % 3 {
            0 => vec![Reason::Storage {
                state: StorageState::Offline,
            }],
            1 => vec![room(PoolClass::Hdd, (i + 1) << 24, Some("default/db-1"))],
            _ => vec![room(PoolClass::Ssd, (i + 1) << 26, None)],
        })
        .collect();
    let kind = |reasons| Refused { reasons, nodes: 30 };
    let kinds = [kind(&all[0]), kind(&all[88]), kind(&all[89])];
    assert_eq!(event_of(&kinds), event(&all));
    assert_eq!(
        event(&all),
        "30 hdd pool: at best 1.3 GiB of 100 GiB free, 4 MiB reserved for default/db-1, needs 40 GiB, \
         30 ssd pool: at best 5.6 of 100 GiB free, needs 40, 30 storage daemon of the node is offline"
    );
}

#[test]
fn many_causes_are_cut_down_to_the_most_frequent() {
    let long = "x".repeat(200);
    let elsewhere = |i: usize| {
        vec![Reason::NoCopies {
            claim: format!("{long}/{i}").as_str().into(),
        }]
    };
    let mut refused: Vec<Vec<Reason>> = (0..100).map(elsewhere).collect();
    let told = event(&refused);
    assert!(told.starts_with("100 claim xxx"), "{told}");
    for (i, reason) in [
        Reason::NotSelected,
        Reason::Undecided { volumes: 1 },
        Reason::Tainted {
            taint: "y".repeat(250),
        },
        Reason::InUseElsewhere {
            claim: "a/b".into(),
            node: long.as_str().into(),
            copies: vec![],
        },
        Reason::SourceElsewhere {
            claim: "a/b".into(),
            nodes: vec![long.as_str().into()],
        },
    ]
    .into_iter()
    .enumerate()
    {
        refused.extend(std::iter::repeat_n(vec![reason], 10 + i));
    }
    let told = event(&refused);
    assert!(
        told.contains("100 claim x")
            && told.contains("other storage reasons (GET /why tells them)"),
        "{told}"
    );
    assert!(told.len() <= SPOKEN, "{}: {told}", told.len());
}

#[test]
fn nothing_refused_says_nothing() {
    assert!(tell(&[]).is_empty());
}

fn reason() -> impl Strategy<Value = Reason> {
    let class = prop_oneof![Just(PoolClass::Hdd), Just(PoolClass::Ssd)];
    prop_oneof![
        4 => (class, 0..200u64, prop::option::of(0..50u64))
            .prop_map(|(class, free, owner)| room(class, free << 24, owner.map(|i| format!("ns/pod-{i}")).as_deref())),
        1 => Just(Reason::Storage { state: StorageState::Absent }),
        1 => (0..40u32).prop_map(|i| Reason::Tainted { taint: format!("key-{i}:NoSchedule") }),
        1 => (0..40u32).prop_map(|i| Reason::CopyBroken { claim: format!("ns/claim-{i}").as_str().into(), copies: vec![] }),
        1 => Just(Reason::NotSelected),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn whatever_is_refused_the_event_is_short_and_does_not_depend_on_the_order(
        refused in prop::collection::vec(prop::collection::vec(reason(), 1..4), 0..150),
        turn in any::<prop::sample::Index>(),
    ) {
        let told = event(&refused);
        prop_assert!(told.len() <= SPOKEN, "{}: {told}", told.len());
        let mut turned = refused.clone();
        if !turned.is_empty() {
            let by = turn.index(turned.len());
            turned.rotate_left(by);
        }
        turned.reverse();
        prop_assert_eq!(event(&turned), told);
    }

    #[test]
    fn what_fits_is_told_exactly(refused in prop::collection::vec(prop::collection::vec(reason(), 1..3), 1..4)) {
        let each: Vec<Refused<'_>> = refused.iter().map(|why| Refused::one(why)).collect();
        let told = tell(&each);
        let exact: Vec<String> = refused.iter().map(|why| Sentence::of(why).to_string()).collect();
        let mut distinct = exact.clone();
        distinct.sort();
        distinct.dedup();
        if distinct.iter().map(|text| text.len() + 7).sum::<usize>() <= SPOKEN {
            prop_assert_eq!(told.iter().map(ToString::to_string).collect::<Vec<_>>(), exact);
        }
    }
}
