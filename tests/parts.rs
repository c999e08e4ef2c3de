//! Parts of pictures, and whatever an ffmpeg decodes, from the command line.

#[path = "common/command.rs"]
mod command;

use command::{I420, bad, good, json, picture, y4m};
use serde_json::Value;
use std::fs;
use std::process::Command;
use tempfile::TempDir;

#[test]
fn a_region_is_scored_as_if_it_were_the_picture() {
    let dir = TempDir::new().expect("folder");
    let whole = dir.path().join("whole.png");
    picture(&whole, 3);
    let cut = image::open(&whole).expect("picture").crop_imm(10, 5, 240, 230);
    cut.save(dir.path().join("cut.png")).expect("picture");
    let scores = |args: &[&str], input: &[u8]| -> Vec<Value> {
        let args = [&["score", "--crops", "2", "--format", "json"], args].concat();
        json(&good(dir.path(), &args, input)).iter().map(|line| line["score"].clone()).collect()
    };
    let region = ["--region", "10,5,240,230"];
    assert_eq!(scores(&[&["whole.png"], &region[..]].concat(), b""), scores(&["cut.png"], b""));
    assert_ne!(scores(&["whole.png"], b""), scores(&["cut.png"], b""));
    // A black frame around it, of a stream.
    let mono = |inner: bool| {
        let (width, height) = if inner { (226, 224) } else { (326, 304) };
        let mut out = format!("YUV4MPEG2 W{width} H{height} F25:1 Ip Cmono\nFRAME\n").into_bytes();
        let pixel = |x: usize, y: usize| (40 + (x * y / 7) % 150) as u8;
        for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
            let within = (50..276).contains(&x) && (40..264).contains(&y);
            out.push(if inner {
                pixel(x, y)
            } else if within {
                pixel(x - 50, y - 40)
            } else {
                17
            });
        }
        out
    };
    let plain = scores(&["-"], &mono(true));
    assert_eq!(scores(&["-", "--skip-black-bars"], &mono(false)), plain);
    assert_eq!(scores(&["-", "--region", "50,40,226,224"], &mono(false)), plain);
    bad(dir.path(), &["score", "whole.png", "--region", "100,100,240,230"], "whole.png: region 100,100,240,230");
}

#[test]
fn whatever_an_ffmpeg_decodes() {
    let dir = TempDir::new().expect("folder");
    bad(dir.path(), &["ffmpeg", "--ffmpeg", "/nowhere/ffmpeg", "--", "-i", "a"], "/nowhere/ffmpeg cannot be run");
    bad(dir.path(), &["ffmpeg", "--", "-t", "2"], "`-i FILE`");
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        println!("skipped: no ffmpeg on this machine");
        return;
    }
    fs::write(dir.path().join("a.y4m"), y4m(5, "Ip C420jpeg XYSCSS=420JPEG XCOLORRANGE=LIMITED", I420)).expect("file");
    let scores = |args: &[&str]| -> Vec<Value> {
        let lines = json(&good(dir.path(), &[args, &["--crops", "1", "--format", "json"]].concat(), b""));
        lines.iter().filter(|line| line["frame"].is_u64()).map(|line| line["score"].clone()).collect()
    };
    let wrapped = |args: &[&str]| {
        let own = ["ffmpeg", "--crops", "1", "--format", "json", "--"];
        let lines = json(&good(dir.path(), &[&own, args].concat(), b""));
        lines.iter().filter(|line| line["frame"].is_u64()).map(|line| line["score"].clone()).collect::<Vec<Value>>()
    };
    let all = scores(&["score", "a.y4m"]);
    assert_eq!(all.len(), 5);
    assert_eq!(wrapped(&["-i", "a.y4m"]), all);
    assert_eq!(wrapped(&["-i", "a.y4m", "-frames:v", "2"]), all[..2]);
    assert_ne!(wrapped(&["-i", "a.y4m", "-vf", "boxblur=4"]), all);
    bad(dir.path(), &["ffmpeg", "--", "-i", "gone.mp4"], "No such file"); // after `gone.mp4: ` or, from ffmpeg 7 on, `Error opening input: `
    bad(dir.path(), &["ffmpeg", "--", "-i", "a.y4m", "-vf", "nosuchfilter"], "No such filter");
}
