//! Frames to scores: crops through the network, and what their results say together.

use crate::crops::{Crop, CropPlan, Crops, Place, Scales};
use crate::device;
use crate::embedded::DEFAULT_MODEL;
use crate::frame::{Frame, Region};
use crate::model::load::Description;
use crate::model::parameters::Precision;
use crate::model::{Adapter, CROP, ScaleHead};
use crate::network::Network;
use crate::random::Random;
pub use crate::score::Score;
use crate::simd::Level;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// What stands for no style prompt.
pub const NO_STYLE_PROMPT: &str = "none";

/// Most crops that go through the network on a GPU at once: more bring no speed, and take memory.
const GPU_BATCH: usize = 256;

/// Of 100, how far scores of a GPU in half precision may be from the CPU's.
const AGREEMENT: f64 = 0.2;

/// What a scorer is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Name of an embedded model, or a weights file.
    pub model: String,
    /// `none`, an embedded adapter ([`style_prompts`](crate::embedded::style_prompts)), or a file with an adapter for the model.
    pub style_prompt: String,
    /// Whether an adapter that belongs to other weights is used all the same.
    pub force_style_prompt: bool,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// What products are computed with.
    pub precision: Precision,
    /// Threads that score; 0 for one on each core.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            model: DEFAULT_MODEL.into(),
            style_prompt: NO_STYLE_PROMPT.into(),
            force_style_prompt: false,
            device: "auto".into(),
            precision: Precision::Standard,
            threads: 0,
        }
    }
}

/// A loaded model with its threads. Cloning shares both; scorers of one model share its weights in any case.
#[derive(Clone)]
pub struct Scorer {
    network: Arc<Network>,
    prompt: Option<Arc<Adapter>>,
    prompt_name: Arc<str>,
    model_name: Arc<str>,
    threads: Arc<rayon::ThreadPool>,
    /// What it was made from, with the style prompt of now.
    options: Options,
    notice: Option<Arc<str>>,
    #[cfg(test)]
    pub(crate) pretence: Arc<parking_lot::Mutex<Pretence>>,
}

/// What a test has a scorer take for true.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Pretence {
    pub on_gpu: bool,
    /// What scoring crops fails with.
    pub fault: Option<Fault>,
}

#[cfg(test)]
pub(crate) type Fault = Box<dyn FnMut(&[Crop]) -> Option<Error> + Send>;

impl std::fmt::Debug for Scorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scorer({}, {})", self.model_name, self.prompt_name)
    }
}

impl Scorer {
    /// Loads a model. With the device `auto` a GPU is taken only where it scores as the CPU does; where it does not, the CPU is
    /// taken and [`notice`](Self::notice) says why.
    ///
    /// # Errors
    /// Unusable weights, a device that is not there.
    pub fn open(options: &Options) -> Result<Self> {
        let device = device::open(&options.device)?;
        if options.device != "auto" || device.is_cpu() {
            return Self::on(options, &device);
        }
        let cpu = Self::on(options, &Device::Cpu)?;
        // What 8-bit integers change is not the GPU's doing: it has none.
        let like = match options.precision {
            Precision::Fast => Self::on(&Options { precision: Precision::Standard, ..options.clone() }, &Device::Cpu)?,
            Precision::Exact | Precision::Standard => cpu.clone(),
        };
        let gpu = Self::on(options, &device).and_then(|gpu| gpu.agrees_with(&like).map(|()| gpu));
        gpu.or_else(|why| Ok(Self { notice: Some(format!("the CPU scores and not the GPU: {why}").into()), ..cpu }))
    }

