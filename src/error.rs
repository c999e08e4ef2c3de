//! The error of the whole crate.

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
    Io { path: PathBuf, source: std::io::Error },
    /// A weights file is not what it should be.
    #[error("{path}: {message}")]
    Weights { path: PathBuf, message: String },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
