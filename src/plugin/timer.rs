//! A thread that acts at a time.

use gstreamer as gst;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Instant;

/// Rings at the time that it was set to last. Dropped, it rings no more, which it does not wait for: a ring in progress may need
/// a lock that whoever drops it has.
pub(super) struct Timer {
    times: Sender<Instant>,
}

impl Timer {
    /// Starts the thread; `ring` gives the time at which to ring again, where there is one.
    ///
    /// # Errors
    /// There are no threads to be had.
    pub fn start(mut ring: impl FnMut() -> Option<Instant> + Send + 'static) -> Result<Self, gst::ErrorMessage> {
        let (times, set) = mpsc::channel::<Instant>();
        let started = std::thread::Builder::new().name("qmambaiqa-timer".into()).spawn(move || {
            let mut time = None;
            loop {
                let next = match time {
                    None => set.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    Some(time) => set.recv_timeout(Instant::saturating_duration_since(&time, Instant::now())),
                };
                time = match next {
                    Ok(time) => Some(time),
                    Err(RecvTimeoutError::Timeout) => ring(),
                    Err(RecvTimeoutError::Disconnected) => return,
                };
            }
        });
        started.map_err(|e| gst::error_msg!(gst::ResourceError::Failed, ("no thread for a timer: {e}")))?;
        Ok(Self { times })
    }

    /// Has it ring at `time`, and not at the time that was set before.
    pub fn set(&self, time: Instant) {
        let _ = self.times.send(time); // it has stopped only where its thread has panicked, which has been printed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_rings_at_the_last_time_set_and_again_when_asked_to() {
        let (rung, rings) = mpsc::channel();
        let mut again = 2;
        let timer = Timer::start(move || {
            rung.send(Instant::now()).unwrap();
            again -= 1;
            (again > 0).then(|| Instant::now() + Duration::from_millis(20))
        })
        .unwrap();
        let begin = Instant::now();
        timer.set(begin + Duration::from_secs(3600));
        timer.set(begin + Duration::from_millis(20));
        let [first, second] = [0, 1].map(|_| rings.recv_timeout(Duration::from_secs(30)).unwrap());
        assert!(first - begin >= Duration::from_millis(20) && second - first >= Duration::from_millis(20));
        drop(timer); // stops though it is set to nothing
        assert!(rings.recv().is_err(), "rings no more");
    }
}
