//! The CUDA kernels against the CPU's operations: a host build (`kernels/host`) runs the same sources and the same launches
//! under the address sanitizer. A machine without a C++ compiler skips these tests and says so.

use candle_core::{Device, Result, Tensor, Var};
use half::{bf16, f16};
use qmambaiqa::crops::{CropPlan, Sampling};
use qmambaiqa::frame::{ChromaSite, Colour, Frame, Matrix, PixelFormat, Plane, Range};
use qmambaiqa::ops::kernels::crops::Inputs;
use qmambaiqa::ops::kernels::layers::{self, Activation, After, Maps};
use qmambaiqa::ops::kernels::{self, Type};
use qmambaiqa::ops::selective_scan::{ScanOrders, Sizes};
use qmambaiqa::ops::{self, selective_scan};
use qmambaiqa::random::Random;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

mod emulator;
use emulator::Emulator;

/// Type and largest relative error of one rounding to it.
const TYPES: [(Type, f64); 3] = [(Type::F32, 6e-8), (Type::F16, 4.9e-4), (Type::Bf16, 3.9e-3)];
/// Of `f32` results: both sides compute with `f32` in different orders and with other exponentials.
const F32: f64 = 3e-6;
/// Of gradients, which are longer sums.
const GRADIENT: f64 = 2e-5;

fn encode(values: &[f32], of: Type) -> Vec<u8> {
    match of {
        Type::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Type::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        Type::Bf16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
    }
}

fn decode(bytes: &[u8], of: Type) -> Vec<f32> {
    let pairs = || bytes.as_chunks::<2>().0.iter();
    match of {
        Type::F32 => bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Type::F16 => pairs().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
        Type::Bf16 => pairs().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
    }
}

/// Noise between -1 and 1, as a type holds it.
fn noise(shape: &[usize], of: Type, seed: u64) -> Tensor {
    let mut random = Random::new(seed, 0);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| (2.0 * random.uniform() - 1.0) as f32).collect();
    Tensor::from_vec(decode(&encode(&values, of), of), shape, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|t| t.to_vec1()).unwrap()
}

fn bytes(tensor: &Tensor, of: Type) -> Vec<u8> {
    encode(&values(tensor), of)
}

/// Largest difference in units of the largest expected value; infinite where a value is not a number.
fn difference(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let size = expected.iter().fold(1e-3f64, |s, &v| s.max(f64::from(v.abs())));
    let worst = got.iter().zip(expected).map(|(&a, &b)| f64::from((a - b).abs()));
    worst.fold(0.0, |w, d| if d.is_nan() { f64::INFINITY } else { w.max(d) }) / size
}

fn check(name: &str, got: &[u8], of: Type, expected: &Tensor, tolerance: f64) {
    let error = difference(&decode(got, of), &values(expected));
    assert!(error <= tolerance, "{name}: {error:.1e} over {tolerance:.1e}");
}

