use super::*;
use crate::frame::{Colour, Frame, PixelFormat, Plane};
use proptest::prelude::*;
use std::collections::HashSet;

fn plan(crops: usize, sampling: Sampling) -> CropPlan {
    CropPlan::new(crops, sampling, 7).expect("valid")
}

const SIZES: [(usize, usize); 12] = [
    (224, 224),
    (225, 224),
    (224, 1000),
    (448, 448),
    (640, 480),
    (720, 576),
    (1280, 720),
    (1920, 1080),
    (1080, 1920),
    (3840, 2160),
    (5000, 230),
    (241, 233),
];

#[test]
fn crops_lie_within_the_picture() {
    for (width, height) in SIZES {
        for crops in 1..=MAX_CROPS {
            for sampling in Sampling::ALL {
                let what = format!("{crops} {sampling} in {width}x{height}");
                let positions = plan(crops, sampling).positions(width, height, 3);
                assert_eq!(positions.len(), crops, "{what}");
                assert!(positions.iter().all(|p| p.0 + CROP <= width && p.1 + CROP <= height), "{what}: {positions:?}");
                if sampling != Sampling::Random {
                    assert_eq!(positions, plan(crops, sampling).positions(width, height, 4), "{what}");
                }
                let places = (width - CROP + 1) * (height - CROP + 1);
                if sampling == Sampling::Grid && places >= crops {
                    let distinct: HashSet<_> = positions.iter().collect();
                    assert_eq!(distinct.len(), crops, "{what}: {positions:?}");
                }
            }
        }
    }
}

#[test]
fn a_single_crop_is_the_centre() {
    for sampling in [Sampling::Grid, Sampling::Center] {
        assert_eq!(plan(1, sampling).positions(1920, 1080, 0), [(848, 428)]);
        assert_eq!(plan(1, sampling).positions(225, 224, 0), [(0, 0)]);
    }
}

#[test]
fn grids_by_hand() {
    let grid = |crops, width, height| plan(crops, Sampling::Grid).positions(width, height, 0);
    assert_eq!(grid(4, 448, 448), [(0, 0), (224, 0), (0, 224), (224, 224)]);
    assert_eq!(grid(3, 1000, 224), [(0, 0), (388, 0), (776, 0)]);
    assert_eq!(grid(2, 224, 1000), [(0, 0), (0, 776)]);
    // 4 + 4 of 16:9, to the borders.
    let eight = grid(8, 1920, 1080);
    assert_eq!(eight.iter().filter(|p| p.1 == 0).count(), 4);
    assert_eq!((eight[0], eight[7]), ((0, 0), (1696, 856)));
    // 3 + 2 + 3 or 2 + 3 + 2, not 3 + 3 + 1.
    let rows: Vec<usize> = [0, 388, 776].map(|top| grid(7, 1000, 1000).iter().filter(|p| p.1 == top).count()).to_vec();
    assert_eq!(rows, [2, 3, 2]);
}

#[test]
fn grids_are_symmetric() {
    for (width, height) in SIZES {
        for crops in 1..=MAX_CROPS {
            let positions = plan(crops, Sampling::Grid).positions(width, height, 0);
            let (room_x, room_y) = (width - CROP, height - CROP);
            // Left to right within each row, to a pixel of rounding.
            for &(_, top) in &positions {
                let row: Vec<usize> = positions.iter().filter(|p| p.1 == top).map(|p| p.0).collect();
                for (a, b) in row.iter().zip(row.iter().rev()) {
                    assert!((a + b).abs_diff(room_x) <= 1, "{crops} in {width}x{height}: {row:?}");
                }
            }
            // Top to bottom, unless an odd number stands in an even number of rows.
            let mut tops: Vec<usize> = positions.iter().map(|p| p.1).collect();
            tops.dedup();
            if crops % 2 == 0 || tops.len() % 2 == 1 {
                let mut all: Vec<usize> = positions.iter().map(|p| p.1).collect();
                all.sort_unstable();
                for (a, b) in all.iter().zip(all.iter().rev()) {
                    assert!((a + b).abs_diff(room_y) <= 1, "{crops} in {width}x{height}: {all:?}");
                }
            }
        }
    }
}

#[test]
fn enough_crops_cover_the_picture() {
    for (crops, width, height) in [(4, 448, 448), (9, 640, 640), (16, 854, 480), (24, 1280, 720), (64, 1920, 1080)] {
        let positions = plan(crops, Sampling::Grid).positions(width, height, 0);
        let covered = |x, y| positions.iter().any(|p| (p.0..p.0 + CROP).contains(&x) && (p.1..p.1 + CROP).contains(&y));
        for y in 0..height {
            for x in (0..width).step_by(3) {
                assert!(covered(x, y), "{crops} in {width}x{height} miss ({x}, {y})");
            }
        }
    }
}

