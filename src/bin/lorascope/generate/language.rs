//! The language of a problem: how it is asked, and how its steps are written.

use super::draft::Draft;
use super::draw::Draw;

/// The language of a kind, by its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Chinese,
    English,
}

impl Language {
    pub fn of(kind: &str) -> Self {
        if kind.starts_with("zh") { Self::Chinese } else { Self::English }
    }

    /// The question as instruction and input.
    pub fn ask(self, draw: &mut Draw, question: String) -> (String, String) {
        if draw.chance(6) {
            let task = match self {
                Self::Chinese => draw.pick(&["解答下面的应用题。", "请计算：", "请一步一步解题。"]),
                Self::English => draw.pick(&["Solve the problem.", "Answer step by step."]),
            };
            return (task.to_string(), question);
        }
        let opening = match self {
            Self::Chinese => draw.pick(&["题目:", "题目:", "题目：", "请解答：", "应用题：", "", ""]),
            Self::English => draw.pick(&["Problem: ", "", ""]),
        };
        (format!("{opening}{question}"), String::new())
    }

    /// The steps and the result, in one of the usual forms.
    pub fn answer(self, draw: &mut Draw, draft: &Draft) -> String {
        let (steps, done) = (&draft.steps, &draft.done);
        let form = draw.int(0, 2);
        match (self, form) {
            (Self::Chinese, 0) => format!("{}。\n答：{done}。", steps.join("，")),
            (Self::Chinese, 1) => format!("解：{}\n答：{done}。", steps.join("\n")),
            (Self::Chinese, _) => format!("{}。\n所以，{done}。", steps.join("。\n")),
            (Self::English, 0) => format!("{}. {done}.", steps.join(". ")),
            (Self::English, 1) => format!("{}.\nAnswer: {done}.", steps.join(".\n")),
            (Self::English, _) => {
                let steps: Vec<String> =
                    steps.iter().enumerate().map(|(i, step)| format!("Step {}: {step}", i + 1)).collect();
                format!("{}\n{done}.", steps.join("\n"))
            }
        }
    }
}
