//! What a client says about the order of its answers (RFC 9218): `u=0..7`, 0 first, and `i`, of use before it is whole. Pure.

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priority {
    /// 0 is the most urgent, 7 the least.
    pub urgency: u8,
    pub incremental: bool,
}

impl Default for Priority {
    fn default() -> Self {
        Self { urgency: 3, incremental: false }
    }
}

/// Longer than this it says nothing we know.
const BYTES_MAX: usize = 256;

/// Reads a `Priority` field or the like. What is not understood is as if it were not there (RFC 9218, section 4).
pub fn parse(field: &[u8]) -> Priority {
    let mut priority = Priority::default();
    let Some(text) = std::str::from_utf8(field).ok().filter(|text| text.len() <= BYTES_MAX) else { return priority };
    for member in text.split(',') {
        // Parameters of a member mean nothing here (RFC 8941, section 3.2).
        let member = member.split(';').next().unwrap_or("").trim_matches([' ', '\t']);
        match member.split_once('=') {
            Some(("u", value)) => {
                if let Some(urgency) = value.parse::<u8>().ok().filter(|urgency| *urgency <= 7) {
                    priority.urgency = urgency;
                }
            }
            Some(("i", "?0")) => priority.incremental = false,
            Some(("i", "?1")) => priority.incremental = true,
            None if member == "i" => priority.incremental = true,
            _ => {}
        }
    }
    priority
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_read_as_rfc_9218_has_them() {
        let of = |urgency, incremental| Priority { urgency, incremental };
        for (field, priority) in [
            ("", of(3, false)),
            ("u=5, i", of(5, true)),
            ("i=?1,u=0", of(0, true)),
            ("i, i=?0", of(3, false)),
            ("u=8", of(3, false)),
            ("u=-1, x=9;u=2", of(3, false)),
            ("u=1;a=b , i;c", of(1, true)),
        ] {
            assert_eq!(parse(field.as_bytes()), priority, "{field}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_priority(field in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parse(&field).urgency <= 7);
        }
    }
}
