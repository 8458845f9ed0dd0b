//! `reelgate`: arguments → configuration → app. Everything it does lives in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`, which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// How long freed memory waits to be used again before the system gets it back. With the allocator's second, what a cache frees and
/// fills anew in that time counts twice, and `cache.memory` is no bound on the process.
const PURGE_DELAY_MS: i64 = 10;

fn main() -> ExitCode {
    // SAFETY: not thread safe, and there is one thread yet; a number in range is set, and only where the environment
    // (`MIMALLOC_PURGE_DELAY`) says nothing.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) };
    reelgate::cli::main()
}
