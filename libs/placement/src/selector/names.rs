//! What can be a label's key or value, as apimachinery has it (`util/validation`: `IsQualifiedName`, `IsValidLabelValue`).

const MAX_NAME: usize = 63;
const MAX_PREFIX: usize = 253;

/// `name` or `prefix/name`.
pub(super) fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_name(key),
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
    }
}

/// Like a name; may be empty.
pub(super) fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_name(value)
}

/// At most 63 letters, digits, `-`, `_` and `.`, the first and last a letter or digit.
fn is_name(name: &str) -> bool {
    let inner = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    name.len() <= MAX_NAME && name.as_bytes().iter().all(inner) && has_ends(name)
}

/// A DNS name of lower case: labels of letters, digits and `-`, joined by dots.
fn is_subdomain(prefix: &str) -> bool {
    let inner = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-';
    let label = |label: &str| label.as_bytes().iter().all(inner) && has_ends(label);
    prefix.len() <= MAX_PREFIX && prefix.split('.').all(label)
}

/// Begins and ends with a letter or digit, so is not empty.
fn has_ends(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    ends.is_some_and(|(first, last)| first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let long = "a".repeat(63);
        for right in [
            "disktype",
            "topology.kubernetes.io/zone",
            "A_b.c-9",
            "0",
            "example.com/x",
            &long,
        ] {
            assert!(is_label_key(right), "{right:?}");
        }
        let (longer, prefix) = ("a".repeat(64), format!("{}/x", "a".repeat(254)));
        for wrong in [
            "",
            "/x",
            "x/",
            "a/b/c",
            "-x",
            "x-",
            "in valid",
            "UPPER.com/x",
            "a..b/x",
            "ä",
            &longer,
            &prefix,
        ] {
            assert!(!is_label_key(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn values() {
        for right in ["", "ssd", "0206", "a.b_c-d", "TRUE"] {
            assert!(is_label_value(right), "{right:?}");
        }
        for wrong in ["-5", "+5", "a b", "a/b", ".", &"x".repeat(64)] {
            assert!(!is_label_value(wrong), "{wrong:?}");
        }
    }
}
