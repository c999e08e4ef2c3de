//! Where crops are taken of a displayed picture: at which of its sizes, and at which place of that.

use super::scales::share_out;
use super::{CROP, CropPlan, size_with_shorter_side};
use crate::Result;
use crate::frame::{Frame, Region};

/// Where one crop is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// What the crop shows of the picture, in the picture's pixels, to a pixel.
    pub region: Region,
    /// By how much the displayed picture is reduced before the crop is taken: 1, 2, 4, ...
    pub reduction: usize,
    /// log2 of the reduced picture's shorter side over [`CROP`]: 0 where a crop is as high as the picture, 1 where it is half
    /// as high.
    pub scale: f64,
}

/// One size of a displayed picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// Exponent of the reduction.
    pub level: u32,
    /// (width, height) in pixels.
    pub size: (usize, usize),
    pub source: Source,
    /// Crops taken of it.
    pub crops: usize,
}

/// How a view is made of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The frame reduced by `2^level`.
    Reduced { level: u32 },
    /// That, resampled to the view's size.
    Resampled { level: u32 },
    /// The whole frame, enlarged to a shorter side of [`CROP`].
    Enlarged,
}

impl CropPlan {
    /// The sizes of a frame at which crops are taken, the largest first; each has a crop at least.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) where the displayed picture is too long for its height to be enlarged to [`CROP`].
    pub(super) fn views(&self, frame: &Frame) -> Result<Vec<View>> {
        let own = (frame.width(), frame.height());
        let displayed = frame.display_size(self.display_height, self.square_pixels)?;
        if displayed.0 < CROP || displayed.1 < CROP {
            let size = size_with_shorter_side(displayed.0, displayed.1, CROP)?;
            let source = if displayed == own { Source::Enlarged } else { source(own, size) };
            return Ok(vec![View { level: 0, size, source, crops: self.crops }]);
        }
        let levels = self.scales.of_picture(displayed.0.min(displayed.1));
        let shares = share_out(levels.len(), self.crops);
        let view = |(level, crops)| {
            let size = (displayed.0 >> level, displayed.1 >> level);
            let source = if displayed == own { Source::Reduced { level } } else { source(own, size) };
            View { level, size, source, crops }
        };
        Ok(levels.into_iter().zip(shares).map(view).filter(|view| view.crops > 0).collect())
    }

    /// Where the crops of a frame are taken, in the order of [`sample`](Self::sample).
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn places(&self, frame: &Frame, frame_index: u64) -> Result<Vec<Place>> {
        let own = (frame.width(), frame.height());
        let mut places = Vec::with_capacity(self.crops);
        for view in self.views(frame)? {
            places.extend(view.positions(self, frame_index).into_iter().map(|at| view.place(own, at)));
        }
        Ok(places)
    }
}

impl View {
    /// (left, top) of its crops.
    pub(super) fn positions(&self, plan: &CropPlan, frame_index: u64) -> Vec<(usize, usize)> {
        plan.positions_in(self.size, self.crops, self.level, frame_index)
    }

    /// The place of the crop at (`left`, `top`) of this view of a frame of size `own`.
    pub(super) fn place(&self, own: (usize, usize), (left, top): (usize, usize)) -> Place {
        let scale = (self.size.0.min(self.size.1) as f64 / CROP as f64).log2();
        let region = match self.source {
            Source::Reduced { level } => Region::new(left << level, top << level, CROP << level, CROP << level),
            Source::Resampled { .. } | Source::Enlarged => {
                let back = |at: usize, side: usize, scaled: usize| at * side / scaled;
                let (x, y) = (back(left, own.0, self.size.0), back(top, own.1, self.size.1));
                let end = (back(left + CROP, own.0, self.size.0), back(top + CROP, own.1, self.size.1));
                Region::new(x, y, (end.0 - x).max(1), (end.1 - y).max(1))
            }
        };
        Place { region, reduction: 1 << self.level, scale }
    }
}

/// How a view of that size is made of a frame of size `own`: by whole blocks where that gives the size, else from the least
/// reduction that is not smaller.
fn source(own: (usize, usize), size: (usize, usize)) -> Source {
    let reduced = |level: u32| (own.0 >> level, own.1 >> level);
    let holds = |level: &u32| reduced(*level).0 >= size.0 && reduced(*level).1 >= size.1;
    let level = (0..=crate::frame::MAX_LEVEL).rev().find(holds).unwrap_or(0);
    if own == (size.0 << level, size.1 << level) { Source::Reduced { level } } else { Source::Resampled { level } }
}
