//! The scores of frames: one by one or together, and what becomes of those that have none.

use super::convert;
use super::imp::QMambaIqa;
use super::job::{Job, Scored};
use crate::crops::Crops;
use crate::frame::Region;
use crate::indicators::Luma;
use crate::scorer::Score;
use glib::subclass::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;
use std::time::Instant;

/// Frames that cannot be scored.
pub(super) struct Failure {
    first: u64,
    last: u64,
    error: crate::Error,
}

/// What a frame shows.
struct Seen {
    /// Those to score.
    crops: Crops,
    /// Where they were taken, for an overlay.
    places: Vec<Region>,
    regions: Vec<Region>,
    luma: Luma,
}

impl QMambaIqa {
    /// What a frame shows, and the crops that are to be scored.
    fn look(&self, job: &Job, buffer: &gst::BufferRef) -> crate::Result<Seen> {
        let Job { scorer, info, settings, frame, regions, .. } = job;
        let plan = settings.plan()?;
        let mapped = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info)
            .map_err(|e| crate::Error::Input(format!("its buffer does not hold {info:?}: {e}")))?;
        let picture = convert::frame(&mapped, info)?;
        let area = self.area(&picture, job)?;
        let regions = if regions.is_empty() { vec![area] } else { regions.clone() };
        let crops = scorer.crops(&picture, &regions, &plan, *frame)?;
        let luma = Luma::of(&picture.region(area)?)?;
        let places = crops.places().iter().map(|place| place.region).collect();
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
            let crops: Vec<&Crops> = seen[scores.len()..][..group.len()].iter().map(|seen| &seen.crops).collect();
            let (batch, failed) = self.score_group(group, &crops);
            scores.extend(batch);
            if failed.is_some() {
                failure = failed;
                break;
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

    /// Scores frames of one scorer together; one after another where one of them is at fault, and not a GPU.
    fn score_group(&self, frames: &[(&Job, &gst::BufferRef)], crops: &[&Crops]) -> (Vec<Score>, Option<Failure>) {
        let [(job, _), ..] = frames else { return Default::default() };
        let error = match self.score_crops(job, crops) {
            Ok(scores) => return (scores, None),
            Err(error) => error,
        };
        if frames.len() == 1 || matches!(error, crate::Error::Device { .. }) {
            let [first, last] = [0, frames.len() - 1].map(|i| frames[i].0.frame);
            return (Vec::new(), Some(Failure { first, last, error }));
        }
        let mut scores = Vec::with_capacity(frames.len());
        for i in 0..frames.len() {
            let (score, failure) = self.score_group(&frames[i..=i], &crops[i..=i]);
            scores.extend(score);
            if failure.is_some() {
                return (scores, failure);
            }
        }
        (scores, None)
    }

    /// Scores frames' crops; where a GPU fails that was not asked for by name, on the CPU from then on.
    fn score_crops(&self, job: &Job, crops: &[&Crops]) -> crate::Result<Vec<Score>> {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crops::Crop;
    use crate::plugin::FrameQuality;
    use crate::scorer::Pretence;
    use gstreamer::prelude::*;
    use gstreamer_check::Harness;
    use parking_lot::Mutex;
    use std::sync::Arc;

    fn frame() -> gst::Buffer {
        gst::Buffer::from_slice((0..224 * 224).map(|i| (i % 251) as u8).collect::<Vec<u8>>())
    }

    /// An element that has scored a batch on what it takes for a GPU, and its score; that of each frame.
    fn scored(device: &str, batch: u32) -> (Harness, gst::Bus, f64) {
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
        let pretence = pretence(&harness);
        pretence.lock().on_gpu = true;
        (harness, bus, score)
    }

    fn pretence(harness: &Harness) -> Arc<Mutex<Pretence>> {
        let element = harness.element().unwrap().downcast::<crate::plugin::QMambaIqa>().unwrap();
        let state = element.imp().state.lock();
        state.as_ref().unwrap().scorer.pretence.clone()
    }

    /// As [`scored`], where the GPU fails from then on.
    fn failing(device: &str, batch: u32) -> (Harness, gst::Bus, f64) {
        let (harness, bus, score) = scored(device, batch);
        pretence(&harness).lock().fault = Some(Box::new(|_| {
            let message = "CUDA_ERROR_OUT_OF_MEMORY".to_owned();
            Some(crate::Error::Device { device: "cuda:0".into(), message, advice: "score fewer crops" })
        }));
        (harness, bus, score)
    }

    fn error(bus: &gst::Bus) -> String {
        let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
        let gst::MessageView::Error(error) = message.view() else { panic!("{message:?}") };
        error.error().to_string()
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
        let text = error(&bus);
        assert!(
            text.contains("frame 1 cannot be scored: cuda:0 fails") && text.contains("score fewer crops"),
            "{text}"
        );
    }

    /// Frames before one that has no score leave with theirs, as they would without a batch.
    #[test]
    fn one_frame_of_a_batch_that_cannot_be_scored_is_named() {
        let (mut harness, bus, score) = scored("auto", 4);
        pretence(&harness).lock().fault = Some(Box::new(|crops| {
            let black = |crop: &Crop| crop.values().unwrap().windows(4).all(|four| four[0] == four[3]);
            crops.iter().any(black).then(|| crate::Error::Input("gives NaN".into()))
        }));
        for _ in 0..2 {
            harness.push(frame()).unwrap();
        }
        harness.push(gst::Buffer::from_slice(vec![0u8; 224 * 224])).unwrap();
        assert_eq!((harness.buffers_in_queue(), harness.push(frame())), (0, Err(gst::FlowError::Error)));
        let scores = [(); 2].map(|()| {
            let quality = FrameQuality::from_buffer(&harness.pull().unwrap()).unwrap();
            (quality.frame, quality.score)
        });
        assert_eq!((scores, harness.buffers_in_queue()), ([(4, score), (5, score)], 0));
        let text = error(&bus);
        assert!(text.contains("frame 6 cannot be scored: gives NaN"), "{text}");
    }
}