#[test]
fn crops_of_several_sizes_lie_in_the_middle_of_their_parts() {
    let places = |crops, width, height| positions::cells((width - CROP, height - CROP), crops);
    assert_eq!(places(1, 1920, 1080), [(848, 428)]);
    assert_eq!(places(2, 960, 540), [(128, 158), (608, 158)]);
    assert_eq!(places(4, 960, 540), [(128, 23), (608, 23), (128, 293), (608, 293)]);
    // Moved into the picture where the parts are smaller than a crop.
    assert_eq!(places(4, 300, 240), [(0, 0), (76, 0), (0, 16), (76, 16)]);
}

#[test]
fn centre_crops_step_outward_by_halves() {
    let five = plan(5, Sampling::Center).positions(1920, 1080, 0);
    assert_eq!(five, [(848, 428), (848, 316), (736, 428), (960, 428), (848, 540)]);
    // Only three places along a narrow picture: they repeat.
    let narrow = plan(5, Sampling::Center).positions(324, 224, 0);
    assert_eq!(narrow, [(50, 0), (0, 0), (100, 0), (50, 0), (0, 0)]);
}

#[test]
fn random_crops_repeat_by_seed_and_frame() {
    let random = |seed, frame| CropPlan::new(16, Sampling::Random, seed).expect("valid").positions(1920, 1080, frame);
    assert_eq!(random(1, 5), random(1, 5));
    assert_ne!(random(1, 5), random(1, 6));
    assert_ne!(random(1, 5), random(2, 5));
    // Uniform: mean and spread of 16,000 draws, and both ends met in a small room.
    let lefts: Vec<f64> = (0..1000).flat_map(|frame| random(9, frame)).map(|p| p.0 as f64 / 1696.0).collect();
    let mean = lefts.iter().sum::<f64>() / lefts.len() as f64;
    let variance = lefts.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / lefts.len() as f64;
    assert!((mean - 0.5).abs() < 0.01 && (variance - 1.0 / 12.0).abs() < 0.003, "{mean} {variance}");
    let seen: HashSet<_> = (0..20).flat_map(|frame| plan(16, Sampling::Random).positions(226, 225, frame)).collect();
    assert_eq!(seen.len(), 6, "{seen:?}");
}

#[test]
fn settings_are_checked_and_named() {
    for crops in [0, MAX_CROPS + 1, usize::MAX] {
        let error = CropPlan::new(crops, Sampling::Grid, 0).expect_err("refused").to_string();
        assert!(error.contains("1 to 64"), "{error}");
    }
    for sampling in Sampling::ALL {
        assert_eq!(sampling.to_string().parse::<Sampling>().expect("a nick"), sampling);
    }
    let error = "Grid".parse::<Sampling>().expect_err("case matters").to_string();
    assert!(error.contains("grid, random, center"), "{error}");
}

/// GRAY8, a value for each place.
fn gray(width: usize, height: usize) -> Vec<u8> {
    (0..width * height).map(|i| ((i % width) * 3 + (i / width) * 7) as u8).collect()
}

fn frame(data: &[u8], width: usize, height: usize) -> Frame<'_> {
    Frame::new(PixelFormat::Gray8, width, height, &[Plane::new(data, width)], Colour::SRGB).expect("valid")
}

#[test]
fn a_batch_holds_the_normalised_crops() {
    let data = gray(500, 300);
    let frame = frame(&data, 500, 300);
    for sampling in Sampling::ALL {
        let plan = plan(5, sampling).with_scales(Scales::NATIVE);
        let batch = plan.sample(&frame, 2).expect("valid");
        assert_eq!(batch.len(), 5 * CROP * CROP * 3);
        for (crop, (left, top)) in batch.chunks(CROP * CROP * 3).zip(plan.positions(500, 300, 2)) {
            let mut expected = vec![0f32; CROP * CROP * 3];
            frame.rgb(left, top, CROP, CROP, &mut expected).expect("within");
            normalise(&mut expected);
            assert!(crop == expected, "{sampling} at ({left}, {top})");
        }
        let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("threads");
        assert!(batch == single.install(|| plan.sample(&frame, 2)).expect("valid"), "{sampling} in one thread");
    }
}

