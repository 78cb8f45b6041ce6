//! The lab's faults do what they say, and undoing them does too: what later scenarios show rests on this.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::faults::Peer;
use crate::kit::faults::{on, sh};
use crate::kit::{Pending, wait_for};
use crate::lab::Lab;
use crate::net;
use crate::shelf::Kind;

const PATIENCE: Duration = Duration::from_secs(60);
const READY: Duration = Duration::from_secs(180);
const MOUNT: &str = "/run/faults";

/// Runs the scenario on the lab's last node, with a disk of its own.
///
/// # Errors
/// What does not hold.
pub(crate) async fn run(lab: &Lab) -> Result<()> {
    let nodes = lab.nodes()?;
    let [first, .., victim] = nodes.as_slice() else {
        anyhow::bail!("the scenario needs at least two nodes");
    };
    let disk = a_disk(lab, victim).await?;
    let result = all(lab, first, victim, &disk).await;
    let undone = undo(lab, victim, &disk).await;
    result.and(undone)
}

async fn all(lab: &Lab, first: &str, victim: &str, disk: &str) -> Result<()> {
    let sum = a_file(lab, victim, disk).await?;
    power_cut_keeps_the_disk_and_not_the_memory(lab, victim, disk, &sum).await?;
    a_failed_disk_fails_and_keeps_its_content(lab, victim, disk, &sum).await?;
    a_pulled_disk_goes_and_comes_back(lab, victim, disk, &sum).await?;
    partitions_cut_what_they_say(lab, first, victim).await?;
    a_frozen_node_is_silent(lab, first, victim).await
}

/// Ends every fault, whichever of them is there, so that what runs next on the lab does not fail in its wake.
async fn undo(lab: &Lab, node: &str, disk: &str) -> Result<()> {
    let (node, disk) = (node.to_owned(), disk.to_owned());
    on(lab, move |lab| {
        let process = lab.state()?.node(&node)?.process.clone();
        if process.is_some_and(|process| process.is_alive()) {
            lab.thaw(&node)?;
        } else {
            lab.boot(&node)?;
        }
        lab.heal(&node)?;
        lab.wait_ready(&node, READY)?;
        lab.sh(&node, &format!("umount -l {MOUNT}"))?;
        lab.fix_disk(&node, &disk)?;
        lab.pull_disk(&node, &disk)
    })
    .await
}

/// Plugs in a disk; returns its name once its device is there.
async fn a_disk(lab: &Lab, node: &str) -> Result<String> {
    let name = node.to_owned();
    let disk = on(lab, move |lab| lab.add_disk(&name, 256 << 20, Kind::Ssd)).await?;
    device(lab, node, &disk.name).await?;
    Ok(disk.name)
}

/// The present device of a disk, waited for.
async fn device(lab: &Lab, node: &str, disk: &str) -> Result<String> {
    let what = format!("the device of disk {disk} on {node}");
    wait_for(&what, PATIENCE, || async {
        let name = node.to_owned();
        let devices = on(lab, move |lab| lab.disk_devices(&name)).await?;
        let found = devices.iter().find(|(name, _)| name == disk);
        Ok(match found {
            // `-` stands for a disk that has no device now.
            Some((_, device)) if !device.is_empty() && device != "-" => {
                Ok(format!("/dev/{device}"))
            }
            _ => Err(Pending::because(format!("there are {devices:?}"))),
        })
    })
    .await
}

/// Makes a file system with a file whose checksum is returned. A file system also keeps Hawser away from the disk.
async fn a_file(lab: &Lab, node: &str, disk: &str) -> Result<String> {
    let device = device(lab, node, disk).await?;
    let script = format!(
        "set -e; mkfs.ext4 -q -F {device}; mkdir -p {MOUNT}; mount {device} {MOUNT}; \
         dd if=/dev/urandom of={MOUNT}/file bs=1M count=16 conv=fsync status=none; \
         touch {MOUNT}.memory; sha256sum < {MOUNT}/file"
    );
    sh(lab, node, script).await
}

/// Reads the file past all caches.
async fn read(lab: &Lab, node: &str, disk: &str) -> Result<String> {
    let device = device(lab, node, disk).await?;
    let script = format!(
        "set -e; mkdir -p {MOUNT}; mountpoint -q {MOUNT} || mount {device} {MOUNT}; \
         dd if={MOUNT}/file bs=1M iflag=direct status=none | sha256sum"
    );
    sh(lab, node, script).await
}

async fn power_cut_keeps_the_disk_and_not_the_memory(
    lab: &Lab,
    node: &str,
    disk: &str,
    sum: &str,
) -> Result<()> {
    let boot_id = "cat /proc/sys/kernel/random/boot_id";
    let before = sh(lab, node, boot_id).await?;
    let name = node.to_owned();
    on(lab, move |lab| {
        lab.power_cut(&name)?;
        ensure!(
            lab.sh(&name, "true").is_err(),
            "{name} answers without power"
        );
        lab.boot(&name)?;
        lab.wait_ready(&name, READY)
    })
    .await?;
    ensure!(
        sh(lab, node, boot_id).await? != before,
        "{node} did not boot anew"
    );
    ensure!(
        sh(lab, node, format!("test ! -e {MOUNT}.memory"))
            .await
            .is_ok(),
        "{node}'s memory survived a power cut"
    );
    ensure!(
        read(lab, node, disk).await? == sum,
        "a file that was synced differs after a power cut of {node}"
    );
    println!("  power cut: memory gone, disk kept, node Ready again");
    Ok(())
}

