//! Conversations: a problem, then questions that go on from its result.

use super::draft::{Draft, draft};
use super::draw::{Draw, Stream};
use super::language::Language;
use super::rows::{Generate, quoted};

/// A question about the result so far; `None` where it would not come out as it should.
type FollowUp = fn(&mut Draw, i64) -> Option<Draft>;

const CHINESE: [FollowUp; 5] = [
    |d, v| {
        let n = d.int(2, 50);
        let ask = d.pick(&["如果再增加", "那么再加上", "要是又多了"]);
        let sum = v + n;
        Some(draft(format!("{ask}{n}呢？"), [format!("{v} + {n} = {sum}")], format!("结果是{sum}"), sum))
    },
    |d, v| {
        let n = d.int(2, 9);
        let product = v * n;
        let ask = format!("把刚才的结果乘以{n}，是多少？");
        Some(draft(ask, [format!("{v} × {n} = {product}")], format!("结果是{product}"), product))
    },
    |d, v| {
        let n = d.int(1, 40);
        let rest = v - n;
        let ask = format!("从这个结果里减去{n}，还剩多少？");
        (rest > 0).then(|| draft(ask, [format!("{v} - {n} = {rest}")], format!("还剩{rest}"), rest))
    },
    |d, v| {
        let n = d.int(2, 9);
        let each = v / n;
        let ask = format!("把这个结果平均分成{n}份，每份是多少？");
        (v % n == 0).then(|| draft(ask, [format!("{v} ÷ {n} = {each}")], format!("每份是{each}"), each))
    },
    |d, v| {
        let n = d.int(2, 30);
        let (double, sum) = (2 * v, 2 * v + n);
        let steps = [format!("两倍：{v} × 2 = {double}"), format!("再加：{double} + {n} = {sum}")];
        Some(draft(format!("它的两倍再加{n}是多少？"), steps, format!("结果是{sum}"), sum))
    },
];

const ENGLISH: [FollowUp; 5] = [
    |d, v| {
        let n = d.int(2, 50);
        let ask = d.pick(&["What if there are", "And with", "What would it be with"]);
        let sum = v + n;
        Some(draft(
            format!("{ask} {n} more?"),
            [format!("{v} + {n} = {sum}")],
            format!("The result is {sum}"),
            sum,
        ))
    },
    |d, v| {
        let n = d.int(2, 9);
        let product = v * n;
        let ask = format!("What is {n} times that result?");
        Some(draft(ask, [format!("{v} × {n} = {product}")], format!("The result is {product}"), product))
    },
    |d, v| {
        let n = d.int(1, 40);
        let rest = v - n;
        let ask = format!("Take {n} away from that. What is left?");
        (rest > 0)
            .then(|| draft(ask, [format!("{v} - {n} = {rest}")], format!("What is left is {rest}"), rest))
    },
    |d, v| {
        let n = d.int(2, 9);
        let each = v / n;
        let ask = format!("Split that into {n} equal parts. How large is each?");
        (v % n == 0)
            .then(|| draft(ask, [format!("{v} ÷ {n} = {each}")], format!("Each part is {each}"), each))
    },
    |d, v| {
        let n = d.int(2, 30);
        let (double, sum) = (2 * v, 2 * v + n);
        let steps = [format!("Twice that is {v} × 2 = {double}"), format!("Then {double} + {n} = {sum}")];
        Some(draft(format!("What is twice that plus {n}?"), steps, format!("The result is {sum}"), sum))
    },
];

/// Results beyond this make no more questions that multiply.
const LARGE: i64 = 20_000;

impl Generate {
    /// The JSON of conversation `index`: two to five questions with their answers.
    pub(super) fn talk(&self, index: u64) -> String {
        let draw = &mut Draw::new(self.seed, Stream::Talk as u64, index);
        // A problem whose result is whole: the questions that follow divide by it.
        let (exercise, mut value) = loop {
            let exercise = self.make(draw);
            if let Ok(value) = exercise.value.parse::<i64>() {
                break (exercise, value);
            }
        };
        let question = match exercise.input.as_str() {
            "" => exercise.instruction,
            input => format!("{}\n{input}", exercise.instruction),
        };
        let mut turns = vec![("human", question), ("gpt", exercise.output)];
        let language = Language::of(&exercise.kind);
        let follow_ups = match language {
            Language::Chinese => &CHINESE,
            Language::English => &ENGLISH,
        };
        let exchanges = draw.int(2, 5) as usize;
        while turns.len() < 2 * exchanges {
            let Some(next) = draw.pick(follow_ups)(draw, value) else { continue };
            match next.value.parse::<i64>() {
                Ok(result) if result <= LARGE || result < value => value = result,
                _ => continue,
            }
            let answer = language.answer(draw, &next);
            turns.extend([("human", next.question), ("gpt", answer)]);
        }
        let turns: Vec<String> = turns
            .iter()
            .map(|(from, text)| format!("{{\"from\": \"{from}\", \"value\": {}}}", quoted(text)))
            .collect();
        format!("{{\"id\": \"school-{}\", \"conversations\": [{}]}}", index + 1, turns.join(", "))
    }
}
