//! GPT-2 (Radford et al. 2019): layer norms, learned positions, q, k and v in one matrix, GELU,
//! biases everywhere, a head that is the embedding. Folders store the weights as `[in, out]`, GGUF
//! files as `[out, in]`.

use super::definition::Definition;
use super::values::{Json, Metadata};
use crate::error::{Error, Result};
use crate::model::config::{DecoderConfig, Family, FeedForward, NormKind, Positions, Projections};
use crate::model::layers::Gelu;
use crate::model::parts::ModelPart;

pub(super) const DEFINITION: Definition = Definition {
    model_types: &["gpt2"],
    gguf: Some(("gpt2", from_gguf)),
    base: "transformer",
    blocks: "h",
    names: &[
        (ModelPart::Embedding, "transformer.wte"),
        (ModelPart::Positions, "transformer.wpe"),
        (ModelPart::AttentionNorm, "ln_1"),
        (ModelPart::Qkv, "attn.c_attn"),
        (ModelPart::O, "attn.c_proj"),
        (ModelPart::MlpNorm, "ln_2"),
        (ModelPart::Up, "mlp.c_fc"),
        (ModelPart::Down, "mlp.c_proj"),
        (ModelPart::Norm, "transformer.ln_f"),
        (ModelPart::Head, "lm_head"),
    ],
    transposed: true,
    interleaved: false,
    from_json,
};

fn from_json(json: &Json) -> Result<DecoderConfig> {
    let gelu = match json.text("activation_function")?.unwrap_or("gelu_new") {
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Gelu::Tanh,
        "gelu" => Gelu::Erf,
        other => {
            return Err(Error::format(format!("activation_function is {other:?}"))
                .help("supported: gelu_new, gelu_pytorch_tanh, gelu_fast, gelu"));
        }
    };
    let plain = [("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false)];
    for (key, usual) in plain {
        if json.flag(key)?.is_some_and(|value| value != usual) {
            return Err(Error::format(format!("{key} is {}", !usual))
                .help(format!("only models with {usual} are supported, as OpenAI's are")));
        }
    }
    let width = json.need("n_embd")?;
    Ok(DecoderConfig {
        vocabulary: json.need("vocab_size")?,
        layers: json.need("n_layer")?,
        intermediate: json.size("n_inner")?.unwrap_or(4 * width),
        context: json.need("n_positions")?,
        norm_epsilon: json.number("layer_norm_epsilon")?.unwrap_or(1e-5),
        feed_forward: FeedForward::Gelu(gelu),
        tied_embeddings: json.flag("tie_word_embeddings")?.unwrap_or(true),
        ..of_size(width, json.need("n_head")?)?
    })
}

fn from_gguf(metadata: &Metadata) -> Result<DecoderConfig> {
    Ok(DecoderConfig {
        vocabulary: metadata.vocabulary()?,
        layers: metadata.size("block_count")?,
        intermediate: metadata.size("feed_forward_length")?,
        context: metadata.size("context_length")?,
        norm_epsilon: metadata.need("attention.layer_norm_epsilon")?,
        ..of_size(metadata.size("embedding_length")?, metadata.size("attention.head_count")?)?
    })
}

/// The config of a GPT-2 with this width and these heads; the caller sets the other sizes.
fn of_size(width: usize, heads: usize) -> Result<DecoderConfig> {
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(Error::format(format!("a width of {width} cannot be split into {heads} heads")));
    }
    Ok(DecoderConfig {
        family: Family::Gpt2,
        vocabulary: 0,
        width,
        layers: 0,
        heads,
        kv_heads: heads,
        head_width: width / heads,
        intermediate: 0,
        context: 0,
        norm: NormKind::Layer,
        norm_epsilon: 0.0,
        positions: Positions::Learned,
        feed_forward: FeedForward::Gelu(Gelu::Tanh),
        projections: Projections::Fused,
        head_norms: false,
        padding: None,
        max_norm: None,
        tied_embeddings: true,
        unit_head: false,
        qkv_bias: true,
        o_bias: true,
        mlp_bias: true,
    })
}
