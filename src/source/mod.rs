//! Films as files: how they are opened and how their versions are told apart. Two processes need it, the edge and its sidecar.
//!
//! - [`Folder`]: opens files strictly beneath a folder.
//! - [`Stamp`]: what tells a version of a file from another.
//!
//! Invariants: nothing outside a folder is ever opened, whatever a path or a symbolic link says; nothing is written.

mod folder;
mod stamp;

pub use folder::Folder;
pub use stamp::Stamp;
