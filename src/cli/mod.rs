//! Arguments → configuration → app.

/// Exit codes: 0 good, 1 failed, 2 bad usage or configuration.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
