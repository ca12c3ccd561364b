//! One block: attention and MLP, the norms around them and the sums behind them, and the same backwards.
//!
//! Norms stand before a branch (Llama), behind it (OLMo 2) or on both sides (Gemma); the MLP reads what attention has
//! added to, or the same input (GPT-NeoX).

use crate::Result;
use crate::attention::{self, Attention};
use crate::beginnings::Beginnings;
use crate::cache::Cache;
use crate::layers::{Norm, Statistics, Weight, block_norm};
use crate::mlp::{self, Mlp};
use crate::rotary::Rotation;
use crate::row::Row;
use crate::spec::Spec;
use crate::weights::Weights;
use candle_core::Tensor;
use outcrop_kernels::{Gradients, residual};

/// The weights of one block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    attention_norm: Option<Norm>,
    attention: Attention,
    post_attention_norm: Option<Norm>,
    mlp_norm: Option<Norm>,
    mlp: Mlp,
    post_mlp_norm: Option<Norm>,
    parallel: bool,
}

/// What all blocks share in one pass: the row, and its rotation by each of the spec's rotary embeddings.
pub(crate) struct Context<'a> {
    pub(crate) row: &'a Row,
    /// Where the row is the distinct tokens of another: what a block keeps is then not for a backward pass.
    pub(crate) beginnings: Option<&'a Beginnings>,
    pub(crate) rotations: Vec<Rotation<'a>>,
}

/// Values of the forward pass that the backward pass reads. Memory: T * [`Spec::kept_values`] values and the rows'
/// statistics; the norms before the branches and the activation's product are computed again, at the cost of one read
/// and one write each.
pub(crate) struct Saved {
    x: Tensor,
    attention: Branch<attention::Saved>,
    /// What the MLP's branch begins with; x itself where the branches are parallel.
    middle: Tensor,
    mlp: Branch<mlp::Saved>,
}

impl Saved {
    /// Rotated keys and values, for more tokens.
    pub(crate) fn cache(self) -> Result<Cache> {
        Cache::new(self.attention.inner.k, self.attention.inner.v)
    }
}

/// What a branch keeps: the statistics of the norm before, its own values, input and statistics of the norm behind.
struct Branch<S> {
    before: Option<Statistics>,
    inner: S,
    behind: Option<(Tensor, Statistics)>,
}

impl Block {
    /// Takes the weights of block `index`.
    pub(crate) fn new(spec: &Spec, index: usize, weights: &Weights) -> Result<Self> {
        let norm = |name| block_norm(spec, index, name, weights);
        let names = &spec.names.block;
        Ok(Self {
            attention_norm: norm(names.attention_norm)?,
            attention: Attention::new(spec, index, weights)?,
            post_attention_norm: norm(names.post_attention_norm)?,
            mlp_norm: norm(names.mlp_norm)?,
            mlp: Mlp::new(spec, index, weights)?,
            post_mlp_norm: norm(names.post_mlp_norm)?,
            parallel: spec.parallel_residual,
        })
    }

    /// The block's weights, in the order of the forward pass.
    pub(crate) fn weights(&self) -> Vec<&Weight> {
        fn of(norm: Option<&Norm>) -> impl Iterator<Item = &Weight> {
            norm.into_iter().flat_map(Norm::weights)
        }
        let mut weights: Vec<&Weight> = of(self.attention_norm.as_ref()).collect();
        weights.extend(self.attention.weights());
        weights.extend(of(self.post_attention_norm.as_ref()).chain(of(self.mlp_norm.as_ref())));
        weights.extend(self.mlp.weights());
        weights.extend(of(self.post_mlp_norm.as_ref()));
        weights
    }

    /// True where one of the block's weights trains.
    pub(crate) fn trains(&self, gradients: &Gradients) -> bool {
        self.weights().iter().any(|weight| gradients.get(&weight.name).is_some())
    }

    /// Shapes: x (T, C) -> (T, C), and what the backward pass needs; dropping that frees it.
    pub(crate) fn forward(&self, x: &Tensor, context: &Context) -> Result<(Tensor, Saved)> {
        let (Attended { sum, middle, normed }, attention) = self.attend(x, context)?;
        let (y, mlp) = branch(normed, self.post_mlp_norm.as_ref(), &middle, |x| self.mlp.forward(x))?;
        Ok((residual::add(&sum, &y)?, Saved { x: x.clone(), attention, middle, mlp }))
    }

    /// What the backward pass needs, alone: without the MLP's last projection, unless a norm stands behind it.
    /// Shapes: x (T, C).
    pub(crate) fn saved(&self, x: &Tensor, context: &Context) -> Result<Saved> {
        if self.post_mlp_norm.is_some() {
            return Ok(self.forward(x, context)?.1);
        }
        let (Attended { middle, normed, .. }, attention) = self.attend(x, context)?;
        let (normed, before) = normed.unzip();
        let inner = self.mlp.saved(normed.as_ref().unwrap_or(&middle))?;
        Ok(Saved { x: x.clone(), attention, middle, mlp: Branch { before, inner, behind: None } })
    }

    /// The first half of a forward pass. Shapes: x (T, C).
    fn attend(&self, x: &Tensor, context: &Context) -> Result<(Attended, Branch<attention::Saved>)> {
        let normed = normed(self.attention_norm.as_ref(), x)?;
        let behind = self.post_attention_norm.as_ref();
        let (attended, attention) = branch(normed, behind, x, |x| self.attention.forward(x, context))?;
        Ok((self.attended(x, &attended)?, attention))
    }

