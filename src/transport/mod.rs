//! (room) transport
