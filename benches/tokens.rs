//! Tokens of 20,000 school-math rows, beside Hugging Face's tokenizers in Python with as many threads:
//! `LORASCOPE_PEER=PYTHON cargo bench --profile dev --bench tokens`, PYTHON having `tokenizers`.
//! The other side is benches/peers/tokens.py; ours and the peer take turns.

#[allow(dead_code)]
#[path = "../src/bin/lorascope/generate/mod.rs"]
mod generate;
#[path = "peers/turns.rs"]
mod turns;

use std::process::Command;
use std::time::Instant;

use generate::rows::Generate;
use lorascope::error::{Error, Result};
use lorascope::text::{GenerationPrompt, Message, Tokenizer, Trained};
use rayon::prelude::*;
use turns::Peer;

const ROWS: u64 = 20_000;
const TURNS: usize = 7;

/// Python with the same tokenizer and texts; answers with seconds and tokens.
fn peer(python: &str, tokenizer: &Tokenizer, texts: &[String]) -> Result<Peer> {
    let folder = std::env::temp_dir().join(format!("lorascope-tokens-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    tokenizer.inner().save(folder.join("tokenizer.json"), false).map_err(Error::input)?;
    let json = serde_json::to_string(texts).map_err(Error::input)?;
    std::fs::write(folder.join("texts.json"), json).map_err(|e| Error::io(&folder, e))?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/tokens.py");
    let threads = rayon::current_num_threads().to_string();
    Peer::start(Command::new(python).arg(script).arg(&folder).env("RAYON_NUM_THREADS", threads))
}

fn timed(work: impl Fn() -> Result<usize>) -> Result<(f64, usize)> {
    let begun = Instant::now();
    let tokens = work()?;
    Ok((begun.elapsed().as_secs_f64(), tokens))
}

fn main() -> Result<()> {
    let model = std::env::var("LORASCOPE_MODEL").unwrap_or("models/smollm2-135m.gguf".into());
    let tokenizer = lorascope::model::tokenizer_of(model)?;
    let rows = Generate { rows: ROWS, ..Generate::default() };
    let conversations: Vec<[Message; 2]> = (0..ROWS)
        .map(|n| rows.exercise(n))
        .map(|row| {
            let question = [row.instruction, row.input].join("\n");
            [Message::user(question.trim_end()), Message::assistant(row.output)]
        })
        .collect();
    let render = |messages: &[Message; 2]| tokenizer.render(messages, None, GenerationPrompt::Omit);
    let texts = conversations.par_iter().map(render).collect::<Result<Vec<String>>>()?;
    let mut peer = match std::env::var("LORASCOPE_PEER") {
        Ok(python) => Some(peer(&python, &tokenizer, &texts)?),
        Err(_) => None,
    };

    let encode = || texts.par_iter().map(|text| Ok(tokenizer.encode(text)?.len())).sum::<Result<usize>>();
    let trained = Trained::Assistant;
    let lengths = || conversations.par_iter().map(|c| Ok(tokenizer.lengths(c, None, trained)?.tokens)).sum();
    let examples = || conversations.par_iter().map(|c| Ok(tokenizer.example(c, None)?.len())).sum();
    let mut seconds = [const { Vec::new() }; 4];
    for _ in 0..TURNS {
        let ours = [timed(encode)?, timed(lengths)?, timed(examples)?];
        let theirs = peer.as_mut().map(Peer::turn::<(f64, usize)>).transpose()?;
        if ours.iter().chain(&theirs).any(|one| one.1 != ours[0].1) {
            return Err(Error::state(format!("the numbers of tokens differ: {ours:?}, {theirs:?}")));
        }
        seconds.iter_mut().zip(ours.iter().chain(&theirs)).for_each(|(all, one)| all.push(one.0));
    }
    let names = ["ids of texts", "lengths of conversations", "examples", "peer: encode_batch_fast of texts"];
    let threads = rayon::current_num_threads();
    println!(
        "{ROWS} rows, {} characters, {threads} threads, median of {TURNS}",
        texts.iter().map(String::len).sum::<usize>()
    );
    for (name, seconds) in names.iter().zip(&mut seconds).filter(|(_, seconds)| !seconds.is_empty()) {
        seconds.sort_by(f64::total_cmp);
        println!("{name:<36} {:.3} s, best {:.3} s", seconds[TURNS / 2], seconds[0]);
    }
    let long: Vec<Message> = conversations.iter().flatten().take(330).cloned().collect();
    let (one, tokens) = timed(|| Ok(tokenizer.lengths(&long, None, Trained::Assistant)?.tokens))?;
    println!("one row of 330 turns, {tokens} tokens     {one:.3} s");
    if let [texts, lengths, _, peer] = seconds.each_ref().map(|seconds| seconds.get(TURNS / 2))
        && let (Some(texts), Some(lengths), Some(peer)) = (texts, lengths, peer)
    {
        println!("ours {:.1} times as fast on texts, {:.1} with the template", peer / texts, peer / lengths);
    }
    Ok(())
}
