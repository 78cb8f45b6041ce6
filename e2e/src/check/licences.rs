//! Under which licences dependencies may be, and which crates are not wanted at all.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{Context, none_of, output};

/// Permissive licences, which ask for no more than a notice. By SPDX name.
const ALLOWED: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

/// Crates that must not be in the lock file's used part, with the reason.
const BANNED: [(&str, &str); 8] = [
    (
        "openssl",
        "rustls with aws-lc is the one TLS; openssl needs a shared library in each image",
    ),
    ("openssl-sys", "as openssl"),
    ("native-tls", "as openssl"),
    ("ring", "a second provider of cryptography beside aws-lc"),
    ("chrono", "jiff is the one for time"),
    (
        "serde_yaml",
        "no longer maintained; serde-saphyr is the one",
    ),
    ("backoff", "RUSTSEC-2025-0012; backon is the one"),
    ("devicemapper", "C bindings; tools are run as programs"),
];

pub(super) fn licences(context: &Context) -> Result<()> {
    // `cargo tree` knows which optional dependencies are in use; `cargo metadata` lists some that are not.
    let arguments = [
        "tree",
        "--locked",
        "--workspace",
        "--edges",
        "normal,build,dev",
        "--prefix",
        "none",
        "--format",
        "{p}|{l}|",
    ];
    let tree = output(context, "cargo", &arguments)?;
    let packages: BTreeSet<&str> = tree.lines().filter(|line| !line.is_empty()).collect();
    none_of(
        &packages
            .into_iter()
            .flat_map(wrong_with)
            .collect::<Vec<_>>(),
    )
}

/// What is wrong with a package, given as `name vVERSION (source)|licence|`.
fn wrong_with(line: &str) -> Vec<String> {
    let mut fields = line.split('|');
    let package = fields.next().unwrap_or_default();
    let licence = fields.next().unwrap_or_default();
    let name = package.split(' ').next().unwrap_or_default();
    let mut found = Vec::new();
    if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
        found.push(format!("{package} is banned: {why}"));
    }
    if !allowed(licence) {
        found.push(format!(
            "{package}: licence `{licence}` is not among the allowed ones"
        ));
    }
    // A folder is our own crate; crates.io is not named; anything else is an address.
    if package.contains("://") {
        found.push(format!("{package} is not from crates.io"));
    }
    found
}

/// Whether one way to read the SPDX expression needs allowed licences only. AND binds tighter than OR; `/` is an old OR.
fn allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    let verdict = any_of(&mut rest);
    verdict && rest.is_empty()
}

fn any_of(rest: &mut &[&str]) -> bool {
    let mut verdict = all_of(rest);
    while let ["OR", after @ ..] = *rest {
        *rest = after;
        verdict |= all_of(rest);
    }
    verdict
}

fn all_of(rest: &mut &[&str]) -> bool {
    let mut verdict = one(rest);
    while let ["AND", after @ ..] = *rest {
        *rest = after;
        verdict &= one(rest);
    }
    verdict
}

fn one(rest: &mut &[&str]) -> bool {
    match *rest {
        ["(", after @ ..] => {
            *rest = after;
            let verdict = any_of(rest);
            let [")", after @ ..] = *rest else {
                return false;
            };
            *rest = after;
            verdict
        }
        [licence, "WITH", exception, after @ ..] => {
            *rest = after;
            ALLOWED.contains(&format!("{licence} WITH {exception}").as_str())
        }
        [licence, after @ ..] => {
            *rest = after;
            ALLOWED.contains(licence)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_judged_by_name_licence_and_source() {
        assert_eq!(
            wrong_with("serde v1.0.1|MIT OR Apache-2.0|"),
            Vec::<String>::new()
        );
        assert_eq!(
            wrong_with("serde v1.0.1|MIT OR Apache-2.0| (*)"),
            Vec::<String>::new()
        );
        assert_eq!(
            wrong_with("thiserror-impl v2.0.1 (proc-macro)|MIT|"),
            Vec::<String>::new()
        );
        for (line, want) in [
            ("ring v0.17.0|ISC|", "banned"),
            ("x v1.0.0||", "licence"),
            ("x v1.0.0|AGPL-3.0|", "AGPL-3.0"),
            ("x v1.0.0 (https://example.org/x#1234)|MIT|", "crates.io"),
        ] {
            let found = wrong_with(line);
            assert!(
                found.len() == 1 && found[0].contains(want),
                "{line}: {found:?}"
            );
        }
    }

    #[test]
    fn licence_expressions() {
        for fine in [
            "MIT",
            "MIT/Apache-2.0",
            "MIT OR GPL-3.0",
            "Apache-2.0 WITH LLVM-exception OR MIT",
            "ISC AND (Apache-2.0 OR ISC)",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "GPL-3.0 AND MIT OR BSD-3-Clause",
        ] {
            assert!(allowed(fine), "{fine}");
        }
        for wrong in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR ISC",
            "MIT ISC",
            "",
            "MIT WITH Odd-exception",
            "GPL-3.0 OR (MIT AND AGPL-3.0)",
        ] {
            assert!(!allowed(wrong), "{wrong}");
        }
    }
}
