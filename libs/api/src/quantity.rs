//! Kubernetes quantities and sizes: text to whole numbers and back, without overflow.

use thiserror::Error;

/// One kibibyte.
pub const KIB: i64 = 1 << 10;
/// One mebibyte.
pub const MIB: i64 = 1 << 20;
/// One gibibyte.
pub const GIB: i64 = 1 << 30;
/// One tebibyte.
pub const TIB: i64 = 1 << 40;

/// LVM's usual extent, the unit of allocation in every pool that was not made by hand.
pub const DEFAULT_EXTENT_BYTES: i64 = 4 * MIB;

/// A text that is no quantity, or one that does not fit.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum QuantityError {
    /// Not the form of a quantity.
    #[error("{0:?} is not a quantity such as 10Gi, 500M or 1073741824")]
    Malformed(String),
    /// Below zero.
    #[error("{0:?} is negative")]
    Negative(String),
    /// Above 2^63-1.
    #[error("{0:?} is too large, the most is {max}", max = i64::MAX)]
    TooLarge(String),
}

/// The value of a Kubernetes quantity, rounded up to a whole number: `10Gi`, `1.5G`, `1e3`, `100m`.
pub fn parse(text: &str) -> Result<i64, QuantityError> {
    let malformed = || QuantityError::Malformed(text.to_owned());
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let number_end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(malformed());
    }
    let scale = Scale::parse(suffix).ok_or_else(malformed)?;

    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    if negative {
        return Err(QuantityError::Negative(text.to_owned()));
    }
    let too_large = || QuantityError::TooLarge(text.to_owned());
    // Trailing zeros of the fraction carry no value and would only overflow the mantissa.
    let trimmed = digits.trim_end_matches('0');
    let zeros = i64::try_from(digits.len() - trimmed.len()).map_err(|_| too_large())?;
    let fraction = i64::try_from(fraction.len()).map_err(|_| too_large())?;
    let exponent = scale.decimal.saturating_add(zeros).saturating_sub(fraction);
    scaled(trimmed, exponent, scale.binary).ok_or_else(too_large)
}

/// Ceiling of `mantissa x 10^exponent x 2^shift`; `None` if it is above `i64::MAX`.
fn scaled(mantissa: &str, exponent: i64, shift: u32) -> Option<i64> {
    let length = i64::try_from(mantissa.len()).ok()?;
    if length.checked_add(exponent)? > 20 {
        return None;
    }
    if exponent >= 0 {
        let power = 10_i128.checked_pow(u32::try_from(exponent).ok()?)?;
        let value = mantissa
            .parse::<i128>()
            .ok()?
            .checked_mul(power)?
            .checked_mul(1 << shift)?;
        return i64::try_from(value).ok();
    }
    // Digits far behind the point only decide whether to round up.
    let behind = usize::try_from(-exponent).ok()?;
    let kept_behind = behind.min(18);
    let dropped = behind - kept_behind;
    let (mantissa, rest) = mantissa.split_at(mantissa.len().saturating_sub(dropped));
    let mantissa = if mantissa.is_empty() {
        0
    } else {
        mantissa.parse::<i128>().ok()?
    };
    let mantissa = mantissa + i128::from(!rest.is_empty());
    let divisor = 10_i128.checked_pow(u32::try_from(kept_behind).ok()?)?;
    let value = mantissa.checked_mul(1 << shift)?;
    i64::try_from((value + divisor - 1) / divisor).ok()
}

/// What a suffix multiplies by: `10^decimal x 2^binary`.
struct Scale {
    decimal: i64,
    binary: u32,
}

impl Scale {
    fn parse(suffix: &str) -> Option<Self> {
        let decimal = |decimal| Some(Self { decimal, binary: 0 });
        let binary = |binary| Some(Self { decimal: 0, binary });
        match suffix {
            "" => decimal(0),
            "n" => decimal(-9),
            "u" => decimal(-6),
            "m" => decimal(-3),
            "k" => decimal(3),
            "M" => decimal(6),
            "G" => decimal(9),
            "T" => decimal(12),
            "P" => decimal(15),
            "E" => decimal(18),
            "Ki" => binary(10),
            "Mi" => binary(20),
            "Gi" => binary(30),
            "Ti" => binary(40),
            "Pi" => binary(50),
            "Ei" => binary(60),
            exponent => {
                let digits = exponent.strip_prefix(['e', 'E'])?;
                let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
                if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                decimal(digits.parse().ok()?)
            }
        }
    }
}

