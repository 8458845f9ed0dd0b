//! Names as people search for them: without regard to case, accents and the order of words. Pure.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Words of a query beyond this are not looked at.
const WORDS_MAX: usize = 16;

/// A text with case and accents taken away: `Ænima Élan` is `aenima elan`. What has no decomposition in Unicode is written as
/// those write it who lack the letter.
pub fn folded(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    // Again after the lower case, which may bring marks of its own.
    let letters = text.nfkd().flat_map(char::to_lowercase).nfkd();
    for character in letters.filter(|character| !is_combining_mark(*character)) {
        match character {
            'ß' => plain.push_str("ss"),
            'æ' => plain.push_str("ae"),
            'œ' => plain.push_str("oe"),
            'þ' => plain.push_str("th"),
            'ø' => plain.push('o'),
            'ł' => plain.push('l'),
            'đ' | 'ð' => plain.push('d'),
            'ı' => plain.push('i'),
            other => plain.push(other),
        }
    }
    plain
}

/// What somebody looks for: a name matches if it holds every word, anywhere.
#[derive(Debug)]
pub struct Query {
    words: Vec<String>,
}

impl Query {
    pub fn new(text: &str) -> Self {
        Self { words: folded(text).split_whitespace().take(WORDS_MAX).map(str::to_owned).collect() }
    }

    /// `name` is [`folded`].
    pub fn matches(&self, name: &str) -> bool {
        self.words.iter().all(|word| name.contains(word.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_found_in_any_order_without_case_and_accents() {
        let finds = |query, name| Query::new(query).matches(&folded(name));
        for query in ["", "  ", "amelie", "AMÉLIE poulain", "poulain le fabuleux", "2001 Ame", "Ame\u{301}lie"] {
            assert!(finds(query, "Le fabuleux destin d'Amélie Poulain (2001)"), "{query}");
        }
        assert!(!finds("amelie 2002", "Le fabuleux destin d'Amélie Poulain (2001)"));
        for (query, name) in [("strasse", "Straße"), ("oresund", "Øresund"), ("istanbul", "İSTANBUL"), ("lodz", "Łódź")]
        {
            assert!(finds(query, name) && finds(name, name), "{query}");
        }
        assert!(finds("東京", "東京物語"));
    }

    proptest! {
        #[test]
        fn folding_is_done_after_once_and_a_name_finds_itself(name in "\\PC{0,60}") {
            let once = folded(&name);
            prop_assert_eq!(folded(&once), once.clone());
            prop_assert!(Query::new(&name).matches(&once));
        }
    }
}