    /// Loads a model onto a device.
    fn on(options: &Options, device: &Device) -> Result<Self> {
        Level::check().map_err(Error::Input)?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads) // 0: as many as there are cores
            .thread_name(|i| format!("qmambaiqa-{i}"))
            .build()
            .map_err(|e| Error::Input(format!("cannot start {} threads: {e}", options.threads)))?;
        let network = pool.install(|| Network::open(&options.model, options.precision, device))?;
        let name = network.description.metadata.get("name").cloned();
        let mut scorer = Self {
            prompt: None,
            prompt_name: NO_STYLE_PROMPT.into(),
            model_name: name.unwrap_or_else(|| short_name(&options.model)).into(),
            network,
            threads: Arc::new(pool),
            options: options.clone(),
            notice: None,
            #[cfg(test)]
            pretence: Arc::default(),
        };
        scorer.set_style_prompt(&options.style_prompt, options.force_style_prompt)?;
        Ok(scorer)
    }

    /// Adapts the model from the next frame on: `none`, an embedded adapter, or a file. A model file with an adapter of its
    /// own uses that for `none`. Embedded adapters are read once.
    ///
    /// # Errors
    /// The file is no adapter for this model, or says that it belongs to other weights and `force` is not set; the one in
    /// use stays.
    pub fn set_style_prompt(&mut self, style_prompt: &str, force: bool) -> Result<()> {
        (self.prompt, self.prompt_name) = if style_prompt.is_empty() || style_prompt == NO_STYLE_PROMPT {
            let own = self.network.prompt.clone();
            let name = if own.is_some() { "embedded" } else { NO_STYLE_PROMPT };
            (own, name.into())
        } else {
            (Some(self.network.adapter(style_prompt, force)?), short_name(style_prompt).into())
        };
        self.options.style_prompt = style_prompt.to_owned();
        self.options.force_style_prompt = force;
        Ok(())
    }

    /// Why the device `auto` is not the GPU that there is.
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// What whoever opens a scorer should know of it, a line each: weights that do not say what their outputs mean, and
    /// [`notice`](Self::notice).
    pub fn warnings(&self) -> Vec<String> {
        let no_range = self.network.description.range.is_none().then(|| {
            format!("the weights of {} name no range of their outputs; 0 to 1 is assumed", self.options.model)
        });
        self.notice().map(str::to_owned).into_iter().chain(no_range).collect()
    }

    /// What takes a GPU's place when it fails, the CPU; none where the GPU was asked for by name, or this is the CPU already.
    pub fn fallback(&self) -> Option<Result<Self>> {
        #[cfg(test)]
        let pretended = self.pretence.lock().on_gpu;
        #[cfg(not(test))]
        let pretended = false;
        let on_gpu = pretended || !self.network.device.is_cpu();
        (on_gpu && self.options.device == "auto").then(|| Self::on(&self.options, &Device::Cpu))
    }

    /// Whether both score one crop alike.
    fn agrees_with(&self, other: &Self) -> Result<()> {
        let mut random = Random::new(1, 0);
        // A gradient with noise, of which something is left at every size of features.
        let crop = (0..CROP * CROP * 3).map(|i| {
            let (row, column) = (i / 3 / CROP, i / 3 % CROP);
            (row + column) as f32 / CROP as f32 - 1.0 + 0.5 * (random.uniform() as f32 - 0.5)
        });
        let crop = Crops::normalised(crop.collect())?;
        let [own, others] = [self.score_crops(&crop)?.raw, other.score_crops(&crop)?.raw];
        let (low, high) = self.network.description.range.unwrap_or((0.0, 1.0));
        let difference = 100.0 * ((own - others) / (high - low)).abs();
        if difference <= AGREEMENT {
            return Ok(());
        }
        Err(Error::Input(format!(
            "{} scores a test picture {difference:.2} of 100 away from {} (at most {AGREEMENT} is right)",
            self.device(),
            other.device()
        )))
    }

    /// The embedded model's name, or the weights file's name.
    pub fn model_name(&self) -> &str {
        &self.model_name
    }

    /// `none`, or the name of the adapter in use.
    pub fn style_prompt_name(&self) -> &str {
        &self.prompt_name
    }

    /// What the weights say of themselves.
    pub fn description(&self) -> &Description {
        &self.network.description
    }

    /// The device that scores, in words.
    pub fn device(&self) -> String {
        let name = device::name(&self.network.device);
        if !self.network.device.is_cpu() {
            return name;
        }
        format!("{name}, {} threads", self.threads.current_num_threads())
    }

    /// Kinds of batches (by crops and adapter) that the GPU has as CUDA graphs, and kinds that could not be made one when that was tried. A batch
    /// that comes again and again becomes one.
    pub fn graphs(&self) -> [usize; 2] {
        self.network.graphs.counts()
    }

    /// Scores a frame, the `index`-th of its stream (random crops depend on it).
    ///
    /// # Errors
    /// A frame that no crop can be taken from, or a result that is not finite.
    pub fn score(&self, frame: &Frame, plan: &CropPlan, index: u64) -> Result<Score> {
        self.score_regions(frame, &[], plan, index)
    }

    /// As [`score`](Self::score), of regions of the frame: see [`CropPlan::sample_regions`].
    ///
    /// # Errors
    /// As [`score`](Self::score), and a region that is not within the frame.
    pub fn score_regions(&self, frame: &Frame, regions: &[Region], plan: &CropPlan, index: u64) -> Result<Score> {
        self.score_crops(&self.crops(frame, regions, plan, index)?)
    }

    /// What becomes of a plan with this model and style prompt: weights without a head of scales judge a picture by its own
    /// size, unless the plan names others.
    pub fn plan(&self, plan: &CropPlan) -> CropPlan {
        let own = plan.scales().is_auto() && self.scale_head().is_none();
        if own { plan.with_scales(Scales::NATIVE) } else { *plan }
    }

    /// The head that knows of scales, of the weights in use.
    fn scale_head(&self) -> Option<&ScaleHead> {
        self.network.model.scale_head(self.prompt.as_deref())
    }

    /// The crops that [`score_regions`](Self::score_regions) scores.
    ///
    /// # Errors
    /// As [`CropPlan::sample_regions`].
    pub fn crops(&self, frame: &Frame, regions: &[Region], plan: &CropPlan, index: u64) -> Result<Crops> {
        let as_windows = !self.network.device.is_cpu();
        let plan = self.plan(plan);
        self.threads.install(|| plan.crops_of(frame, regions, index, as_windows))
    }

    /// Scores the crops of a frame: see [`score`](Self::score).
    ///
    /// # Errors
    /// As [`score_batch`](Self::score_batch).
    pub fn score_crops(&self, crops: &Crops) -> Result<Score> {
        match self.score_batch(&[crops])?[..] {
            [score] => Ok(score),
            _ => Err(Error::Input("no crops to score".into())),
        }
    }

    /// Scores the [`crops`](Self::crops) of several frames in one batch, which a GPU is faster with. Each frame's score is what
    /// it would be alone; on a GPU, up to its roundings.
    ///
    /// # Errors
    /// As [`score`](Self::score), of any of them.
    pub fn score_batch(&self, frames: &[&Crops]) -> Result<Vec<Score>> {
        let crops: Vec<Crop> = frames.iter().flat_map(|frame| frame.each()).collect();
        let scale_head = self.scale_head();
        // Of each crop its scale, where a head that knows of scales judges it.
        let scales: Vec<Option<f64>> = frames
            .iter()
            .flat_map(|frame| {
                let by_scale = frame.by_scale() && scale_head.is_some();
                (0..frame.count()).map(move |i| frame.places().get(i).filter(|_| by_scale).map(|place| place.scale))
            })
            .collect();
        let raws = self.each_crop(&crops, |i, [features, score]| {
            let raw = match (scale_head, scales[i]) {
                (Some(head), Some(scale)) => head.output(&features.flatten_all()?.to_vec1::<f32>()?, scale),
                _ => match score.to_vec1::<f32>()?.as_slice() {
                    &[raw] => f64::from(raw),
                    raw => return Err(Error::Input(format!("{} scores of one crop", raw.len()))),
                },
            };
            if raw.is_finite() {
                Ok(raw)
            } else {
                Err(self.not_finite(format!("gives {raw} for this frame, no finite score")))
            }
        })?;
        let mut raws = &raws[..];
        let range = self.network.description.range.unwrap_or((0.0, 1.0));
        let each = frames.iter().map(|frame| {
            let own;
            (own, raws) = raws.split_at(frame.count());
            match scale_head.filter(|_| frame.by_scale() && !frame.places().is_empty()) {
                Some(head) => Score::weighted(own, &weights(head, frame.places()), range, frame.scales()),
                None => Score { scales: frame.scales(), ..Score::of(own, range) },
            }
        });
        Ok(each.collect())
    }

    /// Whether both are of one network and adapter.
    pub fn is_same(&self, other: &Self) -> bool {
        let adapters = [self, other].map(|scorer| scorer.prompt.as_ref().map(Arc::as_ptr));
        Arc::ptr_eq(&self.network, &other.network) && adapters[0] == adapters[1]
    }

    /// What the head sees of a frame: the mean over crops of the last stage's features, `8 C` values
    /// ([`Output::features`](crate::model::Output::features)).
    ///
    /// # Errors
    /// A frame that no crop can be taken from, or features that are not finite.
    pub fn features(&self, frame: &Frame, plan: &CropPlan, index: u64) -> Result<Vec<f32>> {
        let all = self.crop_features(&self.crops(frame, &[], plan, index)?)?;
        let mut mean = vec![0f32; self.network.model.config().features()];
        for crop in &all {
            mean.iter_mut().zip(crop).for_each(|(m, v)| *m += v / all.len() as f32);
        }
        Ok(mean)
    }

    /// What the head sees of each crop, `8 C` values.
    ///
    /// # Errors
    /// Features that are not finite.
    pub fn crop_features(&self, crops: &Crops) -> Result<Vec<Vec<f32>>> {
        self.each_crop(&crops.each(), |_, [features, _]| {
            let features = features.flatten_all()?.to_vec1::<f32>()?;
            if features.iter().all(|v| v.is_finite()) {
                Ok(features)
            } else {
                Err(self.not_finite("gives features for this frame that are not finite".into()))
            }
        })
    }

    /// What `read` gets of each crop's number, features and score.
    fn each_crop<T: Send>(
        &self,
        crops: &[Crop],
        read: impl Fn(usize, [Tensor; 2]) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        #[cfg(test)]
        if let Some(error) = self.pretence.lock().fault.as_mut().and_then(|fault| fault(crops)) {
            return Err(error);
        }
        if self.network.device.is_cpu() {
            // Crop by crop: what one crop gets can then not depend on those beside it, and its activations stay in cache.
            let one = |(i, crop): (usize, &Crop)| -> Result<T> {
                let crop = Tensor::from_slice(&crop.values()?, (1, CROP, CROP, 3), &Device::Cpu)?;
                read(i, self.network.pass(&crop, self.prompt.as_deref())?)
            };
            return self.threads.install(|| crops.par_iter().enumerate().map(one).collect());
        }
        self.on_gpu(crops, read).map_err(|error| match error {
            Error::Tensor(error) => Error::of_gpu(self.device(), &error),
            error => error,
        })
    }

    /// The error of a result that is no number: the model's, or half precision's, which the CPU does without.
    fn not_finite(&self, what: String) -> Error {
        let message = format!("model {} {what}", self.model_name);
        if self.network.device.is_cpu() || self.network.model.activations() == DType::F32 {
            return Error::Input(message);
        }
        Error::Device { device: self.device(), message, advice: "take precision=exact, or the device `cpu`" }
    }

    fn on_gpu<T>(&self, crops: &[Crop], read: impl Fn(usize, [Tensor; 2]) -> Result<T>) -> Result<Vec<T>> {
        let mut all = Vec::with_capacity(crops.len());
        for crops in crops.chunks(GPU_BATCH) {
            let [features, score] = self.network.on_gpu(crops, self.prompt.as_ref())?;
            for i in 0..crops.len() {
                all.push(read(all.len(), [features.narrow(0, i, 1)?, score.narrow(0, i, 1)?])?);
            }
        }
        Ok(all)
    }
}

