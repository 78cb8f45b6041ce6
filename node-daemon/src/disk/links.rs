//! Links below `/dev/disk`: which fact about a disk each of them states.

/// Links of `/dev/disk/<kind>/`, without that part.
pub(super) fn of_kind<'a>(links: &'a [String], kind: &'a str) -> impl Iterator<Item = &'a str> {
    links.iter().filter_map(move |link| {
        link.strip_prefix("/dev/disk/")?
            .strip_prefix(kind)?
            .strip_prefix('/')
    })
}

/// World wide names that links state: `wwn-...`, `nvme-eui....`, `nvme-uuid....`.
pub(super) fn wwns(links: &[String]) -> impl Iterator<Item = &str> {
    of_kind(links, "by-id").filter(|id| {
        ["wwn-", "nvme-eui.", "nvme-uuid."]
            .iter()
            .any(|prefix| id.starts_with(prefix))
    })
}

/// The physical volume that links state to be on the disk.
pub(super) fn pv_uuids(links: &[String]) -> impl Iterator<Item = &str> {
    of_kind(links, "by-id").filter_map(|id| id.strip_prefix("lvm-pv-uuid-"))
}

/// Whether a link stays the same as long as the disk does. `by-diskseq` counts events since boot, `by-uuid` and `by-label`
/// tell of the content.
pub(super) fn is_lasting(link: &str) -> bool {
    !link.starts_with("/dev/disk/by-diskseq/")
}
