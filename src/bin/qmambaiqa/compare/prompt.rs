//! Opens the scorer with the style prompt for encodings.

use crate::common::ScorerArgs;
use anyhow::Result;
use qmambaiqa::Scorer;
use qmambaiqa::embedded::DEFAULT_MODEL;
use qmambaiqa::scorer::NO_STYLE_PROMPT;

/// The value of `--style-prompt` that lets [`open`] choose.
pub const AUTO: &str = "auto";
/// The style prompt whose head was trained to order encodings of one content: it decides more pairs rightly than `compression`,
/// whose scores also compare contents (weights/README.md).
const CHOSEN: &str = "compression-pairs";
/// Help of `--style-prompt`; other subcommands have another default.
pub const HELP: &str = "Style prompt that adapts the model: auto (compression-pairs for the embedded model, none for another), \
                        none, compression, compression-pairs, generative, or a weights file";

/// Opens the scorer and replaces `auto` in `args` by the style prompt in use.
pub fn open(args: &mut ScorerArgs) -> Result<Scorer> {
    if args.style_prompt != AUTO {
        return args.open();
    }
    NO_STYLE_PROMPT.clone_into(&mut args.style_prompt);
    let mut scorer = args.open()?;
    if scorer.style_prompt_name() != NO_STYLE_PROMPT {
        return Ok(scorer); // the model has its own
    }
    match scorer.set_style_prompt(CHOSEN, args.force_style_prompt) {
        Ok(()) => CHOSEN.clone_into(&mut args.style_prompt),
        Err(_) => eprintln!(
            "qmambaiqa: note: no style prompt is used: {CHOSEN} requires {DEFAULT_MODEL}, the model is {}; choose one with \
             --style-prompt",
            args.model
        ),
    }
    Ok(scorer)
}
