//! Where crops lie. All positions are (left, top); `room` is what a side has over [`CROP`].

use crate::random::Random;

use super::CROP;

/// An even cover by `crops` crops, the outermost touching the borders: rows of equal or nearly equal numbers of crops, as many
/// rows as come nearest to equal distances in both directions.
pub(super) fn grid(room: (usize, usize), crops: usize) -> Vec<(usize, usize)> {
    rows_of(room, crops, spread)
}

/// An even sample by `crops` crops, each in the middle of its part of the picture: as [`grid`], but not as far apart.
pub(super) fn cells(room: (usize, usize), crops: usize) -> Vec<(usize, usize)> {
    rows_of(room, crops, middle)
}

/// Rows of crops; `place` gives the place of one of so many along a side.
fn rows_of(room: (usize, usize), crops: usize, place: impl Fn(usize, usize, usize) -> usize) -> Vec<(usize, usize)> {
    // Spacing of r rows of crops / r columns: height / r against width r / crops. How far from equal, as a ratio.
    let (width, height) = ((room.0 + CROP) as f64, (room.1 + CROP) as f64);
    let unevenness = |rows: usize| (width * (rows * rows) as f64 / (height * crops as f64)).ln().abs();
    // Without pixels enough between the crops, some would coincide.
    let apart = |rows: usize| rows <= room.1.saturating_add(1) && crops.div_ceil(rows) <= room.0.saturating_add(1);
    let best = |candidates: &mut dyn Iterator<Item = usize>| {
        candidates.min_by(|&a, &b| unevenness(a).total_cmp(&unevenness(b)).then(a.cmp(&b)))
    };
    let rows = best(&mut (1..=crops).filter(|&rows| apart(rows))).or_else(|| best(&mut (1..=crops))).unwrap_or(1);

    // Crops in the first `row` rows. Halves are rounded away from the middle row, so that the rows mirror each other.
    let before = |row: usize| {
        let half = if 2 * row < rows { rows - 1 } else { rows };
        (2 * row * crops + half) / (2 * rows)
    };
    let mut positions = Vec::with_capacity(crops);
    for row in 0..rows {
        let columns = before(row + 1) - before(row);
        let top = place(row, rows, room.1);
        positions.extend((0..columns).map(|column| (place(column, columns, room.0), top)));
    }
    positions
}

/// Place `index` of `count` spread evenly over 0 to `room`, both ends taken; the middle where there is one.
fn spread(index: usize, count: usize, room: usize) -> usize {
    if count < 2 {
        return room / 2;
    }
    // No picture has a side for which this wraps.
    ((index as u128 * room as u128 + (count as u128 - 1) / 2) / (count as u128 - 1)) as usize
}

/// Place `index` of `count` in the middle of equal parts of a side that has `room` over a crop, moved into the picture.
fn middle(index: usize, count: usize, room: usize) -> usize {
    // In halves of a pixel, of the crop's centre times `count`.
    let side = room as u128 + CROP as u128;
    let centre = (2 * index as u128 + 1) * side;
    let left = centre.saturating_sub(CROP as u128 * count as u128) / (2 * count as u128);
    left.min(room as u128) as usize
}

/// The centre, then what lies around it on a lattice of half crops, nearest first, moved into the picture. Where the picture
/// has fewer such places than `crops`, they repeat in turn.
pub(super) fn center(room: (usize, usize), crops: usize) -> Vec<(usize, usize)> {
    const STEP: i64 = CROP as i64 / 2;
    // Steps beyond the border all end on it, and no more than `crops` of them can be wanted.
    let reach = |room: usize| (room / 2 / STEP as usize + 1).min(crops - 1) as i64;
    let (reach_x, reach_y) = (reach(room.0), reach(room.1));
    let mut steps: Vec<(i64, i64)> =
        (-reach_y..=reach_y).flat_map(|y| (-reach_x..=reach_x).map(move |x| (x, y))).collect();
    steps.sort_by_key(|&(x, y)| (x * x + y * y, y, x));
    let place = |step: i64, room: usize| {
        let moved = (room / 2).saturating_add_signed((step * STEP) as isize);
        moved.min(room)
    };
    let mut places: Vec<(usize, usize)> = Vec::with_capacity(crops);
    for (x, y) in steps {
        let position = (place(x, room.0), place(y, room.1));
        if places.len() < crops && !places.contains(&position) {
            places.push(position);
        }
    }
    (0..crops).map(|i| places[i % places.len()]).collect()
}

/// Uniform and independent; a function of `seed`, `frame` and the crop's number alone.
pub(super) fn random(room: (usize, usize), crops: usize, seed: u64, frame: u64) -> Vec<(usize, usize)> {
    let mut random = Random::new(seed, frame);
    (0..crops).map(|_| (random.below(room.0 + 1), random.below(room.1 + 1))).collect()
}
