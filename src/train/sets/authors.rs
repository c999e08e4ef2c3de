//! One function for each set: where its authors put what.

use super::mat::{self, Value};
use crate::train::dataset::{Labels, Row};
use crate::train::settings::ScoreRange;
use crate::{Error, Result};
use calamine::{Data, Reader as _, Xlsx};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The scores that mean worst and best in a set.
const fn range(low: f64, high: f64) -> Option<ScoreRange> {
    Some(ScoreRange { low, high })
}

/// LIVE's folders with the number of their pictures, in the order of its score file.
const LIVE_FOLDERS: [&str; 5] = ["jp2k", "jpeg", "wn", "gblur", "fastfading"];

/// LIVE image quality, release 2: `dmos(_realigned).mat` (`dmos_new` or `dmos`, `orgs`) and, in each folder of distorted
/// pictures, `info.txt` with a line `reference picture parameter` each.
pub(super) fn live(folder: &Path) -> Result<Labels> {
    let file = ["dmos_realigned.mat", "dmos.mat"].map(|n| folder.join(n)).into_iter().find(|f| f.is_file());
    let file = file.unwrap_or_else(|| folder.join("dmos.mat"));
    let mut variables = matlab(&file)?;
    let scores = variables.remove("dmos_new").or_else(|| variables.remove("dmos"));
    let scores = numbers(&file, "dmos_new` or `dmos", scores)?;
    let originals = numbers(&file, "orgs", variables.remove("orgs"))?;
    let mut names = Vec::new();
    for part in LIVE_FOLDERS {
        let info = folder.join(part).join("info.txt");
        let mut own = BTreeMap::new();
        for (i, line) in text(&info)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let mut words = line.split_whitespace();
            let (Some(reference), Some(image)) = (words.next(), words.next()) else {
                return Err(odd(
                    &info,
                    format!("line {}: expected `reference picture parameter`, found `{line}`", i + 1),
                ));
            };
            // Scores are in the order of the pictures' numbers, the list is not.
            let number = image.trim_start_matches("img").split('.').next().and_then(|n| n.parse::<u32>().ok());
            let number = number.ok_or_else(|| odd(&info, format!("line {}: `{image}` is not imgN.bmp", i + 1)))?;
            own.insert(number, (part, image.to_owned(), reference.to_owned()));
        }
        names.extend(own.into_values());
    }
    if scores.len() != names.len() || originals.len() != names.len() {
        let (n, all) = (scores.len(), names.len());
        return Err(odd(&file, format!("has {n} scores, but the info.txt of its folders list {all} pictures")));
    }
    let rows = names.into_iter().zip(scores).zip(originals).filter(|(_, original)| *original == 0.0);
    let rows = rows.map(|(((part, image, group), dmos), _)| Row {
        image: format!("{part}/{image}"),
        mos: 100.0 - dmos,
        group,
        distortion: part.to_owned(),
    });
    Ok(labels(folder, rows.collect(), range(0.0, 100.0)))
}

/// CSIQ: `csiq.DMOS.xlsx`, sheet `all_by_image`, a table with `image`, `dst_type`, `dst_lev`, `dmos` below its title.
pub(super) fn csiq(folder: &Path) -> Result<Labels> {
    let file = folder.join("csiq.DMOS.xlsx");
    let table = sheet(&file, Some("all_by_image"), &["image", "dst_type", "dst_lev", "dmos"])?;
    let mut rows = Vec::new();
    for (line, [image, kind, level, dmos]) in fixed(&table) {
        // The table's words for distortions, their folders, and how pictures are named.
        let (place, name) = match kind.to_lowercase().replace(' ', "").as_str() {
            "noise" | "awgn" => ("awgn", "AWGN"),
            "blur" => ("blur", "BLUR"),
            "contrast" => ("contrast", "contrast"),
            "fnoise" => ("fnoise", "fnoise"),
            "jpeg" => ("jpeg", "JPEG"),
            "jpeg2000" => ("jpeg2000", "jpeg2000"),
            _ => return Err(odd(&file, format!("row {line}: unknown distortion `{kind}`"))),
        };
        let mos = 1.0 - number(&file, line, "dmos", dmos)?;
        let (file, group) = (format!("dst_imgs/{place}/{image}.{name}.{level}.png"), image.to_owned());
        rows.push(Row { image: file, mos, group, distortion: place.to_owned() });
    }
    Ok(labels(folder, rows, range(0.0, 1.0)))
}

