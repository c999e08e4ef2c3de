//! Crops over several regions of one picture.

use super::{CropPlan, Place};
use crate::Result;
use crate::frame::{Frame, Region};

impl CropPlan {
    /// As [`CropPlan::sample`], with the crops spread over regions of the picture, each treated as a picture of its own. Their
    /// numbers of crops follow their areas (d'Hondt's method), one at least; of more regions than crops the largest get one
    /// each. No region: the whole picture.
    ///
    /// # Errors
    /// As [`CropPlan::sample`], of a region; and where one is not within the picture.
    pub fn sample_regions(&self, frame: &Frame, regions: &[Region], frame_index: u64) -> Result<Vec<f32>> {
        Ok(self.sample_with_places(frame, regions, frame_index)?.0)
    }

    /// Where in the picture those crops lie.
    ///
    /// # Errors
    /// As [`sample_regions`](Self::sample_regions).
    pub fn rectangles(&self, frame: &Frame, regions: &[Region], frame_index: u64) -> Result<Vec<Place>> {
        let mut all = Vec::with_capacity(self.crops());
        for (region, plan) in self.spread_over(frame, regions) {
            all.extend(plan.places(&frame.region(region)?, frame_index)?);
            shift(&mut all, plan.crops, region);
        }
        Ok(all)
    }

    /// Both at once.
    pub(super) fn sample_with_places(
        &self,
        frame: &Frame,
        regions: &[Region],
        frame_index: u64,
    ) -> Result<(Vec<f32>, Vec<Place>)> {
        let (mut batch, mut places) = (Vec::new(), Vec::new());
        for (region, plan) in self.spread_over(frame, regions) {
            plan.sample_into(&frame.region(region)?, frame_index, &mut batch, &mut places)?;
            shift(&mut places, plan.crops, region);
        }
        Ok((batch, places))
    }

    /// The regions of a frame that get crops, with a plan for each; the whole frame where none is given.
    pub(super) fn spread_over(&self, frame: &Frame, regions: &[Region]) -> Vec<(Region, Self)> {
        let whole = [Region::new(0, 0, frame.width(), frame.height())];
        self.spread(if regions.is_empty() { &whole } else { regions })
    }

    /// The regions that get crops, with a plan for each.
    fn spread(&self, regions: &[Region]) -> Vec<(Region, Self)> {
        let mut order: Vec<usize> = (0..regions.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(regions[i].area())); // stable: the first of equals comes first
        order.truncate(self.crops);
        let mut shares: Vec<(usize, usize)> = order.into_iter().map(|i| (i, 1)).collect();
        for _ in shares.len()..self.crops {
            let per_crop = |&(i, crops): &(usize, usize)| regions[i].area() as f64 / (crops + 1) as f64;
            let next = (0..shares.len()).reduce(|a, b| if per_crop(&shares[b]) > per_crop(&shares[a]) { b } else { a });
            if let Some(next) = next {
                shares[next].1 += 1;
            }
        }
        shares.sort_unstable();
        let plan = |(i, crops): (usize, usize)| {
            // Random places differ from region to region, and are those of the plan itself in the first.
            let seed = self.seed.wrapping_add(i as u64);
            (regions[i], Self { crops, seed, ..*self })
        };
        shares.into_iter().map(plan).collect()
    }
}