/// Whole extents that hold `bytes`. Nothing, or less, takes none; an extent size below 1 counts as 1.
#[must_use]
pub fn extents(bytes: i64, extent_bytes: i64) -> i64 {
    let extent = extent_bytes.max(1);
    let bytes = bytes.max(0);
    bytes / extent + i64::from(bytes % extent != 0)
}

/// `bytes` rounded up to whole extents; `None` above `i64::MAX`.
#[must_use]
pub fn round_up(bytes: i64, extent_bytes: i64) -> Option<i64> {
    extents(bytes, extent_bytes).checked_mul(extent_bytes.max(1))
}

/// A size for people: `12 GiB`, `1.5 GiB`, `4097 B`; cut to two decimals, never rounded up.
#[must_use]
pub fn human(bytes: i64) -> String {
    for (unit, name) in [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")] {
        if bytes >= unit {
            let hundredths = bytes % unit * 100 / unit;
            let fraction = format!(".{hundredths:02}");
            return format!(
                "{}{} {name}",
                bytes / unit,
                fraction.trim_end_matches('0').trim_end_matches('.')
            );
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_of_every_form() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("1073741824", GIB),
            ("10Gi", 10 * GIB),
            ("1.5Gi", GIB + GIB / 2),
            (".5Ki", 512),
            ("5.", 5),
            ("20Mi", 20 * MIB),
            ("1e3", 1000),
            ("1E3", 1000),
            ("1E", 1_000_000_000_000_000_000),
            ("12e-1", 2),
            ("100m", 1),
            ("1500m", 2),
            ("1n", 1),
            ("0.0000000000000000000000000000000000001", 1),
            ("9223372036854775807", i64::MAX),
            ("+3k", 3000),
            ("8e18", 8_000_000_000_000_000_000),
            ("0e99999", 0),
        ] {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "", "Gi", "10 Gi", "10GiB", "1.2.3", "0x10", "1e", "1e+", "ten", "1K", ".", "-", "１",
        ] {
            assert_eq!(
                parse(text),
                Err(QuantityError::Malformed(text.to_owned())),
                "{text}"
            );
        }
        assert_eq!(
            parse("-1Gi"),
            Err(QuantityError::Negative("-1Gi".to_owned()))
        );
        for text in [
            "9223372036854775808",
            "8Ei",
            "10E",
            "1e19",
            "1e99999999",
            "99999999999999999999999999999999999999999",
        ] {
            assert_eq!(
                parse(text),
                Err(QuantityError::TooLarge(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_in_whole_extents() {
        assert_eq!(extents(0, 4 * MIB), 0);
        assert_eq!(extents(1, 4 * MIB), 1);
        assert_eq!(extents(4 * MIB, 4 * MIB), 1);
        assert_eq!(round_up(4 * MIB + 1, 4 * MIB), Some(8 * MIB));
        assert_eq!(round_up(i64::MAX, 4 * MIB), None);
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(human(12 * GIB), "12 GiB");
        assert_eq!(human(GIB + GIB / 2), "1.5 GiB");
        assert_eq!(human(MIB - 1), "1023.99 KiB");
        assert_eq!(human(512), "512 B");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_quantity_panics(text in "[+-]?[0-9]{0,40}\\.?[0-9]{0,40}(e-?[0-9]{1,4}|[KMGTPE]i|[numkMGTPE])?") {
            let _ = parse(&text);
        }

        #[test]
        fn whole_numbers_are_themselves(number in 0..=i64::MAX) {
            prop_assert_eq!(parse(&number.to_string()), Ok(number));
        }

        #[test]
        fn extents_hold_the_bytes_and_no_extent_is_spare(bytes in 0..=i64::MAX, extent in 1..=(1_i64 << 32)) {
            let count = i128::from(extents(bytes, extent));
            prop_assert!(count * i128::from(extent) >= i128::from(bytes));
            prop_assert!((count - 1) * i128::from(extent) < i128::from(bytes));
        }
    }
}
