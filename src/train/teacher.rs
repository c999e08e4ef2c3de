//! Another network's features, which a student learns to predict beside the score.

use super::augment::Place;
use crate::{Error, Result, weights_file};
use std::path::Path;

/// Features of every picture of a folder: one vector each, or a map of them.
#[derive(Debug)]
pub(super) struct Teacher {
    values: Vec<f32>,
    height: usize,
    width: usize,
    /// Values of one vector.
    pub size: usize,
}

impl Teacher {
    /// Reads the tensor `features` of a file: `(rows, size)`, or `(rows, height, width, size)` for maps over the pictures.
    ///
    /// # Errors
    /// No such tensor, or one for another number of pictures.
    pub(super) fn read(path: &Path, rows: usize) -> Result<Self> {
        let wrong = |message: String| Error::Weights { path: path.to_owned(), message };
        let mut file = weights_file::read(path)?;
        let tensor = file.tensors.remove("features").ok_or_else(|| wrong("has no tensor `features`".into()))?;
        let (n, height, width, size) = match tensor.shape[..] {
            [n, size] => (n, 1, 1, size),
            [n, height, width, size] => (n, height, width, size),
            ref shape => return Err(wrong(format!("`features` has shape {shape:?}, expected two or four axes"))),
        };
        if n != rows || height * width * size == 0 {
            let shape = tensor.shape;
            return Err(wrong(format!("`features` has shape {shape:?}, expected one row for each of {rows} pictures")));
        }
        Ok(Self { values: tensor.values, height, width, size })
    }

    /// Whether there is more than one vector a picture.
    pub(super) fn is_map(&self) -> bool {
        self.height * self.width > 1
    }

    /// What the picture of `row` has where the student's cells lie: `cells * cells` vectors for a square crop of `side`
    /// pixels at `place` of a picture of `picture` (width, height), or the picture's one vector.
    pub(super) fn at(&self, row: usize, picture: (usize, usize), place: Place, side: usize, cells: usize) -> Vec<f32> {
        let one = self.height * self.width * self.size;
        let map = &self.values[row * one..][..one];
        if !self.is_map() {
            return map.to_vec();
        }
        let mut out = vec![0f32; cells * cells * self.size];
        // Centres of cells, in the map's own cells: pixel `p` of `n` lies at `p / n * count - 1/2`.
        let step = side as f32 / cells as f32;
        let along = |start: usize, i: usize, n: usize, count: usize| {
            let p = (start as f32 + (i as f32 + 0.5) * step) / n as f32 * count as f32 - 0.5;
            let p = p.clamp(0.0, (count - 1) as f32);
            let low = (p as usize).min(count.saturating_sub(2));
            (low, (low + 1).min(count - 1), p - low as f32)
        };
        for (cell, out) in out.chunks_exact_mut(self.size).enumerate() {
            let (i, j) = (cell / cells, cell % cells);
            let j = if place.flipped { cells - 1 - j } else { j };
            let (top, bottom, down) = along(place.top, i, picture.1, self.height);
            let (left, right, across) = along(place.left, j, picture.0, self.width);
            for (y, x, weight) in [
                (top, left, (1.0 - down) * (1.0 - across)),
                (top, right, (1.0 - down) * across),
                (bottom, left, down * (1.0 - across)),
                (bottom, right, down * across),
            ] {
                let vector = &map[(y * self.width + x) * self.size..][..self.size];
                out.iter_mut().zip(vector).for_each(|(o, v)| *o += weight * v);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map whose vectors are their own positions is read at the positions of the cells.
    #[test]
    fn cells_are_read_where_they_lie() {
        let values = (0..9).flat_map(|i| (0..9).map(move |j| [i as f32, j as f32])).flatten().collect();
        let teacher = Teacher { values, height: 9, width: 9, size: 2 };
        let place = Place { left: 32, top: 48, flipped: false };
        let at = teacher.at(0, (288, 288), place, 128, 4);
        // The first cell's centre is pixel (32 + 16, 48 + 16): cells of 32 pixels, centres at 16, 48, 80...
        assert_eq!(at[..2], [1.5, 1.0]);
        assert_eq!(at[at.len() - 2..], [4.5, 4.0]);
        let flipped = teacher.at(0, (288, 288), Place { flipped: true, ..place }, 128, 4);
        assert_eq!(flipped[..2], [1.5, 4.0]);
        let corner = teacher.at(0, (288, 288), Place { left: 0, top: 0, flipped: false }, 64, 8);
        assert_eq!(corner[..2], [0.0, 0.0]);
    }
}
