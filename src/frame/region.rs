//! Parts of pictures.

use crate::{Error, Result};

/// A rectangle of a picture, in pixels from its upper left corner. As text, `x,y,width,height`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

impl Region {
    /// A rectangle.
    pub const fn new(x: usize, y: usize, width: usize, height: usize) -> Self {
        Self { x, y, width, height }
    }

    /// Pixels in it.
    pub fn area(self) -> u128 {
        self.width as u128 * self.height as u128
    }

    /// What it has in common with another; none where that is nothing.
    pub fn intersection(self, other: Self) -> Option<Self> {
        let common = |a: usize, a_length: usize, b: usize, b_length: usize| {
            let first = a.max(b);
            let end = a.saturating_add(a_length).min(b.saturating_add(b_length));
            (first < end).then(|| (first, end - first))
        };
        let (x, width) = common(self.x, self.width, other.x, other.width)?;
        let (y, height) = common(self.y, self.height, other.y, other.height)?;
        Some(Self { x, y, width, height })
    }

    /// The smallest rectangle that has both.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let end = |a: usize, a_length: usize, b: usize, b_length: usize| {
            a.saturating_add(a_length).max(b.saturating_add(b_length))
        };
        let (right, bottom) =
            (end(self.x, self.width, other.x, other.width), end(self.y, self.height, other.y, other.height));
        Self { x, y, width: right - x, height: bottom - y }
    }

    /// `inner`, whose place is one within this region, at its place in what this one lies in.
    ///
    /// # Errors
    /// [`Error::Input`] where it is empty or reaches beyond this one; `what` is what it is called then.
    pub(super) fn part(self, what: &str, inner: Self) -> Result<Self> {
        let fits = |at: usize, length: usize, whole: usize| length > 0 && at < whole && length <= whole - at;
        if fits(inner.x, inner.width, self.width) && fits(inner.y, inner.height, self.height) {
            return Ok(Self { x: self.x + inner.x, y: self.y + inner.y, ..inner });
        }
        let (w, h) = (self.width, self.height);
        Err(Error::Input(format!("{what} {inner} (x,y,width,height) is not within a picture of {w}x{h}")))
    }
}

impl std::fmt::Display for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { x, y, width, height } = self;
        write!(f, "{x},{y},{width},{height}")
    }
}

impl std::str::FromStr for Region {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers: Option<Vec<u32>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[x, y, width, height]) if width > 0 && height > 0 => {
                let [x, y, width, height] = [x, y, width, height].map(|number| number as usize);
                Ok(Self { x, y, width, height })
            }
            _ => Err(Error::Input(format!(
                "region `{text}`: expected x,y,width,height in pixels, such as 0,0,640,360, and no side of zero"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_that_is_no_region_is_refused() {
        assert_eq!("1,2,3,4".parse::<Region>().unwrap(), Region::new(1, 2, 3, 4));
        assert_eq!(" 1, 2,3 ,4".parse::<Region>().unwrap(), Region::new(1, 2, 3, 4));
        for text in ["", "1,2,3", "1,2,3,4,5", "-1,2,3,4", "1,2,0,4", "1,2,3,0", "1,2,3x4", "NaN,2,3,4", "1e9,2,3,4"] {
            let error = text.parse::<Region>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("x,y,width,height"), "{error}");
        }
        assert!("0,0,4294967296,1".parse::<Region>().is_err());
    }

    fn regions() -> impl Strategy<Value = Region> {
        (0usize..50, 0usize..50, 1usize..50, 1usize..50).prop_map(|(x, y, w, h)| Region::new(x, y, w, h))
    }

    proptest! {
        #[test]
        fn an_intersection_has_what_both_have(a in regions(), b in regions()) {
            let has = |r: Region, x: usize, y: usize| (r.x..r.x + r.width).contains(&x) && (r.y..r.y + r.height).contains(&y);
            let common = a.intersection(b);
            for y in 0..100 {
                for x in 0..100 {
                    prop_assert_eq!(common.is_some_and(|c| has(c, x, y)), has(a, x, y) && has(b, x, y));
                }
            }
            prop_assert_eq!(a.to_string().parse::<Region>().unwrap(), a);
        }
    }
}
