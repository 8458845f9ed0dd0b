//! W3C Trace Context (Recommendation, level 1): which trace a request belongs to. The edge continues the client's trace or
//! begins one, gives itself a span, and passes both on; it exports nothing and knows no tracing library.
//!
//! Invariant: what goes out is always a well-formed version 00 header; a malformed one from a client begins a new trace
//! (section 3.2.2.3), and its `tracestate` must then not be passed on.

/// Most of `tracestate` that is passed on (section 3.3.1.5 asks for at least this much) …
const TRACESTATE_BYTES_MAX: usize = 512;
/// … and its members (section 3.3.1.1).
const TRACESTATE_MEMBERS_MAX: usize = 32;

/// Set in `flags` when the caller may have recorded the trace.
pub const SAMPLED: u8 = 0x01;

/// One hop of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl Trace {
    /// Reads a `traceparent`. None: malformed, all-zero ids, or version `ff`. Later versions are read as far as version 00
    /// goes (section 4.3).
    pub fn parse(header: &str) -> Option<Self> {
        let bytes = header.as_bytes();
        let separated = bytes.len() >= 55 && bytes[2] == b'-' && bytes[35] == b'-' && bytes[52] == b'-';
        if !separated {
            return None;
        }
        let version = hex(&bytes[..2])?;
        let complete = match version {
            0 => bytes.len() == 55,
            0xff => false,
            _ => bytes.len() == 55 || bytes[55] == b'-',
        };
        let trace = Self {
            trace_id: hex(&bytes[3..35])?,
            span_id: hex(&bytes[36..52])? as u64,
            flags: hex(&bytes[53..55])? as u8,
        };
        // Of a later version only the sampled bit is known to mean what it means here.
        let flags = if version == 0 { trace.flags } else { trace.flags & SAMPLED };
        (complete && trace.trace_id != 0 && trace.span_id != 0).then_some(Self { flags, ..trace })
    }

    /// 32 lower-case hex digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// 16 lower-case hex digits.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span_id)
    }

    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// The `traceparent` to send, version 00.
    pub fn header_value(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// The edge's own hop: the parent's trace with a new span, or a new trace where there is no valid parent. A new trace is marked
/// sampled, since the access log records it. `random` must differ for every call.
pub fn next(parent: Option<&str>, random: [u8; 24]) -> Trace {
    let (span, trace) = random.split_at(8);
    let span_id = span.iter().fold(0, |id, &byte| id << 8 | u64::from(byte)).max(1);
    match parent.and_then(Trace::parse) {
        Some(parent) => Trace { span_id, ..parent },
        None => {
            let trace_id = trace.iter().fold(0, |id, &byte| id << 8 | u128::from(byte)).max(1);
            Trace { trace_id, span_id, flags: SAMPLED }
        }
    }
}

/// `tracestate` as it came, cut between members where it is longer than 512 bytes or 32 members: the rightmost are the oldest
/// and go first. Pass it on only beside a valid `traceparent`.
pub fn bounded_tracestate(header: &str) -> &str {
    let mut end = 0;
    let mut from = 0;
    for member in header.split(',').take(TRACESTATE_MEMBERS_MAX) {
        if from + member.len() > TRACESTATE_BYTES_MAX {
            break;
        }
        end = from + member.len();
        from = end + 1;
    }
    &header[..end]
}

/// Lower-case hex digits only: the specification refuses upper case.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value, digit| match digit {
        b'0'..=b'9' => Some(value << 4 | u128::from(digit - b'0')),
        b'a'..=b'f' => Some(value << 4 | u128::from(digit - b'a' + 10)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_parent_keeps_its_trace_and_gets_a_new_span() {
        let trace = next(Some(VALID), [7; 24]);
        assert_eq!(trace.header_value(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0707070707070707-01");
        assert_eq!((trace.span_id().as_str(), trace.flags()), ("0707070707070707", 1));
    }

    #[test]
    fn malformed_parents_begin_a_new_trace() {
        for parent in [
            "",
            "00",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        ] {
            assert_eq!(Trace::parse(parent), None, "{parent}");
            assert_eq!(next(Some(parent), [1; 24]).trace_id(), "01".repeat(16));
        }
    }

    #[test]
    fn later_versions_are_read_as_far_as_known() {
        let trace =
            Trace::parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-what-comes").expect("readable");
        assert_eq!(trace.header_value(), VALID);
    }

    #[test]
    fn ids_are_never_zero() {
        assert!(Trace::parse(&next(None, [0; 24]).header_value()).is_some());
    }

    #[test]
    fn tracestate_is_cut_between_members() {
        assert_eq!(bounded_tracestate("a=1,b=2"), "a=1,b=2");
        let many = vec!["a=1"; 40].join(",");
        assert_eq!(bounded_tracestate(&many).split(',').count(), 32);
        let long = format!("a=1,b={}", "x".repeat(600));
        assert_eq!(bounded_tracestate(&long), "a=1");
        assert_eq!(bounded_tracestate(&"x".repeat(600)), "");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(random in any::<[u8; 24]>()) {
            let trace = next(None, random);
            prop_assert_eq!(Trace::parse(&trace.header_value()), Some(trace));
        }

        #[test]
        fn no_header_panics(header in "\\PC{0,80}", state in "\\PC{0,900}") {
            next(Some(&header), [3; 24]);
            prop_assert!(bounded_tracestate(&state).len() <= 512);
        }
    }
}