/// The crops of every size are those of a picture that was reduced before.
#[test]
fn crops_of_halves_are_those_of_reduced_pictures() {
    let (width, height) = (1001, 903);
    let data = gray(width, height);
    let whole = frame(&data, width, height);
    for sampling in Sampling::ALL {
        let plan = plan(7, sampling);
        let (batch, places) = plan.sample_with_places(&whole, &[], 5).expect("valid");
        let crops: Vec<&[f32]> = batch.chunks(CROP * CROP * 3).collect();
        let reductions: Vec<usize> = places.iter().map(|place| place.reduction).collect();
        let shares = super::scales::share_out(3, 7);
        let expected = [1, 2, 4].into_iter().zip(shares).flat_map(|(reduction, crops)| vec![reduction; crops]);
        assert_eq!(reductions, expected.collect::<Vec<_>>(), "{sampling}");
        for (crop, place) in crops.iter().zip(&places) {
            let level = place.reduction.trailing_zeros();
            let side = CROP << level;
            assert_eq!((place.region.width, place.region.height), (side, side));
            let shorter = (height >> level) as f64 / CROP as f64;
            assert!((place.scale - shorter.log2()).abs() < 1e-12);
            let part = whole.region(place.region).expect("within");
            let mut expected = vec![0f32; CROP * CROP * 3];
            part.reduced_rgb(level, crate::frame::Region::new(0, 0, CROP, CROP), &mut expected).expect("within");
            normalise(&mut expected);
            assert!(*crop == expected, "{sampling} {place:?}");
        }
        assert_eq!(plan.rectangles(&whole, &[], 5).expect("valid"), places);
        let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("threads");
        assert!(batch == single.install(|| plan.sample(&whole, 5)).expect("valid"), "{sampling} in one thread");
        // By hand: sizes that the picture has not are left out.
        let places = plan.with_scales("2,8".parse().expect("valid")).places(&whole, 5).expect("valid");
        assert!(places.len() == 7 && places.iter().all(|place| place.reduction == 2));
    }
}

/// A picture on a larger or smaller display is scored as one that was scaled before.
#[test]
fn crops_follow_the_display_height() {
    // Smooth, so that kernels agree but for their errors on it.
    let (width, height) = (640, 360);
    let value = |x: f64, y: f64| 127.5 + 60.0 * (x / 23.0).sin() + 60.0 * (y / 17.0).cos();
    let render = |width: usize, height: usize, step: f64| -> Vec<u8> {
        let at = |i: usize| ((i as f64 + 0.5) * step - 0.5).max(0.0);
        (0..width * height).map(|i| value(at(i % width), at(i / width)).round() as u8).collect()
    };
    let data = render(width, height, 1.0);
    let own = frame(&data, width, height);
    for rows in [540, 720, 1080, 300, 280] {
        let (w, h) = ((width * rows + height / 2) / height, rows);
        let scaled = render(w, h, height as f64 / rows as f64);
        let scaled = frame(&scaled, w, h);
        let plan = plan(6, Sampling::Grid);
        let displayed = plan.with_display_height(rows).expect("valid");
        let (got, places) = displayed.sample_with_places(&own, &[], 0).expect("valid");
        let (expected, of_scaled) = plan.sample_with_places(&scaled, &[], 0).expect("valid");
        let worst = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(worst < 4.0 / 255.0 / 0.225, "{rows}: {worst}");
        for (place, other) in places.iter().zip(of_scaled) {
            assert_eq!((place.scale, place.reduction), (other.scale, other.reduction), "{rows}");
            let back = |at: usize| at as f64 * height as f64 / rows as f64;
            assert!((place.region.y as f64 - back(other.region.y)).abs() <= 1.0, "{rows}: {place:?} {other:?}");
        }
    }
    // The display's own size, and where halves of the display are the picture, no resampling: the same values.
    let plan = plan(4, Sampling::Grid);
    let bits = |plan: CropPlan| plan.sample(&own, 0).expect("valid");
    assert!(bits(plan) == bits(plan.with_display_height(360).expect("valid")));
    let one = self::plan(1, Sampling::Grid);
    let halved = one.with_scales("2".parse().expect("valid")).with_display_height(720).expect("valid");
    assert!(bits(one.with_scales(Scales::NATIVE)) == bits(halved));
    assert!(plan.with_display_height(MAX_DISPLAY_HEIGHT + 1).is_err());
}

#[test]
fn pixels_are_made_square() {
    let data = gray(400, 500);
    let frame = frame(&data, 400, 500).with_pixel_aspect(2, 1).expect("valid");
    let plan = plan(2, Sampling::Grid).with_scales(Scales::NATIVE);
    let places = plan.places(&frame, 0).expect("valid");
    assert!(places.iter().all(|place| (place.region.width, place.region.height) == (CROP / 2, CROP)), "{places:?}");
    let stored = plan.with_square_pixels(false);
    assert!(stored.places(&frame, 0).expect("valid").iter().all(|place| place.region.width == CROP));
    assert!(stored.sample(&frame, 0).expect("valid") != plan.sample(&frame, 0).expect("valid"));
}

