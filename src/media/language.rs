//! Languages as files name them (ISO 639-2, three letters, in two spellings) → as manifests name them (BCP 47, RFC 5646: two letters
//! where there are two).
//!
//! Invariant: what goes out is a well-formed language tag, whatever came in.

/// ISO 639-2/T, 639-2/B, ISO 639-1, the English name.
#[rustfmt::skip]
const LANGUAGES: [(&str, &str, &str, &str); 184] = [
    ("aar", "aar", "aa", "Afar"), ("abk", "abk", "ab", "Abkhazian"), ("afr", "afr", "af", "Afrikaans"),
    ("aka", "aka", "ak", "Akan"), ("amh", "amh", "am", "Amharic"), ("ara", "ara", "ar", "Arabic"),
    ("arg", "arg", "an", "Aragonese"), ("asm", "asm", "as", "Assamese"), ("ava", "ava", "av", "Avaric"),
    ("ave", "ave", "ae", "Avestan"), ("aym", "aym", "ay", "Aymara"), ("aze", "aze", "az", "Azerbaijani"),
    ("bak", "bak", "ba", "Bashkir"), ("bam", "bam", "bm", "Bambara"), ("bel", "bel", "be", "Belarusian"),
    ("ben", "ben", "bn", "Bangla"), ("bih", "bih", "bh", "Bihari languages"), ("bis", "bis", "bi", "Bislama"),
    ("bod", "tib", "bo", "Tibetan"), ("bos", "bos", "bs", "Bosnian"), ("bre", "bre", "br", "Breton"),
    ("bul", "bul", "bg", "Bulgarian"), ("cat", "cat", "ca", "Catalan"), ("ces", "cze", "cs", "Czech"),
    ("cha", "cha", "ch", "Chamorro"), ("che", "che", "ce", "Chechen"), ("chu", "chu", "cu", "Church Slavic"),
    ("chv", "chv", "cv", "Chuvash"), ("cor", "cor", "kw", "Cornish"), ("cos", "cos", "co", "Corsican"),
    ("cre", "cre", "cr", "Cree"), ("cym", "wel", "cy", "Welsh"), ("dan", "dan", "da", "Danish"),
    ("deu", "ger", "de", "German"), ("div", "div", "dv", "Divehi"), ("dzo", "dzo", "dz", "Dzongkha"),
    ("ell", "gre", "el", "Greek"), ("eng", "eng", "en", "English"), ("epo", "epo", "eo", "Esperanto"),
    ("est", "est", "et", "Estonian"), ("eus", "baq", "eu", "Basque"), ("ewe", "ewe", "ee", "Ewe"),
    ("fao", "fao", "fo", "Faroese"), ("fas", "per", "fa", "Persian"), ("fij", "fij", "fj", "Fijian"),
    ("fin", "fin", "fi", "Finnish"), ("fra", "fre", "fr", "French"), ("fry", "fry", "fy", "Western Frisian"),
    ("ful", "ful", "ff", "Fulah"), ("gla", "gla", "gd", "Gaelic"), ("gle", "gle", "ga", "Irish"),
    ("glg", "glg", "gl", "Galician"), ("glv", "glv", "gv", "Manx"), ("grn", "grn", "gn", "Guarani"),
    ("guj", "guj", "gu", "Gujarati"), ("hat", "hat", "ht", "Haitian"), ("hau", "hau", "ha", "Hausa"),
    ("heb", "heb", "he", "Hebrew"), ("her", "her", "hz", "Herero"), ("hin", "hin", "hi", "Hindi"),
    ("hmo", "hmo", "ho", "Hiri Motu"), ("hrv", "hrv", "hr", "Croatian"), ("hun", "hun", "hu", "Hungarian"),
    ("hye", "arm", "hy", "Armenian"), ("ibo", "ibo", "ig", "Igbo"), ("ido", "ido", "io", "Ido"),
    ("iii", "iii", "ii", "Sichuan Yi"), ("iku", "iku", "iu", "Inuktitut"), ("ile", "ile", "ie", "Interlingue"),
    ("ina", "ina", "ia", "Interlingua"), ("ind", "ind", "id", "Indonesian"), ("ipk", "ipk", "ik", "Inupiaq"),
    ("isl", "ice", "is", "Icelandic"), ("ita", "ita", "it", "Italian"), ("jav", "jav", "jv", "Javanese"),
    ("jpn", "jpn", "ja", "Japanese"), ("kal", "kal", "kl", "Kalaallisut"), ("kan", "kan", "kn", "Kannada"),
    ("kas", "kas", "ks", "Kashmiri"), ("kat", "geo", "ka", "Georgian"), ("kau", "kau", "kr", "Kanuri"),
    ("kaz", "kaz", "kk", "Kazakh"), ("khm", "khm", "km", "Central Khmer"), ("kik", "kik", "ki", "Kikuyu"),
    ("kin", "kin", "rw", "Kinyarwanda"), ("kir", "kir", "ky", "Kirghiz"), ("kom", "kom", "kv", "Komi"),
    ("kon", "kon", "kg", "Kongo"), ("kor", "kor", "ko", "Korean"), ("kua", "kua", "kj", "Kuanyama"),
    ("kur", "kur", "ku", "Kurdish"), ("lao", "lao", "lo", "Lao"), ("lat", "lat", "la", "Latin"),
    ("lav", "lav", "lv", "Latvian"), ("lim", "lim", "li", "Limburgan"), ("lin", "lin", "ln", "Lingala"),
    ("lit", "lit", "lt", "Lithuanian"), ("ltz", "ltz", "lb", "Luxembourgish"), ("lub", "lub", "lu", "Luba-Katanga"),
    ("lug", "lug", "lg", "Ganda"), ("mah", "mah", "mh", "Marshallese"), ("mal", "mal", "ml", "Malayalam"),
    ("mar", "mar", "mr", "Marathi"), ("mkd", "mac", "mk", "Macedonian"), ("mlg", "mlg", "mg", "Malagasy"),
    ("mlt", "mlt", "mt", "Maltese"), ("mon", "mon", "mn", "Mongolian"), ("mri", "mao", "mi", "Maori"),
    ("msa", "may", "ms", "Malay"), ("mya", "bur", "my", "Burmese"), ("nau", "nau", "na", "Nauru"),
    ("nav", "nav", "nv", "Navajo"), ("nbl", "nbl", "nr", "South Ndebele"), ("nde", "nde", "nd", "North Ndebele"),
    ("ndo", "ndo", "ng", "Ndonga"), ("nep", "nep", "ne", "Nepali"), ("nld", "dut", "nl", "Dutch"),
    ("nno", "nno", "nn", "Norwegian Nynorsk"), ("nob", "nob", "nb", "Norwegian Bokmål"),
    ("nor", "nor", "no", "Norwegian"), ("nya", "nya", "ny", "Chichewa"), ("oci", "oci", "oc", "Occitan"),
    ("oji", "oji", "oj", "Ojibwa"), ("ori", "ori", "or", "Oriya"), ("orm", "orm", "om", "Oromo"),
    ("oss", "oss", "os", "Ossetian"), ("pan", "pan", "pa", "Panjabi"), ("pli", "pli", "pi", "Pali"),
    ("pol", "pol", "pl", "Polish"), ("por", "por", "pt", "Portuguese"), ("pus", "pus", "ps", "Pushto"),
    ("que", "que", "qu", "Quechua"), ("roh", "roh", "rm", "Romansh"), ("ron", "rum", "ro", "Romanian"),
    ("run", "run", "rn", "Rundi"), ("rus", "rus", "ru", "Russian"), ("sag", "sag", "sg", "Sango"),
    ("san", "san", "sa", "Sanskrit"), ("sin", "sin", "si", "Sinhala"), ("slk", "slo", "sk", "Slovak"),
    ("slv", "slv", "sl", "Slovenian"), ("sme", "sme", "se", "Northern Sami"), ("smo", "smo", "sm", "Samoan"),
    ("sna", "sna", "sn", "Shona"), ("snd", "snd", "sd", "Sindhi"), ("som", "som", "so", "Somali"),
    ("sot", "sot", "st", "Southern Sotho"), ("spa", "spa", "es", "Spanish"), ("sqi", "alb", "sq", "Albanian"),
    ("srd", "srd", "sc", "Sardinian"), ("srp", "srp", "sr", "Serbian"), ("ssw", "ssw", "ss", "Swati"),
    ("sun", "sun", "su", "Sundanese"), ("swa", "swa", "sw", "Swahili"), ("swe", "swe", "sv", "Swedish"),
    ("tah", "tah", "ty", "Tahitian"), ("tam", "tam", "ta", "Tamil"), ("tat", "tat", "tt", "Tatar"),
    ("tel", "tel", "te", "Telugu"), ("tgk", "tgk", "tg", "Tajik"), ("tgl", "tgl", "tl", "Tagalog"),
    ("tha", "tha", "th", "Thai"), ("tir", "tir", "ti", "Tigrinya"), ("ton", "ton", "to", "Tonga"),
    ("tsn", "tsn", "tn", "Tswana"), ("tso", "tso", "ts", "Tsonga"), ("tuk", "tuk", "tk", "Turkmen"),
    ("tur", "tur", "tr", "Turkish"), ("twi", "twi", "tw", "Twi"), ("uig", "uig", "ug", "Uighur"),
    ("ukr", "ukr", "uk", "Ukrainian"), ("urd", "urd", "ur", "Urdu"), ("uzb", "uzb", "uz", "Uzbek"),
    ("ven", "ven", "ve", "Venda"), ("vie", "vie", "vi", "Vietnamese"), ("vol", "vol", "vo", "Volapük"),
    ("wln", "wln", "wa", "Walloon"), ("wol", "wol", "wo", "Wolof"), ("xho", "xho", "xh", "Xhosa"),
    ("yid", "yid", "yi", "Yiddish"), ("yor", "yor", "yo", "Yoruba"), ("zha", "zha", "za", "Zhuang"),
    ("zho", "chi", "zh", "Chinese"), ("zul", "zul", "zu", "Zulu"),
];

