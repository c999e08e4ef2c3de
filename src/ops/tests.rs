//! Every operation against a plain statement of it, and its gradient against finite differences.

use super::check::{FILLS, Fill, Noise, difference, gradient_error, values};
use super::selective_scan::{ScanOrders, Sizes, reference};
use super::*;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Finite differences in f32 carry about 1e-3 of the largest gradient; a wrong term is far above.
const GRADIENT_TOLERANCE: f64 = 5e-3;

fn check_gradient(name: &str, operands: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let error = gradient_error(operands, f).expect(name);
    println!("gradient {name}: worst relative error {error:.1e}");
    assert!(error < GRADIENT_TOLERANCE, "{name}: {error}");
}

fn check_values(name: &str, got: &Tensor, expected: &[f32], tolerance: f64) {
    let error = difference(&values(got), expected);
    assert!(error < tolerance, "{name}: {error:.2e} over {tolerance:.0e}");
}

#[test]
fn activations() {
    for fill in FILLS {
        for n in [1, 15, 16, 17, 1000, 20_001] {
            let x = Noise(7).tensor(&[n], fill);
            let exact = |f: fn(f64) -> f64| values(&x).iter().map(|&v| f(f64::from(v)) as f32).collect::<Vec<_>>();
            let silu_exact = exact(|v| v / (1.0 + (-v).exp()));
            check_values(&format!("silu {fill:?} {n}"), &silu(&x).unwrap(), &silu_exact, 1e-6);
            let candle = values(&x.gelu_erf().unwrap());
            check_values(&format!("gelu {fill:?} {n}"), &gelu(&x).unwrap(), &candle, 1e-6);
        }
    }
    let x = (Noise(3).tensor(&[5, 33], Fill::Noise) * 4.0).unwrap();
    check_gradient("gelu", std::slice::from_ref(&x), |t| gelu(&t[0]));
    check_gradient("silu", &[x], |t| silu(&t[0]));
}

#[test]
fn layer_norms() {
    for fill in FILLS {
        for (rows, c) in [(1, 1), (3, 7), (2, 16), (5, 33), (600, 96)] {
            let mut noise = Noise(11);
            let x = noise.tensor(&[rows, c], fill);
            let (w, b) = (noise.tensor(&[c], Fill::Noise), noise.tensor(&[c], Fill::Noise));
            let (xs, ws, bs) = (values(&x), values(&w), values(&b));
            let mut expected = Vec::new();
            for row in xs.chunks(c) {
                let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / c as f64;
                let var = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / c as f64;
                let normal = row.iter().map(|&v| (f64::from(v) - mean) / (var + 1e-5).sqrt());
                expected.extend(
                    normal.zip(ws.iter().zip(&bs)).map(|(n, (&w, &b))| (n * f64::from(w) + f64::from(b)) as f32),
                );
            }
            check_values(&format!("layer_norm {fill:?} {rows}x{c}"), &layer_norm(&x, &w, &b).unwrap(), &expected, 2e-5);
        }
    }
    for c in [5, 32, 40] {
        let mut noise = Noise(5);
        let operands =
            [noise.tensor(&[2, 3, c], Fill::Noise), noise.tensor(&[c], Fill::Noise), noise.tensor(&[c], Fill::Noise)];
        check_gradient(&format!("layer_norm {c}"), &operands, |t| layer_norm(&t[0], &t[1], &t[2]));
    }
}

