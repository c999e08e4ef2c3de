//! A thread that scores beside the stream, always the newest frame.

use gstreamer as gst;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Takes jobs and does them one after the other. A job that still waits when a newer one comes is dropped.
pub(super) struct Worker<Job: Send + 'static> {
    shared: Arc<Shared<Job>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<Job> {
    slot: Mutex<Slot<Job>>,
    changed: Condvar,
}

struct Slot<Job> {
    waiting: Option<Job>,
    busy: bool,
    stopped: bool,
}

impl<Job: Send + 'static> Worker<Job> {
    /// Starts the thread.
    ///
    /// # Errors
    /// There are no threads to be had.
    pub fn start(mut work: impl FnMut(Job) + Send + 'static) -> Result<Self, gst::ErrorMessage> {
        let slot = Mutex::new(Slot { waiting: None, busy: false, stopped: false });
        let shared = Arc::new(Shared { slot, changed: Condvar::new() });
        let own = shared.clone();
        let thread = std::thread::Builder::new().name("qmambaiqa".into()).spawn(move || {
            while let Some(job) = own.next() {
                let _done = Done(&own);
                work(job);
            }
        });
        let thread = thread.map_err(|e| gst::error_msg!(gst::ResourceError::Failed, ("no thread to score in: {e}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Hands on a job; gives whether another was dropped for it.
    pub fn offer(&self, job: Job) -> bool {
        let dropped = self.shared.slot.lock().waiting.replace(job);
        self.shared.changed.notify_all();
        dropped.is_some()
    }

    /// Waits until nothing is left to do.
    pub fn finish(&self) {
        let mut slot = self.shared.slot.lock();
        while !slot.stopped && (slot.busy || slot.waiting.is_some()) {
            self.shared.changed.wait(&mut slot);
        }
    }
}

/// Says that a job is done, even where it panicked; no other will be done then.
struct Done<'a, Job>(&'a Shared<Job>);

impl<Job> Drop for Done<'_, Job> {
    fn drop(&mut self) {
        let mut slot = self.0.slot.lock();
        slot.busy = false;
        slot.stopped |= std::thread::panicking();
        self.0.changed.notify_all();
    }
}

impl<Job> Shared<Job> {
    /// The next job, once there is one; none when stopped.
    fn next(&self) -> Option<Job> {
        let mut slot = self.slot.lock();
        loop {
            if slot.stopped {
                return None;
            }
            if let Some(job) = slot.waiting.take() {
                slot.busy = true;
                return Some(job);
            }
            self.changed.wait(&mut slot);
        }
    }
}

impl<Job: Send + 'static> Drop for Worker<Job> {
    /// Waits for the job in work.
    fn drop(&mut self) {
        {
            let mut slot = self.shared.slot.lock();
            slot.stopped = true;
            slot.waiting = None;
        }
        self.shared.changed.notify_all();
        // The thread itself may be the last to let go of the element.
        if let Some(thread) = self.thread.take().filter(|t| t.thread().id() != std::thread::current().id()) {
            let _ = thread.join(); // a panic has been printed already
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A worker that says when it begins a job, and ends it when told to; and the jobs done.
    type Slow = (Worker<u32>, mpsc::Receiver<()>, mpsc::Sender<()>, Arc<Mutex<Vec<u32>>>);

    fn slow() -> Slow {
        let (started, starts) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let done = Arc::new(Mutex::new(Vec::new()));
        let seen = done.clone();
        let work = move |job| {
            started.send(()).unwrap();
            released.recv().unwrap();
            seen.lock().push(job);
        };
        (Worker::start(work).unwrap(), starts, release, done)
    }

    #[test]
    fn the_newest_job_is_done_and_those_between_are_dropped() {
        let (worker, starts, release, done) = slow();
        assert!(!worker.offer(1));
        starts.recv().unwrap(); // 1 is in work
        assert!(!worker.offer(2));
        assert!(worker.offer(3) && worker.offer(4));
        release.send(()).unwrap();
        release.send(()).unwrap();
        worker.finish();
        assert_eq!(*done.lock(), [1, 4]);
        worker.finish(); // at once
    }

    #[test]
    fn stopping_drops_what_waits_and_waits_for_what_is_in_work() {
        let (worker, starts, release, done) = slow();
        worker.offer(1);
        starts.recv().unwrap();
        worker.offer(2);
        release.send(()).unwrap();
        release.send(()).unwrap(); // for the second, where it came that far before the stop
        drop(worker);
        assert!(done.lock().starts_with(&[1]));
    }
}
