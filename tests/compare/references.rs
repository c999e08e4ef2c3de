//! References, groups of encodings, ladders, and the report.

use crate::{FRAMES, SIDE, check_picture, complaint, report, run, write};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The reference is scored and marked, groups are compared over their rates, names are escaped, pictures are in the page.
#[test]
fn references_groups_and_reports() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(&folder.join("source.y4m"), SIDE, FRAMES, 1, 0);
    write(&folder.join("b<i>.y4m"), SIDE, FRAMES, 8, 0);
    write(&folder.join("c.y4m"), SIDE, FRAMES, 4, 0);
    let args = ["b<i>.y4m", "c.y4m", "--reference", "source.y4m", "--group", "x=b*", "--group", "c.*"];
    let more = ["--crops", "1", "--ffmpeg", "/nowhere/ffmpeg", "--report", "r.html", "--format", "csv"];
    let out = run(folder, &[&args[..], &more].concat());
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("without VMAF, SSIM and PSNR: /nowhere/ffmpeg cannot be run"), "{said}");

    let rows: Vec<csv::StringRecord> =
        csv::Reader::from_reader(&out.stdout[..]).records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 3 * FRAMES);
    assert_eq!(rows[0].iter().take(4).collect::<Vec<_>>(), ["source.y4m", "", "true", "0.0"]);
    assert_eq!(rows[FRAMES].iter().take(3).collect::<Vec<_>>(), ["b<i>.y4m", "x", "false"]);
    assert!(rows.iter().all(|row| (0.0..=100.0).contains(&row[4].parse::<f64>().unwrap())));

    let page = fs::read_to_string(folder.join("r.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("source.y4m (reference)"));
    assert!(page.contains("b&lt;i&gt;.y4m") && !page.contains("b<i>"));
    // Moments are apart, so that a pair has up to three.
    let same = report(folder, &[&args[..], &["--ffmpeg", "/nowhere/ffmpeg"]].concat());
    let moments = same["pairs"].as_array().unwrap().iter().map(|pair| pair["worst"].as_array().unwrap().len());
    let pictures = 2 * moments.sum::<usize>();
    assert!((2 * 3..=2 * 9).contains(&pictures), "{pictures}");
    assert_eq!(page.matches("<img ").count(), pictures, "two pictures of each moment");
    assert_eq!(page.matches("<img src=\"data:image/jpeg;base64,").count(), pictures);
    assert_eq!(page.matches(" alt=\"Frame of ").count(), pictures);
    assert_eq!(page.matches("<svg ").count(), 2, "scores over time, scores over rates");
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http") && !outside.contains("<script"), "something is fetched");

    check_picture(&page, "source.y4m");

    // A second run overwrites it; one point makes no curve.
    let brief = [&args[..8], &["--interval", "0.5"]].concat();
    let found = report(folder, &[&brief[..], &["--ffmpeg", "/nowhere/ffmpeg", "--report", "r.html"]].concat());
    assert_eq!(
        (&found["renditions"][0]["reference"], &found["renditions"][1]["reference"]),
        (&true.into(), &false.into())
    );
    assert_eq!(found["renditions"][1]["full_reference"], Value::Null);
    let saving = &found["savings"][0];
    assert_eq!((&saving["anchor"], &saving["test"], &saving["metric"]), (&"x".into(), &"c.*".into(), &"score".into()));
    assert_eq!(saving["reason"], "x has 1 of the 4 rate points that make a curve");
    assert_eq!(found["savings"].as_array().unwrap().len(), 1);
    let text = |ffmpeg: &str| run(folder, &[&brief[..], &["--crops", "1", "--ffmpeg", ffmpeg]].concat());
    let out = text("true"); // runs, and has nothing
    assert!(out.status.success());
    let table = String::from_utf8(out.stdout).unwrap();
    assert!(table.contains("c.* against x by score: no BD-rate: x has 1 of the 4"), "{table}");
    assert!(String::from_utf8(out.stderr).unwrap().contains("without VMAF, SSIM and PSNR: true has no libvmaf"));

    // What goes wrong with VMAF is said, and the scores are not lost.
    let out = text(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/compare/ffmpeg-that-fails"));
    assert!(!out.status.success());
    assert_eq!(String::from_utf8(out.stdout).unwrap(), table);
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.lines().count() == 2 && said.starts_with("qmambaiqa: VMAF of b<i>.y4m: "), "{said}");
    assert!(said.contains("no such model"), "{said}");
}

#[test]
fn wrong_references_ladders_and_reports_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(&folder.join("a.y4m"), SIDE, 4, 1, 0);
    write(&folder.join("b.y4m"), SIDE, 4, 4, 0);
    write(&folder.join("other.y4m"), SIDE, 4, 1, 14);
    image::GrayImage::new(240, 240).save(folder.join("p.png")).unwrap();
    let none = ["--ffmpeg", "/nowhere/ffmpeg"];
    for (args, expected) in [
        (&["a.y4m", "--reference", "missing.y4m"][..], "missing.y4m: No such file"),
        (&["a.y4m", "--reference", "."], ".: is no file"),
        (&["a.y4m", "--reference", "other.y4m"], "other.y4m and a.y4m do not show the same content"),
        (&["a.y4m", "--reference", "a.y4m"], "a.y4m alone is given"),
        (&["a.y4m", "b.y4m", "--report", "nowhere/r.html"], "report nowhere/r.html: No such file"),
        (&["a.y4m", "missing.y4m", "--report", "."], "report .: Is a directory"),
        (&["missing.y4m", "--report", "b.y4m"], "report b.y4m: is there and is no report"),
        (&["a.y4m", "b.y4m", "--group", "a*"], "b.y4m is like no --group"),
        (&["a.y4m", "b.y4m", "--group", "a*", "--group", "c*"], "--group c*: no file name is like c*"),
        (&["a.y4m", "b.y4m", "--ladder", "x264 crf 20..40"], "--ladder encodes one source; 2 are given"),
        (
            &["a.y4m", "--ladder", "x264 crf 20..40"],
            "x264 needs an ffmpeg with libx264, and /nowhere/ffmpeg cannot be run",
        ),
        (&["a.y4m", "b.y4m", "--decoder", "ffmpeg"], "/nowhere/ffmpeg cannot be run"),
    ] {
        let text = complaint(folder, &[args, &none].concat());
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(fs::metadata(folder.join("b.y4m")).unwrap().len(), fs::metadata(folder.join("a.y4m")).unwrap().len());
    // What fails leaves no empty report.
    complaint(folder, &["a.y4m", "other.y4m", "--report", "r.html"]);
    assert!(!folder.join("r.html").exists());
    // The command line's own errors take more lines.
    for (args, expected) in [
        (&["a.y4m", "--ladder", "theora crf 20..40"][..], "known are x264, x265, svt-av1, vp9"),
        (&["a.y4m", "--ladder", "x264 crf 40..20"], "expected FROM..TO, 0 to 51 for x264"),
        (&["a.y4m", "--keep", "d"], "--ladder"),
        (&["a.y4m", "b.y4m", "--group", "a["], "`a[`: Pattern syntax error"),
        (&["a.y4m", "--reference", "b.y4m", "--ladder", "x264 crf 20..40"], "cannot be used with"),
    ] {
        let out = run(folder, args);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains(expected), "{said}");
    }
}

