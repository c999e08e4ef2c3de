//! Training and evaluation: labelled folders, losses, the optimiser, the loop.

mod augment;
mod batch;
mod checkpoint;
mod chroma;
pub mod correlation;
pub mod dataset;
pub mod evaluation;
mod gradients;
mod loss;
mod optimizer;
mod parts;
mod progress;
pub mod protocol;
mod run;
mod scales;
mod sets;
mod settings;
mod shard;
mod student;
mod teacher;

pub use progress::{Progress, Summary};
pub use run::{train, train_on};
pub use settings::{Autocast, Fold, Optimizer, Phase, ScoreRange, Settings, SplitBy};
