//! Training and evaluation: labelled folders, losses, the optimiser, the loop.

mod augment;
mod checkpoint;
pub mod correlation;
pub mod dataset;
mod loss;
mod muon;
mod optimizer;
mod run;
mod settings;
mod teacher;

pub use run::{Progress, Summary, train};
pub use settings::{Optimizer, Phase, Settings, SplitBy};
