//! The paper's protocols on small sets made here.

mod common;

use common::make_data;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const CONFIG: &str = r#"
out = "results"
repeats = 2
crops = 1
[sets]
"A" = { path = "a", domain = "one" }
"B" = { path = "b", domain = "two" }
[training]
phases = [{ crop = 32, epochs = 1 }]
batch = 12
learning_rate = 1e-3
"#;

const RUNS: &str = r#"
[[runs]]
name = "SSF"
injection = "ssf"
[[runs]]
name = "R"
head = true
"#;

fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_qmambaiqa")).arg("protocol").args(args).current_dir(folder).output().expect("run")
}

/// The table's lines below the notes: from its head on.
fn table(out: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    text.lines().skip_while(|line| !line.starts_with("method")).map(str::to_owned).collect()
}

#[test]
fn the_three_tables() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    for set in ["a", "b"] {
        fs::create_dir(folder.join(set)).unwrap();
        make_data(&folder.join(set));
    }
    fs::write(folder.join("plain.toml"), CONFIG).unwrap();
    fs::write(
        folder.join("tuned.toml"),
        format!("start = \"qmamba-nano\"\n{CONFIG}{RUNS}").replace("results", "tuned"),
    )
    .unwrap();

    let alone = table(&run(folder, &["task-specific", "--config", "plain.toml"]));
    assert_eq!(alone.len(), 2, "{alone:?}");
    assert!(
        alone[0].contains("A PLCC") && alone[0].contains("B SRCC") && alone[1].starts_with("qmamba-nano"),
        "{alone:?}"
    );
    let csv = fs::read_to_string(folder.join("results/task-specific.csv")).unwrap();
    assert_eq!(csv.lines().count(), 2);

    let mixed = table(&run(folder, &["universal", "--config", "plain.toml", "--threads", "1"]));
    assert_eq!(mixed.len(), 2, "{mixed:?}");

    let strategies = table(&run(folder, &["task-specific", "--config", "tuned.toml"]));
    assert_eq!(strategies.len(), 3, "{strategies:?}");
    assert!(strategies[1].starts_with("SSF") && strategies[1].contains(" 1408 "), "{strategies:?}");
    assert!(strategies[2].starts_with('R') && strategies[2].contains(" 257 "), "{strategies:?}");

    let transfer = table(&run(folder, &["transfer", "--config", "tuned.toml"]));
    let rows: Vec<&str> = transfer[1..].iter().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(rows, ["one, direct", "one, SSF", "one, R", "two, direct", "two, SSF", "two, R"], "{transfer:?}");

    // Stopped after some outcomes: the rest comes out the same.
    let file = folder.join("tuned/transfer.json");
    let mut outcomes: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    outcomes.truncate(4);
    fs::write(&file, serde_json::to_vec(&outcomes).unwrap()).unwrap();
    let again = table(&run(folder, &["transfer", "--config", "tuned.toml"]));
    assert_eq!(again, transfer);
}

#[test]
fn unusable_configurations_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    fs::create_dir(folder.join("a")).unwrap();
    make_data(&folder.join("a"));
    let one = CONFIG.replace("\"B\" = { path = \"b\", domain = \"two\" }\n", "");
    for (kind, text, expected) in [
        ("universal", CONFIG.replace("repeats", "repeat"), "unknown field `repeat`"),
        ("universal", "out = \"x\"\nsets = {}".to_owned(), "at least one set"),
        ("universal", CONFIG.to_owned(), "b/mos.csv: no such file"),
        ("transfer", one.clone(), "at least two domains"),
        ("transfer", one.replace(", domain = \"one\"", ""), "set A needs a domain"),
    ] {
        fs::write(folder.join("c.toml"), text).unwrap();
        let out = run(folder, &[kind, "--config", "c.toml"]);
        let message = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && message.contains(expected), "{expected}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

/// The configurations that are shipped can be read.
#[test]
fn examples_are_valid() {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/protocols")).unwrap() {
        let path = entry.unwrap().path();
        let protocol = qmambaiqa::train::protocol::Protocol::read(&path).unwrap_or_else(|e| panic!("{e}"));
        assert!(!protocol.sets.is_empty());
    }
}
