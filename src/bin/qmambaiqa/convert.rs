//! `qmambaiqa convert`

use crate::common::line;
use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use qmambaiqa::model::load;
use qmambaiqa::model::parameters::Precision;
use qmambaiqa::weights_file::{self, WriteDtype};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Convert a weights file (safetensors, PyTorch) to safetensors with this project's names and metadata.
///
/// The file is checked as a network first.
#[derive(ClapArgs)]
pub struct Args {
    /// Weights file to read
    input: PathBuf,
    /// Weights file to write
    output: PathBuf,
    /// The network that it is, where the file does not say (the windows of a local scan cannot be told)
    #[arg(long)]
    model: Option<String>,
    /// Write 16-bit floats: half the size
    #[arg(long)]
    half: bool,
    /// Replace the output where it exists; the input is never replaced
    #[arg(long)]
    force: bool,
}

fn read(args: &Args) -> Result<weights_file::WeightsFile> {
    let mut file = weights_file::read(&args.input)?;
    if let Some(model) = &args.model {
        file.metadata.remove("config");
        file.metadata.insert("model".into(), model.clone());
    }
    Ok(file)
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

pub fn run(args: &Args) -> Result<bool> {
    let (input, output) = (&args.input, &args.output);
    if same(input, output) {
        bail!("{}: is the input, which is not replaced", output.display());
    }
    if output.exists() && !args.force {
        bail!("{}: exists; --force replaces it", output.display());
    }
    let (_, _, about) = load::network(read(args)?, input, Precision::Exact)?;
    let mut tensors = BTreeMap::new();
    for (name, tensor) in load::tensors(read(args)?, input)? {
        let values = tensor.flatten_all().and_then(|t| t.to_vec1::<f32>());
        let values = values.with_context(|| format!("{}: tensor `{name}`", input.display()))?;
        tensors.insert(name, (tensor.dims().to_vec(), values));
    }
    let mut metadata = about.metadata;
    metadata.insert("config".into(), serde_json::to_string(&about.config)?);
    if let Some(name) = &about.name {
        metadata.insert("model".into(), name.clone());
    }
    let dtype = if args.half { WriteDtype::F16 } else { WriteDtype::F32 };
    weights_file::write(output, &tensors, dtype, &metadata)?;
    let name = about.name.as_deref().unwrap_or("network");
    line(&format!("{}: {name}, {} tensors", output.display(), tensors.len()))?;
    Ok(true)
}
