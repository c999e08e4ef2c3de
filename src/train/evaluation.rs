//! A model's scores against opinion scores.

use super::correlation::{krcc, logistic_fit, plcc, rmse, srcc};
use super::dataset::{Labels, read_image};
use crate::crops::CropPlan;
use crate::frame::{Colour, Frame, PixelFormat, Plane};
use crate::{Result, Score, Scorer};
use image::RgbImage;
use serde::{Deserialize, Serialize};

/// Scores a picture, 8-bit sRGB.
///
/// # Errors
/// As [`Scorer::score`].
pub fn score_picture(scorer: &Scorer, plan: &CropPlan, picture: &RgbImage) -> Result<Score> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let plane = Plane::new(picture.as_raw(), width * 3);
    scorer.score(&Frame::new(PixelFormat::Rgb, width, height, &[plane], Colour::SRGB)?, plan, 0)
}

/// How far scores agree with opinions; none where that cannot be said because one of them does not vary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Pictures.
    pub images: usize,
    /// Pearson's correlation of the network's outputs.
    pub plcc: Option<f64>,
    /// The same after the usual logistic fit.
    pub plcc_fitted: Option<f64>,
    /// Spearman's rank correlation.
    pub srcc: Option<f64>,
    /// Kendall's rank correlation.
    pub krcc: Option<f64>,
    /// Root mean square error in the unit of the opinions, scores 0 to 100 being mapped onto their range.
    pub rmse: Option<f64>,
    /// The same after the logistic fit.
    pub rmse_fitted: Option<f64>,
}

/// Scores the pictures of `rows` of a set, calling `progress` after each.
///
/// # Errors
/// A picture that cannot be read or scored.
pub fn evaluate(
    scorer: &Scorer,
    plan: &CropPlan,
    labels: &Labels,
    rows: &[usize],
    progress: impl Fn(),
) -> Result<Evaluation> {
    let mut scores = Vec::with_capacity(rows.len());
    for &row in rows {
        let path = labels.folder.join(&labels.rows[row].image);
        let score = score_picture(scorer, plan, &read_image(&path)?);
        scores.push(score.map_err(|e| crate::Error::Input(format!("{}: {e}", path.display())))?);
        progress();
    }
    let opinions: Vec<f64> = rows.iter().map(|&row| labels.rows[row].mos).collect();
    // Outputs may fall with quality; not clamped as scores are, which would tie the best and the worst.
    let (low, high) = scorer.description().range.unwrap_or((0.0, 1.0));
    let predictions: Vec<f64> = scores.iter().map(|score| (score.raw - low) / (high - low)).collect();
    let least = opinions.iter().copied().fold(f64::INFINITY, f64::min);
    let most = opinions.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mapped: Vec<f64> = scores.iter().map(|score| least + score.score / 100.0 * (most - least)).collect();
    let fitted = logistic_fit(&predictions, &opinions);
    let varies = |values: &[f64]| values.iter().any(|v| Some(v) != values.first());
    let both = varies(&predictions) && varies(&opinions);
    let finite = |value: f64| Some(value).filter(|v| v.is_finite());
    let correlation = |value: f64| finite(value).filter(|_| both);
    Ok(Evaluation {
        images: rows.len(),
        plcc: correlation(plcc(&predictions, &opinions)),
        plcc_fitted: correlation(plcc(&fitted, &opinions)),
        srcc: correlation(srcc(&predictions, &opinions)),
        krcc: correlation(krcc(&predictions, &opinions)),
        rmse: finite(rmse(&mapped, &opinions)),
        rmse_fitted: finite(rmse(&fitted, &opinions)),
    })
}
