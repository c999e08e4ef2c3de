//! Where the time of a network's operations goes, for benchmarks: off unless asked for, and then a few counters.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The kinds of work that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Fully connected layers, and convolutions' products.
    Linear,
    /// Gathering the patches of the convolutions between stages.
    Patches,
    /// Depthwise convolution with SiLU.
    DepthwiseConv,
    /// The selective scan.
    Scan,
    /// LayerNorm.
    Norm,
    /// GELU and SiLU.
    Activation,
    /// Residual sums, means over tokens, gates.
    Rest,
}

/// Every part with its name, in the order of [`Part`].
pub const PARTS: [(Part, &str); 7] = [
    (Part::Linear, "matrix products"),
    (Part::Patches, "convolution patches"),
    (Part::DepthwiseConv, "depthwise convolution"),
    (Part::Scan, "selective scan"),
    (Part::Norm, "LayerNorm"),
    (Part::Activation, "activations"),
    (Part::Rest, "sums and means"),
];

static ON: AtomicBool = AtomicBool::new(false);
static NANOSECONDS: [AtomicU64; PARTS.len()] = [const { AtomicU64::new(0) }; PARTS.len()];

/// Starts counting from zero, for the whole process.
pub fn start() {
    NANOSECONDS.iter().for_each(|n| n.store(0, Ordering::Relaxed));
    ON.store(true, Ordering::Relaxed);
}

/// Stops counting: time in each part, in the order of [`PARTS`], summed over the threads that called operations. Where an
/// operation itself spreads over a pool, that is the caller's time. On a GPU each operation is waited for while time is counted.
pub fn stop() -> [Duration; PARTS.len()] {
    ON.store(false, Ordering::Relaxed);
    std::array::from_fn(|i| Duration::from_nanos(NANOSECONDS[i].load(Ordering::Relaxed)))
}

/// Whether time is counted.
pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Counts the time until it is dropped.
pub(super) struct Timer(Option<(Part, Instant)>);

impl Timer {
    pub(super) fn of(part: Part) -> Self {
        Self(is_on().then(|| (part, Instant::now())))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some((part, begin)) = self.0 {
            let spent = begin.elapsed().as_nanos() as u64;
            NANOSECONDS[part as usize].fetch_add(spent, Ordering::Relaxed);
        }
    }
}
