//! Labels of answers and weights of turns, in the spellings that files have.

use crate::format::record::{Node, Value};

/// The keys of a row that say whether its answer is a good one.
pub(crate) const LABELS: [&str; 2] = ["label", "kto_tag"];

/// What the value of a key that marks a turn says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// How much the turn is trained on; nothing, or false, means not at all.
    Trained,
    /// True means that the turn is not trained on.
    Hidden,
    /// Which parts of the turn are trained on: a list, which says nothing only where it is empty.
    Parts,
}

/// The keys of a turn that say whether it is trained on, in small letters without what joins words.
const MARKS: [(&str, Mark); 18] = [
    ("weight", Mark::Trained),
    ("lossweight", Mark::Trained),
    ("loss", Mark::Trained),
    ("lossmask", Mark::Trained),
    ("train", Mark::Trained),
    ("training", Mark::Trained),
    ("trainable", Mark::Trained),
    ("trained", Mark::Trained),
    ("istrain", Mark::Trained),
    ("istrained", Mark::Trained),
    ("istrainable", Mark::Trained),
    ("trainonturn", Mark::Trained),
    ("trainweight", Mark::Trained),
    ("masked", Mark::Hidden),
    ("ismasked", Mark::Hidden),
    ("outputwithloss", Mark::Trained),
    ("traindetail", Mark::Parts),
    ("trainingdetail", Mark::Parts),
];

/// What a key says of its turn, in whatever way its words are joined: `loss_weight`, `loss-weight`,
/// `lossWeight`, `LOSS WEIGHT`. `None` of every other key.
pub(crate) fn mark(key: &str) -> Option<Mark> {
    const LONGEST: usize = 14;
    let mut word = [0; LONGEST];
    let mut length = 0;
    for byte in key.bytes().filter(|byte| !matches!(byte, b'_' | b'-' | b'.' | b' ')) {
        *word.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
    }
    let word = &word[..length];
    MARKS.iter().find(|(name, _)| name.as_bytes() == word).map(|(_, mark)| *mark)
}

/// Whether a key that marks a turn may mean something else of a whole row: `"train": "set a"`,
/// `"loss": "mse"`.
pub(crate) fn means_more(key: &str) -> bool {
    ["loss", "train", "training", "trained"].iter().any(|word| word.eq_ignore_ascii_case(key))
}

