//! The scene that is being shown.

use super::report::Report;
use super::times::Times;
use crate::pooling::Pool;
use std::time::Duration;

/// The scores of one scene.
pub(super) struct Scene {
    pub index: u64,
    /// Of its first scored frame.
    start: Times,
    pub pool: Pool,
}

impl Scene {
    pub fn new(index: u64, start: Times) -> Self {
        Self { index, start, pool: Pool::new(None) }
    }

    pub fn push(&mut self, time: Option<Duration>, score: f64) {
        self.pool.push(time, score);
    }

    /// What there is to say at its end, where the next one begins at that running time (`u64::MAX`: unknown).
    pub fn report(&self, end: u64) -> Option<Report> {
        let known = end != u64::MAX && self.start.running_time != u64::MAX;
        let duration = if known { end.saturating_sub(self.start.running_time) } else { u64::MAX };
        let times = Times { duration, ..self.start };
        Some(Report::Scene { times, index: self.index, statistics: self.pool.stream()? })
    }
}
