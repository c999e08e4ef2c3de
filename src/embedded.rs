//! Weights that are part of the library, by name.

use crate::model::Config;
use crate::weights_file::{self, WeightsFile};
use crate::{Error, Result};
use std::path::Path;

/// The model that is used where none is named.
pub const DEFAULT_MODEL: &str = "qmamba-nano";

macro_rules! weights {
    ($($name:literal),*) => {
        [$(($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/weights/", $name, ".safetensors")) as &[u8])),*]
    };
}

const MODELS: [(&str, &[u8]); 1] = weights!["qmamba-nano"];
/// Adapters of the default model.
const STYLE_PROMPTS: [(&str, &[u8]); 3] = weights!["compression", "compression-pairs", "generative"];

/// Names of the embedded style prompts, which belong to [`DEFAULT_MODEL`].
pub fn style_prompts() -> impl Iterator<Item = &'static str> {
    STYLE_PROMPTS.iter().map(|(name, _)| *name)
}

/// Whether a model or a style prompt of this name is part of the library.
pub fn has(name: &str) -> bool {
    MODELS.iter().chain(&STYLE_PROMPTS).any(|(known, _)| *known == name)
}

/// Reads an embedded model, or a file.
///
/// # Errors
/// Neither; the message lists the embedded models.
pub fn read_model(model: &str) -> Result<WeightsFile> {
    find(&MODELS, model, || match Config::named(model) {
        Ok(_) => format!("model `{model}` is a network without embedded weights: name a weights file for it"),
        Err(_) => format!("model `{model}` is neither an embedded model ({}) nor a file", list(&MODELS)),
    })
}

/// Reads an embedded style prompt, or a file.
///
/// # Errors
/// Neither; the message lists the embedded ones.
pub fn read_style_prompt(style_prompt: &str) -> Result<WeightsFile> {
    find(&STYLE_PROMPTS, style_prompt, || {
        format!(
            "style prompt `{style_prompt}` is neither none, nor an embedded one ({}), nor a file",
            list(&STYLE_PROMPTS)
        )
    })
}

fn list(all: &[(&'static str, &[u8])]) -> String {
    all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn find(all: &[(&str, &[u8])], name: &str, neither: impl FnOnce() -> String) -> Result<WeightsFile> {
    let path = Path::new(name);
    match all.iter().find(|(known, _)| *known == name) {
        Some((_, bytes)) => weights_file::parse(bytes, path),
        None if path.exists() => weights_file::read(path),
        None => Err(Error::Input(neither())),
    }
}
