//! Request rates per client address: the generic cell rate algorithm (ITU-T I.371, as in `limit_req` of nginx), with a
//! bounded table. Pure but for its table: the time comes in.
//!
//! IPv6 clients count per /64, since one subscriber owns that many addresses.

use crate::config::Rate;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The rate limit of one site.
#[derive(Debug)]
pub struct Limiter {
    interval: Duration,
    tolerance: Duration,
    addresses_max: usize,
    /// Theoretical arrival time of each address's next conforming request.
    arrivals: Mutex<HashMap<IpAddr, Instant>>,
}

impl Limiter {
    pub fn new(rate: Rate, addresses_max: usize) -> Self {
        let interval = Duration::from_secs_f64(1.0 / rate.per_second.max(0.001));
        Self {
            interval,
            tolerance: interval * rate.burst,
            addresses_max: addresses_max.max(1),
            arrivals: Mutex::new(HashMap::new()),
        }
    }

    /// Ok, or how long until a request of this address conforms again.
    pub fn admit(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut arrivals = self.arrivals.lock();
        let address = subscriber(address);
        if arrivals.len() >= self.addresses_max && !arrivals.contains_key(&address) {
            // Addresses whose time has passed are as good as new; if nearly all are busy, the table starts over: a flood
            // from many addresses must neither shut out the next one nor make each of them walk the whole table.
            arrivals.retain(|_, arrival| *arrival > now);
            if arrivals.len() >= self.addresses_max - self.addresses_max / 8 {
                arrivals.clear();
            }
        }
        let arrival = arrivals.entry(address).or_insert(now);
        let due = (*arrival).max(now);
        let wait = due.saturating_duration_since(now);
        if wait > self.tolerance {
            return Err(wait - self.tolerance);
        }
        *arrival = due + self.interval;
        Ok(())
    }
}

/// What is counted as one client.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limiter(per_second: f64, burst: u32) -> Limiter {
        Limiter::new(Rate { per_second, burst }, 4)
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let limiter = limiter(10.0, 5);
        let client = IpAddr::from([192, 0, 2, 1]);
        let start = Instant::now();
        let passed = (0..20).filter(|_| limiter.admit(client, start).is_ok()).count();
        assert_eq!(passed, 6, "one, and a burst of five");
        let wait = limiter.admit(client, start).unwrap_err();
        assert!(limiter.admit(client, start + wait).is_ok(), "the advised wait is enough");
    }

    #[test]
    fn addresses_of_one_ipv6_subscriber_share_a_rate() {
        let limiter = limiter(1.0, 0);
        let now = Instant::now();
        assert!(limiter.admit("2001:db8::1".parse().unwrap(), now).is_ok());
        assert!(limiter.admit("2001:db8::2".parse().unwrap(), now).is_err());
        assert!(limiter.admit("2001:db8:0:1::1".parse().unwrap(), now).is_ok());
    }

    proptest! {
        #[test]
        fn the_table_stays_bounded_and_the_rate_is_never_exceeded(steps in proptest::collection::vec((0u8..12, 0u64..400), 1..300)) {
            let limiter = limiter(10.0, 2);
            let mut now = Instant::now();
            let start = now;
            let mut passed = 0u64;
            for (host, wait_ms) in steps {
                now += Duration::from_millis(wait_ms);
                let ok = limiter.admit(IpAddr::from([192, 0, 2, host % 4]), now).is_ok();
                if host % 4 == 0 && ok {
                    passed += 1;
                }
                prop_assert!(limiter.arrivals.lock().len() <= 4);
            }
            let allowed = 3 + now.duration_since(start).as_millis() as u64 / 100;
            prop_assert!(passed <= allowed, "{passed} > {allowed}");
        }
    }
}
