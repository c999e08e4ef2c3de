//! The command line as its users meet it: fixtures are made here, nothing is fetched.

#[path = "common/command.rs"]
mod command;

use command::{I420, bad, good, json, picture, run, y4m};
use gstreamer::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use tempfile::TempDir;

#[test]
fn inspect_counts_parameters() {
    let dir = TempDir::new().expect("folder");
    for (name, count) in [
        ("qmamba-t", 27_993_409u64),
        ("qmamba-s", 49_379_521),
        ("qmamba-b", 87_533_825),
        ("lqmamba-t", 29_877_841),
        ("lqmamba-s", 52_912_369),
        ("lqmamba-b", 93_792_577),
    ] {
        let report = json(&good(dir.path(), &["inspect", name, "--format", "json"], b""));
        assert_eq!((&report[0]["parameters"], &report[0]["weights"]), (&count.into(), &Value::Null), "{name}");
    }
    // StylePrompt, as the paper counts it.
    for (name, count) in [("lqmamba-b", 3_830_808u64), ("qmamba-t", 3_464_728)] {
        let report = json(&good(dir.path(), &["inspect", name, "--format", "json"], b""));
        assert_eq!(report[0]["style_prompt_parameters"], count, "{name}");
    }
    let nano = json(&good(dir.path(), &["inspect", "qmamba-nano", "--format", "json"], b""));
    assert_eq!(nano[0]["weights"], "embedded");
    assert!(good(dir.path(), &["inspect", "qmamba-nano"], b"").contains("parameters"));
}

#[test]
fn a_picture_in_three_formats() {
    let dir = TempDir::new().expect("folder");
    picture(&dir.path().join("a.png"), 3);
    fs::rename(dir.path().join("a.png"), dir.path().join("a,b")).expect("told by content");
    let lines = json(&good(dir.path(), &["score", "a,b", "--format", "json"], b""));
    assert_eq!(lines.len(), 2);
    let score = lines[0]["score"].as_f64().expect("score");
    assert!((0.0..=100.0).contains(&score) && lines[0]["time"].is_null() && lines[0]["confidence"].is_number());
    assert_eq!((&lines[1]["summary"]["frames"], &lines[1]["summary"]["mean"]), (&1.into(), &lines[0]["score"]));
    let csv = good(dir.path(), &["score", "a,b", "--format", "csv"], b"");
    assert!(csv.starts_with("source,frame,time,score,raw,deviation,confidence,scales\n\"a,b\",0,,"), "{csv}");
    let table = good(dir.path(), &["score", "a,b"], b"");
    assert!(table.lines().count() == 2 && table.contains(&format!("{score:.2}")), "{table}");
    let one = json(&good(dir.path(), &["score", "a,b", "--crops", "1", "--format", "json"], b""));
    assert!(one[0]["confidence"].is_null());
    // One bad source does not keep the others back.
    let out = run(dir.path(), &["score", "gone.png", "a,b", "--format", "json"], b"");
    assert_eq!((out.status.code(), out.stdout.is_empty()), (Some(1), false));
}

#[test]
fn y4m_from_file_and_standard_input_by_any_number_of_threads() {
    let dir = TempDir::new().expect("folder");
    let stream = y4m(3, "Ip C420jpeg XYSCSS=420JPEG XCOLORRANGE=LIMITED", I420);
    fs::write(dir.path().join("a.bin"), &stream).expect("file");
    let from_file = good(dir.path(), &["score", "a.bin", "--format", "json", "--threads", "1"], b"");
    let from_pipe = good(dir.path(), &["score", "-", "--format", "json", "--threads", "2"], &stream);
    assert_eq!(from_file.replace("a.bin", "-"), from_pipe);
    let lines = json(&from_file);
    assert_eq!((lines.len(), &lines[2]["time"], &lines[3]["summary"]["frames"]), (4, &0.08.into(), &3.into()));
    let sparse = good(dir.path(), &["score", "a.bin", "--format", "json", "--interval", "0.08"], b"");
    assert_eq!(
        json(&sparse).iter().map(|l| l["frame"].clone()).collect::<Vec<_>>()[..2],
        [Value::from(0), Value::from(2)]
    );
}

