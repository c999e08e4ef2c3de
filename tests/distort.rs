//! `qmambaiqa distort`: labels fall with strength, a stopped run goes on, wrong sources are named.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_qmambaiqa")).arg("distort").args(args).current_dir(folder).output().expect("run")
}

/// A photograph's stand-in: edges and texture at several scales.
fn photograph(path: &Path, side: u32) {
    let wave = |x: u32, y: u32, period: f32| ((x as f32 / period).sin() * (y as f32 / period).cos() * 40.0) as i32;
    image::RgbImage::from_fn(side, side, |x, y| {
        let base = 128 + wave(x, y, 90.0) + wave(x, y, 23.0) + wave(y, x, 9.0) / 2;
        let edge = if (x / 70 + y / 110) % 2 == 0 { 40 } else { 0 };
        image::Rgb([base + edge, base, 200 - base / 2].map(|v| v.clamp(0, 255) as u8))
    })
    .save(path)
    .unwrap();
}

fn rows(folder: &Path) -> Vec<csv::StringRecord> {
    csv::Reader::from_path(folder.join("out/mos.csv")).unwrap().records().map(Result::unwrap).collect()
}

fn table(path: &Path) -> Vec<HashMap<String, String>> {
    csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect()
}

/// Whether the ffmpeg on the PATH lists a word under `-encoders` or `-filters`.
fn ffmpeg_has(list: &str, word: &str) -> bool {
    let out = Command::new("ffmpeg").args(["-hide_banner", list]).output();
    out.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).split_whitespace().any(|w| w == word))
}

