use super::reference::{Picture, frame};
use super::*;
use proptest::prelude::*;

const MATRICES: [Matrix; 6] =
    [Matrix::Rgb, Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020, Matrix::Smpte240m, Matrix::Fcc];
const RANGES: [Range; 2] = [Range::Limited, Range::Full];
const SITES: [ChromaSite; 4] = [
    ChromaSite::MPEG2,
    ChromaSite::JPEG,
    ChromaSite::COSITED,
    ChromaSite { horizontal: Position::Centred, vertical: Position::Cosited },
];
/// f32 arithmetic on values of size 1 to 2 and four roundings.
const TOLERANCE: f64 = 1e-6;

/// Noise that depends on the place alone.
fn noise(seed: u32) -> impl FnMut(usize, usize, usize) -> u32 {
    move |c, x, y| {
        let mut h = seed ^ (c as u32).wrapping_mul(0x9e37_79b9) ^ (x as u32).wrapping_mul(0x85eb_ca6b);
        h = (h ^ (h >> 15)).wrapping_add((y as u32).wrapping_mul(0xc2b2_ae35)).wrapping_mul(0x2c1b_3c6d);
        h = (h ^ (h >> 12)).wrapping_mul(0x297a_2d39);
        (h ^ (h >> 15)) >> 3
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Compares the whole picture and a crop of it to the reference, at every `step`-th pixel.
fn check(picture: &Picture, colour: Colour, interlaced: bool, step: usize) {
    let what = format!("{} {}x{} {colour:?} interlaced {interlaced}", picture.format, picture.width, picture.height);
    let planes = picture.pack(7, 0xff);
    let got = frame(picture, &planes, colour).interlaced(interlaced).to_rgb().expect(&what);
    let clean = picture.pack(7, 0);
    let again = frame(picture, &clean, colour).interlaced(interlaced).to_rgb().expect(&what);
    assert_eq!(bits(&got), bits(&again), "{what}: padding or alpha matters");
    for at in (0..picture.width * picture.height).step_by(step) {
        let (x, y) = (at % picture.width, at / picture.width);
        let expected = picture.rgb(x, y, colour, interlaced);
        for (c, expected) in expected.into_iter().enumerate() {
            let got = f64::from(got[at * 3 + c]);
            assert!((got - expected).abs() <= TOLERANCE, "{what}: ({x}, {y}) component {c}: {got} for {expected}");
        }
    }
}

#[test]
fn every_format_agrees_with_the_reference() {
    for (i, &format) in PixelFormat::ALL.iter().enumerate() {
        for (width, height) in [(1, 1), (2, 2), (1, 9), (9, 1), (3, 4), (17, 17), (34, 6)] {
            let picture = Picture::new(format, width, height, noise(i as u32));
            for interlaced in [false, true] {
                for site in SITES {
                    for range in RANGES {
                        check(&picture, Colour::new(Matrix::Bt709, range, site), interlaced, 1);
                    }
                }
            }
        }
    }
}

#[test]
fn every_matrix_agrees_with_the_reference() {
    for &format in PixelFormat::ALL {
        let picture = Picture::new(format, 17, 5, noise(3));
        for matrix in MATRICES {
            for range in RANGES {
                check(&picture, Colour::new(matrix, range, ChromaSite::MPEG2), false, 1);
            }
        }
    }
}

#[test]
fn reduced_pictures_agree_with_the_reference() {
    for (i, &format) in PixelFormat::ALL.iter().enumerate() {
        let picture = Picture::new(format, 71, 75, noise(i as u32 + 50));
        let planes = picture.pack(5, 0xff);
        for (interlaced, corner) in [(false, (0, 0)), (true, (0, 0)), (false, (3, 1)), (true, (1, 5))] {
            let colour = Colour::new(Matrix::Bt601, RANGES[i % 2], SITES[(i + corner.0) % 4]);
            let shown = frame(&picture, &planes, colour).interlaced(interlaced);
            let shown = shown.with_crop(corner.0, corner.1, 71 - corner.0, 75 - corner.1).expect("within");
            for level in 1..=MAX_LEVEL {
                let (side, (width, height)) = (1 << level, shown.reduced_size(level));
                let mut got = vec![0f32; width * height * 3];
                shown.reduced_rgb(level, Region::new(0, 0, width, height), &mut got).expect("within");
                for at in (0..width * height).step_by(7) {
                    let (x, y) = (at % width * side + corner.0, at / width * side + corner.1);
                    let expected = picture.mean_rgb(side, x, y, colour, interlaced);
                    for (got, expected) in got[at * 3..].iter().zip(expected) {
                        let what = format!("{format} {colour:?} {interlaced} level {level} ({x}, {y})");
                        assert!((f64::from(*got) - expected).abs() <= TOLERANCE, "{what}: {got} for {expected}");
                    }
                }
                // A part has the same values.
                let part = Region::new(width / 3, height / 2, width - width / 3, 1);
                let mut row = vec![0f32; part.width * 3];
                shown.reduced_rgb(level, part, &mut row).expect("within");
                assert_eq!(bits(&row), bits(&got[(part.y * width + part.x) * 3..][..row.len()]), "{format} {level}");
            }
        }
    }
}

#[test]
fn what_a_reduced_picture_does_not_have_is_refused() {
    let data = vec![9u8; 64 * 48];
    let frame = Frame::new(PixelFormat::Gray8, 64, 48, &[Plane::new(&data, 64)], Colour::SRGB).expect("valid");
    let rgb = |level, region: Region, values: usize| frame.reduced_rgb(level, region, &mut vec![0f32; values]);
    assert!(rgb(2, Region::new(0, 0, 16, 12), 16 * 12 * 3).is_ok());
    assert!(rgb(2, Region::new(0, 0, 16, 12), 5).unwrap_err().to_string().contains("576 values"));
    assert!(rgb(2, Region::new(1, 0, 16, 12), 16 * 12 * 3).unwrap_err().to_string().contains("picture of 16x12"));
    assert!(rgb(6, Region::new(0, 0, 1, 1), 3).unwrap_err().to_string().contains("0 to 5"));
    assert!(rgb(5, Region::new(0, 0, 2, 2), 12).is_err() && rgb(5, Region::new(0, 0, 2, 1), 6).is_ok());
    assert_eq!((frame.reduced_size(0), frame.reduced_size(5), frame.reduced_size(99)), ((64, 48), (2, 1), (0, 0)));
}

/// Sums of the brightest samples of the deepest format fit.
#[test]
fn white_stays_white_at_every_level() {
    for format in [PixelFormat::P016Le, PixelFormat::I420, PixelFormat::Gray16Le] {
        let picture = Picture::new(format, 64, 64, |c, _, _| {
            if c == 0 { 0xffff } else { 0x8000 >> (16 - if format == PixelFormat::I420 { 8 } else { 16 }) }
        });
        let planes = picture.pack(0, 0);
        let frame = frame(&picture, &planes, Colour::JPEG);
        for level in 1..=MAX_LEVEL {
            let (width, height) = frame.reduced_size(level);
            let mut got = vec![0f32; width * height * 3];
            frame.reduced_rgb(level, Region::new(0, 0, width, height), &mut got).expect("within");
            assert!(got.iter().all(|v| *v == 1.0), "{format} {level}: {}", got[0]);
        }
    }
}

#[test]
fn larger_odd_pictures_agree_with_the_reference() {
    for format in [PixelFormat::I420, PixelFormat::P01010le, PixelFormat::Yuy2, PixelFormat::Bgr] {
        let picture = Picture::new(format, 321, 241, noise(4));
        for interlaced in [false, true] {
            check(&picture, Colour::BT601, interlaced, 61);
        }
    }
}

/// One colour in every pixel.
fn flat(format: PixelFormat, colour: Colour, values: [u32; 3]) -> [f32; 3] {
    let picture = Picture::new(format, 5, 3, |c, _, _| values[c]);
    let planes = picture.pack(0, 0);
    let rgb = frame(&picture, &planes, colour).to_rgb().expect("valid");
    assert!(rgb.chunks(3).all(|pixel| pixel == &rgb[..3]), "{format}: a flat picture stays flat");
    [rgb[0], rgb[1], rgb[2]]
}

#[test]
fn known_points() {
    for format in [PixelFormat::I420, PixelFormat::Yuy2, PixelFormat::Ayuv] {
        assert_eq!(flat(format, Colour::BT709, [235, 128, 128]), [1.0; 3]);
        assert_eq!(flat(format, Colour::BT709, [16, 128, 128]), [0.0; 3]);
        assert_eq!(flat(format, Colour::JPEG, [255, 128, 128]), [1.0; 3]);
        assert_eq!(flat(format, Colour::BT601, [255, 128, 128]), [1.0; 3], "whiter than white");
    }
    for format in [PixelFormat::P01010le, PixelFormat::I42010le] {
        assert_eq!(flat(format, Colour::BT2020_TEST, [940, 512, 512]), [1.0; 3]);
        assert_eq!(flat(format, Colour::BT2020_TEST, [64, 512, 512]), [0.0; 3]);
    }
    assert_eq!(flat(PixelFormat::Gray16Le, Colour::SRGB, [65535, 0, 0]), [1.0; 3]);
    assert_eq!(flat(PixelFormat::Gray8, Colour::BT709, [235, 0, 0]), [1.0; 3]);
    assert_eq!(flat(PixelFormat::Rgb, Colour::SRGB, [255, 0, 51]), [1.0, 0.0, 0.2]);
    assert_eq!(flat(PixelFormat::Gbr, Colour::SRGB, [255, 0, 51]), [1.0, 0.0, 0.2]);

    // 8-bit codes of red, green and blue at full saturation as the recommendations' tables give them.
    let primaries = [
        (Colour::BT601, [[81, 90, 240], [145, 54, 34], [41, 240, 110]]),
        (Colour::BT709, [[63, 102, 240], [173, 42, 26], [32, 240, 118]]),
    ];
    for (colour, codes) in primaries {
        for (primary, code) in codes.into_iter().enumerate() {
            let rgb = flat(PixelFormat::I420, colour, code);
            for (c, value) in rgb.into_iter().enumerate() {
                let expected = if c == primary { 1.0 } else { 0.0 };
                // The codes are rounded: half a step of luma and of chroma times 1.9.
                assert!((value - expected).abs() < 0.008, "{colour:?} primary {primary}: {rgb:?}");
            }
        }
    }
}

impl Colour {
    const BT2020_TEST: Self = Self::new(Matrix::Bt2020, Range::Limited, ChromaSite::COSITED);
}

#[test]
fn depths_agree() {
    let pairs = [
        (PixelFormat::I420, PixelFormat::I42010le, 2),
        (PixelFormat::Nv12, PixelFormat::P01010le, 2),
        (PixelFormat::Nv12, PixelFormat::P016Le, 8),
        (PixelFormat::Y42b, PixelFormat::Y210, 2),
        (PixelFormat::Y444, PixelFormat::Y44412le, 4),
    ];
    for (low, high, shift) in pairs {
        let a = Picture::new(low, 19, 11, noise(5));
        let mut values = noise(5);
        let b = Picture::new(high, 19, 11, |c, x, y| (values(c, x, y) & 255) << shift);
        let (pa, pb) = (a.pack(0, 0), b.pack(0, 0));
        let (x, y) = (frame(&a, &pa, Colour::BT709).to_rgb(), frame(&b, &pb, Colour::BT709).to_rgb());
        for (x, y) in x.expect("valid").iter().zip(y.expect("valid")) {
            assert!((x - y).abs() < 1e-6, "{low} {high}: {x} {y}");
        }
    }
}

#[test]
fn interlaced_fields_do_not_mix() {
    // The top field is red-ish and the bottom blue-ish in chroma, over equal luma.
    for vertical in [Position::Centred, Position::Cosited] {
        let siting = ChromaSite { horizontal: Position::Cosited, vertical };
        let colour = Colour::new(Matrix::Bt601, Range::Full, siting);
        let picture = Picture::new(PixelFormat::I420, 6, 16, |c, _, y| if c == 0 || y % 2 == 0 { 100 } else { 180 });
        let planes = picture.pack(0, 0);
        let rgb = frame(&picture, &planes, colour).interlaced(true).to_rgb().expect("valid");
        let rows: Vec<&[f32]> = rgb.chunks(6 * 3).collect();
        for y in 2..16 {
            assert_eq!(rows[y], rows[y - 2], "{vertical:?} row {y}");
        }
        assert_ne!(rows[0], rows[1]);
    }
}

#[test]
fn a_crop_uses_its_neighbours() {
    for &format in PixelFormat::ALL {
        let picture = Picture::new(format, 23, 19, noise(6));
        let planes = picture.pack(3, 0xff);
        for interlaced in [false, true] {
            let whole = frame(&picture, &planes, Colour::JPEG).interlaced(interlaced);
            let rgb = whole.to_rgb().expect("valid");
            for (x, y, width, height) in [(1, 1, 5, 5), (3, 2, 20, 17), (22, 18, 1, 1), (7, 5, 16, 3)] {
                let crop = whole.clone().with_crop(x, y, width, height).expect("within");
                assert_eq!((crop.width(), crop.height()), (width, height));
                let part = crop.to_rgb().expect("valid");
                for (row, part) in part.chunks(width * 3).enumerate() {
                    let from = ((y + row) * 23 + x) * 3;
                    assert_eq!(bits(part), bits(&rgb[from..from + width * 3]), "{format} ({x}, {y}) row {row}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_rectangle_is_part_of_the_whole(
        format in 0..PixelFormat::ALL.len(),
        (width, x, w) in (1usize..60).prop_flat_map(|n| (Just(n), 0..n)).prop_flat_map(|(n, x)| (Just(n), Just(x), 1..=n - x)),
        (height, y, h) in (1usize..40).prop_flat_map(|n| (Just(n), 0..n)).prop_flat_map(|(n, y)| (Just(n), Just(y), 1..=n - y)),
        site in 0..SITES.len(),
        interlaced: bool,
        padding in 0usize..9,
        seed: u32,
    ) {
        let picture = Picture::new(PixelFormat::ALL[format], width, height, noise(seed));
        let planes = picture.pack(padding, 0xff);
        let colour = Colour::new(Matrix::Bt709, Range::Limited, SITES[site]);
        let frame = frame(&picture, &planes, colour).interlaced(interlaced);
        let whole = frame.to_rgb().expect("valid");
        let mut part = vec![f32::NAN; w * h * 3];
        frame.rgb(x, y, w, h, &mut part).expect("within");
        for (row, part) in part.chunks(w * 3).enumerate() {
            let from = ((y + row) * width + x) * 3;
            prop_assert_eq!(bits(part), bits(&whole[from..from + w * 3]));
        }
    }
}

#[test]
fn formats_have_names() {
    for &format in PixelFormat::ALL {
        assert_eq!(PixelFormat::from_name(format.name()).expect("known"), format);
    }
    assert_eq!(PixelFormat::I42010le.name(), "I420_10LE");
    let error = PixelFormat::from_name("i420").expect_err("case matters").to_string();
    assert!(error.contains("I420, YV12"), "{error}");
}

fn refusal(format: PixelFormat, size: (usize, usize), planes: &[Plane]) -> String {
    Frame::new(format, size.0, size.1, planes, Colour::BT601).expect_err("refused").to_string()
}

#[test]
fn faulty_frames_are_refused() {
    let data = [0u8; 100];
    let plane = |bytes: usize, stride| Plane::new(&data[..bytes], stride);
    let i420 = PixelFormat::I420;
    let good = [plane(100, 10), plane(25, 5), plane(25, 5)];
    assert!(Frame::new(i420, 10, 10, &good, Colour::BT601).is_ok());

    assert!(refusal(i420, (0, 10), &good).contains("zero"));
    assert!(refusal(i420, (10, 0), &good).contains("zero"));
    let text = refusal(i420, (10, 10), &good[..2]);
    assert!(text.contains("3 planes expected, 2 given"), "{text}");
    let text = refusal(i420, (10, 10), &[good[0], plane(24, 5), good[2]]);
    assert!(text.contains("plane 1 of stride 5 needs 25 bytes, 24 given"), "{text}");
    let text = refusal(i420, (10, 10), &[good[0], good[1], plane(25, 4)]);
    assert!(text.contains("plane 2 has stride 4, less than a row of 5"), "{text}");
    let text = refusal(i420, (11, 9), &good);
    assert!(text.contains("plane 0 has stride 10, less than a row of 11"), "{text}");
    let text = refusal(PixelFormat::Gray8, (1, 3), &[plane(100, usize::MAX)]);
    assert!(text.contains("overflows"), "{text}");
    let text = refusal(PixelFormat::Rgb, (usize::MAX, 1), &[plane(100, 10)]);
    assert!(text.contains("memory"), "{text}");
    assert!(!refusal(PixelFormat::Gray8, (usize::MAX, usize::MAX), &[plane(100, 10)]).is_empty());

    // The least that holds the last sample is enough.
    assert!(Frame::new(PixelFormat::Gray8, 4, 2, &[plane(14, 10)], Colour::BT601).is_ok());
    assert!(Frame::new(PixelFormat::Gray8, 4, 2, &[plane(13, 10)], Colour::BT601).is_err());
    // Alpha's plane may be missing.
    assert!(Frame::new(PixelFormat::A420, 10, 10, &good, Colour::BT601).is_ok());
}

#[test]
fn faulty_rectangles_are_refused() {
    let data = [0u8; 100];
    let frame = Frame::new(PixelFormat::Gray8, 10, 10, &[Plane::new(&data, 10)], Colour::SRGB).expect("valid");
    for (x, y, w, h) in [(0, 0, 11, 1), (10, 0, 1, 1), (0, 0, 0, 1), (0, 9, 1, 2), (usize::MAX, 0, 2, 1)] {
        assert!(frame.clone().with_crop(x, y, w, h).is_err(), "crop {x} {y} {w} {h}");
        assert!(frame.rgb(x, y, w, h, &mut []).is_err(), "rectangle {x} {y} {w} {h}");
    }
    assert!(frame.rgb(0, 0, 2, 2, &mut [0.0; 11]).is_err());
    let crop = frame.with_crop(5, 5, 3, 3).expect("within");
    assert!(crop.rgb(0, 0, 4, 1, &mut [0.0; 12]).is_err(), "beyond the crop");
    // A crop is always of the planes, not of the crop before.
    assert_eq!(crop.with_crop(0, 0, 10, 10).expect("within").width(), 10);
}

/// Not a check: prints how long a crop takes. `cargo test --lib frame::tests::timing -- --ignored --nocapture`
#[test]
#[ignore = "a timing"]
fn timing() {
    for format in [PixelFormat::I420, PixelFormat::Nv12, PixelFormat::P01010le, PixelFormat::Yuy2, PixelFormat::Rgb] {
        let picture = Picture::new(format, 1920, 1080, noise(1));
        let planes = picture.pack(0, 0);
        let frame = frame(&picture, &planes, Colour::BT709);
        let mut out = vec![0f32; 224 * 224 * 3];
        let best = (0..200)
            .map(|i| {
                let start = std::time::Instant::now();
                frame.rgb(101 + i, 77, 224, 224, &mut out).expect("within");
                start.elapsed()
            })
            .min();
        println!("{format}: {best:?}");
    }
}

#[test]
fn luma_is_that_of_the_rgb() {
    for (i, &format) in PixelFormat::ALL.iter().enumerate() {
        // Without chroma R, G and B are luma themselves.
        let (mut noise, neutral) = (noise(i as u32), 128 << (format.layout().sample.depth - 8));
        let samples = move |c, x, y| if c > 0 && !format.is_rgb() { neutral } else { noise(c, x, y) };
        let picture = Picture::new(format, 19, 6, samples);
        let planes = picture.pack(3, 0xff);
        for range in RANGES {
            let matrix = if format.is_rgb() { Matrix::Rgb } else { Matrix::Bt709 };
            let whole = frame(&picture, &planes, Colour::new(matrix, range, ChromaSite::MPEG2));
            let part = whole.with_crop(2, 1, 15, 4).unwrap();
            let mut luma = vec![0.0; 15 * 3];
            part.luma(1, 3, &mut luma).unwrap();
            let rgb = part.to_rgb().unwrap();
            for (&got, rgb) in luma.iter().zip(rgb[15 * 3..].chunks(3)) {
                let expected = 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2];
                assert!((got - expected).abs() < 1e-5, "{format} {range:?}: {got} for {expected}");
            }
            assert!(part.luma(2, 3, &mut luma).is_err() && part.luma(0, 2, &mut luma).is_err());
        }
    }
}
