//! `${VAR}` and `${VAR:-default}` inside scalars; `$$` is a dollar sign. Runs after the YAML was read, value by value, so a
//! variable can never add a key, a list entry or a comment. Keys are not expanded, and what a variable holds is not
//! expanded again.

/// Why a text could not be expanded, and from which character to which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexpanded {
    /// As written: the reference, for finding it in the source.
    pub reference: String,
    pub message: String,
    pub advice: String,
}

/// Expands every reference of `text`; `lookup` gives a variable's value.
///
/// # Errors
/// The first reference that is malformed, or unset and without a default.
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, Unexpanded> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(tail) = rest.strip_prefix("$$") {
            out.push('$');
            rest = tail;
        } else if let Some(inner) = rest.strip_prefix("${") {
            let Some(end) = inner.find('}') else {
                return Err(unexpanded(
                    rest,
                    "`${` without its `}`",
                    "close it, or write $${ for the characters themselves",
                ));
            };
            let reference = &rest[..end + 3];
            let (name, default) = match inner[..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&inner[..end], None),
            };
            if !is_name(name) {
                let advice =
                    "write ${NAME} or ${NAME:-default}; names have letters, digits and `_`; $$ is a dollar sign";
                return Err(unexpanded(reference, "this is not the name of a variable", advice));
            }
            // As in a shell, `:-` also covers a variable that is set but empty.
            match (lookup(name), default) {
                (Some(value), Some(default)) if value.is_empty() => out.push_str(default),
                (Some(value), _) => out.push_str(&value),
                (None, Some(default)) => out.push_str(default),
                (None, None) => {
                    let advice = format!(
                        "set it before the command ({name}=… reelgate …), or give a default: ${{{name}:-default}}"
                    );
                    return Err(unexpanded(reference, &format!("the variable `{name}` is not set"), &advice));
                }
            }
            rest = &inner[end + 1..];
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Writes `text` so that [`expand`] gives it back.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        out.push(character);
        if character == '$' && matches!(characters.peek(), Some('$' | '{')) {
            out.push('$');
        }
    }
    out
}

fn unexpanded(reference: &str, message: &str, advice: &str) -> Unexpanded {
    Unexpanded { reference: reference.to_owned(), message: message.to_owned(), advice: advice.to_owned() }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("/home/films".to_owned()),
            "EMPTY" => Some(String::new()),
            "SNEAKY" => Some("${HOME}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_defaults_and_dollar_signs() {
        for (text, expanded) in [
            ("${HOME}/a", "/home/films/a"),
            ("${NOT_SET:-b}", "b"),
            ("${EMPTY:-c}", "c"),
            ("${EMPTY}", ""),
            ("${NOT_SET:-}", ""),
            ("$$5, $1, $", "$5, $1, $"),
            ("$${HOME}", "${HOME}"),
            ("${SNEAKY}", "${HOME}"),
        ] {
            assert_eq!(expand(text, &environment).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn an_unset_variable_or_a_malformed_reference_is_an_error() {
        for text in ["${NOT_SET}", "${HOME", "${}", "${a b}", "${1}"] {
            assert!(expand(text, &environment).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_escaped_text_comes_back(text in "[$a{}:-]{0,12}") {
            prop_assert_eq!(expand(&escape(&text), &environment), Ok(text));
        }
    }
}
