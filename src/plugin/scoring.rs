//! The way of a frame: whether it is scored, its score, and what is said of it.

use super::convert;
use super::imp::{CAT, QMambaIqa};
use super::quality::FrameQuality;
use super::report::{Report, Times};
use super::schedule::Turn;
use super::state::{Job, Outcome, Scored, State};
use super::stream::Stream;
use crate::crops::CropPlan;
use crate::frame::Region;
use crate::indicators::{Luma, Reason};
use crate::metrics::Event;
use crate::scorer::Score;
use glib::subclass::prelude::*;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_base::prelude::*;
use gstreamer_video as gst_video;
use std::time::Instant;

/// What becomes of a buffer.
pub(super) enum Next {
    Score(Box<Job>),
    /// With the score of an earlier frame, where it is to carry one.
    Pass(Option<FrameQuality>),
    /// With the newest score when it leaves; these are its times.
    Hold(Times),
}

/// Frames that cannot be scored.
pub(super) struct Failure {
    first: u64,
    last: u64,
    error: crate::Error,
}

/// What a frame shows.
struct Seen {
    /// Those to score.
    crops: Vec<f32>,
    /// Where they were taken, for an overlay.
    places: Vec<Region>,
    regions: Vec<Region>,
    luma: Luma,
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

    /// What a frame shows, and the crops that are to be scored.
    fn look(&self, job: &Job, buffer: &gst::BufferRef) -> crate::Result<Seen> {
        let Job { scorer, info, settings, frame, regions, .. } = job;
        let plan = CropPlan::new(settings.crops as usize, settings.sampling.into(), settings.seed)?;
        let mapped = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info)
            .map_err(|e| crate::Error::Input(format!("its buffer does not hold {info:?}: {e}")))?;
        let picture = convert::frame(&mapped, info)?;
        let area = self.area(&picture, job)?;
        let regions = if regions.is_empty() { vec![area] } else { regions.clone() };
        let crops = scorer.crops(&picture, &regions, &plan, *frame)?;
        let luma = Luma::of(&picture.region(area)?)?;
        let places = if settings.overlay { plan.rectangles(&regions, *frame)? } else { Vec::new() };
        Ok(Seen { crops, regions, places, luma })
    }

    /// Scores frames together: those before the first that fails, and its failure.
    pub(super) fn score(&self, frames: &[(&Job, &gst::BufferRef)]) -> (Vec<Scored>, Option<Failure>) {
        let begin = Instant::now();
        let (mut seen, mut failure) = (Vec::new(), None);
        for (job, buffer) in frames {
            match self.look(job, buffer) {
                Ok(look) => seen.push(look),
                Err(error) => {
                    failure = Some(Failure { first: job.frame, last: job.frame, error });
                    break;
                }
            }
        }
        let mut scores = Vec::with_capacity(seen.len());
        // A style prompt may have changed between two frames.
        for group in frames[..seen.len()].chunk_by(|(a, _), (b, _)| a.scorer.is_same(&b.scorer)) {
            let crops: Vec<&[f32]> = seen[scores.len()..][..group.len()].iter().map(|seen| &*seen.crops).collect();
            match self.score_crops(group[0].0, &crops) {
                Ok(batch) => scores.extend(batch),
                Err(error) => {
                    let [first, last] = [0, group.len() - 1].map(|i| group[i].0.frame);
                    failure = Some(Failure { first, last, error });
                    break;
                }
            }
        }
        let took = begin.elapsed() / frames.len().max(1) as u32;
        let scored = scores.into_iter().zip(seen).map(|(score, Seen { regions, places, luma, .. })| Scored {
            score,
            regions,
            crops: places,
            luma,
            took,
        });
        (scored.collect(), failure)
    }

    /// Scores frames' crops; where a GPU fails that was not asked for by name, on the CPU from then on.
    fn score_crops(&self, job: &Job, crops: &[&[f32]]) -> crate::Result<Vec<Score>> {
        let error = match job.scorer.score_batch(crops) {
            Err(error @ crate::Error::Device { .. }) => error,
            result => return result,
        };
        let Some(cpu) = job.scorer.fallback().transpose()? else { return Err(error) };
        // Frames that were held or handed on before still name the GPU.
        let first = self.state.lock().as_mut().is_some_and(|state| {
            let first = state.scorer.is_same(&job.scorer);
            if first {
                state.scorer = cpu.clone();
            }
            first
        });
        if first {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Failed,
                ("the CPU scores from frame {} on: {error}", job.frame)
            );
        }
        cpu.score_batch(crops)
    }

    /// Says why frames have no scores.
    pub(super) fn failed(&self, Failure { first, last, error }: &Failure) -> gst::FlowError {
        let frames = if first == last { format!("frame {first}") } else { format!("frames {first} to {last}") };
        gst::element_imp_error!(self, gst::StreamError::Failed, ("{frames} cannot be scored: {error}"));
        gst::FlowError::Error
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

    fn post_message(&self, message: gst::Message) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use gstreamer_check::Harness;

    fn frame() -> gst::Buffer {
        gst::Buffer::from_slice((0..224 * 224).map(|i| (i % 251) as u8).collect::<Vec<u8>>())
    }

    /// An element that has scored a frame on what it takes for a GPU, which fails from then on.
    fn failing(device: &str, batch: u32) -> (Harness, gst::Bus, f64) {
        gst::init().unwrap();
        crate::plugin::register().unwrap();
        let element = gst::ElementFactory::make("qmambaiqa").build().unwrap();
        let element = element.downcast::<crate::plugin::QMambaIqa>().unwrap();
        element.set_property("crops", 2u32);
        element.set_property("batch", batch);
        element.set_property("max-latency", 60_000_000_000u64);
        element.set_property("device", device);
        let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        harness.set_src_caps_str("video/x-raw,format=GRAY8,width=224,height=224,framerate=25/1");
        for _ in 0..batch {
            harness.push(frame()).unwrap();
        }
        let score = element.property::<f64>("last-score");
        (0..batch).for_each(|_| drop(harness.pull().unwrap()));
        let state = element.imp().state.lock();
        let message = "CUDA_ERROR_OUT_OF_MEMORY".to_owned();
        let error = crate::Error::Device { device: "cuda:0".into(), message, advice: "score fewer crops" };
        *state.as_ref().unwrap().scorer.fault.lock() = Some(error);
        drop(state);
        (harness, bus, score)
    }

    #[test]
    fn the_cpu_takes_over_from_a_gpu_that_fails() {
        for batch in [1, 3] {
            let (mut harness, bus, score) = failing("auto", batch);
            for _ in 0..batch {
                harness.push(frame()).unwrap();
            }
            for i in 0..u64::from(batch) {
                let quality = FrameQuality::from_buffer(&harness.pull().unwrap()).unwrap();
                assert_eq!((quality.frame, quality.score), (u64::from(batch) + i, score));
            }
            let warnings: Vec<_> =
                std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Warning, gst::MessageType::Error]))
                    .collect();
            let [warning] = &warnings[..] else { panic!("{warnings:?}") };
            let gst::MessageView::Warning(warning) = warning.view() else { panic!("{warning:?}") };
            let text = warning.error().to_string();
            assert!(text.contains(&format!("the CPU scores from frame {batch} on: cuda:0 fails")), "{text}");
        }
    }

    #[test]
    fn a_gpu_asked_for_by_name_that_fails_is_an_error() {
        let (mut harness, bus, _) = failing("cpu", 1);
        assert_eq!(harness.push(frame()), Err(gst::FlowError::Error));
        let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
        let gst::MessageView::Error(error) = message.view() else { panic!("{message:?}") };
        let text = error.error().to_string();
        assert!(
            text.contains("frame 1 cannot be scored: cuda:0 fails") && text.contains("score fewer crops"),
            "{text}"
        );
    }
}
