//! Frames that are held until there are enough of them for one batch of the network, or until one has been held too long.
//!
//! All of it happens under the stream lock of the sink pad: in the streaming thread, or in the timer's thread, which takes the
//! lock. So buffers leave in their order, and no serialized event or query overtakes them: it has them leave first.

use super::imp::QMambaIqa;
use super::job::Job;
use super::scoring::Next;
use super::settings::Settings;
use super::timer::Timer;
use glib::subclass::prelude::*;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_base::prelude::*;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Frames that are held at most for each frame of a batch: of those that an interval leaves out between two to score, memory
/// would hold any number.
pub(super) const HELD_PER_FRAME: usize = 4;

/// What is held, and how long it may be.
#[derive(Default)]
pub(super) struct Batch {
    /// None where frames are not held.
    limits: Option<Limits>,
    held: Vec<Held>,
    /// Frames that have their scores and wait to be handed out.
    ready: VecDeque<gst::Buffer>,
    /// Why no more frames can be handed out.
    failed: Option<gst::FlowError>,
}

struct Limits {
    /// Frames to score that make a batch.
    frames: usize,
    latency: Duration,
    timer: Timer,
}

struct Held {
    buffer: gst::Buffer,
    next: Next,
    since: Instant,
}

impl Batch {
    /// When the frame that has been held longest must leave.
    fn deadline(&self) -> Option<Instant> {
        self.held.first()?.since.checked_add(self.limits.as_ref()?.latency)
    }

    /// Frames among those held that are to be scored.
    fn due(&self) -> usize {
        self.held.iter().filter(|held| matches!(held.next, Next::Score(_))).count()
    }

    /// Whether what is held leaves now, complete or not.
    fn is_over(&self) -> bool {
        let due = self.due();
        let full = |limits: &Limits| due >= limits.frames || self.held.len() >= limits.frames * HELD_PER_FRAME;
        // The timer may get the lock too late, or never, where frames come fast.
        let overdue = self.deadline().is_some_and(|time| Instant::now() >= time);
        due == 0 || self.limits.as_ref().is_none_or(full) || overdue
    }

    /// Whether frames are held.
    pub fn is_on(&self) -> bool {
        self.limits.is_some()
    }

    /// Frames that are held at most.
    pub fn most(&self) -> u32 {
        self.limits.as_ref().map_or(0, |limits| (limits.frames * HELD_PER_FRAME) as u32)
    }

    /// How long a frame may be held.
    pub fn latency(&self) -> Duration {
        self.limits.as_ref().map_or(Duration::ZERO, |limits| limits.latency)
    }

    /// Drops what is held.
    pub fn clear(&mut self) {
        (self.held, self.ready, self.failed) = Default::default();
    }

    /// The next frame that has its score; none where all that are held wait.
    pub fn pop(&mut self) -> Result<Option<gst::Buffer>, gst::FlowError> {
        match self.ready.pop_front() {
            None => self.failed.take().map_or(Ok(None), Err),
            buffer => Ok(buffer),
        }
    }
}

impl QMambaIqa {
    /// Makes ready to hold frames, where the settings ask for that.
    pub(super) fn start_batch(&self, settings: &Settings) -> Result<(), gst::ErrorMessage> {
        let limits = if settings.batch > 1 && settings.asynchronous {
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                (
                    "batch={} is ignored: with async=true no frame is held, and the newest alone is scored",
                    settings.batch
                )
            );
            None
        } else if settings.batch > 1 {
            let weak = self.obj().downgrade();
            let timer = Timer::start(move || weak.upgrade()?.imp().release_overdue())?;
            let (frames, latency) = (settings.batch as usize, Duration::from_nanos(settings.max_latency));
            Some(Limits { frames, latency, timer })
        } else {
            None
        };
        self.stop_batch();
        self.batch.lock().limits = limits;
        // A pipeline that plays already has asked for its latency before.
        if !self.batch.lock().latency().is_zero() {
            self.post_message(gst::message::Latency::builder().src(&*self.obj()).build());
        }
        Ok(())
    }

    /// Drops what is held and stops the timer; where that waits for the stream lock, it finds nothing held.
    pub(super) fn stop_batch(&self) {
        let batch = std::mem::take(&mut *self.batch.lock());
        drop(batch); // out of the lock: freeing buffers runs others' code
    }

    /// Takes a frame in, and scores the batch that it completes.
    pub(super) fn hold(&self, buffer: gst::Buffer) -> Result<(), gst::FlowError> {
        if let Some(failure) = self.batch.lock().failed.take() {
            return Err(failure);
        }
        self.control(&buffer);
        let next = self.next(&buffer)?;
        // After a gap the base class marks the next buffer that it hands out: it must be this one.
        let discontinuity = buffer.flags().contains(gst::BufferFlags::DISCONT);
        let complete = {
            let mut batch = self.batch.lock();
            batch.held.push(Held { buffer, next, since: Instant::now() });
            let complete = discontinuity || batch.is_over();
            if let (false, 1, Some(limits), Some(time)) = (complete, batch.held.len(), &batch.limits, batch.deadline())
            {
                limits.timer.set(time);
            }
            complete
        };
        if complete {
            self.score_held();
        }
        Ok(())
    }

    /// Scores what is held. Frames before one that fails are handed out; what comes after it is dropped.
    fn score_held(&self) {
        let held = std::mem::take(&mut self.batch.lock().held);
        let due: Vec<(&Job, &gst::BufferRef)> = held
            .iter()
            .filter_map(|held| match &held.next {
                Next::Score(job) => Some((&**job, held.buffer.as_ref())),
                _ => None,
            })
            .collect();
        let (scored, failure) = self.score(&due);
        let mut scored = scored.into_iter();
        let mut ready = VecDeque::with_capacity(held.len());
        let mut result = Ok(());
        for Held { mut buffer, next, .. } in held {
            // Where a frame to score has no score, the failure is its own.
            let scored = if matches!(next, Next::Score(_)) { scored.next().map(Some) } else { Some(None) };
            let Some(scored) = scored else { break };
            result = self.finish(next, scored, buffer.make_mut());
            if result.is_err() {
                break;
            }
            ready.push_back(buffer);
        }
        let result = result.and_then(|()| failure.map_or(Ok(()), |failure| Err(self.failed(&failure))));
        let mut batch = self.batch.lock();
        batch.ready.append(&mut ready);
        batch.failed = batch.failed.or(result.err()); // the first is why
    }

    /// Scores what is held and has it leave. Only under the stream lock.
    pub(super) fn release(&self) {
        if self.batch.lock().held.is_empty() {
            return;
        }
        self.score_held();
        loop {
            let buffer = self.batch.lock().ready.pop_front();
            let Some(buffer) = buffer else { return };
            if let Err(e) = self.obj().src_pad().push(buffer) {
                let mut batch = self.batch.lock();
                batch.ready.clear();
                batch.failed.get_or_insert(e); // for the next buffer's sender
                return;
            }
        }
    }

    /// Has frames leave that have been held as long as they may be; gives when the next have.
    fn release_overdue(&self) -> Option<Instant> {
        let pad = self.obj().sink_pad().clone();
        let _lock = pad.stream_lock();
        let deadline = self.batch.lock().deadline()?;
        if Instant::now() < deadline {
            return Some(deadline);
        }
        self.release();
        None
    }
}
