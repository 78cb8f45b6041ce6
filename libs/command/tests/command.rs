//! Against real programs: what the crate's head comment promises.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use hawser_command::{Command, CommandError, Exit};

fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

#[tokio::test]
async fn keeps_output_status_and_argv() {
    let output = sh("echo out; echo err >&2; exit 3").output().await.unwrap();
    assert_eq!(output.exit, Exit::Code(3));
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.stderr, b"err\n");
    assert_eq!(output.argv[0], "sh");

    let error = sh("echo out; echo err >&2; exit 3")
        .run()
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("sh -c") && text.contains("exit status 3") && text.contains("err"),
        "{text}"
    );
}

#[tokio::test]
async fn stdin_is_empty_unless_given() {
    assert_eq!(Command::new("cat").run().await.unwrap().stdout, b"");
    let big = vec![b'x'; 300_000];
    assert_eq!(
        Command::new("cat")
            .stdin(big.clone())
            .run()
            .await
            .unwrap()
            .stdout,
        big
    );
    // A program that does not read what it is fed is no error.
    Command::new("true").stdin(big).run().await.unwrap();
}

#[tokio::test]
async fn environment_is_ours() {
    let env = Command::new("env").env("A", "b").run().await.unwrap();
    let text = env.stdout_text();
    let mut keys: Vec<_> = text.lines().filter_map(|l| l.split('=').next()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["A", "HOME", "LC_ALL", "PATH"]);
}

#[tokio::test]
async fn a_chatty_program_is_read_on_both_pipes() {
    let output = sh("head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero")
        .run()
        .await
        .unwrap();
    assert_eq!(output.stdout.len(), 1_000_000);
    assert_eq!(output.stderr.len(), 64 * 1024);
}

#[tokio::test]
async fn too_much_output_is_refused() {
    let error = sh("head -c 1001 /dev/zero")
        .max_output(1000)
        .run()
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        CommandError::TooMuchOutput { limit: 1000, .. }
    ));
    sh("head -c 1000 /dev/zero")
        .max_output(1000)
        .run()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_missing_program_is_told_apart() {
    let error = Command::new("/nowhere/tool").run().await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

/// Whether a process still runs whose command line holds `mark`.
fn running(mark: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(mark))
    })
}

async fn until_gone(mark: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while running(mark) {
        assert!(Instant::now() < deadline, "{mark} still runs");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_deadline_kills_the_whole_group() {
    let mark = format!("9{}", std::process::id());
    let error = sh(&format!("echo why >&2; sleep {mark} & sleep {mark}"))
        .deadline(Duration::from_millis(300))
        .run()
        .await
        .unwrap_err();
    assert!(error.is_deadline());
    assert!(error.to_string().contains("why"), "{error}");
    until_gone(&mark).await;
}

#[tokio::test]
async fn dropping_kills_the_whole_group() {
    let mark = format!("8{}", std::process::id());
    let command = sh(&format!("sleep {mark} & sleep {mark}"));
    let task = tokio::spawn(async move { command.run().await });
    let deadline = Instant::now() + Duration::from_secs(10);
    while !running(&mark) {
        assert!(Instant::now() < deadline, "never started");
        tokio::task::yield_now().await;
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    until_gone(&mark).await;
}

#[tokio::test]
async fn a_daemon_left_behind_does_not_hold_us_up() {
    let begin = Instant::now();
    let output = sh("sleep 20 & echo done").run().await.unwrap();
    assert_eq!(output.stdout, b"done\n");
    assert!(begin.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn signals_are_told_apart() {
    let output = sh("kill -TERM $$").output().await.unwrap();
    assert_eq!(output.exit, Exit::Signal(15));
}
