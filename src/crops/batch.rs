//! The crops of a frame, on their way to a network.

use super::places::Source;
use super::{CROP, CropPlan, Place, Scales, normalise};
use crate::frame::{Frame, Region, Window};
use crate::{Error, Result};
use std::borrow::Cow;

/// Values of a crop.
const VALUES: usize = CROP * CROP * 3;

/// The crops of one frame, as a [`Scorer`](crate::Scorer) takes them.
#[derive(Debug, Clone)]
pub struct Crops {
    form: Form,
    /// Where each was taken; empty if that is not known.
    places: Vec<Place>,
    /// Whether they are scored by what they show of the picture: see [`by_scale`](Self::by_scale).
    by_scale: bool,
}

#[derive(Debug, Clone)]
enum Form {
    /// `(N, CROP, CROP, 3)`
    Normalised(Vec<f32>),
    /// As the frame has them, with exponents of their reductions: a GPU makes the rest of it.
    Windows(Vec<(Window, u32)>),
}

/// One crop.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Crop<'a> {
    /// `(CROP, CROP, 3)`
    Normalised(&'a [f32]),
    /// A part of a frame, of the size of a crop after it is reduced by two to the power of the number.
    Window(&'a Window, u32),
}

impl Crops {
    /// Crops that have been cut and [normalised](normalise) already, `(N, CROP, CROP, 3)`, of a picture's own size.
    ///
    /// # Errors
    /// [`Error::Input`] where there are none, or a part of one.
    pub fn normalised(values: Vec<f32>) -> Result<Self> {
        if values.is_empty() || !values.len().is_multiple_of(VALUES) {
            return Err(Error::Input(format!(
                "{} values are not the crops of a frame: each has {CROP} x {CROP} x 3, and there must be one",
                values.len()
            )));
        }
        Ok(Self { form: Form::Normalised(values), places: Vec::new(), by_scale: false })
    }

    /// How many there are; one at least.
    pub fn count(&self) -> usize {
        match &self.form {
            Form::Normalised(values) => values.len() / VALUES,
            Form::Windows(windows) => windows.len(),
        }
    }

    /// Where each was taken of the picture; none of [`normalised`](Self::normalised) crops.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The reductions of the picture that they were taken of.
    pub fn scales(&self) -> Scales {
        match self.places[..] {
            [] => Scales::NATIVE,
            _ => Scales::of_levels(self.places.iter().map(|place| place.reduction.trailing_zeros())),
        }
    }

    /// Whether a network that knows of scales judges each by its [`scale`](Place::scale). Crops of a plan for the picture's
    /// own size only are judged without.
    pub(crate) fn by_scale(&self) -> bool {
        self.by_scale
    }

    /// Each of them.
    pub(crate) fn each(&self) -> Vec<Crop<'_>> {
        match &self.form {
            Form::Normalised(values) => values.chunks_exact(VALUES).map(Crop::Normalised).collect(),
            Form::Windows(windows) => windows.iter().map(|(window, level)| Crop::Window(window, *level)).collect(),
        }
    }
}

impl<'a> Crop<'a> {
    /// Its values, `(CROP, CROP, 3)`, which do not depend on the form.
    ///
    /// # Errors
    /// As [`Window::frame`].
    pub(crate) fn values(&self) -> Result<Cow<'a, [f32]>> {
        match self {
            Self::Normalised(values) => Ok(Cow::Borrowed(values)),
            Self::Window(window, level) => {
                let mut values = vec![0f32; VALUES];
                window.frame()?.reduced_rgb(*level, Region::new(0, 0, CROP, CROP), &mut values)?;
                normalise(&mut values);
                Ok(Cow::Owned(values))
            }
        }
    }
}

