//! Sizes: what a capacity range asks for, in whole extents, without overflow anywhere in the range of the wire's integers.

/// LVM's default extent; the smallest volume, and what sizes in the API are rounded up to.
pub const EXTENT: i64 = 4 << 20;

/// Size of a volume for which none was asked.
pub const DEFAULT: i64 = 1 << 30;

/// The largest size that still is a whole number of extents.
pub const LARGEST: i64 = i64::MAX - i64::MAX % EXTENT;

/// What the caller wants: at least `required`, and if `limit` is not 0 at most that. 0 and 0: anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    pub required: i64,
    pub limit: i64,
}

/// Why a range can't be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    #[error(
        "capacity_range.{field} is {value}; a capacity is 0 (not given) or a positive number of bytes"
    )]
    Negative { field: &'static str, value: i64 },
    #[error(
        "capacity_range.limit_bytes is {limit}, below required_bytes {required}; it must be at least that, or 0 for no limit"
    )]
    LimitBelowRequired { required: i64, limit: i64 },
    #[error("capacity_range.required_bytes is {required}; the largest volume is {LARGEST} bytes")]
    TooLarge { required: i64 },
    #[error(
        "capacity_range allows {required} to {limit} bytes, and volumes come in whole extents of {EXTENT} bytes: none lies in that range; \
         raise limit_bytes to {rounded}"
    )]
    NoExtentWithin {
        required: i64,
        limit: i64,
        rounded: i64,
    },
}

impl SizeError {
    /// Whether the range itself makes no sense (rather than being one that can't be served).
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        match self {
            Self::Negative { .. } | Self::LimitBelowRequired { .. } => true,
            Self::TooLarge { .. } | Self::NoExtentWithin { .. } => false,
        }
    }
}

impl Range {
    /// Checks that the range makes sense.
    pub fn new(required: i64, limit: i64) -> Result<Self, SizeError> {
        for (field, value) in [("required_bytes", required), ("limit_bytes", limit)] {
            if value < 0 {
                return Err(SizeError::Negative { field, value });
            }
        }
        if limit != 0 && limit < required {
            return Err(SizeError::LimitBelowRequired { required, limit });
        }
        Ok(Self { required, limit })
    }

    /// The smallest size in whole extents within the range; [`DEFAULT`] (or the limit, if that is lower) if nothing is required.
    pub fn choose(self) -> Result<i64, SizeError> {
        let wanted = match (self.required, self.limit) {
            (0, 0) => DEFAULT,
            (0, limit) => (limit - limit % EXTENT).clamp(EXTENT, DEFAULT),
            (required, _) => required,
        };
        let size = round_up(wanted).ok_or(SizeError::TooLarge {
            required: self.required,
        })?;
        if self.limit != 0 && size > self.limit {
            return Err(SizeError::NoExtentWithin {
                required: self.required,
                limit: self.limit,
                rounded: size,
            });
        }
        Ok(size)
    }

    /// Whether a volume of this size serves the range. A volume may be larger than what is required by its rounding.
    #[must_use]
    pub fn admits(self, size: i64) -> bool {
        size >= self.required && (self.limit == 0 || size <= self.limit)
    }
}

/// Rounded up to whole extents, at least one; `None` if there is no such number.
#[must_use]
pub fn round_up(size: i64) -> Option<i64> {
    let extents = size.max(1).checked_add(EXTENT - 1)? / EXTENT;
    extents.checked_mul(EXTENT)
}

/// For people: `10.5 GiB`, or the exact number of bytes if it is small or odd.
#[must_use]
pub fn show(size: i64) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20)] {
        let whole = size >> shift;
        if whole > 0 {
            let tenths = (size - (whole << shift)) / ((1 << shift) / 10);
            return if tenths == 0 {
                format!("{whole} {unit}")
            } else {
                format!("{whole}.{} {unit}", tenths.min(9))
            };
        }
    }
    format!("{size} bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chosen(required: i64, limit: i64) -> Result<i64, SizeError> {
        Range::new(required, limit).and_then(Range::choose)
    }

    #[test]
    fn sizes_are_whole_extents() {
        assert_eq!(chosen(1, 0), Ok(EXTENT));
        assert_eq!(chosen(EXTENT + 1, 0), Ok(2 * EXTENT));
        assert_eq!(chosen(DEFAULT, DEFAULT), Ok(DEFAULT));
    }

    #[test]
    fn nothing_required_is_the_default_or_what_the_limit_leaves() {
        assert_eq!(chosen(0, 0), Ok(DEFAULT));
        assert_eq!(chosen(0, 10 * EXTENT + 5), Ok(10 * EXTENT));
        assert_eq!(chosen(0, i64::MAX), Ok(DEFAULT));
        assert!(matches!(
            chosen(0, 5),
            Err(SizeError::NoExtentWithin { .. })
        ));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(chosen(-1, 0).is_err_and(|e| e.is_malformed()));
        assert!(chosen(0, -1).is_err_and(|e| e.is_malformed()));
        assert!(chosen(2 * EXTENT, EXTENT).is_err_and(|e| e.is_malformed()));
        assert!(chosen(EXTENT + 1, EXTENT + 2).is_err_and(|e| !e.is_malformed()));
    }

    #[test]
    fn the_edge_of_the_integers_does_not_overflow() {
        assert_eq!(chosen(LARGEST, 0), Ok(LARGEST));
        assert!(matches!(
            chosen(i64::MAX, 0),
            Err(SizeError::TooLarge { .. })
        ));
        assert!(matches!(
            chosen(LARGEST + 1, i64::MAX),
            Err(SizeError::TooLarge { .. })
        ));
    }

    #[test]
    fn sizes_are_shown_in_units() {
        assert_eq!(show(10 << 30), "10 GiB");
        assert_eq!(show((10 << 30) + (512 << 20)), "10.5 GiB");
        assert_eq!(show(4 << 20), "4 MiB");
        assert_eq!(show(5), "5 bytes");
    }

    proptest! {
        #[test]
        fn a_chosen_size_serves_its_range(required in 0..=i64::MAX, limit in 0..=i64::MAX) {
            if let Ok(range) = Range::new(required, limit) && let Ok(size) = range.choose() {
                prop_assert!(range.admits(size) && size % EXTENT == 0 && size > 0);
            }
        }
    }
}
