//! `qmambaiqa compare`: the better one is found, identical ones do not differ, what cannot be compared is named.

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

#[test]
fn what_cannot_be_compared_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(&folder.join("a.y4m"), SIDE, 4, 1, 0);
    write(&folder.join("other.y4m"), SIDE, 4, 1, 14);
    write(&folder.join("small.y4m"), 224, 4, 1, 0);
    write(&folder.join("long.y4m"), SIDE, 10, 1, 0);
    fs::write(folder.join("bad.mp4"), [1; 100]).unwrap();
    image::GrayImage::new(240, 240).save(folder.join("p.png")).unwrap();
    for (other, extra, expected) in [
        ("small.y4m", &[][..], "a.y4m is 240x240 and small.y4m is 224x224: crops would not show the same; --scale"),
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

/// Encoded files, decoded by GStreamer, of two sizes brought to one.
#[test]
fn encoded_files_are_compared() {
    gst::init().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    for (name, side, quality) in [("good.mkv", 320, 95), ("bad.mkv", 320, 3), ("large.mkv", 480, 95)] {
        let text = format!(
            "videotestsrc num-buffers=24 pattern=zone-plate kx2=12 ky2=9 kt=4 ! \
             video/x-raw,format=I420,width=320,height=320,framerate=6/1 ! videoscale ! \
             video/x-raw,width={side},height={side} ! jpegenc quality={quality} ! matroskamux ! filesink location={}",
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
    let found = report(folder, &["good.mkv", "bad.mkv"]);
    println!("{}", found["pairs"]);
    assert_eq!((&found["pairs"][0]["verdict"], &found["pairs"][0]["frames"]), (&"first-better".into(), &24.into()));
    assert!(complaint(folder, &["good.mkv", "large.mkv"]).contains("is 480x480"));
    let found = report(folder, &["good.mkv", "large.mkv", "--scale", "320x320"]);
    assert_eq!(found["pairs"][0]["frames"], 24);
}
