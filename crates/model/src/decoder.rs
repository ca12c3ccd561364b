//! The decoder: embedding, blocks, final norm, head; forward without a graph, and loss with its gradients.
//!
//! T tokens of a packed row, C channels, N targets, V vocabulary.

use crate::beginnings::Beginnings;
use crate::block::{Block, Context, Saved};
use crate::layers::{Norm, Weight};
use crate::rotary::Rotary;
use crate::row::Row;
use crate::spec::Spec;
use crate::weights::Weights;
use crate::{ModelError, Result};
use candle_core::{DType, Device, Tensor};
use outcrop_kernels::{Gradients, embedding, head_loss, linear, residual, rows};

/// What the forward pass of a training step keeps of each block that trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recompute {
    /// Everything the backward pass reads.
    Nothing,
    /// The block's input alone; its forward pass runs again. Same bits on the CPU.
    Block,
    /// The input of every k-th block alone, k about the root of the blocks that train: the others' inputs, then each
    /// block, run again. Least memory, about two forward passes more. Same bits on the CPU.
    Group,
}

impl Recompute {
    /// Blocks of a group, where `trained` blocks run backwards: k inputs of groups and k of the group that runs are
    /// fewest where k is the root.
    fn group(self, trained: usize) -> usize {
        match self {
            Self::Nothing | Self::Block => 1,
            Self::Group => group_size(trained),
        }
    }
}

/// Blocks of a group of [`Recompute::Group`], for memory plans.
pub fn group_size(trained_blocks: usize) -> usize {
    ((trained_blocks as f64).sqrt().ceil() as usize).max(1)
}

/// A decoder with its weights on one device. Cloning shares the weights.
#[derive(Clone, Debug)]
pub struct Decoder {
    spec: Spec,
    pub(crate) embedding: Weight,
    positions: Option<Weight>,
    pub(crate) blocks: Vec<Block>,
    final_norm: Norm,
    head: Weight,
    rotaries: Vec<Rotary>,
    device: Device,
    /// See [`Decoder::set_z_loss`].
    z_loss: f32,
}

impl Decoder {
    /// Builds the decoder of `spec` from its weights. Errors: a tensor missing or misshapen.
    pub fn new(spec: Spec, weights: &Weights, device: &Device) -> Result<Self> {
        weights.check(&spec)?;
        let context = spec.max_position_embeddings;
        Ok(Self {
            embedding: Weight::new(spec.names.embedding, weights)?,
            positions: spec.names.positions.map(|name| Weight::new(name, weights)).transpose()?,
            blocks: (0..spec.num_hidden_layers).map(|i| Block::new(&spec, i, weights)).collect::<Result<_>>()?,
            final_norm: Norm::new(spec.names.final_norm, &spec, weights)?,
            head: Weight::new(spec.head_name(), weights)?,
            rotaries: spec.ropes.iter().map(|rope| Rotary::new(rope, context, device)).collect::<Result<_>>()?,
            device: device.clone(),
            z_loss: 0.0,
            spec,
        })
    }

    /// Sizes and names.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Every weight with its name, in the order of the forward pass; a tied head is the embedding, once.
    pub fn weights(&self) -> Vec<(&str, &Tensor)> {
        let mut weights = vec![&self.embedding];
        weights.extend(&self.positions);
        weights.extend(self.blocks.iter().flat_map(Block::weights));
        weights.extend(self.final_norm.weights());
        if !self.spec.tie_word_embeddings {
            weights.push(&self.head);
        }
        weights.into_iter().map(|weight| (weight.name.as_str(), &weight.tensor)).collect()
    }

    /// Those of block `first` and above, with final norm and head; beyond the blocks, the head alone.
    pub fn weights_from(&self, first: usize) -> Vec<(&str, &Tensor)> {
        let mut weights: Vec<&Weight> = self.blocks.iter().skip(first).flat_map(Block::weights).collect();
        if first <= self.blocks.len() {
            weights.extend(self.final_norm.weights());
        }
        weights.push(&self.head);
        weights.into_iter().map(|weight| (weight.name.as_str(), &weight.tensor)).collect()
    }

    /// Gives the head weights of its own, a copy of the embedding, so that it can be trained alone (R28).
    pub fn untie_head(&mut self) -> Result<()> {
        if self.spec.tie_word_embeddings {
            self.spec.tie_word_embeddings = false;
            // `copy` would share the buffer on Metal
            self.head = Weight { name: self.spec.names.head.into(), tensor: self.embedding.tensor.force_contiguous()? };
        }
        Ok(())
    }

