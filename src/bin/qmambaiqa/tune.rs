//! `qmambaiqa tune`

use crate::training::TrainingArgs;
use anyhow::Result;
use clap::{Args as ClapArgs, ValueEnum};
use qmambaiqa::embedded;
use qmambaiqa::model::adapter::{AdapterConfig, Injection, PromptSize};
use qmambaiqa::model::parameters::Precision;
use std::path::Path;

/// Tune a trained network to other content, most often by an adapter beside it; a killed run goes on when called again.
#[derive(ClapArgs)]
pub struct Args {
    /// What is tuned; all but `full` leave the network's weights as they are and write an adapter
    #[arg(long, value_enum, default_value = "style-prompt")]
    strategy: Strategy,
    /// Network to tune: an embedded model or a weights file
    #[arg(long, default_value = embedded::DEFAULT_MODEL)]
    model: String,
    /// Prompts that each stage mixes (N of the paper)
    #[arg(long, default_value_t = 6)]
    prompts: usize,
    /// Channels of a prompt; 32 make StylePrompt about 4 % of qmamba-nano, as 256 do of the paper's networks
    #[arg(long, default_value_t = 256)]
    prompt_channels: usize,
    /// Height and width of StylePrompt's prompts, as HxW, or `layer` for those of each stage's features
    #[arg(long, default_value = "1x1", value_parser = prompt_size)]
    prompt_size: PromptSize,
    #[command(flatten)]
    training: TrainingArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Strategy {
    /// The paper's adapter
    StylePrompt,
    /// The same with a head of its own ("StylePrompt & R")
    #[value(name = "style-prompt+head")]
    StylePromptHead,
    /// The regression head alone ("R")
    Head,
    /// Every weight: writes a whole network
    Full,
    /// A scale and a shift for each channel after each stage
    Ssf,
    /// Prompts through a convolution
    ConvPrompt,
    /// Prompts through attention
    CrossAttentionPrompt,
}

fn prompt_size(text: &str) -> Result<PromptSize, String> {
    if text == "layer" {
        return Ok(PromptSize::Layer);
    }
    let sides = text.split_once('x').and_then(|(h, w)| Some((h.parse().ok()?, w.parse().ok()?)));
    sides.map(|(h, w)| PromptSize::Fixed(h, w)).ok_or_else(|| format!("`{text}`: expected HxW, such as 7x7, or layer"))
}

pub fn run(args: Args) -> Result<()> {
    let (prompts, channels, size) = (args.prompts, args.prompt_channels, args.prompt_size);
    let adapter = |injection, head| Some(AdapterConfig { injection, prompts, channels, size, head });
    let tuning = match args.strategy {
        Strategy::StylePrompt => adapter(Injection::StylePrompt, false),
        Strategy::StylePromptHead => adapter(Injection::StylePrompt, true),
        Strategy::Head => adapter(Injection::None, true),
        Strategy::Full => None,
        Strategy::Ssf => adapter(Injection::Ssf, false),
        Strategy::ConvPrompt => adapter(Injection::ConvPrompt, false),
        Strategy::CrossAttentionPrompt => adapter(Injection::CrossAttentionPrompt, false),
    };
    // The network's own name, which `full` trains on.
    let path = Path::new(&args.model);
    let (_, _, about) = qmambaiqa::model::load::network(embedded::read_model(&args.model)?, path, Precision::Exact)?;
    let name = about.config.name().unwrap_or(embedded::DEFAULT_MODEL).to_owned();
    args.training.run(name, Some(args.model), tuning)
}
