//! What must hold before two renditions are compared.

use super::rendition::Rendition;
use anyhow::{Result, bail};

/// Lengths that differ by less are the same: a frame or two lost at an end.
const LENGTH_TOLERANCE: f64 = 0.2;
/// Thumbnails of one content agree far better at any bitrate worth comparing; those of two contents do not.
const SAME_CONTENT: f64 = 0.5;
/// Thumbnails with less contrast, in steps of 255, show nothing.
const CONTRAST: f64 = 2.0;

/// Checks that lengths and contents agree, and that no stream changes its size.
pub fn check(all: &[Rendition], shortest: bool) -> Result<()> {
    for r in all {
        let (width, height) = r.decoded;
        let began = (r.size.width as usize, r.size.height as usize);
        if !r.scaled && r.decoded != began {
            bail!("{}: the frame size changes from {} to {width}x{height}; expected one size", r.name(), r.size);
        }
    }
    let Some((first, rest)) = all.split_first() else { return Ok(()) };
    for other in rest {
        // One frame by itself has no length.
        if !shortest && (first.frames.len() == 1) != (other.frames.len() == 1) {
            let counts = (first.frames.len(), other.frames.len());
            bail!(
                "{} and {} have {} and {} scored frames; --shortest compares what both have",
                first.name(),
                other.name(),
                counts.0,
                counts.1
            );
        }
        let (a, b) = (first.length(), other.length());
        if !shortest && (a - b).abs() > LENGTH_TOLERANCE + first.step().max(other.step()) {
            bail!(
                "{} has {a:.2} s and {} has {b:.2} s; --shortest compares what both have",
                first.name(),
                other.name()
            );
        }
        check_content(first, other)?;
    }
    Ok(())
}

/// Frames at the same time show the same, as far as thumbnails tell.
fn check_content(first: &Rendition, second: &Rendition) -> Result<()> {
    let mut agreement: Vec<f64> =
        first.aligned(second).filter_map(|(a, b)| correlation(a.thumbnail.as_ref()?, b.thumbnail.as_ref()?)).collect();
    agreement.sort_by(f64::total_cmp);
    match agreement.get(agreement.len() / 2) {
        Some(&median) if median < SAME_CONTENT => bail!(
            "{} and {} do not show the same content at the same time (frames agree by {median:.2})",
            first.name(),
            second.name()
        ),
        _ => Ok(()),
    }
}

/// Pearson's; none where a picture is flat.
fn correlation(a: &[u8], b: &[u8]) -> Option<f64> {
    let n = a.len().min(b.len()) as f64;
    let mean = |v: &[u8]| v.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let (ma, mb) = (mean(a), mean(b));
    let (mut saa, mut sbb, mut sab) = (0.0, 0.0, 0.0);
    for (&x, &y) in a.iter().zip(b) {
        let (x, y) = (f64::from(x) - ma, f64::from(y) - mb);
        (saa, sbb, sab) = (saa + x * x, sbb + y * y, sab + x * y);
    }
    let contrast = |s: f64| (s / n).sqrt() > CONTRAST;
    (contrast(saa) && contrast(sbb)).then(|| sab / (saa * sbb).sqrt())
}
