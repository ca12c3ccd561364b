//! One block: norm, attention, residual, norm, gated MLP, residual; and the same backwards.

use crate::Result;
use crate::row::Row;
use crate::spec::Spec;
use crate::weights::Weights;
use candle_core::Tensor;
use outcrop_kernels::attention::{self, Heads};
use outcrop_kernels::gated_mlp::Activation;
use outcrop_kernels::{Gradients, gated_mlp, linear, residual, rms_norm, rope};

/// A weight and its name, under which its gradient is kept.
#[derive(Clone, Debug)]
pub(crate) struct Weight {
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
}

/// The weights of one block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    attention_norm: Weight,
    query: Weight,
    key: Weight,
    value: Weight,
    output: Weight,
    mlp_norm: Weight,
    gate: Weight,
    up: Weight,
    down: Weight,
}

/// What all blocks share in one pass.
pub(crate) struct Context<'a> {
    pub(crate) row: &'a Row,
    pub(crate) tables: &'a rope::Tables,
    pub(crate) heads: Heads,
    pub(crate) eps: f32,
}

/// Values of the forward pass that the backward pass reads.
/// Memory: T * (4C + 2HD + 2KD + 2F) floats and the rows' statistics; the gate's product is computed again.
pub(crate) struct Saved {
    x: Tensor,
    x_rstd: Tensor,
    x_normed: Tensor,
    q: Tensor,
    pub(crate) k: Tensor,
    pub(crate) v: Tensor,
    o: Tensor,
    lse: Tensor,
    middle: Tensor,
    middle_rstd: Tensor,
    middle_normed: Tensor,
    gate: Tensor,
    up: Tensor,
}

impl Block {
    /// Takes the weights of block `index`.
    pub(crate) fn new(spec: &Spec, index: usize, weights: &Weights) -> Result<Self> {
        let names = &spec.names.block;
        let weight = |name: &str| {
            let name = spec.block_tensor(index, name);
            Ok::<_, crate::ModelError>(Weight { tensor: weights.get(&name)?.clone(), name })
        };
        Ok(Self {
            attention_norm: weight(names.attention_norm)?,
            query: weight(names.query)?,
            key: weight(names.key)?,
            value: weight(names.value)?,
            output: weight(names.output)?,
            mlp_norm: weight(names.mlp_norm)?,
            gate: weight(names.gate)?,
            up: weight(names.up)?,
            down: weight(names.down)?,
        })
    }

    /// The block's weights, in the order of the forward pass.
    pub(crate) fn weights(&self) -> [&Weight; 9] {
        let Self { attention_norm, query, key, value, output, mlp_norm, gate, up, down } = self;
        [attention_norm, query, key, value, output, mlp_norm, gate, up, down]
    }

    /// True where one of the block's weights trains.
    pub(crate) fn trains(&self, gradients: &Gradients) -> bool {
        self.weights().iter().any(|weight| gradients.get(&weight.name).is_some())
    }

    /// Shapes: x (T, C) -> (T, C), and what the backward pass needs; dropping that frees it.
    pub(crate) fn forward(&self, x: &Tensor, context: &Context) -> Result<(Tensor, Saved)> {
        let Context { row, tables, heads, eps } = *context;
        let (x_normed, x_rstd) = rms_norm::forward(x, &self.attention_norm.tensor, eps)?;
        let q = linear::forward(&x_normed, &self.query.tensor)?; // (T, H*D)
        let k = linear::forward(&x_normed, &self.key.tensor)?; // (T, K*D)
        let v = linear::forward(&x_normed, &self.value.tensor)?; // (T, K*D)
        let q = rope::forward(&q, heads.query, &row.positions, tables)?;
        let k = rope::forward(&k, heads.key_value, &row.positions, tables)?;
        let (o, lse) = attention::forward(&q, &k, &v, heads, &row.documents)?; // (T, H*D), (H, T)
        let middle = residual::add(x, &linear::forward(&o, &self.output.tensor)?)?; // (T, C)
        let (middle_normed, middle_rstd) = rms_norm::forward(&middle, &self.mlp_norm.tensor, eps)?;
        let gate = linear::forward(&middle_normed, &self.gate.tensor)?; // (T, F)
        let up = linear::forward(&middle_normed, &self.up.tensor)?; // (T, F)
        let y = linear::forward(&gated_mlp::forward(&gate, &up, Activation::Silu)?, &self.down.tensor)?; // (T, C)
        let y = residual::add(&middle, &y)?;
        let x = x.clone();
        Ok((y, Saved { x, x_rstd, x_normed, q, k, v, o, lse, middle, middle_rstd, middle_normed, gate, up }))
    }

