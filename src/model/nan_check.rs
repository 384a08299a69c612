//! Finds the first layer with a NaN or an infinity.

use super::decoder::{Decoder, PositionEncoding, Tokens};
use crate::error::Result;
use crate::lora::{Adapters, Gradients};
use crate::ops;

/// Tokens whose logits are checked at a time.
const PIECE: usize = 64;

impl Decoder {
    /// The first layer of the forward pass whose output has a NaN or an infinity, by its path in the
    /// weights: `model.layers.3.mlp.down_proj`; `model.layers.3.self_attn` and `model.layers.3.mlp` are
    /// the scores of attention and the activation. `None` if all numbers are finite. Takes a little longer than
    /// a forward pass.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn first_not_finite(&self, tokens: Tokens, adapters: &Adapters) -> Result<Option<String>> {
        let positions = tokens.positions();
        let mut x = self.enter(tokens.ids, &positions, adapters)?;
        if !ops::is_finite(&x)? {
            return Ok(Some(self.embedding.path().to_string()));
        }
        let rotary = self.rotary(&positions)?;
        for (device, blocks) in self.neighbours() {
            x = x.to_device(device)?;
            let turned = rotary.as_ref().map(|rotary| rotary.to_device(device)).transpose()?;
            let pass = self.pass(device, turned.as_ref(), tokens.borders, adapters)?;
            for block in blocks {
                let y = block.forward(x.clone(), &pass)?.0;
                if !ops::is_finite(&y)? {
                    return block.first_not_finite(&x, &pass);
                }
                x = y;
            }
        }
        let hidden = self.normed(&x, adapters)?;
        if !ops::is_finite(&hidden)? {
            return Ok(Some(self.norm.path().to_string()));
        }
        let count = tokens.ids.len();
        for start in (0..count).step_by(PIECE) {
            let piece = hidden.narrow(0, start, PIECE.min(count - start))?;
            if !ops::is_finite(&self.logits(&piece, adapters)?)? {
                return Ok(Some(self.head.path().to_string()));
            }
        }
        Ok(None)
    }

    /// The last tensor in the order of the forward pass whose gradient is not finite: the first that the backward
    /// pass reached.
    ///
    /// # Errors
    /// When a gradient cannot be read.
    pub fn last_not_finite(&self, gradients: &Gradients) -> Result<Option<String>> {
        Ok(gradients.not_finite()?.into_iter().max_by_key(|name| self.place_of(name)))
    }

    /// The position of a trained tensor in the forward pass.
    fn place_of(&self, name: &str) -> usize {
        let is_of = |path: &str| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        let table = match &self.positions {
            PositionEncoding::Learned(table) => table.name(),
            PositionEncoding::Rotary(_) => "",
        };
        if is_of(self.embedding.path()) || name == table {
            return 0;
        }
        let parts = self.blocks.iter().flat_map(|block| block.in_order());
        let outside = [self.norm.path(), self.head.path()];
        1 + parts.chain(outside).take_while(|path| !is_of(path)).count()
    }
}
