//! The driver against scripts that answer with what the real tools said.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

/// A driver whose tools run `script` (with the arguments of the real call).
fn a_driver(folder: &Path, script: &str) -> Drbd {
    let tool = folder.join("tool");
    fs::write(
        &tool,
        format!(
            "#!/bin/sh\necho \"$@\" >> {}/calls\n{script}\n",
            folder.display()
        ),
    )
    .unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let tool = tool.to_str().unwrap().to_owned();
    Drbd {
        tools: Tools {
            drbdsetup: tool.clone(),
            drbdmeta: tool.clone(),
        },
        drbdadm: tool,
        proc: folder.join("drbd"),
        ..Drbd::default()
    }
}

fn recorded(name: &str) -> String {
    // Tests run in their package's folder, wherever it is now.
    let path = std::path::absolute(format!("tests/recorded/{name}.txt")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn minor() -> Minor {
    Minor::new(3).unwrap()
}

#[tokio::test]
async fn metadata_of_either_format_is_found_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let none = format!("cat {} >&2; exit 1", recorded("fail-no-metadata"));
    let script = format!(
        "case \"$3 $5 $6\" in 'v09 internal dump-md') cat {};; *) {none};; esac",
        recorded("dump-md-v09")
    );
    let drbd = a_driver(folder.path(), &script);
    let device = Path::new("/dev/vg/md");
    assert_eq!(
        drbd.metadata(minor(), device, Placement::FlexExternal)
            .await
            .unwrap(),
        None
    );
    let found = drbd
        .metadata(minor(), device, Placement::Internal)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.format, Format::V09);
    let error = drbd.create_metadata(minor(), device).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "/dev/vg/md carries DRBD metadata of format v09 already; wipe it first if it is not needed"
    );
    assert!(
        !fs::read_to_string(folder.path().join("calls"))
            .unwrap()
            .contains("create-md")
    );

    let drbd = a_driver(
        folder.path(),
        &format!("case \"$6\" in create-md) exit 0;; *) {none};; esac"),
    );
    drbd.create_metadata(minor(), device).await.unwrap();
    let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
    assert_eq!(
        calls.lines().last(),
        Some("--force 3 v08 /dev/vg/md flex-external create-md")
    );
}

#[tokio::test]
async fn refusals_keep_the_whole_call_and_a_missing_connection_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let drbd = a_driver(
        folder.path(),
        &format!("cat {} >&2; exit 10", recorded("fail-unknown-connection")),
    );
    let end = |port| Endpoint(format!("10.0.0.1:{port}").parse().unwrap());
    assert_eq!(
        drbd.disconnect(end(1), end(2), true).await.unwrap(),
        Outcome::Already
    );

    let drbd = a_driver(
        folder.path(),
        &format!("cat {} >&2; exit 17", recorded("fail-not-up-to-date")),
    );
    let error = drbd.primary(minor(), false).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&Refusal::NotUpToDate));
    assert_eq!(
        error.to_string(),
        "can't make primary minor 3: no copy here that is known to be current"
    );
    let DrbdError::Refused { output, .. } = error else {
        panic!("{error:?}")
    };
    assert!(output.command_line().ends_with("primary 3"));
}

#[tokio::test]
async fn output_that_was_cut_off_is_not_taken_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let drbd = a_driver(
        folder.path(),
        &format!("head -n 3 {}", recorded("events2-connected")),
    );
    assert!(matches!(drbd.status().await, Err(DrbdError::Output { .. })));
    let drbd = a_driver(folder.path(), &format!("head -n 5 {}", recorded("show")));
    assert!(matches!(drbd.show().await, Err(DrbdError::Output { .. })));
}

#[tokio::test]
async fn a_missing_module_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let drbd = a_driver(folder.path(), "exit 0");
    let error = drbd.proc().await.unwrap_err();
    assert!(
        matches!(error, DrbdError::NoModule(_)) && error.to_string().contains("modprobe drbd"),
        "{error}"
    );
    fs::copy(recorded("proc-empty"), folder.path().join("drbd")).unwrap();
    assert!(drbd.proc().await.unwrap().module.is_84());
}

#[tokio::test]
async fn paths_that_are_not_absolute_reach_no_tool() {
    let folder = tempfile::tempdir().unwrap();
    let drbd = a_driver(folder.path(), "exit 0");
    let options = DiskOptions::default();
    let attach = drbd.attach(
        minor(),
        Path::new("--force"),
        Path::new("/dev/md"),
        &options,
    );
    assert!(matches!(attach.await, Err(DrbdError::Request { .. })));
    assert!(!folder.path().join("calls").exists());
}

fn line(command: &Command) -> String {
    command.argv().join(" ")
}

#[test]
fn argv_exactly() {
    let tools = Drbd::default().tools;
    let name = ResourceName::new("pvc-1").unwrap();
    assert_eq!(
        line(&tools.attach(
            minor(),
            Path::new("/dev/mapper/v-back"),
            Path::new("/dev/vg/md"),
            &DiskOptions::default()
        )),
        "drbdsetup attach 3 /dev/mapper/v-back /dev/vg/md flexible --fencing=resource-and-stonith --on-io-error=detach \
         --al-extents=1237 --c-plan-ahead=20 --c-max-rate=204800k --c-min-rate=4096k --c-fill-target=1M"
    );
    let local = Endpoint("10.0.0.1:7700".parse().unwrap());
    let peer = Endpoint("[fd00::2]:7700".parse().unwrap());
    assert_eq!(
        line(&tools.connect(&name, local, peer, &NetOptions::default())),
        "drbdsetup connect pvc-1 ipv4:10.0.0.1:7700 ipv6:[fd00::2]:7700 --protocol=C --timeout=15 --ping-int=2 --ping-timeout=10 \
         --connect-int=3 --ko-count=4 --max-buffers=8000 --max-epoch-size=8000 --verify-alg=crc32c --after-sb-0pri=disconnect \
         --after-sb-1pri=disconnect --after-sb-2pri=disconnect --rr-conflict=disconnect"
    );
    assert_eq!(
        line(&tools.disconnect(local, peer, true)),
        "drbdsetup disconnect ipv4:10.0.0.1:7700 ipv6:[fd00::2]:7700 --force"
    );
}

#[test]
fn names_and_numbers_are_checked() {
    for name in ["", "-x", "a b", "ä", "a/b", &"x".repeat(128)] {
        assert!(
            matches!(ResourceName::new(name), Err(DrbdError::Request { .. })),
            "{name}"
        );
    }
    assert!(ResourceName::new("pvc-0a_.9").is_ok());
    assert!(Minor::new(1 << 20).is_err());
    assert_eq!(
        Minor::new((1 << 20) - 1).unwrap().device(),
        "/dev/drbd1048575"
    );
}
