use super::*;
use crate::frame::{Colour, PixelFormat, Plane};
use crate::random::Random;
use proptest::prelude::*;

const WIDTH: usize = 320;
const HEIGHT: usize = 180;

/// A scene with structure of every size: octaves of smooth random fields. Seen from (`x`, `y`).
fn scene(seed: u64, x: f64, y: f64) -> Vec<f64> {
    let value = |octave: u64, i: i64, j: i64| {
        let place = (i.rem_euclid(64) * 64 + j.rem_euclid(64)) as u64;
        Random::new(seed * 8 + octave, place).uniform() - 0.5
    };
    let mut picture = vec![0.5; WIDTH * HEIGHT];
    for octave in 0..7 {
        let period = f64::from(128u32 >> octave);
        for (at, pixel) in picture.iter_mut().enumerate() {
            let (u, v) = ((x + (at % WIDTH) as f64) / period, (y + (at / WIDTH) as f64) / period);
            let (i, j, s, t) = (u.floor() as i64, v.floor() as i64, u.fract(), v.fract());
            let row = |i| value(octave, i, j) * (1.0 - t) + value(octave, i, j + 1) * t;
            *pixel += (row(i) * (1.0 - s) + row(i + 1) * s) * 0.6 * (period / 128.0).sqrt();
        }
    }
    picture
}

fn bytes(picture: &[f64]) -> Vec<u8> {
    picture.iter().map(|v| (v * 255.0).round() as u8).collect()
}

fn gray(bytes: &[u8], width: usize) -> Luma {
    let plane = [Plane::new(bytes, width)];
    Luma::of(&Frame::new(PixelFormat::Gray8, width, bytes.len() / width, &plane, Colour::JPEG).unwrap()).unwrap()
}

fn seconds(s: f64) -> Option<Duration> {
    Some(Duration::from_secs_f64(s))
}

#[test]
fn sharpness_of_known_pictures() {
    // One-pixel stripes: the Laplacian is +-4 * 0.5 of an amplitude of 0.5.
    let sharpness = |bytes: &[u8]| gray(bytes, WIDTH).sharpness().unwrap();
    let stripes: Vec<u8> = (0..WIDTH * HEIGHT).map(|i| 255 * (i % 2) as u8).collect();
    assert!((sharpness(&stripes) - 16.0).abs() < 0.01);
    // White noise: 4² + 4 times its variance.
    let mut random = Random::new(1, 1);
    let noise: Vec<u8> = (0..WIDTH * HEIGHT).map(|_| random.below(256) as u8).collect();
    assert!((sharpness(&noise) - 20.0).abs() < 0.5, "{}", sharpness(&noise));
    // Half the contrast: the same.
    let weak: Vec<u8> = stripes.iter().map(|v| v / 2 + 60).collect();
    assert!((sharpness(&weak) - 16.0).abs() < 0.01);
    assert!(gray(&[7; 64], 8).sharpness().is_none(), "a flat picture has none");
    assert!(gray(&[0, 255, 0, 255], 2).sharpness().is_none(), "too small for a Laplacian");
}

#[test]
fn blur_is_told_from_sharp_pictures() {
    let blurred = |picture: &[f64]| {
        // Three box filters of five pixels are close to a Gaussian of 2.4.
        let mut picture = picture.to_vec();
        for (step, length) in [(1, WIDTH), (WIDTH, HEIGHT)].into_iter().cycle().take(6) {
            let before = picture.clone();
            for (at, pixel) in picture.iter_mut().enumerate() {
                let place = at / step % length;
                let near = place.saturating_sub(2)..=(place + 2).min(length - 1);
                let count = near.clone().count() as f64;
                *pixel = near.map(|p| before[at - place * step + p * step]).sum::<f64>() / count;
            }
        }
        picture
    };
    // At little contrast rounding to 8 bits is ten times as rough as the blurred picture.
    for (seed, contrast) in (0..4).flat_map(|seed| [(seed, 1.0), (seed, 0.3)]) {
        let picture: Vec<f64> = scene(seed, 0.0, 0.0).iter().map(|v| 0.5 + contrast * (v - 0.5)).collect();
        let watch = |picture: &[f64]| Watch::default().take(gray(&bytes(picture), WIDTH), None);
        let (sharp, blurred) = (watch(&picture), watch(&blurred(&picture)));
        println!("{:?} {:?}", sharp.sharpness, blurred.sharpness);
        assert_eq!(sharp.reason(Duration::MAX), Reason::Quality, "{sharp:?}");
        assert_eq!(blurred.reason(Duration::MAX), Reason::Blur, "{blurred:?}");
    }
}

#[test]
fn black_is_nearly_everything_black() {
    let black = |share: f64| {
        let bright = ((1.0 - share) * WIDTH as f64).round() as usize;
        let picture: Vec<u8> = (0..WIDTH * HEIGHT).map(|i| if i % WIDTH < bright { 200 } else { 20 }).collect();
        Watch::default().take(gray(&picture, WIDTH), None)
    };
    assert!((black(0.75).black - 0.75).abs() < 1e-9);
    assert!(black(1.0).is_black() && black(0.985).is_black() && !black(0.97).is_black());
    // In video range black is 16.
    let (y, uv) = ([16u8; 64], [128u8; 16]);
    let planes = [Plane::new(&y, 8), Plane::new(&uv, 4), Plane::new(&uv, 4)];
    let frame = Frame::new(PixelFormat::I420, 8, 8, &planes, Colour::BT709).unwrap();
    assert_eq!(Watch::default().look(&frame, None).unwrap().reason(Duration::ZERO), Reason::Black);
}

