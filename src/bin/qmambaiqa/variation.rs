//! What live encoders and players vary beside the encoder: coded size, upscaling kernel, chroma upsampling, denoising.

use crate::codec::Codec;
use clap::ValueEnum;
use image::{RgbImage, imageops};
use qmambaiqa::random::Random;
use std::str::FromStr;

/// Interpolation kernel of an upscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    Nearest,
    Bilinear,
    /// Catmull-Rom
    Bicubic,
    /// Lanczos with three lobes
    Lanczos,
}

impl Kernel {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
    }

    pub fn resize(self, image: &RgbImage, width: u32, height: u32) -> RgbImage {
        let filter = match self {
            Self::Nearest => imageops::FilterType::Nearest,
            Self::Bilinear => imageops::FilterType::Triangle,
            Self::Bicubic => imageops::FilterType::CatmullRom,
            Self::Lanczos => imageops::FilterType::Lanczos3,
        };
        imageops::resize(image, width, height, filter)
    }
}

/// How 4:2:0 chroma is upsampled after decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chroma {
    /// ffmpeg's default conversion, which repeats chroma samples.
    Fast,
    Neighbor,
    BilinearLeft,
    BilinearCenter,
    BicubicLeft,
    BicubicCenter,
}

impl Chroma {
    pub const ALL: [Self; 6] =
        [Self::Fast, Self::Neighbor, Self::BilinearLeft, Self::BilinearCenter, Self::BicubicLeft, Self::BicubicCenter];

    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Neighbor => "neighbor",
            Self::BilinearLeft => "bilinear-left",
            Self::BilinearCenter => "bilinear-center",
            Self::BicubicLeft => "bicubic-left",
            Self::BicubicCenter => "bicubic-center",
        }
    }

    /// ffmpeg's filter that converts to RGB; `None` leaves the conversion to ffmpeg. Without `accurate_rnd` swscale takes
    /// its fast path, whatever the kernel.
    pub fn filter(self) -> Option<String> {
        let (kernel, horizontal) = match self {
            Self::Fast => return None,
            Self::Neighbor => ("neighbor", 0),
            Self::BilinearLeft => ("bilinear", 0),
            Self::BilinearCenter => ("bilinear", 128),
            Self::BicubicLeft => ("bicubic", 0),
            Self::BicubicCenter => ("bicubic", 128),
        };
        let flags = format!("{kernel}+accurate_rnd+full_chroma_int");
        Some(format!("scale=flags={flags}:in_h_chr_pos={horizontal}:in_v_chr_pos=128,format=rgb24"))
    }
}

/// Factors by which coded sizes are smaller than the content.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors(pub Vec<f64>);

impl FromStr for Factors {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let factor = |word: &str| {
            let (over, under) = word.split_once('/').unwrap_or((word, "1"));
            let factor = over.trim().parse::<f64>().ok()? / under.trim().parse::<f64>().ok()?;
            (1.0..=16.0).contains(&factor).then_some(factor)
        };
        let factors: Option<Vec<f64>> = text.split(',').map(factor).collect();
        factors.map(Self).ok_or_else(|| format!("`{text}`: expected factors from 1 to 16, such as 1,4/3,2"))
    }
}

/// What is varied at random.
pub struct Variations {
    /// Of video encoders.
    pub factors: Option<Factors>,
    /// Of everything that is scaled.
    pub kernels: Vec<Kernel>,
    pub chroma: bool,
    /// Probability that a video encoder is given denoised frames.
    pub denoise: f64,
}

/// One draw from [`Variations`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variation {
    /// Factor by which the coded size is smaller than the content.
    pub factor: f64,
    pub kernel: Kernel,
    pub chroma: Chroma,
    /// Spatial luma strength of ffmpeg's hqdn3d before encoding; 0 = not denoised.
    pub denoise: f64,
}

/// Smallest coded side: SVT-AV1 has a limit of 64.
const SMALLEST: f64 = 64.0;
/// Strengths of hqdn3d, whose default is 4.
const DENOISE: (f64, f64) = (2.0, 8.0);

