//! What full-reference metrics say, on one scale.

use crate::ffmpeg::{Ffmpeg, RawVideo, Vmaf};
use anyhow::{Context, Result, anyhow};
use fast_ssim2::{PixelDescriptor, PixelSlice, Ssimulacra2Reference};
use image::RgbImage;

/// What a picture's label is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Label {
    /// The mean of SSIMULACRA2 and, where ffmpeg has libvmaf 3.1 and the distortion adds something, AIM
    Impairment,
    /// SSIMULACRA2
    Ssimulacra2,
    /// The mean of SSIMULACRA2 and, where ffmpeg has libvmaf, VMAF NEG and MS-SSIM
    Mean,
    /// VMAF (model vmaf_v0.6.1); needs an ffmpeg with libvmaf
    Vmaf,
}

/// The metrics of one distorted picture as they are; those of libvmaf where ffmpeg has it.
#[derive(Debug, Clone, Copy)]
pub struct Metrics {
    pub ssimulacra2: f64,
    pub vmaf: Option<Vmaf>,
}

/// A reference image, prepared for comparisons.
pub struct Reference<'a> {
    ssimulacra2: Ssimulacra2Reference,
    file: &'a RawVideo,
}

impl<'a> Reference<'a> {
    /// `file` has the same image.
    pub fn new(image: &RgbImage, file: &'a RawVideo) -> Result<Self> {
        let ssimulacra2 = Ssimulacra2Reference::new(&pixels(image)?).context("SSIMULACRA2")?;
        Ok(Self { ssimulacra2, file })
    }
}

fn pixels(image: &RgbImage) -> Result<PixelSlice<'_>> {
    let (width, height) = image.dimensions();
    let slice = PixelSlice::new(image, width, height, 3 * width as usize, PixelDescriptor::RGB8_SRGB);
    slice.map_err(|e| anyhow!("SSIMULACRA2: {e}"))
}

impl Metrics {
    /// Compares an image, of which there is a file too, with its reference.
    pub fn measure(
        reference: &Reference,
        distorted: &RgbImage,
        file: &RawVideo,
        ffmpeg: Option<&Ffmpeg>,
    ) -> Result<Self> {
        let ssimulacra2 = reference.ssimulacra2.compare(&pixels(distorted)?).context("SSIMULACRA2")?;
        let ffmpeg = ffmpeg.filter(|f| f.has_vmaf());
        let vmaf = ffmpeg.map(|ffmpeg| ffmpeg.vmaf(reference.file, file)).transpose()?;
        Ok(Self { ssimulacra2, vmaf })
    }

    /// Each on the scale 0 (worst) to 100 (best).
    fn mapped(&self) -> Vec<f64> {
        // SSIMULACRA2: 90 is visually lossless, 70 high, 50 medium, 30 low quality; far below zero everything is bad.
        let logistic = |s: f64| 1.0 / (1.0 + (-(s - 45.0) / 20.0).exp());
        let mut mapped = vec![100.0 * (logistic(self.ssimulacra2) / logistic(100.0)).min(1.0)];
        if let Some(vmaf) = self.vmaf {
            mapped.push(vmaf.neg.clamp(0.0, 100.0));
            // In decibels, of which 5 is bad and 25 is as good as the reference.
            let decibels = -10.0 * (1.0 - vmaf.ms_ssim).max(1e-6).log10();
            mapped.push((100.0 * (decibels - 5.0) / 20.0).clamp(0.0, 100.0));
        }
        mapped
    }

    /// The label, and the standard deviation of the metrics, which says how far they disagree. `adds`: the distortion adds
    /// something to the picture (blocks, ringing, noise); of one that only takes away, AIM says little.
    pub fn label(&self, label: Label, adds: bool) -> (f64, f64) {
        let mapped = self.mapped();
        let n = mapped.len() as f64;
        let mean = mapped.iter().sum::<f64>() / n;
        let deviation = (mapped.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / n).sqrt();
        // Its logistic function has the same distribution over encoders' settings as SSIMULACRA2's.
        let aim = self.vmaf.and_then(|v| v.aim).map(|aim| 100.0 / (1.0 + (aim.max(0.0) / 0.043).powf(1.97)));
        let value = match (label, aim, self.vmaf) {
            (Label::Mean, ..) => mean,
            (Label::Vmaf, _, Some(vmaf)) => vmaf.vmaf.clamp(0.0, 100.0),
            (Label::Impairment, Some(aim), _) if adds => (mapped[0] + aim) / 2.0,
            _ => mapped[0],
        };
        (value, deviation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_span_the_scale_and_rise_with_every_metric() {
        let metrics = |ssimulacra2, neg, ms_ssim| Metrics {
            ssimulacra2,
            vmaf: Some(Vmaf { vmaf: 77.0, neg, ms_ssim, aim: Some(0.02) }),
        };
        let label = |ssimulacra2, vmaf, ms_ssim| metrics(ssimulacra2, vmaf, ms_ssim).label(Label::Mean, true).0;
        assert!((label(100.0, 100.0, 1.0) - 100.0).abs() < 1e-9);
        assert!(label(-100.0, 0.0, 0.3) < 1.0);
        let middle = label(50.0, 60.0, 0.95);
        assert!(
            label(60.0, 60.0, 0.95) > middle && label(50.0, 70.0, 0.95) > middle && label(50.0, 60.0, 0.97) > middle
        );
        let alone = |label| Metrics { ssimulacra2: 100.0, vmaf: None }.label(label, true).0;
        assert!(alone(Label::Mean) > 99.9 && alone(Label::Impairment) > 99.9);
        let own = |vmaf| metrics(50.0, vmaf, 0.95).label(Label::Ssimulacra2, true).0;
        assert!(own(10.0) == own(90.0) && own(10.0) > 50.0);
        assert_eq!(metrics(50.0, 60.0, 0.95).label(Label::Vmaf, true).0, 77.0);

        let impaired = |aim, adds| {
            let vmaf = Vmaf { vmaf: 77.0, neg: 60.0, ms_ssim: 0.95, aim: Some(aim) };
            Metrics { ssimulacra2: 50.0, vmaf: Some(vmaf) }.label(Label::Impairment, adds).0
        };
        assert!(impaired(0.0, true) > impaired(0.02, true) && impaired(0.02, true) > impaired(0.2, true));
        assert!((impaired(0.043, true) - (own(60.0) + 50.0) / 2.0).abs() < 1e-9);
        assert!(impaired(0.0, false) == own(60.0) && impaired(0.2, false) == own(60.0));
    }
}
