//! The only place that knows everyone.
