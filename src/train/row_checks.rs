//! The checks of the rows before the first step, one by one: a run that would learn the wrong thing says so in
//! seconds, not after hours.

use std::collections::HashSet;

use super::batches::Batches;
use super::config::RunConfig;
use super::finding::{Finding, Severity, said};
use super::left_out::{Why, lists_not_read};
use super::render_time;
use crate::dataset::Dataset;
use crate::display::{advice, counted, thousands};
use crate::error::Result;
use crate::format::{ProblemKind, Role};
use crate::text::{Example, Message, Tokenizer, Trained};

/// Rows whose prompt is checked: rendering is slow, and a template is wrong in many rows or in none.
const PROMPTS: usize = 200;
/// Lines that are named when many rows have a fault.
const NAMED: usize = 5;
/// A row is far longer than the others above this multiple of the 99th percentile of the lengths.
const FAR: usize = 4;

/// The names of the checks of rows that are left out.
const CONTEXT: &str = "context";
const ANSWERS: &str = "answers";
const LABELS: &str = "labels";
/// The checks whose finding is a line about all rows.
const RECORDS: &str = "records";
const EVAL_RECORDS: &str = "evaluation records";
/// The checks of rows that are left out: the line about all rows has their numbers.
const COUNTED: [&str; 5] = [RECORDS, EVAL_RECORDS, CONTEXT, ANSWERS, LABELS];

/// The rows that are checked.
#[derive(Clone, Copy)]
pub(crate) struct Checked<'a> {
    pub rows: &'a Batches,
    pub data: &'a Dataset,
    /// Those to evaluate on, and all that they were taken from.
    pub eval: Option<(&'a Batches, &'a Dataset)>,
}

/// Checks the rows as a run with this config would see them.
///
/// # Errors
/// When the data can no longer be read.
pub(crate) fn check_rows(
    checked: Checked,
    config: &RunConfig,
    tokenizer: &Tokenizer,
) -> Result<Vec<Finding>> {
    let Checked { rows: train, data, eval } = checked;
    let mut findings = vec![records(RECORDS, train)];
    findings.extend(eval.map(|(rows, _)| records(EVAL_RECORDS, rows)));
    findings.extend(not_read(data)?);
    findings.extend(lists(data, config.eval.as_ref())?);
    findings.extend([
        tokens(train, data, config, tokenizer)?,
        turns_end(train, data, tokenizer, config.trained)?,
        begin_once(train, data, tokenizer)?,
        answers(train, data)?,
        prompts(train, data, tokenizer)?,
        context(train, data)?,
    ]);
    findings.extend(date(train, data, tokenizer)?);
    findings.extend(far_longer(train, data, config.micro_batch)?);
    findings.extend(labelled_bad(train, data)?);
    findings.extend(refused("chat template", train, data)?);
    findings.extend(written(data, tokenizer)?);
    if let Some((rows, data)) = eval {
        findings.extend(refused("chat template, evaluation", rows, data)?);
    }
    if let Some(eval) = &config.eval {
        findings.push(held_out(data, eval)?);
    }
    Ok(findings)
}

/// What a run notes beside the line that says how many rows are left out: the other warnings.
pub(crate) fn notes(findings: &[Finding]) -> Vec<String> {
    let warnings = findings.iter().filter(|finding| finding.severity == Severity::Warning);
    warnings.filter(|finding| !COUNTED.contains(&finding.check)).map(Finding::note).collect()
}

/// How many rows are used, and how many are left out for what.
fn records(check: &'static str, rows: &Batches) -> Finding {
    match rows.counts().note() {
        None => Finding::new(check, Severity::Fine, rows.counts().to_string()),
        Some(note) => Finding::new(check, Severity::Warning, note),
    }
}

