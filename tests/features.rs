//! `qmambaiqa features`: what is written agrees with the scorer, pictures repeat, wrong use is named.

mod common;

use common::make_data;
use qmambaiqa::crops::{CropPlan, Sampling, Scales};
use qmambaiqa::train::{dataset, evaluation};
use qmambaiqa::{Options, Scorer, weights_file};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(folder: &Path, args: &[&str]) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_qmambaiqa")).arg("features").args(args).current_dir(folder).output();
    command.expect("run")
}

fn good(folder: &Path, args: &[&str]) {
    let out = run(folder, args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn features_are_what_the_head_sees() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    fs::create_dir(folder.join("data")).unwrap();
    make_data(&folder.join("data"));
    good(folder, &["data", "--out", "f.safetensors", "--by", "scene", "--plot", "f.svg", "--crops", "2"]);
    good(folder, &["data", "--out", "f.csv", "--crops", "2", "--threads", "1"]);

    // Both forms say the same, and a head on them gives the score.
    let file = weights_file::read(&folder.join("f.safetensors")).unwrap();
    let features = &file.tensors["features"];
    assert_eq!(features.shape, [30, 256]);
    let images: Vec<String> = serde_json::from_str(&file.metadata["images"]).unwrap();
    let mut table = csv::Reader::from_path(folder.join("f.csv")).unwrap();
    for (i, row) in table.records().map(Result::unwrap).enumerate() {
        assert_eq!(row[0], images[i]);
        let own: Vec<f32> = row.iter().skip(3).map(|v| v.parse().unwrap()).collect();
        assert_eq!(own, features.values[i * 256..(i + 1) * 256]);
    }
    let scorer = Scorer::open(&Options::default()).unwrap();
    let plan = CropPlan::new(2, Sampling::Grid, 0).unwrap().with_scales(Scales::NATIVE); // judged by the ordinary head
    let picture = dataset::read_image(&folder.join("data").join(&images[4])).unwrap();
    let score = evaluation::score_picture(&scorer, &plan, &picture).unwrap();
    let weights = qmambaiqa::embedded::read_model("qmamba-nano").unwrap();
    let head = &weights.tensors["classifier.head.weight"].values;
    let raw: f32 = head.iter().zip(&features.values[4 * 256..]).map(|(w, f)| w * f).sum();
    let raw = f64::from(raw + weights.tensors["classifier.head.bias"].values[0]);
    assert!((raw - score.raw).abs() < 1e-5, "{raw} {}", score.raw);

    // A point for each picture, a name for each kind; the same again, and by t-SNE.
    let svg = fs::read_to_string(folder.join("f.svg")).unwrap();
    assert!(
        svg.matches("<circle").count() >= 30 && svg.contains("s5") && svg.contains("principal component 1"),
        "{svg}"
    );
    for name in ["g.svg", "h.svg"] {
        good(
            folder,
            &["data", "--out", "f.csv", "--by", "scene", "--crops", "1", "--plot", name, "--projection", "tsne"],
        );
    }
    let picture = fs::read_to_string(folder.join("g.svg")).unwrap();
    assert!(picture.contains("t-SNE 1"));
    assert_eq!(picture, fs::read_to_string(folder.join("h.svg")).unwrap());
}

#[test]
fn wrong_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    make_data(folder);
    for (args, expected) in [
        (&["nowhere", "--out", "f.csv"][..], "nowhere/mos.csv: no such file"),
        (&[".", "--out", "f.txt"], "f.txt: features are written as"),
        (&[".", "--out", "f.csv", "--plot", "f.png"], "f.png: the picture is drawn as .svg"),
        (&[".", "--out", "f.csv", "--by", "codec"], "no column `codec`"),
        (&[".", "--out", "nowhere/f.csv", "--crops", "1"], "nowhere/f.csv"),
    ] {
        let out = run(folder, args);
        let message = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && message.contains(expected), "{args:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}
