//! (room) media
