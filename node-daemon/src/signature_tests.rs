//! blkid's answers, real and recorded; and that what can't be read is never called empty.

use super::*;
use crate::testing::SilentDevice;
use hawser_runtime::telemetry::chain;
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;

const PATIENCE: Duration = Duration::from_secs(60);
const MIB: u64 = 1024 * 1024;

/// A sparse file of 64 MiB that carries these bytes at these places, looked at like a device.
struct Image(tempfile::NamedTempFile);

impl Image {
    fn with(pieces: &[(u64, &[u8])]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 * MIB).unwrap();
        for (at, bytes) in pieces {
            file.as_file().write_all_at(bytes, *at).unwrap();
        }
        Self(file)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A `blkid` that does as told.
fn a_blkid(script: &str) -> (tempfile::TempDir, Looker) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blkid");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let looker = Looker::with(path);
    (folder, looker)
}

/// As blkid 2.38.1 ends when one read fails, on an ext4 image that it knew a moment before:
/// `strace -e trace=read -e inject=read:error=EIO:when=5 blkid -p -o export ext4.img` (likewise 6 to 16): status 2 and no word.
const SILENT: &str = "exit 2";

/// The primary superblock's magic number of ext2 and its successors, at its place.
const EXT4: (u64, &[u8]) = (0x438, &[0x53, 0xef]);
/// LUKS of version 1.
const LUKS: (u64, &[u8]) = (0, b"LUKS\xba\xbe\x00\x01");

fn kind(found: Result<Found, LookError>) -> String {
    match found.unwrap() {
        Found::Signature(signature) => signature.kind,
        other @ (Found::Nothing | Found::Table(_) | Found::Several) => format!("{other:?}"),
    }
}

#[tokio::test]
async fn the_real_blkid_tells_empty_from_not() {
    let looker = Looker::default();
    let empty = Image::with(&[]);
    assert_eq!(
        looker.look(empty.path(), PATIENCE).await.unwrap(),
        Found::Nothing
    );
    let luks = Image::with(&[LUKS]);
    assert_eq!(
        kind(looker.look(luks.path(), PATIENCE).await),
        "crypto_LUKS"
    );
    let swap = Image::with(&[(4086, b"SWAPSPACE2"), (1024, &[1, 0, 0, 0, 255, 63, 0, 0])]);
    assert_eq!(kind(looker.look(swap.path(), PATIENCE).await), "swap");
    let dos = Image::with(&[
        (446, &[0, 0, 0, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]),
        (510, &[0x55, 0xaa]),
    ]);
    assert_eq!(
        looker.look(dos.path(), PATIENCE).await.unwrap(),
        Found::Table("dos".to_owned())
    );
}

#[tokio::test]
async fn what_blkid_failed_to_read_is_not_empty() {
    let (_folder, silent) = a_blkid(SILENT);
    for image in [Image::with(&[EXT4]), Image::with(&[LUKS])] {
        let error = silent.look(image.path(), PATIENCE).await.unwrap_err();
        assert!(matches!(error, LookError::Overlooked(_)), "{error:?}");
    }
    // What only blkid would have known: it is asked again once the device could be read.
    let (folder, once) =
        a_blkid("test -e $0.asked && { echo TYPE=zfs_member; exit 0; }\n: > $0.asked; exit 2");
    let image = Image::with(&[]);
    assert_eq!(kind(once.look(image.path(), PATIENCE).await), "zfs_member");
    drop(folder);
}

#[tokio::test]
async fn what_is_not_there_or_has_no_size_is_not_empty() {
    let (_folder, silent) = a_blkid(SILENT);
    let gone = Path::new("/dev/no-such-device");
    for looker in [&silent, &Looker::default()] {
        let error = looker.look(gone, PATIENCE).await.unwrap_err();
        let sentence = chain(&error).to_string();
        assert!(sentence.contains("No such file"), "{sentence}");
    }
    let nothing = tempfile::NamedTempFile::new().unwrap();
    let error = silent.look(nothing.path(), PATIENCE).await.unwrap_err();
    assert!(
        chain(&error).to_string().contains("has no size"),
        "{error:?}"
    );
    let error = Looker::with("no-such-blkid")
        .look(nothing.path(), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "blkid is not installed");
}

#[tokio::test]
async fn a_device_that_does_not_answer_is_asked_once() {
    let silent = SilentDevice::new();
    let device = silent.path();
    let (blkid, looker) = a_blkid("echo asked >> $0.asked; exit 2");
    let soon = Duration::from_secs(3);
    let late = looker.look(&device, soon).await.unwrap_err();
    assert!(
        matches!(late, LookError::NoAnswer(Hangs::Late(_))),
        "{late:?}"
    );
    for _ in 0..20 {
        let refused = looker.look(&device, soon).await.unwrap_err();
        assert!(
            matches!(refused, LookError::NoAnswer(Hangs::Earlier)),
            "{refused:?}"
        );
    }
    let asked = std::fs::read_to_string(blkid.path().join("blkid.asked")).unwrap();
    assert_eq!(asked, "asked\n");
    // Others answer meanwhile.
    let other = Image::with(&[]);
    assert_eq!(
        looker.look(other.path(), PATIENCE).await.unwrap(),
        Found::Nothing
    );
}