#[test]
fn labels_fall_with_strength_and_a_stopped_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    fs::create_dir(folder.join("photos")).unwrap();
    photograph(&folder.join("photos/a.png"), 600);
    photograph(&folder.join("photos/b.png"), 500);
    let has_x264 = ffmpeg_has("-encoders", "libx264");
    if !has_x264 {
        println!("skipped: encoders other than JPEG, for want of an ffmpeg with libx264 on the PATH");
    }
    let codecs = if has_x264 { "jpeg,scale,blur,noise,x264" } else { "jpeg,scale,blur,noise" };
    let args = ["photos", "--out", "out", "--size", "192", "--settings", "3", "--codecs", codecs, "--threads", "2"];
    let out = run(folder, &args);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let table = fs::read_to_string(folder.join("out/mos.csv")).unwrap();
    let all = rows(folder);
    let kinds = codecs.split(',').count();
    assert_eq!(all.len(), 2 * (1 + 3 * kinds), "{table}");
    for content in all.chunks(1 + 3 * kinds) {
        assert_eq!((&content[0][1], &content[0][3]), ("100", "none"));
        // libjpeg at its best third is close: a mistaken range or matrix of its colours is not.
        assert!(content[1][6].parse::<f64>().unwrap() > 60.0, "{:?}", content[1]);
        for codec in content[1..].chunks(3) {
            let mos: Vec<f64> = codec.iter().map(|row| row[1].parse().unwrap()).collect();
            assert!(mos[0] > mos[1] && mos[1] > mos[2], "{codec:?}");
            assert!(mos[0] < 100.0 && mos[2] >= 0.0, "{codec:?}");
            let size = image::image_dimensions(folder.join("out").join(&codec[0][0])).unwrap();
            assert_eq!(size, (192, 192));
        }
    }

    // Fewer settings drawn for each content, at the middle of their parts of the range, of pictures reduced less.
    let few =
        ["photos", "--out", "few", "--size", "384", "--reduce", "1.2:1.3", "--draws", "4", "--even", "--pan", "1"];
    let out = run(folder, &[&few[..], &["--settings", "2", "--codecs", "jpeg,blur,scale"]].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut drawn = csv::Reader::from_path(folder.join("few/mos.csv")).unwrap();
    let drawn: Vec<_> = drawn.records().map(Result::unwrap).collect();
    assert_eq!(drawn.len(), 2 * 5, "{drawn:?}");
    for row in drawn.iter().filter(|row| &row[3] == "jpeg") {
        assert!(["74.000", "27.000"].contains(&&row[4]), "{row:?}"); // a quarter and three quarters from 97 to 3, rounded
    }

    // Stopped within the second content: it comes out the same.
    let first: String = table.lines().take(5 + 3 * kinds).map(|line| format!("{line}\n")).collect();
    let first = first.trim_end_matches(|c| c != ','); // within a line, too
    fs::write(folder.join("out/mos.csv"), first).unwrap();
    assert!(run(folder, &args).status.success());
    assert_eq!(fs::read_to_string(folder.join("out/mos.csv")).unwrap(), table);

    // Another's table is not touched.
    fs::create_dir(folder.join("other")).unwrap();
    fs::write(folder.join("other/mos.csv"), "image,mos\na.png,3\n").unwrap();
    let out = run(folder, &["photos", "--out", "other", "--codecs", "jpeg"]);
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("has other columns"));
    assert_eq!(fs::read_to_string(folder.join("other/mos.csv")).unwrap(), "image,mos\na.png,3\n");

    // What was made trains and evaluates.
    let evaluate = Command::new(env!("CARGO_BIN_EXE_qmambaiqa"))
        .args(["evaluate", "out", "--crops", "1", "--format", "json", "--within", "reference,codec"])
        .args(["--style-prompt", "compression"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(evaluate.status.success(), "{}", String::from_utf8_lossy(&evaluate.stderr));
    let report: serde_json::Value = serde_json::from_slice(&evaluate.stdout).unwrap();
    let within = report["within"].as_array().unwrap();
    let mut expected: Vec<&str> = codecs.split(',').collect();
    expected.sort_unstable();
    assert_eq!(within.iter().map(|w| w["value"].as_str().unwrap()).collect::<Vec<_>>(), expected);
    assert!(within.iter().all(|w| w["groups"] == 2 && w["krcc"].as_f64().unwrap().abs() <= 1.0), "{within:?}");
}

#[test]
fn scaled_images_have_the_kernels_asked_for_and_grain_is_in_the_reference() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    photograph(&folder.join("a.png"), 256);
    let args = ["a.png", "--size", "256", "--reduce", "1:1", "--settings", "1", "--even", "--codecs", "scale"];
    let file = |out: &str, name: &str| image::open(folder.join(out).join(name)).unwrap().into_rgb8();
    for kernel in ["nearest", "bilinear", "bicubic", "lanczos"] {
        let out = run(folder, &[&args[..], &["--out", kernel, "--kernels", kernel]].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let rows = table(&folder.join(kernel).join("mos.csv"));
        assert_eq!((rows[0]["factor"].as_str(), rows[0]["kernel"].as_str()), ("1", ""));
        assert_eq!((&rows[1]["factor"], rows[1]["kernel"].as_str()), (&rows[1]["setting"], kernel));
    }
    assert!(run(folder, &[&args[..], &["--out", "plain"]].concat()).status.success());
    let scaled = ["plain", "nearest", "bilinear", "lanczos"].map(|out| file(out, "0000_a-0_scale_0.png"));
    assert_eq!(scaled[0], file("bicubic", "0000_a-0_scale_0.png"), "the default is bicubic");
    assert!((0..4).all(|i| (0..i).all(|j| scaled[i] != scaled[j])), "kernels differ");

    // Half of the contents have grain; nothing else of a content without it changes.
    let grain = [&args[..], &["--out", "grain", "--grain", "--cuts", "8"]].concat();
    assert!(run(folder, &grain).status.success());
    let rows = table(&folder.join("grain/mos.csv"));
    assert_eq!(rows.len(), 16);
    let plain = file("plain", "0000_a-0_reference.png");
    for pair in rows.chunks(2) {
        assert_eq!(pair[0]["grain"], pair[1]["grain"]);
        let reference = file("grain", &pair[0]["image"]);
        assert_eq!(reference == plain, pair[0]["grain"] == "0", "{pair:?}");
    }
    let with = rows.iter().filter(|row| row["grain"] != "0").count();
    assert!((2..=14).contains(&with), "{with} of 16 have grain");
}

#[test]
fn live_variants_are_recorded_and_repeatable() {
    if !["libx264", "libx265", "libsvtav1", "libvpx-vp9"].iter().all(|encoder| ffmpeg_has("-encoders", encoder)) {
        println!("skipped: no ffmpeg with libx264, libx265, libsvtav1 and libvpx-vp9 on the PATH");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    photograph(&folder.join("a.png"), 300);
    let codecs = "x264,x264-ultrafast,x264-no-deblock,x265-ultrafast,svt-av1-fast,vp9-realtime";
    let args = ["a.png", "--size", "256", "--reduce", "1:1", "--settings", "2", "--codecs", codecs];
    let varied = ["--rungs=1,4/3,2", "--vary-chroma", "--grain", "--cuts", "2"];
    for out in ["out", "again"] {
        let out = run(folder, &[&args[..], &varied, &["--out", out, "--threads", "2"]].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(read("out/mos.csv"), read("again/mos.csv"));
    let rows = table(&folder.join("out/mos.csv"));
    assert_eq!(rows.len(), 2 * (1 + 6 * 2));
    let values = |column: &str| {
        let values = rows.iter().filter(|row| row["codec"] != "none").map(|row| row[column].clone());
        values.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(values("factor").into_iter().collect::<Vec<_>>(), ["1.000", "1.333", "2.000"]);
    assert!(values("kernel").len() > 2 && values("chroma").len() > 2, "{rows:?}");
    assert!(values("denoise").contains("0"), "{rows:?}");
    for row in &rows {
        assert_eq!(image::image_dimensions(folder.join("out").join(&row["image"])).unwrap(), (256, 256));
        assert_eq!(row["kernel"].is_empty(), row["factor"].starts_with("1.000") || row["codec"] == "none", "{row:?}");
    }

    if !ffmpeg_has("-filters", "libvmaf") {
        println!("skipped: --label vmaf, no ffmpeg with libvmaf on the PATH");
        return;
    }
    let out = run(folder, &[&args[..], &["--out", "vmaf", "--label", "vmaf"]].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    for row in table(&folder.join("vmaf/mos.csv")).iter().filter(|row| row["codec"] != "none") {
        assert_eq!(row["mos"], row["vmaf"], "{row:?}");
        assert_eq!((row["factor"].as_str(), row["chroma"].as_str()), ("1.000", "fast"));
    }
}

#[test]
fn unusable_sources_and_settings_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    photograph(&folder.join("small.png"), 300);
    fs::write(folder.join("text.txt"), "no picture").unwrap();
    for (args, expected) in [
        (&["small.png", "--out", "out", "--codecs", "blur"][..], "small.png: 300x300 is too small"),
        (&["nowhere", "--out", "out"], "nowhere: no such file or folder"),
        (
            &["text.txt", "--out", "out", "--codecs", "blur", "--ffmpeg", "/nowhere/ffmpeg"],
            "text.txt: no readable picture",
        ),
        (
            &["small.png", "--out", "out", "--codecs", "x264", "--ffmpeg", "/nowhere/ffmpeg"],
            "x264 needs an ffmpeg with libx264",
        ),
        (&["small.png", "--out", "out", "--size", "100"], "the size must be even, 192 to"),
        (
            &["small.png", "--out", "out", "--label", "vmaf", "--ffmpeg", "/nowhere/ffmpeg"],
            "--label vmaf needs an ffmpeg with libvmaf",
        ),
        (&["small.png", "--out", "out", "--draws", "0"], "draws, cuts, frames and pan must be at least 1"),
    ] {
        let out = run(folder, args);
        let message = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && message.contains(expected), "{args:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}
