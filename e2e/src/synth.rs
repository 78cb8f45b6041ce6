//! `cargo lab synth`: a cluster that does not exist, written as a dump (a Kubernetes List), for benchmarks and for trying things out.
//! The same numbers and seed give the same file, byte for byte.
//!
//! It has what `scheduler-extender --cluster-from` reads (nodes with zones and taints, three pools each, volumes with their
//! replicas, claims and persistent volumes, groups, classes) and pending pods with two claims each, for somebody to schedule; one,
//! `too-large`, fits nowhere.
//! Fills are uneven, some nodes are out of service and some pools have failed, as in clusters that are in use. Objects are written
//! as they are made: a file of hundreds of megabytes takes no memory.

mod objects;
mod plan;
mod random;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use random::Random;

/// How large, and where to.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Nodes, each with an HDD, an SSD and an NVMe pool
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    nodes: u32,
    /// Volumes, spread over the nodes unevenly; each has a replica, a claim and a persistent volume
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    volumes: u32,
    /// Pending pods with two claims each
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pods: u32,
    /// Another seed gives another cluster
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The file to write
    #[arg(short, long)]
    output: PathBuf,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

/// Writes the dump.
///
/// # Errors
/// If the file can't be written.
pub(crate) fn run(options: &Options) -> Result<Written> {
    let path = options.output.display();
    let file = File::create(&options.output).with_context(|| {
        format!("can't make {path} (--output); name a file in a folder that is there")
    })?;
    let written = write(options, BufWriter::with_capacity(1 << 20, file));
    written.with_context(|| format!("can't write {path}"))
}

fn write(options: &Options, out: impl Write) -> Result<Written> {
    let mut list = List::begin(out)?;
    let mut random = Random::new(options.seed);
    for class in objects::classes() {
        list.item(&class)?;
    }
    let counts = plan::volumes_of_nodes(&mut random, options.nodes, options.volumes);
    for (index, volumes) in (0u32..).zip(counts) {
        let node = plan::node(&mut random, index, volumes);
        list.item(&objects::node(&node))?;
        list.item(&objects::storage_node(&node))?;
        for pod in &node.pods {
            list.item(&objects::group(&node, pod))?;
            for volume in pod.volumes.iter().filter(|volume| volume.made) {
                for object in objects::volume(&node, pod, volume) {
                    list.item(&object)?;
                }
            }
        }
    }
    let pods = (0..options.pods).map(|index| plan::pending(&mut random, index));
    let pods: Vec<_> = pods.collect();
    for pod in pods.iter().chain([&plan::too_large(&mut random)]) {
        for object in objects::pending(pod) {
            list.item(&object)?;
        }
    }
    list.end()
}

/// A List on its way out, one object a line.
struct List<W> {
    out: W,
    written: Written,
}

impl<W: Write> List<W> {
    fn begin(out: W) -> Result<Self> {
        let mut list = Self {
            out,
            written: Written::default(),
        };
        list.put(br#"{"apiVersion":"v1","kind":"List","metadata":{},"items":["#)?;
        Ok(list)
    }

    fn item(&mut self, object: &Value) -> Result<()> {
        self.put(if self.written.objects == 0 {
            b"\n"
        } else {
            b",\n"
        })?;
        self.put(object.to_string().as_bytes())?;
        self.written.objects += 1;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes)?;
        self.written.bytes += bytes.len() as u64;
        Ok(())
    }

