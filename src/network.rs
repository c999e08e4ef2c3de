//! Loaded networks, each in memory once however many scorers of the process use it.

use crate::Result;
use crate::crops::Crop;
use crate::embedded;
use crate::graphs::Graphs;
use crate::model::load::{self, Description};
use crate::model::parameters::Precision;
use crate::model::{Adapter, CROP, Output, QMamba};
use crate::ops;
use crate::ops::gpu::{self, Graph, Leave};
use candle_core::{DType, Device, Tensor};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

/// A network as its file has it.
#[derive(Debug)]
pub(crate) struct Network {
    pub model: QMamba,
    /// Where it runs.
    pub device: Device,
    /// The adapter that the file has too.
    pub prompt: Option<Arc<Adapter>>,
    pub description: Description,
    /// Its passes that a GPU has as a whole.
    pub graphs: Graphs,
    /// The library's own adapters that have been used, by name.
    embedded_prompts: Mutex<BTreeMap<String, Arc<Adapter>>>,
    leave: Leave,
}

impl Drop for Network {
    fn drop(&mut self) {
        self.leave.begin();
    }
}

/// What tells one network from another: a file that has been written anew is another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    model: String,
    precision: &'static str,
    activations: &'static str,
    /// As it prints, since devices have no order.
    device: String,
    /// Length and time of change.
    file: Option<(u64, Option<SystemTime>)>,
}

static LOADED: Mutex<BTreeMap<Key, Weak<Network>>> = Mutex::new(BTreeMap::new());

impl Network {
    /// The network of an embedded model or a file, loaded where no scorer has it yet.
    ///
    /// # Errors
    /// Unusable weights.
    pub(crate) fn open(model: &str, precision: Precision, device: &Device) -> Result<Arc<Self>> {
        // The integers are for CPUs; GPUs have 16-bit floats in their place.
        let (precision, activations) = match (device.is_cpu(), precision) {
            (true, precision) => (precision, DType::F32),
            (false, Precision::Exact) => (Precision::Exact, DType::F32),
            (false, Precision::Standard | Precision::Fast) => (Precision::Exact, DType::F16),
        };
        let path = Path::new(model);
        let about = if embedded::has(model) { None } else { path.metadata().ok() };
        let file = about.map(|about| (about.len(), about.modified().ok()));
        let on = format!("{:?}", device.location());
        let key = Key {
            model: model.to_owned(),
            precision: precision.nick(),
            activations: activations.as_str(),
            device: on,
            file,
        };
        // Held while loading: scorers that start at once load it once.
        let mut loaded = LOADED.lock();
        loaded.retain(|_, network| network.strong_count() > 0);
        if let Some(network) = loaded.get(&key).and_then(Weak::upgrade) {
            return Ok(network);
        }
        let _in_use = gpu::in_use();
        let (model, prompt, description) =
            load::network_on(embedded::read_model(model)?, path, precision, device, activations)?;
        let prompt = prompt.map(Arc::new);
        let (device, graphs, embedded_prompts) = (device.clone(), Graphs::default(), Mutex::default());
        let leave = Leave::default();
        let network = Arc::new(Self { model, device, prompt, description, graphs, embedded_prompts, leave });
        loaded.insert(key, Arc::downgrade(&network));
        Ok(network)
    }

    /// As [`pass`](Self::pass) on a GPU, with the results on the CPU.
    ///
    /// # Errors
    /// What fails on the GPU.
    pub(crate) fn on_gpu(self: &Arc<Self>, crops: &[Crop], adapter: Option<&Arc<Adapter>>) -> Result<[Tensor; 2]> {
        let shape = [crops.len(), CROP, CROP, 3];
        let graph = self.graphs.of(crops.len(), adapter, || {
            let (network, adapter) = (Arc::clone(self), adapter.cloned());
            Graph::record(&self.device, &shape, Box::new(move |batch| network.pass(batch, adapter.as_deref())))
        });
        let _in_use = gpu::in_use();
        let batch = self.batch(crops)?;
        Ok(match graph {
            Some(graph) => graph.run(&batch)?,
            None => gpu::to_cpu(&self.pass(&batch, adapter.map(Arc::as_ref))?)?,
        })
    }

