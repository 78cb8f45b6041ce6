//! Whether this machine can run a lab, said in sentences; and the Debian packages that the lab itself needs.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{command, run, which, with_args};
use crate::progress::Progress;

const GIB: u64 = 1 << 30;
/// Programs the lab runs, and the Debian packages they come in.
const PROGRAMS: [(&str, &str); 6] = [
    ("debootstrap", "debootstrap"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("unshare", "util-linux"),
    ("chroot", "coreutils"),
    ("mkfs.ext4", "e2fsprogs"),
];

/// Refuses a name that can't be part of a network namespace's and a folder's name.
pub(crate) fn check_name(name: &str) -> Result<String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure!(
        !name.is_empty()
            && name.len() <= 20
            && name.chars().all(fits)
            && !name.starts_with('-')
            && !name.ends_with('-'),
        "the lab's name {name:?} is not possible: 1 to 20 of a-z, 0-9 and '-', with a letter or digit at both ends"
    );
    Ok(name.to_owned())
}

/// Refuses anyone but root: namespaces, taps and mounts need it.
pub(crate) fn check_root() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the lab needs root (it makes network namespaces, taps and mounts): run it with sudo"
    );
    Ok(())
}

/// Refuses when the machine lacks what a lab of `nodes` nodes needs. `cold`: nothing is built yet.
pub(crate) fn check_room(dir: &Path, cold: bool, nodes: u8, memory_mib: u64) -> Result<()> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let available = available_memory(&meminfo).context("/proc/meminfo has no MemAvailable")?;
    let needed = (2 * GIB + u64::from(nodes) * (memory_mib << 20)).min(6 * GIB);
    ensure!(
        available >= needed,
        "{:.1} GiB of memory are available, but a lab of {nodes} nodes needs {:.1} GiB: stop something, or ask for fewer nodes (--nodes) or smaller ones (--memory)",
        gib(available),
        gib(needed)
    );
    let stat = rustix::fs::statvfs(dir).with_context(|| format!("looking at {}", dir.display()))?;
    let free = stat.f_bavail * stat.f_frsize;
    let needed = if cold { 15 * GIB } else { 5 * GIB };
    ensure!(
        free >= needed,
        "{:.1} GiB are free in {}, but the lab needs {:.1} GiB{}: free some, or set HAWSER_LAB_DIR to a folder with more room",
        gib(free),
        dir.display(),
        gib(needed),
        if cold { " for its first run" } else { "" }
    );
    Ok(())
}

fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown with one digit after the point"
)]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / GIB as f64
}

/// Refuses when the kernel can't do what the lab's network needs, by trying it in a namespace of its own that is deleted again.
pub(crate) fn check_kernel(name: &str) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the lab's nodes are User Mode Linux, which there is for x86-64 only"
    );
    ensure!(
        Path::new("/dev/net/tun").exists(),
        "/dev/net/tun is missing: the nodes' network needs the kernel's tun driver (modprobe tun; in a container: --device /dev/net/tun)"
    );
    let probe = format!("hawser-probe-{name}");
    let _ = run(&mut with_args("ip", ["netns", "del", &probe]));
    run(&mut with_args("ip", ["netns", "add", &probe])).context(
        "the kernel refuses a network namespace (CONFIG_NET_NS, and CAP_SYS_ADMIN in a container)",
    )?;
    let result = try_links(&probe);
    let removed = run(&mut with_args("ip", ["netns", "del", &probe]));
    result.and(removed)
}

fn try_links(probe: &str) -> Result<()> {
    let inside = |args: &[&str]| run(with_args("ip", ["-netns", probe]).args(args));
    inside(&["link", "add", "br0", "type", "bridge"])
        .context("the kernel has no bridges (CONFIG_BRIDGE)")?;
    inside(&["tuntap", "add", "tap0", "mode", "tap"])
        .context("the kernel refuses a tap device (CONFIG_TUN)")?;
    let nft = |rules: &str, missing: &str| {
        let mut command = with_args("ip", ["netns", "exec", probe, "nft", rules]);
        run(&mut command).with_context(|| format!("the kernel lacks {missing}"))
    };
    nft(
        "add table bridge t",
        "nftables for bridges (CONFIG_NF_TABLES_BRIDGE)",
    )?;
    nft("add table ip t", "nftables (CONFIG_NF_TABLES_IPV4)")?;
    nft(
        "add chain ip t c { type nat hook postrouting priority 100 ; }",
        "address translation by nftables (CONFIG_NFT_NAT)",
    )
}

/// Installs the packages of programs that are missing, after saying which.
pub(crate) fn install_packages(progress: &Progress) -> Result<()> {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| which(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    ensure!(
        which("apt-get").is_some(),
        "the lab needs {list}, and there is no apt-get here to install them with: install them by hand"
    );
    progress.say(format!("installing with apt-get: {list}"));
    let mut update = with_args("apt-get", ["update", "-q"]);
    run(&mut update).context("refreshing apt's lists")?;
    let mut install = command("apt-get");
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(&packages);
    run(&mut install).with_context(|| format!("installing {list}"))
}

/// The address of the Debian mirror that this machine's own apt uses.
///
/// # Errors
/// If apt has none for Debian.
pub(crate) fn debian_mirror() -> Result<String> {
    let mut texts = Vec::new();
    for folder in ["/etc/apt/sources.list.d"] {
        let Ok(entries) = std::fs::read_dir(folder) else {
            continue;
        };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            if path
                .extension()
                .is_some_and(|extension| extension == "sources" || extension == "list")
            {
                texts.push(std::fs::read_to_string(&path)?);
            }
        }
    }
    if let Ok(text) = std::fs::read_to_string("/etc/apt/sources.list") {
        texts.push(text);
    }
    match texts.iter().find_map(|text| mirror_in(text)) {
        Some(url) => Ok(url),
        None => bail!(
            "apt on this machine names no Debian mirror to make the nodes from: set HAWSER_LAB_MIRROR to one"
        ),
    }
}

/// The first Debian archive (not the security one) in a file of apt sources, of the old or the new format.
fn mirror_in(text: &str) -> Option<String> {
    let is_archive = |url: &&str| {
        let trimmed = url.trim_end_matches('/');
        (url.starts_with("http://") || url.starts_with("https://"))
            && trimmed.ends_with("debian")
            && !url.contains("security")
    };
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
        .find_map(|line| line.split_whitespace().find(is_archive))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_found_in_both_formats() {
        let new = "Types: deb\n# URIs: http://old.example/debian\nURIs: http://mirror.example/debian\nSuites: stable\n";
        assert_eq!(mirror_in(new).unwrap(), "http://mirror.example/debian");
        let old = "# x\ndeb [signed-by=/k] https://security.example/debian-security s main\ndeb https://m.example/debian/ stable main\n";
        assert_eq!(mirror_in(old).unwrap(), "https://m.example/debian/");
        assert_eq!(
            mirror_in("deb https://example.org/docker stable main\n"),
            None
        );
    }

    #[test]
    fn names_that_fit_nowhere_are_refused() {
        for name in ["lab", "a", "ci-2"] {
            check_name(name).unwrap();
        }
        for name in ["", "-a", "a-", "Lab", "a/b", "..", "a b", &"x".repeat(21)] {
            let error = check_name(name).unwrap_err().to_string();
            assert!(error.contains("1 to 20"), "{error}");
        }
    }

    #[test]
    fn available_memory_is_read() {
        let text = "MemTotal: 10 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(available_memory(text), Some(2 << 20));
    }
}
