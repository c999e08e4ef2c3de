//! Weight files to networks.

use super::adapter::{Injection, PromptSize};
use super::parameters::{Loaded, Precision, Scope};
use super::scale_head::{PREFIX, ScaleHead};
use super::{Adapter, AdapterConfig, Config, QMamba};
use crate::weights_file::WeightsFile;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// Why a network cannot be built from a file: the file, or the device.
fn unusable(error: &candle_core::Error, path: &Path, device: &Device) -> Error {
    if crate::error::is_of_gpu(error) {
        return Error::of_gpu(crate::device::name(device), error);
    }
    Error::Weights { path: path.to_owned(), message: crate::error::plain(error) }
}

/// What the names of the averaged weights in a checkpoint of training begin with.
const AVERAGE: &str = "average/";

/// Whether a tensor of a checkpoint is of a head that is there while training only.
pub fn is_passing(name: &str) -> bool {
    name.starts_with("teacher.") || name.starts_with("auxiliary.")
}

/// A file's tensors by the names that the network asks for: both spellings of the projections are known. Of a checkpoint of
/// training they are the averages, those of passing heads ([`is_passing`]) among them.
///
/// # Errors
/// A tensor of integers, or of a shape that cannot be the projection it is named for.
pub fn tensors(file: WeightsFile, path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    let checkpoint = file.tensors.keys().any(|name| name.starts_with(AVERAGE));
    for (name, raw) in file.tensors {
        let name = match name.strip_prefix(AVERAGE) {
            Some(name) => name.to_owned(),
            None if checkpoint => continue,
            None => name,
        };
        let wrong = |message: String| Error::Weights { path: path.to_owned(), message };
        if !raw.dtype.is_float() {
            return Err(wrong(format!("tensor `{name}` is {:?}, expected floating point", raw.dtype)));
        }
        let (name, shape) = canonical(name, raw.shape).map_err(wrong)?;
        let tensor = Tensor::from_vec(raw.values, shape, &Device::Cpu)?;
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(wrong(format!("has `{name}` in both spellings")));
        }
    }
    Ok(tensors)
}

/// `op.x_proj.weight` `(4 (R + 2N), D)` to `op.x_proj_weight` `(4, R + 2N, D)`, and the same for `dt_projs`.
fn canonical(name: String, mut shape: Vec<usize>) -> Result<(String, Vec<usize>), String> {
    let spellings = [
        (".op.x_proj.weight", ".op.x_proj_weight", 2),
        (".op.dt_projs.weight", ".op.dt_projs_weight", 2),
        (".op.dt_projs.bias", ".op.dt_projs_bias", 1),
    ];
    for (other, ours, axes) in spellings {
        if let Some(prefix) = name.strip_suffix(other) {
            if shape.len() == axes {
                if !shape[0].is_multiple_of(4) {
                    return Err(format!(
                        "tensor `{name}` has shape {shape:?}, expected four directions in the first axis"
                    ));
                }
                shape[0] /= 4;
                shape.insert(0, 4);
            }
            return Ok((format!("{prefix}{ours}"), shape));
        }
    }
    Ok((name, shape))
}

/// What a weights file says of itself, beside its tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The variant's name, where it has one.
    pub name: Option<String>,
    /// The network.
    pub config: Config,
    /// Head outputs that map to 0 and 100; none where the file does not say.
    pub range: Option<(f64, f64)>,
    /// All that the file's metadata says.
    pub metadata: BTreeMap<String, String>,
    /// Hash of the network's weights, by which adapters know the one they belong to.
    pub fingerprint: String,
}

/// Metadata of an adapter: the [`fingerprint`](Description::fingerprint) of the network it was tuned for.
pub const BACKBONE: &str = "backbone";
/// Metadata of an adapter: its [`AdapterConfig`].
pub const ADAPTER: &str = "adapter";
/// What the names of an adapter's tensors begin with, beside its head's.
const ADAPTED: [&str; 4] = ["style_prompt.", "ssf.", "conv_prompt.", "cross_attention_prompt."];

/// Whether a tensor is part of an adapter rather than of the network; a head can be either.
pub fn is_adapters(name: &str) -> bool {
    ADAPTED.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a tensor is of a head that knows of scales, which a network or an adapter may have beside its head.
pub fn is_scale_heads(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// 128 bits that change with any name, shape or value of the network's own tensors; a head of scales, which no adapter
/// depends on, does not count.
pub fn fingerprint<'a>(tensors: impl IntoIterator<Item = (&'a String, &'a Tensor)>) -> Result<String> {
    let mut hash = blake3::Hasher::new();
    let own =
        tensors.into_iter().filter(|(name, _)| !is_adapters(name) && !is_scale_heads(name)).collect::<BTreeMap<_, _>>();
    for (name, tensor) in own {
        hash.update(format!("{name}{:?}", tensor.dims()).as_bytes());
        // By pieces that stay in cache.
        let mut bytes = vec![0u8; 1 << 16];
        for values in tensor.flatten_all()?.to_vec1::<f32>()?.chunks(bytes.len() / 4) {
            for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                *bytes = value.to_le_bytes();
            }
            hash.update(&bytes[..4 * values.len()]);
        }
    }
    Ok(hash.finalize().to_hex()[..32].to_owned())
}

