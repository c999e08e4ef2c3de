//! A stream that is played again and again.

use super::pipeline::{self, Setup};
use super::source::Source;
use image::RgbImage;
use qmambaiqa::plugin::Report;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The wait before the first new try; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A stream that has played for so long is well: tries are counted anew.
const WELL: Duration = Duration::from_secs(10);

/// What a stream has to tell.
pub enum Event {
    /// Frames come.
    Playing,
    /// What the element posts; with the frame that it is about, in small, where pictures are wanted.
    Report { report: Box<Report>, picture: Option<RgbImage> },
    /// Frames that were due and gave way to newer ones, in the try that ends.
    Dropped(u64),
    /// It failed, ended, stood still or never came.
    Lost {
        cause: String,
        /// Failed tries in a row.
        failures: u32,
    },
    /// There will be no further try.
    GivenUp,
}

/// Plays a stream until it shall stop or is given up.
pub fn watch(source: &Source, setup: &Setup, stop: &AtomicBool, emit: &dyn Fn(Event)) {
    let (mut failures, mut wait) = (0_u32, FIRST_WAIT);
    while !stop.load(Ordering::Relaxed) {
        let (played, cause) = pipeline::play(source, setup, stop, emit);
        let Some(cause) = cause else { return };
        if played >= WELL {
            (failures, wait) = (0, FIRST_WAIT);
        }
        failures = failures.saturating_add(1);
        emit(Event::Lost { cause, failures });
        if setup.retry_limit > 0 && failures >= setup.retry_limit {
            return emit(Event::GivenUp);
        }
        let again = Instant::now() + wait;
        while Instant::now() < again && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        wait = (2 * wait).min(LONGEST_WAIT);
    }
}