    /// Crops as a batch `(B, 224, 224, 3)` on the GPU.
    fn batch(&self, crops: &[Crop]) -> candle_core::Result<Tensor> {
        let same = |a: &Crop, b: &Crop| std::mem::discriminant(a) == std::mem::discriminant(b);
        let part = |crops: &[Crop]| match crops[0] {
            Crop::Normalised(_) => {
                let values =
                    crops.iter().filter_map(|crop| if let Crop::Normalised(v) = crop { Some(*v) } else { None });
                Tensor::from_vec(values.collect::<Vec<_>>().concat(), (crops.len(), CROP, CROP, 3), &self.device)
            }
            Crop::Window(..) => {
                let windows = crops.iter().filter_map(|crop| match crop {
                    Crop::Window(window, level) => Some((*window, *level)),
                    Crop::Normalised(_) => None,
                });
                ops::crops_of(&windows.collect::<Vec<_>>(), &self.device)
            }
        };
        let parts = crops.chunk_by(same).map(part).collect::<candle_core::Result<Vec<_>>>()?;
        match &parts[..] {
            [batch] => Ok(batch.clone()),
            parts => Tensor::cat(parts, 0),
        }
    }

    /// Features `(B, 8 C)` and scores `(B,)` of normalised crops `(B, 224, 224, 3)`, where the network is.
    ///
    /// # Errors
    /// As [`QMamba::forward`].
    pub(crate) fn pass(&self, batch: &Tensor, adapter: Option<&Adapter>) -> candle_core::Result<[Tensor; 2]> {
        let Output { features, score, .. } = self.model.forward(batch, adapter)?;
        Ok([features, score])
    }

    /// An adapter for this network: an embedded one, which is read once, or a file's.
    ///
    /// # Errors
    /// It is no adapter for this network, or says that it belongs to other weights and `force` is not set.
    pub(crate) fn adapter(&self, style_prompt: &str, force: bool) -> Result<Arc<Adapter>> {
        let read = || -> Result<Arc<Adapter>> {
            let file = embedded::read_style_prompt(style_prompt)?;
            let _in_use = gpu::in_use();
            Ok(Arc::new(load::adapter(file, Path::new(style_prompt), &self.description, &self.device, force)?))
        };
        // A file may change between two uses, and whether one is forced is asked anew.
        if force || !embedded::has(style_prompt) {
            return read();
        }
        let mut kept = self.embedded_prompts.lock();
        Ok(match kept.get(style_prompt) {
            Some(prompt) => Arc::clone(prompt),
            None => Arc::clone(kept.entry(style_prompt.to_owned()).or_insert(read()?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::DEFAULT_MODEL;

    #[test]
    fn scorers_share_a_network_for_as_long_as_one_has_it() {
        let open = |precision| Network::open(DEFAULT_MODEL, precision, &Device::Cpu).unwrap();
        let (a, b) = (open(Precision::Standard), open(Precision::Standard));
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &open(Precision::Exact)));
        assert!(Arc::ptr_eq(&a.adapter("compression", false).unwrap(), &b.adapter("compression", false).unwrap()));
        // A copy in a file is another network, and another again once it has changed.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/qmamba-nano.safetensors");
        std::fs::copy(source, &path).unwrap();
        let file = |path: &Path| Network::open(path.to_str().unwrap(), Precision::Standard, &Device::Cpu).unwrap();
        let first = file(&path);
        assert!(!Arc::ptr_eq(&first, &a) && Arc::ptr_eq(&first, &file(&path)));
        let changed = std::fs::File::options().append(true).open(&path).unwrap();
        changed.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(!Arc::ptr_eq(&first, &file(&path)));
        let kept = Arc::downgrade(&first);
        drop(first);
        assert!(kept.upgrade().is_none());
    }
}
