//! Vectorisation without intrinsics: [`dispatch`] compiles its closure for the best instruction set of this CPU, and what
//! is inlined into it is written as plain loops over [`LANES`] floats, which the compiler turns into vectors.
//!
//! The functions here are branch-free for that reason. Their results do not depend on the width of the vectors, since every
//! lane is computed by the same fused multiply-adds.

use std::sync::OnceLock;

/// Floats in one vector of the widest instruction set.
pub(crate) const LANES: usize = 16;

/// Runs `f` compiled for the best instruction set that the CPU has. Everything that `f` calls must be `#[inline(always)]`.
#[inline(always)]
pub(crate) fn dispatch<T>(f: impl FnOnce() -> T) -> T {
    static ARCH: OnceLock<pulp::Arch> = OnceLock::new();
    ARCH.get_or_init(pulp::Arch::new).dispatch(f)
}

/// exp(x), relative error under 2e-7; saturates where `f32` would overflow or become subnormal. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the rounded integer in the low mantissa bits
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = r.mul_add(1.987_569_1e-4, 1.398_2e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r * r, r) + 1.0;
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// 1 / (1 + exp(-x))
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// ln(1 + exp(x)), relative error under 1e-6 over the whole range.
#[inline(always)]
pub(crate) fn softplus(x: f32) -> f32 {
    // max(x, 0) + log1p(z) with z = exp(-|x|) in (0, 1], and log1p(z) = 2 artanh(z / (2 + z)), argument at most 1/3.
    let z = exp(-x.abs());
    let s = z / (2.0 + z);
    let q = s * s;
    let p = q.mul_add(1.0 / 15.0, 1.0 / 13.0);
    let p = p.mul_add(q, 1.0 / 11.0);
    let p = p.mul_add(q, 1.0 / 9.0);
    let p = p.mul_add(q, 1.0 / 7.0);
    let p = p.mul_add(q, 1.0 / 5.0);
    let p = p.mul_add(q, 1.0 / 3.0);
    let p = p.mul_add(q, 1.0);
    let positive = if x < 0.0 { 0.0 } else { x }; // NaN passes, where f32::max would drop it
    (2.0 * s).mul_add(p, positive)
}

/// The error function, absolute error under 5e-7: a rational approximation on [-4, 4], beyond which `f32` rounds to 1.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let q = x * x;
    let p = q.mul_add(-2.726_142_3e-10, 2.770_681_4e-8);
    let p = p.mul_add(q, -2.101_024e-6);
    let p = p.mul_add(q, -5.692_506_3e-5);
    let p = p.mul_add(q, -7.349_906e-4);
    let p = p.mul_add(q, -2.954_6e-3);
    let p = p.mul_add(q, -1.609_603_3e-2) * x;
    let d = q.mul_add(-1.456_607_2e-5, -2.133_740_6e-4);
    let d = d.mul_add(q, -1.682_827e-3);
    let d = d.mul_add(q, -7.373_329_3e-3);
    let d = d.mul_add(q, -1.426_473_9e-2);
    p / d
}

/// Sum in a fixed order that vectorises: lane by lane, then the lanes.
#[inline(always)]
pub(crate) fn sum_by(n: usize, value: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let whole = n - n % LANES;
    for start in (0..whole).step_by(LANES) {
        for lane in 0..LANES {
            lanes[lane] += value(start + lane);
        }
    }
    for i in whole..n {
        lanes[i - whole] += value(i);
    }
    sum_lanes(lanes)
}

/// Pairwise sum of one vector.
#[inline(always)]
pub(crate) fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest error of `f` against `exact` over `[-range, range]`, relative where `exact` is above 1e-30 in size.
    fn worst(range: f64, f: fn(f32) -> f32, exact: impl Fn(f64) -> f64, relative: bool) -> f64 {
        let steps = 400_000;
        (0..=steps)
            .map(|i| {
                let x = ((i as f64 / steps as f64 * 2.0 - 1.0) * range) as f32;
                let e = exact(f64::from(x));
                let difference = (f64::from(f(x)) - e).abs();
                if relative { difference / e.abs().max(1e-30) } else { difference }
            })
            .fold(0.0, f64::max)
    }

    /// erf by its Taylor series, in f64; good to 1e-12 on [-4.5, 4.5].
    fn exact_erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn functions_agree_with_f64() {
        let exp_error = worst(85.0, exp, f64::exp, true);
        let softplus_error = worst(60.0, softplus, |x| x.exp().ln_1p(), true);
        let erf_error = worst(4.5, erf, exact_erf, false);
        let sigmoid_error = worst(80.0, sigmoid, |x| 1.0 / (1.0 + (-x).exp()), true);
        println!(
            "worst: exp {exp_error:.1e} softplus {softplus_error:.1e} erf {erf_error:.1e} sigmoid {sigmoid_error:.1e}"
        );
        assert!(exp_error < 2e-7, "exp {exp_error}");
        assert!(softplus_error < 1e-6, "softplus {softplus_error}");
        assert!(erf_error < 5e-7, "erf {erf_error}");
        assert!(sigmoid_error < 5e-7, "sigmoid {sigmoid_error}");
    }

    #[test]
    fn nan_is_not_hidden_and_extremes_are_finite() {
        for f in [exp, softplus, erf, sigmoid] {
            assert!(f(f32::NAN).is_nan());
            for x in [f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-40] {
                assert!(!f(x).is_nan(), "{x}");
            }
        }
    }

    #[test]
    fn dispatch_gives_the_same_bits_as_plain_code() {
        let xs: Vec<f32> = (0..1000).map(|i| (i as f32 - 500.0) * 0.031).collect();
        let plain: Vec<u32> = xs.iter().map(|&x| softplus(x).to_bits()).collect();
        let vectorised: Vec<u32> = dispatch(|| xs.iter().map(|&x| softplus(x).to_bits()).collect());
        assert_eq!(plain, vectorised);
    }
}
