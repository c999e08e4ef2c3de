//! The one error type of the library.

/// What can go wrong, in words for the person who has to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value that was given (a setting, a frame, a row) cannot be used.
    #[error("{0}")]
    Input(String),
}

/// What the library's functions give back.
pub type Result<T, E = Error> = std::result::Result<T, E>;
