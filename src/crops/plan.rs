//! How many crops are taken of a frame, how they are placed, and of what.

use super::scales::Scales;
use super::{CROP, MAX_CROPS, positions};
use crate::{Error, Result};

/// How crops are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sampling {
    /// Spread evenly over the picture, each crop in the middle of its part of it; with [`Scales::NATIVE`] the outermost touch the
    /// picture's borders. The same in every frame.
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
    pub(super) crops: usize,
    pub(super) sampling: Sampling,
    pub(super) seed: u64,
    pub(super) scales: Scales,
    pub(super) display_height: usize,
    pub(super) square_pixels: bool,
}

/// Most rows that a picture may be displayed at.
pub const MAX_DISPLAY_HEIGHT: usize = 16_384;

impl CropPlan {
    /// `seed` matters to [`Sampling::Random`] alone.
    ///
    /// # Errors
    /// [`Error::Input`] unless `crops` is 1 to [`MAX_CROPS`].
    pub fn new(crops: usize, sampling: Sampling, seed: u64) -> Result<Self> {
        if !(1..=MAX_CROPS).contains(&crops) {
            return Err(Error::Input(format!("{crops} crops of a frame; 1 to {MAX_CROPS} are possible")));
        }
        let (scales, display_height, square_pixels) = (Scales::AUTO, 0, true);
        Ok(Self { crops, sampling, seed, scales, display_height, square_pixels })
    }

    /// With crops of these sizes of a picture; [`Scales::AUTO`] is the default.
    #[must_use]
    pub fn with_scales(self, scales: Scales) -> Self {
        Self { scales, ..self }
    }

    /// For pictures displayed at a height of so many rows, which a picture is scaled to before crops are taken; 0, the
    /// default, is a picture's own.
    ///
    /// # Errors
    /// [`Error::Input`] over [`MAX_DISPLAY_HEIGHT`].
    pub fn with_display_height(self, rows: usize) -> Result<Self> {
        if rows > MAX_DISPLAY_HEIGHT {
            return Err(Error::Input(format!(
                "display height {rows} is out of range, expected 0 (the picture's own) to {MAX_DISPLAY_HEIGHT}"
            )));
        }
        Ok(Self { display_height: rows, ..self })
    }

    /// Whether pictures whose pixels are not square are scaled to square ones, as a player does it; the default.
    #[must_use]
    pub fn with_square_pixels(self, square_pixels: bool) -> Self {
        Self { square_pixels, ..self }
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

    /// The sizes of a picture that crops are taken of.
    pub fn scales(&self) -> Scales {
        self.scales
    }

    /// Rows that pictures are displayed at; 0 for a picture's own.
    pub fn display_height(&self) -> usize {
        self.display_height
    }

    /// Whether pictures are scaled to square pixels.
    pub fn square_pixels(&self) -> bool {
        self.square_pixels
    }

    /// (left, top) of each crop in a picture of that size, in pixels, where all are taken of the picture's own size. Always
    /// [`CropPlan::crops`] of them; a side under [`CROP`] counts as [`CROP`]. Grid and centre places are distinct where the
    /// picture has room for it.
    pub fn positions(&self, width: usize, height: usize, frame_index: u64) -> Vec<(usize, usize)> {
        self.with_scales(Scales::NATIVE).positions_in((width, height), self.crops, 0, frame_index)
    }

    /// (left, top) of `crops` crops in a picture of that size, reduced by `2^level`.
    pub(super) fn positions_in(
        &self,
        (width, height): (usize, usize),
        crops: usize,
        level: u32,
        frame_index: u64,
    ) -> Vec<(usize, usize)> {
        let room = (width.saturating_sub(CROP), height.saturating_sub(CROP));
        // Random places differ from size to size.
        let seed = self.seed.wrapping_add(u64::from(level) << 32);
        match self.sampling {
            Sampling::Grid if self.scales == Scales::NATIVE => positions::grid(room, crops),
            Sampling::Grid => positions::cells(room, crops),
            Sampling::Random => positions::random(room, crops, seed, frame_index),
            Sampling::Center => positions::center(room, crops),
        }
    }
}
