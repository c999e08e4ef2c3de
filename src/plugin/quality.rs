//! The quality that a buffer carries.

use super::job::Job;
use crate::crops::Scales;
use crate::frame::Region;
use crate::indicators::Indicators;
use crate::scorer::Score;
use gstreamer as gst;
use std::sync::Once;

/// Name of the custom meta.
pub const META_NAME: &str = "GstQMambaIqaMeta";

/// What the meta of a buffer says.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameQuality {
    /// 0 (worst) to 100 (best).
    pub score: f64,
    /// The network's output, mean over crops.
    pub raw: f64,
    /// Standard deviation over crops, on the scale of `score`.
    pub deviation: f64,
    /// Half-width of the 95 % confidence interval of `score` over crops; NaN for one crop.
    pub confidence: f64,
    /// Crops scored.
    pub crops: u32,
    /// The reductions of the picture that they were taken of; in the meta a text such as `1,2,4`.
    pub scales: Scales,
    /// Name of the model.
    pub model: String,
    /// Name of the adapter, or `none`.
    pub style_prompt: String,
    /// Number of the frame that was scored, from 0 at the start of the stream.
    pub frame: u64,
    /// Whether the score is that of an earlier frame, repeated because of the property `hold` or `async`.
    pub held: bool,
    /// Running time since the frame that was scored, in nanoseconds; 0 for that frame itself, `u64::MAX` where unknown.
    pub age: u64,
    /// What of that frame was scored; in the meta a text, `x,y,width,height`, with `;` between several.
    pub regions: Vec<Region>,
    /// What is plainly wrong with that frame: fields of the same names, NaN where there is none.
    pub indicators: Indicators,
}

impl FrameQuality {
    pub(super) fn new(score: Score, regions: Vec<Region>, indicators: Indicators, job: &Job) -> Self {
        Self {
            score: score.score,
            raw: score.raw,
            deviation: score.deviation,
            confidence: score.confidence,
            crops: score.crops as u32,
            scales: score.scales,
            model: job.scorer.model_name().to_owned(),
            style_prompt: job.scorer.style_prompt_name().to_owned(),
            frame: job.frame,
            held: false,
            age: 0,
            regions,
            indicators,
        }
    }

    /// Makes the meta known to GStreamer, once for the process.
    pub(super) fn register() {
        // Elements start at the same time, and another copy of this library may have registered it.
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            if !gst::meta::CustomMeta::is_registered(META_NAME) {
                gst::meta::CustomMeta::register(META_NAME, &[]); // no tags: kept whatever happens to the pixels
            }
        });
    }

    /// The quality that a buffer carries; none where it was not scored.
    pub fn from_buffer(buffer: &gst::BufferRef) -> Option<Self> {
        if !gst::meta::CustomMeta::is_registered(META_NAME) {
            return None;
        }
        let meta = gst::meta::CustomMeta::from_buffer(buffer, META_NAME).ok()?;
        Self::from_structure(meta.structure())
    }

    /// Attaches the quality to a buffer, in place of one that it carries already.
    ///
    /// # Errors
    /// GStreamer refuses.
    pub fn attach(&self, buffer: &mut gst::BufferRef) -> Result<(), glib::BoolError> {
        Self::register();
        #[cfg(feature = "analytics")]
        super::analytics::attach(self.score, buffer)?;
        if let Ok(mut meta) = gst::meta::CustomMeta::from_mut_buffer(buffer, META_NAME) {
            self.write(meta.mut_structure());
            return Ok(());
        }
        let mut meta = gst::meta::CustomMeta::add(buffer, META_NAME)?;
        self.write(meta.mut_structure());
        Ok(())
    }

    /// Sets the fields of a structure, those of the meta and of the frame message.
    pub(super) fn write(&self, structure: &mut gst::StructureRef) {
        structure.set("score", self.score);
        structure.set("raw", self.raw);
        structure.set("deviation", self.deviation);
        structure.set("confidence", self.confidence);
        structure.set("crops", self.crops);
        structure.set("scales", self.scales.to_string());
        structure.set("model", &self.model);
        structure.set("style-prompt", &self.style_prompt);
        structure.set("frame", self.frame);
        structure.set("held", self.held);
        structure.set("age", self.age);
        structure.set("regions", self.regions.iter().map(Region::to_string).collect::<Vec<_>>().join(";"));
        let Indicators { black, change, frozen, sharpness, scene } = self.indicators;
        structure.set("black", black);
        structure.set("change", change.unwrap_or(f64::NAN));
        structure.set("frozen", frozen);
        structure.set("sharpness", sharpness.unwrap_or(f64::NAN));
        structure.set("scene", scene);
    }

    /// Reads the fields that [`attach`](Self::attach) sets; none where one is missing.
    pub fn from_structure(structure: &gst::StructureRef) -> Option<Self> {
        let known = |name| structure.get::<f64>(name).ok().map(|value| (!value.is_nan()).then_some(value));
        let regions = structure.get::<&str>("regions").ok()?;
        Some(Self {
            score: structure.get("score").ok()?,
            raw: structure.get("raw").ok()?,
            deviation: structure.get("deviation").ok()?,
            confidence: structure.get("confidence").ok()?,
            crops: structure.get("crops").ok()?,
            scales: structure.get::<&str>("scales").ok()?.parse().ok()?,
            model: structure.get("model").ok()?,
            style_prompt: structure.get("style-prompt").ok()?,
            frame: structure.get("frame").ok()?,
            held: structure.get("held").ok()?,
            age: structure.get("age").ok()?,
            regions: regions.split(';').map(|region| region.parse().ok()).collect::<Option<_>>()?,
            indicators: Indicators {
                black: structure.get("black").ok()?,
                change: known("change")?,
                frozen: structure.get("frozen").ok()?,
                sharpness: known("sharpness")?,
                scene: structure.get("scene").ok()?,
            },
        })
    }
}