/// Builds the network that a file holds, with the adapter where the file has one too.
///
/// # Errors
/// Names the tensor that is missing, unknown or mis-shaped; says what to do about a classification head.
pub fn network(file: WeightsFile, path: &Path, precision: Precision) -> Result<(QMamba, Option<Adapter>, Description)> {
    network_on(file, path, precision, &Device::Cpu, DType::F32)
}

/// As [`network`], on a device, with activations of a type: see [`Source::activations`](super::parameters::Source::activations).
///
/// # Errors
/// As [`network`], and memory that the device lacks.
pub fn network_on(
    file: WeightsFile,
    path: &Path,
    precision: Precision,
    device: &Device,
    activations: DType,
) -> Result<(QMamba, Option<Adapter>, Description)> {
    let wrong = |message: String| Error::Weights { path: path.to_owned(), message };
    let metadata = file.metadata.clone();
    let mut tensors = tensors(file, path)?;
    tensors.retain(|name, _| !is_passing(name));
    let description = describe(metadata, &tensors).map_err(|e| wrong(e.to_string()))?;
    if let Some(head) = tensors.get("classifier.head.weight")
        && head.dim(0).unwrap_or(1) > 1
    {
        let classes = head.dim(0).unwrap_or(1);
        return Err(wrong(format!(
            "has a {classes}-way classification head, which scores no quality: train a quality head on it with \
             `qmambaiqa train --start {}`",
            path.display()
        )));
    }
    let has_adapter = tensors.keys().any(|name| is_adapters(name));
    // A head in such a file is the network's.
    let adapter_config =
        AdapterConfig { head: false, ..adapter_config(&description.metadata, &tensors).map_err(wrong)? };
    let of_file = |e| unusable(&e, path, device);
    let scale_head = ScaleHead::take(&mut tensors, description.config.features()).map_err(of_file)?;
    let mut source = Loaded { tensors, precision, device: device.clone(), activations };
    let mut model = QMamba::new(Scope::new(&mut source), &description.config).map_err(of_file)?;
    model.scale_head = scale_head;
    source.activations = DType::F32; // adapters'
    let adapter = if has_adapter {
        Some(Adapter::new(&mut source, &description.config, &adapter_config).map_err(of_file)?)
    } else {
        None
    };
    match source.tensors.keys().next() {
        Some(name) => Err(wrong(format!(
            "has {} tensors that {} does not have, the first is `{name}`",
            source.tensors.len(),
            description.name.as_deref().unwrap_or("this network")
        ))),
        None => Ok((model, adapter, description)),
    }
}

/// Builds an adapter for the network that `description` describes, from a file of its own, on the network's device.
///
/// # Errors
/// The adapter says that it belongs to another network, unless `force`; names the tensor that is missing, unknown or
/// mis-shaped.
pub fn adapter(
    file: WeightsFile,
    path: &Path,
    description: &Description,
    device: &Device,
    force: bool,
) -> Result<Adapter> {
    let wrong = |message: String| Error::Weights { path: path.to_owned(), message };
    let metadata = file.metadata.clone();
    let backbone = metadata.get(BACKBONE).filter(|b| **b != description.fingerprint && !force);
    if let Some(backbone) = backbone {
        let of = metadata.get("model").map(|name| format!(" of {name}")).unwrap_or_default();
        return Err(wrong(format!(
            "belongs to the weights {backbone}{of}, the model has {}: tune it for this model, or force it",
            description.fingerprint
        )));
    }
    // In 32-bit floats, whatever the network's activations: it is little beside them.
    let mut source = Loaded { tensors: tensors(file, path)?, device: device.clone(), ..Loaded::default() };
    let config = adapter_config(&metadata, &source.tensors).map_err(wrong)?;
    if !metadata.contains_key(ADAPTER) {
        // A file with network and adapter serves as an adapter too.
        source.tensors.retain(|name, _| is_adapters(name));
        if source.tensors.is_empty() {
            return Err(wrong("is no adapter: it has no `style_prompt.*` tensors".into()));
        }
    }
    let of_file = |e| unusable(&e, path, device);
    let scale_head = ScaleHead::take(&mut source.tensors, description.config.features()).map_err(of_file)?;
    let mut adapter = Adapter::new(&mut source, &description.config, &config).map_err(of_file)?;
    adapter.scale_head = scale_head;
    match source.tensors.keys().next() {
        Some(name) => Err(wrong(format!("has an unknown tensor `{name}`"))),
        None => Ok(adapter),
    }
}