/// Every set of instructions that this CPU has gives the same bits, and 16-bit products nearly what 32-bit floats do.
#[test]
fn precision_and_instruction_sets() {
    let dir = TempDir::new().unwrap();
    picture(&dir.path().join("a.png"), 3);
    let score = |level: &str, precision: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qmambaiqa"));
        command.args(["score", "a.png", "--format", "json", "--crops", "1", "--precision", precision]);
        let out = command.current_dir(dir.path()).env("QMAMBAIQA_CPU", level).output().expect("run");
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        if out.status.success() {
            Ok(json(&String::from_utf8_lossy(&out.stdout))[0]["score"].clone())
        } else {
            Err(error)
        }
    };
    let error = score("mmx", "standard").unwrap_err();
    assert!(
        error.starts_with("qmambaiqa: QMAMBAIQA_CPU=mmx: this CPU has portable") && error.lines().count() == 1,
        "{error}"
    );
    let exact = score("portable", "exact").unwrap().as_f64().unwrap();
    for (precision, tolerance) in [("standard", 0.02), ("fast", 0.3)] {
        let portable = score("portable", precision).unwrap();
        for level in error.trim().rsplit("has ").next().unwrap().split(", ") {
            assert_eq!(score(level, precision).unwrap(), portable, "{level}, {precision}");
            println!("{level}, {precision}: the same bits");
        }
        let difference = (portable.as_f64().unwrap() - exact).abs();
        println!("{precision} differs from exact by {difference:.4}");
        assert!(difference > 0.0 && difference < tolerance, "{precision}: {difference}");
    }
    bad(
        dir.path(),
        &["score", "a.png", "--precision", "half"],
        "no precision \"half\"; there are exact, standard, fast",
    );
}

#[test]
fn y4m_colourspaces() {
    let dir = TempDir::new().expect("folder");
    let pixels = 226 * 224;
    for (tags, bytes) in [
        ("C420", I420),
        ("It C420mpeg2", I420),
        ("Ib C420paldv", I420),
        ("C422", pixels * 2),
        ("C444", pixels * 3),
        ("Cmono XCOLORRANGE=FULL", pixels),
    ] {
        let csv = good(dir.path(), &["score", "-", "--crops", "1", "--format", "csv"], &y4m(1, tags, bytes));
        assert_eq!(csv.lines().count(), 2, "{tags}");
    }
    for (stream, what) in [
        (y4m(1, "C411", pixels), "411"),
        (y4m(0, "C420", 0), "no frames"),
        (y4m(1, "C420", I420 - 1), "ends within"),
        (b"YUV4MPEG2 W99999999999 H9999999999\n".to_vec(), "W99999999999"),
        (b"RIFF".to_vec(), "YUV4MPEG2"),
    ] {
        fs::write(dir.path().join("bad.y4m"), stream).expect("file");
        if what == "YUV4MPEG2" {
            let out = run(dir.path(), &["score", "-"], b"RIFF");
            assert!(String::from_utf8_lossy(&out.stderr).contains(what));
        } else {
            bad(dir.path(), &["score", "bad.y4m", "--crops", "1"], what);
        }
    }
}

/// Encodes with GStreamer, as a user's file would have been.
fn encode(pipeline: &str) {
    gstreamer::init().expect("GStreamer");
    let pipeline = gstreamer::parse::launch(pipeline).expect("elements for the test's clip");
    pipeline.set_state(gstreamer::State::Playing).expect("start");
    let bus = pipeline.bus().expect("bus");
    let end = [gstreamer::MessageType::Eos, gstreamer::MessageType::Error];
    let message = bus.timed_pop_filtered(gstreamer::ClockTime::from_seconds(60), &end).expect("an end");
    assert_eq!(message.type_(), gstreamer::MessageType::Eos, "{message:?}");
    pipeline.set_state(gstreamer::State::Null).expect("stop");
}

#[test]
fn an_encoded_video_with_sound() {
    let dir = TempDir::new().expect("folder");
    let at = |name: &str| dir.path().join(name).display().to_string();
    encode(&format!(
        "videotestsrc num-buffers=8 ! video/x-raw,width=320,height=240,framerate=4/1 ! x264enc ! mp4mux name=mux ! filesink \
         location={} audiotestsrc num-buffers=80 ! avenc_aac ! mux.",
        at("a.mp4")
    ));
    let args = ["score", "a.mp4", "--crops", "2", "--format", "json"];
    let all = json(&good(dir.path(), &args, b""));
    assert_eq!(all.len(), 9, "{all:?}");
    assert_eq!((&all[3]["frame"], &all[3]["time"]), (&3.into(), &0.75.into()));
    assert_eq!(all[8]["summary"]["frames"], 8);
    let some = json(&good(dir.path(), &[&args[..], &["--interval", "0.5"]].concat(), b""));
    assert_eq!(some.len(), 5, "{some:?}");
    assert_eq!((&some[1]["time"], &some[1]["score"]), (&all[2]["time"], &all[2]["score"]));
}

