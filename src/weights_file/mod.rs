//! Weight files: reads safetensors and PyTorch checkpoints, writes safetensors.
//!
//! A file is taken for what it holds, whatever its name. Nothing in a checkpoint is executed, no memory is reserved on
//! the word of a header alone, and a damaged file ends in an error that says what is wrong with it.

mod pickle;
mod pytorch;
mod safetensors;
mod sniff;
mod tensor;
mod write;
mod zip;

#[cfg(test)]
mod tests;

use crate::{Error, Result};
use sniff::Kind;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
pub use tensor::Dtype;
pub use write::{WriteDtype, write};

/// Larger files are refused: far above any network of this family, far below what would exhaust a machine unseen.
const MAX_FILE: u64 = 8 << 30;

/// Which format a file was in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Safetensors,
    /// A `torch.save` file, of either of its two layouts.
    PyTorch,
}

/// One tensor as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct RawTensor {
    /// No dimension is 0; a scalar has none.
    pub shape: Vec<usize>,
    /// The type in the file.
    pub dtype: Dtype,
    /// Row-major, finite, one per element; empty where `dtype` is an integer or boolean kind.
    pub values: Vec<f32>,
}

/// The content of a weights file.
#[derive(Debug, Clone)]
pub struct WeightsFile {
    /// By name, less a `module.` or `_orig_mod.` that all names begin with.
    pub tensors: BTreeMap<String, RawTensor>,
    /// The strings beside the tensors; PyTorch checkpoints have none.
    pub metadata: BTreeMap<String, String>,
    pub format: Format,
}

/// Reads a weights file.
///
/// Of a PyTorch checkpoint, the state dict is read: the one at its top, or under `model`, `state_dict`, `params`,
/// `params_ema` or `model_ema` (the first of these there is), or else the only dict with tensors.
///
/// # Errors
/// [`Error::Io`] where the file cannot be read, [`Error::Weights`] where it is no weights file, is damaged, holds a NaN
/// or an infinity, or holds a tensor of a type that is not supported.
pub fn read(path: &Path) -> Result<WeightsFile> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let unfit = |message: String| Error::Weights { path: path.to_path_buf(), message };
    // Asked before opening: opening a named pipe would wait for its other end.
    let about = fs::metadata(path).map_err(io)?;
    if about.is_dir() {
        return Err(unfit(sniff::not_weights("a directory")));
    }
    if !about.is_file() {
        return Err(unfit(sniff::not_weights("something that is not a regular file")));
    }
    if about.len() > MAX_FILE {
        return Err(unfit(format!("{} bytes, more than the {MAX_FILE} that are read", about.len())));
    }
    let mut file = File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    // The beginning tells a film from weights without reading gigabytes of it.
    file.by_ref().take(sniff::HEAD as u64).read_to_end(&mut bytes).map_err(io)?;
    sniff::kind(&bytes).map_err(unfit)?;
    let rest = usize::try_from(about.len()).unwrap_or(usize::MAX).saturating_sub(bytes.len());
    bytes.try_reserve_exact(rest).map_err(|_| unfit(format!("not enough memory for {} bytes", about.len())))?;
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(io)?;
    parse(&bytes, path)
}

/// Reads weights that are in memory, as [`read`] does; `name` is for messages.
///
/// # Errors
/// [`Error::Weights`], as [`read`].
pub fn parse(bytes: &[u8], name: &Path) -> Result<WeightsFile> {
    parse_content(bytes).map_err(|message| Error::Weights { path: name.to_path_buf(), message })
}

fn parse_content(bytes: &[u8]) -> Result<WeightsFile, String> {
    let (tensors, metadata, format) = match sniff::kind(bytes)? {
        Kind::Safetensors => {
            let (tensors, metadata) = safetensors::parse(bytes)?;
            (tensors, metadata, Format::Safetensors)
        }
        Kind::Zip => (pytorch::parse_zip(bytes)?, BTreeMap::new(), Format::PyTorch),
        Kind::Pickle => (pytorch::parse_legacy(bytes)?, BTreeMap::new(), Format::PyTorch),
    };
    if tensors.is_empty() {
        return Err("no tensors in it".into());
    }
    Ok(WeightsFile { tensors: without_wrapper(tensors), metadata, format })
}

/// Takes off what `DataParallel` and `torch.compile` put before every name.
fn without_wrapper(mut tensors: BTreeMap<String, RawTensor>) -> BTreeMap<String, RawTensor> {
    while let Some(prefix) = ["module.", "_orig_mod."]
        .into_iter()
        .find(|p| tensors.keys().all(|name| name.len() > p.len() && name.starts_with(p)) && !tensors.is_empty())
    {
        tensors = tensors
            .into_iter()
            .map(|(mut name, tensor)| {
                name.drain(..prefix.len());
                (name, tensor)
            })
            .collect();
    }
    tensors
}

/// A name from a file as it goes into a message: on one line, of bounded length.
fn shown(name: &str) -> String {
    printable(name, 80)
}

/// At most `longest` characters of `text`, control characters escaped.
fn printable(text: &str, longest: usize) -> String {
    let mut out = String::new();
    for c in text.chars().take(longest) {
        match c {
            '\\' | '"' | '\'' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(longest).is_some() {
        out.push_str("...");
    }
    out
}
