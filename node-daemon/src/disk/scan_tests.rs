//! Discovery on a recorded node, and on what other machines have.

use super::*;
use std::fs;
use std::io::Write as _;

/// Lays a recorded node out below a folder.
fn laid_out(recorded: &str) -> (tempfile::TempDir, Places) {
    let root = tempfile::tempdir().unwrap();
    for line in recorded.lines().filter(|l| !l.starts_with('#')) {
        let mut words = line.splitn(3, ' ');
        let (kind, path) = (words.next().unwrap(), words.next().unwrap());
        let path = root.path().join(path);
        if kind == "dir" {
            fs::create_dir_all(path).unwrap();
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = fs::File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        writeln!(file, "{}", words.next().unwrap_or_default()).unwrap();
    }
    let places = Places {
        dev: "/dev".into(),
        sys: root.path().join("sys"),
        proc: root.path().join("proc"),
        udev_data: root.path().join("run/udev/data"),
    };
    (root, places)
}

fn observed(recorded: &str) -> Observed {
    let (_root, places) = laid_out(recorded);
    observe(&places).unwrap()
}

const LAB: &str = include_str!("recorded/lab-node.txt");

#[test]
fn a_recorded_node() {
    let observed = observed(LAB);
    assert!(observed.settled);
    let names: Vec<&str> = observed.disks.iter().map(|d| d.name.as_str()).collect();
    // Neither device-mapper nor loop devices.
    assert_eq!(names, ["sda", "sdb", "sdc", "ubda", "ubdb"]);
    let [sda, _, sdc, system, shelf] = observed.disks.as_slice() else {
        panic!("{names:?}");
    };
    assert_eq!(sda.bytes, 10 << 30);
    assert_eq!(sda.number, (8, 0));
    assert_eq!(sda.type_, DiskType::SSD);
    assert_eq!(sdc.type_, DiskType::HDD);
    assert_eq!(
        sda.serials,
        ["6001405ab1d100000000000000000000", "LAB-n1-d1"]
    );
    assert_eq!(sda.wwn, "0x6001405ab1d100000000000000000000");
    assert_eq!(
        (sda.vendor.as_str(), sda.model.as_str()),
        ("HAWSER", "LAB_SSD")
    );
    assert!(
        sda.links
            .contains(&"/dev/disk/by-id/wwn-0x6001405ab1d100000000000000000000".to_owned())
    );
    assert!(!sda.links.iter().any(|l| l.contains("diskseq")));
    // "(null)" is what this driver says for no serial number.
    assert!(system.serials.is_empty());
    assert_eq!(system.partitions.len(), 1);
    assert!(
        system.partitions[0]
            .mounts
            .contains(&PathBuf::from("/var/lib/kubelet"))
    );
    assert_eq!(shelf.holders, ["dm-0", "dm-1", "dm-2"]);
    assert!(system.in_use(false).is_some() && shelf.in_use(false).is_some());
}

const BARE: &str = "\
dir sys/block/sdb/device
file sys/block/sdb/dev 8:16
file sys/block/sdb/size 2048
file sys/block/sdb/queue/rotational 1
file proc/1/mountinfo 21 20 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
";

#[test]
fn without_udev_a_disk_is_found_all_the_same() {
    let observed = observed(BARE);
    assert!(observed.settled);
    assert_eq!(observed.disks.len(), 1);
    assert_eq!(observed.disks[0].bytes, 1 << 20);
    assert!(observed.disks[0].links.is_empty());
}

#[test]
fn a_disk_that_udev_has_not_looked_at_is_waited_for() {
    let observed = observed(&format!("{BARE}file run/udev/data/b8:0 S:x\n"));
    assert!(!observed.settled);
    assert!(observed.disks.is_empty());
}

#[test]
fn what_is_no_disk_is_left_out() {
    let odd = |more: &str| observed(&format!("{BARE}{more}")).disks.len();
    assert_eq!(odd("file sys/block/sdb/removable 1\n"), 0);
    assert_eq!(odd("file sys/block/sdb/hidden 1\n"), 0);
    assert_eq!(observed(&BARE.replace("sdb", "md0")).disks.len(), 0);
    let empty = BARE.replace("2048", "0");
    assert_eq!(observed(&empty).disks.len(), 0);
}

#[test]
fn an_nvme_disk() {
    let recorded = "\
dir sys/block/nvme0n1/device
file sys/block/nvme0n1/dev 259:0
file sys/block/nvme0n1/size 2048
file sys/block/nvme0n1/queue/rotational 0
file proc/1/mountinfo 21 20 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
file sys/block/nvme0n1/wwid eui.0025385b71b0e9c4
file sys/block/nvme0n1/device/model Example NVMe 1TB    
file sys/block/nvme0n1/device/serial S4EVNX0R000001      
";
    let disk = observed(recorded).disks.remove(0);
    assert_eq!(disk.type_, DiskType::NVMe);
    assert_eq!(disk.protocol, "nvme");
    assert_eq!(disk.serials, ["S4EVNX0R000001"]);
    assert_eq!(disk.wwn, "eui.0025385b71b0e9c4");
    assert_eq!(disk.model, "Example NVMe 1TB");
}

#[tokio::test]
async fn contents_are_read_when_they_may_have_changed() {
    let (root, mut places) = laid_out(BARE);
    places.dev = root.path().join("dev");
    fs::create_dir_all(&places.dev).unwrap();
    let mut scanner = Scanner::new(places.clone(), Looker::default());
    let scan = scanner.scan(&Stale::All).await.unwrap();
    // There is no such device: not blank, and looked at again each time.
    assert!(matches!(scan.disks[0].content, Content::Unknown { .. }));
    scanner.contents.insert(
        "sdb".to_owned(),
        Remembered {
            number: (8, 16),
            bytes: 1 << 20,
            sequence: String::new(),
            content: Content::Blank,
            took: Duration::ZERO,
        },
    );
    let untouched = Stale::Named(BTreeSet::from(["sdz".to_owned()]));
    let scan = scanner.scan(&untouched).await.unwrap();
    assert_eq!(scan.disks[0].content, Content::Blank, "remembered");
    let touched = Stale::Named(BTreeSet::from(["sdb".to_owned()]));
    let scan = scanner.scan(&touched).await.unwrap();
    assert!(matches!(scan.disks[0].content, Content::Unknown { .. }));
}

/// A disk that fails slowly must not slow down every look at the others; one that fails at once is asked again.
#[tokio::test]
async fn what_cannot_be_read_is_asked_again_unless_that_takes_long() {
    let (root, mut places) = laid_out(BARE);
    places.dev = root.path().join("dev");
    let mut scanner = Scanner::new(places, Looker::default());
    let nothing_heard = Stale::Named(BTreeSet::new());
    let why = |scan: Scan| match scan.disks.into_iter().next().map(|d| d.content) {
        Some(Content::Unknown { why }) => why,
        other => panic!("{other:?}"),
    };
    for (took, asked) in [(SLOW, false), (Duration::ZERO, true)] {
        let remembered = Remembered {
            number: (8, 16),
            bytes: 1 << 20,
            sequence: String::new(),
            content: Content::Unknown {
                why: "a bad sector".to_owned(),
            },
            took,
        };
        scanner.contents.insert("sdb".to_owned(), remembered);
        let said = why(scanner.scan(&nothing_heard).await.unwrap());
        assert_eq!(said != "a bad sector", asked, "{took:?}: {said}");
    }
}

#[test]
fn what_cannot_be_read_of_a_disk_is_not_taken_for_missing() {
    // Not readable as what it should be: a folder in the place of a record, a file in the place of a folder.
    for odd in [
        "dir run/udev/data/b8:16\n",
        "file sys/block/sdb/holders x\n",
    ] {
        let observed = observed(&format!("{BARE}{odd}"));
        assert!(observed.disks.is_empty() && !observed.settled, "{odd}");
    }
    let (_root, places) = laid_out(&BARE.replace("proc/1/mountinfo", "proc/2/mountinfo"));
    let error = observe(&places).unwrap_err();
    assert!(error.to_string().contains("proc"), "{error}");
}