/// The gradients of `f`'s sum weighted by `grad`, one for each operand.
fn gradients(operands: &[&Tensor], grad: &Tensor, f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Tensor> {
    let variables: Vec<Var> = operands.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let inputs: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
    let grads = (f(&inputs).unwrap() * grad).unwrap().sum_all().unwrap().backward().unwrap();
    inputs.iter().map(|input| grads.get(input).unwrap().clone()).collect()
}

/// (height, width, window): one pixel, one row, ragged, windows that divide and that do not, over one tile of 64 and over several.
const MAPS: [(usize, usize, usize); 8] =
    [(1, 1, 0), (1, 1, 3), (1, 9, 0), (7, 1, 2), (5, 7, 3), (8, 8, 0), (14, 14, 7), (9, 15, 2)];

#[test]
fn scan() {
    let Some(mut emulator) = Emulator::new("scan") else { return };
    let mut cases = 0;
    for (i, (height, width, window)) in MAPS.into_iter().enumerate() {
        let orders = Arc::new(ScanOrders::new(height, width, NonZeroUsize::new(window)));
        let tables: Vec<u8> = orders.tables().iter().flatten().flat_map(|entry| entry.to_le_bytes()).collect();
        let (tokens, length) = (height * width, orders.tables()[0].len());
        for (channels, rank) in [(1, 1), (33, 2), (64, 5)] {
            // Index arithmetic does not depend on the type: all of them on two maps.
            for (of, rounding) in TYPES.into_iter().take(if i % 4 == 3 { 3 } else { 1 }) {
                let batch = 1 + i % 2;
                let x = noise(&[batch, tokens, channels], of, 1);
                let projections = noise(&[batch, tokens, 4 * (rank + 2)], of, 2);
                let parameters = noise(&[4, rank + 3, channels], Type::F32, 3);
                let inputs = [bytes(&x, of), bytes(&projections, of), bytes(&parameters, Type::F32), tables.clone()];
                for merge in [true, false] {
                    let sizes = Sizes { batch, tokens, channels, directions: 4, rank, state: 1, merge };
                    let expected = ops::selective_scan(&x, &projections, &parameters, &orders, 1, merge).unwrap();
                    // A GPU so small that directions are scanned in turn, and one with room for all.
                    for multiprocessors in [0, 100] {
                        let program = kernels::scan::forward(sizes, of, length, multiprocessors).unwrap();
                        let got = emulator.run(&program, &inputs);
                        // Merged, y is rounded once for each direction.
                        let tolerance = F32 + rounding * if merge { 4.0 } else { 1.0 };
                        let name = format!(
                            "{height}x{width} window {window} D {channels} R {rank} {of:?} merge {merge} {multiprocessors}"
                        );
                        check(&name, &got[0], of, &expected, tolerance);
                        cases += 1;
                    }
                }
            }
        }
    }
    println!("selective scan: {cases} cases");
}

#[test]
fn scan_backward() {
    let Some(mut emulator) = Emulator::new("scan_backward") else { return };
    for (height, width, window) in [MAPS[0], MAPS[3], MAPS[4], MAPS[7]] {
        let orders = Arc::new(ScanOrders::new(height, width, NonZeroUsize::new(window)));
        let tables: Vec<u8> = orders.tables().iter().flatten().flat_map(|entry| entry.to_le_bytes()).collect();
        let (tokens, length) = (height * width, orders.tables()[0].len());
        for (batch, channels, rank, merge) in [(1, 1, 1, true), (2, 33, 2, true), (1, 40, 9, false)] {
            let x = noise(&[batch, tokens, channels], Type::F32, 1);
            let projections = noise(&[batch, tokens, 4 * (rank + 2)], Type::F32, 2);
            let parameters = noise(&[4, rank + 3, channels], Type::F32, 3);
            let shape = [batch, if merge { 1 } else { 4 }, tokens, channels];
            let grad = noise(&shape, Type::F32, 4);
            let inputs =
                [bytes(&x, Type::F32), bytes(&projections, Type::F32), bytes(&parameters, Type::F32), tables.clone()];
            let inputs = inputs.into_iter().chain([bytes(&grad, Type::F32)]).collect::<Vec<_>>();
            let expected = gradients(&[&x, &projections, &parameters], &grad, |t| {
                selective_scan::selective_scan(&t[0], &t[1], &t[2], &orders, 1, merge)?.reshape(&shape)
            });
            let sizes = Sizes { batch, tokens, channels, directions: 4, rank, state: 1, merge };
            let got = emulator.run(&kernels::scan::backward(sizes, length).unwrap(), &inputs);
            for (part, (got, expected)) in ["x", "projections", "parameters"].iter().zip(got.iter().zip(&expected)) {
                let name = format!("{height}x{width} window {window} D {channels} R {rank} merge {merge}: {part}");
                check(&name, got, Type::F32, expected, GRADIENT);
            }
        }
    }
}

#[test]
fn depthwise_convolution() {
    let Some(mut emulator) = Emulator::new("depthwise_convolution") else { return };
    for (batch, height, width, channels) in [(1, 1, 1, 1), (2, 1, 9, 3), (1, 5, 2, 33), (3, 3, 17, 40), (1, 10, 8, 64)]
    {
        let maps = Maps { batch, height, width, channels };
        let weight = noise(&[channels, 1, 3, 3], Type::F32, 2);
        for silu in [false, true] {
            let name = format!("{batch}x{height}x{width}x{channels} silu {silu}");
            for (of, rounding) in TYPES {
                let x = noise(&[batch, height, width, channels], of, 1);
                let expected = ops::depthwise_conv3x3(&x, &weight, silu).unwrap();
                let program = layers::depthwise_conv(of, maps, silu).unwrap();
                let got = emulator.run(&program, &[bytes(&x, of), bytes(&weight, Type::F32)]);
                check(&format!("{name} {of:?}"), &got[0], of, &expected, F32 + rounding);
            }
            let x = noise(&[batch, height, width, channels], Type::F32, 1);
            let grad = noise(x.dims(), Type::F32, 3);
            let expected = gradients(&[&x, &weight], &grad, |t| ops::depthwise_conv3x3(&t[0], &t[1], silu));
            let inputs = [&x, &weight, &grad].map(|t| bytes(t, Type::F32));
            let got = emulator.run(&layers::depthwise_conv_backward(maps, silu).unwrap(), &inputs);
            for (got, expected) in got.iter().zip(&expected) {
                check(&format!("gradient, {name}"), got, Type::F32, expected, GRADIENT);
            }
        }
    }
}

#[test]
fn norms() {
    let Some(mut emulator) = Emulator::new("norms") else { return };
    for (rows, channels) in [(1, 1), (7, 2), (9, 33), (600, 24), (5, 384)] {
        let (weight, bias) = (noise(&[channels], Type::F32, 2), noise(&[channels], Type::F32, 3));
        let parameters = [&weight, &bias].map(|t| bytes(t, Type::F32));
        for (of, rounding) in TYPES {
            let (x, residual) = (noise(&[rows, channels], of, 1), noise(&[rows, channels], of, 4));
            let name = format!("{rows}x{channels} {of:?}");
            let expected = ops::layer_norm(&x, &weight, &bias).unwrap();
            let inputs = [&[bytes(&x, of)], &parameters[..]].concat();
            let got = emulator.run(&layers::layer_norm(of, rows, channels).unwrap(), &inputs);
            check(&name, &got[0], of, &expected, 2.0 * F32 + rounding);
            // The sum, rounded as the kernel rounds it, is what is normalised.
            let sum = decode(&bytes(&(&x + &residual).unwrap(), of), of);
            let sum = Tensor::from_vec(sum, x.shape(), &Device::Cpu).unwrap();
            let expected = ops::layer_norm(&sum, &weight, &bias).unwrap();
            let inputs = [&[bytes(&x, of), bytes(&residual, of)], &parameters[..]].concat();
            let got = emulator.run(&layers::add_layer_norm(of, rows, channels).unwrap(), &inputs);
            check(&format!("sum, {name}"), &got[0], of, &sum, 0.0);
            check(&format!("norm of sum, {name}"), &got[1], of, &expected, 2.0 * F32 + rounding);
            // After a product: its bias first, GELU last, and nothing rounded in between.
            let shift = noise(&[channels], of, 6);
            let normal = ops::layer_norm(&x.broadcast_add(&shift).unwrap(), &weight, &bias).unwrap();
            for gelu in [false, true] {
                let expected = if gelu { ops::gelu(&normal).unwrap() } else { normal.clone() };
                let inputs = [&[bytes(&x, of), bytes(&shift, of)], &parameters[..]].concat();
                let got = emulator.run(&layers::shifted_norm(of, rows, channels, gelu).unwrap(), &inputs);
                check(&format!("shifted norm, GELU {gelu}, {name}"), &got[0], of, &expected, 2.0 * F32 + rounding);
            }
        }
        let x = noise(&[rows, channels], Type::F32, 1);
        let grad = noise(&[rows, channels], Type::F32, 5);
        let expected = gradients(&[&x, &weight, &bias], &grad, |t| ops::layer_norm(&t[0], &t[1], &t[2]));
        let inputs = [&x, &weight, &grad].map(|t| bytes(t, Type::F32));
        let got = emulator.run(&layers::layer_norm_backward(rows, channels).unwrap(), &inputs);
        let parameters = Tensor::cat(&[&expected[1], &expected[2]], 0).unwrap();
        check(&format!("gradient of x, {rows}x{channels}"), &got[0], Type::F32, &expected[0], GRADIENT);
        check(&format!("gradients of weight and bias, {rows}x{channels}"), &got[1], Type::F32, &parameters, GRADIENT);
        for (of, _) in TYPES {
            let grad = noise(&[rows, channels], of, 5);
            let got = emulator.run(&layers::bias_gradient(of, rows, channels).unwrap(), &[bytes(&grad, of)]);
            let name = format!("gradient of a product's bias, {rows}x{channels} {of:?}");
            check(&name, &got[0], Type::F32, &grad.sum(0).unwrap(), GRADIENT);
        }
    }
}

#[test]
fn pointwise_and_sums() {
    let Some(mut emulator) = Emulator::new("pointwise_and_sums") else { return };
    for (of, rounding) in TYPES {
        for count in [1, 255, 256, 1000] {
            let (x, grad) = ((noise(&[count], of, 1) * 4.0).unwrap(), noise(&[count], of, 2));
            for (activation, f) in
                [(Activation::Gelu, ops::gelu as fn(&Tensor) -> Result<Tensor>), (Activation::Silu, ops::silu)]
            {
                let name = format!("{activation:?} {count} {of:?}");
                let got = emulator.run(&layers::activation(activation, of, count).unwrap(), &[bytes(&x, of)]);
                check(&name, &got[0], of, &f(&x).unwrap(), F32 + rounding);
                let expected = gradients(&[&x], &grad, |t| f(&t[0]));
                let program = layers::activation_backward(activation, of, count).unwrap();
                let got = emulator.run(&program, &[bytes(&x, of), bytes(&grad, of)]);
                check(&format!("gradient, {name}"), &got[0], of, &expected[0], F32 + rounding);
            }
        }
        // Packs, and what is in none.
        for (rows, channels) in [(1, 1), (5, 33), (7, 8), (3, 104)] {
            let [x, residual] = [1, 2].map(|seed| noise(&[rows, channels], of, seed));
            let bias = noise(&[channels], of, 3);
            let sum = x.broadcast_add(&bias).unwrap();
            for (after, expected) in [
                (After::Bias, sum.clone()),
                (After::Gelu, ops::gelu(&sum).unwrap()),
                (After::Add, (&residual + &sum).unwrap()),
            ] {
                let program = layers::finish_product(of, rows, channels, after).unwrap();
                let inputs = [&x, &bias, &residual].map(|t| bytes(t, of));
                let got = emulator.run(&program, &inputs[..program.inputs()]);
                check(&format!("{after:?} {rows}x{channels} {of:?}"), &got[0], of, &expected, F32 + rounding);
            }
        }
        for (batch, tokens, channels) in [(1, 1, 1), (2, 9, 33), (3, 20, 8)] {
            let name = format!("{batch}x{tokens}x{channels} {of:?}");
            let x = noise(&[batch, tokens, channels], of, 1);
            for places in [1, tokens] {
                let [gamma, beta] = [2, 3].map(|seed| noise(&[batch, places, channels], of, seed));
                let expected = ops::modulate(&x, &gamma, &beta).unwrap();
                let program = layers::modulate(of, batch, tokens, places, channels).unwrap();
                let got = emulator.run(&program, &[&x, &gamma, &beta].map(|t| bytes(t, of)));
                check(&format!("modulate {name}"), &got[0], of, &expected, F32 + rounding);
            }
            let got = emulator.run(&layers::mean_tokens(of, batch, tokens, channels).unwrap(), &[bytes(&x, of)]);
            check(&format!("mean {name}"), &got[0], of, &ops::mean_tokens(&x).unwrap(), F32 + rounding);
            let y = noise(&[batch, 4, tokens, channels], of, 4);
            let gate = noise(&[batch, 4, channels], of, 5);
            let program = layers::gated_merge(of, batch, 4, tokens, channels).unwrap();
            let got = emulator.run(&program, &[bytes(&y, of), bytes(&gate, of)]);
            check(&format!("gate {name}"), &got[0], of, &ops::gated_merge(&y, &gate).unwrap(), F32 + rounding);
        }
        for (batch, height, width, channels) in [(1, 1, 1, 1), (2, 5, 4, 3), (1, 6, 7, 10), (2, 3, 4, 16)] {
            for stride in [1, 2] {
                let x = noise(&[batch, height, width, channels], of, 1);
                // The identity for a matrix leaves the patches as they are.
                let matrix = Tensor::eye(9 * channels, candle_core::DType::F32, &Device::Cpu).unwrap();
                let zero = Tensor::zeros(9 * channels, candle_core::DType::F32, &Device::Cpu).unwrap();
                let expected = ops::conv3x3(&x, &matrix, &zero, stride).unwrap();
                let maps = Maps { batch, height, width, channels };
                let got = emulator.run(&layers::im2col(of, maps, stride).unwrap(), &[bytes(&x, of)]);
                let name = format!("im2col {batch}x{height}x{width}x{channels} stride {stride}");
                check(&format!("{name} {of:?}"), &got[0], of, &expected, 0.0);
                if of == Type::F32 {
                    let grad = noise(expected.dims(), of, 2);
                    let gradient = gradients(&[&x], &grad, |t| ops::conv3x3(&t[0], &matrix, &zero, stride));
                    let program = layers::im2col_backward(maps, stride).unwrap();
                    let got = emulator.run(&program, &[bytes(&grad, of)]);
                    check(&format!("gradient of {name}"), &got[0], of, &gradient[0], F32);
                }
            }
        }
    }
}

#[test]
fn crops_have_the_bits_of_the_cpu() {
    let Some(mut emulator) = Emulator::new("crops") else { return };
    let sites = [ChromaSite::MPEG2, ChromaSite::JPEG, ChromaSite::COSITED];
    let formats = [PixelFormat::I420, PixelFormat::Yv12, PixelFormat::Nv12, PixelFormat::Nv21, PixelFormat::P01010le];
    const CROPS: usize = 3;
    let mut random = Random::new(5, 0);
    // Small frames, and ones that are reduced by two and by four.
    let frames = [(243usize, 231usize), (907, 899)].into_iter().flat_map(|size| formats.map(|format| (size, format)));
    for (i, ((width, height), format)) in frames.enumerate() {
        let wide = if format == PixelFormat::P01010le { 2 } else { 1 };
        let interleaved = format.planes() == 2;
        let chroma = width.div_ceil(2) * wide * if interleaved { 2 } else { 1 };
        let sizes = [(width * wide, height), (chroma, height.div_ceil(2)), (chroma, height.div_ceil(2))];
        let planes: Vec<Vec<u8>> = sizes[..format.planes()]
            .iter()
            .map(|(row, rows)| (0..(row + 3) * rows - 3).map(|_| random.below(256) as u8).collect())
            .collect();
        let planes: Vec<Plane> = planes.iter().zip(sizes).map(|(data, (row, _))| Plane::new(data, row + 3)).collect();
        let range = if i % 2 == 0 { Range::Limited } else { Range::Full };
        for (interlaced, site) in [false, true].into_iter().zip([sites[i % 3], sites[(i + 1) % 3]]) {
            let colour = Colour::new(Matrix::Bt709, range, site);
            let frame = Frame::new(format, width, height, &planes, colour).unwrap();
            let frame = frame.interlaced(interlaced).with_crop(3, 1, width - 4, height - 2).unwrap();
            let plan = CropPlan::new(CROPS, Sampling::Random, 7).unwrap();
            let expected = plan.sample(&frame, 0).unwrap();
            let expected = Tensor::from_slice(&expected, expected.len(), &Device::Cpu).unwrap();
            let mut inputs = Inputs::default();
            let places = plan.places(&frame, 0).unwrap();
            let reductions: BTreeSet<usize> = places.iter().map(|place| place.reduction).collect();
            assert_eq!(reductions.len(), if height < 448 { 1 } else { 3 });
            for place in places {
                let window = frame.window(place.region).unwrap();
                let level = place.reduction.trailing_zeros();
                inputs.push(&window.frame().unwrap().planes420().unwrap(), level).unwrap();
            }
            let Inputs { bytes, places, constants } = inputs;
            let places = places.iter().flat_map(|v| v.to_le_bytes()).collect();
            let inputs = [bytes, places, encode(&constants, Type::F32)];
            for (of, rounding) in TYPES {
                let program = kernels::crops::crops(of, CROPS).unwrap();
                let got = emulator.run(&program, &inputs);
                let tolerance = if of == Type::F32 { 0.0 } else { rounding };
                check(&format!("{format} interlaced {interlaced} {site:?} {of:?}"), &got[0], of, &expected, tolerance);
            }
        }
    }
}

#[test]
fn sizes_that_no_gpu_takes_are_refused() {
    let sizes = Sizes { batch: 1, tokens: 4, channels: 32, directions: 4, rank: 65, state: 1, merge: true };
    let error = |sizes| kernels::scan::backward(sizes, 4).unwrap_err().to_string();
    assert!(kernels::scan::backward(Sizes { rank: 64, ..sizes }, 4).is_ok());
    assert!(error(Sizes { rank: 100, ..sizes }).contains("shared memory"), "{}", error(Sizes { rank: 100, ..sizes }));
    assert!(error(Sizes { batch: 70_000, ..sizes }).contains("smaller batch"));
    assert!(error(Sizes { state: 2, ..sizes }).contains("use the CPU"));
}