#[test]
fn a_still_is_frozen_after_its_time() {
    let picture = scene(1, 0.0, 0.0);
    let (still, moved) = (gray(&bytes(&picture), WIDTH), gray(&bytes(&scene(1, 0.5, 0.0)), WIDTH));
    let mut watch = Watch::default();
    let mut take = |luma: &Luma, time| watch.take(luma.clone(), time);
    let first = take(&still, seconds(10.0));
    assert!(first.change.is_none() && first.frozen == 0 && !first.is_frozen(Duration::ZERO));
    assert_eq!(take(&still, seconds(11.5)).frozen, 1_500_000_000);
    let last = take(&still, seconds(12.0));
    assert!(last.is_frozen(Duration::from_secs(2)) && !last.is_frozen(Duration::from_secs(3)));
    assert_eq!(last.reason(Duration::from_secs(2)), Reason::Freeze);
    // Half a pixel of motion ends it.
    let moving = take(&moved, seconds(12.5));
    assert!(moving.change > Some(STILL) && moving.frozen == 0, "{moving:?}");
    assert_eq!(take(&moved, seconds(13.0)).frozen, 500_000_000);
    // A seek starts it anew, a missing time lets it go on.
    assert_eq!(take(&moved, seconds(1.0)).frozen, 0);
    assert_eq!(take(&moved, None).frozen, 0);
    assert_eq!(take(&moved, seconds(3.0)).frozen, 2_000_000_000);
    // Drift by less than the tolerance a picture is no still.
    let drift = |i: u8| gray(&[100 + i / 4; WIDTH * HEIGHT], WIDTH);
    let frozen: Vec<u64> = (0..16).map(|i| take(&drift(i), seconds(20.0 + f64::from(i))).frozen).collect();
    assert!(frozen.iter().all(|&f| f <= 3_000_000_000), "{frozen:?}");
}

/// The thresholds: other scenes are cuts, and what happens within one is not.
#[test]
fn cuts_are_told_from_what_happens_within_a_scene() {
    let look = |seed, x, y, change: fn(f64) -> f64| {
        let picture: Vec<f64> = scene(seed, x, y).into_iter().map(change).collect();
        gray(&bytes(&picture), WIDTH).thumbnail()
    };
    let same = |v: f64| v;
    let scenes: Vec<Thumbnail> = (0..24).map(|seed| look(seed, 0.0, 0.0, same)).collect();
    let cuts = scenes.windows(2).filter(|pair| pair[1].is_cut(&pair[0])).count();
    println!("{cuts} of 23 cuts found");
    assert!(cuts >= 22);
    for (seed, scene) in scenes.iter().enumerate().take(8) {
        let seed = seed as u64;
        // A pan by a tenth of the width, a flash, a fade, a loss of contrast.
        assert!(!look(seed, 16.0, 4.0, same).is_cut(scene), "pan in {seed}");
        assert!(!look(seed, 0.0, 0.0, |v| v * 0.6 + 0.4).is_cut(scene), "flash in {seed}");
        assert!(!look(seed, 0.0, 0.0, |v| v * 0.5).is_cut(scene), "fade in {seed}");
        assert!(!look(seed, 0.0, 0.0, |v| v * 0.2 + 0.4).is_cut(scene), "fog in {seed}");
    }
    let flat = |v: u8| gray(&[v; 64], 8).thumbnail();
    assert!(flat(0).is_cut(&flat(200)) && !flat(0).is_cut(&flat(10)));
}

#[test]
fn reasons_have_names() {
    for reason in Reason::ALL {
        assert_eq!(Reason::from_name(reason.name()), Some(reason));
    }
    assert_eq!(Reason::from_name("rain"), None);
}

proptest! {
    /// Any picture of any format and size has indicators within their ranges, and does not differ from itself.
    #[test]
    fn any_picture_is_survived(format in 0..PixelFormat::ALL.len(), width in 1usize..70, height in 1usize..70, seed: u64) {
        let mut random = Random::new(seed, 0);
        let data: Vec<u8> = (0..width * height * 8 + 1024).map(|_| random.below(256) as u8).collect();
        let planes = [Plane::new(&data, width * 8 + 8); 3];
        let format = PixelFormat::ALL[format];
        let data: Vec<u8> = data.iter().copied().cycle().take((width * 8 + 8) * height).collect();
        let planes = planes.map(|plane| Plane::new(&data, plane.stride));
        let frame = Frame::new(format, width, height, &planes, Colour::BT709).unwrap();
        let mut watch = Watch::default();
        let first = watch.look(&frame, seconds(0.0)).unwrap();
        prop_assert!((0.0..=1.0).contains(&first.black));
        prop_assert!(first.sharpness.is_none_or(|s| (0.0..=64.0).contains(&s)), "{:?}", first.sharpness);
        let second = watch.look(&frame, seconds(1.0)).unwrap();
        prop_assert_eq!((second.change, second.frozen, second.scene), (Some(0.0), 1_000_000_000, 0));
    }
}
