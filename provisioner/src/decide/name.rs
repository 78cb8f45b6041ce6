//! Names: from what a CSI caller suggests to what Kubernetes and LVM both accept, and from a volume to its replicas.

use sha2::{Digest, Sha256};

/// Longest name, hyphens counted twice as device-mapper does, that leaves room in its 127 characters for the volume group and
/// for the suffixes that Hawser appends.
const LONGEST: usize = 96;

/// The volume's name (and CSI id) for a suggested name: the same if Kubernetes and LVM accept it as it is, else
/// `vol-<32 hexadecimal digits>`, always the same for the same suggestion.
#[must_use]
pub fn volume_name(suggested: &str) -> String {
    if is_volume_name(suggested) {
        suggested.to_owned()
    } else {
        format!("vol-{}", &digest(suggested)[..32])
    }
}

/// Whether this can be the name of a volume of ours: a DNS subdomain that LVM takes too.
#[must_use]
pub fn is_volume_name(name: &str) -> bool {
    let label = |label: &str| {
        label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && label.starts_with(|c: char| c.is_ascii_alphanumeric())
            && label.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let length = name.len() + name.bytes().filter(|b| *b == b'-').count();
    // LVM keeps names that begin so for itself.
    let reserved = name.starts_with("snapshot") || name.starts_with("pvmove");
    length <= LONGEST && name.len() <= 63 && !reserved && name.split('.').all(label)
}

/// The name of a volume's replica on a node, always the same.
#[must_use]
pub fn replica_name(volume: &str, node: &str) -> String {
    const DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let hash = Sha256::digest(format!("{volume}\n{node}").as_bytes());
    let suffix: String = hash
        .iter()
        .take(6)
        .map(|b| char::from(DIGITS[usize::from(*b) % DIGITS.len()]))
        .collect();
    format!("{volume}-{suffix}")
}

/// The volume name that external-provisioner will ask for, for a claim with this uid.
#[must_use]
pub fn volume_of_claim(uid: &str) -> String {
    format!("pvc-{uid}")
}

/// SHA-256 as lower-case hexadecimal digits.
#[must_use]
pub fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_claims_stay_as_they_are() {
        let name = "pvc-3f1c9a52-8d04-4a6e-b7b1-60c2a1f9e8d7";
        assert_eq!(volume_name(name), name);
        assert_eq!(
            volume_of_claim("3f1c9a52-8d04-4a6e-b7b1-60c2a1f9e8d7"),
            name
        );
    }

    #[test]
    fn what_kubernetes_or_lvm_would_refuse_gets_a_name_made_from_it() {
        let long = "a".repeat(128);
        for odd in [
            "",
            "UPPER",
            "a b",
            "../etc",
            "-a",
            "a-",
            "a..b",
            "snapshot-1",
            "pvmove0",
            "ä",
            "a_b",
            long.as_str(),
        ] {
            let name = volume_name(odd);
            assert!(
                name.starts_with("vol-") && name.len() == 36 && is_volume_name(&name),
                "{odd}: {name}"
            );
            assert_eq!(name, volume_name(odd));
        }
        assert_ne!(volume_name("A"), volume_name("B"));
    }

    #[test]
    fn replicas_are_named_by_volume_and_node() {
        let name = replica_name("pvc-1", "n1");
        assert_eq!(name.len(), "pvc-1-".len() + 6);
        assert!(is_volume_name(&name));
        assert_eq!(name, replica_name("pvc-1", "n1"));
        assert_ne!(name, replica_name("pvc-1", "n2"));
        assert_ne!(name, replica_name("pvc-2", "n1"));
    }

    proptest! {
        #[test]
        fn every_suggestion_gets_a_name_that_fits(suggested in ".{0,300}") {
            let name = volume_name(&suggested);
            prop_assert!(is_volume_name(&name));
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.'));
        }
    }
}
