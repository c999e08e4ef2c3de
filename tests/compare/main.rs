//! `qmambaiqa compare`: the better one is found, identical ones do not differ, what cannot be compared is named.

use base64::Engine;
use gstreamer as gst;
use gstreamer::prelude::*;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const SIDE: usize = 240;
const RATE: usize = 6;
const FRAMES: usize = 24;

fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_qmambaiqa")).arg("compare").args(args).current_dir(folder).output().expect("run")
}

fn report(folder: &Path, args: &[&str]) -> Value {
    let out = run(folder, &[args, &["--format", "json", "--crops", "1"]].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn complaint(folder: &Path, args: &[&str]) -> String {
    let out = run(folder, &[args, &["--crops", "1"]].concat());
    assert!(!out.status.success() && out.stdout.is_empty(), "{args:?}");
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

/// Luma of a moving texture with edges.
fn luma(frame: usize, x: usize, y: usize, seed: usize) -> u8 {
    let (u, v) = ((x + 2 * frame) as f32, y as f32);
    let wave =
        (u / (9.0 + seed as f32)).sin() * (v / 23.0).cos() * 45.0 + (u / 57.0 + v / (31.0 + seed as f32)).sin() * 50.0;
    let edge = if ((x + 2 * frame) / 40 + y / (30 + seed)).is_multiple_of(2) { 25.0 } else { 0.0 };
    (110.0 + wave + edge).clamp(16.0, 235.0) as u8
}

/// A Y4M file; each block of `block` pixels has one luma.
fn write(path: &Path, side: usize, frames: usize, block: usize, seed: usize) {
    let mut out = format!("YUV4MPEG2 W{side} H{side} F{RATE}:1 Ip C420jpeg\n").into_bytes();
    for frame in 0..frames {
        out.extend(b"FRAME\n");
        for y in 0..side {
            out.extend((0..side).map(|x| luma(frame, x / block * block, y / block * block, seed)));
        }
        out.extend(vec![128; side * side / 2]);
    }
    fs::write(path, out).unwrap();
}

/// A report's first picture of a video shows the frame at the time that stands beside it, and not one before or after.
fn check_picture(page: &str, name: &str) {
    let text = page.split(&format!("alt=\"Frame of {name} at ")).nth(1).unwrap();
    let time: f64 = text.split(' ').next().unwrap().parse().unwrap();
    let data = page.split("data:image/jpeg;base64,").nth(1).unwrap().split('"').next().unwrap();
    let picture = image::load_from_memory(&base64::prelude::BASE64_STANDARD.decode(data).unwrap()).unwrap().to_luma8();
    assert_eq!(picture.dimensions(), (SIDE as u32, SIDE as u32));
    let error = |frame: usize| -> f64 {
        let shown = |v: u8| (f64::from(v) - 16.0) * 255.0 / 219.0; // from limited range
        let each = picture
            .enumerate_pixels()
            .map(|(x, y, p)| (shown(luma(frame, x as usize, y as usize, 0)) - f64::from(p.0[0])).abs());
        each.sum::<f64>() / (SIDE * SIDE) as f64
    };
    let closest = (0..FRAMES).min_by(|&a, &b| error(a).total_cmp(&error(b))).unwrap();
    println!("{name} at {time} s: frame {closest}, mean error {:.2}", error(closest));
    assert_eq!(closest, (time * RATE as f64).round() as usize);
    assert!(error(closest) < 8.0); // JPEG, and GStreamer's reading of the range
}

#[test]
fn the_better_one_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(&folder.join("a.y4m"), SIDE, FRAMES, 1, 0);
    write(&folder.join("b.y4m"), SIDE, FRAMES, 8, 0);
    fs::copy(folder.join("a.y4m"), folder.join("c.y4m")).unwrap();
    let found = report(folder, &["a.y4m", "b.y4m", "c.y4m"]);
    let pair = |i: usize| &found["pairs"][i];
    println!("{}", found["pairs"]);
    assert_eq!((&pair(0)["first"], &pair(0)["second"]), (&Value::from("a.y4m"), &Value::from("b.y4m")));
    assert_eq!(pair(0)["verdict"], "first-better");
    assert_eq!(pair(1)["verdict"], "no-difference-shown");
    assert_eq!((pair(1)["mean"].as_f64(), pair(1)["confidence"].as_f64()), (Some(0.0), Some(0.0)));
    assert_eq!(pair(2)["verdict"], "second-better");
    assert_eq!(pair(0)["frames"], FRAMES);
    let mean = |i: usize| found["renditions"][i]["statistics"]["mean"].as_f64().unwrap();
    let difference = pair(0)["mean"].as_f64().unwrap();
    assert!((mean(1) - mean(0) - difference).abs() < 1e-9);
    // The worst moments: apart, with the sign of the pair, the largest first.
    let worst = pair(0)["worst"].as_array().unwrap();
    assert_eq!(worst.len(), 3);
    let at = |i: usize, key: &str| worst[i][key].as_f64().unwrap();
    assert!((at(0, "time") - at(1, "time")).abs() > 1.0 && at(0, "difference").abs() >= at(1, "difference").abs());
    let bits = fs::metadata(folder.join("a.y4m")).unwrap().len() as f64 * 8.0 * RATE as f64 / FRAMES as f64;
    assert!((found["renditions"][0]["bitrate"].as_f64().unwrap() / bits - 1.0).abs() < 1e-9);

    let out = run(folder, &["a.y4m", "b.y4m", "--crops", "1"]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("a.y4m better than b.y4m by "), "{text}");
    // A second of it is too short.
    let short = format!("{}", 1.0 / RATE as f64);
    write(&folder.join("d.y4m"), SIDE, RATE, 1, 0);
    let found = report(folder, &["a.y4m", "d.y4m", "--shortest", "--interval", &short]);
    assert_eq!((&found["pairs"][0]["verdict"], &found["pairs"][0]["confidence"]), (&"too-short".into(), &Value::Null));
}

/// A Y4M file of a wide picture within black bars; in `title`, that frame, something shows in the upper one.
fn letterboxed(path: &Path, block: usize, (top, bottom): (usize, usize), title: Option<usize>) {
    let mut out = format!("YUV4MPEG2 W{SIDE} H{SIDE} F{RATE}:1 Ip C420jpeg\n").into_bytes();
    for frame in 0..FRAMES {
        out.extend(b"FRAME\n");
        for y in 0..SIDE {
            let shown = (top..SIDE - bottom).contains(&y) || (title == Some(frame) && (10..20).contains(&y));
            let pixel = |x| if shown { luma(frame, x / block * block, y / block * block, 0).max(60) } else { 16 };
            out.extend((0..SIDE).map(pixel));
        }
        out.extend(vec![128; SIDE * SIDE / 2]);
    }
    fs::write(path, out).unwrap();
}

/// Bars are those that all have in all frames, so that crops are at the same places; the scores are those of that region.
#[test]
fn black_bars_are_left_out_alike() {
    gst::init().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    letterboxed(&folder.join("a.y4m"), 1, (40, 40), None);
    letterboxed(&folder.join("b.y4m"), 8, (40, 36), None);
    let found = report(folder, &["a.y4m", "b.y4m", "--skip-black-bars"]);
    assert_eq!(found["region"], "0,40,240,164");
    assert_eq!(found["pairs"][0]["verdict"], "first-better");
    let region = report(folder, &["a.y4m", "b.y4m", "--region", "0,40,240,164"]);
    assert_eq!(region["renditions"], found["renditions"]);
    let whole = report(folder, &["a.y4m", "b.y4m"]);
    assert_eq!(whole["region"], Value::Null);
    assert_ne!(whole["renditions"][0]["frames"], found["renditions"][0]["frames"]);
    // The same by GStreamer.
    for name in ["a", "b"] {
        let (from, to) = (folder.join(format!("{name}.y4m")), folder.join(format!("{name}.mkv")));
        let text = format!(
            "filesrc location={} ! y4mdec ! x264enc ! matroskamux ! filesink location={}",
            from.display(),
            to.display()
        );
        let pipeline = gst::parse::launch(&text).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
        let end = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &wanted);
        assert!(matches!(end.unwrap().view(), gst::MessageView::Eos(_)));
        pipeline.set_state(gst::State::Null).unwrap();
    }
    assert_eq!(report(folder, &["a.mkv", "b.mkv", "--skip-black-bars"])["region"], "0,40,240,164");

    // Within a region, and where something shows in a bar of one frame of one video.
    let found = report(folder, &["a.y4m", "b.y4m", "--skip-black-bars", "--region", "8,20,200,200"]);
    assert_eq!(found["region"], "8,40,200,164");
    letterboxed(&folder.join("c.y4m"), 1, (40, 40), Some(FRAMES - 1));
    let found = report(folder, &["a.y4m", "c.y4m", "--skip-black-bars"]);
    assert_eq!(found["region"], "0,10,240,220");
    // Other sizes and pictures that are black throughout.
    write(&folder.join("small.y4m"), 224, 4, 1, 0);
    assert!(complaint(folder, &["a.y4m", "small.y4m", "--skip-black-bars", "--shortest"]).contains("is 224x224"));
    letterboxed(&folder.join("black.y4m"), 1, (SIDE / 2, SIDE / 2), None);
    assert_eq!(report(folder, &["black.y4m", "black.y4m", "--skip-black-bars"])["region"], Value::Null);
}

#[test]
fn what_cannot_be_compared_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(&folder.join("a.y4m"), SIDE, 4, 1, 0);
    write(&folder.join("other.y4m"), SIDE, 4, 1, 14);
    write(&folder.join("small.y4m"), 224, 4, 1, 0);
    write(&folder.join("long.y4m"), SIDE, 10, 1, 0);
    write(&folder.join("one.y4m"), SIDE, 1, 1, 0);
    fs::write(folder.join("bad.mp4"), [1; 100]).unwrap();
    image::GrayImage::new(240, 240).save(folder.join("p.png")).unwrap();
    for (other, extra, expected) in [
        ("small.y4m", &[][..], "a.y4m is 240x240 and small.y4m is 224x224: crops would not show the same; --scale"),
        ("one.y4m", &[], "a.y4m and one.y4m have 4 and 1 scored frames; --shortest"),
        (
            "a.y4m",
            &["--region", "200,0,41,9"],
            "region 200,0,41,9 (x,y,width,height) is not within a picture of 240x240",
        ),
        ("long.y4m", &[], "a.y4m has 0.67 s and long.y4m has 1.67 s; --shortest"),
        ("other.y4m", &[], "a.y4m and other.y4m do not show the same content at the same time"),
        ("p.png", &[], "p.png: is a picture; videos are compared over time"),
        ("missing.mp4", &[], "missing.mp4: No such file"),
        ("bad.mp4", &[], "bad.mp4: "),
        ("a.y4m", &["--interval=-1"], "interval -1 is not"),
        ("a.y4m", &["--scale", "320x240"], "a.y4m: Y4M is not scaled"),
    ] {
        let text = complaint(folder, &[&["a.y4m", other], extra].concat());
        assert!(text.contains(expected), "{text}");
    }
    assert!(!run(folder, &["a.y4m"]).status.success());
    assert!(!run(folder, &["a.y4m", "a.y4m", "--scale", "320"]).status.success());
}