/// Letters of the longest tag taken: `zh-Hant-TW` and the like.
const TAG_BYTES_MAX: usize = 16;

/// The tag of a language: from `eng`, `fre`, `fra`, `fr` or a tag. None where it is unknown (`und`) or no language at all.
pub fn tag(said: &str) -> Option<String> {
    let (primary, rest) = said.split_once('-').map_or((said, None), |(primary, rest)| (primary, Some(rest)));
    let primary = primary.to_ascii_lowercase();
    let letters = (2..=3).contains(&primary.len()) && primary.bytes().all(|byte| byte.is_ascii_lowercase());
    if !letters || said.len() > TAG_BYTES_MAX || matches!(primary.as_str(), "und" | "mis") {
        return None;
    }
    let known = LANGUAGES.iter().find(|(t, b, ..)| *t == primary || *b == primary);
    let primary = known.map_or(primary.as_str(), |(_, _, short, _)| short);
    // RFC 5646 §2.1: subtags of up to eight letters and digits.
    let part = |part: &str| (2..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    Some(match rest {
        Some(rest) if rest.split('-').all(part) => format!("{primary}-{rest}"),
        Some(_) => return None,
        None => primary.to_owned(),
    })
}

/// The English name of a tag's language.
pub fn name(tag: &str) -> Option<&'static str> {
    let primary = tag.split('-').next()?;
    LANGUAGES.iter().find(|(_, _, short, _)| *short == primary).map(|(.., name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_spellings_become_the_short_one() {
        for (said, expected) in [
            ("eng", "en"),
            ("fre", "fr"),
            ("fra", "fr"),
            ("GER", "de"),
            ("en", "en"),
            ("pt-BR", "pt-BR"),
            ("por-BR", "pt-BR"),
            ("gsw", "gsw"),
        ] {
            assert_eq!(tag(said).as_deref(), Some(expected), "{said}");
        }
        for said in ["", "und", "e", "english", "e\"x", "en-", "en-\"", "mis"] {
            assert_eq!(tag(said), None, "{said}");
        }
        assert_eq!((name("pt-BR"), name("gsw")), (Some("Portuguese"), None));
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_a_tag_is_its_own_tag(said in "\\PC{0,12}|[a-z]{2,3}(-[A-Z]{2})?") {
            if let Some(found) = tag(&said) {
                prop_assert!(found.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
                prop_assert_eq!(tag(&found), Some(found.clone()));
            }
        }
    }
}
