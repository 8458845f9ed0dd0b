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

/// The least urgent: "reserved for delivery of background tasks" (RFC 9218, section 4.1).
pub const BACKGROUND: u8 = 7;

/// Longer than this a line says nothing we know.
const BYTES_MAX: usize = 256;

/// Reads what PRIORITY_UPDATE carries, or the one line of a `Priority` field. What is not understood is as if it were not there (RFC
/// 9218, section 4).
pub fn parse(field: &[u8]) -> Priority {
    let mut priority = Priority::default();
    read(&mut priority, field);
    priority
}

/// Reads a `Priority` field of several lines: they are one dictionary, in which the last value of a key counts (RFC 8941, sections
/// 3.2 and 4.2). None: there is no line.
pub fn parse_lines<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<Priority> {
    let mut lines = lines.into_iter().peekable();
    lines.peek()?;
    let mut priority = Priority::default();
    lines.for_each(|line| read(&mut priority, line));
    Some(priority)
}

fn read(priority: &mut Priority, line: &[u8]) {
    let Some(text) = std::str::from_utf8(line).ok().filter(|text| text.len() <= BYTES_MAX) else { return };
    for member in text.split(',') {
        // Parameters of a member mean nothing here (RFC 8941, section 3.2).
        let member = member.split(';').next().unwrap_or("").trim_matches([' ', '\t']);
        let (key, value) = member.split_once('=').unwrap_or((member, "?1"));
        // A value that is none of its key's still takes the place of the one before it, and only then is ignored.
        match key {
            "u" => {
                let urgency = value.parse().ok().filter(|urgency| *urgency <= 7);
                priority.urgency = urgency.unwrap_or(Priority::default().urgency);
            }
            "i" => priority.incremental = value == "?1",
            _ => {}
        }
    }
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
            ("u=1, u=9, i, i=1", of(3, false)),
            ("u, i=\"?1\"", of(3, false)),
        ] {
            assert_eq!(parse(field.as_bytes()), priority, "{field}");
        }
    }

    #[test]
    fn several_lines_are_one_dictionary() {
        let of = |urgency, incremental| Some(Priority { urgency, incremental });
        for (lines, priority) in [
            (&[][..], None),
            (&[""], of(3, false)),
            (&["u=1", "i"], of(1, true)),
            (&["u=1, i", "u=6"], of(6, true)),
            (&["u=6", "u=1", "i=?0"], of(1, false)),
            (&["u=1", "u=9"], of(3, false)),
        ] {
            assert_eq!(parse_lines(lines.iter().map(|line| line.as_bytes())), priority, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_priority(field in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parse(&field).urgency <= 7);
            prop_assert_eq!(parse_lines([&field[..]]), Some(parse(&field)));
        }
    }
}
