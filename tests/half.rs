//! What half precision, which GPUs score with, makes of scores: the network with its activations and weights rounded as there,
//! computed on the CPU.

use candle_core::{DType, Device, Tensor};
use qmambaiqa::crops::{CROP, CropPlan, MEAN, STD, Sampling};
use qmambaiqa::embedded;
use qmambaiqa::frame::{Colour, Frame, PixelFormat, Plane};
use qmambaiqa::model::load;
use qmambaiqa::model::parameters::Precision;
use qmambaiqa::random::Random;
use std::path::Path;

/// Pictures from flat to noisy, of one crop each, `(N, CROP, CROP, 3)`.
fn pictures() -> Tensor {
    let mut values = Vec::new();
    for (i, noise) in [0, 4, 16, 48, 120, 255].into_iter().enumerate() {
        let mut random = Random::new(7, i as u64);
        for at in 0..CROP * CROP {
            let (row, column) = (at / CROP, at % CROP);
            // Waves that become shorter from picture to picture, so that edges of all kinds are seen.
            let wave = ((row * (i + 1)) as f32 / 19.0).sin() * ((column * (i + 2)) as f32 / 23.0).cos();
            for c in 0..3 {
                let grain = if noise > 0 { random.below(noise) as f32 - noise as f32 / 2.0 } else { 0.0 };
                let value = (128.0 + 90.0 * wave + 20.0 * c as f32 + grain).clamp(0.0, 255.0) / 255.0;
                values.push((value - MEAN[c]) / STD[c]);
            }
        }
    }
    let count = values.len() / (CROP * CROP * 3);
    Tensor::from_vec(values, (count, CROP, CROP, 3), &Device::Cpu).unwrap()
}

/// Scores of crops, 0 to 100, with activations of a type.
fn scores(crops: &Tensor, activations: DType, style_prompt: Option<&str>) -> Vec<f64> {
    let file = embedded::read_model("qmamba-nano").unwrap();
    let path = Path::new("qmamba-nano");
    let (model, _, about) = load::network_on(file, path, Precision::Exact, &Device::Cpu, activations).unwrap();
    let adapter = style_prompt.map(|name| {
        let file = embedded::read_style_prompt(name).unwrap();
        load::adapter(file, Path::new(name), &about, &Device::Cpu, false).unwrap()
    });
    let (low, high) = about.range.unwrap();
    let scores = model.forward(crops, adapter.as_ref()).unwrap().score.to_vec1::<f32>().unwrap();
    scores.into_iter().map(|raw| 100.0 * (f64::from(raw) - low) / (high - low)).collect()
}

fn worst(a: &[f64], b: &[f64]) -> f64 {
    // Infinite where one is not a number.
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |w, d| if d.is_nan() { f64::INFINITY } else { w.max(d) })
}

#[test]
fn scores_stay_within_a_fifth_of_a_point() {
    let crops = pictures();
    for style_prompt in [None, Some("compression")] {
        let exact = scores(&crops, DType::F32, style_prompt);
        let spread = exact.iter().copied().fold(f64::NEG_INFINITY, f64::max)
            - exact.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(spread > 5.0, "pictures of all kinds: {exact:?}");
        let [half, brain] = [DType::F16, DType::BF16].map(|of| worst(&scores(&crops, of, style_prompt), &exact));
        println!("style prompt {style_prompt:?}: f16 differs by up to {half:.3}, bf16 by {brain:.3} of 100");
        assert!(half > 0.0 && half < 0.2, "{half}");
        assert!(brain.is_finite());
    }
}

/// Over the frames of a clip, whose path the environment variable `CLIP_RGB` gives (raw RGB), of the size `CLIP_SIZE`, as
/// `ffmpeg -i clip.mp4 -vf fps=2 -f rawvideo -pix_fmt rgb24 clip.rgb` writes it.
#[test]
#[ignore = "needs a clip"]
fn over_a_clip() {
    let path = std::env::var("CLIP_RGB").unwrap();
    let (width, height) =
        std::env::var("CLIP_SIZE").unwrap().split_once('x').map(|(w, h)| (w.to_owned(), h.to_owned())).unwrap();
    let (width, height) = (width.parse::<usize>().unwrap(), height.parse::<usize>().unwrap());
    let bytes = std::fs::read(&path).unwrap();
    let plan = CropPlan::new(4, Sampling::Grid, 0).unwrap();
    let mut crops = Vec::new();
    let frames = bytes.as_slice().chunks_exact(width * height * 3);
    for picture in frames.clone() {
        let planes = [Plane::new(picture, width * 3)];
        let frame = Frame::new(PixelFormat::Rgb, width, height, &planes, Colour::SRGB).unwrap();
        crops.extend(plan.sample(&frame, 0).unwrap());
    }
    let count = frames.len();
    for style_prompt in [None, Some("compression")] {
        let (mut half, mut brain, mut sum): (f64, f64, f64) = (0.0, 0.0, 0.0);
        for frame in crops.chunks_exact(4 * CROP * CROP * 3) {
            let frame = Tensor::from_slice(frame, (4, CROP, CROP, 3), &Device::Cpu).unwrap();
            let mean = |of| scores(&frame, of, style_prompt).iter().sum::<f64>() / 4.0;
            let exact = mean(DType::F32);
            half = half.max((mean(DType::F16) - exact).abs());
            brain = brain.max((mean(DType::BF16) - exact).abs());
            sum += exact;
        }
        let mean = sum / count as f64;
        println!(
            "{count} frames of {mean:.1}, style prompt {style_prompt:?}: f16 within {half:.3}, bf16 within {brain:.3}"
        );
        assert!(half < 0.2, "{half}");
    }
}
