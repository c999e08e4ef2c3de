//! The crops of a frame, on their way to a network.

use super::{CROP, CropPlan, normalise};
use crate::frame::{Frame, Region, Window};
use crate::{Error, Result};
use std::borrow::Cow;

/// Values of a crop.
const VALUES: usize = CROP * CROP * 3;

/// The crops of one frame, as a [`Scorer`](crate::Scorer) takes them.
#[derive(Debug, Clone)]
pub struct Crops(Form);

#[derive(Debug, Clone)]
enum Form {
    /// `(N, CROP, CROP, 3)`
    Normalised(Vec<f32>),
    /// As the frame has them, a quarter of the bytes: a GPU makes the rest of it.
    Windows(Vec<Window>),
}

/// One crop.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Crop<'a> {
    /// `(CROP, CROP, 3)`
    Normalised(&'a [f32]),
    Window(&'a Window),
}

impl Crops {
    /// Crops that have been cut and [normalised](normalise) already, `(N, CROP, CROP, 3)`.
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
        Ok(Self(Form::Normalised(values)))
    }

    /// How many there are; one at least.
    pub fn count(&self) -> usize {
        match &self.0 {
            Form::Normalised(values) => values.len() / VALUES,
            Form::Windows(windows) => windows.len(),
        }
    }

    /// Each of them.
    pub(crate) fn each(&self) -> Vec<Crop<'_>> {
        match &self.0 {
            Form::Normalised(values) => values.chunks_exact(VALUES).map(Crop::Normalised).collect(),
            Form::Windows(windows) => windows.iter().map(Crop::Window).collect(),
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
            Self::Window(window) => {
                let mut values = window.frame()?.to_rgb()?;
                normalise(&mut values);
                Ok(Cow::Owned(values))
            }
        }
    }
}

impl CropPlan {
    /// As [`sample_regions`](Self::sample_regions), for a scorer. `as_windows` is whether a GPU makes the values; frames of which
    /// it cannot, and parts that are scaled up first, have them made here.
    ///
    /// # Errors
    /// As [`sample_regions`](Self::sample_regions).
    pub fn crops_of(&self, frame: &Frame, regions: &[Region], frame_index: u64, as_windows: bool) -> Result<Crops> {
        if as_windows && frame.planes420().is_some() {
            let whole = [Region::new(0, 0, frame.width(), frame.height())];
            let places = self.rectangles(if regions.is_empty() { &whole } else { regions }, frame_index)?;
            if places.iter().all(|place| (place.width, place.height) == (CROP, CROP)) {
                let windows = places.into_iter().map(|place| frame.window(place)).collect::<Result<_>>()?;
                return Ok(Crops(Form::Windows(windows)));
            }
        }
        Ok(Crops(Form::Normalised(self.sample_regions(frame, regions, frame_index)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sampling;
    use super::*;
    use crate::frame::{Colour, PixelFormat, Plane};

    #[test]
    fn both_forms_have_the_same_values() {
        let (width, height) = (500, 301);
        let planes: Vec<Vec<u8>> = [(width, height), (250, 151), (250, 151)]
            .iter()
            .map(|(w, h)| (0..w * h).map(|i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect())
            .collect();
        let planes: Vec<Plane> = planes.iter().zip([width, 250, 250]).map(|(p, s)| Plane::new(p, s)).collect();
        let frame = Frame::new(PixelFormat::I420, width, height, &planes, Colour::BT601).unwrap();
        let regions = [Region::new(3, 5, 300, 290), Region::new(251, 30, 230, 224)];
        for sampling in Sampling::ALL {
            let plan = CropPlan::new(3, sampling, 7).unwrap();
            for regions in [&regions[..], &[]] {
                let crops = plan.crops_of(&frame, regions, 2, true).unwrap();
                assert!(matches!(crops.0, Form::Windows(_)) && crops.count() == 3);
                let values: Vec<f32> =
                    crops.each().iter().flat_map(|crop| crop.values().unwrap().into_owned()).collect();
                assert!(values == plan.sample_regions(&frame, regions, 2).unwrap(), "{sampling} {regions:?}");
            }
        }
        // One that is scaled up has no window, nor have other formats.
        let small = [Region::new(0, 0, 100, 100)];
        let plan = CropPlan::new(2, Sampling::Grid, 0).unwrap();
        assert!(matches!(plan.crops_of(&frame, &small, 0, true).unwrap().0, Form::Normalised(_)));
        let gray = Frame::new(PixelFormat::Gray8, width, height, &planes[..1], Colour::SRGB).unwrap();
        assert!(matches!(plan.crops_of(&gray, &[], 0, true).unwrap().0, Form::Normalised(_)));
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
