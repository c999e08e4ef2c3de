//! Videos, decoded by GStreamer.

use anyhow::{Result, bail};
use qmambaiqa::crops::CropPlan;
use qmambaiqa::{Options, Score};
use std::path::Path;
use std::time::Duration;

/// Scores the frames of a video; `each` gets frame number, time in seconds, and score.
pub fn score(
    path: &Path,
    _options: &Options,
    _plan: &CropPlan,
    _interval: Duration,
    _each: &mut dyn FnMut(u64, Option<f64>, Score) -> Result<()>,
) -> Result<()> {
    bail!("{}: not a picture or Y4M stream", path.display())
}
