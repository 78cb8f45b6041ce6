//! Parsers on recorded output, tables' checks, argv.

use super::*;

const INFO: &str = "\
LocalStorage_PoolSSD-pvc--1|LVM-sgXMleRgXm1cb2V1EcQJF7lcfBgGYW4moD2MTrvkJhc4swW9fts1lbxuNYnSRiO7|254|0|1|2|0|Active|Live|Writeable
pvc-1-front|LVM-hawser_front_pvc_1|254|2|1|1|0|Suspended|Both|Writeable
empty||254|3|0|0|0|Active|None|Read-only
";

#[test]
fn info_in_columns() {
    let devices = info::parse(INFO).unwrap();
    assert_eq!(devices.len(), 3);
    assert_eq!(
        devices[1],
        Device {
            name: "pvc-1-front".to_owned(),
            uuid: "LVM-hawser_front_pvc_1".to_owned(),
            major: 254,
            minor: 2,
            open: 1,
            segments: 1,
            events: 0,
            suspended: true,
            live_table: true,
            inactive_table: true,
            read_only: false,
        }
    );
    assert!(devices[2].read_only && !devices[2].live_table);
    assert!(info::parse("No devices found\n").unwrap().is_empty());
    assert!(info::parse("a|b\n").is_err());
}

#[test]
fn tables() {
    let two: Table = "0 81920 linear 98:16 2048\n81920 16384 linear 98:32 460800\n"
        .parse()
        .unwrap();
    assert_eq!(two.targets().len(), 2);
    assert_eq!(two.bytes(), 98304 * 512);
    assert_eq!(two.linear_over(), None);
    let front = Table::linear(20480 * 512, (254, 0), 0).unwrap();
    assert_eq!(front.to_string(), "0 20480 linear 254:0 0\n");
    assert_eq!(front.linear_over(), Some((254, 0)));
    assert_eq!(front.to_string().parse::<Table>().unwrap(), front);
    assert_eq!(Table::error(1024).unwrap().to_string(), "0 2 error\n");
    assert_eq!("".parse::<Table>().unwrap(), Table::default());
}

#[test]
fn senseless_tables_are_refused() {
    assert!(Table::new(vec![]).is_err());
    assert!(Table::linear(0, (1, 2), 0).is_err());
    assert!(Table::linear(1000, (1, 2), 0).is_err());
    assert!(
        "0 5 linear 1:2 0\n6 5 linear 1:2 0"
            .parse::<Table>()
            .is_err()
    );
    assert!("5".parse::<Table>().is_err());
    let injected = Target {
        start: 0,
        length: 8,
        kind: "error".to_owned(),
        parameters: "\n8 8 linear 8:0 0".to_owned(),
    };
    assert!(Table::new(vec![injected]).is_err());
}

async fn argv_of<F, T>(udev: Udev, body: impl FnOnce(Dm) -> F) -> String
where
    F: Future<Output = Result<T, LvmError>>,
{
    let dm = Dm::new(Options {
        dmsetup: std::path::absolute("tests/echo-argv").unwrap(),
        udev,
        ..Options::default()
    });
    match body(dm).await {
        Err(LvmError::Command { source, .. }) => {
            source.failed().expect("it ends with 77").argv[1..].join(" ")
        }
        Err(error) => format!("not run: {error}"),
        Ok(_) => "no error".to_owned(),
    }
}

#[tokio::test]
async fn argv_of_changes() {
    let sync = Udev::Synchronise;
    let table = Table::linear(4096, (8, 0), 0).unwrap();
    assert_eq!(
        argv_of(sync, async |d| d.create("a-b-front", "LVM-x", &table).await).await,
        "create --verifyudev --addnodeoncreate --uuid LVM-x -- a-b-front"
    );
    assert_eq!(
        argv_of(Udev::Bypass, async |d| d.remove("a").await).await,
        "remove --noudevsync --noudevrules --retry -- a"
    );
    assert_eq!(
        argv_of(sync, async |d| d.load("a", &table).await).await,
        "load -- a"
    );
    let how = Suspend {
        no_flush: true,
        no_lockfs: true,
    };
    assert_eq!(
        argv_of(sync, async |d| d.suspend("a", how).await).await,
        "suspend --noflush --nolockfs -- a"
    );
    assert_eq!(
        argv_of(sync, async |d| d.resume("a").await).await,
        "resume --verifyudev --addnodeonresume -- a"
    );
    assert_eq!(
        argv_of(sync, async |d| d.table("a").await).await,
        "table -- a"
    );
    assert_eq!(
        argv_of(sync, async |d| d.list().await).await,
        "info --columns --noheadings --separator | --options name,uuid,major,minor,open,segments,events,suspended,tables_loaded,readonly"
    );
    assert!(
        argv_of(sync, async |d| d.remove("-f").await)
            .await
            .starts_with("not run")
    );
}
