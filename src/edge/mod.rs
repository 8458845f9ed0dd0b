//! (room) edge
