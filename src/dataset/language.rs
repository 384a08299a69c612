//! Which language a text is in: by its script first, and by its words where a script serves many
//! languages.

use whatlang::Lang;

/// Characters that are looked at.
const CHARACTERS: usize = 300;

/// Letters of a text by script.
#[derive(Default)]
struct Scripts {
    han: usize,
    kana: usize,
    hangul: usize,
    latin: usize,
    cyrillic: usize,
    arabic: usize,
    devanagari: usize,
    /// Scripts of one language each, with its code.
    others: [usize; OTHERS.len()],
}

/// Scripts that are written in one language, by the first and the last character.
const OTHERS: [(char, char, &str); 13] = [
    ('\u{0370}', '\u{03ff}', "el"),
    ('\u{0530}', '\u{058f}', "hy"),
    ('\u{0590}', '\u{05ff}', "he"),
    ('\u{0980}', '\u{09ff}', "bn"),
    ('\u{0a00}', '\u{0a7f}', "pa"),
    ('\u{0a80}', '\u{0aff}', "gu"),
    ('\u{0b80}', '\u{0bff}', "ta"),
    ('\u{0c00}', '\u{0c7f}', "te"),
    ('\u{0c80}', '\u{0cff}', "kn"),
    ('\u{0d00}', '\u{0d7f}', "ml"),
    ('\u{0e00}', '\u{0e7f}', "th"),
    ('\u{1000}', '\u{109f}', "my"),
    ('\u{10a0}', '\u{10ff}', "ka"),
];

/// The language of a text as a code of ISO 639-1: `zh`, `en`, `ja`, `ko`, `ru`, …; `und` where there
/// are too few letters to tell.
///
/// The first 300 characters decide. A Chinese character counts as two letters, about what it takes
/// in other scripts. Latin, Cyrillic, Arabic and Devanagari texts are told apart by their trigrams
/// (Cavnar & Trenkle 1994, as in the crate whatlang), plain English by its commonest words.
///
/// # Examples
/// ```
/// use lorascope::dataset::language;
///
/// assert_eq!(language::of("小明有3个苹果，又买了5个。"), "zh");
/// assert_eq!(language::of("What is the sum of 3 and 5?"), "en");
/// assert_eq!(language::of("りんごが三つあります。"), "ja");
/// assert_eq!(language::of("3 + 5 = 8"), "und");
/// ```
pub fn of(text: &str) -> &'static str {
    let end = text.char_indices().nth(CHARACTERS).map_or(text.len(), |(end, _)| end);
    let text = &text[..end];
    let scripts = Scripts::of(text);
    let kana = scripts.kana;
    // Japanese mixes both; a name in kana does not make a Chinese text Japanese.
    let (chinese, japanese) = match kana * 10 > scripts.han {
        true => (0, 2 * (scripts.han + kana)),
        false => (2 * scripts.han, 0),
    };
    let one = scripts.others.iter().zip(OTHERS).map(|(count, (_, _, code))| (*count, code));
    let many = [
        (chinese, "zh"),
        (japanese, "ja"),
        (2 * scripts.hangul, "ko"),
        (scripts.latin, "Latin"),
        (scripts.cyrillic, "Cyrillic"),
        (scripts.arabic, "Arabic"),
        (scripts.devanagari, "Devanagari"),
    ];
    // The first of equals.
    let most = many.into_iter().chain(one).rev().max_by_key(|(count, _)| *count);
    match most {
        None | Some((0, _)) => "und",
        Some((letters, "Latin")) => latin(text, letters),
        Some((_, script @ ("Cyrillic" | "Arabic" | "Devanagari"))) => {
            let usual = match script {
                "Cyrillic" => "ru",
                "Arabic" => "ar",
                _ => "hi",
            };
            whatlang::detect(text)
                .filter(|info| info.script().name() == script)
                .map_or(usual, |info| code(info.lang()))
        }
        Some((_, code)) => code,
    }
}

