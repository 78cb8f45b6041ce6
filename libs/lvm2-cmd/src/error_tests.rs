//! Messages as lvm2 2.03.31 and 2.03.16 wrote them (recorded on a node; the same in both).

use super::*;

const RECORDED: &[(&str, Refusal)] = &[
    (
        "  A volume group called LocalStorage_PoolSSD already exists.",
        Refusal::Exists,
    ),
    (
        "  Logical Volume \"pvc-1\" already exists in volume group \"LocalStorage_PoolSSD\"",
        Refusal::Exists,
    ),
    (
        "  Can't initialize physical volume \"/dev/ubdb\" of volume group \"LocalStorage_PoolSSD\" without -ff\n  /dev/ubdb: physical volume not initialized.",
        Refusal::AlreadyMember,
    ),
    (
        "  PV /dev/ubdb is used by VG LocalStorage_PoolSSD so please use vgreduce first.",
        Refusal::AlreadyMember,
    ),
    (
        "  Physical volume '/dev/ubdb' is already in volume group 'LocalStorage_PoolSSD'\n  Unable to add physical volume '/dev/ubdb' to volume group 'LocalStorage_PoolSSD'",
        Refusal::AlreadyMember,
    ),
    (
        "  Physical volume \"/dev/ubdc\" successfully created.\n  Volume group \"Nope\" not found\n  Cannot process volume group Nope",
        Refusal::NotFound,
    ),
    ("  No device found for /dev/nope.", Refusal::NotUsable),
    (
        "  Cannot use /dev/mapper/pvc-1-front: device is not in a usable state",
        Refusal::NotUsable,
    ),
    (
        "  Cannot use /dev/loop0: device is too small (pv_min_size)",
        Refusal::NotUsable,
    ),
    (
        "  Volume group \"LocalStorage_PoolSSD\" has insufficient free space (372 extents): 10000 required.",
        Refusal::NoSpace,
    ),
    (
        "  Insufficient free space: 1188 extents needed, but only 69 available",
        Refusal::NoSpace,
    ),
    (
        "  Failed to find logical volume \"LocalStorage_PoolSSD/nope\"",
        Refusal::NotFound,
    ),
    (
        "  Logical volume LocalStorage_PoolSSD/pvc-1 is used by another device.",
        Refusal::InUse,
    ),
    (
        "  Logical volume LocalStorage_PoolSSD/pvc-1 contains a filesystem in use.",
        Refusal::InUse,
    ),
    (
        "  Physical volume \"/dev/ubdb\" still in use",
        Refusal::InUse,
    ),
    (
        "  Can't open /dev/ubdd exclusively.  Mounted filesystem?\n  Cannot use /dev/ubdd: device has a signature",
        Refusal::InUse,
    ),
    (
        "  Interrupted...\n  Giving up waiting for lock.\n  Can't get lock for LocalStorage_PoolSSD.\n  Cannot process volume group LocalStorage_PoolSSD",
        Refusal::Locked,
    ),
    (
        "  /run/lock/lvm/V_LocalStorage_PoolSSD: flock failed: Resource temporarily unavailable",
        Refusal::Locked,
    ),
    (
        "WARNING: ext4 signature detected on /dev/ubdd at offset 1080. Wipe it? [y/n]: [n]\n  Aborted wiping of ext4.\n  1 existing signature left on the device.",
        Refusal::Signature,
    ),
    (
        "  WARNING: Couldn't find device with uuid IwtT2u-ieYz-o0uq-WPC8-ozt2-GSd2-5oQEyS.\n  Cannot change VG LocalStorage_PoolHDD while PVs are missing.\n  See vgreduce --removemissing and vgextend --restoremissing.",
        Refusal::MissingPv,
    ),
    (
        "  Refusing activation of partial LV LocalStorage_PoolHDD/pvc-1.  Use '--activationmode partial' to override.",
        Refusal::MissingPv,
    ),
    (
        "  WARNING: Not using device /dev/ubdd for PV MMtHY6-YbTq-4z5d-fIe7-CaBE-yY1b-1rZJvp.\n  Cannot use device /dev/ubdd with duplicates.",
        Refusal::DuplicatePv,
    ),
    (
        "  Cannot activate LVs in VG LocalStorage_PoolHDD while PVs appear on duplicate devices.",
        Refusal::DuplicatePv,
    ),
    (
        "device-mapper: resume ioctl on pvc-nope  failed: No such device or address\nCommand failed.",
        Refusal::NotFound,
    ),
    (
        "device-mapper: remove ioctl on pvc-1-front  failed: Device or resource busy\nCommand failed.",
        Refusal::InUse,
    ),
    (
        "  Volume group LocalStorage_PoolHDD is exported",
        Refusal::Foreign,
    ),
    (
        "  Cannot access VG LocalStorage_PoolHDD with system ID other with unknown local system ID.",
        Refusal::Foreign,
    ),
    (
        "  UUID hawser-aaaa-bbbb-cccc-dddd-eeee-012345 already in use on \"/dev/ubdb\".",
        Refusal::AlreadyMember,
    ),
    (
        "  Cannot use /dev/ubdd: device is partitioned",
        Refusal::NotUsable,
    ),
    ("Device does not exist.\nCommand failed.", Refusal::NotFound),
];

#[test]
fn recorded_messages() {
    for (message, refusal) in RECORDED {
        assert_eq!(recognise(message), Some(*refusal), "{message}");
    }
}

#[test]
fn other_troubles_hide_no_other_refusal() {
    // What another group lacks is no reason why this volume is not found.
    let mixed = "  WARNING: Couldn't find device with uuid uSGf62-Xom3-bx95-uyBc-Fv1k-pWxv-yS3NXB.\n  \
                 WARNING: VG other is missing PV uSGf62 (last written to [unknown]).\n  \
                 Failed to find logical volume \"LocalStorage_PoolHDD/pvc-1\"";
    assert_eq!(recognise(mixed), Some(Refusal::NotFound));
    for unknown in [
        "",
        "  New size (12 extents) matches existing size (12 extents).\n  No size change.",
        "  New size given (11 extents) not larger than existing size (12 extents)",
        "  WARNING: This metadata update is NOT backed up.",
        "  --extents may not be zero.\n  Run `lvcreate --help' for more information.",
        "  Names starting \"snapshot\" are reserved. Please choose a different LV name.",
    ] {
        assert_eq!(recognise(unknown), None, "{unknown}");
    }
}