async fn a_failed_disk_fails_and_keeps_its_content(
    lab: &Lab,
    node: &str,
    disk: &str,
    sum: &str,
) -> Result<()> {
    let device = device(lab, node, disk).await?;
    let raw = |direction: &str| match direction {
        "read" => format!("dd if={device} of=/dev/null bs=4k count=1 iflag=direct status=none"),
        // The last block but one: the file system has nothing there that matters before it is unmounted.
        _ => format!(
            "dd if=/dev/zero of={MOUNT}/other bs=4k count=1 oflag=direct conv=fsync status=none"
        ),
    };
    change(lab, node, disk, Lab::fail_disk).await?;
    for direction in ["read", "write"] {
        ensure!(
            sh(lab, node, raw(direction)).await.is_err(),
            "a {direction} of a failed disk succeeds"
        );
    }
    sh(lab, node, format!("umount -l {MOUNT}")).await?;
    change(lab, node, disk, Lab::fix_disk).await?;
    let after = read(lab, node, disk)
        .await
        .context("reading a fixed disk")?;
    ensure!(after == sum, "a fixed disk has other content");
    println!("  failed disk: reads and writes fail, and content is back with the fix");
    Ok(())
}

async fn a_pulled_disk_goes_and_comes_back(
    lab: &Lab,
    node: &str,
    disk: &str,
    sum: &str,
) -> Result<()> {
    let device = device(lab, node, disk).await?;
    sh(lab, node, format!("umount {MOUNT}")).await?;
    change(lab, node, disk, Lab::pull_disk).await?;
    let what = format!("{device} of a pulled disk to go");
    wait_for(&what, PATIENCE, || async {
        let gone = sh(lab, node, format!("test ! -b {device}")).await;
        Ok(gone
            .map(drop)
            .map_err(|_| Pending::because("it is still there")))
    })
    .await?;
    change(lab, node, disk, Lab::return_disk).await?;
    ensure!(
        read(lab, node, disk).await? == sum,
        "a returned disk has other content"
    );
    sh(lab, node, format!("umount {MOUNT}")).await?;
    println!("  pulled disk: its device goes, and comes back with its content");
    Ok(())
}

async fn change(
    lab: &Lab,
    node: &str,
    disk: &str,
    what: fn(&Lab, &str, &str) -> Result<()>,
) -> Result<()> {
    let (node, disk) = (node.to_owned(), disk.to_owned());
    on(lab, move |lab| what(lab, &node, &disk)).await
}

/// Where connections from a node go to: its API server, or another node's kubelet.
struct Targets {
    api: String,
    other: String,
}

async fn partitions_cut_what_they_say(lab: &Lab, first: &str, victim: &str) -> Result<()> {
    let state = lab.state()?;
    let targets = Targets {
        api: format!("{}/443", net::API),
        other: format!("{}/10250", net::node_ip(state.node(first)?.index)),
    };
    expect(lab, victim, &targets, (true, true), "before any fault").await?;
    for (peer, reaches) in [
        (Peer::Node(first.to_owned()), (true, false)),
        (Peer::Api, (false, true)),
        (Peer::All, (false, false)),
    ] {
        let what = format!("cut off from {peer:?}");
        let node = victim.to_owned();
        on(lab, move |lab| lab.isolate(&node, &peer)).await?;
        expect(lab, victim, &targets, reaches, &what).await?;
        let node = victim.to_owned();
        on(lab, move |lab| lab.heal(&node)).await?;
        expect(
            lab,
            victim,
            &targets,
            (true, true),
            &format!("{what} and healed"),
        )
        .await?;
    }
    let node = victim.to_owned();
    on(lab, move |lab| lab.wait_ready(&node, READY)).await?;
    println!("  partitions: from one node, from the API server, from all; each healed");
    Ok(())
}

/// Waits until a node reaches the API server and the other node, or does not.
async fn expect(
    lab: &Lab,
    node: &str,
    targets: &Targets,
    reaches: (bool, bool),
    when: &str,
) -> Result<()> {
    let what = format!("{node}, {when}, to reach (API server, other node): {reaches:?}");
    wait_for(&what, PATIENCE, || async {
        let now = (
            connects(lab, node, &targets.api).await?,
            connects(lab, node, &targets.other).await?,
        );
        Ok(if now == reaches {
            Ok(())
        } else {
            Err(Pending::because(format!("it is {now:?}")))
        })
    })
    .await
}

async fn connects(lab: &Lab, node: &str, target: &str) -> Result<bool> {
    let script = format!("timeout 3 bash -c ': < /dev/tcp/{target}' 2>/dev/null; echo $?");
    Ok(sh(lab, node, script).await?.trim() == "0")
}

async fn a_frozen_node_is_silent(lab: &Lab, first: &str, victim: &str) -> Result<()> {
    // Connections are accepted by the node's kernel, so this sees whether the kernel runs.
    let target = format!("{}/10250", net::node_ip(lab.state()?.node(victim)?.index));
    ensure!(
        connects(lab, first, &target).await?,
        "{victim} is not reached"
    );
    let name = victim.to_owned();
    on(lab, move |lab| lab.freeze(&name)).await?;
    let silent = !connects(lab, first, &target).await?;
    let name = victim.to_owned();
    on(lab, move |lab| {
        lab.thaw(&name)?;
        lab.wait_ready(&name, READY)
    })
    .await?;
    ensure!(silent, "{victim} answers while it is frozen");
    ensure!(
        connects(lab, first, &target).await?,
        "{victim} does not answer after it was thawed"
    );
    println!("  hang: a frozen node answers nothing, a thawed one goes on");
    Ok(())
}
