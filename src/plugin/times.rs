//! When a frame is shown.

use std::time::Duration;

/// When the frame is shown, or the last one was; in nanoseconds, `u64::MAX` (`GST_CLOCK_TIME_NONE`) where unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The buffer's timestamp.
    pub timestamp: u64,
    /// Position in the stream.
    pub stream_time: u64,
    /// Time since the pipeline plays.
    pub running_time: u64,
    /// The buffer's duration.
    pub duration: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self { timestamp: u64::MAX, stream_time: u64::MAX, running_time: u64::MAX, duration: u64::MAX }
    }
}

impl Times {
    /// The running time, where known.
    pub(super) fn running(&self) -> Option<Duration> {
        (self.running_time != u64::MAX).then(|| Duration::from_nanos(self.running_time))
    }
}
