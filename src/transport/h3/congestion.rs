//! How fast QUIC sends: as the kernel does over TCP, so that HTTP/3 and HTTP/2 of one machine share its network alike, and an operator
//! chooses for both with one setting (`net.ipv4.tcp_congestion_control`). quinn has CUBIC and BBR.
//!
//! It matters where packets are lost: CUBIC takes each loss for a full queue and slows down, BBR does not.

use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig};
use std::sync::Arc;

const OF_KERNEL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
/// Before anything is known of a path: ten packets, as TCP (RFC 9002, section 7.2). quinn's BBR would begin with two hundred.
const INITIAL_WINDOW_BYTES: u64 = 10 * 1200;

/// See the module. CUBIC where the kernel has neither, or does not say.
pub fn controller() -> Arc<dyn ControllerFactory + Send + Sync> {
    of(&std::fs::read_to_string(OF_KERNEL).unwrap_or_default())
}

fn of(kernel: &str) -> Arc<dyn ControllerFactory + Send + Sync> {
    // bbr, and later versions under other names.
    if kernel.trim().starts_with("bbr") {
        let mut config = BbrConfig::default();
        config.initial_window(INITIAL_WINDOW_BYTES);
        Arc::new(config)
    } else {
        let mut config = CubicConfig::default();
        config.initial_window(INITIAL_WINDOW_BYTES);
        Arc::new(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinn::congestion::{Bbr, Cubic};
    use std::time::Instant;

    #[test]
    fn quic_does_as_the_kernel_does() {
        let built = |kernel| of(kernel).build(Instant::now(), 1200);
        for (kernel, bbr) in [("bbr\n", true), ("bbr3", true), ("cubic\n", false), ("reno", false), ("", false)] {
            let controller = built(kernel);
            assert_eq!(controller.initial_window(), INITIAL_WINDOW_BYTES);
            let any = controller.into_any();
            assert_eq!((any.is::<Bbr>(), any.is::<Cubic>()), (bbr, !bbr), "{kernel:?}");
        }
    }
}
