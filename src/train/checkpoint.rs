//! A run's whole state in one safetensors file, so that a killed run goes on to the result it would have had.

use super::optimizer::State;
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

const PARTS: [&str; 4] = ["value", "first", "second", "average"];

pub(super) fn save(path: &Path, position: &Position, optimizer: &State) -> Result<()> {
    let mut tensors = BTreeMap::new();
    for slot in &optimizer.slots {
        for (part, values) in PARTS.iter().zip([&slot.value, &slot.first, &slot.second, &slot.average]) {
            tensors.insert(format!("{part}/{}", slot.name), (slot.variable.dims().to_vec(), values.clone()));
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
    for slot in &mut optimizer.slots {
        let targets = [&mut slot.value, &mut slot.first, &mut slot.second, &mut slot.average];
        for (part, target) in PARTS.iter().zip(targets) {
            let name = format!("{part}/{}", slot.name);
            let tensor = file.tensors.remove(&name).ok_or_else(|| wrong(format!("tensor `{name}` is missing")))?;
            if tensor.values.len() != target.len() {
                return Err(wrong(format!("tensor `{name}` has the wrong size")));
            }
            *target = tensor.values;
        }
    }
    optimizer.step = position.step;
    optimizer.publish()?;
    Ok(Some(position))
}
