//! Muon's direction: a matrix's momentum with all its singular values brought near one.
//!
//! K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the scale that lets it share AdamW's
//! learning rate is from J. Liu et al., "Muon is Scalable for LLM Training" (2025).

use crate::ops::linear::{Matrix, matmul};
use candle_core::{Result, Tensor};
use std::collections::BTreeMap;

/// Steps of the Newton-Schulz iteration.
const STEPS: usize = 5;
/// Its coefficients, chosen for speed: singular values end between about 0.7 and 1.2.
const COEFFICIENTS: (f32, f32, f32) = (3.4445, -4.7750, 2.0315);
/// Root mean square of an update, which is AdamW's typical one.
const SIZE: f32 = 0.2;
/// Smaller sides gain nothing.
const MIN_SIDE: usize = 16;

/// The matrix `(rows, columns)` that a parameter of a hidden layer is; none for those that AdamW should move: norms, biases,
/// the scan's own parameters, depthwise and first convolutions, the head.
pub(super) fn matrix(name: &str, dims: &[usize]) -> Option<(usize, usize)> {
    const OTHERS: [&str; 5] = ["conv2d", "patch_embed.0", "head", "teacher", "auxiliary"];
    if !name.ends_with("weight") || name.contains("dt_projs") || OTHERS.iter().any(|o| name.contains(o)) {
        return None;
    }
    let (rows, columns) = match *dims {
        [rows, columns] => (rows, columns),
        [k, p, d] => (k * p, d), // the projections of all scan directions
        [outputs, inputs, h, w] => (outputs, inputs * h * w),
        _ => return None,
    };
    (rows.min(columns) >= MIN_SIDE).then_some((rows, columns))
}

/// The update for a momentum of `rows * columns`. Deterministic: one thread, one order.
pub(super) fn direction(momentum: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let norm = momentum.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt().max(1e-20);
    let mut x: Vec<f32> = momentum.iter().map(|&v| (f64::from(v) / norm) as f32).collect();
    let tall = rows > columns;
    let (m, n) = if tall { (columns, rows) } else { (rows, columns) };
    let (a, b, c) = COEFFICIENTS;
    let (mut gram, mut square) = (vec![0f32; m * m], vec![0f32; m * m]);
    let mut product = vec![0f32; m * n];
    for _ in 0..STEPS {
        // x is stored as the parameter is; `wide` is its view with the short side first.
        let wide = |x| if tall { Matrix::new(x, rows, columns).t() } else { Matrix::new(x, rows, columns) };
        matmul(&mut gram, wide(&x), wide(&x).t(), false);
        matmul(&mut square, Matrix::new(&gram, m, m), Matrix::new(&gram, m, m), false);
        gram.iter_mut().zip(&square).for_each(|(g, s)| *g = b * *g + c * s);
        let polynomial = Matrix::new(&gram, m, m);
        if tall {
            matmul(&mut product, wide(&x).t(), polynomial, false); // (G X)^T = X^T G, G symmetric
        } else {
            matmul(&mut product, polynomial, wide(&x), false);
        }
        x.iter_mut().zip(&product).for_each(|(x, p)| *x = a * *x + p);
    }
    let scale = SIZE * (rows.max(columns) as f32).sqrt();
    x.iter_mut().for_each(|v| *v *= scale);
    x
}

/// The updates for momenta `(rows, columns)` that are tensors, by products on their device; those of one shape, lying or standing,
/// go together.
pub(super) fn directions(momenta: &[Tensor]) -> Result<Vec<Tensor>> {
    let mut alike: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (i, momentum) in momenta.iter().enumerate() {
        let (rows, columns) = momentum.dims2()?;
        alike.entry((rows.min(columns), rows.max(columns))).or_default().push(i);
    }
    let tall = |i: usize| momenta[i].dim(0).and_then(|rows| Ok(rows > momenta[i].dim(1)?));
    let mut found = vec![None; momenta.len()];
    let (a, b, c) = COEFFICIENTS;
    let (a, b, c) = (f64::from(a), f64::from(b), f64::from(c));
    for ((_, long), members) in alike {
        let wide =
            members.iter().map(|&i| if tall(i)? { momenta[i].t()?.contiguous() } else { Ok(momenta[i].clone()) });
        let x = Tensor::stack(&wide.collect::<Result<Vec<_>>>()?, 0)?; // (matrices, short, long)
        let norm = x.sqr()?.sum_keepdim(2)?.sum_keepdim(1)?.sqrt()?.maximum(1e-20)?;
        let mut x = x.broadcast_div(&norm)?;
        for _ in 0..STEPS {
            let gram = x.matmul(&x.t()?)?;
            let polynomial = ((&gram * b)? + (gram.matmul(&gram)? * c)?)?;
            x = ((&x * a)? + polynomial.matmul(&x)?)?;
        }
        let x = (x * (f64::from(SIZE) * (long as f64).sqrt()))?;
        for (place, &i) in members.iter().enumerate() {
            let own = x.get(place)?;
            found[i] = Some(if tall(i)? { own.t()?.contiguous()? } else { own });
        }
    }
    Ok(found.into_iter().flatten().collect()) // one for each
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Whatever the rows' sizes, the short side ends nearly orthonormal. (A square one can have singular values so small that
    /// five steps leave them behind.)
    #[test]
    fn directions_are_nearly_orthogonal() {
        for (rows, columns) in [(16, 40), (40, 16), (24, 96)] {
            let mut random = Random::new(3, (rows * columns) as u64);
            let m: Vec<f32> =
                (0..rows * columns).map(|i| (random.normal() * 10f64.powi(-((i % 3) as i32))) as f32).collect();
            let x = direction(&m, rows, columns);
            let scale = SIZE * (rows.max(columns) as f32).sqrt();
            let at = |i: usize, j: usize| if rows > columns { x[j * columns + i] } else { x[i * columns + j] } / scale;
            let (short, long) = (rows.min(columns), rows.max(columns));
            for a in 0..short {
                for b in 0..short {
                    let dot: f32 = (0..long).map(|j| at(a, j) * at(b, j)).sum();
                    // Squares of singular values from 0.68 to 1.2, and what they leave beside the diagonal.
                    let expected = if a == b { 0.46..1.44 } else { -0.49..0.49 };
                    assert!(expected.contains(&dot), "{rows}x{columns} ({a}, {b}): {dot}");
                }
            }
            let turned: f32 = x.iter().zip(&m).map(|(x, m)| x * m).sum();
            assert!(turned > 0.0, "the update follows the momentum");
        }
    }

    #[test]
    fn only_hidden_matrices_are_taken() {
        assert_eq!(matrix("layers.0.blocks.0.op.in_proj.weight", &[64, 32]), Some((64, 32)));
        assert_eq!(matrix("layers.0.downsample.1.weight", &[64, 32, 3, 3]), Some((64, 288)));
        assert_eq!(matrix("layers.0.blocks.0.op.x_proj_weight", &[4, 4, 64]), Some((16, 64)));
        for (name, dims) in [
            ("patch_embed.0.weight", vec![16, 3, 3, 3]),
            ("layers.0.blocks.0.op.conv2d.weight", vec![64, 1, 3, 3]),
            ("layers.0.blocks.0.op.dt_projs_weight", vec![4, 64, 2]),
            ("classifier.head.weight", vec![1, 256]),
            ("classifier.norm.weight", vec![256]),
            ("teacher.weight", vec![256, 256]),
        ] {
            assert_eq!(matrix(name, &dims), None, "{name}");
        }
    }
}
