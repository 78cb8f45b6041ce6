//! Parsers on what the real tools said (module 8.4.11, drbd-utils 9.22.0), and on anything at all.

use drbd_cmd::{
    ConnectionState, DiskState, Format, Metadata, Replication, Role, Version,
    parse_drbdadm_version, parse_dump, parse_events2, parse_proc, parse_show,
};
use proptest::prelude::*;

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("recorded/", $name, ".txt"))
    };
}

#[test]
fn versions() {
    let proc = parse_proc(recorded!("proc-empty")).unwrap();
    assert_eq!(
        (proc.module.version, proc.module.api, proc.module.protocol),
        (Version(8, 4, 11), 1, (86, 101))
    );
    assert!(proc.module.is_84() && proc.minors.is_empty());
    assert_eq!(
        parse_drbdadm_version(recorded!("drbdadm-version")),
        Some(Version(9, 22, 0))
    );
    assert_eq!(parse_proc("nothing of the kind"), None);
}

#[test]
fn proc_of_a_connected_pair() {
    let proc = parse_proc(recorded!("proc-connected")).unwrap();
    let [first, second] = proc.minors.as_slice() else {
        panic!("{proc:?}")
    };
    assert_eq!((first.minor, second.minor), (0, 1));
    assert_eq!(first.roles, (Role::Primary, Role::Secondary));
    assert_eq!(second.roles, (Role::Secondary, Role::Primary));
    for minor in &proc.minors {
        assert_eq!(minor.disks, (DiskState::UpToDate, DiskState::UpToDate));
        assert_eq!(
            (&minor.connection, &minor.replication),
            (&ConnectionState::Connected, &Replication::Established)
        );
        assert!(!minor.suspended);
        assert_eq!(minor.out_of_sync_kib, 0);
    }
}

#[test]
fn proc_in_other_states() {
    let syncing = parse_proc(recorded!("proc-syncing")).unwrap().minors;
    assert_eq!(
        (&syncing[0].replication, &syncing[1].replication),
        (&Replication::SyncSource, &Replication::SyncTarget)
    );
    assert_eq!(
        (&syncing[0].connection, syncing[0].out_of_sync_kib),
        (&ConnectionState::Connected, 30724)
    );
    let waiting = parse_proc(recorded!("proc-waiting")).unwrap().minors;
    assert_eq!(waiting[0].connection, ConnectionState::Connecting);
    assert_eq!(waiting[0].disks, (DiskState::UpToDate, DiskState::Outdated));
    let diskless = parse_proc(recorded!("proc-diskless")).unwrap().minors;
    assert_eq!(
        diskless[0].disks,
        (DiskState::Diskless, DiskState::Outdated)
    );
    let inconsistent = parse_proc(recorded!("proc-inconsistent")).unwrap().minors;
    assert_eq!(
        (&inconsistent[0].disks.0, &inconsistent[0].roles.1),
        (&DiskState::Inconsistent, &Role::Unknown)
    );
    let unconfigured = parse_proc(recorded!("proc-unconfigured")).unwrap().minors;
    assert_eq!(
        (unconfigured.len(), &unconfigured[0].disks.0),
        (1, &DiskState::Diskless)
    );
    let frozen = recorded!("proc-waiting").replacen("C r-----", "C s-----", 1);
    let frozen = parse_proc(&frozen).unwrap().minors;
    assert_eq!((frozen[0].suspended, frozen[1].suspended), (true, false));
}

#[test]
fn events2_of_a_connected_pair() {
    let status = parse_events2(recorded!("events2-connected")).unwrap();
    assert_eq!(status.resources.keys().collect::<Vec<_>>(), ["r0", "r1"]);
    let resource = &status.resources["r0"];
    assert_eq!(
        (&resource.role, resource.suspended),
        (&Role::Primary, false)
    );
    let [device] = resource.devices.as_slice() else {
        panic!("{resource:?}")
    };
    assert_eq!(
        (device.volume, device.minor, &device.disk, device.size_kib),
        (0, 0, &DiskState::UpToDate, 65536)
    );
    let [connection] = resource.connections.as_slice() else {
        panic!("{resource:?}")
    };
    assert_eq!(
        (&connection.state, &connection.role),
        (&ConnectionState::Connected, &Role::Secondary)
    );
    let [peer] = connection.volumes.as_slice() else {
        panic!("{connection:?}")
    };
    assert_eq!(
        (&peer.replication, &peer.disk, peer.out_of_sync_kib),
        (&Replication::Established, &DiskState::UpToDate, 0)
    );
    assert!(
        parse_events2(recorded!("events2-empty"))
            .unwrap()
            .resources
            .is_empty()
    );
    assert_eq!(
        parse_events2("exists resource name:r0 role:Primary\n"),
        None,
        "not complete"
    );
}

