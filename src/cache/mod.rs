//! (room) cache
