//! What the operations' tests share: fills, comparison, and gradients by finite differences.

use candle_core::{Device, Result, Tensor, Var};

/// Repeatable values: the fills that numerical code gets wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fill {
    /// Between -1 and 1.
    Noise,
    /// All equal.
    Flat,
    /// Sizes over eight powers of ten.
    Wild,
}

pub(crate) const FILLS: [Fill; 3] = [Fill::Noise, Fill::Flat, Fill::Wild];

/// xorshift64*, so that tests repeat.
pub(crate) struct Noise(pub u64);

impl Noise {
    pub(crate) fn next(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn values(&mut self, n: usize, fill: Fill) -> Vec<f32> {
        (0..n)
            .map(|_| match fill {
                Fill::Noise => self.next(),
                Fill::Flat => 0.25,
                Fill::Wild => self.next() * 10f32.powf(4.0 * self.next()),
            })
            .collect()
    }

    pub(crate) fn tensor(&mut self, shape: &[usize], fill: Fill) -> Tensor {
        Tensor::from_vec(self.values(shape.iter().product(), fill), shape, &Device::Cpu).expect("shape fits")
    }
}

/// Largest difference of two equally shaped tensors, in units of the larger of 1e-3 and the expected tensor's size.
pub(crate) fn difference(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let size = expected.iter().fold(1e-3f64, |s, &v| s.max(f64::from(v.abs())));
    let worst = got.iter().zip(expected).map(|(&a, &b)| f64::from((a - b).abs()));
    worst.fold(0.0, |w, d| if d.is_nan() { f64::INFINITY } else { w.max(d) }) / size
}

pub(crate) fn values(t: &Tensor) -> Vec<f32> {
    t.contiguous().and_then(|t| t.flatten_all()).and_then(|t| t.to_vec1()).expect("f32 tensor")
}

/// Worst difference between the gradients of `f`'s weighted sum by backpropagation and by central differences, over a
/// sample of each operand's elements, in units of the largest gradient of that operand.
pub(crate) fn gradient_error(operands: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<f64> {
    let vars: Vec<Var> = operands.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let inputs: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&inputs)?;
    let weights = Noise(99).tensor(y.dims(), Fill::Noise);
    let grads = (&y * &weights)?.sum_all()?.backward()?;
    let w = values(&weights);
    let mut worst = 0f64;
    for (i, operand) in operands.iter().enumerate() {
        let gradient = values(grads.get(&inputs[i]).expect("every operand has a gradient"));
        let size = gradient.iter().fold(1e-3f64, |s, &v| s.max(f64::from(v.abs())));
        let base = values(operand);
        for at in (0..base.len()).step_by((base.len() / 40).max(1)) {
            let step = 1e-2f32;
            // Differences of the single terms, summed in f64: the sum itself would lose them in f32.
            let shifted = |by: f32| -> Result<Vec<f32>> {
                let mut moved = base.clone();
                moved[at] += by;
                let mut inputs: Vec<Tensor> = operands.to_vec();
                inputs[i] = Tensor::from_vec(moved, operand.shape(), &Device::Cpu)?;
                Ok(values(&f(&inputs)?))
            };
            // Fourth-order central difference.
            let terms = [(step, 8.0), (-step, -8.0), (2.0 * step, -1.0), (-2.0 * step, 1.0)];
            let mut numeric = 0f64;
            for (by, factor) in terms {
                let sum: f64 = shifted(by)?.iter().zip(&w).map(|(&y, &w)| f64::from(y) * f64::from(w)).sum();
                numeric += factor * sum;
            }
            numeric /= 12.0 * f64::from(step);
            worst = worst.max((f64::from(gradient[at]) - numeric).abs() / size);
        }
    }
    Ok(worst)
}
