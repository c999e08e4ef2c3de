//! Writing safetensors.

use super::safetensors::METADATA;
use super::tensor::{View, named};
use crate::{Error, Result};
use half::f16;
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The type that tensors are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteDtype {
    F32,
    /// Half the size, 11 bits of precision, values up to 65504.
    F16,
}

/// Writes `tensors` (shape and row-major values, by name) and `metadata` as safetensors. The same content gives the
/// same bytes. The file appears under its name only when it is whole: a reader, or a crash, never meets half of it.
///
/// # Errors
/// [`Error::Input`] naming the tensor whose values do not fit its shape or the type, or that has no elements;
/// [`Error::Io`] where the file cannot be written.
pub fn write(
    path: &Path,
    tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    dtype: WriteDtype,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let header = header(tensors, dtype, metadata).map_err(Error::Input)?;
    let Some(name) = path.file_name() else {
        return Err(Error::Input(format!("{} does not name a file", path.display())));
    };
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}-{}.tmp", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed)));
    let temporary = path.with_file_name(temporary);
    let written = write_all(&temporary, &header, tensors, dtype).and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = written {
        // What is left of it is of no use; that it cannot be removed adds nothing to the first error.
        let _ = fs::remove_file(&temporary);
        return Err(Error::Io { path: path.to_path_buf(), source });
    }
    // Makes the new name last through a power cut, where the file system can: the content is safe already.
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(())
}

fn write_all(
    path: &Path,
    header: &[u8],
    tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    dtype: WriteDtype,
) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header)?;
    for &value in tensors.values().flat_map(|(_, values)| values) {
        match dtype {
            WriteDtype::F32 => out.write_all(&value.to_le_bytes())?,
            WriteDtype::F16 => out.write_all(&f16::from_f32(value).to_le_bytes())?,
        }
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// The JSON header, after checking what it describes: whatever is written can be read.
fn header(
    tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    dtype: WriteDtype,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, String> {
    let (kind, size) = match dtype {
        WriteDtype::F32 => ("F32", 4),
        WriteDtype::F16 => ("F16", 2),
    };
    let mut entries = Map::new();
    if !metadata.is_empty() {
        entries.insert(METADATA.into(), json!(metadata));
    }
    let mut at = 0usize;
    for (name, (shape, values)) in tensors {
        if name == METADATA {
            return Err(named(name, "this name is taken by the format"));
        }
        let count = View::contiguous(shape.clone()).and_then(|v| v.count()).map_err(|e| named(name, &e))?;
        if count != values.len() {
            return Err(named(name, &format!("shape {shape:?} does not fit {} values", values.len())));
        }
        let fits = |v: f32| match dtype {
            WriteDtype::F32 => v.is_finite(),
            WriteDtype::F16 => f16::from_f32(v).is_finite(),
        };
        if let Some((i, v)) = values.iter().enumerate().find(|(_, v)| !fits(**v)) {
            return Err(named(name, &format!("its value {v} at position {i} cannot be written as {kind}")));
        }
        let end = at + size * count;
        entries.insert(name.clone(), json!({ "dtype": kind, "shape": shape, "data_offsets": [at, end] }));
        at = end;
    }
    let mut header = serde_json::to_vec(&entries).map_err(|e| e.to_string())?;
    // The elements begin at a multiple of 8 bytes, for those who map the file.
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}
