//! The fused layers against the operations that they stand for.

use super::*;
use crate::ops::check::{Fill, Noise, difference, values};
use crate::ops::selective_scan::BLOCK;
use crate::ops::{add, conv3x3, conv3x3_matrix, gelu, layer_norm, linear};

/// Errors of single products are near 1e-4 of a sum's size with 16 bits, 1e-2 with 8; the largest of some thousand is some
/// times that.
const TOLERANCES: [(Bits, f64); 2] = [(Bits::Sixteen, 2e-3), (Bits::Eight, 2e-1)];

struct Case {
    weight: Tensor,
    bias: Tensor,
    before: (Tensor, Tensor),
    after: (Tensor, Tensor),
}

fn norm((weight, bias): &(Tensor, Tensor)) -> Norm {
    Norm::new(weight, bias).unwrap()
}

#[test]
fn layers_agree_with_their_parts() {
    let mut worst = [0f64; 2];
    for (rows, inputs, outputs) in [(1, 1, 1), (5, 31, 33), (6, 32, 32), (49, 64, 65), (97, 200, 24), (300, 96, 192)] {
        let mut noise = Noise(rows as u64);
        let mut tensor = |shape: &[usize]| noise.tensor(shape, Fill::Noise);
        let case = Case {
            weight: tensor(&[outputs, inputs]),
            bias: tensor(&[outputs]),
            before: (tensor(&[inputs]), tensor(&[inputs])),
            after: (tensor(&[outputs]), tensor(&[outputs])),
        };
        let x = tensor(&[1, rows, inputs]);
        for (choice, (bits, tolerance)) in (0..8).flat_map(|choice| TOLERANCES.map(|bits| (choice, bits))) {
            let has = |bit: usize| choice >> bit & 1 == 1;
            let input = if has(0) { Input::Normalised(norm(&case.before)) } else { Input::Plain };
            let mut layer = Quantized::new(&case.weight, Some(&case.bias), input, bits).unwrap();
            let mut y = if has(0) { layer_norm(&x, &case.before.0, &case.before.1).unwrap() } else { x.clone() };
            y = linear(&y, &case.weight, Some(&case.bias)).unwrap();
            // A norm of one value is its bias, and of few values a division by what may be noise.
            if has(1) && outputs > 1 {
                layer = layer.with_norm(norm(&case.after)).unwrap();
                y = layer_norm(&y, &case.after.0, &case.after.1).unwrap();
            }
            if has(2) {
                (layer, y) = (layer.with_gelu(), gelu(&y).unwrap());
            }
            let got = Arc::new(layer).forward(&x).unwrap();
            let error = difference(&values(&got), &values(&y));
            worst[bits as usize] = worst[bits as usize].max(error);
            assert!(error < tolerance, "{rows} x {inputs} -> {outputs}, choice {choice:03b}, {bits:?}: {error:.1e}");
        }
    }
    println!("worst difference of a fused layer: {worst:.1?}");
}