#[test]
fn convolutions() {
    for (h, w, c) in [(1, 1, 1), (1, 5, 3), (2, 2, 16), (3, 4, 17), (7, 6, 40)] {
        for stride in [1, 2] {
            let mut noise = Noise(13);
            let x = noise.tensor(&[2, h, w, c], Fill::Noise);
            let (weight, bias) = (noise.tensor(&[6, c, 3, 3], Fill::Noise), noise.tensor(&[6], Fill::Noise));
            let nchw = x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
            let candle = nchw.conv2d(&weight, 1, stride, 1, 1).unwrap().permute((0, 2, 3, 1)).unwrap();
            let candle = values(&candle.broadcast_add(&bias).unwrap());
            let name = format!("conv3x3 {h}x{w}x{c} stride {stride}");
            check_values(&name, &conv3x3(&x, &conv3x3_matrix(&weight).unwrap(), &bias, stride).unwrap(), &candle, 1e-5);
            check_gradient(&name, &[x, weight, bias], |t| conv3x3(&t[0], &conv3x3_matrix(&t[1])?, &t[2], stride));
        }
        let mut noise = Noise(17);
        let x = noise.tensor(&[2, h, w, c], Fill::Noise);
        let weight = noise.tensor(&[c, 1, 3, 3], Fill::Noise);
        let nchw = x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
        let candle = nchw.conv2d(&weight, 1, 1, 1, c).unwrap().permute((0, 2, 3, 1)).unwrap();
        let name = format!("depthwise {h}x{w}x{c}");
        check_values(&name, &depthwise_conv3x3(&x, &weight, false).unwrap(), &values(&candle), 1e-5);
        let with_silu = values(&candle.silu().unwrap());
        check_values(&name, &depthwise_conv3x3(&x, &weight, true).unwrap(), &with_silu, 1e-5);
        for silu in [false, true] {
            let operands = [x.clone(), weight.clone()];
            check_gradient(&format!("{name} silu {silu}"), &operands, |t| depthwise_conv3x3(&t[0], &t[1], silu));
        }
    }
}

#[test]
fn linears() {
    for (rows, inputs, outputs) in [(1, 1, 1), (1, 7, 5), (3, 2, 9), (5, 64, 1), (49, 33, 17), (700, 27, 16)] {
        for with_bias in [false, true] {
            let mut noise = Noise(19);
            let x = noise.tensor(&[rows, inputs], Fill::Noise);
            let (w, b) = (noise.tensor(&[outputs, inputs], Fill::Noise), noise.tensor(&[outputs], Fill::Noise));
            let bias = |t: &Tensor| with_bias.then(|| t.clone());
            let mut expected = x.matmul(&w.t().unwrap()).unwrap();
            if with_bias {
                expected = expected.broadcast_add(&b).unwrap();
            }
            let name = format!("linear {rows}x{inputs}x{outputs} bias {with_bias}");
            check_values(&name, &linear(&x, &w, bias(&b).as_ref()).unwrap(), &values(&expected), 1e-5);
            if rows < 100 {
                let operands = if with_bias { vec![x, w, b] } else { vec![x, w] };
                check_gradient(&name, &operands, |t| linear(&t[0], &t[1], t.get(2)));
            }
        }
    }
}

/// The operands of a scan over an `h * w` map.
fn scan_operands(b: usize, l: usize, d: usize, r: usize, n: usize, fill: Fill) -> [Tensor; 3] {
    let mut noise = Noise(23);
    [
        noise.tensor(&[b, l, d], fill),
        noise.tensor(&[b, l, 4 * (r + 2 * n)], Fill::Noise),
        noise.tensor(&[4, r + 2 + n, d], Fill::Noise),
    ]
}

/// (height, width, window): one pixel, one row, ragged, a window that divides, and windows that do not.
const MAPS: [(usize, usize, usize); 8] =
    [(1, 1, 0), (1, 1, 3), (1, 9, 0), (7, 1, 2), (5, 6, 0), (4, 6, 2), (5, 7, 3), (4, 4, 7)];

