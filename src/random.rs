//! Repeatable random numbers by counting: a stream is a function of (seed, stream number), so that any frame, image or
//! tensor gets its numbers without those before it.

/// splitmix64 over a counter.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of that number.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(mix(mix(seed ^ 0x6a09_e667_f3bc_c909).wrapping_add(stream)))
    }

    /// Uniform over all 64-bit numbers.
    #[allow(clippy::should_implement_trait)] // an endless one, which no `for` should walk
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform on [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform on 0..n; 0 where n is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Standard normal, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Fisher-Yates.
    #[cfg(feature = "train")]
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
