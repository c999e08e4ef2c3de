//! The way of a frame: whether it is scored, its score, and what is said of it.

use super::convert;
use super::imp::{CAT, QMambaIqa};
use super::quality::FrameQuality;
use super::report::{Report, Times};
use super::schedule::Turn;
use super::stream::{Job, State, Stream};
use crate::crops::CropPlan;
use glib::subclass::prelude::*;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_base::prelude::*;
use gstreamer_video as gst_video;

/// What becomes of a buffer.
pub(super) enum Next {
    Score(Box<Job>),
    /// With the score of an earlier frame, where it is to carry one.
    Pass(Option<FrameQuality>),
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
            let Some(State { scorer, info: Some(info), stream, worker }) = state.as_mut() else {
                return Err(gst::FlowError::NotNegotiated);
            };
            let frame = stream.frames;
            stream.frames += 1;
            let turn = if buffer.flags().contains(gst::BufferFlags::GAP) {
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
            if let Turn::Late { by, proportion } = turn {
                stream.late += 1;
                late = Some((by, proportion, stream.scored, stream.late));
            }
            let hold = settings.hold || worker.is_some();
            let job = (turn == Turn::Score).then(|| Job {
                scorer: scorer.clone(),
                info: info.clone(),
                settings,
                frame,
                times,
                generation: stream.generation,
            });
            match (job, worker) {
                (Some(job), None) => Next::Score(Box::new(job)),
                (job, worker) => {
                    if let Some((job, worker)) = job.zip(worker.as_ref()) {
                        // The copy shares the pixels.
                        stream.dropped += u64::from(worker.offer((job, buffer.copy())));
                    }
                    Next::Pass(if hold { stream.held(&times) } else { None })
                }
            }
        };
        if let Some((by, proportion, scored, late)) = late {
            let time = |ns| (ns != u64::MAX).then(|| gst::ClockTime::from_nseconds(ns));
            let message = gst::message::Qos::builder(false)
                .src(&*self.obj())
                .running_time(time(times.running_time))
                .stream_time(time(times.stream_time))
                .timestamp(time(times.timestamp))
                .duration(time(times.duration))
                .values(by, proportion, 1_000_000) // the quality of what is passed on is as it was
                .stats(gst::format::Buffers::from_u64(scored), gst::format::Buffers::from_u64(late))
                .build();
            self.post_message(message);
        }
        Ok(next)
    }

    pub(super) fn attach(&self, quality: &FrameQuality, buffer: &mut gst::BufferRef) -> Result<(), gst::FlowError> {
        quality.attach(buffer).map_err(|e| {
            gst::element_imp_error!(self, gst::CoreError::Failed, ("cannot attach the score to the buffer: {e}"));
            gst::FlowError::Error
        })
    }

    pub(super) fn score(&self, job: &Job, buffer: &gst::BufferRef) -> crate::Result<FrameQuality> {
        let Job { scorer, info, settings, frame, .. } = job;
        let plan = CropPlan::new(settings.crops as usize, settings.sampling.into(), settings.seed)?;
        let mapped = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info)
            .map_err(|e| crate::Error::Input(format!("its buffer does not hold {info:?}: {e}")))?;
        let score = scorer.score(&convert::frame(&mapped, info)?, &plan, *frame)?;
        Ok(FrameQuality::new(score, scorer.model_name(), scorer.style_prompt_name(), *frame))
    }

    /// Scores a frame beside the stream.
    pub(super) fn work(&self, job: &Job, buffer: &gst::BufferRef) {
        match self.score(job, buffer) {
            // An alarm that shall stop the stream has posted its error.
            Ok(quality) => drop(self.take(quality, job)),
            Err(e) => {
                gst::element_imp_error!(self, gst::StreamError::Failed, ("frame {} cannot be scored: {e}", job.frame));
            }
        }
    }

    /// Takes a frame's score into account, unless its stream is no more, and says what is to be said.
    pub(super) fn take(&self, quality: FrameQuality, job: &Job) -> Result<gst::FlowSuccess, gst::FlowError> {
        let alarm = {
            let mut state = self.state.lock();
            let stream = state.as_mut().map(|state| &mut state.stream);
            let Some(stream) = stream.filter(|stream| stream.generation == job.generation) else {
                return Ok(gst::FlowSuccess::Ok);
            };
            stream.take(&quality, job.times, &job.settings)
        };
        if job.settings.post_messages {
            self.post(&Report::Frame { times: job.times, quality });
        }
        let Some(alarm) = alarm else { return Ok(gst::FlowSuccess::Ok) };
        self.post(&alarm);
        if let Report::Alarm { low: true, score, threshold, .. } = alarm
            && job.settings.alarm_error
        {
            gst::element_imp_error!(
                self,
                gst::StreamError::Failed,
                ("quality is too low: {score:.1}, wanted {threshold:.1} or more (alarm-error is set)")
            );
            return Err(gst::FlowError::Error);
        }
        Ok(gst::FlowSuccess::Ok)
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

    fn post(&self, report: &Report) {
        self.post_message(gst::message::Element::builder(report.to_structure()).src(&*self.obj()).build());
    }

    fn post_message(&self, message: gst::Message) {
        if self.obj().post_message(message).is_err() {
            gst::debug!(CAT, imp = self, "nobody takes messages");
        }
    }

    pub(super) fn post_pooled(&self) {
        if !self.settings.lock().post_messages {
            return;
        }
        let pooled = self.state.lock().as_ref().and_then(|state| {
            let times = state.stream.last.as_ref().map(|(_, times)| *times)?;
            Some(Report::Pooled { times, statistics: state.stream.pool.stream()? })
        });
        if let Some(report) = pooled {
            self.post(&report);
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
