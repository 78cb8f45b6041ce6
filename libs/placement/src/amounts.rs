//! Several sizes in one sentence: in one unit where that is readable, so that they can be compared at a glance.

use std::fmt;

use crate::units::Bytes;

const UNITS: [(u32, &str); 6] = [
    (50, "PiB"),
    (40, "TiB"),
    (30, "GiB"),
    (20, "MiB"),
    (10, "KiB"),
    (0, "B"),
];

/// A number longer than that is not read at a glance any more.
const LONGEST: u64 = 9_999;

/// The common unit of some sizes. `None`: they are too far apart, each gets its own.
#[derive(Clone, Copy)]
pub(crate) struct Scale(Option<(u32, &'static str)>);

impl Scale {
    /// The largest unit in which none of the sizes (but zero) is below one.
    pub(crate) fn of(sizes: &[Bytes]) -> Self {
        let least = sizes.iter().filter(|size| size.0 > 0).min();
        let most = sizes.iter().max().map_or(0, |size| size.0);
        let unit = unit_of(least.copied().unwrap_or_default());
        Self(Some(unit).filter(|(shift, _)| most >> shift <= LONGEST))
    }

    /// Rounded down, without the unit if it is common: what is free is never shown larger than it is.
    pub(crate) fn down(self, size: Bytes) -> Amount {
        self.amount(size, false)
    }

    /// Rounded up: what is needed is never shown smaller than it is, so a refusal never seems to contradict itself.
    pub(crate) fn up(self, size: Bytes) -> Amount {
        self.amount(size, true)
    }

    fn amount(self, size: Bytes, up: bool) -> Amount {
        Amount {
            size,
            unit: self.0.unwrap_or_else(|| unit_of(size)),
            shown: self.0.is_none(),
            up,
        }
    }
}

/// The largest unit that is not larger than the size.
fn unit_of(size: Bytes) -> (u32, &'static str) {
    let fits = |(shift, _): &&(u32, &str)| size.0 >> shift > 0;
    *UNITS.iter().find(fits).unwrap_or(&UNITS[UNITS.len() - 1])
}

/// `3`, `3.5`, `3 GiB`: at most one decimal.
pub(crate) struct Amount {
    size: Bytes,
    unit: (u32, &'static str),
    shown: bool,
    up: bool,
}

impl Amount {
    /// With its unit in any case.
    pub(crate) fn with_unit(self) -> Self {
        Self {
            shown: true,
            ..self
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shift, name) = self.unit;
        let tenfold = u128::from(self.size.0) * 10;
        let rest = tenfold & ((1 << shift) - 1);
        let tenths = (tenfold >> shift) + u128::from(self.up && rest > 0);
        write!(f, "{}", tenths / 10)?;
        if tenths % 10 > 0 {
            write!(f, ".{}", tenths % 10)?;
        }
        if self.shown {
            write!(f, " {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(free: Bytes, total: Bytes, needed: Bytes) -> String {
        let scale = Scale::of(&[free, total, needed]);
        let (free, total) = (scale.down(free), scale.down(total).with_unit());
        format!("{free} of {total}, {}", scale.up(needed))
    }

    #[test]
    fn one_unit_where_that_is_readable() {
        let (gib, mib) = (Bytes::gib, Bytes::mib);
        assert_eq!(shown(gib(3), gib(5), gib(4)), "3 of 5 GiB, 4");
        assert_eq!(shown(gib(30), gib(2048), gib(60)), "30 of 2048 GiB, 60");
        assert_eq!(shown(mib(0), gib(5), mib(12)), "0 of 5120 MiB, 12");
        assert_eq!(
            shown(mib(12), gib(100), mib(1945)),
            "12 MiB of 100 GiB, 1.9 GiB"
        );
        assert_eq!(shown(Bytes(0), Bytes(0), Bytes(0)), "0 of 0 B, 0");
        assert_eq!(
            shown(Bytes(1), Bytes(u64::MAX), Bytes(u64::MAX)),
            "1 B of 16383.9 PiB, 16384 PiB"
        );
    }

    #[test]
    fn what_does_not_fit_never_seems_to() {
        let total = Bytes::gib(5);
        let (free, needed) = (Bytes(Bytes::gib(3).0 - 1), Bytes::gib(3));
        assert_eq!(shown(free, total, needed), "2.9 of 5 GiB, 3");
        let (free, needed) = (Bytes::gib(3), Bytes(Bytes::gib(3).0 + 1));
        assert_eq!(shown(free, total, needed), "3 of 5 GiB, 3.1");
    }
}