impl Scripts {
    fn of(text: &str) -> Self {
        let mut new = Self::default();
        for c in text.chars() {
            match c {
                'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' => new.latin += 1,
                '\0'..='\u{bf}' => {}
                '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{3ffff}' => new.han += 1,
                '\u{3041}'..='\u{30ff}' => new.kana += 1,
                '\u{ac00}'..='\u{d7a3}' | '\u{1100}'..='\u{11ff}' => new.hangul += 1,
                '\u{0400}'..='\u{052f}' => new.cyrillic += 1,
                '\u{0600}'..='\u{077f}' => new.arabic += 1,
                '\u{0900}'..='\u{097f}' => new.devanagari += 1,
                c => {
                    let script = OTHERS.iter().position(|(first, last, _)| (*first..=*last).contains(&c));
                    if let Some(script) = script {
                        new.others[script] += 1;
                    }
                }
            }
        }
        new
    }
}

/// A text in Latin letters.
fn latin(text: &str, letters: usize) -> &'static str {
    // Trigrams take longer than all other work on a row, and most Latin rows are plain English.
    const ENGLISH: [&str; 24] = [
        "the", "and", "that", "this", "with", "what", "which", "how", "are", "you", "your", "have", "from",
        "there", "they", "many", "much", "does", "each", "would", "can", "should", "their", "where",
    ];
    // Letters of other scripts may stand between; those with accents are not English.
    if !text.contains(|c| matches!(c, '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}') && c != '×' && c != '÷')
    {
        let words =
            text.split(|c: char| !c.is_ascii_alphabetic() && c != '\'').filter(|word| !word.is_empty());
        let (mut all, mut found) = (0usize, [false; ENGLISH.len()]);
        let mut hits = 0;
        for word in words {
            all += 1;
            if let Some(at) = ENGLISH.iter().position(|known| known.eq_ignore_ascii_case(word)) {
                hits += 1;
                found[at] = true;
            }
        }
        if found.iter().filter(|found| **found).count() >= 2 && hits * 12 >= all {
            return "en";
        }
    }
    match whatlang::detect(text).filter(|info| info.script() == whatlang::Script::Latin) {
        Some(info) if info.is_reliable() => code(info.lang()),
        // A few words: the best guess, if there is enough to guess from.
        Some(info) if letters >= 12 && info.confidence() > 0.3 => code(info.lang()),
        _ => "und",
    }
}

/// ISO 639-1, and 639-3 for the rest.
fn code(language: Lang) -> &'static str {
    match language {
        Lang::Epo => "eo",
        Lang::Eng => "en",
        Lang::Rus => "ru",
        Lang::Cmn => "zh",
        Lang::Spa => "es",
        Lang::Por => "pt",
        Lang::Ita => "it",
        Lang::Ben => "bn",
        Lang::Fra => "fr",
        Lang::Deu => "de",
        Lang::Ukr => "uk",
        Lang::Kat => "ka",
        Lang::Ara => "ar",
        Lang::Hin => "hi",
        Lang::Jpn => "ja",
        Lang::Heb => "he",
        Lang::Yid => "yi",
        Lang::Pol => "pl",
        Lang::Amh => "am",
        Lang::Jav => "jv",
        Lang::Kor => "ko",
        Lang::Nob => "nb",
        Lang::Dan => "da",
        Lang::Swe => "sv",
        Lang::Fin => "fi",
        Lang::Tur => "tr",
        Lang::Nld => "nl",
        Lang::Hun => "hu",
        Lang::Ces => "cs",
        Lang::Ell => "el",
        Lang::Bul => "bg",
        Lang::Bel => "be",
        Lang::Mar => "mr",
        Lang::Kan => "kn",
        Lang::Ron => "ro",
        Lang::Slv => "sl",
        Lang::Hrv => "hr",
        Lang::Srp => "sr",
        Lang::Mkd => "mk",
        Lang::Lit => "lt",
        Lang::Lav => "lv",
        Lang::Est => "et",
        Lang::Tam => "ta",
        Lang::Vie => "vi",
        Lang::Urd => "ur",
        Lang::Tha => "th",
        Lang::Guj => "gu",
        Lang::Uzb => "uz",
        Lang::Pan => "pa",
        Lang::Aze => "az",
        Lang::Ind => "id",
        Lang::Tel => "te",
        Lang::Pes => "fa",
        Lang::Mal => "ml",
        Lang::Mya => "my",
        Lang::Nep => "ne",
        Lang::Khm => "km",
        Lang::Tgl => "tl",
        Lang::Afr => "af",
        Lang::Cat => "ca",
        Lang::Slk => "sk",
        other => other.code(),
    }
}
