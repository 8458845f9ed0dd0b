//! (room) admin
