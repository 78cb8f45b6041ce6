//! Base images that the lab's pods need and that no registry gives here: a sandbox and a busybox.

use std::path::Path;

use anyhow::{Result, ensure};

use super::ImageArchive;
use super::oci::{BuiltLayer, Layer, Owner, Run, Tag, write_image};
use crate::command::{command, output};

/// What containerd's `sandbox` setting must name.
pub(crate) const PAUSE: (&str, &str) = ("registry.k8s.io/pause", "3.10.2");
/// What the scenarios' pods run.
pub(crate) const BUSYBOX: (&str, &str) = ("docker.io/library/busybox", "1.37");

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nnobody:x:65534:\n";

/// The pause and the busybox image, made from the static busybox in the nodes' root folder. Written to `cache`.
///
/// # Errors
/// If the root folder has no static busybox (Debian package busybox-static).
pub(crate) fn base_images(root_fs: &Path, cache: &Path) -> Result<Vec<ImageArchive>> {
    let busybox = root_fs.join("usr/bin/busybox");
    ensure!(
        busybox.exists(),
        "{} is missing: the nodes' root folder needs the package busybox-static",
        busybox.display()
    );
    let images = cache.join("images");
    let sandbox = Run {
        entrypoint: ["/bin/busybox", "sleep", "2147483647"]
            .map(String::from)
            .to_vec(),
        ..Run::default()
    };
    let shell = Run {
        cmd: vec!["sh".to_owned()],
        ..Run::default()
    };
    Ok(vec![
        write_image(
            &images,
            PAUSE.0,
            Tag::Fixed(PAUSE.1),
            &sandbox,
            &[busybox_layer(&busybox, &[], cache)?],
        )?,
        write_image(
            &images,
            BUSYBOX.0,
            Tag::Fixed(BUSYBOX.1),
            &shell,
            &[busybox_layer(&busybox, &applets(&busybox)?, cache)?],
        )?,
    ])
}

fn busybox_layer(busybox: &Path, applets: &[String], cache: &Path) -> Result<BuiltLayer> {
    let mut layer = Layer::new();
    layer.file("bin/busybox", busybox, 0o755, Owner::default());
    layer
        .folder("tmp", 0o1777, Owner::default())
        .folder("root", 0o700, Owner::default());
    layer
        .bytes("etc/passwd", PASSWD, 0o644)
        .bytes("etc/group", GROUP, 0o644);
    for applet in applets {
        layer.link(&format!("bin/{applet}"), "busybox");
    }
    let name = if applets.is_empty() {
        "pause"
    } else {
        "busybox"
    };
    layer.build(&cache.join("layers").join(format!("{name}.tar")))
}

fn applets(busybox: &Path) -> Result<Vec<String>> {
    let list = output(command(busybox).arg("--list"))?;
    Ok(list
        .lines()
        .map(str::trim)
        .filter(|name| !name.is_empty() && *name != "busybox")
        .map(str::to_owned)
        .collect())
}