/// Three layers in one pass against one after the other: to the bit, on any number of threads.
#[test]
fn tail_is_its_layers_to_the_bit() {
    for (rows, d, c, hidden) in [(1, 3, 2, 5), (49, 40, 33, 70), (301, 64, 32, 128)] {
        let mut noise = Noise(rows as u64 + 7);
        let mut tensor = |shape: &[usize]| noise.tensor(shape, Fill::Noise);
        let (norm_d, norm_c) = ((tensor(&[d]), tensor(&[d])), (tensor(&[c]), tensor(&[c])));
        let weights = [tensor(&[c, d]), tensor(&[hidden, c]), tensor(&[c, hidden])];
        let (y, residual) = (tensor(&[1, rows, d]), tensor(&[1, rows, c]));
        for bits in [Bits::Eight, Bits::Sixteen] {
            let layers = || {
                let inputs = [Input::Normalised(norm(&norm_d)), Input::Normalised(norm(&norm_c)), Input::Plain];
                let mut layers = weights.iter().zip(inputs);
                let mut next = || {
                    let (weight, input) = layers.next().unwrap();
                    Quantized::new(weight, None, input, bits).unwrap()
                };
                (next(), next().with_gelu(), next())
            };
            let (out, first, second) = layers();
            let x = add(&Arc::new(out).forward(&y).unwrap(), &residual).unwrap();
            let hidden = Arc::new(first).forward(&x).unwrap();
            let expected = values(&add(&Arc::new(second).forward(&hidden).unwrap(), &x).unwrap());
            let (out, first, second) = layers();
            let tail = Arc::new(Tail::new(out, first, second).unwrap());
            for threads in [1, 2, 5] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let got = values(&pool.install(|| tail.forward(&y, &residual, false)).unwrap());
                assert!(got.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{rows} rows, {bits:?}");
            }
            assert!(tail.forward(&residual, &y, false).is_err() || c == d);
            assert!(tail.forward(&y, &residual.narrow(1, 0, rows / 2).unwrap().contiguous().unwrap(), false).is_err());
            // The same rows in a scan's blocks.
            let count = d.div_ceil(BLOCK);
            let padded = y.pad_with_zeros(2, 0, count * BLOCK - d).unwrap();
            let blocks =
                padded.reshape((1, rows, count, BLOCK)).unwrap().transpose(1, 2).unwrap().contiguous().unwrap();
            let got = values(&tail.forward(&blocks, &residual, true).unwrap());
            assert!(got.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{rows} rows in blocks");
            assert!(tail.forward(&blocks, &residual, false).is_err() && tail.forward(&y, &residual, true).is_err());
            let (out, first, second) = layers();
            assert!(Tail::new(out, second, first).is_err(), "layers that do not fit");
        }
    }
}

#[test]
fn convolutions_agree_with_their_parts() {
    for (height, width, channels, outputs, stride) in
        [(1, 1, 1, 1, 2), (7, 5, 3, 16, 2), (8, 8, 16, 40, 2), (3, 9, 5, 7, 1)]
    {
        let mut noise = Noise(height as u64 + 1);
        let weight = noise.tensor(&[outputs, channels, 3, 3], Fill::Noise);
        let (bias, x) =
            (noise.tensor(&[outputs], Fill::Noise), noise.tensor(&[2, height, width, channels], Fill::Noise));
        let matrix = conv3x3_matrix(&weight).unwrap().contiguous().unwrap();
        let expected = conv3x3(&x, &matrix, &bias, stride).unwrap();
        for (bits, tolerance) in TOLERANCES {
            let layer = Arc::new(Quantized::new(&matrix, Some(&bias), Input::Patches(stride), bits).unwrap());
            let got = layer.forward(&x).unwrap();
            assert_eq!(got.dims(), expected.dims());
            let error = difference(&values(&got), &values(&expected));
            assert!(error < tolerance, "{height} x {width}, {bits:?}: {error:.1e}");
        }
    }
}

/// A row's result does not depend on those beside it, nor on the threads.
#[test]
fn rows_and_threads_change_no_bit() {
    let mut noise = Noise(3);
    let weight = noise.tensor(&[70, 100], Fill::Noise);
    let layer = Arc::new(Quantized::new(&weight, None, Input::Plain, Bits::Sixteen).unwrap());
    let x = noise.tensor(&[101, 100], Fill::Wild);
    let bits = |y: &Tensor| values(y).into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let all = bits(&layer.forward(&x).unwrap());
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert!(pool.install(|| bits(&layer.forward(&x).unwrap())) == all, "{threads} threads");
    }
    for row in [0, 1, 50, 100] {
        let one = layer.forward(&x.narrow(0, row, 1).unwrap().contiguous().unwrap()).unwrap();
        assert!(bits(&one) == all[row * 70..][..70], "row {row}");
    }
}

/// Bytes are kept as such where the CPU multiplies them faster, and in 16 bits elsewhere: with the same results.
#[test]
fn bytes_give_the_same_bits_however_they_are_kept() {
    let mut noise = Noise(5);
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
    let mut levels = Level::available();
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if levels.contains(&Level::Avx512) {
        amx::emulator::install_if_needed();
        levels.push(Level::Amx);
    }
    for (rows, inputs, outputs) in [(1, 1, 1), (7, 31, 33), (13, 96, 70), (49, 128, 64)] {
        let (weight, x) = (noise.tensor(&[outputs, inputs], Fill::Wild), noise.tensor(&[rows, inputs], Fill::Wild));
        let run = |level| {
            let layer = Quantized::at(level, &weight, None, Input::Plain, Bits::Eight).unwrap();
            values(&Arc::new(layer).forward(&x).unwrap()).into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let expected = run(Level::Portable);
        assert!(levels.iter().all(|&level| run(level) == expected), "{rows} x {inputs} -> {outputs}");
    }
}

#[test]
fn wrong_shapes_are_errors_and_what_is_not_finite_shows() {
    let mut noise = Noise(4);
    let mut tensor = |shape: &[usize]| noise.tensor(shape, Fill::Noise);
    let (weight, other) = (tensor(&[8, 16]), tensor(&[9]));
    assert!(Quantized::new(&weight, Some(&other), Input::Plain, Bits::Sixteen).is_err());
    assert!(Quantized::new(&weight, None, Input::Patches(2), Bits::Sixteen).is_err());
    assert!(
        Quantized::new(&weight, None, Input::Normalised(Norm::new(&other, &other).unwrap()), Bits::Sixteen).is_err()
    );
    let layer = Quantized::new(&weight, None, Input::Plain, Bits::Sixteen).unwrap();
    assert!(
        Quantized::new(&weight, None, Input::Plain, Bits::Sixteen)
            .unwrap()
            .with_norm(Norm::new(&other, &other).unwrap())
            .is_err()
    );
    let layer = Arc::new(layer);
    assert!(layer.forward(&tensor(&[3, 15])).is_err());
    let mut row = vec![1f32; 32];
    row[20] = f32::NAN;
    let y = layer.forward(&Tensor::from_vec(row, (2, 16), &candle_core::Device::Cpu).unwrap()).unwrap();
    let y = values(&y);
    assert!(y[..8].iter().all(|v| v.is_finite()) && y[8..].iter().all(|v| v.is_nan()));
}
