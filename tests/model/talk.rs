//! Generation: greedy and drawn tokens, penalties, stops, and text while it is made.

use crate::common;
use candle_core::Device;
use lorascope::candle_core;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::lora::{Adapters, LoraConfig};
use lorascope::model::generate::{generate, generate_each};
use lorascope::model::streaming::{TextStream, generate_with};
use lorascope::model::{Cache, Decoder, Finish, GenerateConfig, Model};
use lorascope::text::Message;

fn golden(name: &str) -> String {
    format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn tiny() -> Result<(Decoder, Adapters)> {
    Ok((Decoder::open(golden("tiny"), &Device::Cpu)?, Adapters::open(golden("tiny-adapter"), &Device::Cpu)?))
}

/// The greedy continuation with the penalty written out.
fn by_hand(
    model: &Decoder,
    adapters: &Adapters,
    prompt: &[u32],
    count: usize,
    theta: f32,
) -> Result<Vec<u32>> {
    let mut ids = prompt.to_vec();
    for _ in 0..count {
        let hidden = model.extend(&ids, &mut Cache::default(), adapters)?;
        let mut logits = model.logits(&hidden, adapters)?.flatten_all()?.to_vec1::<f32>()?;
        for (id, logit) in logits.iter_mut().enumerate().filter(|(id, _)| ids.contains(&(*id as u32))) {
            assert!(id < 97);
            *logit = if *logit > 0.0 { *logit / theta } else { *logit * theta };
        }
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        ids.push(best as u32);
    }
    Ok(ids.split_off(prompt.len()))
}

#[test]
fn penalties_count_prompt_and_answer() -> Result<()> {
    let (model, adapters) = tiny()?;
    let prompt = [5, 17, 40, 3];
    let greedy = |theta: f64| {
        let config = GenerateConfig { max_tokens: 24, repetition_penalty: theta, ..Default::default() };
        generate(&model, &adapters, &prompt, &[], &config)
    };
    for theta in [1.0, 1.3, 5.0] {
        assert_eq!(greedy(theta)?, by_hand(&model, &adapters, &prompt, 24, theta as f32)?, "{theta}");
    }
    assert_ne!(greedy(1.0)?, greedy(5.0)?);
    let (mut distinct, all) = (greedy(5.0)?, greedy(5.0)?.len());
    distinct.sort_unstable();
    distinct.dedup();
    assert!(distinct.len() * 10 > all * 9, "{} of {all} tokens differ", distinct.len());
    Ok(())
}

#[test]
fn seeds_stops_and_limits() -> Result<()> {
    let (model, adapters) = tiny()?;
    let prompt = [5, 17, 40, 3];
    let run = |config: GenerateConfig| generate(&model, &adapters, &prompt, &[], &config);
    let warm =
        GenerateConfig { max_tokens: 30, temperature: 1.5, top_k: 20, top_p: 0.95, ..Default::default() };
    let first = run(warm.clone())?;
    assert_eq!(first.len(), 30);
    assert_eq!(run(warm.clone())?, first);
    assert_ne!(run(GenerateConfig { seed: 43, ..warm.clone() })?, first);
    assert_ne!(generate(&model, &Adapters::default(), &prompt, &[], &warm)?, first, "the adapter counts");

    let stop = first[10];
    let at = first.iter().position(|id| *id == stop).unwrap();
    assert_eq!(run(GenerateConfig { stop_tokens: vec![stop], ..warm.clone() })?, first[..at]);
    assert_eq!(generate(&model, &adapters, &prompt, &[stop], &warm)?, first[..at]);
    let mut seen = Vec::new();
    generate_each(&model, &adapters, &prompt, &[], &warm, &mut |id| {
        seen.push(id);
        Ok(seen.len() < 3)
    })?;
    assert_eq!(seen, first[..3]);
    // The context is 64: the prompt, 60 more, and one that nothing follows.
    assert_eq!(run(GenerateConfig { max_tokens: 500, ..Default::default() })?.len(), 61);
    assert!(run(GenerateConfig { max_tokens: 0, ..Default::default() })?.is_empty());

    let refused = |config: GenerateConfig| run(config).unwrap_err().to_string();
    assert_eq!(
        refused(GenerateConfig { repetition_penalty: 0.0, ..Default::default() }),
        "repetition_penalty is 0; give a number above 0: 1 changes nothing, 1.2 is usual"
    );
    assert_eq!(
        refused(GenerateConfig { stop: vec![String::new()], ..Default::default() }),
        "a stop text is empty; every text contains it: leave it out"
    );
    Ok(())
}

/// Every token of the vocabulary after another, so that half characters are common.
#[test]
fn streamed_text_is_the_text_and_no_character_is_split() -> Result<()> {
    let model = Model::open(common::model_path())?;
    let tokenizer = model.tokenizer();
    for text in ["小明有3个苹果,又买了5个。一共几个?🙂👩‍👩‍👧 é", " leading and  double spaces\n\n\tend "]
    {
        let ids = tokenizer.encode_plain(text)?;
        let mut stream = TextStream::new(tokenizer);
        let mut pieces = Vec::new();
        for id in &ids {
            pieces.push(stream.push(*id)?);
        }
        pieces.push(stream.finish()?);
        assert_eq!(pieces.concat(), text);
        assert!(pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{pieces:?}");
        assert!(pieces.iter().filter(|piece| !piece.is_empty()).count() > 5);
    }
    // Cut within a character: what is whole comes, the rest does not.
    let ids = tokenizer.encode_plain("苹果")?;
    let mut stream = TextStream::new(tokenizer);
    let pieces: Vec<String> = ids[..ids.len() - 1].iter().map(|id| stream.push(*id).unwrap()).collect();
    assert_eq!(pieces.concat() + &stream.finish()?, "苹");
    // Bytes that are no UTF-8 at all.
    let count = tokenizer.vocabulary_size() as u32;
    let ids: Vec<u32> = (0..400u32).map(|i| (i * 7919) % count.min(1000)).collect();
    let mut stream = TextStream::new(tokenizer);
    let mut text = String::new();
    for id in &ids {
        text += &stream.push(*id)?;
    }
    text += &stream.finish()?;
    assert_eq!(text, tokenizer.decode(&ids)?.trim_end_matches('\u{fffd}'));
    Ok(())
}

#[test]
fn answers_stream_stop_and_compare() -> Result<()> {
    let model = Model::open(common::model_path())?;
    let config = GenerateConfig { max_tokens: 24, ..Default::default() };
    let messages = [Message::user("Name three colours.")];
    let whole = model.chat(&messages, &config)?;
    let mut pieces = Vec::new();
    let made = model.chat_each(&Adapters::default(), &messages, &config, &mut |piece| {
        pieces.push(piece.to_string());
        true
    })?;
    assert_eq!((pieces.concat().as_str(), made.text.as_str()), (whole.as_str(), whole.as_str()));
    assert!(pieces.len() > 5, "{pieces:?}");
    assert_eq!((made.tokens.len(), made.finish), (24, Finish::Length));
    assert_eq!(model.chat_live(&Adapters::default(), &messages, &config)?, made);

    // A stop text that begins inside a token and ends inside a later one.
    let text: Vec<char> = whole.as_str().chars().collect();
    let stop: String = text[text.len() / 2 - 3..text.len() / 2 + 4].iter().collect();
    let cut = model.chat(&messages, &GenerateConfig { stop: vec![stop.clone()], ..config.clone() })?;
    assert_eq!(cut.as_str(), whole.as_str().split(&stop).next().unwrap());
    let mut calls = 0;
    let broken = model.chat_each(&Adapters::default(), &messages, &config, &mut |_| {
        calls += 1;
        calls < 3
    })?;
    assert_eq!((calls, broken.finish), (3, Finish::Interrupted));
    assert!(whole.as_str().starts_with(&broken.text));
    let ids = model.tokenizer().encode("1 2 3 4 5 6 7 8")?;
    let stops = GenerateConfig { stop: vec!["12".into()], max_tokens: 40, ..Default::default() };
    let counted =
        generate_with(model.decoder(), &Adapters::default(), model.tokenizer(), &ids, &stops, &mut |_| true)?;
    if counted.finish == Finish::StopText {
        assert!(!counted.text.contains("12"));
    }

    let lora = LoraConfig { rank: 4, ..Default::default() };
    let fresh = Adapters::new(&lora, &model.decoder().targets(), 1, &Device::Cpu)?;
    // B is random instead of zero: another model, though none that anybody wants.
    let bent = fresh.map(|name, tensor| {
        Ok(if name.ends_with("lora_B") { tensor.rand_like(-0.05, 0.05)? } else { tensor.clone() })
    })?;
    let compared = model.compare(&bent, &["Name three colours.", "3 + 5 = ?"], &config)?;
    assert_eq!((compared.rows.len(), compared.rows[0].base.as_str()), (2, whole.as_str()));
    assert_ne!(compared.rows[0].adapted, compared.rows[0].base);
    assert_eq!(model.compare(&fresh, &["3 + 5 = ?"], &config)?.rows[0].base, compared.rows[1].base);
    assert!(compared.show().text.contains("Name three colours."));
    let other = Adapters::open(golden("tiny-adapter"), &Device::Cpu)?;
    assert!(model.compare(&other, &["?"], &config).is_err());
    Ok(())
}