/// How many tokens are trained on, and how plain texts are read.
fn tokens(train: &Batches, data: &Dataset, config: &RunConfig, tokenizer: &Tokenizer) -> Result<Finding> {
    let training = config.training();
    let count =
        |of: fn(&Example) -> usize| thousands(train.examples().map(|(_, e)| of(e)).sum::<usize>() as u64);
    let mut what = format!(
        "{} of {} tokens are trained on (trained: {})",
        count(Example::trained_tokens),
        count(Example::len),
        training.trained
    );
    let used: HashSet<usize> = train.examples().map(|(row, _)| row).collect();
    let (texts, rendered) = data.texts(tokenizer, &training, |row| used.contains(&row))?;
    if texts > 0 {
        what += &format!(
            "; {} rows are plain texts and trained on whole, {} of them as rendered chats in which the names of \
             special tokens are these tokens (special_tokens: {})",
            thousands(texts as u64),
            thousands(rendered as u64),
            training.special_tokens
        );
    }
    Ok(Finding::new("tokens", Severity::Fine, what))
}

/// Checks that each answer ends with a token at which generation stops: a model that never learns it does not stop.
fn turns_end(train: &Batches, data: &Dataset, tokenizer: &Tokenizer, trained: Trained) -> Result<Finding> {
    const CHECK: &str = "end of turn";
    let stops = tokenizer.stop_ids();
    let lacks = |example: &Example| ends(example, tokenizer, trained).any(|id| !stops.contains(&id));
    let has = |example: &Example| ends(example, tokenizer, trained).any(|id| stops.contains(&id));
    let (rows, names) = (thousands(train.rows() as u64), tokenizer.decode(stops)?);
    let lacking: Vec<usize> = train.examples().filter(|(_, e)| lacks(e)).map(|(row, _)| row).collect();
    let Some(first) = lacking.first() else {
        return Ok(Finding::new(CHECK, Severity::Fine, format!("all {rows} rows learn to stop ({names})")));
    };
    let finding = match train.examples().any(|(_, example)| has(example)) {
        false => Finding::new(
            CHECK,
            Severity::Fatal,
            format!("none of {rows} rows learns a token at which generation stops ({names})"),
        )
        .help(match data.text(*first)? {
            Some(_) => "give the tokenizer a token that ends a text: eos_token in tokenizer_config.json",
            None => "take the model's own chat template, or one that ends the assistant's turn: Tokenizer::with_named_template",
        }),
        true => Finding::new(
            CHECK,
            Severity::Warning,
            format!("{} of {rows} rows have an answer without a token at which generation stops", lacking.len()),
        )
        .help(advice(
            "look at the answer's end with data.row()",
            "look at the answer's end with lorascope data rows FILE --row N --tokenizer MODEL",
        )),
    };
    finding.at(data, *first)
}

/// The last token of each stretch that is trained on; where every token is, of the one that ends the row:
/// others end where an answer of weight 0 begins. White space after a token at which generation stops does not
/// count: the line break of the template is trained on then, too.
fn ends<'a>(
    example: &'a Example,
    tokenizer: &'a Tokenizer,
    trained: Trained,
) -> impl Iterator<Item = u32> + 'a {
    let next = example.trained.iter().skip(1).chain([&false]);
    let ends = example.trained.iter().zip(next).map(|(trained, next)| *trained && !next);
    let stops = tokenizer.stop_ids();
    let white = |id: u32| tokenizer.decode(&[id]).is_ok_and(|text| text.trim().is_empty());
    let counts = move |end: usize| trained != Trained::All || end + 1 == example.len();
    ends.enumerate().filter(move |(end, ends)| *ends && counts(*end)).map(move |(end, _)| {
        let mut before = example.ids[..=end].iter().rev().copied();
        let said = before.find(|id| stops.contains(id) || !white(*id));
        said.filter(|id| stops.contains(id)).unwrap_or(example.ids[end])
    })
}