/// The reference is scored and marked, groups are compared over their rates, names are escaped, pictures are in the page.
#[test]
fn references_groups_and_reports() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(&folder.join("source.y4m"), SIDE, FRAMES, 1, 0);
    write(&folder.join("b<i>.y4m"), SIDE, FRAMES, 8, 0);
    write(&folder.join("c.y4m"), SIDE, FRAMES, 4, 0);
    let args = ["b<i>.y4m", "c.y4m", "--reference", "source.y4m", "--group", "x=b*", "--group", "c.*"];
    let more = ["--crops", "1", "--ffmpeg", "/nowhere/ffmpeg", "--report", "r.html", "--format", "csv"];
    let out = run(folder, &[&args[..], &more].concat());
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("without VMAF, SSIM and PSNR: /nowhere/ffmpeg cannot be run"), "{said}");

    let rows: Vec<csv::StringRecord> =
        csv::Reader::from_reader(&out.stdout[..]).records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 3 * FRAMES);
    assert_eq!(rows[0].iter().take(4).collect::<Vec<_>>(), ["source.y4m", "", "true", "0.0"]);
    assert_eq!(rows[FRAMES].iter().take(3).collect::<Vec<_>>(), ["b<i>.y4m", "x", "false"]);
    assert!(rows.iter().all(|row| (0.0..=100.0).contains(&row[4].parse::<f64>().unwrap())));

    let page = fs::read_to_string(folder.join("r.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("source.y4m (reference)"));
    assert!(page.contains("b&lt;i&gt;.y4m") && !page.contains("b<i>"));
    // Moments are apart, so that a pair has up to three.
    let same = report(folder, &[&args[..], &["--ffmpeg", "/nowhere/ffmpeg"]].concat());
    let moments = same["pairs"].as_array().unwrap().iter().map(|pair| pair["worst"].as_array().unwrap().len());
    let pictures = 2 * moments.sum::<usize>();
    assert!((2 * 3..=2 * 9).contains(&pictures), "{pictures}");
    assert_eq!(page.matches("<img ").count(), pictures, "two pictures of each moment");
    assert_eq!(page.matches("<img src=\"data:image/jpeg;base64,").count(), pictures);
    assert_eq!(page.matches(" alt=\"Frame of ").count(), pictures);
    assert_eq!(page.matches("<svg ").count(), 2, "scores over time, scores over rates");
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http") && !outside.contains("<script"), "something is fetched");

    check_picture(&page, "source.y4m");

    // A second run overwrites it; one point makes no curve.
    let brief = [&args[..8], &["--interval", "0.5"]].concat();
    let found = report(folder, &[&brief[..], &["--ffmpeg", "/nowhere/ffmpeg", "--report", "r.html"]].concat());
    assert_eq!(
        (&found["renditions"][0]["reference"], &found["renditions"][1]["reference"]),
        (&true.into(), &false.into())
    );
    assert_eq!(found["renditions"][1]["full_reference"], Value::Null);
    let saving = &found["savings"][0];
    assert_eq!((&saving["anchor"], &saving["test"], &saving["metric"]), (&"x".into(), &"c.*".into(), &"score".into()));
    assert_eq!(saving["reason"], "x has 1 of the 4 rate points that make a curve");
    assert_eq!(found["savings"].as_array().unwrap().len(), 1);
    let text = |ffmpeg: &str| run(folder, &[&brief[..], &["--crops", "1", "--ffmpeg", ffmpeg]].concat());
    let out = text("true"); // runs, and has nothing
    assert!(out.status.success());
    let table = String::from_utf8(out.stdout).unwrap();
    assert!(table.contains("c.* against x by score: no BD-rate: x has 1 of the 4"), "{table}");
    assert!(String::from_utf8(out.stderr).unwrap().contains("without VMAF, SSIM and PSNR: true has no libvmaf"));

    // What goes wrong with VMAF is said, and the scores are not lost.
    let out = text(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/compare/ffmpeg-that-fails"));
    assert!(!out.status.success());
    assert_eq!(String::from_utf8(out.stdout).unwrap(), table);
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.lines().count() == 2 && said.starts_with("qmambaiqa: VMAF of b<i>.y4m: "), "{said}");
    assert!(said.contains("no such model"), "{said}");
}

#[test]
fn wrong_references_ladders_and_reports_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(&folder.join("a.y4m"), SIDE, 4, 1, 0);
    write(&folder.join("b.y4m"), SIDE, 4, 4, 0);
    write(&folder.join("other.y4m"), SIDE, 4, 1, 14);
    image::GrayImage::new(240, 240).save(folder.join("p.png")).unwrap();
    let none = ["--ffmpeg", "/nowhere/ffmpeg"];
    for (args, expected) in [
        (&["a.y4m", "--reference", "missing.y4m"][..], "missing.y4m: No such file"),
        (&["a.y4m", "--reference", "."], ".: is no file"),
        (&["a.y4m", "--reference", "other.y4m"], "other.y4m and a.y4m do not show the same content"),
        (&["a.y4m", "--reference", "a.y4m"], "a.y4m alone is given"),
        (&["a.y4m", "b.y4m", "--report", "nowhere/r.html"], "report nowhere/r.html: No such file"),
        (&["a.y4m", "missing.y4m", "--report", "."], "report .: Is a directory"),
        (&["missing.y4m", "--report", "b.y4m"], "report b.y4m: is there and is no report"),
        (&["a.y4m", "b.y4m", "--group", "a*"], "b.y4m is like no --group"),
        (&["a.y4m", "b.y4m", "--group", "a*", "--group", "c*"], "--group c*: no file name is like c*"),
        (&["a.y4m", "b.y4m", "--ladder", "x264 crf 20..40"], "--ladder encodes one source; 2 are given"),
        (
            &["a.y4m", "--ladder", "x264 crf 20..40"],
            "x264 needs an ffmpeg with libx264, and /nowhere/ffmpeg cannot be run",
        ),
        (&["a.y4m", "b.y4m", "--decoder", "ffmpeg"], "/nowhere/ffmpeg cannot be run"),
    ] {
        let text = complaint(folder, &[args, &none].concat());
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(fs::metadata(folder.join("b.y4m")).unwrap().len(), fs::metadata(folder.join("a.y4m")).unwrap().len());
    // What fails leaves no empty report.
    complaint(folder, &["a.y4m", "other.y4m", "--report", "r.html"]);
    assert!(!folder.join("r.html").exists());
    // The command line's own errors take more lines.
    for (args, expected) in [
        (&["a.y4m", "--ladder", "theora crf 20..40"][..], "known are x264, x265, svt-av1, vp9"),
        (&["a.y4m", "--ladder", "x264 crf 40..20"], "expected FROM..TO, 0 to 51 for x264"),
        (&["a.y4m", "--keep", "d"], "--ladder"),
        (&["a.y4m", "b.y4m", "--group", "a["], "`a[`: Pattern syntax error"),
        (&["a.y4m", "--reference", "b.y4m", "--ladder", "x264 crf 20..40"], "cannot be used with"),
    ] {
        let out = run(folder, args);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains(expected), "{said}");
    }
}

