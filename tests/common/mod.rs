//! What the tests of training share.

use std::path::Path;

/// Thirty pictures: noise of falling strength on a gradient, labelled by its strength, five to a group.
pub fn make_data(folder: &Path) {
    let mut table = String::from("image,mos,scene\n");
    let mut state = 1u32;
    for i in 1..=30u32 {
        let picture = image::RgbImage::from_fn(48, 40, |x, y| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 24) * (30 - i) / 60;
            image::Rgb([(2 * x + noise) as u8, (2 * y + noise) as u8, noise as u8])
        });
        picture.save(folder.join(format!("p{i}.png"))).unwrap();
        table.push_str(&format!("p{i}.png,{i},s{}\n", i % 6));
    }
    std::fs::write(folder.join("mos.csv"), table).unwrap();
}
