//! The data sets of the paper, from the layouts that their authors distribute.
//!
//! Scores are brought to one direction, higher is better, in the set's own unit; pictures that were made from one reference
//! are one group, which splits keep together.

mod authors;
mod mat;

use super::dataset::Labels;
use super::settings::SplitBy;
use crate::{Error, Result};
use std::path::Path;

/// A data set by its authors' layout.
struct Set {
    name: &'static str,
    /// What its folder is known by: any of these files, by the end of their path.
    marks: &'static [&'static str],
    load: fn(&Path) -> Result<Labels>,
}

const SETS: [Set; 10] = [
    Set { name: "LIVE", marks: &["dmos_realigned.mat", "dmos.mat"], load: authors::live },
    Set { name: "CSIQ", marks: &["csiq.DMOS.xlsx"], load: authors::csiq },
    Set { name: "TID2013", marks: &["mos_with_names.txt"], load: authors::tid2013 },
    Set { name: "KADID-10k", marks: &["dmos.csv"], load: authors::kadid },
    Set { name: "LIVEC", marks: &["Data/AllMOS_release.mat"], load: authors::livec },
    Set { name: "KonIQ-10k", marks: &["koniq10k_scores_and_distributions.csv"], load: authors::koniq },
    Set { name: "LIVEFB", marks: &["labels_image.csv"], load: authors::livefb },
    Set { name: "SPAQ", marks: &["Annotations/MOS and Image attribute scores.xlsx"], load: authors::spaq },
    Set { name: "AGIQA-3K", marks: &["data.csv"], load: authors::agiqa },
    Set { name: "AIGCIQA2023", marks: &["DATA/MOS/mosz1.mat"], load: authors::aigciqa },
];

/// Reads the labels of a folder: a `mos.csv`, or one of the known sets as its authors distribute it.
///
/// # Errors
/// Neither, with what would have been one; a label file that is damaged or odd, with what was expected where.
fn open(folder: &Path, group: Option<&str>) -> Result<Labels> {
    let plain = folder.join("mos.csv");
    if plain.is_file() {
        return Labels::read_file(folder, &plain, group);
    }
    let found = SETS.iter().find(|set| set.marks.iter().any(|mark| folder.join(mark).is_file()));
    let Some(set) = found else {
        let known: Vec<String> = SETS.iter().map(|set| format!("{} ({})", set.name, set.marks.join(" or "))).collect();
        let known = known.join(", ");
        let path = plain.display();
        return Err(Error::Input(format!(
            "{path}: no such file; expected a table with the columns image,mos there, or in its folder one of {known}"
        )));
    };
    let labels = (set.load)(folder)?;
    if let Some(column) = group {
        return Err(Error::Input(format!(
            "{}: is {}, whose splits keep references together by themselves; use --split random, not column:{column}",
            folder.display(),
            set.name
        )));
    }
    // One wrong folder name would otherwise be said only after minutes of reading.
    match labels.rows.iter().find(|row| !folder.join(&row.image).is_file()) {
        Some(row) => Err(Error::Input(format!(
            "{}: is {} by its label file, but has no {}",
            folder.display(),
            set.name,
            row.image
        ))),
        None if labels.rows.is_empty() => Err(Error::Input(format!("{}: no labelled pictures", folder.display()))),
        None => Ok(labels),
    }
}

impl Labels {
    /// Reads the labels of a folder: a `mos.csv` with the columns `image`, `mos` and, where a split is to keep them together,
    /// `reference` (others are ignored), or one of the paper's data sets as its authors distribute it.
    ///
    /// # Errors
    /// A missing file or column, and rows that cannot be read, with their line.
    pub fn read(folder: &Path) -> Result<Self> {
        open(folder, None)
    }

    /// The same with the groups that a split goes by.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn for_split(folder: &Path, by: &SplitBy) -> Result<Self> {
        let group = if let SplitBy::Column(name) = by { Some(name.as_str()) } else { None };
        open(folder, group)
    }
}
