//! Adapters through the command line: every strategy, what they leave alone, and whom they belong to.

mod common;

use common::make_data;
use std::path::Path;
use std::process::{Command, Output};

fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_qmambaiqa")).args(args).current_dir(folder).output().expect("run")
}

fn good(folder: &Path, args: &[&str]) -> String {
    let out = run(folder, args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

const SHORT: [&str; 8] = ["--data", "data", "--phases", "32:1", "--batch", "12", "--warmup", "1"];

fn evaluation(folder: &Path, more: &[&str]) -> serde_json::Value {
    let text = good(folder, &[&["evaluate", "data", "--crops", "1", "--format", "json"], more].concat());
    serde_json::from_str(&text).expect("JSON")
}

fn folder_with_data() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    make_data(&folder.path().join("data"));
    folder
}

#[test]
fn every_strategy_runs_to_its_end() {
    let dir = folder_with_data();
    let folder = dir.path();
    let plain = evaluation(folder, &[]);
    let backbone = 2_226_209; // of qmamba-nano
    for (strategy, more, parameters) in [
        ("style-prompt", &[][..], 2_732_568),
        (
            "style-prompt",
            &["--prompts", "2", "--prompt-size", "3x2"],
            2_732_568 - 4 * 6 * 256 + 4 * 2 * 6 * 256 - 4 * (64 + 128 + 256 + 256 + 4),
        ),
        ("style-prompt", &["--prompts", "1", "--prompt-size", "layer"], 0),
        ("style-prompt+head", &[], 2_732_568 + 257),
        ("head", &[], 257),
        ("ssf", &[], 2 * (64 + 128 + 256 + 256)),
        ("conv-prompt", &[], 0),
        ("cross-attention-prompt", &[], 0),
        ("full", &[], backbone),
    ] {
        let out = format!("{strategy}{}.safetensors", more.concat());
        let split = ["--split", "column:scene", "--fold", "2/3", "--learning-rate", "1e-2"];
        let args = [&["tune", "--strategy", strategy, "--out", &out][..], &SHORT, &split, more].concat();
        let text = good(folder, &args);
        if parameters > 0 {
            assert!(text.contains(&format!(" {parameters} parameters")), "{strategy} {more:?}: {text}");
        }
        let use_it = if strategy == "full" { "--model" } else { "--style-prompt" };
        let tuned = evaluation(folder, &[use_it, &out]);
        assert_ne!(tuned["plcc"], plain["plcc"], "{strategy} changes nothing");
    }
    assert_eq!(evaluation(folder, &[]), plain, "the network itself is as it was");

    // Everything trained on, and pictures of one scene together: the last epoch is kept.
    let all =
        ["--out", "all.safetensors", "--validation", "0", "--split", "column:scene", "--together", "--strategy", "ssf"];
    let args = [&["tune"][..], &all, &SHORT].concat();
    let wrong = run(folder, &args);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("must be a multiple of 8"), "{wrong:?}");
    let args: Vec<&str> = args.into_iter().map(|a| if a == "12" { "16" } else { a }).collect();
    let text = good(folder, &args);
    assert!(
        text.contains("30 pictures to train on, 0 held out") && text.contains("nothing held out, epoch 1"),
        "{text}"
    );
    assert_ne!(evaluation(folder, &["--style-prompt", "all.safetensors"])["plcc"], plain["plcc"]);

    // Too few to be seen together: said, not a run of no steps.
    let rows = std::fs::read_to_string(folder.join("data/mos.csv")).unwrap();
    std::fs::write(folder.join("data/mos.csv"), rows.lines().take(4).map(|l| format!("{l}\n")).collect::<String>())
        .unwrap();
    let few: Vec<&str> = args.iter().map(|a| if *a == "all.safetensors" { "few.safetensors" } else { a }).collect();
    let few = run(folder, &few);
    assert!(!few.status.success() && String::from_utf8_lossy(&few.stderr).contains("too few to be seen 4"), "{few:?}");
}

#[test]
fn an_adapter_belongs_to_one_network() {
    let dir = folder_with_data();
    let folder = dir.path();
    good(folder, &[&["train", "--out", "other.safetensors"][..], &SHORT, &["--split", "random"]].concat());
    let args =
        ["tune", "--model", "other.safetensors", "--strategy", "ssf", "--out", "a.safetensors", "--split", "random"];
    good(folder, &[&args[..], &SHORT].concat());
    let own = ["--model", "other.safetensors", "--style-prompt", "a.safetensors"];
    assert_eq!(evaluation(folder, &own)["style_prompt"], "a");
    let out = run(folder, &["evaluate", "data", "--style-prompt", "a.safetensors"]);
    let message = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && message.contains("a.safetensors: belongs to"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    evaluation(folder, &["--style-prompt", "a.safetensors", "--force-style-prompt"]);

    let about: serde_json::Value =
        serde_json::from_str(&good(folder, &["inspect", "a.safetensors", "--format", "json"])).unwrap();
    assert_eq!((&about["adapter"]["injection"], &about["parameters"]), (&"ssf".into(), &1408.into()), "{about}");
    let network: serde_json::Value =
        serde_json::from_str(&good(folder, &["inspect", "other.safetensors", "--format", "json"])).unwrap();
    assert_eq!(about["backbone"], network["fingerprint"]);

    // An adapter is no network to tune.
    let out = run(folder, &[&["tune", "--model", "a.safetensors", "--out", "b.safetensors"][..], &SHORT].concat());
    assert!(!out.status.success());
    let out = run(folder, &[&["tune", "--out", "b.safetensors", "--prompts", "0"][..], &SHORT].concat());
    let message = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(message.contains("number of prompts must be 1 to"), "{message}");
}