#[test]
fn recorded_answers() {
    let lvm = "DEVNAME=/dev/ubdd\nUUID=IwtT2u-ieYz-o0uq-WPC8-ozt2-GSd2-5oQEyS\nVERSION=LVM2\\ 001\nTYPE=LVM2_member\nUSAGE=raid\n";
    let ext4 = "DEVNAME=/dev/dm-1\nLABEL=\nUUID=5c5ad6c4\nVERSION=1.0\nFSBLOCKSIZE=4096\nBLOCK_SIZE=4096\nTYPE=ext4\nUSAGE=filesystem\n";
    let signature = |kind: &str, usage: &str, uuid: &str, table: Option<&str>| {
        Found::Signature(Signature {
            kind: kind.to_owned(),
            usage: usage.to_owned(),
            uuid: uuid.to_owned(),
            table: table.map(str::to_owned),
        })
    };
    let both = "TYPE=vfat\nUSAGE=filesystem\nPTTYPE=dos\n";
    for (stdout, found) in [
        (
            lvm,
            signature(
                "LVM2_member",
                "raid",
                "IwtT2u-ieYz-o0uq-WPC8-ozt2-GSd2-5oQEyS",
                None,
            ),
        ),
        (ext4, signature("ext4", "filesystem", "5c5ad6c4", None)),
        (both, signature("vfat", "filesystem", "", Some("dos"))),
        (
            "DEVNAME=/dev/dm-1\nPTUUID=8a\nPTTYPE=gpt\n",
            Found::Table("gpt".to_owned()),
        ),
    ] {
        assert_eq!(answer(Exit::Code(0), stdout, "").unwrap(), found);
    }
    assert_eq!(answer(Exit::Code(2), "", "").unwrap(), Found::Nothing);
    let ambivalent = "blkid: /dev/dm-1: ambivalent result (probably more filesystems on the device, use wipefs(8) to see more details)";
    assert_eq!(
        answer(Exit::Code(8), "", ambivalent).unwrap(),
        Found::Several
    );
}

#[test]
fn doubt_is_not_nothing() {
    for (exit, stdout, stderr) in [
        (Exit::Code(0), "", ""),
        (Exit::Code(0), "SOMETHING=new\n", ""),
        // A partition, where a whole disk or a volume was asked for.
        (Exit::Code(0), "PART_ENTRY_SCHEME=dos\n", ""),
        (Exit::Code(2), "", "blkid: /dev/sdb: Input/output error"),
        (Exit::Code(2), "TYPE=ext4\n", ""),
        (Exit::Code(4), "", ""),
        (Exit::Signal(9), "", ""),
    ] {
        let answer = answer(exit, stdout, stderr);
        assert!(
            matches!(answer, Err(LookError::Answer { .. })),
            "{answer:?}"
        );
    }
}

/// A device with a bad sector, if any, and zeroes elsewhere.
struct Disk {
    bytes: u64,
    bad: Option<u64>,
}

const SECTOR: u64 = 512;

impl Medium for Disk {
    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let length = buffer.len() as u64;
        if let Some(bad) = self.bad
            && at < bad + SECTOR
            && bad < at + length
        {
            return Err(io::Error::from_raw_os_error(
                rustix::io::Errno::IO.raw_os_error(),
            ));
        }
        let read = length.min(self.bytes - at.min(self.bytes));
        let read = usize::try_from(read).unwrap();
        buffer[..read].fill(0);
        Ok(read)
    }
}

#[test]
fn magic_numbers_are_seen_without_blkid() {
    let head = |at: usize, magic: &[u8]| {
        let mut head = vec![0; KEPT_HEAD];
        head[at..at + magic.len()].copy_from_slice(magic);
        known_magic(&head, &[0; KEPT_TAIL])
    };
    assert_eq!(head(0x438, &[0x53, 0xef]), Some("begins as ext4 does"));
    assert_eq!(head(0, b"XFSB"), Some("begins as xfs does"));
    assert_eq!(head(0x1_0040, b"_BHRfS_M"), Some("begins as btrfs does"));
    assert_eq!(head(0, b"LUKS\xba\xbe"), Some("begins as LUKS does"));
    assert_eq!(
        head(512, b"LABELONE"),
        Some("begins as an LVM physical volume does")
    );
    assert_eq!(head(0, b""), None);
    for sector in [512, 4096] {
        let mut tail = vec![0; KEPT_TAIL];
        let at = KEPT_TAIL - sector;
        tail[at..at + 8].copy_from_slice(b"EFI PART");
        assert_eq!(known_magic(&[], &tail), Some("ends as a GPT does"));
    }
    assert_eq!(known_magic(&[], &[]), None);
}

#[tokio::test]
async fn a_copy_of_a_partition_table_at_the_end_is_seen() {
    let (_folder, silent) = a_blkid(SILENT);
    let image = Image::with(&[(64 * MIB - 512, b"EFI PART")]);
    let error = silent.look(image.path(), PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("ends as a GPT"), "{error}");
}

proptest! {
    #[test]
    fn no_input_panics(code: i32, stdout: String, stderr: String) {
        let _ = answer(Exit::Code(code), &stdout, &stderr);
    }

    /// Wherever blkid may have failed to read, we fail too; and what can be read is all there is to read.
    #[test]
    fn a_bad_sector_in_the_beginning_or_end_is_noticed(sectors in 1_u64..64 * 2048, place in any::<prop::sample::Index>()) {
        let bytes = sectors * SECTOR;
        let bad = place.index(usize::try_from(sectors).unwrap()) as u64 * SECTOR;
        let looked_at = bad < HEAD || bad + SECTOR > bytes.saturating_sub(TAIL);
        let examined = examine(&Disk { bytes, bad: Some(bad) }, bytes);
        prop_assert_eq!(examined.is_err(), looked_at, "{:?}", examined);
        let whole = Disk { bytes, bad: None };
        prop_assert_eq!(examine(&whole, bytes).unwrap(), None);
    }
}
