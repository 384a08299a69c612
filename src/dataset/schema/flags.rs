//! Labels of answers and weights of turns, in the spellings that files have.

use crate::dataset::record::{Node, Value};

/// The keys of a row that say whether its answer is a good one.
pub(in crate::dataset) const LABELS: [&str; 2] = ["label", "kto_tag"];

/// The keys of a turn that say whether it is trained on.
pub(in crate::dataset) const WEIGHTS: [&str; 7] =
    ["weight", "loss_weight", "loss", "loss_mask", "train", "training", "trainable"];

/// What a label says: true, 1, "true", "yes", "good", … or their opposites. `None` where it cannot be
/// told.
pub(in crate::dataset) fn label(node: &Node<'_>) -> Option<bool> {
    match &node.value {
        Value::Bool(label) => Some(*label),
        Value::Number => number(node.raw),
        Value::String(text) => {
            let text = text.trim().to_lowercase();
            match text.as_str() {
                "true" | "t" | "yes" | "y" | "good" | "positive" | "desirable" | "desired" | "chosen"
                | "accepted" | "correct" | "thumbs_up" | "+" => Some(true),
                "false" | "f" | "no" | "n" | "bad" | "negative" | "undesirable" | "undesired"
                | "rejected" | "incorrect" | "wrong" | "thumbs_down" | "-" => Some(false),
                number => self::number(number),
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

/// Of two weights the one that counts: one that says no is enough.
pub(super) fn lesser(one: Option<f32>, other: Option<f32>) -> Option<f32> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if one == 0.0 { one } else { other }),
        (one, other) => one.or(other),
    }
}

/// The weight that a value gives a turn: a number, true or false, or either as text. Null says nothing.
///
/// # Errors
/// What the value is instead.
pub(super) fn weight(node: &Node<'_>) -> Result<Option<f32>, String> {
    let number = |text: &str| text.trim().parse::<f32>().ok().filter(|weight| weight.is_finite());
    let weight = match &node.value {
        Value::Null => return Ok(None),
        Value::Bool(trained) => Some(f32::from(u8::from(*trained))),
        Value::Number => number(node.raw),
        Value::String(text) if text.trim().is_empty() => return Ok(None),
        Value::String(text) => match text.trim().to_lowercase().as_str() {
            "true" | "yes" => Some(1.0),
            "false" | "no" => Some(0.0),
            other => number(other),
        },
        _ => None,
    };
    match weight {
        Some(weight) => Ok(Some(weight)),
        None => Err(match node.str() {
            Some(text) => format!("the text {:?}", crate::display::cut(text, 20)),
            None => node.kind().into_owned(),
        }),
    }
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
        for none in ["0", "false", "0.0", "\"0\"", "\"false\"", "\"no\"", "-0.0"] {
            assert_eq!(weight(&parsed(none)), Ok(Some(0.0)), "{none}");
        }
        assert_eq!(weight(&parsed("true")), Ok(Some(1.0)));
        assert_eq!(weight(&parsed("\"0.5\"")), Ok(Some(0.5)));
        assert_eq!((weight(&parsed("null")), weight(&parsed("\"\""))), (Ok(None), Ok(None)));
        for other in ["[]", "{}", "1e400", "\"nan\"", "\"some\""] {
            assert!(weight(&parsed(other)).is_err(), "{other}");
        }
    }
}
