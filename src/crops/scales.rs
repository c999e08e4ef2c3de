//! The sizes of a picture at which crops are taken: itself, and its halves.

use super::CROP;
use crate::frame::MAX_LEVEL;
use crate::{Error, Result};

/// The reductions of a picture, powers of two, at which crops are taken of it. As text `auto`, or a list such as `1,2,4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scales {
    /// Bit `k` stands for a reduction by `2^k`; none for all that a picture has.
    levels: u8,
}

impl Scales {
    /// Every reduction that leaves a shorter side of [`CROP`] pixels or more.
    pub const AUTO: Self = Self { levels: 0 };
    /// The picture's own size only.
    pub const NATIVE: Self = Self { levels: 1 };

    /// The reductions `2^k` of these exponents `k`, up to [`MAX_LEVEL`]; larger ones are left out.
    pub(crate) fn of_levels(levels: impl IntoIterator<Item = u32>) -> Self {
        let bits = levels.into_iter().filter(|&level| level <= MAX_LEVEL).map(|level| 1 << level);
        Self { levels: bits.fold(0, |all, bit| all | bit) }
    }

    /// Whether all reductions are taken that a picture has.
    pub fn is_auto(self) -> bool {
        self.levels == 0
    }

    /// Exponents of the chosen reductions, the smallest first; none with `auto`.
    fn levels(self) -> impl Iterator<Item = u32> {
        (0..=MAX_LEVEL).filter(move |level| self.levels & 1 << level != 0)
    }

    /// Exponents of the reductions of a picture with a shorter side of `side` pixels, the smallest first: at least one.
    /// Where a picture is too small for all that are chosen, the largest reduction that it has stands in for them.
    pub(crate) fn of_picture(self, side: usize) -> Vec<u32> {
        let fits = |&level: &u32| level == 0 || side >> level >= CROP;
        if self.is_auto() {
            return (0..=MAX_LEVEL).filter(fits).collect();
        }
        let chosen: Vec<u32> = self.levels().filter(fits).collect();
        if chosen.is_empty() { (0..=MAX_LEVEL).rev().find(fits).into_iter().collect() } else { chosen }
    }
}

impl std::fmt::Display for Scales {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_auto() {
            return f.pad("auto");
        }
        f.pad(&self.levels().map(|level| (1 << level).to_string()).collect::<Vec<_>>().join(","))
    }
}

impl std::str::FromStr for Scales {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "auto" {
            return Ok(Self::AUTO);
        }
        let level = |part: &str| {
            let reduction = part.trim().parse::<u32>().ok().filter(|reduction| reduction.is_power_of_two())?;
            Some(reduction.trailing_zeros()).filter(|level| *level <= MAX_LEVEL)
        };
        match text.split(',').map(level).collect::<Option<Vec<_>>>() {
            Some(levels) => Ok(Self::of_levels(levels)),
            None => Err(Error::Input(format!(
                "scales `{text}`: expected `auto`, or reductions of the picture out of 1, 2, 4, 8, 16 and 32, such as 1,2,4"
            ))),
        }
    }
}

impl serde::Serialize for Scales {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How many of `crops` crops each of `sizes` sizes gets, the largest size first: as many as the others, or one more where they
/// cannot be shared out evenly, the smallest sizes first.
pub(super) fn share_out(sizes: usize, crops: usize) -> Vec<usize> {
    (0..sizes).map(|size| crops / sizes + usize::from(sizes - size <= crops % sizes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_auto_or_a_list_of_powers_of_two() {
        for text in ["auto", "1", "1,2,4", "2,8", "32"] {
            assert_eq!(text.parse::<Scales>().unwrap().to_string(), text);
        }
        assert_eq!(" 4, 1,4".parse::<Scales>().unwrap().to_string(), "1,4");
        assert_eq!("1".parse::<Scales>().unwrap(), Scales::NATIVE);
        for text in ["", "0", "3", "1,", "64", "-1", "Auto", "1;2", "4294967296"] {
            let error = text.parse::<Scales>().unwrap_err().to_string();
            assert!(error.contains(&format!("scales `{text}`")) && error.contains("such as 1,2,4"), "{error}");
        }
    }

    #[test]
    fn a_picture_has_the_reductions_that_leave_a_crop() {
        let auto = |side| Scales::AUTO.of_picture(side);
        assert_eq!((auto(224), auto(447), auto(448)), (vec![0], vec![0], vec![0, 1]));
        assert_eq!((auto(1080), auto(2160)), (vec![0, 1, 2], vec![0, 1, 2, 3]));
        assert_eq!((auto(5), auto(40_000)), (vec![0], vec![0, 1, 2, 3, 4, 5]));
        let chosen = |text: &str, side| text.parse::<Scales>().unwrap().of_picture(side);
        assert_eq!((chosen("1", 2160), chosen("2,4", 2160), chosen("2,4", 700)), (vec![0], vec![1, 2], vec![1]));
        // None of them: the largest that there is.
        assert_eq!((chosen("4,8", 500), chosen("8", 300)), (vec![1], vec![0]));
    }

    #[test]
    fn crops_are_shared_out_evenly() {
        assert_eq!((share_out(1, 4), share_out(2, 4), share_out(4, 4)), (vec![4], vec![2, 2], vec![1, 1, 1, 1]));
        assert_eq!((share_out(3, 1), share_out(3, 2), share_out(3, 4)), (vec![0, 0, 1], vec![0, 1, 1], vec![1, 1, 2]));
        for sizes in 1..=6 {
            for crops in 1..=64 {
                let shares = share_out(sizes, crops);
                assert_eq!(shares.iter().sum::<usize>(), crops);
                assert!(shares.is_sorted() && shares[sizes - 1] - shares[0] <= 1, "{shares:?}");
            }
        }
    }
}
