//! `qmambaiqa ffmpeg`

use crate::ffmpeg::{FORMATS, Ffmpeg};
use crate::score::How;
use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// Score whatever an ffmpeg reads and filters: `qmambaiqa ffmpeg --crops 9 -- -ss 10 -i film.mkv -vf yadif`.
///
/// What follows `--` are ffmpeg's own arguments: inputs with their options, and options of one output, whose pictures are
/// scored. Pictures that Y4M cannot hold are converted to the closest format that it can, unless `-pix_fmt` or a complex
/// filter graph says which.
#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    how: How,
    /// The ffmpeg to use
    #[arg(long, default_value = "ffmpeg")]
    ffmpeg: PathBuf,
    /// Arguments of ffmpeg, without an output
    #[arg(last = true, required = true)]
    args: Vec<String>,
}

pub fn run(args: &Args) -> Result<bool> {
    let after = |name: &str| Some(args.args.get(args.args.iter().position(|arg| arg == name)? + 1)?.as_str());
    let Some(input) = after("-i") else { bail!("no input in ffmpeg's arguments: expected `-i FILE` after `--`") };
    let Some(ffmpeg) = Ffmpeg::find(&args.ffmpeg) else {
        bail!("{} cannot be run; --ffmpeg names another", args.ffmpeg.display())
    };
    let job = args.how.job(&[input.into()])?;
    let arguments = converted(&args.args);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    job.stream(input, |score| ffmpeg.stream(&arguments, score)).map(|()| true)
}

/// The arguments with a conversion to what Y4M can hold, after the filters that they name.
fn converted(args: &[String]) -> Vec<String> {
    let mut args = args.to_vec();
    let is = |names: &'static [&str]| move |arg: &String| names.contains(&arg.as_str());
    if args.iter().any(is(&["-pix_fmt", "-filter_complex", "-lavfi", "-/filter_complex"])) {
        return args;
    }
    match args.iter().rposition(is(&["-vf", "-filter:v", "-filter:v:0"])).and_then(|at| args.get_mut(at + 1)) {
        Some(filters) => *filters = format!("{filters},{FORMATS}"),
        None => args.extend(["-vf".into(), FORMATS.into()]),
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversion_follows_the_filters() {
        let of = |text: &str| converted(&text.split(' ').map(str::to_owned).collect::<Vec<_>>()).join(" ");
        assert_eq!(of("-i a"), format!("-i a -vf {FORMATS}"));
        assert_eq!(of("-i a -vf yadif -t 2"), format!("-i a -vf yadif,{FORMATS} -t 2"));
        for same in ["-i a -pix_fmt gray", "-i a -i b -filter_complex hstack"] {
            assert_eq!(of(same), same);
        }
    }
}