#[test]
fn scan_agrees_with_the_specification() {
    let mut worst = 0f64;
    for (h, w, window) in MAPS {
        let orders = Arc::new(ScanOrders::new(h, w, NonZeroUsize::new(window)));
        for (d, r) in [(1, 1), (16, 2), (31, 3), (32, 1), (40, 4), (96, 6)] {
            for (merge, fill) in [(true, Fill::Noise), (false, Fill::Noise), (true, Fill::Flat), (false, Fill::Wild)] {
                let sizes = Sizes { batch: 2, tokens: h * w, channels: d, directions: 4, rank: r, state: 1, merge };
                let [x, p, a] = scan_operands(2, h * w, d, r, 1, fill);
                let [xs, ps, ws] = [&x, &p, &a].map(values);
                let y = selective_scan(&x, &p, &a, &orders, 1, merge).unwrap();
                let expected = reference::forward(&xs, &ps, &ws, &orders, sizes);
                let name = format!("{h}x{w} window {window} D {d} R {r} merge {merge} {fill:?}");
                check_values(&name, &y, &expected, 2e-6);
                worst = worst.max(difference(&values(&y), &expected));
                if merge {
                    for (rough, tolerance) in [(false, 2e-6), (true, 2e-3)] {
                        let blocks = selective_scan_blocks(&x, &p, &a, &orders, rough).unwrap();
                        let blocks = blocks.transpose(1, 2).unwrap().reshape((2, h * w, ())).unwrap();
                        let blocks = blocks.narrow(2, 0, d).unwrap();
                        check_values(&format!("blocks, rough {rough}, {name}"), &blocks, &expected, tolerance);
                        assert!(rough || values(&blocks) == values(&y), "the same bits, {name}");
                    }
                }
                let vars = [&x, &p, &a].map(|t| candle_core::Var::from_tensor(t).unwrap());
                let y = selective_scan(&vars[0], &vars[1], &vars[2], &orders, 1, merge).unwrap();
                let g = Noise(31).tensor(y.dims(), Fill::Noise);
                let grads = (&y * &g).unwrap().sum_all().unwrap().backward().unwrap();
                let expected = reference::backward(&xs, &ps, &ws, &values(&g), &orders, sizes);
                for (var, expected) in vars.iter().zip([expected.x, expected.projections, expected.parameters]) {
                    check_values(&format!("gradient, {name}"), grads.get(var).unwrap(), &expected, 2e-5);
                }
            }
        }
    }
    println!("selective_scan: worst difference from the specification {worst:.1e}");
}

#[test]
fn scan_gradients_against_finite_differences() {
    for (h, w, window) in MAPS {
        let orders = Arc::new(ScanOrders::new(h, w, NonZeroUsize::new(window)));
        for (n, merge) in [(1, true), (1, false), (3, true)] {
            let operands = scan_operands(1, h * w, 5, 2, n, Fill::Noise);
            check_gradient(&format!("selective_scan {h}x{w} window {window} N {n} merge {merge}"), &operands, |t| {
                selective_scan(&t[0], &t[1], &t[2], &orders, n, merge)
            });
        }
    }
}

#[test]
fn results_do_not_depend_on_batch_or_threads() {
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let orders = Arc::new(ScanOrders::new(14, 14, NonZeroUsize::new(7)));
    let mut noise = Noise(41);
    let x = noise.tensor(&[3, 196, 64], Fill::Noise);
    let parameters = [
        noise.tensor(&[64], Fill::Noise),
        noise.tensor(&[700, 64], Fill::Noise),
        noise.tensor(&[24, 700], Fill::Noise),
        noise.tensor(&[4, 7, 24], Fill::Noise),
        noise.tensor(&[24, 1, 3, 3], Fill::Noise),
    ];
    let run = |x: &Tensor| -> Result<Vec<f32>> {
        let [norm, up, down, scan, taps] = &parameters;
        let b = x.dim(0)?;
        let x = linear(&gelu(&linear(&layer_norm(x, norm, norm)?, up, None)?)?, down, None)?;
        let y = selective_scan(&x, &x, scan, &orders, 1, true)?;
        Ok(values(&depthwise_conv3x3(&y.reshape((b, 14, 14, 24))?, taps, true)?))
    };
    let whole = pool(1).install(|| run(&x)).unwrap();
    assert_eq!(pool(2).install(|| run(&x)).unwrap(), whole, "two threads");
    assert_eq!(pool(5).install(|| run(&x)).unwrap(), whole, "five threads");
    let single: Vec<f32> = (0..3).flat_map(|i| run(&x.narrow(0, i, 1).unwrap()).unwrap()).collect();
    assert_eq!(single, whole, "one by one");
    // Few rows, down to one, as the vectors after pooling have.
    let pooled = x.mean(1).unwrap();
    let all = values(&linear(&pooled, &parameters[1], None).unwrap());
    let single: Vec<f32> =
        (0..3).flat_map(|i| values(&linear(&pooled.narrow(0, i, 1).unwrap(), &parameters[1], None).unwrap())).collect();
    assert_eq!(single, all, "single rows");
}

