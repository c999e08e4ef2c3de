//! A model's scores against opinion scores.

use super::correlation::{krcc, logistic_fit, plcc, rmse, srcc};
use super::dataset::{Labels, read_image};
use crate::crops::CropPlan;
use crate::frame::{Colour, Frame, PixelFormat, Plane};
use crate::{Result, Score, Scorer};
use image::RgbImage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Scores a picture, 8-bit sRGB.
///
/// # Errors
/// As [`Scorer::score`].
pub fn score_picture(scorer: &Scorer, plan: &CropPlan, picture: &RgbImage) -> Result<Score> {
    scorer.score(&frame(picture)?, plan, 0)
}

/// A picture, 8-bit sRGB, as a frame.
///
/// # Errors
/// An empty picture.
pub fn frame(picture: &RgbImage) -> Result<Frame<'_>> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    Frame::new(PixelFormat::Rgb, width, height, &[Plane::new(picture.as_raw(), width * 3)], Colour::SRGB)
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
pub fn predict(
    scorer: &Scorer,
    plan: &CropPlan,
    labels: &Labels,
    rows: &[usize],
    progress: impl Fn(),
) -> Result<Vec<Score>> {
    let mut scores = Vec::with_capacity(rows.len());
    for &row in rows {
        let path = labels.folder.join(&labels.rows[row].image);
        let score = score_picture(scorer, plan, &read_image(&path)?);
        scores.push(score.map_err(|e| crate::Error::Input(format!("{}: {e}", path.display())))?);
        progress();
    }
    Ok(scores)
}

impl Evaluation {
    /// Compares scores by `scorer` with as many opinions.
    pub fn new(scorer: &Scorer, scores: &[Score], opinions: &[f64]) -> Self {
        // Outputs may fall with quality; not clamped as scores are, which would tie the best and the worst.
        let (low, high) = scorer.description().range.unwrap_or((0.0, 1.0));
        let predictions: Vec<f64> = scores.iter().map(|score| (score.raw - low) / (high - low)).collect();
        let least = opinions.iter().copied().fold(f64::INFINITY, f64::min);
        let most = opinions.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mapped: Vec<f64> = scores.iter().map(|score| least + score.score / 100.0 * (most - least)).collect();
        let fitted = logistic_fit(&predictions, opinions);
        let varies = |values: &[f64]| values.iter().any(|v| Some(v) != values.first());
        let both = varies(&predictions) && varies(opinions);
        let finite = |value: f64| Some(value).filter(|v| v.is_finite());
        let correlation = |value: f64| finite(value).filter(|_| both);
        Self {
            images: scores.len(),
            plcc: correlation(plcc(&predictions, opinions)),
            plcc_fitted: correlation(plcc(&fitted, opinions)),
            srcc: correlation(srcc(&predictions, opinions)),
            krcc: correlation(krcc(&predictions, opinions)),
            rmse: finite(rmse(&mapped, opinions)),
            rmse_fitted: finite(rmse(&fitted, opinions)),
        }
    }
}

/// Agreement on the order within groups, such as one content through one encoder at several settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Within {
    /// The groups' common value in the last column, such as the encoder.
    pub value: String,
    /// Groups.
    pub groups: usize,
    /// Mean over groups of Kendall's rank correlation.
    pub krcc: f64,
    /// The lowest of them.
    pub least: f64,
}

/// Mean order within the groups of equal `keys`, by the keys' last entries. Groups whose opinions do not vary say nothing
/// and are left out; scores that do not vary count as no agreement.
pub fn within(keys: &[Vec<String>], scores: &[Score], opinions: &[f64], rising: bool) -> Vec<Within> {
    let mut groups: BTreeMap<&Vec<String>, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    for ((key, score), opinion) in keys.iter().zip(scores).zip(opinions) {
        let (predictions, own) = groups.entry(key).or_default();
        predictions.push(if rising { score.raw } else { -score.raw });
        own.push(*opinion);
    }
    let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (key, (predictions, opinions)) in groups {
        if opinions.iter().any(|o| Some(o) != opinions.first()) {
            let tau = krcc(&predictions, &opinions);
            all.entry(key.last().map_or("", String::as_str)).or_default().push(if tau.is_finite() { tau } else { 0.0 });
        }
    }
    let each = |(value, taus): (&str, Vec<f64>)| Within {
        value: value.to_owned(),
        groups: taus.len(),
        krcc: taus.iter().sum::<f64>() / taus.len() as f64,
        least: taus.iter().copied().fold(f64::INFINITY, f64::min),
    };
    all.into_iter().map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crops::Scales;

    #[test]
    fn order_is_judged_within_groups() {
        let score =
            |raw| Score { score: 0.0, raw, deviation: 0.0, confidence: f64::NAN, crops: 1, scales: Scales::NATIVE };
        let key = |content: &str, codec: &str| vec![content.to_owned(), codec.to_owned()];
        // Two contents, one codec in the right order and one with its last two changed; one group of equal opinions.
        let rows = [
            (key("a", "x"), 0.1, 1.0),
            (key("a", "x"), 0.2, 2.0),
            (key("a", "x"), 0.3, 3.0),
            (key("b", "x"), 5.1, 1.0),
            (key("b", "x"), 5.3, 2.0),
            (key("b", "x"), 5.2, 3.0),
            (key("a", "y"), 0.0, 4.0),
            (key("a", "y"), 0.5, 4.0),
        ];
        let keys: Vec<_> = rows.iter().map(|r| r.0.clone()).collect();
        let scores: Vec<_> = rows.iter().map(|r| score(r.1)).collect();
        let opinions: Vec<_> = rows.iter().map(|r| r.2).collect();
        let found = within(&keys, &scores, &opinions, true);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].value.as_str(), found[0].groups), ("x", 2));
        assert!((found[0].krcc - (1.0 + 1.0 / 3.0) / 2.0).abs() < 1e-12 && (found[0].least - 1.0 / 3.0).abs() < 1e-12);
        assert!(within(&keys, &scores, &opinions, false)[0].krcc < 0.0);
    }
}
