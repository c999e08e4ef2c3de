//! The ffmpeg that encodes, decodes what GStreamer does not, and measures against a reference where it has libvmaf.

use anyhow::{Context, Result, anyhow, bail};
use image::RgbImage;
use qmambaiqa::frame::Region;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

/// What libvmaf measures of a picture.
#[derive(Debug, Clone, Copy)]
pub struct Vmaf {
    /// Model vmaf_v0.6.1.
    pub vmaf: f64,
    /// VMAF without enhancement gain.
    pub neg: f64,
    pub ms_ssim: f64,
    /// Additive impairment measure: 0 is none.
    pub aim: Option<f64>,
}

/// What libvmaf measures of a video, in 8 bits and 4:2:0: means over all frames.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct FullReference {
    /// Model vmaf_v0.6.1.
    pub vmaf: f64,
    /// VMAF without enhancement gain.
    pub vmaf_neg: f64,
    /// Of luma.
    pub ssim: f64,
    /// Of luma, in decibels; without loss libvmaf gives its most, 60 for 8 bits.
    pub psnr: f64,
}

/// The filter that converts to what a Y4M stream can hold, where a picture is something else.
pub const FORMATS: &str = "format=yuv420p|yuv422p|yuv444p|yuv420p10le|yuv422p10le|yuv444p10le|gray";

