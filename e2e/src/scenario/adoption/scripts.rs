//! Scripts for the node's shell, which is bash.

use super::objects::MIB;
use super::{FOLDER, HELD, MORE, PATIENCE, SIZE};

/// Makes and mounts the volume as HwameiStor did, fills it, and prints the checksum of what it holds.
pub(super) fn make(pool: &str, volume: &str, devices: &[String]) -> String {
    format!(
        "set -e; rm -f {FOLDER}.stop; vgcreate -q -q -y {pool} {devices} >&2; lvcreate -q -q -y -W n -n {volume} -L {SIZE}M {pool} >&2; \
         mkfs.ext4 -q -F -m0 /dev/{pool}/{volume} >&2; mkdir -p {FOLDER}; mount /dev/{pool}/{volume} {FOLDER}; \
         head -c {HELD} /dev/urandom > {FOLDER}/held; sync; sha256sum < {FOLDER}/held",
        devices = devices.join(" ")
    )
}

/// Waits until the device is not as large as before; then grows the mounted file system at once, writes what only fits into the new part, and prints its checksum. Prints nothing
/// if it is told to stop, or nothing happens for long.
pub(super) fn grow(device: &str) -> String {
    format!(
        "end=$((SECONDS + {})); while [ \"$(blockdev --getsize64 {device})\" = {} ]; do \
         [ ! -e {FOLDER}.stop ] && [ $SECONDS -lt $end ] || exit 0; sleep 0.02; done; \
         resize2fs {device} >&2 && head -c {MORE} /dev/urandom > {FOLDER}/more && sync && sha256sum < {FOLDER}/more",
        PATIENCE.as_secs() / 2,
        SIZE * MIB
    )
}

#[cfg(test)]
mod tests {
    use super::super::{ASKED_AGAIN, DISK};
    use super::*;
    use crate::command::{run, with_args};

    #[test]
    fn scripts_for_nodes_are_bash() {
        let devices = ["/dev/sdc".to_owned(), "/dev/sdd".to_owned()];
        for script in [make("VG", "pvc-1", &devices), grow("/dev/VG/pvc-1")] {
            run(&mut with_args("bash", ["-n", "-c", &script])).unwrap();
        }
        assert!(make("VG", "pvc-1", &devices).contains("vgcreate -q -q -y VG /dev/sdc /dev/sdd "));
    }

    #[test]
    fn what_is_written_after_the_growth_does_not_fit_before() {
        let size = u64::try_from(SIZE * MIB).unwrap();
        assert!(
            HELD + MORE > size - (8 << 20),
            "less the journal and tables"
        );
        assert!(HELD + (4 << 20) < size - (8 << 20), "the records have room");
        let room = 2 * (DISK - (4 << 20));
        assert!(u64::try_from(ASKED_AGAIN * MIB).unwrap() < room);
    }
}
