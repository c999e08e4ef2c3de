//! What training minimises.

use super::augment::LEVELS;
use super::scales::{ScaleHeads, Size};
use super::settings::Settings;
use crate::model::Output;
use crate::ops;
use candle_core::{Device, Result, Tensor};

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
    /// The sizes of the pictures at which their crops were cut.
    pub sizes: Vec<Size>,
    /// The first pictures, which the teacher has seen.
    pub taught: usize,
    /// The teacher's features of those, flat, for the pooled features or for each token.
    pub features: Vec<f32>,
    /// How many of the pictures have distorted copies.
    pub distorted: usize,
}

/// What the loss reads of the targets, where the network is. Made before the network runs: a copy to a GPU waits for what it has been
/// asked before.
#[derive(Debug)]
pub(super) struct Labels {
    opinions: Tensor,
    /// `(crops, 1)`; none where there is one head.
    heads: Option<Tensor>,
    /// How much each crop takes of each knot of the head of scales, `(crops, K)`; `None` if no head of scales is trained.
    knots: Option<Tensor>,
    /// `1 / n` for the pictures whose crops are of their own size, 0 for the others, `(n,)`; there where there are knots.
    own_size: Option<Tensor>,
    /// Flat.
    features: Option<Tensor>,
    pairs: Option<Pairs>,
}

#[derive(Debug)]
struct Pairs {
    better: Tensor,
    worse: Tensor,
    margins: Tensor,
}

impl Labels {
    pub(super) fn new(
        targets: &Targets,
        s: &Settings,
        scale_heads: Option<&ScaleHeads>,
        device: &Device,
    ) -> Result<Self> {
        // Copies follow the pictures.
        let copied = || (0..targets.distorted).flat_map(|i| [i; LEVELS]);
        let crops = || (0..targets.scores.len()).chain(copied());
        let heads = if s.auxiliary.is_empty() {
            None
        } else {
            let heads = crops().map(|i| targets.heads[i] as u32).collect::<Vec<_>>();
            let count = heads.len();
            Some(Tensor::from_vec(heads, (count, 1), device)?)
        };
        let (mut knots, mut own_size) = (None, None);
        if let Some(head) = scale_heads {
            let scales: Vec<f64> = crops().map(|i| targets.sizes[i].scale).collect();
            knots = Some(head.knots(&scales, device)?);
            let share = 1.0 / targets.sizes.len() as f32;
            let of = |size: &Size| if size.level == 0 { share } else { 0.0 };
            own_size = Some(Tensor::from_iter(targets.sizes.iter().map(of), device)?);
        }
        let flat = |values: &[f32]| Tensor::from_slice(values, values.len(), device);
        let (better, worse, margins) = if s.rank_weight > 0.0 { pairs(targets) } else { Default::default() };
        let pairs = if better.is_empty() {
            None
        } else {
            let index = |of: Vec<u32>| Tensor::new(of, device);
            Some(Pairs { better: index(better)?, worse: index(worse)?, margins: flat(&margins)? })
        };
        let features = if targets.taught > 0 { Some(flat(&targets.features)?) } else { None };
        Ok(Self { opinions: flat(&targets.scores)?, heads, knots, own_size, features, pairs })
    }
}

/// A mean over the shard: the loss and its parts.
#[derive(Debug)]
pub(super) struct Loss {
    pub total: Tensor,
    /// Total, score, teacher, ranking: `(4,)`.
    pub parts: Tensor,
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
    /// One output for each auxiliary set; a scale and an offset for each where they are mapped.
    pub auxiliary: Option<PassingHead>,
}

impl PassingHeads {
    /// What each crop's own head says of it, `(crops,)`, where the network says `scores` of it.
    fn own_scores(&self, scores: &Tensor, features: &Tensor, labels: &Labels, s: &Settings) -> Result<Tensor> {
        let (Some(head), Some(heads)) = (&self.auxiliary, &labels.heads) else { return Ok(scores.clone()) };
        let scores = scores.unsqueeze(1)?;
        let others = if s.auxiliary_mapped {
            scores.broadcast_mul(&head.weight.t()?)?.broadcast_add(&head.bias)?
        } else {
            ops::linear(features, &head.weight, Some(&head.bias))?
        }; // (crops, auxiliary sets)
        Tensor::cat(&[&scores, &others], 1)?.gather(heads, 1)?.squeeze(1)
    }
}

/// Pseudo-Huber, smooth everywhere.
fn huber(difference: &Tensor) -> Result<Tensor> {
    (difference.sqr()? + HUBER * HUBER)?.sqrt()? - HUBER
}

/// Nothing here waits for a GPU.
pub(super) fn loss(
    output: &Output,
    targets: &Targets,
    labels: &Labels,
    scale_heads: Option<&ScaleHeads>,
    heads: &PassingHeads,
    s: &Settings,
) -> Result<Loss> {
    let n = targets.scores.len();
    let own = |scores: &Tensor| heads.own_scores(scores, &output.features, labels, s);
    let difference = |scores: &Tensor| scores.narrow(0, 0, n)? - &labels.opinions;
    let scores = match (scale_heads, &labels.knots) {
        (Some(head), Some(knots)) => own(&head.outputs(&output.features, knots)?)?,
        _ => own(&output.score)?,
    };
    let score = huber(&difference(&scores)?)?.mean_all()?;
    let mut total = score.clone();
    if let Some(share) = &labels.own_size {
        // The ordinary head learns beside it, of crops that it will be asked of.
        total = (total + (huber(&difference(&own(&output.score)?)?)? * share)?.sum_all()?)?;
    }
    let none = score.detach().zeros_like()?;
    let (mut teacher, mut ranking) = (none.clone(), none);
    if let (Some(head), Some(features), taught) = (&heads.teacher, &labels.features, targets.taught) {
        let whole = targets.features.len() == taught * head.bias.elem_count();
        let own = if whole { &output.features } else { &output.tokens };
        let own = (own.narrow(0, 0, taught)? * HEAD_INPUT)?;
        let predicted = ops::linear(&own, &head.weight, Some(&head.bias))?;
        let features = features.reshape(predicted.shape())?;
        // The mean over the shard, of which those that the teacher has not seen have no share.
        let mean = ((predicted - features)?.sqr()?.mean_all()? * (taught as f64 / n as f64))?;
        teacher = mean.detach();
        total = (total + (mean * s.teacher_weight)?)?;
    }
    if let Some(Pairs { better, worse, margins }) = &labels.pairs {
        let difference = (scores.index_select(better, 0)? - scores.index_select(worse, 0)?)?;
        let rank = (margins - difference)?.relu()?.mean_all()?;
        ranking = rank.detach();
        total = (total + (rank * s.rank_weight)?)?;
    }
    let parts = Tensor::stack(&[&total.detach(), &score.detach(), &teacher, &ranking], 0)?;
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