impl Variations {
    /// Draws for one encoding of a content of `size` pixels a side.
    pub fn draw(&self, codec: Codec, size: u32, random: &mut Random) -> Variation {
        let mut variation = Variation { factor: 1.0, kernel: Kernel::Bicubic, chroma: Chroma::Fast, denoise: 0.0 };
        if !self.kernels.is_empty() {
            variation.kernel = self.kernels[random.below(self.kernels.len())];
        }
        let video = codec.factors().is_some();
        if let Some(Factors(factors)) = self.factors.as_ref().filter(|_| video) {
            let possible: Vec<f64> = factors.iter().copied().filter(|f| f64::from(size) / f >= SMALLEST).collect();
            variation.factor = possible.get(random.below(possible.len())).copied().unwrap_or(1.0);
        }
        if self.chroma && (video || codec == Codec::Webp) {
            variation.chroma = Chroma::ALL[random.below(Chroma::ALL.len())];
        }
        if video && random.uniform() < self.denoise {
            // Two decimals are what the table has.
            let strength = DENOISE.0 * (DENOISE.1 / DENOISE.0).powf(random.uniform());
            variation.denoise = (strength * 100.0).round() / 100.0;
        }
        variation
    }
}

impl Variation {
    /// The coded size of frames of this size: even, as 4:2:0 needs.
    pub fn coded(&self, width: u32, height: u32) -> (u32, u32) {
        let side = |side: u32| (((f64::from(side) / self.factor / 2.0).round() as u32) * 2).max(2);
        if self.factor > 1.0 { (side(width), side(height)) } else { (width, height) }
    }

    /// ffmpeg's filters before the encoder, if any.
    pub fn filter(&self, width: u32, height: u32) -> Option<String> {
        let mut filters = vec!["format=yuv420p".to_owned()];
        if self.denoise > 0.0 {
            filters.push(format!("hqdn3d={}", self.denoise));
        }
        if self.factor > 1.0 {
            let (width, height) = self.coded(width, height);
            filters.push(format!("scale={width}:{height}:flags=bicubic"));
        }
        (filters.len() > 1).then(|| filters.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_parsed_and_invalid_ones_return_an_error() {
        let factors = |text: &str| text.parse::<Factors>().map(|f| f.0);
        assert_eq!(factors("1,4/3,2"), Ok(vec![1.0, 4.0 / 3.0, 2.0]));
        for text in ["", "0.5", "1,x", "1/0", "1/2", "17", "1,,2"] {
            assert!(factors(text).is_err(), "{text}");
        }
    }

    #[test]
    fn draws_cover_all_values_and_respect_the_smallest_coded_side() {
        let factors = "1,2,4".parse().ok();
        let variations = Variations { factors, kernels: Kernel::value_variants().to_vec(), chroma: true, denoise: 0.5 };
        let mut random = Random::new(1, 0);
        let mut drawn = |codec, size| (0..200).map(|_| variations.draw(codec, size, &mut random)).collect::<Vec<_>>();
        let large = drawn(Codec::X264, 1024);
        assert!([1.0, 2.0, 4.0].iter().all(|f| large.iter().any(|v| v.factor == *f)));
        assert!(Kernel::value_variants().iter().all(|k| large.iter().any(|v| v.kernel == *k)));
        assert!(Chroma::ALL.iter().all(|c| large.iter().any(|v| v.chroma == *c)));
        assert!(large.iter().any(|v| v.denoise == 0.0) && large.iter().any(|v| v.denoise >= 2.0));
        assert!(drawn(Codec::X265, 192).iter().all(|v| v.factor <= 2.0));
        let still = drawn(Codec::Scale, 192);
        assert!(still.iter().all(|v| (v.factor, v.chroma, v.denoise) == (1.0, Chroma::Fast, 0.0)));
    }

    #[test]
    fn coded_sizes_are_even_and_unchanged_without_a_factor() {
        let variation = |factor| Variation { factor, kernel: Kernel::Bicubic, chroma: Chroma::Fast, denoise: 0.0 };
        assert_eq!(variation(1.0).coded(1022, 1022), (1022, 1022));
        assert_eq!(variation(3.0).coded(1024, 1024), (342, 342));
        assert_eq!(variation(1.0).filter(1024, 1024), None);
        assert_eq!(variation(2.0).filter(64, 64).as_deref(), Some("format=yuv420p,scale=32:32:flags=bicubic"));
    }
}