/// Checks that no row begins with two tokens that begin a text: the template may write one, and the tokenizer put
/// another in front.
fn begin_once(train: &Batches, data: &Dataset, tokenizer: &Tokenizer) -> Result<Finding> {
    const CHECK: &str = "begin of text";
    let Some(bos) = tokenizer.bos() else {
        return Ok(Finding::new(CHECK, Severity::Fine, "the tokenizer has no token that begins a text"));
    };
    let name = tokenizer.decode(&[bos])?;
    let mut twice = train.examples().filter(|(_, example)| example.ids.starts_with(&[bos, bos]));
    match twice.next() {
        None => Ok(Finding::new(CHECK, Severity::Fine, format!("no row begins with {name} twice"))),
        Some((row, _)) => {
            let count = thousands(1 + twice.count() as u64);
            Finding::new(CHECK, Severity::Fatal, format!("{count} rows begin with {name} twice"))
                .help("take it out of the chat template: Tokenizer::with_template")
                .at(data, row)
        }
    }
}

/// How many rows are something: `1 row is`, `1,200 rows are`.
fn rows_are(count: usize) -> String {
    match count {
        1 => "1 row is".to_string(),
        _ => format!("{} rows are", thousands(count as u64)),
    }
}

/// Some lines of a dataset's rows, to be named.
fn lines(data: &Dataset, rows: &[usize]) -> Result<String> {
    let lines = rows.iter().take(NAMED).map(|row| Ok(data.place(*row)?.1.to_string()));
    let more = if rows.len() > NAMED { ", …" } else { "" };
    Ok(lines.collect::<Result<Vec<_>>>()?.join(", ") + more)
}

/// Checks that each row has a token to train on.
fn answers(train: &Batches, data: &Dataset) -> Result<Finding> {
    let rows: Vec<usize> = train.left_out(|why| *why == Why::Untrained).map(|(row, _)| row).collect();
    let Some(first) = rows.first() else {
        return Ok(Finding::new(ANSWERS, Severity::Fine, "every row has an answer to train on"));
    };
    let what = format!(
        "{} rows have no token to train on and are left out, on the lines {}",
        thousands(rows.len() as u64),
        lines(data, &rows)?
    );
    Finding::new(ANSWERS, Severity::Warning, what)
        .help("give them an answer of the assistant, or take them out")
        .at(data, *first)
}

/// Rows that are labelled bad.
fn labelled_bad(train: &Batches, data: &Dataset) -> Result<Option<Finding>> {
    let rows: Vec<usize> = train.left_out(|why| *why == Why::LabelledBad).map(|(row, _)| row).collect();
    let Some(first) = rows.first() else { return Ok(None) };
    let what =
        format!("{} labelled bad and left out, on the lines {}", rows_are(rows.len()), lines(data, &rows)?);
    Finding::new(LABELS, Severity::Warning, what)
        .help("a run trains only on answers that are labelled good")
        .at(data, *first)
        .map(Some)
}

/// Rows that the chat template refuses, with its words.
fn refused(check: &'static str, rows: &Batches, data: &Dataset) -> Result<Option<Finding>> {
    let refused: Vec<(usize, &Why)> = rows.left_out(|why| matches!(why, Why::Refused(_))).collect();
    let Some((first, Why::Refused(words))) = refused.first() else { return Ok(None) };
    let numbers: Vec<usize> = refused.iter().map(|(row, _)| *row).collect();
    let what = format!(
        "{} refused by the chat template and left out, on the lines {}; the first: {words}",
        rows_are(numbers.len()),
        lines(data, &numbers)?
    );
    Finding::new(check, Severity::Warning, what)
        .help(advice(
            "data.row() shows them; RunConfig::default().strict() makes the first an error",
            "lorascope data rows FILE --problems --tokenizer MODEL shows them; --strict makes the first an error",
        ))
        .at(data, *first)
        .map(Some)
}

