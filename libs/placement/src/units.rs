//! Sizes. Owns rounding to extents and how a size is shown to a person; knows nothing of pools.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;

use serde::Serialize;

/// A number of bytes. Addition saturates: a sum of absurd sizes is "too much", never a small number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    pub const ZERO: Self = Self(0);

    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 30))
    }

    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 20))
    }

    /// From the API's signed integers; negative counts as zero.
    #[must_use]
    pub fn from_api(n: i64) -> Self {
        Self(u64::try_from(n).unwrap_or(0))
    }

    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The smallest multiple of `extent` that holds this many bytes; at least one extent, because LVM has no empty
    /// volumes. An extent of 0 counts as 1 byte. What does not fit in 64 bits becomes `u64::MAX`.
    #[must_use]
    pub const fn round_up(self, extent: Self) -> Self {
        let extent = if extent.0 == 0 { 1 } else { extent.0 };
        let extents = self.0.div_ceil(extent);
        Self(if extents == 0 { 1 } else { extents }.saturating_mul(extent))
    }

    /// The largest multiple of `extent` that is not more than this.
    #[must_use]
    pub const fn round_down(self, extent: Self) -> Self {
        if extent.0 == 0 {
            self
        } else {
            Self(self.0 - self.0 % extent.0)
        }
    }
}

impl Add for Bytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

/// One decimal of the largest binary unit, rounded down: `41.2 GiB`. "Free" is never shown larger than it is.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 5] = [
            (50, "PiB"),
            (40, "TiB"),
            (30, "GiB"),
            (20, "MiB"),
            (10, "KiB"),
        ];
        for (shift, unit) in UNITS {
            if self.0 >> shift > 0 {
                let whole = self.0 >> shift;
                let tenth = ((u128::from(self.0) * 10) >> shift) % 10;
                return write!(f, "{whole}.{tenth} {unit}");
            }
        }
        write!(f, "{} B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_one_decimal_rounded_down() {
        assert_eq!(Bytes::gib(60).to_string(), "60.0 GiB");
        assert_eq!(Bytes(Bytes::gib(42).0 - 1).to_string(), "41.9 GiB");
        assert_eq!(Bytes::gib(2048).to_string(), "2.0 TiB");
        assert_eq!(Bytes::mib(4).to_string(), "4.0 MiB");
        assert_eq!(Bytes(0).to_string(), "0 B");
        assert_eq!(Bytes(u64::MAX).to_string(), "16383.9 PiB");
    }

    #[test]
    fn rounds_to_extents() {
        let extent = Bytes::mib(4);
        assert_eq!(Bytes(1).round_up(extent), extent);
        assert_eq!(Bytes(0).round_up(extent), extent);
        assert_eq!(extent.round_up(extent), extent);
        assert_eq!(Bytes(extent.0 + 1).round_up(extent), Bytes::mib(8));
        assert_eq!(Bytes(extent.0 + 1).round_down(extent), extent);
        assert_eq!(Bytes(u64::MAX).round_up(extent), Bytes(u64::MAX));
        assert_eq!(Bytes(7).round_up(Bytes(0)), Bytes(7));
    }
}
