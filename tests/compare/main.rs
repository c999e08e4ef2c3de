//! `qmambaiqa compare`: the better one is found, identical ones do not differ, what cannot be compared is named.

mod encoded;
mod references;

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

/// Tests that expect an order pass `--style-prompt none`: these patterns are unlike what `compression` was tuned on.
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

/// Runs a pipeline to its end.
fn play(text: &str) {
    let pipeline = gst::parse::launch(text).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &wanted);
    let good = end.as_ref().is_some_and(|message| matches!(message.view(), gst::MessageView::Eos(_)));
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(good, "{text}: {end:?}");
}

/// Luma of a moving texture with edges.
fn luma(frame: usize, x: usize, y: usize, seed: usize) -> u8 {
    let (u, v) = ((x + 2 * frame) as f32, y as f32);
    let wave =
        (u / (9.0 + seed as f32)).sin() * (v / 23.0).cos() * 45.0 + (u / 57.0 + v / (31.0 + seed as f32)).sin() * 50.0;
    let edge = if ((x + 2 * frame) / 40 + y / (30 + seed)).is_multiple_of(2) { 25.0 } else { 0.0 };
    (110.0 + wave + edge).clamp(16.0, 235.0) as u8
}

/// A square Y4M file; each block of `block` pixels has one luma.
fn write(path: &Path, side: usize, frames: usize, block: usize, seed: usize) {
    write_sides(path, (side, side), frames, block, seed);
}

fn write_sides(path: &Path, (width, height): (usize, usize), frames: usize, block: usize, seed: usize) {
    let mut out = format!("YUV4MPEG2 W{width} H{height} F{RATE}:1 Ip C420jpeg\n").into_bytes();
    for frame in 0..frames {
        out.extend(b"FRAME\n");
        for y in 0..height {
            out.extend((0..width).map(|x| luma(frame, x / block * block, y / block * block, seed)));
        }
        out.extend(vec![128; width * height / 2]);
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
    let found = report(folder, &["a.y4m", "b.y4m", "c.y4m", "--style-prompt", "none", "--scales", "1"]);
    let pair = |i: usize| &found["pairs"][i];
    println!("{}", found["pairs"]);
    assert_eq!((&pair(0)["first"], &pair(0)["second"]), (&Value::from("a.y4m"), &Value::from("b.y4m")));
    assert_eq!(pair(0)["verdict"], "first-better");
    assert_eq!(pair(1)["verdict"], "no-difference-shown");
    assert_eq!((pair(1)["mean"].as_f64(), pair(1)["statistical"].as_f64()), (Some(0.0), Some(0.0)));
    assert!(pair(1)["confidence"].as_f64().unwrap() > 0.0, "alike is not the same as proven equal");
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

    let out = run(folder, &["a.y4m", "b.y4m", "--crops", "1", "--style-prompt", "none"]);
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
    let found = report(folder, &["a.y4m", "b.y4m", "--skip-black-bars", "--style-prompt", "none"]);
    assert_eq!(found["region"], "0,40,240,164");
    assert_eq!(found["pairs"][0]["verdict"], "first-better");
    let region = report(folder, &["a.y4m", "b.y4m", "--region", "0,40,240,164", "--style-prompt", "none"]);
    assert_eq!(region["renditions"], found["renditions"]);
    let whole = report(folder, &["a.y4m", "b.y4m"]);
    assert_eq!(whole["region"], Value::Null);
    assert_ne!(whole["renditions"][0]["frames"], found["renditions"][0]["frames"]);
    // The same by GStreamer.
    for name in ["a", "b"] {
        let (from, to) = (folder.join(format!("{name}.y4m")), folder.join(format!("{name}.mkv")));
        let text = format!(
            "filesrc location={} ! decodebin ! x264enc ! matroskamux ! filesink location={}",
            from.display(),
            to.display()
        );
        play(&text);
    }
    assert_eq!(report(folder, &["a.mkv", "b.mkv", "--skip-black-bars"])["region"], "0,40,240,164");

    // Within a region, and where something shows in a bar of one frame of one video.
    let found = report(folder, &["a.y4m", "b.y4m", "--skip-black-bars", "--region", "8,20,200,200"]);
    assert_eq!(found["region"], "8,40,200,164");
    letterboxed(&folder.join("c.y4m"), 1, (40, 40), Some(FRAMES - 1));
    let found = report(folder, &["a.y4m", "c.y4m", "--skip-black-bars"]);
    assert_eq!(found["region"], "0,10,240,220");
    // Pictures that are black throughout.
    letterboxed(&folder.join("black.y4m"), 1, (SIDE / 2, SIDE / 2), None);
    assert_eq!(report(folder, &["black.y4m", "black.y4m", "--skip-black-bars"])["region"], Value::Null);
}

#[test]
fn what_cannot_be_compared_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(&folder.join("a.y4m"), SIDE, 4, 1, 0);
    write(&folder.join("other.y4m"), SIDE, 4, 1, 14);
    write_sides(&folder.join("wide.y4m"), (300, SIDE), 4, 1, 0);
    write(&folder.join("long.y4m"), SIDE, 10, 1, 0);
    write(&folder.join("one.y4m"), SIDE, 1, 1, 0);
    fs::write(folder.join("bad.mp4"), [1; 100]).unwrap();
    image::GrayImage::new(240, 240).save(folder.join("p.png")).unwrap();
    for (other, extra, expected) in [
        (
            "wide.y4m",
            &[][..],
            "a.y4m: the aspect ratio of 240x240 differs from 300x240, the size of wide.y4m; crop one",
        ),
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
        ("a.y4m", &["--style-prompt", "nonsense"], "style prompt `nonsense` is neither none"),
    ] {
        let text = complaint(folder, &[&["a.y4m", other], extra].concat());
        assert!(text.contains(expected), "{text}");
    }
    assert!(!run(folder, &["a.y4m"]).status.success());
    assert!(!run(folder, &["a.y4m", "a.y4m", "--scale", "320"]).status.success());
}