/// A ladder of real encoders: better at higher rates, measured against the source, kept and used again.
#[test]
fn ladders_are_encoded_compared_and_kept() {
    let ask = |what: &str| Command::new("ffmpeg").args(["-hide_banner", what]).output();
    let has = |what, word| ask(what).is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains(word));
    if !(has("-encoders", "libx264") && has("-encoders", "libsvtav1") && has("-filters", "libvmaf")) {
        println!("skipped: for want of an ffmpeg with libx264, libsvtav1 and libvmaf on the PATH");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(&folder.join("source.y4m"), SIDE, FRAMES, 1, 0);
    let args = ["source.y4m", "--ladder", "x264 crf 18..48 step 10", "--ladder", "svt-av1 crf 20..62 step 14"];
    let args = [&args[..], &["--keep", "kept", "--style-prompt", "compression", "--interval", "0.5"]].concat();
    let found = report(folder, &args);
    let renditions = found["renditions"].as_array().unwrap();
    let names: Vec<&str> = renditions.iter().map(|r| r["name"].as_str().unwrap()).collect();
    let expected = ["source.y4m", "x264 crf 18", "x264 crf 28", "x264 crf 38", "x264 crf 48"];
    assert_eq!(&names[..5], expected);
    assert_eq!(&names[5..], ["svt-av1 crf 20", "svt-av1 crf 34", "svt-av1 crf 48", "svt-av1 crf 62"]);
    let of = |i: usize, name: &str| renditions[i]["full_reference"][name].as_f64().unwrap();
    for codec in [1..5, 5..9] {
        for i in codec.clone().skip(1) {
            for metric in ["vmaf", "vmaf_neg", "ssim", "psnr"] {
                assert!(of(i, metric) < of(i - 1, metric), "{metric} of {} {}", names[i], of(i, metric));
            }
            assert!(renditions[i]["bitrate"].as_f64() < renditions[i - 1]["bitrate"].as_f64());
        }
        println!("{:?}", codec.map(|i| (of(i, "vmaf"), of(i, "ssim"), of(i, "psnr"))).collect::<Vec<_>>());
    }
    assert!(of(1, "vmaf_neg") > 80.0 && of(1, "ssim") > 0.95 && of(1, "psnr") > 35.0, "frames are not matched");
    // Neighbours alone are paired; deltas are of the second codec.
    assert_eq!(found["pairs"].as_array().unwrap().len(), 6);
    assert_eq!(found["families"].as_array().unwrap().len(), 2);
    println!("{} {}", found["families"], found["savings"]);
    let saving = found["savings"].as_array().unwrap().iter().find(|s| s["metric"] == "VMAF").unwrap();
    assert!(saving["test"] == "svt-av1" && saving["rate"].as_f64().unwrap().abs() > 1.0);

    fs::write(folder.join("bad.mkv"), [1; 100]).unwrap();
    assert!(complaint(folder, &["bad.mkv", "source.y4m", "--decoder", "ffmpeg"]).starts_with("qmambaiqa: bad.mkv: "));

    // What is kept is not made again; without it a hole is filled with the same.
    let kept = folder.join("kept/source-x264-crf28.mkv");
    let made = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let before = made(&kept);
    fs::remove_file(folder.join("kept/source-x264-crf38.mkv")).unwrap();
    assert_eq!(report(folder, &args), found);
    assert_eq!(made(&kept), before);
    assert_eq!(fs::read_dir(folder.join("kept")).unwrap().count(), 8);
}

