//! A run's whole state in one safetensors file, so that a killed run goes on to the result it would have had.

use super::optimizer::{Part, State};
use super::scales::Constant;
use super::settings::Settings;
use crate::weights_file::{self, WriteDtype};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Where a run stands, beside its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Position {
    pub settings: Settings,
    /// Steps made.
    pub step: usize,
    /// Best validation SRCC so far, and the epoch it was reached in.
    pub best: Option<(f64, usize)>,
    /// Seconds of training so far, over all sessions.
    pub seconds: f64,
}

/// Writes the state, and beside the averages what is not learned but is needed to use them as a model.
pub(super) fn save(path: &Path, position: &Position, optimizer: &State, constant: Option<Constant>) -> Result<()> {
    let average = |(name, tensor)| (format!("{}/{name}", Part::Average.nick()), tensor);
    let mut tensors: BTreeMap<_, _> = constant.map(average).into_iter().collect();
    for (i, slot) in optimizer.slots.iter().enumerate() {
        for part in Part::ALL {
            let values = optimizer.values(i, part)?;
            tensors.insert(format!("{}/{}", part.nick(), slot.name), (slot.variable.dims().to_vec(), values));
        }
    }
    let position = serde_json::to_string(position).map_err(|e| Error::Input(e.to_string()))?;
    let metadata = BTreeMap::from([("position".to_owned(), position)]);
    weights_file::write(path, &tensors, WriteDtype::F32, &metadata)
}

/// Restores the optimiser; none where there is no checkpoint.
///
/// # Errors
/// A checkpoint of a run with other settings, or a damaged one.
pub(super) fn load(path: &Path, settings: &Settings, optimizer: &mut State) -> Result<Option<Position>> {
    if !path.exists() {
        return Ok(None);
    }
    let wrong = |message: String| Error::Weights { path: path.to_owned(), message };
    let mut file = weights_file::read(path)?;
    let text = file.metadata.get("position").ok_or_else(|| wrong("not a training checkpoint".into()))?;
    let position: Position =
        serde_json::from_str(text).map_err(|e| wrong(format!("not a training checkpoint: {e}")))?;
    if position.settings != *settings {
        return Err(wrong("belongs to a run with other settings; remove it, or use another --out".into()));
    }
    let mut parts: [Vec<Vec<f32>>; 4] = Default::default();
    for slot in &optimizer.slots {
        for (part, vectors) in Part::ALL.into_iter().zip(&mut parts) {
            let name = format!("{}/{}", part.nick(), slot.name);
            let tensor = file.tensors.remove(&name).ok_or_else(|| wrong(format!("tensor `{name}` is missing")))?;
            if tensor.values.len() != slot.variable.elem_count() {
                return Err(wrong(format!("tensor `{name}` has the wrong size")));
            }
            vectors.push(tensor.values);
        }
    }
    optimizer.restore(parts, position.step)?;
    Ok(Some(position))
}