/// Checks that the prompt at inference is the prompt in training: the prompt up to the last answer, with the
/// generation marker, begins the row's tokens.
fn prompts(train: &Batches, data: &Dataset, tokenizer: &Tokenizer) -> Result<Finding> {
    const CHECK: &str = "prompt";
    let chosen = train.rows().min(PROMPTS);
    let (mut looked, mut other) = (0, Vec::new());
    // Evenly spaced: number i·n/k of n.
    let mut places = (0..chosen).map(|i| i * train.rows() / chosen).peekable();
    for (place, (row, example)) in train.examples().enumerate() {
        if places.next_if_eq(&place).is_none() {
            continue;
        }
        let messages = data.conversation(row)?;
        let Some(last) = messages.iter().rposition(|message| message.role == Role::Assistant) else {
            continue; // a plain text
        };
        looked += 1;
        // As it is asked: without what is there and says nothing.
        let says = |message: &&Message| {
            message.role != Role::System || message.extra.is_some() || !said(message).trim().is_empty()
        };
        let asked: Vec<Message> = messages[..last].iter().filter(says).cloned().collect();
        let tools = data.tools(row)?.filter(|tools| !["", "null", "[]"].contains(&tools.trim()));
        let prompt = tokenizer.prompt(&asked, tools.as_deref());
        if !prompt.is_ok_and(|prompt| example.ids.starts_with(&prompt)) {
            other.push(row);
        }
    }
    let Some(first) = other.first() else {
        let what = match looked {
            0 => "no row is a conversation".to_string(),
            looked => format!("{looked} rows begin with the prompt that generation uses"),
        };
        return Ok(Finding::new(CHECK, Severity::Fine, what));
    };
    let what = format!("{} of {looked} rows do not begin with the prompt that generation uses", other.len());
    Finding::new(CHECK, Severity::Warning, what)
        .help(
            "the chat template writes an answer in another way than its prompt: take one in which both agree",
        )
        .at(data, *first)
}

/// Checks whether the chat template writes the date into the rows: rendered on another day, they differ.
fn date(train: &Batches, data: &Dataset, tokenizer: &Tokenizer) -> Result<Option<Finding>> {
    /// More than a year, a day, an hour, a minute and a second, so that each part is another one.
    const LATER: i64 = 398 * 86_400 + 3_661;
    if !tokenizer.is_dated() {
        return Ok(None);
    }
    let time = tokenizer.time().unwrap_or_else(render_time::now);
    let (then, later) = (tokenizer.at_time(time)?, tokenizer.at_time(time + LATER)?);
    let chosen = train.rows().min(PROMPTS);
    let mut places = (0..chosen).map(|i| i * train.rows() / chosen).peekable();
    for (place, (row, _)) in train.examples().enumerate() {
        if places.next_if_eq(&place).is_none() {
            continue;
        }
        let (messages, tools) = (data.conversation(row)?, data.tools(row)?);
        if messages.is_empty() {
            continue; // a plain text
        }
        let rendered = |tokenizer: &Tokenizer| tokenizer.prompt(&messages, tools.as_deref());
        if let (Ok(now), Ok(later)) = (rendered(&then), rendered(&later))
            && now != later
        {
            let what = format!("the chat template writes the date into the rows: {}", render_time::utc(time));
            return Ok(Some(Finding::new("date", Severity::Warning, what).help(
                "the run keeps this time and goes on with it; a prompt that is asked later has its own date",
            )));
        }
    }
    Ok(None)
}

/// Rows that are longer than the context.
fn context(train: &Batches, data: &Dataset) -> Result<Finding> {
    let limit = thousands(train.context() as u64);
    let tokens = |why: &Why| if let Why::TooLong(tokens) = why { *tokens } else { 0 };
    let longer = train.left_out(|why| matches!(why, Why::TooLong(_))).map(|(row, why)| (tokens(why), row));
    let Some((tokens, row)) = longer.min_by_key(|(tokens, row)| (std::cmp::Reverse(*tokens), *row)) else {
        return Ok(Finding::new(CONTEXT, Severity::Fine, format!("no row is longer than {limit} tokens")));
    };
    let what = format!(
        "{} rows are longer than {limit} tokens and left out, the longest has {}",
        thousands(train.counts().too_long as u64),
        thousands(tokens as u64)
    );
    Finding::new(CONTEXT, Severity::Warning, what)
        .help(advice("RunConfig::default().context(n) takes longer ones", "--context N takes longer ones"))
        .at(data, row)
}

