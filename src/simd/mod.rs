//! Vectorisation without intrinsics: [`dispatch`] compiles its closure for the best instruction set of this CPU, and what
//! is inlined into it is written as plain loops over [`LANES`] floats, which the compiler turns into vectors.
//!
//! The functions here are branch-free for that reason. Their results do not depend on the width of the vectors, since every
//! lane is computed by the same fused multiply-adds.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;

use std::sync::OnceLock;

/// Floats in one vector of the widest instruction set.
pub(crate) const LANES: usize = 16;

/// Sets of instructions that operations are compiled for. All give the same results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// What every CPU of the target has; NEON on aarch64.
    Portable,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// The same, and integer dot products (AVX-VNNI): Intel's desktop CPUs since Alder Lake.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 with VNNI: Ice Lake, Zen 4 and later.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// The same, and matrix instructions for bytes (AMX): Sapphire Rapids and later.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

impl Level {
    /// Environment variable that forces a level, for tests and comparisons.
    pub(crate) const VARIABLE: &str = "QMAMBAIQA_CPU";

    /// Its name in [`Level::VARIABLE`].
    fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Amx => "amx",
        }
    }

    /// Those that this CPU has, the best one last.
    pub(crate) fn available() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
        let mut levels = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let arch = pulp::Arch::new();
            if matches!(arch, pulp::Arch::V3(_) | pulp::Arch::V4(_)) {
                levels.push(Self::Avx2);
                levels.extend(is_x86_feature_detected!("avxvnni").then_some(Self::AvxVnni));
            }
            if matches!(arch, pulp::Arch::V4(_)) && is_x86_feature_detected!("avx512vnni") {
                levels.push(Self::Avx512);
            }
            if levels.contains(&Self::Avx512) && amx::supported() {
                levels.push(Self::Amx);
            }
        }
        levels
    }

    /// The level in use: the best, or what [`Level::VARIABLE`] says where this CPU has it.
    #[inline]
    pub(crate) fn current() -> Self {
        Self::chosen().0
    }

    /// Refuses a forced level that there is not.
    pub(crate) fn check() -> Result<(), String> {
        match std::env::var(Self::VARIABLE) {
            Ok(forced) if !forced.is_empty() && !Self::available().iter().any(|level| level.name() == forced) => {
                let names: Vec<&str> = Self::available().iter().map(|level| level.name()).collect();
                Err(format!("{}={forced}: this CPU has {}", Self::VARIABLE, names.join(", ")))
            }
            _ => Ok(()),
        }
    }

    fn chosen() -> (Self, pulp::Arch) {
        static CHOSEN: OnceLock<(Level, pulp::Arch)> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let forced = std::env::var(Self::VARIABLE).unwrap_or_default();
            let levels = Self::available();
            let best = levels.last().copied().unwrap_or(Self::Portable);
            let level = levels.into_iter().find(|level| level.name() == forced).unwrap_or(best);
            (level, level.arch())
        })
    }

    /// Whether it multiplies bytes faster than 16-bit integers.
    pub(crate) fn prefers_bytes(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self, Self::AvxVnni | Self::Avx512 | Self::Amx);
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    #[cfg_attr(not(target_arch = "x86_64"), allow(clippy::match_single_binding))]
    fn arch(self) -> pulp::Arch {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Portable => pulp::Arch::Scalar,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 | Self::AvxVnni => pulp::x86::V3::try_new().map_or(pulp::Arch::Scalar, pulp::Arch::V3),
            _ => pulp::Arch::new(),
        }
    }
}

/// Runs `f` compiled for the [level](Level::current) in use. Everything that `f` calls must be `#[inline(always)]`.
#[inline(always)]
pub(crate) fn dispatch<T>(f: impl FnOnce() -> T) -> T {
    Level::chosen().1.dispatch(f)
}

/// exp(x), relative error under 2e-7; saturates where `f32` would overflow or become subnormal. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    exp_within(x.clamp(-87.0, 88.0))
}

/// The same for `x` of at most 0.
#[inline(always)]
pub(crate) fn exp_negative(x: f32) -> f32 {
    exp_within(if x < -87.0 { -87.0 } else { x }) // NaN passes, where f32::max would drop it
}

/// The same for `x` from -87 to 88.
#[inline(always)]
fn exp_within(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the rounded integer in the low mantissa bits
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

/// 2^x for `x` of at most 0, relative error under 3e-7; from -125 down it stays what it is there. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp2_negative(x: f32) -> f32 {
    exp2_by(
        x,
        #[inline(always)]
        |r| {
            let p = r.mul_add(1.326_472_7e-3, 9.671_513e-3);
            let p = p.mul_add(r, 5.550_733_6e-2);
            let p = p.mul_add(r, 0.240_222_42);
            let p = p.mul_add(r, std::f32::consts::LN_2);
            p.mul_add(r, 1.0)
        },
    )
}

/// The same with a relative error of up to 1.1e-4.
#[inline(always)]
pub(crate) fn exp2_negative_rough(x: f32) -> f32 {
    exp2_by(
        x,
        #[inline(always)]
        |r| {
            let p = r.mul_add(5.500_899e-2, 0.242_210_97);
            let p = p.mul_add(r, 0.693_282_9);
            p.mul_add(r, 1.0)
        },
    )
}

