//! Writes a variant with random weights, where only its cost matters:
//! `cargo run --release --example random_weights VARIANT FILE.safetensors`.

use qmambaiqa::model::parameters::{Scope, Trainable};
use qmambaiqa::model::{Config, QMamba};
use qmambaiqa::weights_file::{WriteDtype, write};
use std::collections::BTreeMap;
use std::path::Path;

fn main() -> qmambaiqa::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(variant), Some(file)) = (args.next(), args.next()) else {
        return Err(qmambaiqa::Error::Input("usage: random_weights VARIANT FILE.safetensors".into()));
    };
    let mut random = Trainable::new(1, Default::default(), &candle_core::Device::Cpu);
    QMamba::new(Scope::new(&mut random), &Config::named(&variant)?)?;
    let mut tensors = BTreeMap::new();
    for (name, variable) in random.variables {
        tensors.insert(name, (variable.dims().to_vec(), variable.flatten_all()?.to_vec1()?));
    }
    let metadata = BTreeMap::from([("model".into(), variant), ("range".into(), "[0.0,1.0]".into())]);
    write(Path::new(&file), &tensors, WriteDtype::F16, &metadata)
}
