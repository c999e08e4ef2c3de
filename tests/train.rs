//! Training through the command line, on pictures made here.

mod common;

use common::make_data;
use qmambaiqa::weights_file::{self, WriteDtype};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn train(data: &Path, out: &Path, threads: usize) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qmambaiqa"));
    command.args(["train", "--phases", "32:4", "--batch", "12", "--warmup", "2", "--split", "random", "--data"]);
    command.arg(data).arg("--out").arg(out).args(["--threads", &threads.to_string()]);
    command.stdout(Stdio::null());
    command
}

#[test]
fn a_killed_run_goes_on_to_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    make_data(&data);
    // A teacher's maps, made up: one for each of 30 pictures.
    let teacher = folder.path().join("teacher.safetensors");
    let maps = (0..30 * 3 * 3 * 5).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let tensors = BTreeMap::from([("features".to_owned(), (vec![30, 3, 3, 5], maps))]);
    weights_file::write(&teacher, &tensors, WriteDtype::F16, &BTreeMap::new()).unwrap();
    // An auxiliary set, whose head is not kept.
    let auxiliary = folder.path().join("auxiliary");
    std::fs::create_dir(&auxiliary).unwrap();
    make_data(&auxiliary);
    let alone = |data: &Path, out: &Path, threads| {
        let mut command = train(data, out, threads);
        command.args(["--optimizer", "muon", "--validate-every", "2", "--teacher-features"]).arg(&teacher);
        command
    };
    let train = |data: &Path, out: &Path, threads| {
        let mut command = alone(data, out, threads);
        command.arg("--auxiliary").arg(&auxiliary);
        command
    };

    let whole = folder.path().join("whole.safetensors");
    assert!(train(&data, &whole, 1).status().unwrap().success());

    let killed = folder.path().join("killed.safetensors");
    let mut child = train(&data, &killed, 2).spawn().unwrap();
    let begin = Instant::now();
    let checkpoint = folder.path().join("killed.safetensors.checkpoint");
    while !checkpoint.exists() && child.try_wait().unwrap().is_none() && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(checkpoint.exists(), "no checkpoint before the kill");
    assert!(train(&data, &killed, 2).status().unwrap().success());
    assert!(std::fs::read(&whole).unwrap() == std::fs::read(&killed).unwrap(), "the weights differ");

    // The auxiliary set teaches features, and leaves no tensor behind.
    let without = folder.path().join("without.safetensors");
    assert!(alone(&data, &without, 2).status().unwrap().success());
    let tensors = |path: &Path| weights_file::read(path).unwrap().tensors;
    let (with, without) = (tensors(&whole), tensors(&without));
    assert!(with.keys().eq(without.keys()));
    let name = "layers.3.blocks.0.mlp.fc2.weight";
    assert_ne!(with[name].values, without[name].values);

    // A checkpoint is a model too, by its averages: the last epoch's.
    let out = Command::new(env!("CARGO_BIN_EXE_qmambaiqa"))
        .args(["evaluate", "--crops", "1", "--format", "json", "--model"])
        .args([folder.path().join("whole.safetensors.checkpoint"), data.clone()])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));

    // What was trained scores: the whole way from labels to the element's network.
    let evaluate = Command::new(env!("CARGO_BIN_EXE_qmambaiqa"))
        .args(["evaluate", "--crops", "1", "--format", "json", "--model"])
        .arg(&whole)
        .arg(&data)
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&evaluate.stdout).unwrap();
    assert_eq!(report["images"], 30, "{report}");

    // Other settings do not go on from this checkpoint.
    for setting in [["--seed", "2"], ["--autocast", "bf16"]] {
        let other = train(&data, &killed, 1).args(setting).stderr(Stdio::piped()).output().unwrap();
        let message = String::from_utf8_lossy(&other.stderr).into_owned();
        assert!(!other.status.success() && message.contains("other settings"), "{message}");
    }

    // A checkpoint from before there was a choice of what to compute with is one of 32-bit floats.
    let mut old = weights_file::read(&checkpoint).unwrap();
    let position = old.metadata.get_mut("position").unwrap();
    assert!(position.contains(r#""autocast":"none","#), "{position}");
    *position = position.replace(r#""autocast":"none","#, "");
    let tensors = old.tensors.into_iter().map(|(name, tensor)| (name, (tensor.shape, tensor.values))).collect();
    weights_file::write(&checkpoint, &tensors, WriteDtype::F32, &old.metadata).unwrap();
    let again = train(&data, &killed, 1).stdout(Stdio::piped()).output().unwrap();
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.status.success() && text.contains("going on from step"), "{text}");
}

/// Pictures of two sizes that scoring looks at, of rising noise.
fn make_large_data(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    let mut table = String::from("image,mos\n");
    let mut state = 1u32;
    for i in 1..=10u32 {
        let picture = image::RgbImage::from_fn(460, 450, |x, y| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 24) * (10 - i) / 20;
            image::Rgb([(x / 4 + noise) as u8, (y / 4 + noise) as u8, noise as u8])
        });
        picture.save(folder.join(format!("p{i}.png"))).unwrap();
        table.push_str(&format!("p{i}.png,{i}\n"));
    }
    std::fs::write(folder.join("mos.csv"), table).unwrap();
}

