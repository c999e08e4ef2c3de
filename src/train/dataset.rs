//! Labelled folders: a `mos.csv` beside the pictures that it names.

use super::settings::{Fold, ScoreRange, SplitBy};
use crate::random::Random;
use crate::{Error, Result};
use image::RgbImage;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One labelled picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// File name, relative to the folder.
    pub image: String,
    /// Mean opinion score in the set's unit; higher is better.
    pub mos: f64,
    /// What it shares with pictures that no split may part it from, such as the reference; empty for none.
    pub group: String,
    /// How it was distorted, in the words of a known set; empty where there are none.
    pub distortion: String,
}

/// The rows of a folder's label file, in its order.
#[derive(Debug, Clone)]
pub struct Labels {
    /// Where the pictures are.
    pub folder: PathBuf,
    /// The rows.
    pub rows: Vec<Row>,
    /// The scores that mean worst and best, where the set is known.
    pub range: Option<ScoreRange>,
}

impl Labels {
    /// Reads another label file for the pictures of a folder, with the groups of a column where one is named.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_file(folder: &Path, file: &Path, group: Option<&str>) -> Result<Self> {
        let rows = Self::read_table(file, "image", "mos", group)?;
        Ok(Self { folder: folder.to_owned(), rows, range: None })
    }

    /// The rows of a table, by the names of its columns.
    pub(super) fn read_table(file: &Path, image: &str, mos: &str, group: Option<&str>) -> Result<Vec<Row>> {
        let wrong = |message: String| Error::Input(format!("{}: {message}", file.display()));
        if !file.is_file() {
            return Err(wrong(format!("no such file; expected a table with the columns {image},{mos}")));
        }
        let reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(file);
        let mut reader = reader.map_err(|e| wrong(e.to_string()))?;
        let headers = reader.headers().map_err(|e| wrong(e.to_string()))?.clone();
        let column = |name: &str| {
            let found = headers.iter().position(|h| h.trim_start_matches('\u{feff}').eq_ignore_ascii_case(name));
            found.ok_or_else(|| {
                let have = headers.iter().collect::<Vec<_>>().join(",");
                wrong(format!("no column `{name}`; expected {image},{mos}, found {have}"))
            })
        };
        let (image, mos) = (column(image)?, column(mos)?);
        // Pictures of one reference belong together whether or not it is asked for.
        let group = group.map_or_else(|| Ok(column("reference").ok()), |name| column(name).map(Some))?;
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|e| wrong(e.to_string()))?;
            let line = record.position().map_or(0, csv::Position::line);
            let value = record.get(mos).unwrap_or_default();
            let name = record.get(image).unwrap_or_default();
            if name.is_empty() {
                return Err(wrong(format!("line {line}: no image name")));
            }
            match value.parse::<f64>() {
                Ok(mos) if mos.is_finite() => {
                    let group = group.and_then(|g| record.get(g)).unwrap_or_default().to_owned();
                    let distortion = String::new();
                    rows.push(Row { image: name.to_owned(), mos, group, distortion });
                }
                _ => return Err(wrong(format!("line {line}: mos `{value}` of {name} is not a number"))),
            }
        }
        if rows.is_empty() {
            return Err(wrong("no rows".into()));
        }
        Ok(rows)
    }

    /// The scores that mean worst and best: the set's, or else the smallest and the largest.
    ///
    /// # Errors
    /// All scores are equal: nothing can be learned from them.
    pub fn range(&self) -> Result<(f64, f64)> {
        if let Some(range) = self.range {
            return Ok((range.low, range.high));
        }
        let low = self.rows.iter().map(|r| r.mos).fold(f64::INFINITY, f64::min);
        let high = self.rows.iter().map(|r| r.mos).fold(f64::NEG_INFINITY, f64::max);
        if low < high {
            Ok((low, high))
        } else {
            Err(Error::Input(format!("{}: every picture has the same mos, {low}", self.folder.display())))
        }
    }

    /// Indices of the training and the validation part, each in the file's order. A `part` of 0 leaves the second empty.
    ///
    /// # Errors
    /// Too few pictures for both.
    pub fn split(&self, by: &SplitBy, part: f64, fold: Option<Fold>, seed: u64) -> Result<(Vec<usize>, Vec<usize>)> {
        if part == 0.0 && fold.is_none() {
            return Ok(((0..self.rows.len()).collect(), Vec::new()));
        }
        let mut held_out = vec![false; self.rows.len()];
        match by {
            // Series of names that differ in their last number, each in the order of that number.
            SplitBy::Ranges => {
                let mut series: BTreeMap<&str, Vec<(u64, usize)>> = BTreeMap::new();
                for (i, row) in self.rows.iter().enumerate() {
                    let (prefix, number) = last_number(&row.image);
                    series.entry(prefix).or_default().push((number, i));
                }
                for mut series in series.into_values() {
                    series.sort_unstable();
                    let kept = series.len() - (series.len() as f64 * part).round() as usize;
                    series[kept..].iter().for_each(|&(_, i)| held_out[i] = true);
                }
            }
            // Groups at random; a picture without one is alone.
            SplitBy::Random | SplitBy::Column(_) => {
                let mut groups: BTreeMap<(&str, usize), Vec<usize>> = BTreeMap::new();
                for (i, row) in self.rows.iter().enumerate() {
                    let alone = if row.group.is_empty() { i } else { 0 };
                    groups.entry((&row.group, alone)).or_default().push(i);
                }
                let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
                Random::new(seed, 0x5917).shuffle(&mut groups);
                let chosen: Vec<&Vec<usize>> = match fold {
                    Some(fold) => groups.iter().skip(fold.index - 1).step_by(fold.count).collect(),
                    None => groups.iter().skip(groups.len() - (groups.len() as f64 * part).round() as usize).collect(),
                };
                chosen.into_iter().flatten().for_each(|&i| held_out[i] = true);
            }
        }
        let (validation, training): (Vec<usize>, Vec<usize>) = (0..self.rows.len()).partition(|&i| held_out[i]);
        if training.is_empty() || validation.len() < 2 {
            let count = self.rows.len();
            let folder = self.folder.display();
            return Err(Error::Input(format!("{folder}: {count} pictures cannot be split into two parts")));
        }
        Ok((training, validation))
    }

    /// Decodes the pictures of some rows, in their order.
    ///
    /// # Errors
    /// Names the first picture, in order, that is missing or cannot be decoded.
    pub fn load(&self, rows: &[usize], progress: impl Fn() + Sync) -> Result<Vec<RgbImage>> {
        let images: Vec<Result<RgbImage>> = rows
            .par_iter()
            .map(|&i| {
                progress();
                read_image(&self.folder.join(&self.rows[i].image))
            })
            .collect();
        images.into_iter().collect()
    }
}