#[test]
fn show_says_what_a_resource_is_made_of() {
    let shown = parse_show(recorded!("show")).unwrap();
    assert_eq!(shown.len(), 2);
    let resource = &shown[0];
    assert_eq!(resource.name, "r0");
    assert_eq!(resource.local.as_deref(), Some("ipv4 127.0.0.1:7700"));
    assert_eq!(resource.peer.as_deref(), Some("ipv4 127.0.0.1:7701"));
    assert_eq!(
        (
            resource.net["timeout"].as_str(),
            resource.net["verify-alg"].as_str()
        ),
        ("15", "crc32c")
    );
    let [volume] = resource.volumes.as_slice() else {
        panic!("{resource:?}")
    };
    assert_eq!((volume.volume, volume.minor), (0, Some(0)));
    assert_eq!(
        (volume.disk.as_deref(), volume.meta_disk.as_deref()),
        (Some("/dev/ubdb"), Some("/dev/ubdc"))
    );
    assert_eq!(volume.options["fencing"], "resource-and-stonith");
    assert_eq!(parse_show(recorded!("show-empty")), Some(vec![]));
    assert_eq!(parse_show("resource r0 { options {"), None);
}

#[test]
fn metadata_is_recognised_with_its_format_and_state() {
    let new = parse_dump(recorded!("dump-md-v08-new")).unwrap();
    assert_eq!(
        new,
        Metadata {
            format: Format::V08,
            current_uuid: 4,
            agreed_sectors: 0,
            unclean: false
        }
    );
    assert!(new.just_created());
    let used = parse_dump(recorded!("dump-md-v08-unclean")).unwrap();
    assert_eq!(
        (used.format, used.agreed_sectors, used.unclean),
        (Format::V08, 131_072, true)
    );
    assert_eq!(used.current_uuid, 0xDD11_6CB4_22D1_D143);
    assert!(!used.just_created());
    assert_eq!(
        parse_dump(recorded!("dump-md-v08-internal"))
            .unwrap()
            .format,
        Format::V08
    );
    let nine = parse_dump(recorded!("dump-md-v09")).unwrap();
    assert_eq!(
        (nine.format, nine.current_uuid, nine.just_created()),
        (Format::V09, 4, true)
    );
    assert_eq!(
        parse_dump("version \"v99\";\nuuid {\n0x1;\n}\nla-size-sect 0;"),
        None
    );
}

/// Text made of the pieces that the tools' output is made of, so that parsers get past their first line.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "version: 8.4.11 (api:1/proto:86-101)\n",
            " 0: cs:",
            "Connected",
            " ro:",
            "/",
            " ds:",
            "UpToDate",
            " oos:",
            "exists ",
            "resource ",
            "device ",
            "connection ",
            "peer-device ",
            "name:",
            "role:",
            "volume:",
            "minor:",
            "exists -\n",
            "resource r {",
            "_this_host {",
            "volume 0 {",
            "}",
            ";",
            "\"",
            "\\",
            "#",
            "\n",
            "uuid {\n",
            "0x",
            "version \"v08\";\n",
            "la-size-sect ",
            "disk",
            " ",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}",
        any::<u64>().prop_map(|number| number.to_string()),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_input_panics(text in pieces()) {
        let _ = (parse_proc(&text), parse_events2(&text), parse_show(&text), parse_dump(&text), parse_drbdadm_version(&text));
    }

    #[test]
    fn no_cut_or_change_of_real_output_panics(cut in 0usize..6000, at in 0usize..6000, with in any::<char>()) {
        for text in [recorded!("proc-syncing"), recorded!("events2-connected"), recorded!("show"), recorded!("dump-md-v09")] {
            let mut chars: Vec<char> = text.chars().take(cut).collect();
            let length = chars.len().max(1);
            if let Some(c) = chars.get_mut(at % length) {
                *c = with;
            }
            let text: String = chars.into_iter().collect();
            let _ = (parse_proc(&text), parse_events2(&text), parse_show(&text), parse_dump(&text));
        }
    }
}
