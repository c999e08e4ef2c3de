//! Training through the command line, on pictures made here.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Noise of falling strength on a gradient, labelled by its strength.
fn make_data(folder: &Path) {
    let mut table = String::from("image,mos\n");
    let mut state = 1u32;
    for i in 1..=30u32 {
        let picture = image::RgbImage::from_fn(48, 40, |x, y| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 24) * (30 - i) / 60;
            image::Rgb([(2 * x + noise) as u8, (2 * y + noise) as u8, noise as u8])
        });
        picture.save(folder.join(format!("p{i}.png"))).unwrap();
        table.push_str(&format!("p{i}.png,{i}\n"));
    }
    std::fs::write(folder.join("mos.csv"), table).unwrap();
}

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
    let other = train(&data, &killed, 1).args(["--seed", "2"]).stderr(Stdio::piped()).output().unwrap();
    let message = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(!other.status.success() && message.contains("other settings"), "{message}");
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
}