/// A few rows that are far longer than the others, and what they cost.
fn far_longer(train: &Batches, data: &Dataset, micro_batch: usize) -> Result<Option<Finding>> {
    let mut lengths: Vec<usize> = train.examples().map(|(_, example)| example.len()).collect();
    lengths.sort_unstable();
    let usual = lengths[(lengths.len() * 99).div_ceil(100).max(1) - 1];
    let longest = train.examples().max_by_key(|(_, example)| example.len());
    let Some((row, longest)) = longest.filter(|(_, example)| example.len() > FAR * usual) else {
        return Ok(None);
    };
    let far = lengths.iter().filter(|length| **length > FAR * usual);
    let mut what = format!(
        "{} far longer than the others: {} tokens together of {}; the longest has {}, 99 of 100 rows have at \
         most {}",
        rows_are(far.clone().count()),
        thousands(far.sum::<usize>() as u64),
        thousands(lengths.iter().sum::<usize>() as u64),
        thousands(longest.len() as u64),
        thousands(usual as u64)
    );
    if longest.len() > micro_batch {
        what += &format!(
            "; with it a step takes the memory of {} tokens at a time instead of {}",
            thousands(longest.len() as u64),
            thousands(micro_batch as u64)
        );
    }
    Finding::new("long rows", Severity::Warning, what)
        .help(advice(
            format!("RunConfig::default().context({}) leaves out what is so long", FAR * usual),
            format!("--context {} leaves out what is so long", FAR * usual),
        ))
        .at(data, row)
        .map(Some)
}

/// Rows of the evaluation that are trained on.
fn held_out(data: &Dataset, eval: &Dataset) -> Result<Finding> {
    const CHECK: &str = "evaluation";
    let shared = data.equal_rows(eval)?;
    let all = thousands(eval.len() as u64);
    let Some((_, row)) = shared.first() else {
        return Ok(Finding::new(CHECK, Severity::Fine, format!("none of {all} rows is trained on")));
    };
    let what = format!("{} of {all} rows are trained on as well", thousands(shared.len() as u64));
    Finding::new(CHECK, Severity::Warning, what)
        .help(advice(
            "data.split() keeps equal rows on one side",
            "lorascope data split keeps equal rows on one side",
        ))
        .at(data, *row)
}

/// Rows whose tools or calls the chat template does not write.
fn written(data: &Dataset, tokenizer: &Tokenizer) -> Result<Option<Finding>> {
    let unwritten = data.unwritten(tokenizer)?;
    let Some((first, _)) = unwritten.first() else { return Ok(None) };
    let mut counts: Vec<(&str, u64)> = Vec::new();
    for (_, what) in &unwritten {
        match counts.iter_mut().find(|(known, _)| known == what) {
            Some((_, count)) => *count += 1,
            None => counts.push((what, 1)),
        }
    }
    let each = counts.iter().map(|(what, count)| format!("{what}, in {}", counted(*count, "row")));
    let what = each.collect::<Vec<_>>().join("; ");
    Finding::new("tools", Severity::Warning, what)
        .help(ProblemKind::NotWritten.fix())
        .at(data, *first)
        .map(Some)
}

/// Lists of rows that are not read, in files that hold several.
fn lists(data: &Dataset, eval: Option<&Dataset>) -> Result<Option<Finding>> {
    let lists = lists_not_read(data, eval)?;
    let Some((file, _)) = lists.first() else { return Ok(None) };
    let what: Vec<&str> = lists.iter().map(|(_, what)| what.as_str()).collect();
    let finding = Finding::new("lists", Severity::Warning, what.join("; ")).help(advice(
        "ReadOptions { list, .. } chooses the list, for the rows to train on and for those to evaluate on",
        "--list NAME trains on another one, --eval-list NAME evaluates on one",
    ));
    Ok(Some(Finding { file: Some(file.clone()), ..finding }))
}

/// Folders and files beside the rows that were not read.
fn not_read(data: &Dataset) -> Result<Option<Finding>> {
    let not_read = data.not_read()?;
    let Some((path, what)) = not_read.first() else { return Ok(None) };
    let more = match not_read.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let what = format!("{}: {what}{more}", path.display());
    Ok(Some(
        Finding::new("files", Severity::Warning, what)
            .help(advice("data.problems() lists them", "lorascope data report FILE lists them")),
    ))
}
