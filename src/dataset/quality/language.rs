//! Detects the language of a text: by its script first, and by its words where several languages share a script.

use std::sync::LazyLock;

use polars::prelude::PlHashMap;
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
/// is too little to tell.
///
/// The first 300 characters decide. A text with Chinese characters and no kana is Chinese, unless it
/// begins in another script and most of it is that script's: an English question about a Chinese
/// word. Latin, Cyrillic, Arabic and Devanagari texts are told apart by their trigrams (Cavnar &
/// Trenkle 1994, as in the crate whatlang), English by its commonest words first. A few words in
/// Latin letters are `und` where they are not plain: trigrams guess, and guess wrong.
///
/// # Examples
/// ```
/// use lorascope::dataset::language;
///
/// assert_eq!(language::of("小明有3个苹果，又买了5个。"), "zh");
/// assert_eq!(language::of("\"serendipity\" 的定义是什么？"), "zh");
/// assert_eq!(language::of("What is the sum of 3 and 5?"), "en");
/// assert_eq!(language::of("りんごが三つあります。"), "ja");
/// assert_eq!(language::of("3 + 5 = 8"), "und");
/// assert_eq!(language::of("hi"), "und");
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
        Some((letters, script)) if chinese > 0 && script != "zh" => {
            let begins = text.chars().find(|c| c.is_alphabetic());
            let about = letters >= ABOUT * chinese && !begins.is_some_and(is_han);
            match told(text, letters, script) {
                other if about && other != "und" && (other == "en" || script != "Latin") => other,
                _ => "zh",
            }
        }
        Some((letters, script)) => told(text, letters, script),
    }
}

/// How many times as many letters as Chinese ones, each counted as two, a text has that is about
/// Chinese and not in it.
const ABOUT: usize = 2;

fn is_han(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{3ffff}')
}

