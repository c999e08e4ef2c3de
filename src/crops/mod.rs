//! Which parts of a frame the network sees, and the batch that it gets of them.

mod bars;
mod batch;
mod positions;
mod regions;
mod resize;
#[cfg(test)]
mod tests;

pub use bars::{Bars, active};
pub(crate) use batch::Crop;
pub use batch::Crops;
pub use resize::{MAX_SCALED_PIXELS, resize, size_with_shorter_side};

use crate::frame::Frame;
use crate::{Error, Result};
use rayon::prelude::*;

pub use crate::model::CROP;
/// Most crops of one frame.
pub const MAX_CROPS: usize = 64;

/// Mean of ImageNet's pixels, R G B, with which the network was pretrained.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Their standard deviation.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Rows that one task converts.
const BAND: usize = 32;
const _: () = assert!(CROP.is_multiple_of(BAND));

/// How crops are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sampling {
    /// Spread evenly over the picture, the outermost touching its borders; the same in every frame.
    #[default]
    Grid,
    /// Uniformly at random, anew in every frame; repeatable by the seed.
    Random,
    /// The centre; more than one crop are a compact lattice of half crops around it, nearest first. The same in every frame.
    Center,
}

impl Sampling {
    /// Every way there is.
    pub const ALL: [Self; 3] = [Self::Grid, Self::Random, Self::Center];

    /// Its name in settings.
    pub fn nick(self) -> &'static str {
        match self {
            Self::Grid => "grid",
            Self::Random => "random",
            Self::Center => "center",
        }
    }
}

impl std::fmt::Display for Sampling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.nick())
    }
}

impl std::str::FromStr for Sampling {
    type Err = Error;

    fn from_str(nick: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|sampling| sampling.nick() == nick).ok_or_else(|| {
            let nicks = Self::ALL.map(Self::nick).join(", ");
            Error::Input(format!("no crop sampling {nick:?}; there are {nicks}"))
        })
    }
}

/// How many crops are taken of a frame, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropPlan {
    crops: usize,
    sampling: Sampling,
    seed: u64,
}

impl CropPlan {
    /// `seed` matters to [`Sampling::Random`] alone.
    ///
    /// # Errors
    /// [`Error::Input`] unless `crops` is 1 to [`MAX_CROPS`].
    pub fn new(crops: usize, sampling: Sampling, seed: u64) -> Result<Self> {
        if !(1..=MAX_CROPS).contains(&crops) {
            return Err(Error::Input(format!("{crops} crops of a frame; 1 to {MAX_CROPS} are possible")));
        }
        Ok(Self { crops, sampling, seed })
    }

    /// Crops of one frame.
    pub fn crops(&self) -> usize {
        self.crops
    }

    /// How they are placed.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// What random places repeat by.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// (left, top) of each crop in a picture of that size, in pixels. Always [`CropPlan::crops`] of them; a side under
    /// [`CROP`] counts as [`CROP`]. Grid and centre places are distinct where the picture has room for it.
    pub fn positions(&self, width: usize, height: usize, frame_index: u64) -> Vec<(usize, usize)> {
        let room = (width.saturating_sub(CROP), height.saturating_sub(CROP));
        match self.sampling {
            Sampling::Grid => positions::grid(room, self.crops),
            Sampling::Random => positions::random(room, self.crops, self.seed, frame_index),
            Sampling::Center => positions::center(room, self.crops),
        }
    }

    /// The network's input of a frame: (crops, [`CROP`], [`CROP`], RGB) row-major, normalised as [`normalise`] does it.
    /// `frame_index` is the frame's number, by which random places differ. Of a frame with a side under [`CROP`] the crops
    /// are taken after it is scaled up to a shorter side of [`CROP`], aspect kept.
    ///
    /// The result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`Error::Input`] where such a small frame is so long that it would have over [`MAX_SCALED_PIXELS`] pixels.
    pub fn sample(&self, frame: &Frame<'_>, frame_index: u64) -> Result<Vec<f32>> {
        let size = (frame.width(), frame.height());
        // Before the conversion, so that what cannot be scaled costs nothing.
        if regions::scaled(size.0, size.1)? == size {
            return self.batch(size, frame_index, |left, top, out| frame.rgb(left, top, CROP, BAND, out));
        }
        self.sample_rgb(&frame.to_rgb()?, size.0, size.1, frame_index)
    }

    /// As [`CropPlan::sample`], of an RGB picture (height, width, 3), 0 to 1, that is in memory already.
    ///
    /// # Errors
    /// As [`CropPlan::sample`], and where `rgb` is not of that size.
    pub fn sample_rgb(&self, rgb: &[f32], width: usize, height: usize, frame_index: u64) -> Result<Vec<f32>> {
        if width == 0 || height == 0 || width.checked_mul(height).and_then(|n| n.checked_mul(3)) != Some(rgb.len()) {
            return Err(Error::Input(format!("an RGB picture of {width}x{height} cannot have {} values", rgb.len())));
        }
        let size = regions::scaled(width, height)?;
        let scaled = if size == (width, height) { None } else { Some(resize(rgb, (width, height), size)?) };
        let rgb = scaled.as_deref().unwrap_or(rgb);
        self.batch(size, frame_index, |left, top, out| {
            let rows = rgb.chunks_exact(size.0 * 3).skip(top);
            for (out, row) in out.chunks_exact_mut(CROP * 3).zip(rows) {
                out.copy_from_slice(&row[left * 3..(left + CROP) * 3]);
            }
            Ok(())
        })
    }

    /// Fills every crop by bands: `fill(left, top, out)` gives [`BAND`] rows of [`CROP`] pixels from there.
    fn batch(
        &self,
        (width, height): (usize, usize),
        frame_index: u64,
        fill: impl Fn(usize, usize, &mut [f32]) -> Result<()> + Sync,
    ) -> Result<Vec<f32>> {
        const BANDS: usize = CROP / BAND;
        let positions = self.positions(width, height, frame_index);
        let mut batch = vec![0f32; positions.len() * CROP * CROP * 3];
        batch.par_chunks_mut(BAND * CROP * 3).enumerate().try_for_each(|(index, out)| {
            let (left, top) = positions[index / BANDS];
            fill(left, top + index % BANDS * BAND, out)?;
            normalise(out);
            Ok::<(), Error>(())
        })?;
        Ok(batch)
    }
}

/// `(value - MEAN) / STD` of RGB pixels from 0 to 1, in place, each value first rounded to 8 bits. A length that is no multiple
/// of 3 leaves the rest as it is.
///
/// Networks learn from pictures of 8 bits, whose rounding is a faint noise. Without it, as conversion from YUV gives values, flat
/// parts look smoothed to them: with style prompt `compression` up to eight points of 100 worse.
pub fn normalise(rgb: &mut [f32]) {
    /// 1.5 * 2^23: a sum with it has no room for fractions, which round to the nearest, ties to even.
    const ROUND: f32 = 12_582_912.0;
    let (pixels, _) = rgb.as_chunks_mut::<3>();
    for pixel in pixels {
        for ((value, mean), std) in pixel.iter_mut().zip(MEAN).zip(STD) {
            let steps = (*value * 255.0 + ROUND) - ROUND;
            *value = (steps / 255.0 - mean) / std;
        }
    }
}