#[test]
fn files_without_a_picture() {
    let dir = TempDir::new().expect("folder");
    encode(&format!("audiotestsrc num-buffers=20 ! wavenc ! filesink location={}/sound.wav", dir.path().display()));
    bad(dir.path(), &["score", "sound.wav"], "sound.wav: has no video");
    fs::write(dir.path().join("cut.mp4"), b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41").expect("file");
    bad(dir.path(), &["score", "cut.mp4"], "cut.mp4");
    fs::write(dir.path().join("empty.mp4"), b"").expect("file");
    bad(dir.path(), &["score", "empty.mp4"], "empty.mp4");
}

#[test]
fn conversion_keeps_the_network() {
    let dir = TempDir::new().expect("folder");
    fs::copy("weights/qmamba-nano.safetensors", dir.path().join("in.safetensors")).expect("copy");
    let out = "out.safetensors";
    good(dir.path(), &["convert", "in.safetensors", out], b"");
    picture(&dir.path().join("a.png"), 5);
    let score = |model: &str| good(dir.path(), &["score", "a.png", "--model", model, "--format", "csv"], b"");
    assert_eq!(score("qmamba-nano"), score(out));
    bad(dir.path(), &["convert", "in.safetensors", out], out);
    bad(dir.path(), &["convert", out, out, "--force"], out);
    good(dir.path(), &["convert", "in.safetensors", out, "--force", "--half"], b"");
    bad(dir.path(), &["convert", "in.safetensors", "x.safetensors", "--model", "qmamba-t"], "in.safetensors");
}

#[test]
fn evaluation() {
    let dir = TempDir::new().expect("folder");
    for step in 1..=4 {
        picture(&dir.path().join(format!("{step}.png")), step);
    }
    fs::write(dir.path().join("mos.csv"), "image,mos\n1.png,4\n2.png,3\n3.png,2\n4.png,1\n").expect("labels");
    let report = json(&good(dir.path(), &["evaluate", ".", "--format", "json"], b""));
    assert_eq!(report[0]["images"], 4);
    assert!(["plcc", "plcc_fitted", "srcc", "krcc", "rmse", "rmse_fitted"].iter().all(|k| report[0][k].is_number()));
    fs::write(dir.path().join("same.csv"), "image,mos\n1.png,4\n1.png,3\n1.png,2\n").expect("labels");
    let report = json(&good(dir.path(), &["evaluate", ".", "--labels", "same.csv", "--format", "json"], b""));
    assert!(report[0]["srcc"].is_null() && report[0]["plcc_fitted"].is_null() && report[0]["rmse"].is_number());
    for (name, table, what) in [
        ("bad1.csv", "image,mos\n1.png,x\n", "bad1.csv"),
        ("bad2.csv", "image,mos\n1.png,1\n2.png\n", "bad2.csv"),
        ("bad3.csv", "picture,mos\n1.png,1\n", "image"),
        ("bad4.csv", "image,mos\ngone.png,1\n", "gone.png"),
        ("bad5.csv", "image,mos\n1.png,1\nbad1.csv,1\n", "bad1.csv"),
    ] {
        fs::write(dir.path().join(name), table).expect("labels");
        bad(dir.path(), &["evaluate", ".", "--labels", name], what);
    }
    fs::create_dir(dir.path().join("empty")).expect("folder");
    bad(dir.path(), &["evaluate", "empty"], "mos.csv");
}

#[test]
fn unusable_weights() {
    let dir = TempDir::new().expect("folder");
    let path = |name: &str| dir.path().join(name);
    picture(&path("a.png"), 3);
    let bytes = fs::read("weights/qmamba-nano.safetensors").expect("weights");
    fs::write(path("truncated.safetensors"), &bytes[..bytes.len() / 2]).expect("file");
    let mut corrupt = bytes.clone();
    corrupt[8..400].fill(b'x');
    fs::write(path("corrupt.safetensors"), &corrupt).expect("file");
    fs::write(path("text.safetensors"), "no weights\nat all\n").expect("file");
    fs::write(path("empty.safetensors"), "").expect("file");
    // The writer refuses NaN; the last element is made one: f16 0x7e00.
    let mut nan = bytes;
    let end = nan.len();
    nan[end - 2..].copy_from_slice(&[0, 0x7e]);
    fs::write(path("nan.safetensors"), &nan).expect("file");
    let head = BTreeMap::from([
        ("classifier.head.weight".to_owned(), (vec![1000, 768], vec![0.0; 768_000])),
        ("patch_embed.5.weight".to_owned(), (vec![96, 48, 3, 3], vec![0.0; 96 * 48 * 9])),
        // One block a stage makes it a network in outline.
        ("layers.0.blocks.0.norm.weight".to_owned(), (vec![96], vec![0.0; 96])),
        ("layers.1.blocks.0.norm.weight".to_owned(), (vec![192], vec![0.0; 192])),
        ("layers.2.blocks.0.norm.weight".to_owned(), (vec![384], vec![0.0; 384])),
        ("layers.3.blocks.0.norm.weight".to_owned(), (vec![768], vec![0.0; 768])),
    ]);
    let dtype = qmambaiqa::weights_file::WriteDtype::F16;
    qmambaiqa::weights_file::write(&path("imagenet.safetensors"), &head, dtype, &BTreeMap::new()).expect("file");
    for name in ["truncated", "corrupt", "text", "empty", "nan", "imagenet"] {
        let file = format!("{name}.safetensors");
        bad(dir.path(), &["score", "a.png", "--model", &file], &file);
        bad(dir.path(), &["inspect", &file], &file);
        bad(dir.path(), &["convert", &file, "out.safetensors"], &file);
        bad(dir.path(), &["score", "a.png", "--style-prompt", &file], &file);
    }
    bad(dir.path(), &["inspect", "imagenet.safetensors"], "1000-way");
    bad(dir.path(), &["inspect", "nan.safetensors"], "NaN");
    assert!(!path("out.safetensors").exists());
}

#[test]
fn unusable_settings_and_sources() {
    let dir = TempDir::new().expect("folder");
    picture(&dir.path().join("a.png"), 3);
    let png = fs::read(dir.path().join("a.png")).expect("picture");
    fs::write(dir.path().join("broken.png"), &png[..png.len() / 2]).expect("file");
    fs::write(dir.path().join("empty"), "").expect("file");
    for (args, what) in [
        (&["--model", "qmamba-zero"][..], "qmamba-zero"),
        (&["--model", "qmamba-t"], "qmamba-t"),
        (&["--crops", "0"], "0 crops"),
        (&["--crops", "65"], "65 crops"),
        (&["--device", "tpu"], "tpu"),
        (&["--sampling", "spiral"], "spiral"),
        (&["--interval", "NaN"], "interval"),
        (&["--threads", "99999999"], "99999999"),
    ] {
        bad(dir.path(), &[&["score", "a.png"], args].concat(), what);
    }
    bad(dir.path(), &["inspect", "qmamba-zero"], "qmamba-zero");
    for name in ["gone.png", "empty", "broken.png", "."] {
        bad(dir.path(), &["score", name], name);
    }
    bad(dir.path(), &["score", "-"], "no frames");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let dir = TempDir::new().expect("folder");
    fs::write(dir.path().join("a.y4m"), y4m(3, "C420jpeg", I420)).expect("file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_qmambaiqa"));
    command.args(["score", "a.y4m"]).current_dir(dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("start");
    drop(child.stdout.take());
    let out = child.wait_with_output().expect("end");
    assert!(out.status.success() && out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn a_log_has_what_is_printed() {
    let folder = TempDir::new().expect("folder");
    let folder = folder.path();
    picture(&folder.join("p.png"), 1);
    fs::write(folder.join("v.y4m"), y4m(3, "C420", I420)).expect("write");
    let args = ["score", "v.y4m", "p.png", "--crops", "1", "--format", "json", "--log"];
    let printed = good(folder, &[&args[..], &["l.jsonl"]].concat(), b"");
    let frames: Vec<Value> = json(&printed).into_iter().filter(|o| o["summary"].is_null()).collect();
    let logged = json(&fs::read_to_string(folder.join("l.jsonl")).expect("log"));
    assert_eq!((frames.len(), logged.len()), (4, 4));
    for (frame, record) in frames.iter().zip(&logged) {
        assert_eq!((&frame["source"], &frame["score"]), (&record["stream"], &record["score"]));
        assert_eq!((&frame["frame"], &frame["time"]), (&record["frame"], &record["time"]));
        assert!(record["black"].is_number() && record["sharpness"].is_number());
    }
    assert!(logged[1]["change"].as_f64().is_some_and(|change| change > 0.001), "{}", logged[1]);
    good(folder, &["score", "v.y4m", "--crops", "1", "--log", "l.json"], b"");
    let vmaf: Value = serde_json::from_slice(&fs::read(folder.join("l.json")).expect("log")).expect("JSON");
    assert_eq!(vmaf["frames"][2]["metrics"]["qmambaiqa"], logged[2]["score"]);
    assert!(vmaf["pooled_metrics"]["qmambaiqa"]["mean"].is_number());
    bad(folder, &[&args[..], &["l.json"]].concat(), "one video");
    bad(folder, &[&args[..], &["l.txt"]].concat(), ".jsonl");
    bad(folder, &[&args[..], &["nowhere/l.csv"]].concat(), "nowhere/l.csv");
}