#[test]
fn wrong_shapes_are_errors_that_name_the_operation() {
    let t = |shape: &[usize]| Noise(1).tensor(shape, Fill::Noise);
    let orders = Arc::new(ScanOrders::new(2, 2, None));
    let errors = [
        linear(&t(&[2, 3]), &t(&[4, 2]), None).unwrap_err(),
        layer_norm(&t(&[2, 3]), &t(&[2]), &t(&[2])).unwrap_err(),
        depthwise_conv3x3(&t(&[1, 2, 2, 3]), &t(&[2, 1, 3, 3]), false).unwrap_err(),
        selective_scan(&t(&[1, 5, 3]), &t(&[1, 5, 12]), &t(&[4, 4, 3]), &orders, 1, true).unwrap_err(),
        selective_scan(&t(&[1, 4, 3]), &t(&[1, 4, 12]), &t(&[4, 2, 3]), &orders, 1, true).unwrap_err(),
        gelu(&t(&[4, 4]).t().unwrap()).unwrap_err(),
    ];
    for (error, name) in
        errors.iter().zip(["linear", "layer_norm", "depthwise_conv3x3", "selective_scan", "selective_scan", "gelu"])
    {
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn modulation() {
    for (b, l, m, c) in [(1, 1, 1, 1), (2, 9, 1, 33), (2, 9, 9, 33), (3, 50, 1, 16)] {
        let mut noise = Noise(51);
        let x = noise.tensor(&[b, l, c], Fill::Noise);
        let (gamma, beta) = (noise.tensor(&[b, m, c], Fill::Noise), noise.tensor(&[b, m, c], Fill::Noise));
        let expected = x.broadcast_mul(&(&gamma + 1.0).unwrap()).unwrap().broadcast_add(&beta).unwrap();
        check_values(
            &format!("modulate {b} {l} {m} {c}"),
            &modulate(&x, &gamma, &beta).unwrap(),
            &values(&expected),
            1e-6,
        );
        check_gradient(&format!("modulate {b} {l} {m} {c}"), &[x, gamma, beta], |t| modulate(&t[0], &t[1], &t[2]));
    }
    let t = |shape: &[usize]| Noise(1).tensor(shape, Fill::Noise);
    let error = modulate(&t(&[2, 6, 4]), &t(&[2, 3, 4]), &t(&[2, 3, 4])).unwrap_err();
    assert!(error.to_string().contains("modulate"), "{error}");
}

#[test]
fn pooling_and_gates() {
    for (b, k, l, d) in [(1, 1, 1, 1), (2, 4, 9, 33), (3, 2, 50, 16)] {
        let mut noise = Noise(43);
        let (y, gate) = (noise.tensor(&[b, k, l, d], Fill::Noise), noise.tensor(&[b, k, d], Fill::Noise));
        let name = format!("{b}x{k}x{l}x{d}");
        check_values(&name, &mean_tokens(&y).unwrap(), &values(&y.mean(2).unwrap()), 1e-6);
        let merged = y.broadcast_mul(&gate.unsqueeze(2).unwrap()).unwrap().sum(1).unwrap();
        check_values(&name, &gated_merge(&y, &gate).unwrap(), &values(&merged), 1e-6);
        check_gradient(&format!("mean_tokens {name}"), std::slice::from_ref(&y), |t| mean_tokens(&t[0]));
        check_gradient(&format!("gated_merge {name}"), &[y, gate], |t| gated_merge(&t[0], &t[1]));
    }
}
