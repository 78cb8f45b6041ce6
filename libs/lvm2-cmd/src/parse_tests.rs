//! Reports of two lvm2 versions, recorded on the same node: both must give the same picture.

use super::*;
use proptest::prelude::*;

macro_rules! recorded {
    ($version:literal, $name:literal) => {
        report(
            include_bytes!(concat!("../tests/recorded/", $version, "/", $name, ".json")),
            "",
        )
        .unwrap()
    };
}

/// Both versions' reports, the older one's complaints from its standard error.
macro_rules! both {
    ($name:literal) => {
        [recorded!("2.03.31", $name), recorded!("2.03.16", $name)]
    };
}

#[test]
fn nothing_there() {
    for report in both!("empty") {
        assert_eq!(report, Report::default());
    }
}

#[test]
fn an_orphan() {
    for report in both!("orphan") {
        assert!(report.vgs.is_empty());
        let [pv] = report.orphans.as_slice() else {
            panic!("{report:?}");
        };
        assert_eq!(pv.device, Some("/dev/ubdb".into()));
        assert_eq!(pv.major_minor, Some((98, 16)));
        assert_eq!(pv.device_bytes, 1 << 30);
        assert!(!pv.in_use && !pv.missing && !pv.duplicate);
        assert_eq!(pv.extents, 0);
    }
}

#[test]
fn a_pool_with_volumes() {
    for report in both!("pool") {
        let vg = report.vg("LocalStorage_PoolSSD").unwrap();
        assert_eq!(vg.extent_bytes, 4 << 20);
        assert_eq!(vg.extents, 382);
        assert_eq!(vg.free_extents, 71);
        assert_eq!(vg.used_extents(), 311);
        assert_eq!(vg.free_bytes(), 71 * (4 << 20));
        assert!(vg.writeable && vg.extendable);
        assert!(!vg.exported && !vg.partial && !vg.shared);
        assert_eq!((vg.system_id.as_str(), vg.missing_pvs), ("", 0));
        assert_eq!(vg.pvs.len(), 2);
        assert!(vg.pvs.iter().all(|pv| pv.allocatable && pv.in_use));

        let lv = vg.lv("pvc-1").unwrap();
        assert_eq!(lv.size_bytes, 40 << 20);
        assert_eq!(lv.extents(), 10);
        assert_eq!(lv.tag_value("hawser.io/claim="), Some("default/data-0"));
        assert!(lv.has_tag("hawser.io/volume=pvc-1"));
        assert!(lv.active && !lv.open && !lv.suspended && !lv.read_only && !lv.hidden);
        assert_eq!(lv.path, PathBuf::from("/dev/LocalStorage_PoolSSD/pvc-1"));
        assert_eq!(lv.major_minor, Some((254, 0)));
        assert_eq!(lv.devices(), [PathBuf::from("/dev/ubdb")]);

        let big = vg.lv("pvc-big").unwrap();
        assert_eq!(
            big.devices(),
            [PathBuf::from("/dev/ubdb"), PathBuf::from("/dev/ubdc")]
        );
        assert_eq!(big.segments.len(), 2);
        assert_eq!(big.segments[1].start_extent, big.segments[0].extents);

        let inactive = vg.lv("pvc-inactive").unwrap();
        assert!(!inactive.active && !inactive.open && !inactive.suspended);
        assert_eq!(inactive.major_minor, None);
        assert!(vg.lv("nope").is_none());
    }
}

#[test]
fn snapshots_and_thin_ones() {
    for report in both!("kinds") {
        let vg = report.vg("LocalStorage_PoolSSD").unwrap();
        let pool = vg.lv("LocalStorage_ThinPool").unwrap();
        assert_eq!(pool.layout, ["thin", "pool"]);
        assert_eq!(pool.data_percent.as_deref(), Some("0.00"));
        let thin = vg.lv("thin-1").unwrap();
        assert_eq!(thin.pool, "LocalStorage_ThinPool");
        assert!(thin.devices().is_empty());
        let snapshot = vg.lv("snap-1").unwrap();
        assert_eq!(snapshot.origin, "pvc-1");
        assert!(snapshot.role.iter().any(|r| r == "snapshot"));
        // Hidden ones are listed, counted, and not found by name.
        assert!(
            vg.lvs
                .iter()
                .any(|lv| lv.hidden && lv.name == "LocalStorage_ThinPool_tdata")
        );
        assert!(vg.lv("LocalStorage_ThinPool_tdata").is_none());
        let allocated: u64 = vg.pvs.iter().map(|pv| pv.allocated_extents).sum();
        assert_eq!(allocated, vg.used_extents());
    }
}

