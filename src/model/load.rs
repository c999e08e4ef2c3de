//! Weight files to networks.

use super::parameters::{Loaded, Scope};
use super::{Config, QMamba, StylePrompt};
use crate::weights_file::WeightsFile;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// A file's tensors by the names that the network asks for: both spellings of the projections are known.
///
/// # Errors
/// A tensor of integers, or of a shape that cannot be the projection it is named for.
pub fn tensors(file: WeightsFile, path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    for (name, raw) in file.tensors {
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
}

/// Builds the network that a file holds, with the adapter where the file has one too.
///
/// # Errors
/// Names the tensor that is missing, unknown or mis-shaped; says what to do about a classification head.
pub fn network(file: WeightsFile, path: &Path) -> Result<(QMamba, Option<StylePrompt>, Description)> {
    let wrong = |message: String| Error::Weights { path: path.to_owned(), message };
    let metadata = file.metadata.clone();
    let tensors = tensors(file, path)?;
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
    let has_prompt = tensors.keys().any(|name| name.starts_with("style_prompt."));
    let mut source = Loaded { tensors };
    let of_file = |e: candle_core::Error| wrong(crate::error::plain(&e));
    let model = QMamba::new(Scope::new(&mut source), &description.config).map_err(of_file)?;
    let prompt = if has_prompt {
        Some(StylePrompt::new(Scope::new(&mut source), &description.config).map_err(of_file)?)
    } else {
        None
    };
    match source.tensors.keys().next() {
        Some(name) => Err(wrong(format!(
            "has {} tensors that {} does not have, the first is `{name}`",
            source.tensors.len(),
            description.name.as_deref().unwrap_or("this network")
        ))),
        None => Ok((model, prompt, description)),
    }
}

/// Builds an adapter for a network from a file of its own.
///
/// # Errors
/// Names the tensor that is missing, unknown or mis-shaped.
pub fn style_prompt(file: WeightsFile, path: &Path, config: &Config) -> Result<StylePrompt> {
    let wrong = |message: String| Error::Weights { path: path.to_owned(), message };
    let mut source = Loaded { tensors: tensors(file, path)? };
    // A file with backbone and adapter serves as an adapter too.
    source.tensors.retain(|name, _| name.starts_with("style_prompt."));
    if source.tensors.is_empty() {
        return Err(wrong("is not a style prompt: it has no `style_prompt.*` tensors".into()));
    }
    let of_file = |e: candle_core::Error| wrong(crate::error::plain(&e));
    let prompt = StylePrompt::new(Scope::new(&mut source), config).map_err(of_file)?;
    match source.tensors.keys().next() {
        Some(name) => Err(wrong(format!("has an unknown tensor `{name}`"))),
        None => Ok(prompt),
    }
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
    Ok(Description { name, config, range, metadata })
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