/// TID2013: `mos_with_names.txt`, lines `score picture`, over `distorted_images`; names begin with the reference's.
pub(super) fn tid2013(folder: &Path) -> Result<Labels> {
    let file = folder.join("mos_with_names.txt");
    let mut rows = Vec::new();
    // Some copies of the set have other letter cases on disk than in the list.
    let on_disk = names_by_lower_case(&folder.join("distorted_images"))?;
    for (i, line) in text(&file)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let Some((mos, image)) = line.trim().split_once(char::is_whitespace) else {
            return Err(odd(&file, format!("line {}: expected `score picture`, found `{line}`", i + 1)));
        };
        let mos = number(&file, i + 1, "score", mos)?;
        let image = image.trim();
        let name = on_disk.get(&image.to_lowercase()).map_or(image, String::as_str);
        let group = image.split('_').next().unwrap_or(image).to_uppercase();
        rows.push(Row { image: format!("distorted_images/{name}"), mos, group, distortion: second_part(name) });
    }
    Ok(labels(folder, rows, range(0.0, 9.0)))
}

/// KADID-10k: `dmos.csv` with `dist_img`, `ref_img`, `dmos` (which rises with quality) over `images`.
pub(super) fn kadid(folder: &Path) -> Result<Labels> {
    let mut labels =
        table(folder, "dmos.csv", ["dist_img", "dmos", "ref_img"], |n| format!("images/{n}"), range(1.0, 5.0))?;
    labels.rows.iter_mut().for_each(|row| row.distortion = second_part(&row.image));
    Ok(labels)
}

/// LIVE in the Wild: `Data/AllImages_release.mat` (a cell of names) and `Data/AllMOS_release.mat` over `Images`; the first
/// seven, which trained the observers, are in `Images/trainingImages` and are left out.
pub(super) fn livec(folder: &Path) -> Result<Labels> {
    const TRAINING: usize = 7;
    let (names_file, file) = (folder.join("Data/AllImages_release.mat"), folder.join("Data/AllMOS_release.mat"));
    let names = match matlab(&names_file)?.remove("AllImages_release") {
        Some(Value::Cells(cells)) => cells,
        _ => return Err(odd(&names_file, "has no cell array `AllImages_release`".into())),
    };
    let scores = numbers(&file, "AllMOS_release", matlab(&file)?.remove("AllMOS_release"))?;
    if names.len() != scores.len() {
        return Err(odd(&file, format!("has {} scores for {} names", scores.len(), names.len())));
    }
    let mut rows = Vec::new();
    for (name, mos) in names.into_iter().zip(scores).skip(TRAINING) {
        let Value::Text(name) = name else {
            return Err(odd(&names_file, "`AllImages_release` has a cell that is no text".into()));
        };
        rows.push(alone(format!("Images/{name}"), mos));
    }
    Ok(labels(folder, rows, range(0.0, 100.0)))
}

/// KonIQ-10k: `koniq10k_scores_and_distributions.csv` with `image_name`, `MOS` over `1024x768` or `512x384`.
pub(super) fn koniq(folder: &Path) -> Result<Labels> {
    let place = if folder.join("1024x768").is_dir() { "1024x768" } else { "512x384" };
    let file = "koniq10k_scores_and_distributions.csv";
    table(folder, file, ["image_name", "MOS", ""], |n| format!("{place}/{n}"), range(1.0, 5.0))
}

/// LIVE-FB (FLIVE): `labels_image.csv` with `name`, `mos` over `database`.
pub(super) fn livefb(folder: &Path) -> Result<Labels> {
    table(folder, "labels_image.csv", ["name", "mos", ""], |n| format!("database/{n}"), range(0.0, 100.0))
}

/// SPAQ: the first sheet of `Annotations/MOS and Image attribute scores.xlsx` with `Image name`, `MOS` over `TestImage`.
pub(super) fn spaq(folder: &Path) -> Result<Labels> {
    let file = folder.join("Annotations/MOS and Image attribute scores.xlsx");
    let table = sheet(&file, None, &["Image name", "MOS"])?;
    let mut rows = Vec::new();
    for (line, [image, mos]) in fixed(&table) {
        let mos = number(&file, line, "MOS", mos)?;
        rows.push(alone(format!("TestImage/{image}"), mos));
    }
    Ok(labels(folder, rows, range(0.0, 100.0)))
}

/// AGIQA-3K: `data.csv` with `name`, `mos_quality`; pictures beside it or in `images`.
pub(super) fn agiqa(folder: &Path) -> Result<Labels> {
    let inside = folder.join("images").is_dir();
    let place = |n: &str| if inside { format!("images/{n}") } else { n.to_owned() };
    table(folder, "data.csv", ["name", "mos_quality", ""], place, range(0.0, 5.0))
}