/// The name up to its last number, and that number.
fn last_number(name: &str) -> (&str, u64) {
    let Some(end) = name.rfind(|c: char| c.is_ascii_digit()) else { return (name, 0) };
    let start = name[..end].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |i| {
        i + name[i..].chars().next().map_or(1, char::len_utf8) // past a character that may be several bytes long
    });
    (&name[..start], name[start..=end].parse().unwrap_or(u64::MAX))
}

/// Decodes a picture to 8-bit RGB; the format is told by content.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn read_image(path: &Path) -> Result<RgbImage> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let reader = image::ImageReader::open(path).map_err(io)?.with_guessed_format().map_err(io)?;
    let image =
        reader.decode().map_err(|e| Error::Input(format!("{}: not a readable picture: {e}", path.display())))?;
    Ok(image.into_rgb8())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> Labels {
        let rows = names
            .iter()
            .enumerate()
            .map(|(i, n)| Row {
                image: (*n).to_owned(),
                mos: i as f64,
                group: format!("g{}", i / 5),
                distortion: String::new(),
            })
            .collect();
        Labels { folder: "x".into(), rows, range: None }
    }

    #[test]
    fn ranges_keep_the_last_numbers_of_each_series() {
        let names: Vec<String> =
            (1..=10).map(|i| format!("a_{i}.jpg")).chain((1..=5).map(|i| format!("b{i}.jpg"))).collect();
        let labels = labels(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let (training, validation) = labels.split(&SplitBy::Ranges, 0.2, None, 0).unwrap();
        assert_eq!(
            validation.iter().map(|&i| names[i].as_str()).collect::<Vec<_>>(),
            ["a_9.jpg", "a_10.jpg", "b5.jpg"]
        );
        assert_eq!(training.len() + validation.len(), 15);
    }

    #[test]
    fn random_splits_repeat_and_differ_by_seed() {
        let names: Vec<String> = (0..50).map(|i| format!("{i}.png")).collect();
        let labels = labels(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let split = |seed| labels.split(&SplitBy::Random, 0.2, None, seed).unwrap().1;
        assert_eq!(split(1), split(1));
        assert_ne!(split(1), split(2));
        assert_eq!(split(1).len(), 10);
    }

    #[test]
    fn groups_stay_together_and_folds_take_turns() {
        let names: Vec<String> = (0..50).map(|i| format!("{i}.png")).collect();
        let labels = labels(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let by = SplitBy::Column("x".into());
        let mut seen = vec![0; 50];
        for index in 1..=4 {
            let (training, validation) = labels.split(&by, 0.2, Some(Fold { index, count: 4 }), 3).unwrap();
            assert!(validation.iter().all(|v| training.iter().all(|t| labels.rows[*t].group != labels.rows[*v].group)));
            validation.iter().for_each(|&v| seen[v] += 1);
        }
        assert_eq!(seen, vec![1; 50]);
        assert_eq!(labels.split(&by, 0.2, None, 3).unwrap().1.len(), 10);
    }

    #[test]
    fn numbers_in_odd_names() {
        assert_eq!(last_number("ss01_12.jpg"), ("ss01_", 12));
        assert_eq!(last_number("ü7"), ("ü", 7));
        assert_eq!(last_number("none"), ("none", 0));
        assert_eq!(last_number("99999999999999999999999.png"), ("", u64::MAX));
    }

    #[test]
    fn bad_tables_are_named_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mos.csv");
        for (text, expected) in [
            ("image,mos\na.png,1\nb.png,x\n", "line 3: mos `x` of b.png"),
            ("image,mos\na.png,nan\n", "line 2"),
            ("image,mos\na.png\n", "line: 2"),
            ("image,mos\n,3\n", "line 2: no image name"),
            ("picture,mos\na.png,1\n", "no column `image`"),
            ("image,mos\n", "no rows"),
            ("", "no column"),
        ] {
            std::fs::write(&file, text).unwrap();
            let message = Labels::read(folder.path()).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains("mos.csv"), "{text:?}: {message}");
        }
        let message = Labels::read(&folder.path().join("nowhere")).unwrap_err().to_string();
        assert!(message.contains("no such file"), "{message}");
        std::fs::write(&file, "\u{feff}Image, MOS ,x\n a.png , 1.5 ,z\n").unwrap();
        assert_eq!(
            Labels::read(folder.path()).unwrap().rows,
            [Row { image: "a.png".into(), mos: 1.5, group: String::new(), distortion: String::new() }]
        );
    }
}
