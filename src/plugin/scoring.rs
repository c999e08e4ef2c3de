//! The way of a frame: whether it is scored, its score, and what is said of it.

use super::imp::{CAT, QMambaIqa};
use super::job::{Job, Scored};
use super::quality::FrameQuality;
use super::report::Report;
use super::schedule::Turn;
use super::state::{Outcome, State};
use super::stream::Stream;
use super::times::Times;
use crate::indicators::Reason;
use crate::metrics::Event;
use glib::subclass::prelude::*;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_base::prelude::*;

/// What becomes of a buffer.
pub(super) enum Next {
    Score(Box<Job>),
    /// With the score of an earlier frame, where it is to carry one.
    Pass(Option<FrameQuality>),
    /// With the newest score when it leaves; these are its times.
    Hold(Times),
}

impl QMambaIqa {
    /// Brings the controlled properties to the buffer's time.
    pub(super) fn control(&self, buffer: &gst::BufferRef) {
        if let Some(pts) = buffer.pts()
            && let Some(segment) = self.obj().segment().downcast_ref::<gst::ClockTime>()
            && let Err(e) = self.obj().sync_values(segment.to_stream_time(pts).unwrap_or(pts))
        {
            gst::trace!(CAT, imp = self, "no controlled values at {pts}: {e}");
        }
    }

    /// Decides what becomes of the next buffer; the worker gets what it shall score.
    pub(super) fn next(&self, buffer: &gst::BufferRef) -> Result<Next, gst::FlowError> {
        let settings = self.settings.lock().clone();
        let times = self.times(buffer);
        let mut late = None;
        // The lock is not held while a frame is scored, so that properties can be read.
        let next = {
            let mut state = self.state.lock();
            let Some(state) = state.as_mut() else { return Err(gst::FlowError::Flushing) };
            let frame = state.stream.frames;
            state.count(Event::Seen);
            let State { scorer, info: Some(info), stream, worker, .. } = state else {
                return Err(gst::FlowError::NotNegotiated);
            };
            let regions = self.regions(buffer, info, &settings, stream);
            let turn = if regions.is_none() || buffer.flags().contains(gst::BufferFlags::GAP) {
                Turn::Pass
            } else {
                // Beside the stream nothing waits for a score: there is no being late.
                stream.schedule.turn(&times, &settings, worker.is_none() && self.obj().is_qos(), frame)
            };
            if turn == Turn::Score && info.is_interlaced() && !stream.warned_interlaced {
                stream.warned_interlaced = true;
                gst::element_imp_warning!(
                    self,
                    gst::StreamError::Format,
                    ("interlaced video is scored as it is, combing included: put `deinterlace` in front")
                );
            }
            let hold = settings.hold;
            let job = (turn == Turn::Score).then(|| Job {
                scorer: scorer.clone(),
                info: info.clone(),
                settings,
                frame,
                times,
                regions: regions.unwrap_or_default(),
                generation: stream.generation,
            });
            match (job, worker) {
                (Some(job), None) => Next::Score(Box::new(job)),
                (job, Some(worker)) => {
                    let held = stream.held(&times);
                    // The copy shares the pixels.
                    if job.is_some_and(|job| worker.offer((job, buffer.copy()))) {
                        state.count(Event::Dropped);
                    }
                    Next::Pass(held)
                }
                (None, None) => {
                    if let Turn::Late { by, proportion } = turn {
                        state.count(Event::Late);
                        late = Some((by, proportion, [state.stream.scored, state.stream.late]));
                    }
                    if hold { Next::Hold(times) } else { Next::Pass(None) }
                }
            }
        };
        if let Some((by, proportion, stats)) = late {
            self.post_late(&times, by, proportion, stats);
        }
        Ok(next)
    }

    /// Has a buffer carry what it is to carry; `scored` is what was found in a frame to score.
    pub(super) fn finish(
        &self,
        next: Next,
        scored: Option<Scored>,
        buffer: &mut gst::BufferRef,
    ) -> Result<(), gst::FlowError> {
        let quality = match (next, scored) {
            (Next::Score(job), Some(scored)) => self.take(scored, &job, buffer)?,
            (Next::Score(_), None) => None,
            (Next::Pass(held), _) => held,
            (Next::Hold(times), _) => self.state.lock().as_ref().and_then(|state| state.stream.held(&times)),
        };
        if let Some(quality) = quality {
            quality.attach(buffer).map_err(|e| {
                gst::element_imp_error!(self, gst::CoreError::Failed, ("cannot attach the score to the buffer: {e}"));
                gst::FlowError::Error
            })?;
        }
        let overlay = self.settings.lock().overlay;
        if overlay { self.draw(buffer) } else { Ok(()) }
    }

    /// Scores a frame beside the stream.
    pub(super) fn work(&self, job: &Job, buffer: &gst::BufferRef) {
        let (scored, failure) = self.score(&[(job, buffer)]);
        for scored in scored {
            let _ = self.take(scored, job, buffer); // an alarm that shall stop the stream has posted its error
        }
        if let Some(failure) = failure {
            let _ = self.failed(&failure); // nothing of the stream waits for it
        }
    }