/// The kind of adapter that a file without a network holds; none where it holds a network.
///
/// # Errors
/// The file's description of the adapter cannot be understood.
pub fn adapter_alone(file: &WeightsFile, path: &Path) -> Result<Option<AdapterConfig>> {
    let of_adapter = |name: &str| is_adapters(name) || name.starts_with("classifier.head.") || is_scale_heads(name);
    let alone = file.tensors.keys().all(|name| of_adapter(name));
    if !alone || file.tensors.is_empty() {
        return Ok(None);
    }
    let shapes = file.tensors.iter().map(|(name, raw)| {
        let none = Tensor::zeros((), DType::F32, &Device::Cpu)?;
        Ok((name.clone(), none.broadcast_as(raw.shape.as_slice())?))
    });
    let shapes = shapes.collect::<Result<_>>()?;
    let wrong = |message: String| Error::Weights { path: path.to_owned(), message };
    adapter_config(&file.metadata, &shapes).map_err(wrong).map(Some)
}

/// The adapter that metadata describes, or that the names and shapes of a file's tensors show.
fn adapter_config(
    metadata: &BTreeMap<String, String>,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<AdapterConfig, String> {
    let config = match metadata.get(ADAPTER) {
        Some(json) => serde_json::from_str(json).map_err(|e| format!("metadata `{ADAPTER}`: {e}"))?,
        None => {
            let kinds =
                [Injection::StylePrompt, Injection::Ssf, Injection::ConvPrompt, Injection::CrossAttentionPrompt];
            let has = |prefix: &&str| tensors.keys().any(|name| name.starts_with(*prefix));
            let injection = ADAPTED.iter().zip(kinds).find(|(prefix, _)| has(prefix)).map(|(_, kind)| kind);
            let shape = |stage| tensors.get(&format!("style_prompt.{stage}.prompts")).map_or(&[][..], Tensor::dims);
            let mut config = AdapterConfig { injection: injection.unwrap_or(Injection::None), ..Default::default() };
            if let Some((name, prompts)) = tensors.iter().find(|(name, _)| name.ends_with(".0.prompts")) {
                let &[count, channels, ..] = prompts.dims() else {
                    return Err(format!("tensor `{name}` has shape {:?}, expected two axes or four", prompts.dims()));
                };
                (config.prompts, config.channels) = (count, channels);
            }
            if let &[_, _, h, w] = shape(0) {
                let same = shape(1).get(2..) == Some(&[h, w]);
                config.size = if same { PromptSize::Fixed(h, w) } else { PromptSize::Layer };
            }
            config
        }
    };
    AdapterConfig::validate(&config).map_err(|e| e.to_string())?;
    Ok(config)
}

/// The network that metadata names, or that names and shapes of tensors show.
fn describe(metadata: BTreeMap<String, String>, tensors: &BTreeMap<String, Tensor>) -> Result<Description> {
    let config = match (metadata.get("config"), metadata.get("model")) {
        (Some(json), _) => serde_json::from_str(json).map_err(|e| Error::Input(format!("metadata `config`: {e}")))?,
        (None, Some(name)) => Config::named(name)?,
        (None, None) => infer(tensors)?,
    };
    config.validate()?;
    let range = match metadata.get("range") {
        None => None,
        Some(text) => match serde_json::from_str::<[f64; 2]>(text) {
            Ok([low, high]) if low.is_finite() && high.is_finite() && low != high => Some((low, high)),
            _ => return Err(Error::Input(format!("metadata `range`: `{text}` is not [low,high]"))),
        },
    };
    let name = config.name().map(str::to_owned).or_else(|| metadata.get("model").cloned());
    let fingerprint = fingerprint(tensors)?;
    Ok(Description { name, config, range, metadata, fingerprint })
}

/// The configuration of a file without metadata. Windows leave no trace in shapes; a gate shows that there are some.
fn infer(tensors: &BTreeMap<String, Tensor>) -> Result<Config> {
    let unknown = || Error::Input("is not a QMamba or VMamba network: no `patch_embed.5.weight`".into());
    let width = tensors.get("patch_embed.5.weight").and_then(|t| t.dims().first().copied()).ok_or_else(unknown)?;
    let depth = |i: usize| {
        let has = |j: &usize| tensors.contains_key(&format!("layers.{i}.blocks.{j}.norm.weight"));
        (0..).take_while(has).count()
    };
    let local = tensors.keys().any(|name| name.contains(".op.attn."));
    let windows = if local { Config::named("lqmamba-t")?.windows } else { None };
    Ok(Config { depths: [depth(0), depth(1), depth(2), depth(3)], width, windows })
}
