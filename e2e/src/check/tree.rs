//! Checks of the project's files as texts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::{Context, graph, none_of, output};

/// Above this a file holds more than one matter.
const MAX_LINES: usize = 800;

/// Files under version control and new ones that would be.
fn files(context: &Context) -> Result<Vec<PathBuf>> {
    let list = output(
        context,
        "git",
        &[
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ],
    )?;
    let files: Vec<PathBuf> = list
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(|name| context.workspace.join(name))
        .collect();
    ensure!(
        !files.is_empty(),
        "git knows no files in {}",
        context.workspace.display()
    );
    // A deleted file that is not committed yet is still listed.
    Ok(files.into_iter().filter(|path| path.is_file()).collect())
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

pub(super) fn sizes(context: &Context) -> Result<()> {
    let mut found = Vec::new();
    for path in files(context)?.iter().filter(|path| is_rust(path)) {
        let lines = read(path)?.lines().count();
        if lines > MAX_LINES {
            found.push(format!(
                "{} has {lines} lines; split what has grown apart (limit {MAX_LINES})",
                path.display()
            ));
        }
    }
    none_of(&found)
}

pub(super) fn orphans(context: &Context) -> Result<()> {
    let metadata = graph::metadata(context)?;
    let mut reached = BTreeSet::new();
    for package in metadata.workspace_packages() {
        for target in &package.targets {
            follow(target.src_path.as_std_path(), true, &mut reached)?;
        }
    }
    let all = files(context)?;
    let orphans = all
        .iter()
        .filter(|path| is_rust(path) && !reached.contains(*path));
    none_of(
        &orphans
            .map(|path| {
                format!(
                    "{} is part of no crate: no `mod` leads to it",
                    path.display()
                )
            })
            .collect::<Vec<_>>(),
    )
}

/// Adds a source file and the modules that it declares.
fn follow(file: &Path, root: bool, reached: &mut BTreeSet<PathBuf>) -> Result<()> {
    if !reached.insert(file.to_owned()) {
        return Ok(());
    }
    let folder = file.parent().context("a source file without a folder")?;
    let stem = file.file_stem().context("a source file without a name")?;
    let below = if root || stem == "mod" {
        folder.to_owned()
    } else {
        folder.join(stem)
    };
    for (name, path) in declared(&read(file)?) {
        let candidates = match path {
            Some(path) => vec![folder.join(path)],
            None => vec![
                below.join(format!("{name}.rs")),
                below.join(&name).join("mod.rs"),
            ],
        };
        if let Some(found) = candidates.iter().find(|candidate| candidate.is_file()) {
            follow(found, false, reached)?;
        }
    }
    Ok(())
}

/// Modules with a file of their own that a source declares, with the `#[path]` of each that has one.
fn declared(source: &str) -> Vec<(String, Option<String>)> {
    let mut modules = Vec::new();
    let mut path = None;
    for line in source.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            path = rest.strip_suffix("\"]").map(str::to_owned);
            continue;
        }
        let words: Vec<&str> = line
            .split("//")
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let name = match words.as_slice() {
            ["mod", name] => name.strip_suffix(';'),
            [visibility, "mod", name] | [visibility, _, "mod", name]
                if visibility.starts_with("pub") =>
            {
                name.strip_suffix(';')
            }
            _ => None,
        };
        if let Some(name) = name {
            modules.push((name.to_owned(), path.take()));
        } else if !line.starts_with("#[") {
            path = None;
        }
    }
    modules
}

pub(super) fn texts(context: &Context) -> Result<()> {
    let mut forbidden: Vec<(String, &str)> = vec![
        (
            format!("{}/", context.workspace.display()),
            "a path of this machine",
        ),
        (["/ho", "me/"].concat(), "a path of one machine"),
        (["/Us", "ers/"].concat(), "a path of one machine"),
        (["<<<<", "<<< "].concat(), "a merge that was left half done"),
        ([">>>>", ">>> "].concat(), "a merge that was left half done"),
        (["todo", "!("].concat(), "unfinished code"),
        (["unimple", "mented!("].concat(), "unfinished code"),
        (
            ["dbg", "!("].concat(),
            "a print that was meant for a moment",
        ),
    ];
    if let Some(home) = std::env::home_dir() {
        forbidden.push((
            format!("{}/.cargo", home.display()),
            "a path of this machine",
        ));
        forbidden.push((format!("{}/go/", home.display()), "a path of this machine"));
    }
    // The top folder that the clone lies in, unless it is one that each machine has.
    let mut top = context.workspace.components().skip(1);
    let common = [
        "home", "mnt", "opt", "root", "run", "srv", "tmp", "usr", "var",
    ];
    if let Some(top) = top.next().and_then(|top| top.as_os_str().to_str())
        && !common.contains(&top)
    {
        forbidden.push((format!("/{top}/"), "a path of this machine"));
    }
    let mut found = Vec::new();
    for path in files(context)? {
        // What is not text has no such strings that anyone wrote.
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let shown = path
            .strip_prefix(&context.workspace)
            .unwrap_or(&path)
            .display()
            .to_string();
        found.extend(findings(&shown, &text, &forbidden));
    }
    none_of(&found)
}

fn findings(path: &str, text: &str, forbidden: &[(String, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (string, why) in forbidden {
            if line.contains(string.as_str()) {
                found.push(format!("{path}:{}: `{string}`: {why}", number + 1));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_of_modules() {
        let source = "
            //! mod no;
            mod one;
            pub(crate) mod two; // mod no;
            pub mod three;
            pub(in crate::a) mod four;
            mod inline {
            #[cfg(test)]
            #[path = \"other/six.rs\"]
            mod five;
            mod seven;
        ";
        let names: Vec<_> = declared(source);
        let want = [
            ("one", None),
            ("two", None),
            ("three", None),
            ("four", None),
            ("five", Some("other/six.rs")),
            ("seven", None),
        ];
        assert_eq!(
            names,
            want.map(|(name, path)| (name.to_owned(), path.map(str::to_owned)))
        );
    }

    #[test]
    fn a_file_that_no_module_names_is_not_reached() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("main.rs", "mod a;\nmod b;");
        write("a.rs", "mod deep;");
        write("a/deep.rs", "");
        write("b/mod.rs", "mod here;");
        write("b/here.rs", "");
        write("b/orphan.rs", "");
        let mut reached = BTreeSet::new();
        follow(&folder.path().join("main.rs"), true, &mut reached).unwrap();
        let reached: Vec<_> = reached
            .iter()
            .map(|path| path.strip_prefix(folder.path()).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            reached,
            ["a/deep.rs", "a.rs", "b/here.rs", "b/mod.rs", "main.rs"]
        );
    }

    #[test]
    fn forbidden_strings_are_told_by_line() {
        let found = findings(
            "x.md",
            "fine\nsee /there/x",
            &[("/there/".to_owned(), "a path")],
        );
        assert_eq!(found, ["x.md:2: `/there/`: a path"]);
    }
}
