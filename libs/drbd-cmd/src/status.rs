//! `drbdsetup events2 --now --statistics`: the state of all resources as `key:value` lines, the same in 8.4 and 9.

use std::collections::BTreeMap;

use crate::state::{ConnectionState, DiskState, Replication, Role};

/// All resources by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Name to resource.
    pub resources: BTreeMap<String, Resource>,
}

/// One resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Our role.
    pub role: Role,
    /// Whether I/O is frozen, for any reason.
    pub suspended: bool,
    /// Its volumes here.
    pub devices: Vec<Device>,
    /// Its peers; 8.4 has at most one.
    pub connections: Vec<Connection>,
}

/// One volume on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Number within the resource.
    pub volume: u32,
    /// `/dev/drbd<minor>`
    pub minor: u32,
    /// What our copy is worth.
    pub disk: DiskState,
    /// Size that is offered, in KiB.
    pub size_kib: u64,
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its name; 8.4 knows none and says `peer`.
    pub peer: String,
    /// Whether it is there.
    pub state: ConnectionState,
    /// Its role.
    pub role: Role,
    /// Its volumes.
    pub volumes: Vec<PeerVolume>,
}

/// One volume on a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerVolume {
    /// Number within the resource.
    pub volume: u32,
    /// What goes on.
    pub replication: Replication,
    /// What its copy is worth.
    pub disk: DiskState,
    /// What the copies are known to differ by, in KiB.
    pub out_of_sync_kib: u64,
}

/// Parses the output of `events2 --now`. Lines and keys of other versions are left out.
///
/// `None` if the closing `exists -` is missing: what was read is not the whole picture, and a missing resource would be
/// taken for one that is not configured.
#[must_use]
pub fn parse_events2(text: &str) -> Option<Status> {
    let mut status = Status::default();
    let mut complete = false;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("exists") {
            continue;
        }
        let what = words.next();
        let fields: BTreeMap<&str, &str> = words.filter_map(|word| word.split_once(':')).collect();
        match what {
            Some("-") => complete = true,
            Some("resource") => drop(resource(&mut status, &fields)),
            Some("device") => drop(device(&mut status, &fields)),
            Some("connection") => drop(connection(&mut status, &fields)),
            Some("peer-device") => drop(peer_volume(&mut status, &fields)),
            _ => {}
        }
    }
    complete.then_some(status)
}

type Fields<'a> = BTreeMap<&'a str, &'a str>;

fn resource(status: &mut Status, fields: &Fields<'_>) -> Option<()> {
    let resource = Resource {
        role: Role::from_word(fields.get("role")?),
        suspended: fields
            .get("suspended")
            .is_some_and(|reasons| *reasons != "no"),
        devices: Vec::new(),
        connections: Vec::new(),
    };
    status
        .resources
        .insert((*fields.get("name")?).to_owned(), resource);
    Some(())
}

fn device(status: &mut Status, fields: &Fields<'_>) -> Option<()> {
    let device = Device {
        volume: number(fields, "volume")?,
        minor: number(fields, "minor")?,
        disk: DiskState::from_word(fields.get("disk")?),
        size_kib: fields
            .get("size")
            .and_then(|size| size.parse().ok())
            .unwrap_or(0),
    };
    status
        .resources
        .get_mut(*fields.get("name")?)?
        .devices
        .push(device);
    Some(())
}

fn connection(status: &mut Status, fields: &Fields<'_>) -> Option<()> {
    let connection = Connection {
        peer: (*fields.get("conn-name")?).to_owned(),
        state: ConnectionState::from_word(fields.get("connection")?),
        role: Role::from_word(fields.get("role").unwrap_or(&"Unknown")),
        volumes: Vec::new(),
    };
    status
        .resources
        .get_mut(*fields.get("name")?)?
        .connections
        .push(connection);
    Some(())
}

fn peer_volume(status: &mut Status, fields: &Fields<'_>) -> Option<()> {
    let volume = PeerVolume {
        volume: number(fields, "volume")?,
        replication: Replication::from_word(fields.get("replication")?),
        disk: DiskState::from_word(fields.get("peer-disk")?),
        out_of_sync_kib: fields
            .get("out-of-sync")
            .and_then(|size| size.parse().ok())
            .unwrap_or(0),
    };
    let peer = fields.get("conn-name")?;
    let resource = status.resources.get_mut(*fields.get("name")?)?;
    resource
        .connections
        .iter_mut()
        .find(|connection| connection.peer == *peer)?
        .volumes
        .push(volume);
    Some(())
}

fn number(fields: &Fields<'_>, key: &str) -> Option<u32> {
    fields.get(key)?.parse().ok()
}
