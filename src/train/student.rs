//! What a run trains: a whole network, or an adapter beside a network that stays as it is.

use super::checkpoint::Position;
use super::optimizer::{Part, State};
use super::scales::ScaleHeads;
use super::settings::{Autocast, Settings};
use crate::model::load::{self, ADAPTER, BACKBONE, Description};
use crate::model::parameters::{Loaded, Precision, Scope, Trainable};
use crate::model::{Adapter, AdapterConfig, Config, Output, QMamba};
use crate::weights_file::{self, WriteDtype};
use crate::{Error, Result, embedded};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A network, and the adapter where that is what is trained.
#[derive(Debug)]
pub(super) struct Student {
    model: Arc<QMamba>,
    /// The frozen network in `f32`, as those who use the adapter will have it; none where the network is trained.
    exact: Option<Arc<QMamba>>,
    adapter: Option<Adapter>,
    /// The head of scales that is learned, where one is.
    pub(super) scales: Option<ScaleHeads>,
    /// Of the frozen network; none where the network is trained.
    frozen: Option<Arc<Description>>,
}

const HEAD: &str = "classifier.head.";

impl Student {
    /// Builds what the settings say on a device, with its variables.
    ///
    /// # Errors
    /// Unusable weights to start from.
    pub(super) fn new(settings: &Settings, device: &Device) -> Result<(Self, Trainable)> {
        match &settings.tuning {
            None => Self::network(settings, device),
            Some(adapter) => Self::tuned(settings, adapter, device),
        }
    }

    fn network(settings: &Settings, device: &Device) -> Result<(Self, Trainable)> {
        let (config, mut tensors) = match &settings.start {
            None => (Config::named(&settings.model)?, BTreeMap::new()),
            Some(start) => {
                let mut tensors = load::tensors(embedded::read_model(start)?, Path::new(start))?;
                if tensors.get("classifier.head.weight").is_some_and(|head| head.dims().first() != Some(&1)) {
                    tensors.retain(|name, _| !name.starts_with(HEAD)); // of another task
                }
                (Config::named(&settings.model)?, tensors)
            }
        };
        let (mut scale_head, share) = ScaleHeads::given(&mut tensors)?;
        if settings.scale_head {
            tensors.append(&mut scale_head);
        }
        let mut source = Trainable::new(settings.seed, tensors, device);
        source.activations = settings.autocast.activations();
        let model = QMamba::new(Scope::new(&mut source), &config)?;
        let scales = Self::scales(settings, &mut source, &config, share, None)?;
        if let Some(name) = source.unused().find(|name| !load::is_passing(name)) {
            return Err(Error::Input(format!("the weights to start from have an unknown tensor `{name}`")));
        }
        Ok((Self { model: Arc::new(model), exact: None, adapter: None, scales, frozen: None }, source))
    }

    fn tuned(settings: &Settings, config: &AdapterConfig, device: &Device) -> Result<(Self, Trainable)> {
        let Some(start) = &settings.start else {
            return Err(Error::Input("tuning needs a network to tune (--model)".into()));
        };
        let path = Path::new(start);
        let open = |of| load::network_on(embedded::read_model(start)?, path, Precision::Exact, device, of);
        let (model, own, description) = open(DType::F32)?;
        if own.is_some() {
            return Err(Error::Input(format!("{start}: has an adapter already; tune the network without it")));
        }
        let (mut given, mut share) = (BTreeMap::new(), Vec::new());
        if config.head {
            // They start as the network's own.
            given = load::tensors(embedded::read_model(start)?, path)?;
            let (mut scale_head, own_share) = ScaleHeads::given(&mut given)?;
            given.retain(|name, _| name.starts_with(HEAD));
            share = own_share;
            if settings.scale_head {
                given.append(&mut scale_head);
            }
        }
        let mut source = Trainable::new(settings.seed, given, device);
        let adapter = Adapter::new(&mut source, &description.config, config)?;
        let scales = Self::scales(settings, &mut source, &description.config, share, description.range)?;
        let exact = Arc::new(model);
        let model = match settings.autocast {
            Autocast::None => Arc::clone(&exact),
            Autocast::Bf16 => Arc::new(open(settings.autocast.activations())?.0),
        };
        let student =
            Self { model, exact: Some(exact), adapter: Some(adapter), scales, frozen: Some(Arc::new(description)) };
        Ok((student, source))
    }

