//! Where answers come from.
//!
//! - [`library`]: the embedded origin, folders of films.

pub mod library;