/// A ladder of real encoders: better at higher rates, measured against the source, kept and used again.
#[test]
fn ladders_are_encoded_compared_and_kept() {
    let ask = |what: &str| Command::new("ffmpeg").args(["-hide_banner", what]).output();
    let has = |what, word| ask(what).is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains(word));
    if !(has("-encoders", "libx264") && has("-encoders", "libsvtav1") && has("-filters", "libvmaf")) {
        println!("skipped: for want of an ffmpeg with libx264, libsvtav1 and libvmaf on the PATH");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(&folder.join("source.y4m"), SIDE, FRAMES, 1, 0);
    let args = ["source.y4m", "--ladder", "x264 crf 18..48 step 10", "--ladder", "svt-av1 crf 20..62 step 14"];
    let args = [&args[..], &["--keep", "kept", "--style-prompt", "compression", "--interval", "0.5"]].concat();
    let found = report(folder, &args);
    let renditions = found["renditions"].as_array().unwrap();
    let names: Vec<&str> = renditions.iter().map(|r| r["name"].as_str().unwrap()).collect();
    let expected = ["source.y4m", "x264 crf 18", "x264 crf 28", "x264 crf 38", "x264 crf 48"];
    assert_eq!(&names[..5], expected);
    assert_eq!(&names[5..], ["svt-av1 crf 20", "svt-av1 crf 34", "svt-av1 crf 48", "svt-av1 crf 62"]);
    let of = |i: usize, name: &str| renditions[i]["full_reference"][name].as_f64().unwrap();
    for codec in [1..5, 5..9] {
        for i in codec.clone().skip(1) {
            for metric in ["vmaf", "vmaf_neg", "ssim", "psnr"] {
                assert!(of(i, metric) < of(i - 1, metric), "{metric} of {} {}", names[i], of(i, metric));
            }
            assert!(renditions[i]["bitrate"].as_f64() < renditions[i - 1]["bitrate"].as_f64());
        }
        println!("{:?}", codec.map(|i| (of(i, "vmaf"), of(i, "ssim"), of(i, "psnr"))).collect::<Vec<_>>());
    }
    assert!(of(1, "vmaf_neg") > 80.0 && of(1, "ssim") > 0.95 && of(1, "psnr") > 35.0, "frames are not matched");
    // Neighbours alone are paired; deltas are of the second codec.
    assert_eq!(found["pairs"].as_array().unwrap().len(), 6);
    assert_eq!(found["families"].as_array().unwrap().len(), 2);
    println!("{} {}", found["families"], found["savings"]);
    let saving = found["savings"].as_array().unwrap().iter().find(|s| s["metric"] == "VMAF").unwrap();
    assert!(saving["test"] == "svt-av1" && saving["rate"].as_f64().unwrap().abs() > 1.0);

    // The same pixels, one file with its matrix and one without, have no difference.
    for (name, tag) in [("plain.mkv", ""), ("tagged.mkv", ",setparams=colorspace=bt709")] {
        let filters = format!("lutyuv=u=80:v=170{tag}");
        let args = ["-v", "error", "-i", "source.y4m", "-vf", &filters, "-c:v", "ffv1", name];
        assert!(Command::new("ffmpeg").args(args).current_dir(folder).status().unwrap().success());
    }
    let same = report(folder, &["plain.mkv", "--reference", "tagged.mkv", "--interval", "0.5"]);
    assert_eq!(same["renditions"][1]["full_reference"]["psnr"], 60.0, "{}", same["renditions"][1]["full_reference"]);

    fs::write(folder.join("bad.mkv"), [1; 100]).unwrap();
    assert!(complaint(folder, &["bad.mkv", "source.y4m", "--decoder", "ffmpeg"]).starts_with("qmambaiqa: bad.mkv: "));

    // What is kept is not made again; without it a hole is filled with the same.
    let kept = folder.join("kept/source-x264-crf28.mkv");
    let made = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let before = made(&kept);
    fs::remove_file(folder.join("kept/source-x264-crf38.mkv")).unwrap();
    assert_eq!(report(folder, &args), found);
    assert_eq!(made(&kept), before);
    assert_eq!(fs::read_dir(folder.join("kept")).unwrap().count(), 8);
}

