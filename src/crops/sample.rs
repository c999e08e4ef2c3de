//! The values of crops.

use super::places::{Place, Source, View};
use super::resize::{resample, resize};
use super::{CROP, CropPlan, normalise};
use crate::frame::{Frame, Region};
use crate::{Error, Result};
use rayon::prelude::*;

/// Rows that one task converts.
const BAND: usize = 32;
const _: () = assert!(CROP.is_multiple_of(BAND));

impl CropPlan {
    /// The network's input of a frame: (crops, [`CROP`], [`CROP`], RGB) row-major, normalised as [`normalise`] does it.
    /// `frame_index` is the frame's number, by which random places differ. Of a frame with a side under [`CROP`] the crops
    /// are taken after it is scaled up to a shorter side of [`CROP`], aspect kept.
    ///
    /// The result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`Error::Input`] where such a small frame is so long that it would have over [`MAX_SCALED_PIXELS`](super::MAX_SCALED_PIXELS) pixels, and
    /// where it cannot be displayed at the height that is asked for.
    pub fn sample(&self, frame: &Frame<'_>, frame_index: u64) -> Result<Vec<f32>> {
        let mut batch = Vec::new();
        self.sample_into(frame, frame_index, &mut batch, &mut Vec::new())?;
        Ok(batch)
    }

    /// Appends the crops of a frame, and their places.
    pub(super) fn sample_into(
        &self,
        frame: &Frame<'_>,
        frame_index: u64,
        batch: &mut Vec<f32>,
        places: &mut Vec<Place>,
    ) -> Result<()> {
        let own = (frame.width(), frame.height());
        for view in self.views(frame)? {
            let positions = view.positions(self, frame_index);
            places.extend(positions.iter().map(|&at| view.place(own, at)));
            let start = batch.len();
            batch.resize(start + positions.len() * CROP * CROP * 3, 0.0);
            fill(frame, &view, &positions, &mut batch[start..])?;
        }
        Ok(())
    }
}

/// Fills `batch` with a view's crops at `positions`.
fn fill(frame: &Frame, view: &View, positions: &[(usize, usize)], batch: &mut [f32]) -> Result<()> {
    match view.source {
        Source::Reduced { level } => {
            bands(positions, batch, |left, top, out| frame.reduced_rgb(level, Region::new(left, top, CROP, BAND), out))
        }
        Source::Enlarged => {
            let rgb = resize(&frame.to_rgb()?, (frame.width(), frame.height()), view.size)?;
            bands(positions, batch, |left, top, out| {
                let rows = rgb.chunks_exact(view.size.0 * 3).skip(top);
                for (out, row) in out.chunks_exact_mut(CROP * 3).zip(rows) {
                    out.copy_from_slice(&row[left * 3..(left + CROP) * 3]);
                }
                Ok(())
            })
        }
        Source::Resampled { level } => {
            let crops = batch.par_chunks_mut(CROP * CROP * 3).zip(positions);
            crops.into_par_iter().try_for_each(|(out, &(left, top))| {
                let part = Region::new(left, top, CROP, CROP);
                resample(frame, level, view.size, part, out)?;
                normalise(out);
                Ok(())
            })
        }
    }
}

/// Fills every crop by bands: `fill(left, top, out)` gives [`BAND`] rows of [`CROP`] pixels from there.
fn bands(
    positions: &[(usize, usize)],
    batch: &mut [f32],
    fill: impl Fn(usize, usize, &mut [f32]) -> Result<()> + Sync,
) -> Result<()> {
    const BANDS: usize = CROP / BAND;
    batch.par_chunks_mut(BAND * CROP * 3).enumerate().try_for_each(|(index, out)| {
        let (left, top) = positions[index / BANDS];
        fill(left, top + index % BANDS * BAND, out)?;
        normalise(out);
        Ok::<(), Error>(())
    })
}