#[test]
fn a_head_of_scales_is_learned_and_scores() {
    let folder = tempfile::tempdir().unwrap();
    let [data, out] = ["data", "out.safetensors"].map(|name| folder.path().join(name));
    make_large_data(&data);
    let run = |more: &[&str], out: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qmambaiqa"));
        command.args(more).args([
            "--scale-head",
            "--phases",
            "32:2",
            "--batch",
            "8",
            "--learning-rate",
            "1e-3",
            "--data",
        ]);
        command.arg(&data).arg("--out").arg(out).args(["--split", "random", "--threads", "2", "--warmup", "1"]);
        command.output().unwrap()
    };
    let auxiliary = ["--auxiliary", data.to_str().unwrap(), "--auxiliary-mapped"];
    let trained = run(&[&["train", "--start", "qmamba-nano"], &auxiliary[..]].concat(), &out);
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    let tensors = |path: &Path| weights_file::read(path).unwrap().tensors;
    let (learned, before) = (tensors(&out), tensors(Path::new("weights/qmamba-nano.safetensors")));
    assert!(learned.keys().eq(before.keys()), "a passing tensor is kept, or one is missing");
    for name in ["classifier.scales.weight", "classifier.scales.bias", "classifier.head.weight"] {
        assert_eq!(learned[name].shape, before[name].shape);
        assert_ne!(learned[name].values, before[name].values, "{name}");
    }
    assert_eq!(learned["classifier.scales.share"].values, before["classifier.scales.share"].values);

    // So does a network from a random start.
    let random = folder.path().join("random.safetensors");
    let begun = run(&["train"], &random);
    assert!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));
    assert_eq!(tensors(&random)["classifier.scales.weight"].shape, [4, 256]);

    // An adapter learns one of its own, beside its head, and both score at all sizes.
    let adapter = folder.path().join("adapter.safetensors");
    let tuned = run(&["tune", "--strategy", "style-prompt+head", "--prompt-channels", "8"], &adapter);
    assert!(tuned.status.success(), "{}", String::from_utf8_lossy(&tuned.stderr));
    assert_eq!(tensors(&adapter)["classifier.scales.weight"].shape, [4, 256]);
    let checkpoint = format!("{}.checkpoint", out.display());
    for weights in
        [["--model", out.to_str().unwrap()], ["--model", &checkpoint], ["--style-prompt", adapter.to_str().unwrap()]]
    {
        let scored = Command::new(env!("CARGO_BIN_EXE_qmambaiqa"))
            .args(["score", "--format", "json"])
            .args(weights)
            .arg(data.join("p1.png"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&scored.stdout).into_owned();
        assert!(scored.status.success() && text.contains(r#""scales":"1,2""#), "{weights:?}: {text}");
    }

    let refused = run(&["tune", "--strategy", "style-prompt"], &adapter);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && message.contains("only beside a head of its own"), "{message}");
}

#[test]
fn unusable_data_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let fails = |expected: &str| {
        let output = train(folder.path(), &out, 1).stderr(Stdio::piped()).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains(expected), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    };
    fails("no such file");
    std::fs::write(folder.path().join("mos.csv"), "image,mos\na.png,1\nb.png,1\n").unwrap();
    fails("same mos");
    make_data(folder.path());
    std::fs::write(folder.path().join("p7.png"), "no picture").unwrap();
    fails("p7.png");
    std::fs::copy(folder.path().join("p8.png"), folder.path().join("p7.png")).unwrap();
    let teacher = folder.path().join("teacher.safetensors");
    let tensors = BTreeMap::from([("features".to_owned(), (vec![29, 5], vec![0f32; 29 * 5]))]);
    weights_file::write(&teacher, &tensors, WriteDtype::F32, &BTreeMap::new()).unwrap();
    let mut command = train(folder.path(), &out, 1);
    let output = command.arg("--teacher-features").arg(&teacher).stderr(Stdio::piped()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains("each of 30 pictures"), "{message}");
    let output = train(folder.path(), &out, 1).args(["--device", "cuda:999"]).stderr(Stdio::piped()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains("use `cpu`"), "{message}");
}
