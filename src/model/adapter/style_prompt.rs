//! StylePrompt (paper, section 3.2): prompts, mixed by what the features are, shift the features' mean and variance.

use super::AdapterConfig;
use crate::model::layers::Linear;
use crate::model::parameters::{Init, Scope};
use crate::ops;
use candle_core::{Result, Tensor};

/// A small set of vectors or maps, mixed by the features: equation (1). (`prompts`, `select`)
#[derive(Debug)]
pub(super) struct Prompts {
    /// `(N, E)`, or `(N, E, H, W)` for maps; E = 256 in the paper.
    prompts: Tensor,
    select: Linear,
    size: (usize, usize),
}

impl Prompts {
    pub(super) fn new(mut scope: Scope, width: usize, config: &AdapterConfig, size: (usize, usize)) -> Result<Self> {
        let (count, channels) = (config.prompts, config.channels);
        let shape = if size == (1, 1) { vec![count, channels] } else { vec![count, channels, size.0, size.1] };
        let prompts = scope.get("prompts", &shape, Init::Normal(1.0))?;
        Ok(Self { prompts, select: Linear::new(scope.pp("select"), width, count)?, size })
    }

    /// The mixture for features `(B, H, W, C)`: `(B, E)`, or `(B, H, W, E)` of the prompts' own size.
    pub(super) fn mixed(&self, x: &Tensor) -> Result<Tensor> {
        let (b, h, w, c) = x.dims4()?;
        let mean = ops::mean_tokens(&x.reshape((b, h * w, c))?)?;
        let weights = softmax(&self.select.forward(&mean)?)?; // (B, N)
        if self.size == (1, 1) {
            return ops::linear(&weights, &self.prompts.t()?.contiguous()?, None);
        }
        let (h, w) = self.size;
        let rows = self.prompts.permute((2, 3, 1, 0))?.contiguous()?.flatten(0, 2)?; // (H W E, N)
        ops::linear(&weights, &rows, None)?.reshape((b, h, w, ()))
    }
}

/// Softmax over the last axis.
pub(super) fn softmax(x: &Tensor) -> Result<Tensor> {
    let last = x.rank() - 1;
    let weights = x.broadcast_sub(&x.max_keepdim(last)?)?.exp()?;
    weights.broadcast_div(&weights.sum_keepdim(last)?)
}

/// One stage's generator and injector.
#[derive(Debug)]
pub(super) struct StylePrompt {
    prompts: Prompts,
    conv: Tensor, // (E, E, 3, 3)
    conv_bias: Tensor,
    gamma: Linear,
    beta: Linear,
    size: (usize, usize),
}

impl StylePrompt {
    pub(super) fn new(mut scope: Scope, width: usize, config: &AdapterConfig, size: (usize, usize)) -> Result<Self> {
        let e = config.channels;
        let conv = Init::Normal((1.0 / (9 * e) as f64).sqrt());
        Ok(Self {
            prompts: Prompts::new(scope.reborrow(), width, config, size)?,
            conv: scope.pp("conv").get("weight", &[e, e, 3, 3], conv)?,
            conv_bias: scope.pp("conv").get("bias", &[e], Init::Zeros)?,
            gamma: Linear::with_init(scope.pp("gamma"), e, width, Init::Zeros)?,
            beta: Linear::with_init(scope.pp("beta"), e, width, Init::Zeros)?,
            size,
        })
    }

    /// Equations (2) to (4).
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, h, w, c) = x.dims4()?;
        let mixed = self.prompts.mixed(x)?;
        let styled = if self.size == (1, 1) {
            // On a 1x1 map only the centre of the convolution acts.
            let centre = self.conv.narrow(2, 1, 1)?.narrow(3, 1, 1)?.squeeze(3)?.squeeze(2)?.contiguous()?;
            ops::linear(&mixed, &centre, Some(&self.conv_bias))?.unsqueeze(1)?
        } else {
            let map = ops::conv3x3(&mixed, &ops::conv3x3_matrix(&self.conv)?, &self.conv_bias, 1)?;
            map.reshape((b, self.size.0 * self.size.1, ()))?
        };
        let fit = |affine: Tensor| if self.size == (1, 1) { Ok(affine) } else { resize(&affine, self.size, (h, w)) };
        let (gamma, beta) = (fit(self.gamma.forward(&styled)?)?, fit(self.beta.forward(&styled)?)?);
        ops::modulate(&x.reshape((b, h * w, c))?, &gamma, &beta)?.reshape((b, h, w, c))
    }
}

/// Maps `(B, H W, C)` to another height and width, bilinearly.
fn resize(x: &Tensor, from: (usize, usize), to: (usize, usize)) -> Result<Tensor> {
    if from == to {
        return Ok(x.clone());
    }
    let axis = |from: usize, to: usize| -> Vec<Vec<f32>> {
        let weights = |i: usize| {
            let p = ((i as f32 + 0.5) * from as f32 / to as f32 - 0.5).clamp(0.0, (from - 1) as f32);
            (0..from).map(|j| (1.0 - (p - j as f32).abs()).max(0.0)).collect()
        };
        (0..to).map(weights).collect()
    };
    let (rows, columns) = (axis(from.0, to.0), axis(from.1, to.1));
    let mut matrix = Vec::with_capacity(from.0 * from.1 * to.0 * to.1);
    for row in &rows {
        for column in &columns {
            matrix.extend(row.iter().flat_map(|r| column.iter().map(move |c| r * c)));
        }
    }
    let matrix = Tensor::from_vec(matrix, (to.0 * to.1, from.0 * from.1), x.device())?;
    ops::linear(&x.transpose(1, 2)?.contiguous()?, &matrix, None)?.transpose(1, 2)?.contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn maps_are_resized_as_everywhere() {
        let ramp: Vec<f32> = (0..4).map(|v| v as f32).collect();
        let x = Tensor::from_vec(ramp, (1, 4, 1), &Device::Cpu).unwrap(); // 2x2: 0 1 / 2 3
        let y = resize(&x, (2, 2), (4, 4)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // torch.nn.functional.interpolate(mode="bilinear", align_corners=False)
        let first = [0.0, 0.25, 0.75, 1.0];
        for (row, offset) in [0.0, 0.5, 1.5, 2.0].into_iter().enumerate() {
            for (column, value) in first.into_iter().enumerate() {
                assert!((y[row * 4 + column] - (value + offset)).abs() < 1e-6, "{row} {column}");
            }
        }
        let mean = resize(&x, (2, 2), (1, 1)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(mean, [1.5]);
    }
}
