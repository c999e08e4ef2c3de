//! The data sets of the paper in their authors' layouts, a few made-up rows each (`fixtures/sets/make.py`).

use qmambaiqa::train::SplitBy;
use qmambaiqa::train::dataset::Labels;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A copy of a set's label files, with empty files for pictures.
fn set(name: &str, pictures: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sets").join(name);
    copy(&from, folder.path());
    for picture in pictures {
        let path = folder.path().join(picture);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Rows as (picture, score, group).
fn check(name: &str, range: (f64, f64), expected: &[(&str, f64, &str)]) -> TempDir {
    let folder = set(name, &expected.iter().map(|(picture, _, _)| *picture).collect::<Vec<_>>());
    let labels = Labels::read(folder.path()).unwrap();
    assert_eq!(labels.range().unwrap(), range, "{name}");
    let rows: Vec<_> = labels.rows.iter().map(|r| (r.image.as_str(), r.mos, r.group.as_str())).collect();
    assert_eq!(rows.len(), expected.len(), "{name}: {rows:?}");
    for (row, expected) in rows.iter().zip(expected) {
        assert_eq!((row.0, row.2), (expected.0, expected.2), "{name}");
        assert!((row.1 - expected.1).abs() < 1e-9, "{name}: {row:?}");
    }
    folder
}

fn error(folder: &Path) -> String {
    let message = Labels::read(folder).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn synthetic_sets_fall_with_distortion_and_keep_references_together() {
    let live = [
        ("jp2k/img2.bmp", 90.0, "womanhat.bmp"),
        ("jpeg/img1.bmp", 80.0, "bikes.bmp"),
        ("jpeg/img2.bmp", 70.0, "womanhat.bmp"),
        ("wn/img1.bmp", 60.0, "bikes.bmp"),
        ("wn/img2.bmp", 50.0, "womanhat.bmp"),
        ("gblur/img1.bmp", 40.0, "bikes.bmp"),
        ("gblur/img2.bmp", 30.0, "womanhat.bmp"),
        ("fastfading/img1.bmp", 20.0, "bikes.bmp"),
        ("fastfading/img2.bmp", 10.0, "womanhat.bmp"),
    ];
    let folder = check("live", (0.0, 100.0), &live);
    let labels = Labels::read(folder.path()).unwrap();
    let (training, validation) = labels.split(&SplitBy::Random, 0.5, None, 1).unwrap();
    let group = |i: &usize| labels.rows[*i].group.as_str();
    assert!(training.iter().all(|t| validation.iter().all(|v| group(t) != group(v))));

    let csiq = [
        ("dst_imgs/awgn/1600.AWGN.1.png", 0.938, "1600"),
        ("dst_imgs/jpeg2000/1600.jpeg2000.5.png", 0.1, "1600"),
        ("dst_imgs/contrast/family.contrast.2.png", 0.75, "family"),
    ];
    check("csiq", (0.0, 1.0), &csiq);
    let tid2013 = [
        ("distorted_images/I01_01_1.bmp", 5.51429, "I01"),
        ("distorted_images/I01_01_2.bmp", 5.56757, "I01"), // in another case than in the list
        ("distorted_images/I25_24_5.bmp", 2.5, "I25"),
    ];
    check("tid2013", (0.0, 9.0), &tid2013);
    check("kadid", (1.0, 5.0), &[("images/I01_01_01.png", 4.57, "I01.png"), ("images/I02_25_05.png", 1.3, "I02.png")]);
}

#[test]
fn authentic_and_generated_sets() {
    let livec = [("Images/3.bmp", 52.5, ""), ("Images/10.JPG", 60.0, ""), ("Images/1024.bmp", 67.5, "")];
    check("livec", (0.0, 100.0), &livec);
    let koniq = [("512x384/10004473376.jpg", 3.828571, ""), ("512x384/10007357496.jpg", 3.479167, "")];
    check("koniq", (1.0, 5.0), &koniq);
    let livefb = [
        ("database/voc_emotic_ava/JPEGImages__2009_000015.jpg", 72.5, ""),
        ("database/blur_dataset/motion0001.jpg", 51.25, ""),
    ];
    check("livefb", (0.0, 100.0), &livefb);
    check("spaq", (0.0, 100.0), &[("TestImage/00001.jpg", 38.2, ""), ("TestImage/00002.jpg", 62.43, "")]);
    check("agiqa", (0.0, 5.0), &[("AttnGAN_normal_000.jpg", 1.0139, ""), ("sd1.5_xl_001.jpg", 3.5, "")]);
    let aigciqa =
        [("Image/allimg/0.png", 51.5, ""), ("Image/allimg/1.png", 48.25, ""), ("Image/allimg/2.png", 33.0, "")];
    check("aigciqa", (0.0, 100.0), &aigciqa);
}

#[test]
fn odd_folders_are_told_what_was_expected() {
    let nothing = TempDir::new().unwrap();
    let message = error(nothing.path());
    assert!(message.contains("mos.csv") && message.contains("KADID-10k (dmos.csv)"), "{message}");

    assert!(
        error(set("kadid", &[]).path()).contains("is KADID-10k by its label file, but has no images/I01_01_01.png")
    );

    let live = set("live", &[]);
    fs::remove_file(live.path().join("wn/info.txt")).unwrap();
    assert!(error(live.path()).contains("wn/info.txt"));
    let live = set("live", &[]);
    fs::write(live.path().join("wn/info.txt"), "bikes.bmp img1.bmp 0\n").unwrap();
    assert!(error(live.path()).contains("10 scores, but the info.txt of its folders list 9"));

    let csiq = set("csiq", &[]);
    fs::write(csiq.path().join("csiq.DMOS.xlsx"), "no workbook").unwrap();
    assert!(error(csiq.path()).contains("csiq.DMOS.xlsx: is no readable workbook"));

    let tid = set("tid2013", &["distorted_images/I01_01_1.bmp"]);
    fs::write(tid.path().join("mos_with_names.txt"), "5.5 I01_01_1.bmp\nbad I01_01_2.bmp\n").unwrap();
    assert!(error(tid.path()).contains("row 2: score `bad`"));

    let koniq = set("koniq", &[]);
    fs::write(koniq.path().join("koniq10k_scores_and_distributions.csv"), "a,b\n1,2\n").unwrap();
    assert!(error(koniq.path()).contains("no column `image_name`"));
}

/// Damaged MATLAB files are errors, whatever the damage: each byte cut off or turned in turn.
#[test]
fn damaged_matlab_files_are_errors_or_read() {
    let livec = set("livec", &["Images/3.bmp", "Images/10.JPG", "Images/1024.bmp"]);
    for name in ["Data/AllImages_release.mat", "Data/AllMOS_release.mat"] {
        let file = livec.path().join(name);
        let whole = fs::read(&file).unwrap();
        for cut in 0..whole.len() {
            fs::write(&file, &whole[..cut]).unwrap();
            assert!(Labels::read(livec.path()).is_err(), "{name} cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut turned = whole.clone();
            turned[at] ^= 0xff;
            fs::write(&file, &turned).unwrap();
            let _ = Labels::read(livec.path()); // no panic
        }
        fs::write(&file, &whole).unwrap();
    }
    assert!(Labels::read(livec.path()).is_ok());
}
