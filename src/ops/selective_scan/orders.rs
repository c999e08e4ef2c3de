//! Scan orders as index tables: the scan itself knows nothing of images, windows or directions.

use std::num::NonZeroUsize;

/// Which pixel is read at each position of each direction's sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanOrders {
    tables: Vec<Vec<u32>>,
    pixels: usize,
}

impl ScanOrders {
    /// A table entry that reads no pixel: padding, whose input is zero and whose output is dropped.
    pub const PADDING: u32 = u32::MAX;

    /// The four orders of an image of `height * width` pixels.
    ///
    /// Without a window, VMamba's cross scan: rows; columns; both reversed. With a window `k`, LQMamba's local scan: pixels
    /// row by row inside `k * k` windows, windows row by row; the same column by column; both reversed. A map that `k`
    /// does not divide is padded at the bottom and the right.
    pub fn new(height: usize, width: usize, window: Option<NonZeroUsize>) -> Self {
        let (rows, columns) = match window {
            None => {
                let pixel = |y: usize, x: usize| (y * width + x) as u32;
                let rows: Vec<u32> = (0..height).flat_map(|y| (0..width).map(move |x| pixel(y, x))).collect();
                let columns = (0..width).flat_map(|x| (0..height).map(move |y| pixel(y, x))).collect();
                (rows, columns)
            }
            Some(k) => {
                let k = k.get();
                let pixel = |y: usize, x: usize| {
                    if y < height && x < width { (y * width + x) as u32 } else { Self::PADDING }
                };
                let (down, across) = (height.div_ceil(k), width.div_ceil(k));
                let windows = |count: usize| (0..count * k).step_by(k);
                let mut rows = Vec::with_capacity(down * across * k * k);
                for (top, left) in windows(down).flat_map(|top| windows(across).map(move |left| (top, left))) {
                    rows.extend((top..top + k).flat_map(|y| (left..left + k).map(move |x| pixel(y, x))));
                }
                let mut columns = Vec::with_capacity(rows.len());
                for (top, left) in windows(across).flat_map(|left| windows(down).map(move |top| (top, left))) {
                    columns.extend((left..left + k).flat_map(|x| (top..top + k).map(move |y| pixel(y, x))));
                }
                (rows, columns)
            }
        };
        let reversed = |table: &[u32]| table.iter().rev().copied().collect::<Vec<_>>();
        let backwards = [reversed(&rows), reversed(&columns)];
        let tables = [rows, columns].into_iter().chain(backwards).collect();
        Self { tables, pixels: height * width }
    }

    /// One table a direction, all of one length, which is at least [`pixels`](Self::pixels).
    pub fn tables(&self) -> &[Vec<u32>] {
        &self.tables
    }

    /// Pixels of the image, `L`: every table reads each of them exactly once.
    pub fn pixels(&self) -> usize {
        self.pixels
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_windows_as_written_in_the_paper() {
        let p = ScanOrders::PADDING;
        let orders = ScanOrders::new(2, 3, NonZeroUsize::new(2));
        assert_eq!(orders.tables()[0], [0, 1, 3, 4, 2, p, 5, p]);
        assert_eq!(orders.tables()[1], [0, 3, 1, 4, 2, 5, p, p]);
        assert_eq!(orders.tables()[3], [p, p, 5, 2, 4, 1, 3, 0]);
        assert_eq!(ScanOrders::new(2, 3, None).tables()[1], [0, 3, 1, 4, 2, 5]);
    }

    proptest! {
        #[test]
        fn every_table_reads_each_pixel_once(height in 1usize..20, width in 1usize..20, window in 0usize..9) {
            let orders = ScanOrders::new(height, width, NonZeroUsize::new(window));
            for table in orders.tables() {
                let mut pixels: Vec<u32> = table.iter().copied().filter(|&p| p != ScanOrders::PADDING).collect();
                pixels.sort_unstable();
                prop_assert_eq!(pixels, (0..(height * width) as u32).collect::<Vec<_>>());
                prop_assert_eq!(table.len(), orders.tables()[0].len());
            }
        }
    }
}