    /// Takes what was found in a frame into account and says what is to be said. Gives its quality, unless its stream is no
    /// more.
    pub(super) fn take(
        &self,
        scored: Scored,
        job: &Job,
        buffer: &gst::BufferRef,
    ) -> Result<Option<FrameQuality>, gst::FlowError> {
        let outcome = self.state.lock().as_mut().and_then(|state| state.take(scored, job));
        let Some(Outcome { quality, scene, alarm, log_error }) = outcome else { return Ok(None) };
        if let Some(e) = log_error {
            gst::element_imp_warning!(self, gst::ResourceError::Write, ("the log ends here: {e}"));
        }
        if job.settings.post_messages {
            scene.iter().for_each(|scene| self.post(scene.to_structure()));
            let mut structure = Report::Frame { times: job.times, quality: quality.clone() }.to_structure();
            if job.settings.post_samples
                && let Ok(caps) = job.info.to_caps()
            {
                structure.set("sample", gst::Sample::builder().buffer(&buffer.copy()).caps(&caps).build());
            }
            self.post(structure);
        }
        alarm.iter().for_each(|alarm| self.post(alarm.to_structure()));
        if let Some(Report::Alarm { low: true, reason, score, threshold, .. }) = alarm
            && job.settings.alarm_error
        {
            let what = match reason {
                Reason::Black => "the picture is black",
                Reason::Freeze => "the picture is frozen",
                Reason::Blur => "quality is too low, the picture is blurred",
                Reason::Quality => "quality is too low",
            };
            gst::element_imp_error!(
                self,
                gst::StreamError::Failed,
                ("{what}: score {score:.1}, low-threshold {threshold:.1} (alarm-error is set)")
            );
            return Err(gst::FlowError::Error);
        }
        Ok(Some(quality))
    }

    fn times(&self, buffer: &gst::BufferRef) -> Times {
        let nanoseconds = |time: Option<gst::ClockTime>| time.map_or(u64::MAX, gst::ClockTime::nseconds);
        let segment = self.obj().segment();
        let segment = segment.downcast_ref::<gst::ClockTime>();
        let pts = buffer.pts();
        Times {
            timestamp: nanoseconds(pts),
            stream_time: nanoseconds(pts.and_then(|pts| segment?.to_stream_time(pts))),
            running_time: nanoseconds(pts.and_then(|pts| segment?.to_running_time(pts))),
            duration: nanoseconds(buffer.duration()),
        }
    }

    /// Says that a frame passes without a score because it is late, by so many nanoseconds; with the counts of scored and of
    /// late frames.
    fn post_late(&self, times: &Times, by: i64, proportion: f64, counts: [u64; 2]) {
        let time = |ns| (ns != u64::MAX).then(|| gst::ClockTime::from_nseconds(ns));
        let [scored, late] = counts.map(gst::format::Buffers::from_u64);
        let message = gst::message::Qos::builder(false)
            .src(&*self.obj())
            .running_time(time(times.running_time))
            .stream_time(time(times.stream_time))
            .timestamp(time(times.timestamp))
            .duration(time(times.duration))
            .values(by, proportion, 1_000_000) // what is passed on is as good as ever
            .stats(scored, late)
            .build();
        self.post_message(message);
    }

    fn post(&self, structure: gst::Structure) {
        self.post_message(gst::message::Element::builder(structure).src(&*self.obj()).build());
    }

    pub(super) fn post_message(&self, message: gst::Message) {
        if self.obj().post_message(message).is_err() {
            gst::debug!(CAT, imp = self, "nobody takes messages");
        }
    }

    /// Says what is to be said at the end of the stream.
    pub(super) fn end(&self) {
        let reports = self.state.lock().as_mut().map_or([None, None], |state| state.stream.end());
        self.complete_log();
        if self.settings.lock().post_messages {
            reports.iter().flatten().for_each(|report| self.post(report.to_structure()));
        }
    }

    pub(super) fn complete_log(&self) {
        if let Some(Err(e)) = self.state.lock().as_mut().map(State::complete_log) {
            gst::element_imp_warning!(self, gst::ResourceError::Write, ("the log has no end: {e}"));
        }
    }

    /// Forgets the stream so far.
    pub(super) fn reset(&self) {
        let window = self.settings.lock().window;
        if let Some(state) = self.state.lock().as_mut() {
            state.stream = Stream::new(window, state.stream.generation + 1);
        }
    }

    /// Changes the adapter of a running element; a wrong one leaves the old in use and warns.
    pub(super) fn adapt(&self, style_prompt: &str, force: bool) {
        let Some(mut scorer) = self.state.lock().as_ref().map(|state| state.scorer.clone()) else { return };
        match scorer.set_style_prompt(style_prompt, force) {
            Ok(()) => {
                if let Some(state) = self.state.lock().as_mut() {
                    state.scorer = scorer;
                }
            }
            Err(e) => {
                gst::element_imp_warning!(self, gst::LibraryError::Settings, ("the style prompt stays as it was: {e}"));
            }
        }
    }

    pub(super) fn last_score(&self) -> Option<f64> {
        self.state.lock().as_ref()?.stream.last.as_ref().map(|(quality, _)| quality.score)
    }

    pub(super) fn statistics(&self) -> gst::Structure {
        let state = self.state.lock();
        state.as_ref().map_or_else(|| gst::Structure::new_empty("qmambaiqa-statistics"), |s| s.stream.statistics())
    }
}
