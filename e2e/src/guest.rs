//! The scripts that run on the nodes (`src/guest/`): part of this program, and unpacked into the cache under a name that follows their content,
//! because a guest may go on seeing the old content of a file that is overwritten.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::Result;

use crate::cache::{Cache, key};
use crate::image::base::PAUSE;

const FILES: [(&str, &str); 8] = [
    ("init", include_str!("guest/init")),
    ("common", include_str!("guest/common")),
    ("node", include_str!("guest/node")),
    ("template", include_str!("guest/template")),
    ("agent", include_str!("guest/agent")),
    ("shelf", include_str!("guest/shelf")),
    ("run-kubelet", include_str!("guest/run-kubelet")),
    ("kubelet.yaml", include_str!("guest/kubelet.yaml")),
];

/// What the content of a template's disk follows from, besides the images.
pub(crate) fn template_version() -> String {
    let parts: Vec<&str> = FILES
        .iter()
        .filter(|(name, _)| ["init", "common", "template"].contains(name))
        .map(|(_, text)| *text)
        .collect();
    key(&parts)
}

/// The folder with the scripts.
pub(crate) fn scripts(cache: &Cache) -> Result<PathBuf> {
    let sandbox = format!("{}:{}\n", PAUSE.0, PAUSE.1);
    let files: Vec<(&str, &str)> = FILES
        .into_iter()
        .chain([("sandbox-image", sandbox.as_str())])
        .collect();
    let parts: Vec<&str> = files
        .iter()
        .flat_map(|(name, text)| [*name, *text])
        .collect();
    cache.item("scripts", &key(&parts), |dir| {
        for (name, text) in &files {
            let path = dir.join(name);
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{run, with_args};

    #[test]
    fn shells_can_read_the_scripts() {
        let mut read = 0;
        for (name, text) in FILES {
            let shell = match text.lines().next() {
                Some("#!/bin/bash") => "bash",
                Some("#!/bin/sh") => "sh",
                _ => continue,
            };
            let result = run(&mut with_args(shell, ["-n", "-c", text]));
            assert!(result.is_ok(), "{name}: {result:?}");
            read += 1;
        }
        assert!(read >= 4, "{read}");
    }
}