    /// Hidden states behind the final norm at `positions`, without a graph: what the head reads.
    /// Shapes: positions N -> (N, C). Nothing is kept below.
    pub fn trunk(&self, row: &Row, positions: &[u32]) -> Result<Tensor> {
        let x = match self.beginnings(row) {
            None => rows::gather(&self.blocks_below(row, None, self.blocks.len())?, positions)?,
            Some(distinct) => {
                let x = self.blocks_below(&distinct.row, Some(&distinct), self.blocks.len())?;
                rows::gather(&x, &distinct.places(positions)?)?
            }
        };
        Ok(self.final_norm.forward(&x)?.0)
    }

    /// Tokens of a row that run through the trunk: equal beginnings of its documents run once.
    pub fn trunk_tokens(&self, row: &Row) -> usize {
        self.beginnings(row).map_or(row.len(), |distinct| distinct.row.len())
    }

    /// Logits at every position. Shapes: (T, V). For tests and single prompts: training never makes them.
    pub fn logits(&self, row: &Row) -> Result<Tensor> {
        let x = self.below(row, self.blocks.len())?;
        self.logits_of(&x)
    }

    /// Logits of what the last block gives, by final norm, head and soft-cap. Shapes: x (N, C) -> (N, V).
    pub(crate) fn logits_of(&self, x: &Tensor) -> Result<Tensor> {
        self.capped(linear::forward(&self.final_norm.forward(x)?.0, &self.head.tensor)?)
    }

    fn capped(&self, logits: Tensor) -> Result<Tensor> {
        Ok(match self.spec.final_softcap.map(f64::from) {
            Some(cap) => ((logits / cap)?.tanh()? * cap)?,
            None => logits,
        })
    }

    /// What the first block reads: the tokens' rows of the embedding, scaled, with the positions' added. Shapes: (T, C).
    pub(crate) fn embed(&self, row: &Row) -> Result<Tensor> {
        let context = self.spec.max_position_embeddings;
        if let Some(position) = row.positions.iter().find(|&&position| position as usize >= context) {
            let message = format!("decoder: position {position} but the context has {context}");
            return Err(ModelError::Unsupported(message));
        }
        let mut x = embedding::forward(&row.tokens, &self.embedding.tensor)?;
        if let Some(scale) = self.embedding_scale()? {
            x = (x * scale)?;
        }
        match &self.positions {
            Some(positions) => Ok(residual::add(&x, &embedding::forward(&row.positions, &positions.tensor)?)?),
            None => Ok(x),
        }
    }

    /// The embedding's factor as the weights' dtype has it: sqrt(3072) = 55.43 is 55.5 in bf16, in transformers too.
    fn embedding_scale(&self) -> Result<Option<f64>> {
        let Some(scale) = self.spec.embedding_scale else { return Ok(None) };
        let rounded = Tensor::new(scale as f32, &Device::Cpu)?.to_dtype(self.embedding.tensor.dtype())?;
        Ok(Some(f64::from(rounded.to_dtype(DType::F32)?.to_scalar::<f32>()?)))
    }

    /// Adds the gradients of what [`Decoder::embed`] read. Shapes: dx (T, C).
    fn embed_backward(&self, dx: &Tensor, row: &Row, gradients: &mut Gradients) -> Result<()> {
        if let Some(gradient) = self.positions.as_ref().and_then(|weight| gradients.get_mut(&weight.name)) {
            embedding::backward(dx, &row.positions, gradient)?;
        }
        let Some(gradient) = gradients.get_mut(&self.embedding.name) else { return Ok(()) };
        match self.embedding_scale()? {
            Some(scale) => embedding::backward(&(dx * scale)?, &row.tokens, gradient)?,
            None => embedding::backward(dx, &row.tokens, gradient)?,
        }
        Ok(())
    }

    /// Negative log-likelihood, in nats, of the token behind each of `targets`. No logits of the whole row exist.
    /// Errors: a target that is the last token of its document.
    pub fn nll(&self, row: &Row, targets: &[u32]) -> Result<Vec<f32>> {
        row.check_targets(targets)?;
        self.head_nll(&self.trunk(row, targets)?, &row.next_tokens(targets))
    }

    /// Negative log-likelihood, in nats, of each token behind what the trunk gave. Shapes: hidden (N, C), next N -> N.
    pub fn head_nll(&self, hidden: &Tensor, next: &[u32]) -> Result<Vec<f32>> {
        Ok(head_loss::nll(hidden, &self.head.tensor, next, self.head_options())?)
    }