    /// What follows from the input and what attention adds to it. Shapes: x, attended (T, C).
    fn attended(&self, x: &Tensor, attended: &Tensor) -> Result<Attended> {
        match &self.mlp_norm {
            Some(norm) if !self.parallel => {
                let (sum, normed) = norm.forward_residual(attended, x)?;
                Ok(Attended { middle: sum.clone(), sum, normed: Some(normed) })
            }
            norm => {
                let sum = residual::add(x, attended)?;
                let middle = if self.parallel { x.clone() } else { sum.clone() };
                Ok(Attended { normed: normed(norm.as_ref(), &middle)?, sum, middle })
            }
        }
    }

    /// One more token of each of several texts, over the cached keys and values of each, which grow by it.
    /// Shapes: x (texts, C) -> (texts, C).
    pub(crate) fn append(&self, x: &Tensor, caches: &mut [&mut Cache], context: &Context) -> Result<Tensor> {
        let normed = normed(self.attention_norm.as_ref(), x)?;
        let behind = self.post_attention_norm.as_ref();
        let attended = branch(normed, behind, x, |x| Ok((self.attention.append(x, caches, context)?, ())))?.0;
        let Attended { sum, middle, normed } = self.attended(x, &attended)?;
        let y = branch(normed, self.post_mlp_norm.as_ref(), &middle, |x| self.mlp.forward(x))?.0;
        Ok(residual::add(&sum, &y)?)
    }

    /// Adds the weights' gradients and returns dx. Shapes: dy (T, C) -> (T, C).
    pub(crate) fn backward(
        &self,
        dy: &Tensor,
        saved: Saved,
        context: &Context,
        grads: &mut Gradients,
    ) -> Result<Tensor> {
        let Saved { x, attention, middle, mlp } = saved;
        let norms = (self.mlp_norm.as_ref(), self.post_mlp_norm.as_ref());
        let inner =
            |dy: &Tensor, x: &Tensor, saved: &mlp::Saved, grads: &mut Gradients| self.mlp.backward(dy, x, saved, grads);
        let dsum = branch_backward(norms, dy, dy, &middle, mlp, grads, inner)?;
        let norms = (self.attention_norm.as_ref(), self.post_attention_norm.as_ref());
        let inner = |dy: &Tensor, x: &Tensor, saved: &attention::Saved, grads: &mut Gradients| {
            self.attention.backward(dy, x, saved, context, grads)
        };
        let dattended = if self.parallel { dy } else { &dsum };
        branch_backward(norms, dattended, &dsum, &x, attention, grads, inner)
    }
}

/// Between the branches: the input with what attention adds, and what the MLP's branch begins with, which is the input
/// where the branches are parallel; that normed, where a norm stands before the MLP. Shapes: (T, C) each.
struct Attended {
    sum: Tensor,
    middle: Tensor,
    normed: Option<(Tensor, Statistics)>,
}

/// Shapes: x (T, C) -> (T, C), where there is a norm.
fn normed(norm: Option<&Norm>, x: &Tensor) -> Result<Option<(Tensor, Statistics)>> {
    norm.map(|norm| norm.forward(x)).transpose()
}

/// `inner` of x, or of x normed where that is given, and the norm behind it where there is one.
/// Shapes: x (T, C) -> (T, C).
fn branch<S>(
    normed: Option<(Tensor, Statistics)>,
    behind: Option<&Norm>,
    x: &Tensor,
    inner: impl FnOnce(&Tensor) -> Result<(Tensor, S)>,
) -> Result<(Tensor, Branch<S>)> {
    let (normed, before) = normed.unzip();
    let (y, inner) = inner(normed.as_ref().unwrap_or(x))?;
    let Some(norm) = behind else { return Ok((y, Branch { before, inner, behind: None })) };
    let (normed, kept) = norm.forward(&y)?;
    Ok((normed, Branch { before, inner, behind: Some((y, kept)) }))
}

/// The norms before and behind a branch.
type Norms<'a> = (Option<&'a Norm>, Option<&'a Norm>);

/// Adds the gradients of a branch and returns its input's, with `past`, which reaches the input past the branch.
/// Shapes: dy, past, x (T, C) -> (T, C).
fn branch_backward<S>(
    (before, behind): Norms,
    dy: &Tensor,
    past: &Tensor,
    x: &Tensor,
    saved: Branch<S>,
    grads: &mut Gradients,
    inner: impl FnOnce(&Tensor, &Tensor, &S, &mut Gradients) -> Result<Tensor>,
) -> Result<Tensor> {
    let behind = match (behind, &saved.behind) {
        (Some(norm), Some((y, statistics))) => Some(norm.backward(dy, y, statistics, None, grads)?),
        _ => None,
    };
    let normed = normed(before, x)?.map(|(normed, _)| normed);
    let d = inner(behind.as_ref().unwrap_or(dy), normed.as_ref().unwrap_or(x), &saved.inner, grads)?;
    match (before, &saved.before) {
        (Some(norm), Some(statistics)) => norm.backward(&d, x, statistics, Some(past), grads),
        _ => Ok(residual::add(past, &d)?),
    }
}
