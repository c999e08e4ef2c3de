//! The GPU against the CPU: each operation, and scores of frames. Where there is no GPU they are skipped, and say why.

use candle_core::{DType, Device, Result, Tensor};
use qmambaiqa::crops::{CropPlan, Sampling};
use qmambaiqa::frame::{Colour, Frame, PixelFormat, Plane};
use qmambaiqa::model::parameters::Precision;
use qmambaiqa::ops::{self, selective_scan::ScanOrders};
use qmambaiqa::random::Random;
use qmambaiqa::{Options, Scorer, device};
use std::num::NonZeroUsize;
use std::sync::Arc;

/// The first GPU; `None`, with the reason printed, where none can be used.
fn gpu(test: &str) -> Option<Device> {
    device::open("cuda").map_err(|reason| println!("skipped {test}: {reason}")).ok()
}

/// Activations' types, and what a result may differ by: in `f32` by other exponentials and orders of sums, else by up to four
/// roundings.
const TYPES: [(DType, f64); 3] = [(DType::F32, 1e-5), (DType::F16, 2e-3), (DType::BF16, 1.6e-2)];

struct Operands {
    random: Random,
    gpu: Device,
    of: DType,
}

impl Operands {
    /// Noise as the type holds it: for the CPU in `f32`, for the GPU in `of`.
    fn activation(&mut self, shape: &[usize]) -> Result<[Tensor; 2]> {
        let [cpu, _] = self.parameter(shape)?;
        let low = cpu.to_dtype(self.of)?;
        Ok([low.to_dtype(DType::F32)?, low.to_device(&self.gpu)?])
    }

    /// Noise in `f32` on both.
    fn parameter(&mut self, shape: &[usize]) -> Result<[Tensor; 2]> {
        let values = (0..shape.iter().product()).map(|_| (2.0 * self.random.uniform() - 1.0) as f32);
        let cpu = Tensor::from_vec(values.collect::<Vec<f32>>(), shape, &Device::Cpu)?;
        let gpu = cpu.to_device(&self.gpu)?;
        Ok([cpu, gpu])
    }
}

fn check(name: &str, tolerance: f64, [cpu, gpu]: [Tensor; 2]) -> Result<()> {
    let gpu = gpu.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    let largest = |t: Tensor| t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
    let error = f64::from(largest((&cpu - gpu)?)? / largest(cpu)?.max(1e-3));
    println!("{name}: {error:.1e}");
    assert!(error <= tolerance, "{name}: {error:.1e} over {tolerance:.0e}"); // false for NaN
    Ok(())
}

#[test]
fn operations() {
    let Some(gpu) = gpu("operations") else { return };
    let run = || -> Result<()> {
        for (of, tolerance) in TYPES {
            let mut operands = Operands { random: Random::new(1, 0), gpu: gpu.clone(), of };
            for (batch, h, w, c) in [(1, 1, 1, 1), (2, 5, 7, 33), (3, 14, 14, 96), (64, 7, 7, 64)] {
                let name = |op: &str| format!("{op} {batch}x{h}x{w}x{c} {of:?}");
                let x = operands.activation(&[batch, h, w, c])?;
                let (weight, bias) = (operands.parameter(&[c])?, operands.parameter(&[c])?);
                let [a, b] = [0, 1].map(|i| ops::layer_norm(&x[i], &weight[i], &bias[i]));
                check(&name("layer_norm"), tolerance, [a?, b?])?;
                let taps = operands.parameter(&[c, 1, 3, 3])?;
                let [a, b] = [0, 1].map(|i| ops::depthwise_conv3x3(&x[i], &taps[i], true));
                check(&name("depthwise_conv3x3"), tolerance, [a?, b?])?;
                check(&name("gelu"), tolerance, [ops::gelu(&x[0])?, ops::gelu(&x[1])?])?;
                let tokens = x.each_ref().map(|x| x.reshape((batch, h * w, c)));
                let [x0, x1] = tokens;
                let x = [x0?, x1?];
                check(&name("mean_tokens"), tolerance, [ops::mean_tokens(&x[0])?, ops::mean_tokens(&x[1])?])?;
                for window in [0, 2] {
                    let orders = Arc::new(ScanOrders::new(h, w, NonZeroUsize::new(window)));
                    let rank = c.div_ceil(16);
                    let projections = operands.activation(&[batch, h * w, 4 * (rank + 2)])?;
                    let packed = operands.parameter(&[4, rank + 3, c])?;
                    for merge in [true, false] {
                        let scan =
                            |i: usize| ops::selective_scan(&x[i], &projections[i], &packed[i], &orders, 1, merge);
                        check(
                            &name(&format!("scan, window {window}, merge {merge}")),
                            tolerance,
                            [scan(0)?, scan(1)?],
                        )?;
                    }
                }
            }
        }
        Ok(())
    };
    run().unwrap();
}

#[test]
fn scores() {
    if gpu("scores").is_none() {
        return;
    }
    let open = |device: &str, style_prompt: &str| {
        let options = Options {
            device: device.into(),
            style_prompt: style_prompt.into(),
            precision: Precision::Exact,
            ..Options::default()
        };
        Scorer::open(&options).unwrap()
    };
    let (width, height) = (640, 360);
    let mut random = Random::new(2, 0);
    for style_prompt in ["none", "compression"] {
        let (cpu, gpu) = (open("cpu", style_prompt), open("cuda", style_prompt));
        println!("{}", gpu.device());
        for noise in [1, 32, 200] {
            let picture: Vec<u8> =
                (0..width * height * 3).map(|i| ((i / 7 % 256 + random.below(noise)) / 2) as u8).collect();
            let planes = [Plane::new(&picture, width * 3)];
            let frame = Frame::new(PixelFormat::Rgb, width, height, &planes, Colour::SRGB).unwrap();
            let plan = CropPlan::new(5, Sampling::Grid, 0).unwrap();
            let [a, b] = [&cpu, &gpu].map(|scorer| scorer.score(&frame, &plan, 0).unwrap().score);
            println!("noise {noise}, style prompt {style_prompt}: CPU {a:.4}, GPU {b:.4}");
            assert!((a - b).abs() < 0.01, "{a} {b}"); // of 100
        }
    }
}
