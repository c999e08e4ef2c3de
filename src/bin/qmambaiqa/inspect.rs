//! `qmambaiqa inspect`

use crate::common::{Format, line};
use anyhow::Result;
use clap::Args as ClapArgs;
use qmambaiqa::embedded::{self, DEFAULT_MODEL};
use qmambaiqa::model::parameters::{Precision, Scope, Shapes};
use qmambaiqa::model::{Adapter, AdapterConfig, Config, QMamba, load};
use qmambaiqa::weights_file::WeightsFile;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Show what a model is: its size, its configuration, and what its weights say of themselves.
///
/// A weights file is read and checked in full.
#[derive(ClapArgs)]
pub struct Args {
    /// Name of a model or of an embedded style prompt, or a weights file
    model: String,
    /// Form of the output
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    model: Option<String>,
    parameters: usize,
    macs: u64,
    depths: [usize; 4],
    width: usize,
    windows: Option<[usize; 4]>,
    style_prompt_parameters: usize,
    range: Option<(f64, f64)>,
    metadata: BTreeMap<String, String>,
    weights: Option<String>,
    /// By which adapters know the weights that they belong to.
    fingerprint: Option<String>,
    /// Whether the weights have a head that judges crops by the size of the picture that they were taken of.
    scale_head: bool,
}

#[derive(Serialize)]
struct AdapterReport<'a> {
    adapter: AdapterConfig,
    parameters: usize,
    scale_head: bool,
    /// Fingerprint of the network's weights that it belongs to.
    backbone: Option<&'a String>,
    metadata: &'a BTreeMap<String, String>,
}

/// Values of a network (backbone and head), and of a style prompt for it.
fn parameters(config: &Config) -> Result<(usize, usize)> {
    let (mut network, mut prompt) = (Shapes::default(), Shapes::default());
    QMamba::new(Scope::new(&mut network), config)?;
    Adapter::new(&mut prompt, config, &AdapterConfig::default())?;
    Ok((network.parameters(), prompt.parameters()))
}

pub fn run(args: &Args) -> Result<bool> {
    let name = args.model.as_str();
    let is_style_prompt = embedded::style_prompts().any(|known| known == name);
    if is_style_prompt || (name != DEFAULT_MODEL && Path::new(name).is_file()) {
        let file = embedded::read_style_prompt(name)?;
        if let Some(adapter) = load::adapter_alone(&file, Path::new(name))? {
            return adapter_alone(&file, adapter, args.format).map(|()| true);
        }
    }
    let bare = Config::named(name).ok().filter(|_| name != DEFAULT_MODEL && !Path::new(name).exists());
    let (model, config, range, metadata, weights, fingerprint, scale_head) = match bare {
        Some(config) => (Some(name.to_owned()), config, None, BTreeMap::new(), None, None, false),
        None => {
            let (network, _, about) = load::network(embedded::read_model(name)?, Path::new(name), Precision::Exact)?;
            let weights = if name == DEFAULT_MODEL { "embedded" } else { name };
            let fingerprint = Some(about.fingerprint);
            let scale_head = network.scale_head(None).is_some();
            (about.name, about.config, about.range, about.metadata, Some(weights.to_owned()), fingerprint, scale_head)
        }
    };
    let (parameters, style_prompt_parameters) = parameters(&config)?;
    let macs = config.macs();
    let Config { depths, width, windows } = config;
    let report = Report {
        model,
        parameters,
        macs,
        depths,
        width,
        windows,
        style_prompt_parameters,
        range,
        metadata,
        weights,
        fingerprint,
        scale_head,
    };
    match args.format {
        Format::Json => line(&serde_json::to_string(&report)?)?,
        Format::Table => table(&report)?,
    }
    Ok(true)
}

/// An adapter without its network.
fn adapter_alone(file: &WeightsFile, adapter: AdapterConfig, format: Format) -> Result<()> {
    let parameters = file.tensors.values().map(|t| t.values.len()).sum();
    let scale_head = file.tensors.keys().any(|name| load::is_scale_heads(name));
    let metadata = &file.metadata;
    if format == Format::Json {
        let backbone = metadata.get(load::BACKBONE);
        return line(&serde_json::to_string(&AdapterReport { adapter, parameters, scale_head, backbone, metadata })?);
    }
    let row = |name: &str, value: &str| line(&format!("{name:14}  {value}"));
    row("adapter", &serde_json::to_string(&adapter)?)?;
    row("parameters", &parameters.to_string())?;
    row("scale head", if scale_head { "yes" } else { "no" })?;
    for (name, value) in metadata {
        row(name, value)?;
    }
    Ok(())
}

fn table(report: &Report) -> Result<()> {
    let numbers = |all: &[usize]| all.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
    let row = |name: &str, value: &str| line(&format!("{name:14}  {value}"));
    row("model", report.model.as_deref().unwrap_or("-"))?;
    row("weights", report.weights.as_deref().unwrap_or("-"))?;
    row("fingerprint", report.fingerprint.as_deref().unwrap_or("-"))?;
    row("parameters", &report.parameters.to_string())?;
    row("style prompt", &format!("{} parameters", report.style_prompt_parameters))?;
    row("multiply-adds", &format!("{:.3} G for a crop of 224x224", report.macs as f64 / 1e9))?;
    row("depths", &numbers(&report.depths))?;
    row("width", &report.width.to_string())?;
    row("scan", &report.windows.map_or("cross".into(), |w| format!("local, windows {}", numbers(&w))))?;
    row("scale head", if report.scale_head { "yes" } else { "no" })?;
    row("range", &report.range.map_or("-".into(), |(low, high)| format!("{low} to {high}")))?;
    for (name, value) in &report.metadata {
        row(name, value)?;
    }
    Ok(())
}