/// AIGCIQA2023: `DATA/MOS/mosz1.mat` (`MOSz`, the quality) over `Image/allimg/N.png` from 0.
pub(super) fn aigciqa(folder: &Path) -> Result<Labels> {
    let file = folder.join("DATA/MOS/mosz1.mat");
    let scores = numbers(&file, "MOSz", matlab(&file)?.remove("MOSz"))?;
    let row = |(i, mos)| alone(format!("Image/allimg/{i}.png"), mos);
    Ok(labels(folder, scores.into_iter().enumerate().map(row).collect(), range(0.0, 100.0)))
}

fn labels(folder: &Path, rows: Vec<Row>, range: Option<ScoreRange>) -> Labels {
    Labels { folder: folder.to_owned(), rows, range }
}

/// A picture that shares nothing with others.
fn alone(image: String, mos: f64) -> Row {
    Row { image, mos, group: String::new(), distortion: String::new() }
}

/// The distortion's number in names such as `I01_05_3.bmp`.
fn second_part(name: &str) -> String {
    name.split('_').nth(1).unwrap_or_default().to_owned()
}

fn odd(file: &Path, message: String) -> Error {
    Error::Input(format!("{}: {message}", file.display()))
}

fn bytes(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|source| Error::Io { path: file.to_owned(), source })
}

fn text(file: &Path) -> Result<String> {
    // Latin-1 in old sets: names are ASCII all the same.
    Ok(String::from_utf8_lossy(&bytes(file)?).into_owned())
}

fn matlab(file: &Path) -> Result<BTreeMap<String, Value>> {
    mat::parse(&bytes(file)?).map_err(|message| odd(file, message))
}

fn numbers(file: &Path, name: &str, value: Option<Value>) -> Result<Vec<f64>> {
    match value {
        Some(Value::Numbers(values)) if values.iter().all(|v| v.is_finite()) => Ok(values),
        Some(_) => Err(odd(file, format!("`{name}` is not an array of finite numbers"))),
        None => Err(odd(file, format!("has no array `{name}`"))),
    }
}

fn number(file: &Path, line: usize, what: &str, text: &str) -> Result<f64> {
    let value = text.trim().parse::<f64>().ok().filter(|v| v.is_finite());
    value.ok_or_else(|| odd(file, format!("row {line}: {what} `{text}` is not a number")))
}

/// A table with a picture's name, its score and, where named, its group.
fn table(
    folder: &Path,
    name: &str,
    [image, mos, group]: [&str; 3],
    place: impl Fn(&str) -> String,
    range: Option<ScoreRange>,
) -> Result<Labels> {
    let file = folder.join(name);
    let group = (!group.is_empty()).then_some(group);
    let rows = Labels::read_table(&file, image, mos, group)?;
    let rows = rows.into_iter().map(|row| Row { image: place(&row.image), ..row });
    Ok(labels(folder, rows.collect(), range))
}

/// The named columns of a sheet, with each row's number: the first row that has all the names is the table's head.
fn sheet(file: &Path, name: Option<&str>, columns: &[&str]) -> Result<Vec<(usize, Vec<String>)>> {
    let wrong = |e: calamine::XlsxError| odd(file, format!("is no readable workbook: {e}"));
    let mut book: Xlsx<_> = calamine::open_workbook(file).map_err(wrong)?;
    let name = match name {
        Some(name) => name.to_owned(),
        None => book.sheet_names().first().cloned().ok_or_else(|| odd(file, "has no sheet".into()))?,
    };
    let range = book.worksheet_range(&name).map_err(wrong)?;
    let words = |row: &[Data]| row.iter().map(|cell| cell.to_string().trim().to_owned()).collect::<Vec<_>>();
    let mut rows = range.rows().enumerate().map(|(i, row)| (i + 1, words(row)));
    let places = rows.by_ref().find_map(|(_, row)| {
        columns.iter().map(|column| row.iter().position(|cell| cell == column)).collect::<Option<Vec<_>>>()
    });
    let places = places.ok_or_else(|| odd(file, format!("sheet `{name}` has no row with {}", columns.join(", "))))?;
    let picked = rows.map(|(i, row)| (i, places.iter().map(|&p| row.get(p).cloned().unwrap_or_default()).collect()));
    Ok(picked.filter(|(_, row): &(usize, Vec<String>)| row.iter().any(|cell| !cell.is_empty())).collect())
}

/// Rows of so many columns.
fn fixed<const N: usize>(rows: &[(usize, Vec<String>)]) -> impl Iterator<Item = (usize, [&str; N])> {
    rows.iter().map(|(line, row)| (*line, std::array::from_fn(|i| row.get(i).map_or("", String::as_str))))
}

/// Files of a folder by their names in lower case.
fn names_by_lower_case(folder: &Path) -> Result<BTreeMap<String, String>> {
    let io = |source| Error::Io { path: PathBuf::from(folder), source };
    let mut names = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
        names.insert(name.to_lowercase(), name);
    }
    Ok(names)
}
