//! Films that mean harm.
