//! What a run tells those who watch it.

/// What happens during a run, for those who watch.
#[derive(Debug, Clone)]
pub enum Progress {
    /// So many of so many pictures have been read.
    Loading(usize, usize),
    /// A line of information.
    Note(String),
    /// Steps made, steps in all, mean loss of late.
    Step(usize, usize, f64),
    /// An epoch has ended: epoch, validation SRCC and PLCC, whether it is the best so far.
    Epoch(usize, f64, f64, bool),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Best validation SRCC; not a number where nothing was held out.
    pub srcc: f64,
    /// The epoch it was reached in, from 1; the last one where nothing was held out.
    pub epoch: usize,
    /// Trained parameters of the network.
    pub parameters: usize,
    /// Seconds of training.
    pub seconds: f64,
}