/// 2^x for x of at most 0, `power` giving it from -0.5 to 0.5.
#[inline(always)]
fn exp2_by(x: f32, power: impl Fn(f32) -> f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // as in `exp_within`
    let x = if x < -125.0 { -125.0 } else { x };
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND);
    f32::from_bits(power(r).to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// log2(1 + 2^x), relative error under 1e-6: softplus in powers of two.
#[inline(always)]
pub(crate) fn softplus2(x: f32) -> f32 {
    // max(x, 0) + log2(1 + z) with z = 2^-|x| in (0, 1]: log2(1 + z) / z by a minimax polynomial, relative error 2e-7.
    let z = exp2_negative(-x.abs());
    let p = z.mul_add(-1.231_965_3e-2, 6.360_858e-2);
    let p = p.mul_add(z, -0.155_352_92);
    let p = p.mul_add(z, 0.256_010_53);
    let p = p.mul_add(z, -0.353_395_16);
    let p = p.mul_add(z, 0.480_063_77);
    let p = p.mul_add(z, -0.721_310_1);
    let p = p.mul_add(z, 1.442_694_8);
    let positive = if x < 0.0 { 0.0 } else { x }; // NaN passes, where f32::max would drop it
    z.mul_add(p, positive)
}

/// The same with a relative error of up to 3e-4.
#[inline(always)]
pub(crate) fn softplus2_rough(x: f32) -> f32 {
    let z = exp2_negative_rough(-x.abs());
    let p = z.mul_add(5.965_245e-2, -0.227_121_75);
    let p = p.mul_add(z, 0.441_900_6);
    let p = p.mul_add(z, -0.716_987_8);
    let p = p.mul_add(z, 1.442_613_2);
    let positive = if x < 0.0 { 0.0 } else { x };
    z.mul_add(p, positive)
}

/// 1 / (1 + exp(-x))
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// ln(1 + exp(x)), relative error under 1e-6 over the whole range.
#[inline(always)]
pub(crate) fn softplus(x: f32) -> f32 {
    // max(x, 0) + log1p(z) with z = exp(-|x|) in (0, 1]: log1p(z) / z by a minimax polynomial, relative error 3e-8.
    let z = exp_negative(-x.abs());
    let p = z.mul_add(5.232_686_6e-3, -2.950_520_8e-2);
    let p = p.mul_add(z, 7.822_59e-2);
    let p = p.mul_add(z, -0.136_632_41);
    let p = p.mul_add(z, 0.191_060_05);
    let p = p.mul_add(z, -0.248_429_82);
    let p = p.mul_add(z, 0.333_190_98);
    let p = p.mul_add(z, -0.499_994_93);
    let p = p.mul_add(z, 0.999_999_94);
    let positive = if x < 0.0 { 0.0 } else { x }; // NaN passes, where f32::max would drop it
    z.mul_add(p, positive)
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

/// Sum of `value` over the elements of equally long slices, in a fixed order that vectorises: lane by lane, then the lanes.
#[inline(always)]
pub(crate) fn sum_by<const N: usize>(slices: [&[f32]; N], value: impl Fn([f32; N]) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    // Whole arrays: an index into a slice would be checked, and then nothing becomes a vector.
    let chunks = slices.map(|slice| slice.as_chunks::<LANES>());
    for i in 0..chunks[0].0.len() {
        let chunk = chunks.map(|(whole, _)| whole[i]);
        for lane in 0..LANES {
            lanes[lane] += value(chunk.map(|c| c[lane]));
        }
    }
    for (lane, sum) in lanes.iter_mut().enumerate().take(chunks[0].1.len()) {
        *sum += value(chunks.map(|(_, rest)| rest[lane]));
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
        let exp2_error = worst(124.0, |x| exp2_negative(-x.abs()), |x| (-x.abs()).exp2(), true);
        let softplus2_error =
            worst(100.0, softplus2, |x| (x * std::f64::consts::LN_2).exp().ln_1p() / std::f64::consts::LN_2, true);
        println!("exp2 {exp2_error:.1e} softplus2 {softplus2_error:.1e}");
        let exp2_rough = worst(124.0, |x| exp2_negative_rough(-x.abs()), |x| (-x.abs()).exp2(), true);
        let softplus2_rough = worst(
            100.0,
            softplus2_rough,
            |x| (x * std::f64::consts::LN_2).exp().ln_1p() / std::f64::consts::LN_2,
            true,
        );
        assert!(exp2_rough < 1.1e-4 && softplus2_rough < 3e-4, "rough: {exp2_rough} {softplus2_rough}");
        assert!(exp2_error < 3e-7, "exp2 {exp2_error}");
        assert!(softplus2_error < 1e-6, "softplus2 {softplus2_error}");
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
        for f in [exp, softplus, softplus2, softplus2_rough, |x: f32| exp2_negative(-x.abs()), erf, sigmoid] {
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