/// Lines of an ffmpeg's complaint that are passed on.
const MOST_LINES: usize = 4;

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

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(["-hide_banner", "-nostdin", "-v", "error", "-y"]).args(args);
        command
    }

    fn failed(&self, args: &[&str], errors: &str) -> anyhow::Error {
        // The cause is the first line with some faults, the last with others.
        let said: Vec<&str> = errors.lines().map(str::trim).filter(|line| !line.is_empty()).take(MOST_LINES).collect();
        let said = if said.is_empty() { "no message".into() } else { said.join("; ") };
        anyhow!("{} {}: {said}", self.path.display(), args.join(" "))
    }

    fn run(&self, args: &[&str]) -> Result<Vec<u8>> {
        let out = self.command(args).output().with_context(|| format!("cannot run {}", self.path.display()))?;
        if !out.status.success() {
            return Err(self.failed(args, &String::from_utf8_lossy(&out.stderr)));
        }
        Ok(out.stdout)
    }

    /// Encodes a clip after the filters given.
    pub fn encode(&self, clip: &RawVideo, filters: Option<&str>, codec: &[&str], output: &Path) -> Result<()> {
        let (input, output) = (clip.input()?, text(output)?);
        let mut args: Vec<&str> = input.iter().map(String::as_str).collect();
        args.extend(filters.iter().flat_map(|filters| ["-vf", filters]));
        self.run(&[&args[..], &["-threads", "1"], codec, &[output.as_str()]].concat())?;
        Ok(())
    }

    /// Decodes a clip of frames of `size` and converts them to RGB, by `filter` if given; returns the last one.
    pub fn last_frame(&self, clip: &Path, filter: Option<&str>, size: (u32, u32)) -> Result<RgbImage> {
        let clip = text(clip)?;
        let filter = filter.map_or(vec![], |filter| vec!["-vf", filter]);
        let frames =
            self.run(&[&["-i", &clip], &filter[..], &["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]].concat())?;
        last_frame(frames, size).with_context(|| format!("decoding {clip}"))
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

    /// Encodes the first video stream of `clip`, its pictures as they are.
    pub fn transcode(&self, clip: &Path, codec: &[&str], output: &Path) -> Result<()> {
        let (clip, output) = (text(clip)?, text(output)?);
        self.run(&[&["-i", clip.as_str(), "-map", "0:v:0", "-threads", "1"], codec, &[output.as_str()][..]].concat())?;
        Ok(())
    }

    /// Has `read` read the first video stream of `clip` as Y4M, at a constant frame rate, scaled to `size` where given.
    /// `read` may stop before the end.
    pub fn decode<T>(
        &self,
        clip: &Path,
        size: Option<(u32, u32)>,
        read: impl FnOnce(ChildStdout) -> Result<T>,
    ) -> Result<T> {
        let clip = text(clip)?;
        let filters = size.map_or(FORMATS.into(), |(w, h)| format!("{},{FORMATS}", scaled(w, h)));
        self.stream(&["-i", &clip, "-map", "0:v:0", "-vf", &filters], read)
    }

    /// Has `read` read as Y4M what these arguments, of inputs and of one output, decode. `read` may stop before the end.
    pub fn stream<T>(&self, args: &[&str], read: impl FnOnce(ChildStdout) -> Result<T>) -> Result<T> {
        // High bit depths are an extension of Y4M.
        let args = [args, &["-strict", "-1", "-f", "yuv4mpegpipe", "pipe:1"]].concat();
        let mut errors = tempfile::tempfile()?;
        let mut child = self
            .command(&args)
            .stdout(Stdio::piped())
            .stderr(errors.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot run {}", self.path.display()))?;
        let result = match child.stdout.take() {
            Some(stdout) => read(stdout),
            None => Err(anyhow!("{} has no output", self.path.display())),
        };
        let status = child.wait()?;
        let mut said = String::new();
        errors.rewind()?;
        errors.read_to_string(&mut said)?;
        // Where reading stopped first, its own reason counts.
        if status.success() || said.contains("Broken pipe") { result } else { Err(self.failed(&args, &said)) }
    }

    /// What libvmaf says of two videos of one length, each scaled to `size` and then of a region alone, where given.
    pub fn full_reference(
        &self,
        reference: &Path,
        distorted: &Path,
        size: Option<(u32, u32)>,
        region: Option<Region>,
    ) -> Result<FullReference> {
        let scale = size.map_or(String::new(), |(w, h)| format!(",{}", scaled(w, h)));
        // Before the conversion to 4:2:0 an odd place is exact.
        let cut = region.map_or(String::new(), |Region { x, y, width, height }| {
            format!(",format=yuv444p,crop={width}:{height}:{x}:{y}")
        });
        // Equal tags: ffmpeg would convert an untagged encoding, as if it were BT.601, to the matrix of a tagged reference.
        let tags = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709";
        let chain = format!("settb=AVTB,setpts=PTS-STARTPTS{scale}{cut},format=yuv420p,{tags}");
        // Containers round times each in its own way: the nearest frame is the same one.
        let options = "ts_sync_mode=nearest:shortest=1:feature=name=psnr|name=float_ssim:\
                       model=version=vmaf_v0.6.1|version=vmaf_v0.6.1neg\\\\:name=vmaf_neg";
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let inputs = ["-i", &text(distorted)?, "-i", &text(reference)?].map(str::to_owned);
        let mean = self.libvmaf(&inputs, &chain, &format!("{options}:n_threads={threads}"))?;
        let [vmaf, vmaf_neg, ssim, psnr] = ["vmaf", "vmaf_neg", "float_ssim", "psnr_y"].map(&mean);
        Ok(FullReference { vmaf: vmaf?, vmaf_neg: vmaf_neg?, ssim: ssim?, psnr: psnr? })
    }

    /// Measures `distorted` against `reference`, one frame each.
    pub fn vmaf(&self, reference: &RawVideo, distorted: &RawVideo) -> Result<Vmaf> {
        let options = "n_threads=1:model=version=vmaf_v0.6.1|version=vmaf_v0.6.1neg\\\\:name=vmaf_neg:\
                       feature=name=float_ms_ssim";
        let inputs = [distorted.input()?, reference.input()?].concat();
        let mean = self.libvmaf(&inputs, "format=yuv420p", options)?;
        let aim = mean("integer_aim_egl_1").ok(); // libvmaf before 3.1 has none
        Ok(Vmaf { vmaf: mean("vmaf")?, neg: mean("vmaf_neg")?, ms_ssim: mean("float_ms_ssim")?, aim })
    }

    /// Runs libvmaf on both inputs, the reference second, after the filters of `chain`. Returns the means of its features by
    /// name.
    fn libvmaf(&self, inputs: &[String], chain: &str, options: &str) -> Result<impl Fn(&str) -> Result<f64> + use<>> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("vmaf.json");
        let graph = format!(
            "[0:v:0]{chain}[d];[1:v:0]{chain}[r];[d][r]libvmaf={options}:log_fmt=json:log_path={}",
            text(&log)?.replace(':', "\\\\:")
        );
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.run(&[&inputs, &["-lavfi", &graph, "-f", "null", "-"][..]].concat())?;
        let report: Value = serde_json::from_slice(&std::fs::read(&log)?)?;
        Ok(move |name: &str| {
            let mean = report["pooled_metrics"][name]["mean"].as_f64();
            mean.ok_or_else(|| anyhow!("ffmpeg's VMAF log has no mean of {name}"))
        })
    }
}

/// RGB frames in a file, as they are in memory.
pub struct RawVideo {
    path: PathBuf,
    size: (u32, u32),
}

impl RawVideo {
    pub fn write(path: PathBuf, frames: &[RgbImage]) -> Result<Self> {
        let at = || path.display().to_string();
        let mut file = File::create(&path).with_context(at)?;
        frames.iter().try_for_each(|frame| file.write_all(frame)).with_context(at)?;
        let size = frames.first().map_or((0, 0), RgbImage::dimensions);
        Ok(Self { path, size })
    }

    /// ffmpeg's arguments to read it.
    fn input(&self) -> Result<Vec<String>> {
        let size = format!("{}x{}", self.size.0, self.size.1);
        let format = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-framerate", "25", "-video_size", &size, "-i"];
        Ok(format.into_iter().map(str::to_owned).chain([text(&self.path)?]).collect())
    }
}

/// The filter that scales to a size, its pixels square.
fn scaled(width: u32, height: u32) -> String {
    format!("scale={width}:{height}:flags=bicubic,setsar=1")
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
