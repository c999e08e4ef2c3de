//! Training and evaluation: labelled folders, losses, the optimiser, the loop.

mod augment;
mod checkpoint;
pub mod correlation;
pub mod dataset;
pub mod evaluation;
mod gradients;
mod loss;
mod muon;
mod optimizer;
mod parts;
pub mod protocol;
mod run;
mod sets;
mod settings;
mod student;
mod teacher;

pub use run::{Progress, Summary, train, train_on};
pub use settings::{Fold, Optimizer, Phase, ScoreRange, Settings, SplitBy};