/// Encoded files, decoded by GStreamer, of two sizes brought to one.
#[test]
fn encoded_files_are_compared() {
    gst::init().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let frame = |n| (0..SIDE * SIDE).map(move |at| luma(n, at % SIDE, at / SIDE, 0)).chain(vec![128; SIDE * SIDE / 2]);
    fs::write(folder.join("raw"), (0..FRAMES).flat_map(frame).collect::<Vec<u8>>()).unwrap();
    for (name, side, quality) in [("good.mkv", SIDE, 95), ("bad.mkv", SIDE, 3), ("large.mkv", 360, 95)] {
        let text = format!(
            "filesrc location={} ! rawvideoparse format=i420 width={SIDE} height={SIDE} framerate={RATE}/1 ! videoscale ! \
             video/x-raw,width={side},height={side} ! videoconvert ! video/x-raw,colorimetry=(string)1:4:7:1 ! \
             jpegenc quality={quality} ! matroskamux ! filesink location={}",
            folder.join("raw").display(),
            folder.join(name).display()
        );
        let pipeline = gst::parse::launch(&text).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let end = pipeline
            .bus()
            .unwrap()
            .timed_pop_filtered(gst::ClockTime::from_seconds(60), &[gst::MessageType::Eos, gst::MessageType::Error]);
        assert!(matches!(end.unwrap().view(), gst::MessageView::Eos(_)));
        pipeline.set_state(gst::State::Null).unwrap();
    }
    let found = report(folder, &["good.mkv", "bad.mkv", "--report", "r.html"]);
    println!("{}", found["pairs"]);
    assert_eq!((&found["pairs"][0]["verdict"], &found["pairs"][0]["frames"]), (&"first-better".into(), &24.into()));
    let page = fs::read_to_string(folder.join("r.html")).unwrap();
    assert_eq!(page.matches("<img ").count(), 6);
    check_picture(&page, "good.mkv");
    assert!(complaint(folder, &["good.mkv", "large.mkv"]).contains("is 360x360"));
    let found = report(folder, &["good.mkv", "large.mkv", "--scale", "240x240"]);
    assert_eq!(found["pairs"][0]["frames"], 24);
}
