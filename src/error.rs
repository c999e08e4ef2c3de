//! The one error type.

use std::path::PathBuf;

/// What can go wrong, in words for the person who has to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value that was given (a setting, a frame, a row) cannot be used.
    #[error("{0}")]
    Input(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A weights file is not what it should be.
    #[error("{path}: {message}")]
    Weights {
        /// The file, or the name of the embedded model.
        path: PathBuf,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// A GPU failed: it ran out of memory, or was lost.
    #[error("{device} fails: {message}; {advice}")]
    Device {
        /// Its name.
        device: String,
        /// Its reason.
        message: String,
        /// What to do.
        advice: &'static str,
    },
    /// A tensor operation failed: wrong shapes, or the device.
    #[error("computation failed: {}", plain(.0))]
    Tensor(#[from] candle_core::Error),
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A tensor error's message without the backtrace that candle appends to it.
pub(crate) fn plain(error: &candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => plain(inner),
        candle_core::Error::Context { inner, context } => format!("{context}: {inner}"),
        other => other.to_string(),
    }
}
