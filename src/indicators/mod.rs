//! What is plainly wrong with a picture, from its luma alone: black, frozen, blurred; and where a scene begins.
//!
//! Luma is that of [`Frame::luma`], 0 (black) to 1 (white), in 36 rows spread over the picture and their neighbours, so that
//! the cost grows with the width alone. What happens between those rows is not seen.
//!
//! | | definition | meaning |
//! |---|---|---|
//! | `black` | share of pixels with luma up to 0.10 | from 0.98 on the picture is black (both as ffmpeg's `blackdetect`) |
//! | `change` | mean absolute difference of luma from the picture that a still began with; none for the first | up to 0.001 (-60 dB, as `freezedetect`) nothing has changed |
//! | `frozen` | nanoseconds since that picture, 0 where this one differs | from a time on, 2 s by default, the picture is frozen |
//! | `sharpness` | variance of the Laplacian (4 neighbours) over the variance of luma; none where luma's standard deviation is under 0.02 | under 0.002 the picture is blurred |
//! | `scene` | number of the scene, from 0 | a cut: see [`Thumbnail::is_cut`] |
//!
//! The variance of the Laplacian is the usual sharpness without a reference (Pech-Pacheco et al., ICPR 2000); over that of
//! luma it does not depend on contrast. White noise has 20, one-pixel stripes 16. What rounding samples to their depth adds
//! to it is taken off, which would hide the blur of pictures with little contrast.

mod luma;
#[cfg(test)]
mod tests;

pub use luma::{Luma, Thumbnail};

use crate::frame::Frame;
use std::time::Duration;

/// Share of black pixels from which on a picture is black.
pub const BLACK: f64 = 0.98;
/// Mean absolute difference up to which a picture has not changed.
pub const STILL: f64 = 0.001;
/// Sharpness under which a picture is blurred.
pub const BLURRED: f64 = 0.002;

/// What one picture shows, after those before it. The module says what each means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Indicators {
    pub black: f64,
    pub change: Option<f64>,
    /// Nanoseconds.
    pub frozen: u64,
    pub sharpness: Option<f64>,
    pub scene: u64,
}

/// Why quality is low.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reason {
    Black,
    Freeze,
    Blur,
    /// None that the indicators know.
    #[default]
    Quality,
}

impl Reason {
    const ALL: [Self; 4] = [Self::Black, Self::Freeze, Self::Blur, Self::Quality];

    /// As it stands in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Black => "black",
            Self::Freeze => "freeze",
            Self::Blur => "blur",
            Self::Quality => "quality",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl Indicators {
    /// Whether nearly everything is black.
    pub fn is_black(&self) -> bool {
        self.black >= BLACK
    }

    /// Whether the picture has stood still for that time.
    pub fn is_frozen(&self, time: Duration) -> bool {
        self.change.is_some_and(|change| change <= STILL) && u128::from(self.frozen) >= time.as_nanos()
    }

    /// Whether there are no sharp edges.
    pub fn is_blurred(&self) -> bool {
        self.sharpness.is_some_and(|sharpness| sharpness < BLURRED)
    }

    /// The plainest of what is wrong, where stills of that time are frozen.
    pub fn reason(&self, freeze_time: Duration) -> Reason {
        if self.is_black() {
            Reason::Black
        } else if self.is_frozen(freeze_time) {
            Reason::Freeze
        } else if self.is_blurred() {
            Reason::Blur
        } else {
            Reason::Quality
        }
    }
}

/// What has to be kept of a stream to know its pictures' indicators.
#[derive(Debug, Default)]
pub struct Watch {
    /// The picture that the present still began with, and when.
    still: Option<(Luma, Option<Duration>)>,
    /// Of the picture before.
    before: Option<Thumbnail>,
    scene: u64,
}

impl Watch {
    /// The indicators of the next picture, shown at `time`. A time before that of the still starts it anew.
    ///
    /// # Errors
    /// None that a valid frame can reach.
    pub fn look(&mut self, frame: &Frame, time: Option<Duration>) -> crate::Result<Indicators> {
        Ok(self.take(Luma::of(frame)?, time))
    }

    /// As [`look`](Self::look), of luma that was sampled elsewhere.
    pub fn take(&mut self, luma: Luma, time: Option<Duration>) -> Indicators {
        let thumbnail = luma.thumbnail();
        if self.before.replace(thumbnail).is_some_and(|before| thumbnail.is_cut(&before)) {
            self.scene += 1;
        }
        let change = self.still.as_ref().and_then(|(still, _)| luma.difference(still));
        let (black, sharpness) = (luma.black(), luma.sharpness());
        let since = self.still.as_ref().and_then(|(_, since)| *since);
        let elapsed = time.zip(since).map(|(time, since)| time.checked_sub(since));
        // Without times nothing is known to last, but a still goes on.
        let frozen = elapsed.unwrap_or(Some(Duration::ZERO)).filter(|_| change.is_some_and(|change| change <= STILL));
        if frozen.is_none() || since.is_none() {
            self.still = Some((luma, time));
        }
        let frozen = frozen.map_or(0, |frozen| u64::try_from(frozen.as_nanos()).unwrap_or(u64::MAX));
        Indicators { black, change, frozen, sharpness, scene: self.scene }
    }
}
