//! argv, exactly: what reaches a tool that can destroy data is reviewed here.

use super::*;
use crate::Udev;

fn lvm() -> Lvm {
    Lvm::new(Options::default())
}

fn line(command: &Command) -> String {
    without_config(&command.argv()).join(" ")
}

#[test]
fn configuration() {
    let expected = "devices { scan_lvs=0 use_devicesfile=0 hints=\"none\" external_device_info_source=\"none\" \
        global_filter=[\"r|^/dev/mapper/.*-(front|back|encrypt)$|\",\"r|^/dev/drbd|\",\"r|^/dev/rbd|\",\"r|^/dev/nbd|\",\"a|.*|\"] \
        filter=[\"a|.*|\"] } backup { backup=0 archive=0 } \
        activation { monitoring=0 udev_sync=1 udev_rules=1 verify_udev_operations=1 retry_deactivation=1 } \
        global { use_lvmpolld=0 use_lvmlockd=0 }";
    assert_eq!(Options::default().config(Hints::Leave), expected);
    let bypass = Options {
        udev: Udev::Bypass,
        config: vec!["global { wait_for_locks=0 }".to_owned()],
        ..Options::default()
    };
    assert!(
        bypass
            .config(Hints::Leave)
            .contains("udev_sync=0 udev_rules=0 verify_udev_operations=0")
    );
    assert!(
        bypass
            .config(Hints::Leave)
            .ends_with("global { wait_for_locks=0 }")
    );
}

#[test]
fn the_hosts_hints_are_outdated_by_what_changes_physical_volumes() {
    let asks = |command: Command, words: &str| {
        let argv = command.argv();
        let at = argv.iter().position(|word| word == "--config").unwrap();
        assert!(argv[at + 1].contains(words), "{argv:?}");
    };
    for verb in ["pvcreate", "pvremove", "vgcreate", "vgextend", "vgreduce"] {
        asks(lvm().changing_disks(verb), "hints=\"all\"");
    }
    asks(lvm().changing("lvcreate"), "hints=\"none\"");
    asks(lvm().report_command(), "hints=\"none\"");
}

#[test]
fn lv_create_argv() {
    let create = CreateLv {
        vg: "LocalStorage_PoolSSD".to_owned(),
        name: "pvc-1".to_owned(),
        extents: 10,
        tags: vec![
            "hawser.io/volume=pvc-1".to_owned(),
            "hawser.io/claim=default/data-0".to_owned(),
        ],
        activate: true,
        devices: vec!["/dev/sdb".into()],
    };
    let (object, command) = lvm().lv_create_command(&create).unwrap();
    assert_eq!(object, "LocalStorage_PoolSSD/pvc-1");
    assert_eq!(
        line(&command),
        "lvm lvcreate --yes --type linear --wipesignatures n --zero n --activate y --extents 10 --name pvc-1 \
         --addtag hawser.io/volume=pvc-1 --addtag hawser.io/claim=default/data-0 -- LocalStorage_PoolSSD /dev/sdb"
    );
    for bad in [
        CreateLv {
            extents: 0,
            ..create.clone()
        },
        CreateLv {
            name: "snapshot-1".to_owned(),
            ..create.clone()
        },
        CreateLv {
            vg: "-h".to_owned(),
            ..create.clone()
        },
        CreateLv {
            tags: vec!["a b".to_owned()],
            ..create.clone()
        },
        CreateLv {
            devices: vec!["sdb".into()],
            ..create
        },
    ] {
        assert!(lvm().lv_create_command(&bad).is_err(), "{bad:?}");
    }
}

const UUID: &str = "dUE9uo-w42E-aU0G-IGdX-g93o-JpeA-B9o3UQ";

async fn removal_by(program: &str) -> Result<Outcome, LvmError> {
    let lvm = Lvm::new(Options {
        lvm: std::path::absolute(program).unwrap(),
        ..Options::default()
    });
    lvm.lv_remove("vg", "lv", UUID).await
}

/// As recorded with 2.03.16 on a volume group of a plain volume and one with a snapshot.
#[tokio::test]
async fn a_removal_that_selected_nothing_is_told() {
    let removed = removal_by("tests/removes").await;
    assert_eq!(removed.unwrap(), Outcome::Changed);
    let spared = removal_by("/bin/true").await.unwrap_err();
    assert!(matches!(spared, LvmError::Spared { .. }), "{spared}");
}