    fn scales(
        settings: &Settings,
        source: &mut Trainable,
        config: &Config,
        share: Vec<f32>,
        range: Option<(f64, f64)>,
    ) -> Result<Option<ScaleHeads>> {
        if !settings.scale_head {
            return Ok(None);
        }
        Ok(Some(ScaleHeads::new(source, config.features(), share, range.unwrap_or((0.0, 1.0)))?))
    }

    /// The network's configuration.
    pub(super) fn config(&self) -> &Config {
        self.model.config()
    }

    /// The outputs for normalised crops; scores from 0 to 1.
    pub(super) fn forward(&self, crops: &Tensor) -> candle_core::Result<Output> {
        let mut output = self.model.forward(crops, self.adapter.as_ref())?;
        if let Some((low, high)) = self.frozen.as_ref().and_then(|d| d.range)
            && (low, high) != (0.0, 1.0)
        {
            output.score = output.score.affine(1.0 / (high - low), -low / (high - low))?;
        }
        Ok(output)
    }

    /// The same with the averaged weights, to infer with: in `f32`.
    pub(super) fn averaged(&self, state: &State) -> Result<Self> {
        let tensors = state.slots.iter().enumerate();
        let tensors = tensors.map(|(i, slot)| Ok((slot.name.clone(), state.tensor(i, Part::Average)?)));
        let device = state.slots.first().map_or(&Device::Cpu, |slot| slot.variable.device()).clone();
        let mut source = Loaded { tensors: tensors.collect::<Result<_>>()?, device, ..Loaded::default() };
        let scales = self.scales.as_ref().map(|scales| scales.again(&mut source)).transpose()?;
        let (model, adapter) = match (&self.adapter, &self.exact) {
            (Some(adapter), Some(exact)) => {
                (Arc::clone(exact), Some(Adapter::new(&mut source, self.config(), adapter.config())?))
            }
            _ => (Arc::new(QMamba::new(Scope::new(&mut source), self.config())?), None),
        };
        Ok(Self { model, exact: self.exact.clone(), adapter, scales, frozen: self.frozen.clone() })
    }

    /// Writes the averaged weights with what they are and where they come from.
    pub(super) fn save(
        &self,
        state: &State,
        settings: &Settings,
        out: &Path,
        position: &Position,
        reported: &serde_json::Value,
    ) -> Result<()> {
        let mut tensors = BTreeMap::new();
        for (i, slot) in state.slots.iter().enumerate().filter(|(_, slot)| !load::is_passing(&slot.name)) {
            tensors.insert(slot.name.clone(), (slot.variable.dims().to_vec(), state.values(i, Part::Average)?));
        }
        tensors.extend(self.scales.as_ref().map(ScaleHeads::constant));
        let json = |v: serde_json::Result<String>| v.map_err(|e| Error::Input(e.to_string()));
        // Names alone: where the folders lay on this machine is nobody's business.
        let name = |path: &PathBuf| path.file_name().map(PathBuf::from).unwrap_or_default();
        let shared = Settings {
            data: settings.data.iter().map(name).collect(),
            auxiliary: settings.auxiliary.iter().map(name).collect(),
            start: settings.start.as_ref().map(|s| name(&PathBuf::from(s)).display().to_string()),
            teacher_features: settings.teacher_features.as_ref().map(name),
            ..settings.clone()
        };
        let epoch = position.best.map_or(0, |(_, epoch)| epoch);
        let mut metadata = BTreeMap::from([
            ("training".to_owned(), json(serde_json::to_string(&shared))?),
            ("epoch".to_owned(), epoch.to_string()),
            ("reported".to_owned(), reported.to_string()),
            ("producer".to_owned(), concat!("qmambaiqa ", env!("CARGO_PKG_VERSION")).to_owned()),
        ]);
        match (&self.adapter, &self.frozen) {
            (Some(adapter), Some(frozen)) => {
                metadata.insert("model".to_owned(), frozen.name.clone().unwrap_or_else(|| settings.model.clone()));
                metadata.insert(BACKBONE.to_owned(), frozen.fingerprint.clone());
                metadata.insert(ADAPTER.to_owned(), json(serde_json::to_string(adapter.config()))?);
            }
            _ => {
                metadata.insert("model".to_owned(), settings.model.clone());
                metadata.insert("config".to_owned(), json(serde_json::to_string(self.config()))?);
                metadata.insert("range".to_owned(), "[0.0,1.0]".to_owned());
            }
        }
        weights_file::write(out, &tensors, WriteDtype::F16, &metadata)
    }
}