    /// NLL of each target, and the gradients of `scale * sum(nll)` added to every weight that `gradients` holds.
    ///
    /// `scale` is 1 / (targets of the whole optimizer step), so that neither the split into micro-batches nor the
    /// packing changes the result (R1). Blocks below the lowest one that trains keep nothing.
    /// Errors: a target that is the last token of its document.
    pub fn loss_backward(
        &self,
        row: &Row,
        targets: &[u32],
        scale: f32,
        recompute: Recompute,
        gradients: &mut Gradients,
    ) -> Result<Vec<f32>> {
        let boundary = self.boundary(gradients);
        self.loss_backward_above(self.below(row, boundary)?, boundary, row, targets, scale, recompute, gradients)
    }

    /// Input of block `boundary` at every position, without a graph; behind the last block where there is no such
    /// block. Shapes: (T, C).
    pub fn below(&self, row: &Row, boundary: usize) -> Result<Tensor> {
        match (boundary > 0).then(|| self.beginnings(row)).flatten() {
            None => self.blocks_below(row, None, boundary),
            Some(distinct) => distinct.spread(&self.blocks_below(&distinct.row, Some(&distinct), boundary)?),
        }
    }

    /// The equal beginnings of a row's documents, where running them once spares enough. None where a document is so
    /// long that its rotation is its own.
    fn beginnings(&self, row: &Row) -> Option<Beginnings> {
        let longest = row.documents.longest();
        if self.rotaries.iter().any(|rotary| rotary.is_own(longest)) { None } else { Beginnings::of(row) }
    }

    /// Shapes: (T, C), or (U, C) of a row of U distinct tokens.
    fn blocks_below(&self, row: &Row, beginnings: Option<&Beginnings>, boundary: usize) -> Result<Tensor> {
        let mut x = self.embed(row)?;
        let context = Context { beginnings, ..self.context(row)? };
        for block in self.blocks.iter().take(boundary) {
            x = block.forward(&x, &context)?.0;
        }
        Ok(x)
    }

    /// [`Decoder::nll`] from what [`Decoder::below`] gave: the same bits.
    pub fn nll_above(&self, x: Tensor, boundary: usize, row: &Row, targets: &[u32]) -> Result<Vec<f32>> {
        row.check_targets(targets)?;
        self.head_nll(&self.trunk_above(x, boundary, row, targets)?, &row.next_tokens(targets))
    }

    /// [`Decoder::trunk`] from what [`Decoder::below`] gave: the same bits. Shapes: x (T, C), positions N -> (N, C).
    pub fn trunk_above(&self, mut x: Tensor, boundary: usize, row: &Row, positions: &[u32]) -> Result<Tensor> {
        let context = self.context(row)?;
        for block in self.blocks.iter().skip(boundary) {
            x = block.forward(&x, &context)?.0;
        }
        Ok(self.final_norm.forward(&rows::gather(&x, positions)?)?.0)
    }

