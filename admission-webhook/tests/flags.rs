//! The program itself: wrong and missing flags end with status 2 and a sentence, before anything is begun. Which values are wrong
//! is the business of `src/args.rs`; here it is that `main` asks it.

use std::process::{Command, Output};

#[expect(
    clippy::disallowed_methods,
    reason = "what is tested is the program's exit status, with an environment that is empty"
)]
fn run(flags: &[&str]) -> Output {
    // Beside this test, wherever the build lies now; cargo builds it first.
    let test = std::env::current_exe().expect("a test has a path");
    let program = test
        .ancestors()
        .nth(2)
        .expect("tests lie in debug/deps")
        .join("admission-webhook");
    Command::new(program)
        .args(flags)
        .env_clear()
        .output()
        .expect("the program was built for this test")
}

#[test]
fn wrong_and_missing_flags_end_with_status_2_and_a_sentence() {
    for (flags, part) in [
        (&["--listen", "nowhere"][..], "--listen"),
        (&["--service", "Not A Name"], "lower case letters"),
        (&["--namespace"], "--namespace"),
        (
            &["--kubeconfig", "/nonexistent/config"],
            "/nonexistent/config",
        ),
        (&["--log-level", "loud"], "\"loud\" is no level"),
        (&["--drain-timeout", "5"], "for example 30s"),
        (&["--certificate-folder", "here"], "absolute path"),
        (&[], "--identity"),
        (&["--identity", ""], "--identity"),
    ] {
        let output = run(flags);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
        assert!(said.contains(part), "{flags:?}: {said}");
        assert!(output.stdout.is_empty(), "{flags:?}");
    }
}

#[test]
fn help_is_no_error() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("--log-level"));
}