#[test]
fn values_are_rounded_to_8_bits_and_normalised() {
    for step in 0..=255u8 {
        let exact = f32::from(step) / 255.0;
        for off in [-0.49f32, 0.0, 0.49] {
            let mut pixel = [((f32::from(step) + off) / 255.0).clamp(0.0, 1.0); 3];
            normalise(&mut pixel);
            for ((got, mean), std) in pixel.into_iter().zip([0.485, 0.456, 0.406]).zip([0.229, 0.224, 0.225]) {
                assert_eq!(got, (exact - mean) / std, "{step} {off}");
            }
        }
    }
    let mut wrong = [f32::NAN; 3];
    normalise(&mut wrong);
    assert!(wrong.iter().all(|v| v.is_nan()));
}

#[test]
fn small_frames_are_scaled_up() {
    for (width, height) in [(1, 1), (17, 17), (223, 500), (500, 223), (320, 180), (1, 300)] {
        let data = vec![200u8; width * height];
        let batch = plan(3, Sampling::Grid).sample(&frame(&data, width, height), 0).expect("scaled");
        assert_eq!(batch.len(), 3 * CROP * CROP * 3);
        let mut expected = [200.0 / 255.0; 3];
        normalise(&mut expected);
        for pixel in batch.chunks(3) {
            for (got, expected) in pixel.iter().zip(expected) {
                assert!((got - expected).abs() < 1e-5, "{width}x{height}: {got} for {expected}");
            }
        }
    }
    assert_eq!(size_with_shorter_side(320, 180, CROP).expect("fits"), (398, 224));
    assert_eq!(size_with_shorter_side(17, 17, CROP).expect("fits"), (224, 224));
}

#[test]
fn absurd_shapes_are_refused() {
    let data = vec![0u8; 100_000];
    for (width, height) in [(1, 100_000), (100_000, 1)] {
        let error = plan(1, Sampling::Grid).sample(&frame(&data, width, height), 0).expect_err("refused").to_string();
        assert!(error.contains("16000000"), "{error}");
    }
    assert!(size_with_shorter_side(0, 5, CROP).is_err());
    assert!(size_with_shorter_side(1, usize::MAX, CROP).is_err());
    assert!(resize(&[0.0; 3], (1, 1), (usize::MAX, 2)).is_err());
    assert!(resize(&[0.0; 3], (1, 1), (0, 2)).is_err());
    assert!(resize(&[0.0; 3], (1, 2), (2, 2)).is_err());
    assert!(resize(&[], (usize::MAX, 2), (2, 2)).is_err());
}

#[test]
fn scaling_keeps_ramps_and_range() {
    // A horizontal ramp stays one away from the ends, both up and down.
    let ramp: Vec<f32> = (0..64 * 5).flat_map(|i| [(i % 64) as f32 / 63.0, 0.5, 1.0]).collect();
    for (width, height) in [(128, 10), (32, 5)] {
        let scaled = resize(&ramp, (64, 5), (width, height)).expect("fits");
        assert_eq!(scaled.len(), width * height * 3);
        for (i, pixel) in scaled.chunks(3).enumerate() {
            let x = ((i % width) as f32 + 0.5) * 64.0 / width as f32 - 0.5;
            if (4.0..60.0).contains(&x) {
                assert!((pixel[0] - x / 63.0).abs() < 1e-4, "{width}: {} at {x}", pixel[0]);
            }
            assert!((pixel[1] - 0.5).abs() < 1e-5 && (pixel[2] - 1.0).abs() < 1e-5);
        }
    }
    // Bicubic overshoots at an edge; the result does not.
    let edge: Vec<f32> = (0..16 * 16).flat_map(|i| [if i % 16 < 8 { 0.0 } else { 1.0 }; 3]).collect();
    let scaled = resize(&edge, (16, 16), (224, 224)).expect("fits");
    assert!(scaled.iter().all(|v| (0.0..=1.0).contains(v)));
}

proptest! {
    #[test]
    fn any_picture_has_its_crops_within(
        width in 0usize..6000,
        height in 0usize..6000,
        crops in 1..=MAX_CROPS,
        sampling in 0usize..3,
        seed: u64,
        frame: u64,
    ) {
        let plan = CropPlan::new(crops, Sampling::ALL[sampling], seed).expect("valid");
        let positions = plan.positions(width, height, frame);
        prop_assert_eq!(positions.len(), crops);
        for (left, top) in positions {
            prop_assert!(left + CROP <= width.max(CROP) && top + CROP <= height.max(CROP));
        }
    }
}
