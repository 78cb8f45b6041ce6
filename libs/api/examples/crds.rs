//! Writes the custom resource definitions, one file per kind, or checks that the files are what would be written.
//!
//!     cargo run -p hawser-api --example crds -- [--check] FOLDER
//!
//! With `--check` nothing is written: files that are stale, missing or left over are named, and the status is 1.
//! Wrong arguments: status 2.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

const HEADER: &str = "# Generated from libs/api by `cargo run -p hawser-api --example crds -- manifests/crds`. Do not edit.\n";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["--check", folder] => check(Path::new(folder)),
        [folder] if !folder.starts_with('-') => write(Path::new(folder)),
        _ => {
            eprintln!("usage: crds [--check] FOLDER");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("crds: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> io::Result<ExitCode> {
    fs::create_dir_all(folder)?;
    let wanted = wanted()?;
    for name in left_over(folder, &wanted)? {
        fs::remove_file(folder.join(name))?;
    }
    for (name, content) in wanted {
        fs::write(folder.join(name), content)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check(folder: &Path) -> io::Result<ExitCode> {
    let wanted = wanted()?;
    let mut fresh = true;
    for (name, content) in &wanted {
        let complaint = match fs::read_to_string(folder.join(name)) {
            Ok(found) if found == *content => continue,
            Ok(_) => "is stale",
            Err(error) if error.kind() == io::ErrorKind::NotFound => "is missing",
            Err(error) => return Err(error),
        };
        fresh = false;
        eprintln!("{} {complaint}", folder.join(name).display());
    }
    for name in left_over(folder, &wanted)? {
        fresh = false;
        eprintln!("{} is no definition of ours", folder.join(name).display());
    }
    Ok(if fresh {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn wanted() -> io::Result<BTreeMap<String, String>> {
    hawser_api::crd::files()
        .into_iter()
        .map(|(name, crd)| {
            let yaml = serde_saphyr::to_string(&crd).map_err(io::Error::other)?;
            Ok((name, format!("{HEADER}{yaml}")))
        })
        .collect()
}

/// Files in the folder that look like definitions of our groups but are none.
fn left_over(folder: &Path, wanted: &BTreeMap<String, String>) -> io::Result<Vec<String>> {
    let groups = [hawser_api::names::GROUP, hawser_api::names::OWN_PREFIX];
    let prefixes = groups.map(|group| format!("{group}_"));
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let ours = prefixes.iter().any(|prefix| name.starts_with(prefix));
        if ours && !wanted.contains_key(&name) {
            names.push(name);
        }
    }
    Ok(names)
}
