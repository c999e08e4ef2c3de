//! Encodings that score above what they were made of.

use super::paired;
use super::rendition::Rendition;
use serde::Serialize;

/// Explanation printed after the encodings.
pub const MEANING: &str = "A no-reference score measures the picture, not its fidelity to the source: noise reduction, \
                           sharpening and higher contrast can raise it. For these encodings rely on VMAF, which compares \
                           with the reference.";

/// An encoding that scores above its reference.
#[derive(Debug, Serialize)]
pub struct Above<'a> {
    pub name: &'a str,
    /// Mean difference over time, in points on the 0-100 scale.
    pub by: f64,
    /// VMAF against the reference; `None` if it was not measured.
    pub vmaf: Option<f64>,
}

impl std::fmt::Display for Above<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} scores {:.2} above its reference", self.name, self.by)?;
        self.vmaf.map_or(Ok(()), |vmaf| write!(f, " (VMAF {vmaf:.2})"))
    }
}

/// Returns the encodings whose mean score exceeds the reference's by more than the statistical part of the interval, or at all
/// if the clip is too short for an interval. Empty if the first of `renditions` is not a reference.
pub fn above<'a>(renditions: &'a [Rendition], seed: u64) -> Vec<Above<'a>> {
    let Some((reference, others)) = renditions.split_first().filter(|(first, _)| first.source.reference) else {
        return Vec::new();
    };
    let above = |other: &'a Rendition| {
        let differences: Vec<f64> = reference.aligned(other).map(|(a, b)| b.score - a.score).collect();
        let found = paired::difference(&differences, reference.step().max(other.step()), seed);
        let vmaf = other.full_reference.map(|m| m.vmaf);
        (found.mean > found.statistical.unwrap_or(0.0)).then_some(Above { name: other.name(), by: found.mean, vmaf })
    };
    others.iter().filter_map(above).collect()
}
