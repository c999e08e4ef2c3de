//! What training minimises.

use super::augment::LEVELS;
use super::settings::Settings;
use crate::model::Output;
use crate::ops;
use candle_core::{Result, Tensor};

/// Score differences under this count by their square, above it by their size.
const HUBER: f64 = 0.05;
/// By how much a picture must score above its distorted copy, and a mild copy above a severe one.
const DISTORTION_MARGIN: f32 = 0.1;
/// Pictures whose opinions differ by less are not ranked.
const RANKED_DIFFERENCE: f64 = 0.03;
/// Largest margin asked for between two pictures.
const RANK_MARGIN: f64 = 0.2;

/// What the teacher's head sees of the features: less makes its steps smaller beside the network's, and its errors calmer.
const HEAD_INPUT: f64 = 0.25;

/// The labels of one shard of a batch. Its crops are the pictures, then `LEVELS` distorted copies of the first ones.
#[derive(Debug)]
pub(super) struct Targets {
    /// Opinion scores of the pictures, 0 to 1.
    pub scores: Vec<f32>,
    /// The head that learns each: 0 is the network's, then those of auxiliary sets.
    pub heads: Vec<usize>,
    /// The first pictures, which the teacher has seen.
    pub taught: usize,
    /// The teacher's features of those, flat, for the pooled features or for each token.
    pub features: Vec<f32>,
    /// How many of the pictures have distorted copies.
    pub distorted: usize,
}

/// The loss and its parts, each a mean over the shard.
#[derive(Debug)]
pub(super) struct Loss {
    pub total: Tensor,
    /// Score, teacher, ranking.
    pub parts: [f64; 3],
}

/// A head that is there while training only.
#[derive(Debug, Clone)]
pub(super) struct PassingHead {
    pub weight: Tensor,
    pub bias: Tensor,
}

/// The heads beside the network's own.
#[derive(Debug, Default)]
pub(super) struct PassingHeads {
    /// Predicts the teacher's features.
    pub teacher: Option<PassingHead>,
    /// One output for each auxiliary set.
    pub auxiliary: Option<PassingHead>,
}

/// What each crop's own head says of it, `(crops,)`.
fn own_scores(output: &Output, targets: &Targets, auxiliary: Option<&PassingHead>) -> Result<Tensor> {
    let Some(head) = auxiliary else { return Ok(output.score.clone()) };
    let others = ops::linear(&output.features, &head.weight, Some(&head.bias))?; // (crops, auxiliary sets)
    let all = Tensor::cat(&[&output.score.unsqueeze(1)?, &others], 1)?;
    let copies = (0..targets.distorted).flat_map(|i| [i; LEVELS]);
    let heads: Vec<u32> = (0..targets.scores.len()).chain(copies).map(|i| targets.heads[i] as u32).collect();
    let count = heads.len();
    all.gather(&Tensor::from_vec(heads, (count, 1), all.device())?, 1)?.squeeze(1)
}

pub(super) fn loss(output: &Output, targets: &Targets, heads: &PassingHeads, s: &Settings) -> Result<Loss> {
    let n = targets.scores.len();
    let scores = own_scores(output, targets, heads.auxiliary.as_ref())?;
    let opinions = Tensor::from_slice(&targets.scores, n, scores.device())?;
    let difference = (scores.narrow(0, 0, n)? - opinions)?;
    // Pseudo-Huber, smooth everywhere.
    let score = ((difference.sqr()? + HUBER * HUBER)?.sqrt()? - HUBER)?.mean_all()?;
    let mut total = score.clone();
    let mut parts = [f64::from(score.to_scalar::<f32>()?), 0.0, 0.0];
    if let (Some(head), taught @ 1..) = (&heads.teacher, targets.taught) {
        let whole = targets.features.len() == taught * head.bias.elem_count();
        let own = if whole { &output.features } else { &output.tokens };
        let own = (own.narrow(0, 0, taught)? * HEAD_INPUT)?;
        let predicted = ops::linear(&own, &head.weight, Some(&head.bias))?;
        let features = Tensor::from_slice(&targets.features, predicted.shape(), predicted.device())?;
        // The mean over the shard, of which those that the teacher has not seen have no share.
        let mean = ((predicted - features)?.sqr()?.mean_all()? * (taught as f64 / n as f64))?;
        parts[1] = f64::from(mean.to_scalar::<f32>()?);
        total = (total + (mean * s.teacher_weight)?)?;
    }
    if s.rank_weight > 0.0 {
        let (better, worse, margins) = pairs(targets);
        if !better.is_empty() {
            let count = better.len();
            let pick = |i: Vec<u32>| scores.index_select(&Tensor::from_vec(i, count, scores.device())?, 0);
            let margins = Tensor::from_vec(margins, count, scores.device())?;
            let rank = (margins - (pick(better)? - pick(worse)?)?)?.relu()?.mean_all()?;
            parts[2] = f64::from(rank.to_scalar::<f32>()?);
            total = (total + (rank * s.rank_weight)?)?;
        }
    }
    Ok(Loss { total, parts })
}

/// (better, worse, margin) of every ordered pair that one head sees in the shard.
fn pairs(targets: &Targets) -> (Vec<u32>, Vec<u32>, Vec<f32>) {
    let n = targets.scores.len();
    let (mut better, mut worse, mut margins) = (Vec::new(), Vec::new(), Vec::new());
    let mut add = |b: usize, w: usize, margin: f32| {
        better.push(b as u32);
        worse.push(w as u32);
        margins.push(margin);
    };
    for (i, &a) in targets.scores.iter().enumerate() {
        for (j, &b) in targets.scores.iter().enumerate() {
            if targets.heads[i] == targets.heads[j] && f64::from(a - b) > RANKED_DIFFERENCE {
                add(i, j, f64::from(a - b).min(RANK_MARGIN) as f32);
            }
        }
    }
    for i in 0..targets.distorted {
        let first = n + i * LEVELS;
        add(i, first, DISTORTION_MARGIN);
        for level in 1..LEVELS {
            add(first + level - 1, first + level, DISTORTION_MARGIN);
        }
    }
    (better, worse, margins)
}
