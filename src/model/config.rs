//! The variants, as data.

use crate::crops::CROP;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// What distinguishes one network from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Blocks in each stage.
    pub depths: [usize; 4],
    /// Channels of the first stage; they double from stage to stage.
    pub width: usize,
    /// Side of the scan's windows in each stage; none for the cross scan.
    pub windows: Option<[usize; 4]>,
}

/// Ranges that a configuration read from a file must keep to, far beyond any published network.
const MAX_DEPTH: usize = 64;
const MAX_WIDTH: usize = 1024;
const MAX_WINDOW: usize = 56;

const LOCAL: Option<[usize; 4]> = Some([2, 2, 7, 7]);

const VARIANTS: [(&str, Config); 7] = [
    ("qmamba-nano", Config { depths: [1, 1, 4, 1], width: 32, windows: None }),
    ("qmamba-t", Config { depths: [2, 2, 4, 2], width: 96, windows: None }),
    ("qmamba-s", Config { depths: [2, 2, 15, 2], width: 96, windows: None }),
    ("qmamba-b", Config { depths: [2, 2, 15, 2], width: 128, windows: None }),
    ("lqmamba-t", Config { depths: [2, 2, 4, 2], width: 96, windows: LOCAL }),
    ("lqmamba-s", Config { depths: [2, 2, 15, 2], width: 96, windows: LOCAL }),
    ("lqmamba-b", Config { depths: [2, 2, 15, 2], width: 128, windows: LOCAL }),
];

impl Config {
    /// The configuration of a named variant.
    ///
    /// # Errors
    /// An unknown name; the message lists the known ones.
    pub fn named(name: &str) -> Result<Self> {
        VARIANTS.iter().find(|(known, _)| *known == name).map(|(_, config)| config.clone()).ok_or_else(|| {
            Error::Input(format!("unknown model `{name}`; known are {}", Self::names().collect::<Vec<_>>().join(", ")))
        })
    }

    /// The variants' names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        VARIANTS.iter().map(|(name, _)| *name)
    }

    /// The variant that has this configuration.
    pub fn name(&self) -> Option<&'static str> {
        VARIANTS.iter().find(|(_, config)| config == self).map(|(name, _)| *name)
    }

    /// Refuses what no network could be built from.
    ///
    /// # Errors
    /// Names the field and its limits.
    pub fn validate(&self) -> Result<()> {
        let wrong = |what: &str, max| Err(Error::Input(format!("model configuration: {what} must be 1 to {max}")));
        if self.depths.iter().any(|&d| d == 0 || d > MAX_DEPTH) {
            return wrong("each of depths", MAX_DEPTH);
        }
        if self.width < 2 || !self.width.is_multiple_of(2) || self.width > MAX_WIDTH {
            return wrong("width must be even and", MAX_WIDTH);
        }
        if self.windows.is_some_and(|w| w.iter().any(|&w| w == 0 || w > MAX_WINDOW)) {
            return wrong("each of windows", MAX_WINDOW);
        }
        Ok(())
    }

    /// Channels of each stage.
    pub fn widths(&self) -> [usize; 4] {
        [0, 1, 2, 3].map(|i| self.width << i)
    }

    /// Channels of the features that the head reads.
    pub fn features(&self) -> usize {
        self.width << 3
    }

    /// Rank of the step size's projection in a stage of `width` channels, `R`.
    pub fn rank(width: usize) -> usize {
        width.div_ceil(16)
    }

    /// Multiply-adds for one 224x224 crop, counted as fvcore does: one per multiply-add of projections and convolutions,
    /// `9 L D N + L D` per scan direction, and 5 per element that a block's LayerNorm normalises for the cross scan: what
    /// gives the paper's figures, which leave the other norms out, and for the local scan all of them.
    pub fn macs(&self) -> u64 {
        let norm = if self.windows.is_none() { 5 } else { 0 };
        let [c, ..] = self.widths();
        let (half, quarter) = (CROP / 2, CROP / 4);
        let mut macs = half * half * 9 * 3 * (c / 2);
        macs += quarter * quarter * 9 * (c / 2) * c;
        let mut side = quarter;
        for (i, (&depth, c)) in self.depths.iter().zip(self.widths()).enumerate() {
            let (l, d, r) = (side * side, 2 * c, Self::rank(c));
            let projections = c * d + 9 * d + 4 * (d * (r + 2) + r * d) + d * c + 8 * c * c;
            let mut block = l * (projections + 4 * 10 * d + norm * (2 * c + d));
            if let Some(windows) = self.windows {
                // The scan runs over the padded map; each direction has its gate.
                let padded = side.div_ceil(windows[i]) * windows[i];
                block += 4 * 10 * d * (padded * padded - l) + 4 * 2 * d * (d / 8);
            }
            macs += depth * block;
            if i < 3 {
                side = side.div_ceil(2);
                macs += side * side * 9 * c * 2 * c;
            }
        }
        (macs + self.features()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_the_papers() {
        let expected = [
            ("qmamba-t", 4.465),
            ("qmamba-s", 8.709),
            ("qmamba-b", 15.350),
            ("lqmamba-t", 4.447),
            ("lqmamba-s", 8.681),
            ("lqmamba-b", 15.318),
        ];
        for (name, giga) in expected {
            let macs = Config::named(name).unwrap().macs() as f64 / 1e9;
            println!("{name}: {macs:.3} G");
            assert!((macs - giga).abs() < 0.0015, "{name}: {macs}");
        }
        assert!(Config::named("qmamba-nano").unwrap().macs() < 600_000_000);
    }

    #[test]
    fn unknown_names_are_told_the_known_ones() {
        let message = Config::named("qmamba-x").unwrap_err().to_string();
        assert!(message.contains("qmamba-x") && message.contains("lqmamba-b"), "{message}");
    }

    #[test]
    fn absurd_configurations_are_refused() {
        let good = Config::named("lqmamba-t").unwrap();
        for bad in [
            Config { depths: [0, 1, 1, 1], ..good.clone() },
            Config { depths: [usize::MAX; 4], ..good.clone() },
            Config { width: 7, ..good.clone() },
            Config { width: 1 << 40, ..good.clone() },
            Config { windows: Some([0, 1, 1, 1]), ..good.clone() },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
        assert!(good.validate().is_ok());
    }
}
