//! The ffmpeg that does the encoding, and VMAF where it has it.

use super::metrics::Vmaf;
use anyhow::{Context, Result, anyhow, bail};
use image::RgbImage;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An ffmpeg with what it can do.
pub struct Ffmpeg {
    path: PathBuf,
    encoders: BTreeSet<String>,
    vmaf: bool,
}

impl Ffmpeg {
    /// Asks an ffmpeg what it has; none where there is no such program.
    pub fn find(path: &Path) -> Option<Self> {
        let ask = |what: &str| {
            let out = Command::new(path).args(["-hide_banner", what]).stderr(Stdio::null()).output().ok()?;
            out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
        };
        let encoders = ask("-encoders")?;
        let encoders = encoders.lines().filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect();
        let vmaf = ask("-filters")?.split_whitespace().any(|word| word == "libvmaf");
        Some(Self { path: path.to_owned(), encoders, vmaf })
    }

    pub fn has(&self, encoder: &str) -> bool {
        self.encoders.contains(encoder)
    }

    pub fn has_vmaf(&self) -> bool {
        self.vmaf
    }

    fn run(&self, args: &[&str]) -> Result<Vec<u8>> {
        let mut command = Command::new(&self.path);
        command.args(["-hide_banner", "-nostdin", "-v", "error", "-y"]).args(args);
        let out = command.output().with_context(|| format!("cannot run {}", self.path.display()))?;
        if !out.status.success() {
            let errors = String::from_utf8_lossy(&out.stderr);
            let last = errors.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no message");
            bail!("{} {}: {last}", self.path.display(), args.join(" "));
        }
        Ok(out.stdout)
    }

    /// Encodes `input` in `folder`, a picture or a pattern of several, and decodes the last of what came out.
    pub fn encode(
        &self,
        folder: &Path,
        input: &str,
        codec: &[&str],
        extension: &str,
        size: (u32, u32),
    ) -> Result<RgbImage> {
        let input = text(&folder.join(input))?;
        let output = text(&folder.join(format!("encoded.{extension}")))?;
        let args =
            [&["-framerate", "25", "-i", input.as_str(), "-threads", "1"], codec, &[output.as_str()][..]].concat();
        self.run(&args)?;
        let frames = self.run(&["-i", &output, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])?;
        last_frame(frames, size).with_context(|| format!("decoding {output}"))
    }

    /// Seconds of a clip.
    pub fn duration(&self, clip: &Path) -> Result<f64> {
        // ffmpeg without an output says what the input is, and fails.
        let out = Command::new(&self.path).args(["-hide_banner", "-nostdin", "-i"]).arg(clip).output()?;
        let about = String::from_utf8_lossy(&out.stderr);
        let parse = || -> Option<f64> {
            let text = about.split("Duration: ").nth(1)?.split(',').next()?;
            text.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.trim().parse::<f64>().ok()?))
        };
        parse().ok_or_else(|| anyhow!("{}: neither a picture nor a clip that ffmpeg reads", clip.display()))
    }

    /// `count` frames of a clip from `second` on, as pictures.
    pub fn frames(&self, clip: &Path, second: f64, count: usize, folder: &Path) -> Result<Vec<RgbImage>> {
        let (clip, output) = (text(clip)?, text(&folder.join("frame%d.png"))?);
        let (second, frames) = (format!("{second:.3}"), count.to_string());
        self.run(&["-ss", &second, "-i", &clip, "-frames:v", &frames, &output])?;
        let open = |i| image::open(folder.join(format!("frame{i}.png"))).map(|p| p.into_rgb8());
        (1..=count)
            .map(open)
            .collect::<Result<_, _>>()
            .with_context(|| format!("{clip}: {count} frames from {second} s"))
    }

    /// What libvmaf says of `distorted` against `reference`, two pictures.
    pub fn vmaf(&self, reference: &Path, distorted: &Path) -> Result<Vmaf> {
        let log = distorted.with_extension("json");
        let (reference, distorted) = (text(reference)?, text(distorted)?);
        let vmaf = "[0:v]format=yuv420p[d];[1:v]format=yuv420p[r];[d][r]libvmaf=n_threads=1:\
                    model=version=vmaf_v0.6.1neg:feature=name=float_ms_ssim:log_fmt=json:log_path=";
        let graph = format!("{vmaf}{}", text(&log)?.replace(':', "\\\\:"));
        self.run(&["-i", &distorted, "-i", &reference, "-lavfi", &graph, "-f", "null", "-"])?;
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&log)?)?;
        let mean = |name: &str| {
            let mean = report["pooled_metrics"][name]["mean"].as_f64();
            mean.ok_or_else(|| anyhow!("ffmpeg's VMAF log has no mean of {name}"))
        };
        let aim = mean("integer_aim_egl_1").ok(); // libvmaf before 3.1 has none
        Ok(Vmaf { neg: mean("vmaf")?, ms_ssim: mean("float_ms_ssim")?, aim })
    }
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| anyhow!("{}: the path is not UTF-8", path.display()))
}

fn last_frame(mut frames: Vec<u8>, (width, height): (u32, u32)) -> Result<RgbImage> {
    let size = width as usize * height as usize * 3;
    if frames.is_empty() || !frames.len().is_multiple_of(size) {
        bail!("{} bytes are no frames of {width}x{height}", frames.len());
    }
    let last = frames.split_off(frames.len() - size);
    RgbImage::from_raw(width, height, last).ok_or_else(|| anyhow!("no frame"))
}