    fn end(mut self) -> Result<Written> {
        self.put(b"\n]}\n")?;
        self.out.flush()?;
        Ok(self.written)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn dump(nodes: u32, volumes: u32, seed: u64) -> Vec<u8> {
        let options = Options {
            nodes,
            volumes,
            pods: 20,
            seed,
            output: PathBuf::new(),
        };
        let mut out = Vec::new();
        let written = write(&options, &mut out).unwrap();
        assert_eq!(written.bytes, out.len() as u64);
        out
    }

    fn items(dump: &[u8]) -> Vec<Value> {
        let list: Value = serde_json::from_slice(dump).unwrap();
        assert_eq!(
            (&list["kind"], &list["apiVersion"]),
            (&"List".into(), &"v1".into())
        );
        list["items"].as_array().unwrap().clone()
    }

    fn of_kind<'a>(items: &'a [Value], kind: &str) -> impl Iterator<Item = &'a Value> {
        items.iter().filter(move |item| item["kind"] == kind)
    }

    fn names(items: &[Value], kind: &str) -> BTreeSet<String> {
        let name = |item: &Value| {
            let meta = &item["metadata"];
            format!(
                "{}/{}",
                meta["namespace"].as_str().unwrap_or_default(),
                meta["name"].as_str().unwrap()
            )
        };
        of_kind(items, kind).map(name).collect()
    }

    #[test]
    fn a_seed_is_a_cluster() {
        assert!(dump(20, 300, 7) == dump(20, 300, 7), "the same bytes");
        assert!(dump(20, 300, 7) != dump(20, 300, 8));
    }

    #[test]
    fn it_has_what_was_asked_for_and_every_name_once() {
        let items = items(&dump(30, 1000, 1));
        for (kind, count) in [
            ("Node", 30),
            ("LocalStorageNode", 30),
            ("LocalVolume", 1000),
            ("LocalVolumeReplica", 1000),
            ("PersistentVolume", 1000),
            ("PersistentVolumeClaim", 1000 + 2 * 21),
            ("Pod", 21),
        ] {
            assert_eq!(of_kind(&items, kind).count(), count, "{kind}");
            assert_eq!(names(&items, kind).len(), count, "{kind}");
        }
        assert!(of_kind(&items, "LocalVolumeGroup").count() > 300);
        assert!(of_kind(&items, "StorageClass").count() >= 4);
    }

    /// The books of every pool balance, and what is reserved fits into what is free.
    #[test]
    fn no_pool_holds_more_than_it_has() {
        let items = items(&dump(200, 5000, 3));
        let bytes = |value: &Value| value.as_i64().unwrap();
        let mut replicas: BTreeMap<(String, String), i64> = BTreeMap::new();
        let place = |node: &Value, pool: &Value| {
            (
                node.as_str().unwrap().to_owned(),
                pool.as_str().unwrap().to_owned(),
            )
        };
        for replica in of_kind(&items, "LocalVolumeReplica") {
            let spec = &replica["spec"];
            let size = bytes(&spec["requiredCapacityBytes"]);
            assert!(size > 0 && size % (4 << 20) == 0, "{size}");
            *replicas
                .entry(place(&spec["nodeName"], &spec["poolName"]))
                .or_default() += size;
        }
        let made: BTreeSet<String> = names(&items, "LocalVolume");
        let mut reserved: BTreeMap<(String, String), i64> = BTreeMap::new();
        for group in of_kind(&items, "LocalVolumeGroup") {
            let node = &group["spec"]["accessibility"]["nodes"][0];
            for member in group["spec"]["volumes"].as_array().unwrap() {
                let volume = format!("/{}", member["localvolume"].as_str().unwrap());
                if !made.contains(&volume) {
                    let size = bytes(&member["requiredCapacityBytes"]);
                    *reserved
                        .entry(place(node, &member["poolName"]))
                        .or_default() += size;
                }
            }
        }
        assert!(reserved.len() > 3, "there are open reservations");
        let mut fills = Vec::new();
        for node in of_kind(&items, "LocalStorageNode") {
            for (name, pool) in node["status"]["pools"].as_object().unwrap() {
                let at = place(&node["metadata"]["name"], &name.as_str().into());
                let (total, used) = (
                    bytes(&pool["totalCapacityBytes"]),
                    bytes(&pool["usedCapacityBytes"]),
                );
                let of_replicas = replicas.get(&at).copied().unwrap_or(0);
                assert!(of_replicas <= used, "{at:?}");
                let promised = reserved.get(&at).copied().unwrap_or(0);
                assert!(
                    used + promised <= total,
                    "{at:?}: {used} + {promised} of {total}"
                );
                fills.push(used * 100 / total);
            }
        }
        fills.sort_unstable();
        assert!(
            fills[0] < 20 && fills[fills.len() - 1] > 85,
            "uneven: {fills:?}"
        );
    }

    #[test]
    fn pending_pods_have_two_claims_that_wait() {
        let items = items(&dump(10, 50, 2));
        let claims: BTreeMap<String, &Value> = of_kind(&items, "PersistentVolumeClaim")
            .map(|claim| {
                (
                    claim["metadata"]["name"].as_str().unwrap().to_owned(),
                    claim,
                )
            })
            .collect();
        for pod in of_kind(&items, "Pod") {
            let volumes = pod["spec"]["volumes"].as_array().unwrap();
            let used: Vec<&str> = volumes
                .iter()
                .filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str())
                .collect();
            assert_eq!(used.len(), 2, "{pod}");
            for claim in used {
                assert_eq!(claims[claim]["spec"]["volumeName"], Value::Null);
                assert_eq!(
                    claims[claim]["metadata"]["namespace"],
                    pod["metadata"]["namespace"]
                );
            }
            assert_eq!(pod["spec"]["schedulerName"], "hwameistor-scheduler");
        }
    }
}
