//! Encoded files, their sizes, and the style prompt.

use crate::{FRAMES, RATE, SIDE, check_picture, complaint, luma, play, report, run, write};
use gstreamer as gst;
use qmambaiqa::model::parameters::{Scope, Trainable};
use qmambaiqa::model::{Config, QMamba};
use qmambaiqa::weights_file::{self, WriteDtype};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

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
        play(&text);
    }
    let found = report(folder, &["good.mkv", "bad.mkv", "--report", "r.html", "--style-prompt", "none"]);
    println!("{}", found["pairs"]);
    assert_eq!((&found["pairs"][0]["verdict"], &found["pairs"][0]["frames"]), (&"first-better".into(), &24.into()));
    let page = fs::read_to_string(folder.join("r.html")).unwrap();
    assert_eq!(page.matches("<img ").count(), 6);
    check_picture(&page, "good.mkv");
    let found = report(folder, &["good.mkv", "large.mkv", "--scale", "240x240"]);
    assert_eq!((&found["pairs"][0]["frames"], &found["scale"]), (&24.into(), &"240x240".into()));
    check_sizes(folder);
}

/// Encodings of several sizes are scaled to the largest one's size, by both decoders alike, and the output reports it.
fn check_sizes(folder: &Path) {
    // The large one again, as Y4M; one of half the size, whose pixels are half as wide as high.
    for (name, parts) in [
        ("large.y4m", "videoconvert ! video/x-raw,format=I420,colorimetry=bt601 ! y4menc"),
        (
            "narrow.mkv",
            "videoscale ! video/x-raw,width=90,height=180,pixel-aspect-ratio=2/1 ! videoconvert ! x264enc ! matroskamux",
        ),
    ] {
        let (from, to) = (folder.join("large.mkv"), folder.join(name));
        play(&format!(
            "filesrc location={} ! decodebin ! {parts} ! filesink location={}",
            from.display(),
            to.display()
        ));
    }

    let args = ["good.mkv", "large.mkv", "large.y4m", "narrow.mkv"];
    let ffmpeg = Command::new("ffmpeg").arg("-version").output().is_ok();
    let decoders: &[&str] = if ffmpeg { &["gstreamer", "ffmpeg"] } else { &["gstreamer"] };
    let mut means = Vec::new();
    for decoder in decoders {
        let found = report(folder, &[&args[..], &["--decoder", decoder]].concat());
        assert_eq!(found["scale"], "360x360", "{decoder}");
        let renditions = found["renditions"].as_array().unwrap();
        let of = |key: &str| renditions.iter().map(|r| r[key].clone()).collect::<Vec<Value>>();
        assert_eq!(of("width"), [240, 360, 360, 90]);
        assert_eq!(of("scaled"), [true, false, false, true]);
        assert_eq!(renditions[3]["pixel_aspect"], serde_json::json!([2, 1]));
        let mean: Vec<f64> = renditions.iter().map(|r| r["statistics"]["mean"].as_f64().unwrap()).collect();
        println!("{decoder}: {mean:?}");
        means.push(mean);
    }
    for (i, name) in args.iter().enumerate() {
        let apart = (means[0][i] - means[means.len() - 1][i]).abs();
        assert!(apart < 3.0, "{name}: decoders are {apart:.2} apart");
    }
    let out = run(folder, &["large.mkv", "narrow.mkv", "--crops", "1", "--report", "sizes.html"]);
    let table = String::from_utf8(out.stdout).unwrap();
    let said = "scaled to 360x360, as in full-screen playback: narrow.mkv (90x180 with pixels of 2:1)";
    assert!(table.contains(said), "{table}");
    assert!(fs::read_to_string(folder.join("sizes.html")).unwrap().contains(said));
    // Bars are found after scaling.
    assert_eq!(report(folder, &["large.y4m", "narrow.mkv", "--skip-black-bars"])["scale"], "360x360");
}

#[test]
fn pairs_prompt_is_the_default_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(&folder.join("a.y4m"), SIDE, 4, 1, 0);
    write(&folder.join("b.y4m"), SIDE, 4, 8, 0);
    let with = |args: &[&str]| report(folder, &[&["a.y4m", "b.y4m"], args].concat());
    let chosen = with(&[]);
    assert_eq!((&chosen["model"], &chosen["style_prompt"]), (&"qmamba-nano".into(), &"compression-pairs".into()));
    assert_eq!(with(&["--style-prompt", "compression-pairs"]), chosen);
    let none = with(&["--style-prompt", "none"]);
    assert_eq!(none["style_prompt"], "none");
    assert_ne!(none["renditions"], chosen["renditions"]);
    let out = run(folder, &["a.y4m", "b.y4m", "--crops", "1", "--report", "r.html"]);
    let said = "model qmamba-nano with the style prompt compression-pairs";
    assert!(String::from_utf8(out.stdout).unwrap().contains(said));
    assert!(fs::read_to_string(folder.join("r.html")).unwrap().contains(said));
    let help = String::from_utf8(run(folder, &["--help"]).stdout).unwrap();
    assert!(help.contains("auto (compression-pairs for the embedded model"), "{help}");

    // Another model.
    let mut random = Trainable::new(1, Default::default(), &candle_core::Device::Cpu);
    QMamba::new(Scope::new(&mut random), &Config::named("qmamba-nano").unwrap()).unwrap();
    let tensor = |variable: &candle_core::Var| {
        (variable.dims().to_vec(), variable.flatten_all().unwrap().to_vec1::<f32>().unwrap())
    };
    let tensors = random.variables.iter().map(|(name, variable)| (name.clone(), tensor(variable))).collect();
    let metadata = [("model", "qmamba-nano"), ("range", "[0.0,1.0]")].map(|(k, v)| (k.into(), v.into())).into();
    weights_file::write(&folder.join("other.safetensors"), &tensors, WriteDtype::F16, &metadata).unwrap();
    let out = run(folder, &["a.y4m", "b.y4m", "--crops", "1", "--model", "other.safetensors", "--format", "json"]);
    let warned = String::from_utf8(out.stderr).unwrap();
    let note = "no style prompt is used: compression-pairs requires qmamba-nano, the model is other.safetensors";
    assert_eq!(warned.lines().filter(|line| line.contains(note)).count(), 1, "{warned}");
    let found: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(found["style_prompt"], "none");
    let text = complaint(folder, &["a.y4m", "b.y4m", "--model", "other.safetensors", "--style-prompt", "compression"]);
    assert!(text.contains("compression"), "{text}");
}