#[test]
fn encodings_above_their_reference_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(&folder.join("sharp.y4m"), SIDE, FRAMES, 1, 0);
    write(&folder.join("coarse.y4m"), SIDE, FRAMES, 8, 0);
    let more = ["--ffmpeg", "/nowhere/ffmpeg", "--style-prompt", "none"];
    let found = report(folder, &[&["sharp.y4m", "--reference", "coarse.y4m"], &more[..]].concat());
    let above = &found["above_reference"][0];
    assert_eq!((&above["name"], &above["vmaf"]), (&"sharp.y4m".into(), &Value::Null));
    assert_eq!(above["by"], found["pairs"][0]["mean"]);
    let args = ["sharp.y4m", "--reference", "coarse.y4m", "--crops", "1", "--report", "r.html"];
    let table = String::from_utf8(run(folder, &[&args[..], &more].concat()).stdout).unwrap();
    let page = fs::read_to_string(folder.join("r.html")).unwrap();
    for text in [&table, &page] {
        assert!(text.contains(" above its reference") && text.contains("rely on VMAF"), "{text}");
    }
    // Not where it scores less, as much, or has no reference.
    for args in [&["coarse.y4m", "--reference", "sharp.y4m"][..], &["coarse.y4m", "sharp.y4m"]] {
        assert_eq!(report(folder, &[args, &more[..]].concat())["above_reference"], serde_json::json!([]));
    }
}
