//! The two-dimensional state-space block: project, convolve, scan in four orders, merge.

use super::config::Config;
use super::layers::{Layer, Linear, Norm, Prepared};
use super::parameters::{Init, Precision, Scope};
use crate::ops::{self, selective_scan::ScanOrders};
use candle_core::{Result, Tensor};
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// State size of the published networks.
const STATE: usize = 1;
/// Scan directions.
const DIRECTIONS: usize = 4;
/// Map sizes whose orders a block keeps.
const KEPT_ORDERS: usize = 4;

/// `op` of a block as far as the scan's result, with the norm before it.
#[derive(Debug)]
pub(super) struct Ss2d {
    in_proj: Prepared,
    conv2d: Tensor,
    x_proj: Prepared,
    scan: ScanWeights,
    gate: Option<Gate>,
    blocks: bool,
    rough: bool,
    window: Option<NonZeroUsize>,
    /// Orders of the map sizes seen last; a network sees one size for ever, training a few.
    orders: Mutex<Vec<(usize, usize, Arc<ScanOrders>)>>,
}

/// The scan's own parameters, packed once where they will not change.
#[derive(Debug)]
enum ScanWeights {
    Packed(Tensor),
    Separate { dt_weight: Tensor, dt_bias: Tensor, a_log: Tensor, skip: Tensor },
}

impl ScanWeights {
    fn packed(&self) -> Result<Tensor> {
        match self {
            Self::Packed(packed) => Ok(packed.clone()),
            Self::Separate { dt_weight, dt_bias, a_log, skip } => {
                ops::selective_scan::parameters(dt_weight, dt_bias, a_log, skip)
            }
        }
    }
}

impl Ss2d {
    /// The operation and the layer that follows it, which the block takes together with its MLP.
    pub(super) fn new(mut scope: Scope, width: usize, window: Option<usize>, norm: Norm) -> Result<(Self, Layer)> {
        let (d, r, precision) = (2 * width, Config::rank(width), scope.precision());
        let in_proj = Layer::new(Linear::without_bias(scope.pp("in_proj"), width, d)?).after_norm(norm);
        let conv2d = scope.pp("conv2d").get("weight", &[d, 1, 3, 3], Init::Uniform(1.0 / 3.0))?;
        let x_init = Init::Uniform(1.0 / (d as f64).sqrt());
        let x_proj = scope.factor("x_proj_weight", &[DIRECTIONS, r + 2 * STATE, d], x_init)?;
        let dt_init = Init::Uniform(1.0 / (r as f64).sqrt());
        let scan = ScanWeights::Separate {
            dt_weight: scope.get("dt_projs_weight", &[DIRECTIONS, d, r], dt_init)?,
            dt_bias: scope.get("dt_projs_bias", &[DIRECTIONS, d], Init::StepBias)?,
            a_log: scope.get("A_logs", &[DIRECTIONS * d, STATE], Init::Zeros)?, // A = -1: Mamba's start for state 1
            skip: scope.get("Ds", &[DIRECTIONS * d], Init::Ones)?,
        };
        let scan = if scope.trainable() { scan } else { ScanWeights::Packed(scan.packed()?) };
        let gate = if window.is_some() { Some(Gate::new(scope.pp("attn"), d)?) } else { None };
        let out_norm = Norm::new(scope.pp("out_norm"), d)?;
        let out_proj = Layer::new(Linear::without_bias(scope.pp("out_proj"), d, width)?).after_norm(out_norm);
        let op = Self {
            in_proj: in_proj.prepare(precision)?,
            conv2d,
            // One matrix (K (R + 2N), D) for all directions.
            x_proj: Layer::new(Linear::of(x_proj.flatten(0, 1)?)).prepare(precision)?,
            scan,
            blocks: gate.is_none() && precision != Precision::Exact,
            gate,
            rough: precision == Precision::Fast,
            window: window.and_then(NonZeroUsize::new),
            orders: Mutex::default(),
        };
        Ok((op, out_proj))
    }

    fn orders(&self, height: usize, width: usize) -> Arc<ScanOrders> {
        let mut kept = self.orders.lock();
        if let Some((_, _, orders)) = kept.iter().find(|(h, w, _)| (*h, *w) == (height, width)) {
            return Arc::clone(orders);
        }
        let orders = Arc::new(ScanOrders::new(height, width, self.window));
        kept.truncate(KEPT_ORDERS - 1);
        kept.insert(0, (height, width, Arc::clone(&orders)));
        orders
    }

    /// Whether the result is in the [blocks](ops::selective_scan_blocks) that the scan makes it in.
    pub(super) fn gives_blocks(&self) -> bool {
        self.blocks
    }

    /// `(B, H, W, C)` to `(B, H, W, D)`, or to blocks.
    pub(super) fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let (b, height, width, _) = tokens.dims4()?;
        let x = ops::depthwise_conv3x3(&self.in_proj.forward(tokens)?, &self.conv2d, true)?; // (B, H, W, D)
        let (l, d) = (height * width, x.dim(3)?);
        let x = x.reshape((b, l, d))?;
        // A token's projections do not depend on the order it is read in: one product for all directions, in pixel order.
        let projections = self.x_proj.forward(&x)?; // (B, L, K (R + 2N))
        let orders = self.orders(height, width);
        if self.blocks {
            return ops::selective_scan_blocks(&x, &projections, &self.scan.packed()?, &orders, self.rough);
        }
        let y = ops::selective_scan(&x, &projections, &self.scan.packed()?, &orders, STATE, self.gate.is_none())?;
        let y = match &self.gate {
            None => y,
            Some(gate) => ops::gated_merge(&y, &gate.forward(&y)?)?,
        };
        y.reshape((b, height, width, d))
    }
}

/// The channel gate of local scanning, one for a block, shared by its directions (`op.attn`).
#[derive(Debug)]
struct Gate {
    norm: Norm,
    global_reduce: Linear,
    channel_select: Linear,
}

impl Gate {
    fn new(mut scope: Scope, d: usize) -> Result<Self> {
        Ok(Self {
            norm: Norm::new(scope.pp("norm"), d)?,
            global_reduce: Linear::new(scope.pp("global_reduce"), d, d / 8)?,
            channel_select: Linear::new(scope.pp("channel_select"), d / 8, d)?,
        })
    }

    /// `(B, K, L, D)` to each direction's weights `(B, K, D)`, between 0 and 1.
    fn forward(&self, y: &Tensor) -> Result<Tensor> {
        let mean = ops::mean_tokens(&self.norm.forward(y)?)?;
        let select = self.channel_select.forward(&ops::gelu(&self.global_reduce.forward(&mean)?)?)?;
        // sigmoid(x) = (1 + tanh(x / 2)) / 2, which candle can differentiate
        (select * 0.5)?.tanh()?.affine(0.5, 0.5)
    }
}