/// How much each crop of a frame counts: as much as the others of its size, which count together by the head's share.
fn weights(head: &ScaleHead, places: &[Place]) -> Vec<f64> {
    // Regions of different sizes have scales of their own.
    let same = |a: &Place, b: &Place| a.scale == b.scale;
    let mut sizes: Vec<(Place, f64)> = Vec::new();
    for place in places {
        match sizes.iter_mut().find(|(size, _)| same(size, place)) {
            Some((_, crops)) => *crops += 1.0,
            None => sizes.push((*place, 1.0)),
        }
    }
    let total: f64 = sizes.iter().map(|(size, _)| head.share(size.scale)).sum();
    let weight = |place: &Place| {
        let crops = sizes.iter().find(|(size, _)| same(size, place)).map_or(1.0, |(_, crops)| *crops);
        head.share(place.scale) / total / crops
    };
    places.iter().map(weight).collect()
}

/// The file's name without folders and ending; an embedded model's name as it is.
fn short_name(name: &str) -> String {
    Path::new(name).file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_taken_where_it_scores_as_the_cpu_does() {
        let open = |precision, prompt: &str| {
            Scorer::open(&Options { precision, style_prompt: prompt.into(), ..Options::default() }).unwrap()
        };
        let exact = open(Precision::Exact, "none");
        open(Precision::Fast, "none").agrees_with(&exact).unwrap();
        let error = open(Precision::Exact, "compression").agrees_with(&exact).unwrap_err().to_string();
        assert!(error.contains("of 100 away from cpu"), "{error}");
    }

    #[test]
    fn the_cpu_has_no_fallback_and_a_gpu_asked_for_by_name_neither() {
        for (device, on_gpu, falls_back) in [("auto", true, true), ("auto", false, false), ("cpu", true, false)] {
            let scorer = Scorer::on(&Options { device: device.into(), ..Options::default() }, &Device::Cpu).unwrap();
            scorer.pretence.lock().on_gpu = on_gpu;
            assert_eq!(scorer.fallback().transpose().unwrap().is_some(), falls_back, "{device} {on_gpu}");
        }
    }

    #[test]
    fn unknown_models_and_prompts_are_named() {
        let open = |model: &str, prompt: &str| {
            let options = Options { model: model.into(), style_prompt: prompt.into(), ..Options::default() };
            Scorer::open(&options).unwrap_err().to_string()
        };
        assert!(open("qmamba-zero", "none").contains("qmamba-nano"));
        assert!(open("qmamba-t", "none").contains("name a weights file"));
        assert!(open(DEFAULT_MODEL, "nowhere.safetensors").contains("nowhere"));
    }
}
