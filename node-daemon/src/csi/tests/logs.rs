//! What is never logged: secrets, parameters, contexts.

use std::io;

use parking_lot::Mutex;
use tracing::Level;

use super::*;

const MARKER: &str = "xyzzy-not-for-logs";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn marked() -> HashMap<String, String> {
    HashMap::from([("key".to_owned(), MARKER.to_owned())])
}

#[tokio::test]
async fn secrets_and_contexts_are_never_logged() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .with_writer(move || writer.clone())
        .finish();
    // This test's runtime has no other thread.
    let _logging = tracing::subscriber::set_default(subscriber);
    // While there is one subscriber in the process, a place in the code that is first reached by another test's thread is silent
    // for all (`has_just_one` of tracing-core's callsites); with two it is not.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    let driver = a_driver().await;
    driver.volume("pvc-1", 10).await;
    let mut client = driver.client.clone();
    for volume in ["pvc-1", "pvc-9"] {
        let stage = NodeStageVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: driver.path("staging/pvc-1"),
            volume_capability: mounted("", &[]),
            secrets: marked(),
            volume_context: marked(),
            publish_context: marked(),
        };
        let _ = client.node_stage_volume(stage).await;
        let publish = NodePublishVolumeRequest {
            volume_id: volume.to_owned(),
            secrets: marked(),
            volume_context: marked(),
            publish_context: marked(),
            ..driver.publication("pvc-1", "pods/1/mount", mounted("", &[]))
        };
        let _ = client.node_publish_volume(publish).await;
        let grow = NodeExpandVolumeRequest {
            volume_id: volume.to_owned(),
            volume_path: driver.path("pods/1/mount"),
            secrets: marked(),
            ..NodeExpandVolumeRequest::default()
        };
        let _ = client.node_expand_volume(grow).await;
    }
    assert!(driver.at("pods/1/mount").is_some());
    let text = String::from_utf8(lines.0.lock().clone()).unwrap();
    assert!(text.contains("stage") && text.contains("pvc-9"), "{text}");
    let told: Vec<_> = text.lines().filter(|line| line.contains(MARKER)).collect();
    assert_eq!(told, Vec::<&str>::new());
}