/// Runs a method against a program that notes its arguments, and returns them.
async fn argv_of<F, T>(body: impl FnOnce(Lvm) -> F) -> String
where
    F: Future<Output = Result<T, LvmError>>,
{
    let lvm = Lvm::new(Options {
        lvm: std::path::absolute("tests/echo-argv").unwrap(),
        ..Options::default()
    });
    let Err(error) = body(lvm).await else {
        return "no error, so not run".to_owned();
    };
    let LvmError::Command { source, .. } = error else {
        return format!("not run: {error}");
    };
    let argv = &source.failed().expect("it ends with 77").argv;
    without_config(argv)[1..].join(" ")
}

#[tokio::test]
async fn argv_of_changes() {
    let d = || vec![PathBuf::from("/dev/sdb"), PathBuf::from("/dev/sdc")];
    assert_eq!(
        argv_of(async |l| l.pv_create("/dev/sdb".as_ref(), None).await).await,
        "pvcreate -- /dev/sdb"
    );
    assert_eq!(
        argv_of(async |l| l
            .pv_create(
                "/dev/sdb".as_ref(),
                Some("hawser-aaaa-bbbb-cccc-dddd-eeee-012345")
            )
            .await)
        .await,
        "pvcreate --uuid hawser-aaaa-bbbb-cccc-dddd-eeee-012345 --norestorefile -- /dev/sdb"
    );
    assert_eq!(
        argv_of(async |l| l.pv_remove("/dev/sdb".as_ref()).await).await,
        "pvremove -- /dev/sdb"
    );
    assert_eq!(
        argv_of(async |l| l.pv_resize("/dev/sdb".as_ref()).await).await,
        "pvresize -- /dev/sdb"
    );
    assert_eq!(
        argv_of(async |l| l.vg_create("vg", &d()).await).await,
        "vgcreate -- vg /dev/sdb /dev/sdc"
    );
    assert_eq!(
        argv_of(async |l| l.vg_extend("vg", &d()).await).await,
        "vgextend -- vg /dev/sdb /dev/sdc"
    );
    assert_eq!(
        argv_of(async |l| l.vg_reduce("vg", "/dev/sdb".as_ref()).await).await,
        "vgreduce -- vg /dev/sdb"
    );
    assert_eq!(
        argv_of(async |l| l.vg_remove("vg").await).await,
        "vgremove -- vg"
    );
    assert_eq!(
        argv_of(async |l| l.vg_activate("vg").await).await,
        "vgchange -ay -- vg"
    );
    assert_eq!(
        argv_of(async |l| l.lv_extend("vg", "lv", 12).await).await,
        "lvextend --extents 12 -- vg/lv"
    );
    assert_eq!(
        argv_of(async |l| l.lv_remove("vg", "lv", UUID).await).await,
        "lvremove --yes --select lv_uuid=\"dUE9uo-w42E-aU0G-IGdX-g93o-JpeA-B9o3UQ\" && lv_role!={origin} -- vg/lv"
    );
    assert_eq!(
        argv_of(async |l| l.lv_activate("vg", "lv").await).await,
        "lvchange -ay --ignoreactivationskip -- vg/lv"
    );
    assert_eq!(
        argv_of(async |l| l.lv_deactivate("vg", "lv").await).await,
        "lvchange -an -- vg/lv"
    );
    assert_eq!(
        argv_of(async |l| l
            .lv_change_tags("vg", "lv", &["a".into()], &["b".into(), "c".into()])
            .await)
        .await,
        "lvchange --addtag a --deltag b --deltag c -- vg/lv"
    );
    // Nothing is run for what makes no sense.
    assert_eq!(
        argv_of(async |l| l.lv_change_tags("vg", "lv", &[], &[]).await).await,
        "no error, so not run"
    );
    assert_eq!(
        argv_of(async |l| l.vg_create("vg", &[]).await).await,
        "not run: vg: no device given"
    );
    assert!(
        argv_of(async |l| l.lv_remove("vg", "../x", UUID).await)
            .await
            .starts_with("not run")
    );
    for uuid in ["", "\" || lv_name=~\".*"] {
        assert!(
            argv_of(async |l| l.lv_remove("vg", "lv", uuid).await)
                .await
                .starts_with("not run"),
            "{uuid}"
        );
    }
}

#[test]
fn versions() {
    let new = version(
        "  LVM version:     2.03.31(2) (2025-02-27)\n  Library version: 1.02.205 (2025-02-27)\n  Driver version:  4.50.0\n",
    )
    .unwrap();
    assert_eq!((new.number, new.driver.as_str()), ((2, 3, 31), "4.50.0"));
    // No device-mapper in the kernel: the driver's line is missing.
    let old = version("  LVM version:     2.02.187(2)-RHEL7 (2020-03-24)\n").unwrap();
    assert_eq!((old.number, old.driver.as_str()), ((2, 2, 187), ""));
    assert!(version("").is_err());
    assert!(version("LVM version: x").is_err());
}