    /// Logits of what the trunk gave, soft-capped, in f32 whatever the weights: as the loss has them.
    /// Shapes: hidden (N, C) -> (N, V), all at once.
    pub fn head_logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let logits = linear::forward(&hidden.to_dtype(DType::F32)?, &self.head.tensor.to_dtype(DType::F32)?)?;
        self.capped(logits)
    }

    /// Sets the weight of the z-loss in gradients; 0 at first. No NLL has it.
    pub fn set_z_loss(&mut self, weight: f32) {
        self.z_loss = weight;
    }

    /// What the loss of this decoder's head adds to the plain cross-entropy.
    pub fn head_options(&self) -> head_loss::Options {
        head_loss::Options { softcap: self.spec.final_softcap, z_loss: self.z_loss }
    }

    /// The head's weights.
    pub fn head_weight(&self) -> &Tensor {
        &self.head.tensor
    }

    /// [`Decoder::loss_backward`] from what [`Decoder::below`] gave: the same bits. Nothing below may train.
    #[allow(clippy::too_many_arguments)]
    pub fn loss_backward_above(
        &self,
        mut x: Tensor,
        boundary: usize,
        row: &Row,
        targets: &[u32],
        scale: f32,
        recompute: Recompute,
        gradients: &mut Gradients,
    ) -> Result<Vec<f32>> {
        row.check_targets(targets)?;
        let context = self.context(row)?;
        let group = recompute.group(self.blocks.len() - boundary);
        let mut kept = Vec::new();
        for (index, block) in self.blocks.iter().enumerate().skip(boundary) {
            let (y, saved) = block.forward(&x, &context)?;
            match recompute {
                Recompute::Nothing => kept.push(Kept::Values(Box::new(saved))),
                _ if (index - boundary).is_multiple_of(group) => kept.push(Kept::Input(x)),
                _ => {}
            }
            x = y;
        }
        let x = rows::gather(&x, targets)?; // (N, C)
        let (normed, statistics) = self.final_norm.forward(&x)?;
        let below = boundary < self.blocks.len()
            || self.final_norm.weights().any(|weight| gradients.get(&weight.name).is_some())
            || (!self.spec.tie_word_embeddings && gradients.get(&self.embedding.name).is_some());
        let next = row.next_tokens(targets);
        let gradient = gradients.get_mut(&self.head.name);
        let (head, options) = (&self.head.tensor, self.head_options());
        let loss = head_loss::forward_backward(&normed, head, &next, scale, options, below, gradient)?;
        let Some(dnormed) = loss.dh else { return Ok(loss.nll) };

        let dx = self.final_norm.backward(&dnormed, &x, &statistics, None, gradients)?;
        let mut dx = rows::scatter(&dx, targets, row.len())?; // (T, C)
        let mut inputs = Vec::new(); // of the blocks of the group that runs
        for (index, block) in self.blocks.iter().enumerate().skip(boundary).rev() {
            let saved = match inputs.pop() {
                Some(x) => block.saved(&x, &context)?,
                None => match kept.pop() {
                    Some(Kept::Values(saved)) => *saved,
                    Some(Kept::Input(mut x)) => {
                        let first = index - (index - boundary) % group;
                        for below in &self.blocks[first..index] {
                            let y = below.forward(&x, &context)?.0;
                            inputs.push(std::mem::replace(&mut x, y));
                        }
                        block.saved(&x, &context)?
                    }
                    None => return Err(ModelError::Unsupported("decoder: a block has no saved values".into())),
                },
            };
            dx = block.backward(&dx, saved, &context, gradients)?;
        }
        self.embed_backward(&dx, row, gradients)?;
        Ok(loss.nll)
    }

    /// The lowest block that has to run backwards: the first that trains, or 0 where an embedding does.
    fn boundary(&self, gradients: &Gradients) -> usize {
        if std::iter::once(&self.embedding).chain(&self.positions).any(|weight| gradients.get(&weight.name).is_some()) {
            return 0;
        }
        self.blocks.iter().position(|block| block.trains(gradients)).unwrap_or(self.blocks.len())
    }

    pub(crate) fn context<'a>(&'a self, row: &'a Row) -> Result<Context<'a>> {
        let rotations = self.rotaries.iter().map(|rotary| rotary.of(row)).collect::<Result<_>>()?;
        Ok(Context { row, beginnings: None, rotations })
    }

    /// True where the keys that a cache holds of a document don't hold once it has `length` tokens (dynamic and
    /// longrope scaling): all of it has to run again.
    pub(crate) fn rotation_changes_at(&self, length: usize) -> bool {
        self.rotaries.iter().any(|rotary| rotary.changes_at(length))
    }
}

enum Kept {
    Values(Box<Saved>),
    Input(Tensor),
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;
    use std::path::Path;

    #[test]
    fn blocks_below_the_lowest_that_trains_run_without_keeping_anything() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/llama");
        let mut decoder = crate::Base::open(&folder).unwrap().load(DType::F32, &Device::Cpu).unwrap();
        let boundary = |decoder: &Decoder, trains: &[&str]| {
            let weights = decoder.weights().into_iter().filter(|(name, _)| trains.contains(name));
            decoder.boundary(&Gradients::for_weights(weights).unwrap())
        };
        assert_eq!(boundary(&decoder, &["model.embed_tokens.weight"]), 0, "a tied head is the embedding");
        decoder.untie_head().unwrap();
        assert_eq!(boundary(&decoder, &[]), 3);
        assert_eq!(boundary(&decoder, &["lm_head.weight", "model.norm.weight"]), 3);
        assert_eq!(boundary(&decoder, &["lm_head.weight", "model.layers.2.mlp.down_proj.weight"]), 2);
        let two = ["model.layers.2.mlp.up_proj.weight", "model.layers.1.input_layernorm.weight"];
        assert_eq!(boundary(&decoder, &two), 1);
        assert_eq!(boundary(&decoder, &["model.embed_tokens.weight"]), 0);
    }
}