impl CropPlan {
    /// As [`sample_regions`](Self::sample_regions), for a scorer. `as_windows` is whether a GPU makes the values; frames of which
    /// it cannot, and parts that are resampled first, have them made here.
    ///
    /// # Errors
    /// As [`sample_regions`](Self::sample_regions).
    pub fn crops_of(&self, frame: &Frame, regions: &[Region], frame_index: u64, as_windows: bool) -> Result<Crops> {
        let by_scale = self.scales != Scales::NATIVE;
        if as_windows && frame.planes420().is_some() {
            let places = self.rectangles(frame, regions, frame_index)?;
            if let Some(levels) = self.levels(frame, regions)? {
                let windows = places.iter().zip(levels).map(|(place, level)| Ok((frame.window(place.region)?, level)));
                return Ok(Crops { form: Form::Windows(windows.collect::<Result<_>>()?), places, by_scale });
            }
        }
        let (values, places) = self.sample_with_places(frame, regions, frame_index)?;
        Ok(Crops { form: Form::Normalised(values), places, by_scale })
    }

    /// Exponents of the reductions of the frame that give its crops; `None` if some crops are resampled.
    fn levels(&self, frame: &Frame, regions: &[Region]) -> Result<Option<Vec<u32>>> {
        let mut levels = Vec::with_capacity(self.crops());
        for (region, plan) in self.spread_over(frame, regions) {
            for view in plan.views(&frame.region(region)?)? {
                let Source::Reduced { level } = view.source else { return Ok(None) };
                levels.extend(std::iter::repeat_n(level, view.crops));
            }
        }
        Ok(Some(levels))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sampling;
    use super::*;
    use crate::frame::{Colour, PixelFormat, Plane};

    #[test]
    fn both_forms_have_the_same_values() {
        let (width, height) = (500, 461);
        let planes: Vec<Vec<u8>> = [(width, height), (250, 231), (250, 231)]
            .iter()
            .map(|(w, h)| (0..w * h).map(|i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect())
            .collect();
        let planes: Vec<Plane> = planes.iter().zip([width, 250, 250]).map(|(p, s)| Plane::new(p, s)).collect();
        let frame = Frame::new(PixelFormat::I420, width, height, &planes, Colour::BT601).unwrap();
        let regions = [Region::new(3, 5, 471, 450), Region::new(251, 30, 230, 224)];
        for sampling in Sampling::ALL {
            let plan = CropPlan::new(5, sampling, 7).unwrap();
            for regions in [&regions[..], &[]] {
                let crops = plan.crops_of(&frame, regions, 2, true).unwrap();
                assert!(matches!(crops.form, Form::Windows(_)) && crops.count() == plan.crops());
                assert_eq!(crops.scales().to_string(), "1,2");
                let values: Vec<f32> =
                    crops.each().iter().flat_map(|crop| crop.values().unwrap().into_owned()).collect();
                assert!(values == plan.sample_regions(&frame, regions, 2).unwrap(), "{sampling} {regions:?}");
            }
        }
        // One that is scaled up has no window, nor have other formats.
        let small = [Region::new(0, 0, 100, 100)];
        let plan = CropPlan::new(2, Sampling::Grid, 0).unwrap();
        assert!(matches!(plan.crops_of(&frame, &small, 0, true).unwrap().form, Form::Normalised(_)));
        let gray = Frame::new(PixelFormat::Gray8, width, height, &planes[..1], Colour::SRGB).unwrap();
        assert!(matches!(plan.crops_of(&gray, &[], 0, true).unwrap().form, Form::Normalised(_)));
    }

    #[test]
    fn crops_are_whole() {
        let values = vec![0f32; VALUES + 1];
        for wrong in [&values[..0], &values[..1], &values[..VALUES - 1], &values] {
            let error = Crops::normalised(wrong.to_vec()).unwrap_err();
            assert!(matches!(&error, Error::Input(text) if text.starts_with(&format!("{} values", wrong.len()))));
        }
        assert_eq!(Crops::normalised(values[1..].to_vec()).unwrap().count(), 1);
    }
}