/// Moves the last `count` places, which are within a region, to where they are in the picture.
fn shift(places: &mut [Place], count: usize, region: Region) {
    let first = places.len() - count;
    for place in &mut places[first..] {
        let within = place.region;
        place.region = Region { x: region.x + within.x, y: region.y + within.y, ..within };
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CROP, MAX_CROPS, Sampling, Scales};
    use super::*;
    use crate::frame::{Colour, PixelFormat, Plane};
    use proptest::prelude::*;

    fn plan(crops: usize) -> CropPlan {
        CropPlan::new(crops, Sampling::Grid, 3).unwrap()
    }

    /// A GRAY8 frame over `data`.
    fn frame(data: &[u8], width: usize) -> Frame<'_> {
        let planes = [Plane::new(data, width)];
        Frame::new(PixelFormat::Gray8, width, data.len() / width, &planes, Colour::SRGB).unwrap()
    }

    #[test]
    fn crops_follow_areas() {
        let crops = |plan: CropPlan, regions: &[Region]| -> Vec<(usize, usize)> {
            plan.spread(regions).iter().map(|(region, plan)| (region.x, plan.crops())).collect()
        };
        let region = |x, side| Region::new(x, 0, side, 100);
        assert_eq!(crops(plan(4), &[region(0, 300), region(1, 100)]), [(0, 3), (1, 1)]);
        assert_eq!(crops(plan(9), &[region(0, 100), region(1, 800)]), [(0, 1), (1, 8)]);
        // However small, each has one; where crops are too few, the largest have.
        assert_eq!(crops(plan(4), &[region(0, 1), region(1, 900), region(2, 1)]), [(0, 1), (1, 2), (2, 1)]);
        assert_eq!(crops(plan(2), &[region(0, 5), region(1, 7), region(2, 5), region(3, 9)]), [(1, 1), (3, 1)]);
        assert_eq!(crops(plan(1), &[region(0, 5), region(1, 5)]), [(0, 1)]);
    }

    #[test]
    fn a_region_is_a_picture_of_its_own() {
        let data: Vec<u8> = (0..600 * 400).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let whole = frame(&data, 600);
        for (x, y, width, height) in [(40, 30, 300, 240), (0, 0, 600, 400), (500, 390, 100, 10), (599, 0, 1, 300)] {
            let rows = data.chunks(600).skip(y).take(height);
            let cut: Vec<u8> = rows.flat_map(|row| &row[x..x + width]).copied().collect();
            let region = Region::new(x, y, width, height);
            let batch = plan(3).sample_regions(&whole, &[region], 0).unwrap();
            assert!(batch == plan(3).sample(&frame(&cut, width), 0).unwrap(), "{region}");
        }
        let error = plan(3).sample_regions(&whole, &[Region::new(400, 0, 300, 100)], 0).unwrap_err().to_string();
        assert_eq!(error, "region 400,0,300,100 (x,y,width,height) is not within a picture of 600x400");
        assert!(plan(3).sample_regions(&whole, &[Region::new(usize::MAX, 0, usize::MAX, 1)], 0).is_err());
        assert!(plan(3).sample_regions(&whole, &[], 0).unwrap() == plan(3).sample(&whole, 0).unwrap());
    }

    proptest! {
        #[test]
        fn crops_lie_within_their_regions(
            crops in 1..=MAX_CROPS,
            sampling in 0usize..3,
            seed: u64,
            regions in prop::collection::vec((0usize..900, 0usize..900, 20usize..900, 20usize..900), 1..9),
        ) {
            let plan = CropPlan::new(crops, Sampling::ALL[sampling], seed).unwrap();
            let regions: Vec<Region> = regions.into_iter().map(|(x, y, w, h)| Region::new(x, y, w, h)).collect();
            let plan = plan.with_scales(if seed % 2 == 0 { Scales::NATIVE } else { Scales::AUTO });
            let data = vec![0u8; 1800 * 1800];
            let whole = frame(&data, 1800);
            let places = plan.rectangles(&whole, &regions, 5).unwrap();
            prop_assert_eq!(places.len(), crops);
            prop_assert_eq!(&plan.rectangles(&whole, &regions, 5).unwrap(), &places);
            let places: Vec<Region> = places.into_iter().map(|place| place.region).collect();
            let holders = |crop: &Region| regions.iter().filter(|r| r.intersection(*crop) == Some(*crop)).count();
            prop_assert!(places.iter().all(|crop| holders(crop) > 0));
            let shares = plan.spread(&regions);
            prop_assert_eq!(shares.iter().map(|(_, plan)| plan.crops()).sum::<usize>(), crops);
            prop_assert_eq!(shares.len(), regions.len().min(crops));
            // A larger region never has fewer crops.
            for (a, of_a) in &shares {
                for (b, of_b) in &shares {
                    prop_assert!(a.area() < b.area() || of_a.crops() >= of_b.crops() || a.area() == b.area());
                }
            }
            // What fits without scaling is taken as it is.
            for (region, _) in shares.iter().filter(|(r, _)| r.width >= CROP && r.height >= CROP) {
                let own = places.iter().filter(|crop| region.intersection(**crop) == Some(**crop));
                prop_assert!(own.clone().any(|crop| crop.width == crop.height && crop.width.is_multiple_of(CROP)));
            }
        }
    }
}
