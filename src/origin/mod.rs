//! (room) origin