    /// One more token over cached keys and values, which grow by it. Shapes: x (1, C), keys and values (N, K*D) -> (1, C).
    pub(crate) fn append(
        &self,
        x: &Tensor,
        keys: &mut Tensor,
        values: &mut Tensor,
        context: &Context,
    ) -> Result<Tensor> {
        let Context { row, tables, heads, eps } = *context;
        let (normed, _) = rms_norm::forward(x, &self.attention_norm.tensor, eps)?;
        let q = rope::forward(&linear::forward(&normed, &self.query.tensor)?, heads.query, &row.positions, tables)?;
        let k = rope::forward(&linear::forward(&normed, &self.key.tensor)?, heads.key_value, &row.positions, tables)?;
        *keys = Tensor::cat(&[&*keys, &k], 0)?;
        *values = Tensor::cat(&[&*values, &linear::forward(&normed, &self.value.tensor)?], 0)?;
        let o = attention::decode(&q, keys, values, heads)?;
        let middle = residual::add(x, &linear::forward(&o, &self.output.tensor)?)?;
        let (normed, _) = rms_norm::forward(&middle, &self.mlp_norm.tensor, eps)?;
        let (gate, up) = (linear::forward(&normed, &self.gate.tensor)?, linear::forward(&normed, &self.up.tensor)?);
        Ok(residual::add(
            &middle,
            &linear::forward(&gated_mlp::forward(&gate, &up, Activation::Silu)?, &self.down.tensor)?,
        )?)
    }

    /// Adds the weights' gradients and returns dx. Shapes: dy (T, C) -> (T, C).
    pub(crate) fn backward(
        &self,
        dy: &Tensor,
        saved: Saved,
        context: &Context,
        grads: &mut Gradients,
    ) -> Result<Tensor> {
        let dmiddle = self.mlp_backward(dy, &saved, context, grads)?;
        self.attention_backward(&dmiddle, saved, context, grads)
    }

    fn mlp_backward(&self, dy: &Tensor, saved: &Saved, context: &Context, grads: &mut Gradients) -> Result<Tensor> {
        if grads.get(&self.down.name).is_some() {
            let product = gated_mlp::forward(&saved.gate, &saved.up, Activation::Silu)?;
            weight_gradient(dy, &product, &self.down, grads)?;
        }
        let dproduct = linear::backward_input(dy, &self.down.tensor)?; // (T, F)
        let (dgate, dup) = gated_mlp::backward(&dproduct, &saved.gate, &saved.up, Activation::Silu)?;
        weight_gradient(&dgate, &saved.middle_normed, &self.gate, grads)?;
        weight_gradient(&dup, &saved.middle_normed, &self.up, grads)?;
        let dnormed = residual::add(
            &linear::backward_input(&dgate, &self.gate.tensor)?,
            &linear::backward_input(&dup, &self.up.tensor)?,
        )?; // (T, C)
        let (norm, eps) = (&self.mlp_norm, context.eps);
        let gradient = grads.get_mut(&norm.name);
        let dx = rms_norm::backward(&dnormed, &saved.middle, &norm.tensor, &saved.middle_rstd, eps, gradient)?;
        Ok(residual::add(dy, &dx)?)
    }

    fn attention_backward(
        &self,
        dy: &Tensor,
        saved: Saved,
        context: &Context,
        grads: &mut Gradients,
    ) -> Result<Tensor> {
        let Context { row, tables, heads, eps } = *context;
        weight_gradient(dy, &saved.o, &self.output, grads)?;
        let d_o = linear::backward_input(dy, &self.output.tensor)?; // (T, H*D)
        let inputs = attention::Saved { q: &saved.q, k: &saved.k, v: &saved.v, o: &saved.o, lse: &saved.lse };
        let (dq, dk, dv) = attention::backward(&d_o, &inputs, heads, &row.documents)?;
        let dq = rope::backward(&dq, heads.query, &row.positions, tables)?;
        let dk = rope::backward(&dk, heads.key_value, &row.positions, tables)?;
        for (d, weight) in [(&dq, &self.query), (&dk, &self.key), (&dv, &self.value)] {
            weight_gradient(d, &saved.x_normed, weight, grads)?;
        }
        let dnormed = residual::add(
            &linear::backward_input(&dq, &self.query.tensor)?,
            &residual::add(
                &linear::backward_input(&dk, &self.key.tensor)?,
                &linear::backward_input(&dv, &self.value.tensor)?,
            )?,
        )?; // (T, C)
        let gradient = grads.get_mut(&self.attention_norm.name);
        let dx = rms_norm::backward(&dnormed, &saved.x, &self.attention_norm.tensor, &saved.x_rstd, eps, gradient)?;
        Ok(residual::add(dy, &dx)?)
    }
}

/// `dW += dy^T x`, where the weight trains.
fn weight_gradient(dy: &Tensor, x: &Tensor, weight: &Weight, grads: &mut Gradients) -> Result<()> {
    if let Some(gradient) = grads.get_mut(&weight.name) {
        linear::backward_weight(dy, x, gradient)?;
    }
    Ok(())
}