/// The language of a text of some letters in a script, or of one language's script.
fn told(text: &str, letters: usize, script: &'static str) -> &'static str {
    match script {
        "Latin" => latin(text, letters),
        "Cyrillic" | "Arabic" | "Devanagari" => {
            let usual = match script {
                "Cyrillic" => "ru",
                "Arabic" => "ar",
                _ => "hi",
            };
            whatlang::detect(text)
                .filter(|info| info.script().name() == script)
                .map_or(usual, |info| code(info.lang()))
        }
        code => code,
    }
}

impl Scripts {
    fn of(text: &str) -> Self {
        let mut new = Self::default();
        for c in text.chars() {
            match c {
                'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' => new.latin += 1,
                '\0'..='\u{bf}' => {}
                c if is_han(c) => new.han += 1,
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

/// Words that are English and hardly anything else; one of the first ones is enough for a text of few
/// words.
const ENGLISH: [&str; 88] = [
    "the",
    "that",
    "this",
    "what",
    "which",
    "how",
    "you",
    "your",
    "there",
    "who",
    "why",
    "i'm",
    "don't",
    "what's",
    "it's",
    "these",
    "those",
    "they",
    "does",
    "should",
    "would",
    "could",
    "good",
    "sort",
    "summarize",
    "classify",
    "implement",
    "generate",
    "convert",
    "suggest",
    "calculate",
    "rewrite",
    "solve",
    "create",
    "describe",
    "explain",
    "write",
    "translate",
    "identify",
    "provide",
    "yourself",
    "and",
    "with",
    "are",
    "have",
    "from",
    "many",
    "much",
    "each",
    "can",
    "their",
    "where",
    "when",
    "whose",
    "were",
    "been",
    "did",
    "than",
    "then",
    "about",
    "tell",
    "give",
    "make",
    "please",
    "our",
    "she",
    "his",
    "them",
    "into",
    "only",
    "some",
    "such",
    "following",
    "between",
    "because",
    "after",
    "before",
    "right",
    "know",
    "find",
    "other",
    "name",
    "call",
    "created",
    "developed",
    "number",
    "compute",
    "compare",
];
/// The first words of [`ENGLISH`] that are enough by themselves.
const ENOUGH: usize = 41;
/// Words that are English and also another language's.
const SHARED: [&str; 30] = [
    "a", "i", "is", "it", "in", "of", "to", "for", "on", "at", "an", "be", "by", "or", "if", "as", "do",
    "me", "my", "we", "he", "her", "was", "will", "not", "all", "has", "had", "so", "no",
];
/// The commonest words of other languages: they confirm what trigrams guess.
const COMMON: [(Lang, &str); 16] = [
    (Lang::Deu, "der die das ist ein eine und wie was ich mir nicht für von zu den es auf mit im dem du"),
    (Lang::Fra, "le la les des est une un et je que qui dans pour de du comment moi vous tu sur en au"),
    (Lang::Spa, "el la los las de que es un una y en por para cómo qué cuál se del con me"),
    (Lang::Ita, "il la le di che è un una e per come sono del della ci sull si quale qual con"),
    (Lang::Por, "o a os as de que é um uma e para como qual do da em no na por com"),
    (Lang::Nld, "de het een van en is wat hoe ik je niet voor op dat met zijn"),
    (Lang::Dan, "er og en et hvad hvor jeg det i ikke der på til af den"),
    (Lang::Nob, "er og en et hva hvor jeg det i ikke der på til av den"),
    (Lang::Swe, "är och en ett vad hur jag det i inte som på till av den"),
    (Lang::Pol, "jest i w na się nie jak co do z to ile tam czy"),
    (Lang::Ces, "je a v na se ne jak co do z to kolik tam"),
    (Lang::Ron, "este și o de la care un în cu ce pe din nu"),
    (Lang::Hun, "a az és egy hogy nem mi van mennyi"),
    (Lang::Tur, "ve bir bu ne için nedir kaç da de mi"),
    (Lang::Ind, "yang dan di apa itu ini untuk dengan dari adalah saya"),
    (Lang::Cat, "el la els les de que és un una i en per com què"),
];
/// Confidence of a guess from trigrams below which it is none, where common words confirm it, and where
/// nothing does: trigrams call an English sentence of few words French, Romanian or Danish.
const CONFIRMED: f64 = 0.2;
const FLOOR: f64 = 0.6;
/// Letters below which a guess that nothing confirms is none.
const LETTERS: usize = 100;

/// A text in Latin letters.
fn latin(text: &str, letters: usize) -> &'static str {
    let accent = |c| matches!(c, '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}') && c != '×' && c != '÷';
    let accents = text.chars().filter(|c| accent(*c)).count();
    let words = || {
        let words = text.split(|c: char| !c.is_ascii_alphabetic() && !matches!(c, '\'' | '’') && !accent(c));
        words.map(|word| word.trim_matches('\'')).filter(|word| !word.is_empty())
    };
    // Trigrams take longer than all other work on a row, and most Latin rows are plain English.
    let (mut all, mut plain, mut shared, mut enough) = (0usize, 0usize, 0usize, 0usize);
    let mut found = [false; ENGLISH.len()];
    for word in words() {
        all += 1;
        match known(word) {
            Some(at) if at < ENGLISH.len() => {
                plain += 1;
                found[at] = true;
                enough += usize::from(at < ENOUGH);
            }
            Some(_) => shared += 1,
            None => {}
        }
    }
    let different = found.iter().filter(|found| **found).count();
    let english = (2 * plain + shared) * 5 >= all && accents * 50 <= letters;
    if english && plain > 0 && different + shared >= 2 {
        return "en";
    }
    let guess = whatlang::detect(text).filter(|info| info.script() == whatlang::Script::Latin);
    let guess = guess.map(|info| (info.lang(), info.confidence()));
    let confirmed = |language: Lang| {
        let common = COMMON.iter().find(|(known, _)| *known == language).map_or("", |(_, words)| words);
        let is_common = |word: &str| {
            let word = word.to_lowercase();
            common.split(' ').any(|known| known == word)
        };
        let hits = words().filter(|word| is_common(word)).count();
        hits >= 2 || (hits == 1 && all <= 4)
    };
    match guess {
        Some((language, sure)) if language != Lang::Eng && sure > CONFIRMED && confirmed(language) => {
            code(language)
        }
        _ if english && enough > 0 => "en",
        Some((Lang::Eng, sure)) if letters >= 12 && sure > CONFIRMED => "en",
        Some((language, sure)) if letters >= LETTERS && sure >= FLOOR => code(language),
        // Letters that English has not.
        Some((language, sure)) if accents >= 2 && accents * 20 >= letters && sure >= FLOOR => code(language),
        _ => "und",
    }
}

/// The place of a word in [`ENGLISH`], or after these in [`SHARED`]; in any case, with either apostrophe.
fn known(word: &str) -> Option<usize> {
    static KNOWN: LazyLock<PlHashMap<&[u8], usize>> =
        LazyLock::new(|| ENGLISH.iter().chain(&SHARED).map(|word| word.as_bytes()).zip(0..).collect());
    let mut lower = [0; 12];
    let mut length = 0;
    for c in word.chars() {
        let c = if c == '’' { '\'' } else { c.to_ascii_lowercase() };
        *lower.get_mut(length)? = u8::try_from(c).ok().filter(u8::is_ascii)?;
        length += 1;
    }
    KNOWN.get(&lower[..length]).copied()
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