/// What a word says that is a truth value, in small letters.
fn truth(word: &str) -> Option<bool> {
    match word {
        "true" | "t" | "yes" | "y" | "on" => Some(true),
        "false" | "f" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

/// What a label says: true, 1, "true", "yes", "good", … or their opposites. `None` where it cannot be
/// told.
pub(crate) fn label(node: &Node<'_>) -> Option<bool> {
    match &node.value {
        Value::Bool(label) => Some(*label),
        Value::Number => number(node.raw),
        Value::String(text) => {
            let text = text.trim().to_lowercase();
            match text.as_str() {
                "good" | "positive" | "desirable" | "desired" | "chosen" | "accepted" | "correct"
                | "thumbs_up" | "+" => Some(true),
                "bad" | "negative" | "undesirable" | "undesired" | "rejected" | "incorrect" | "wrong"
                | "thumbs_down" | "-" => Some(false),
                other => truth(other).or_else(|| number(other)),
            }
        }
        _ => None,
    }
}

/// 1 is good; 0 and −1 are bad.
fn number(text: &str) -> Option<bool> {
    match text.parse::<f64>().ok()? {
        1.0 => Some(true),
        0.0 | -1.0 => Some(false),
        _ => None,
    }
}

/// Of two weights the one that counts: one that says no is enough, and a plain yes says less than a
/// number.
pub(crate) fn lesser(one: Option<f32>, other: Option<f32>) -> Option<f32> {
    match (one, other) {
        (Some(one), Some(other)) => Some(match one == 0.0 || other == 1.0 {
            true => one,
            false => other,
        }),
        (one, other) => one.or(other),
    }
}

/// The weight that a value gives a turn: a number from 0, true or false, or either as text; under a key
/// that hides, the opposite of a truth value. Null and a blank text say nothing.
///
/// # Errors
/// What the value is instead.
pub(crate) fn weight(mark: Mark, node: &Node<'_>) -> Result<Option<f32>, String> {
    let number = |text: &str| text.trim().parse::<f32>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    let word = node.str().map(|text| text.trim().to_lowercase());
    let said = match (&node.value, &word) {
        (Value::Bool(said), _) => Some(f32::from(u8::from(*said))),
        (Value::Number, _) => number(node.raw),
        (Value::Null, _) => return Ok(None),
        (_, Some(word)) if word.is_empty() => return Ok(None),
        (_, Some(word)) => truth(word).map(|said| f32::from(u8::from(said))).or_else(|| number(word)),
        _ => None,
    };
    let weight = match mark {
        Mark::Trained => said,
        Mark::Hidden => said.filter(|said| [0.0, 1.0].contains(said)).map(|said| 1.0 - said),
        Mark::Parts => match node.array() {
            Some([]) => return Ok(None),
            Some(_) => return Err("a list of parts".to_string()),
            None => None,
        },
    };
    match weight {
        Some(weight) => Ok(Some(weight)),
        None => Err(match node.str() {
            Some(text) => format!("the text {:?}", crate::display::cut(text, 20)),
            None => node.kind().into_owned(),
        }),
    }
}

/// The weight that a content part has, if it has one.
pub(super) fn weight_of(part: &Node<'_>) -> Result<Option<f32>, String> {
    let mut found = None;
    for (key, node) in part.object().into_iter().flatten() {
        let Some(mark) = mark(key) else { continue };
        let said = weight(mark, node);
        let said = said.map_err(|what| {
            format!("has {what} under `{key}`, which does not say whether it is trained on")
        })?;
        found = lesser(found, said);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        let parsed = |json: &'static str| Node::parse(json).unwrap();
        for good in
            ["true", "1", "1.0", "\"true\"", "\" True \"", "\"yes\"", "\"1\"", "\"good\"", "\"desirable\""]
        {
            assert_eq!(label(&parsed(good)), Some(true), "{good}");
        }
        for bad in
            ["false", "0", "0.0", "-1", "\"false\"", "\"FALSE\"", "\"0\"", "\"bad\"", "\"undesirable\""]
        {
            assert_eq!(label(&parsed(bad)), Some(false), "{bad}");
        }
        for other in ["2", "0.5", "\"maybe\"", "\"\"", "[]", "{}"] {
            assert_eq!(label(&parsed(other)), None, "{other}");
        }
        let weight = |node: &Node<'_>| weight(Mark::Trained, node);
        for none in ["0", "false", "0.0", "\"0\"", "\"false\"", "\"no\"", "-0.0", "\"off\"", "\"F\"", "\"N\""]
        {
            assert_eq!(weight(&parsed(none)), Ok(Some(0.0)), "{none}");
        }
        assert_eq!(weight(&parsed("true")), Ok(Some(1.0)));
        assert_eq!(weight(&parsed("\"0.5\"")), Ok(Some(0.5)));
        assert_eq!((weight(&parsed("null")), weight(&parsed("\"\""))), (Ok(None), Ok(None)));
        for yes in ["\"on\"", "\"T\"", "\" Y \"", "1"] {
            assert_eq!(weight(&parsed(yes)), Ok(Some(1.0)), "{yes}");
        }
        for other in ["[]", "{}", "1e400", "\"nan\"", "\"some\"", "-1", "\"-0.5\"", "\"inf\""] {
            assert!(weight(&parsed(other)).is_err(), "{other}");
        }
    }

    #[test]
    fn keys_in_every_spelling() {
        for (_, words) in [
            (1, ["loss_weight", "loss-weight", "lossWeight", "LossWeight", "LOSS_WEIGHT", "loss weight"]),
            (2, ["is_train", "isTrain", "train_on_turn", "train-on-turn", "trainOnTurn", "Trainable"]),
        ] {
            words.iter().for_each(|key| assert_eq!(mark(key), Some(Mark::Trained), "{key}"));
        }
        assert_eq!((mark("masked"), mark("isMasked")), (Some(Mark::Hidden), Some(Mark::Hidden)));
        for other in ["", "_", "weights", "mask", "train_details", "losses", "very_long_loss_weight"] {
            assert_eq!(mark(other), None, "{other}");
        }
        let hidden = |json: &'static str| weight(Mark::Hidden, &Node::parse(json).unwrap());
        assert_eq!(
            (hidden("true"), hidden("0"), hidden("\"on\"")),
            (Ok(Some(0.0)), Ok(Some(1.0)), Ok(Some(0.0)))
        );
        assert_eq!(hidden("null"), Ok(None));
        assert!(hidden("0.5").is_err() && hidden("-1").is_err());
        // Of a turn all is trained on or nothing.
        let parts = |json: &'static str| weight(Mark::Parts, &Node::parse(json).unwrap());
        assert_eq!((mark("train_detail"), mark("training-detail")), (Some(Mark::Parts), Some(Mark::Parts)));
        assert_eq!((parts("null"), parts("[]")), (Ok(None), Ok(None)));
        assert_eq!(parts(r#"[{"begin_offset": 0, "train": false}]"#), Err("a list of parts".to_string()));
        assert!(parts("true").is_err());
        // A plain yes takes nothing from a number, and one no is enough.
        assert_eq!(lesser(Some(0.5), Some(1.0)), Some(0.5));
        assert_eq!(lesser(Some(1.0), Some(0.5)), Some(0.5));
        assert_eq!(lesser(Some(0.5), Some(0.0)), Some(0.0));
    }
}