/// The older version complains on standard error, the newer in the report's log.
macro_rules! with_complaints {
    ($name:literal) => {
        [
            recorded!("2.03.31", $name),
            report(
                include_bytes!(concat!("../tests/recorded/2.03.16/", $name, ".json")),
                include_str!(concat!("../tests/recorded/2.03.16/", $name, ".err")),
            )
            .unwrap(),
        ]
    };
}

#[test]
fn a_missing_disk() {
    for report in with_complaints!("missing") {
        let vg = report.vg("LocalStorage_PoolHDD").unwrap();
        assert!(vg.partial);
        assert_eq!(vg.missing_pvs, 2);
        let missing: Vec<_> = vg.pvs.iter().filter(|pv| pv.missing).collect();
        assert_eq!(missing.len(), 2);
        assert!(missing.iter().all(|pv| pv.device.is_none()));
        assert_eq!(vg.lv("pvc-1").unwrap().health, "partial");
        assert!(
            report
                .warnings
                .iter()
                .any(|w| w.contains("is missing PV uSGf62")),
            "{:?}",
            report.warnings
        );
    }
}

#[test]
fn a_disk_twice() {
    for report in with_complaints!("dup") {
        assert_eq!(
            report.duplicates,
            [Duplicate {
                device: "/dev/ubdd".into(),
                pv_uuid: "OfFewU-agyb-OdEF-cSjy-fVZI-P1b3-6UeEEy".to_owned(),
            }]
        );
        let vg = report.vg("LocalStorage_PoolHDD").unwrap();
        let of = |device: &str| {
            vg.pvs
                .iter()
                .find(|pv| pv.device.as_deref() == Some(device.as_ref()))
                .unwrap()
        };
        assert!(of("/dev/ubdb").duplicate);
        assert!(!of("/dev/ubdc").duplicate);
    }
}

#[test]
fn groups_of_others() {
    for report in with_complaints!("foreign") {
        assert!(report.vgs.is_empty());
        assert_eq!(report.foreign_vgs, ["LocalStorage_PoolHDD"]);
    }
    for report in with_complaints!("exported") {
        assert!(report.vg("LocalStorage_PoolHDD").unwrap().exported);
    }
}

#[test]
fn two_groups_of_one_name_are_none() {
    let one = recorded!("2.03.31", "pool").vgs.remove(0);
    let report = Report {
        vgs: vec![one.clone(), one],
        ..Report::default()
    };
    assert!(report.vg("LocalStorage_PoolSSD").is_none());
    assert_eq!(report.vgs_named("LocalStorage_PoolSSD").count(), 2);
}

#[test]
fn senseless_answers_are_errors() {
    for bad in ["", "{}", "[]", "{\"report\":[{\"vg\":[{}]}]}", "WARNING: x"] {
        assert!(report(bad.as_bytes(), "").is_err(), "{bad}");
    }
    let text = include_str!("../tests/recorded/2.03.31/pool.json");
    assert!(report(text.replace("\"4194304\"", "\"lots\"").as_bytes(), "").is_err());
    // Columns that we never asked for are borne.
    let more = text.replace("\"vg_uuid\"", "\"vg_new\":\"1\", \"vg_uuid\"");
    assert!(report(more.as_bytes(), "").is_ok());
}

proptest! {
    #[test]
    fn no_input_panics(json: Vec<u8>, stderr: String) {
        let _ = report(&json, &stderr);
        let _ = crate::error::recognise(&stderr);
    }

    /// A recorded report with some bytes replaced: more of the code is reached than with noise alone.
    #[test]
    fn no_broken_report_panics(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let mut json = include_bytes!("../tests/recorded/2.03.31/kinds.json").to_vec();
        for (at, byte) in changes {
            let at = at.index(json.len());
            json[at] = byte;
        }
        let _ = report(&json, "");
    }

    #[test]
    fn no_dmsetup_answer_panics(text: String) {
        let _ = text.parse::<crate::dm::Table>();
    }
}
