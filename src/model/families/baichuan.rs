//! Baichuan-7B and Baichuan2-7B (Yang et al. 2023): a llama with q, k and v in one matrix `W_pack`;
//! the second version brings the rows of its head to length 1 (NormHead, §3.3).
//!
//! Both versions and both sizes say `model_type` "baichuan". As in vLLM's loader, a vocabulary of
//! 125,696 marks the second version; so does `z_loss_weight`, a setting that only its configuration
//! has. The 13B models have ALiBi instead of rotary positions: their files name no
//! `max_position_embeddings`, or a width of 5120.

use super::definition::{Definition, LIKE_LLAMA};
use super::values::{self, Json};
use crate::error::{Error, Result};
use crate::model::config::{DecoderConfig, Family, Projections};

pub(super) const DEFINITION: Definition = Definition { model_types: &["baichuan"], from_json, ..LIKE_LLAMA };

const SECOND_VOCABULARY: usize = 125_696;
const WIDTH_OF_13B: usize = 5120;

fn from_json(json: &Json) -> Result<DecoderConfig> {
    if json.get("max_position_embeddings").is_none() || json.size("hidden_size")? == Some(WIDTH_OF_13B) {
        return Err(Error::format("Baichuan's 13B models have ALiBi positions, which are not supported")
            .help("take a 7B model"));
    }
    let config = values::like_llama(Family::Baichuan, json)?;
    let second = config.vocabulary == SECOND_VOCABULARY || json.get("z_loss_weight").is_some();
    Ok(DecoderConfig { projections: Projections::Fused, unit_head: second, ..config })
}
