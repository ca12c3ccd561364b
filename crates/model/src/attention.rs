//! Attention of a block: projections to queries, keys and values, their norms and rotation, the scores, the output
//! projection; and the same backwards. Left out: the norm before, the sum behind (`block`).

use crate::Result;
use crate::block::Context;
use crate::cache::Cache;
use crate::layers::{Linear, Norm, Statistics, Weight};
use crate::spec::{QueryKeyValue, Spec};
use crate::weights::Weights;
use candle_core::Tensor;
use outcrop_kernels::attention::{self, Heads};
use outcrop_kernels::{Gradients, residual, rope};

/// The attention of one block.
#[derive(Clone, Debug)]
pub(crate) struct Attention {
    projections: Projections,
    norms: Option<(Norm, Norm)>,
    /// Whether a norm takes all heads together.
    whole_width: bool,
    output: Linear,
    heads: Heads,
    /// Which rotation of the context turns queries and keys.
    rope: Option<usize>,
}

/// How queries, keys and values are made.
#[derive(Clone, Debug)]
enum Projections {
    Separate(Box<[Linear; 3]>),
    Stacked(Linear),
    PerHead(Linear),
}

/// Values of the forward pass that the backward pass reads.
pub(crate) struct Saved {
    /// Queries and keys before their norms.
    raw: Option<[(Tensor, Statistics); 2]>,
    q: Tensor,
    pub(crate) k: Tensor,
    pub(crate) v: Tensor,
    o: Tensor,
    lse: Tensor,
}

/// Queries, keys and values as attention reads them, and what their norms read.
struct Projected {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    raw: Option<[(Tensor, Statistics); 2]>,
}

impl Attention {
    pub(crate) fn new(spec: &Spec, index: usize, weights: &Weights) -> Result<Self> {
        let (names, layer) = (&spec.names.block, spec.layers[index]);
        let linear = |name: &str, bias| Linear::new(spec.block_tensor(index, name), bias, spec.transposed, weights);
        let bias = spec.biases.query_key_value;
        let projections = match names.query_key_value {
            QueryKeyValue::Separate { query, key, value } => {
                Projections::Separate(Box::new([linear(query, bias)?, linear(key, bias)?, linear(value, bias)?]))
            }
            QueryKeyValue::Stacked(name) => Projections::Stacked(linear(name, bias)?),
            QueryKeyValue::PerHead(name) => Projections::PerHead(linear(name, bias)?),
        };
        let norm = |name: &str| Norm::new(spec.block_tensor(index, name), spec, weights);
        let norms =
            names.query_key_norm.map(|names| Ok::<_, crate::ModelError>((norm(names.query)?, norm(names.key)?)));
        Ok(Self {
            projections,
            norms: norms.transpose()?,
            whole_width: names.query_key_norm.is_some_and(|names| names.whole_width),
            output: linear(names.output, spec.biases.output)?,
            heads: Heads {
                query: spec.num_attention_heads,
                key_value: spec.num_key_value_heads,
                dim: spec.head_dim,
                scale: spec.attention_scale as f32,
                window: layer.window,
                softcap: spec.attention_softcap,
            },
            rope: layer.rope,
        })
    }

    /// The weights, in the order of the forward pass.
    pub(crate) fn weights(&self) -> Vec<&Weight> {
        let mut weights: Vec<&Weight> = match &self.projections {
            Projections::Separate(linears) => linears.iter().flat_map(Linear::weights).collect(),
            Projections::Stacked(linear) | Projections::PerHead(linear) => linear.weights().collect(),
        };
        if let Some((query, key)) = &self.norms {
            weights.extend(query.weights().chain(key.weights()));
        }
        weights.extend(self.output.weights());
        weights
    }

    /// Shapes: x (T, C) -> (T, C), and what the backward pass needs.
    pub(crate) fn forward(&self, x: &Tensor, context: &Context) -> Result<(Tensor, Saved)> {
        let Projected { q, k, v, raw } = self.project(x, context)?;
        let (o, lse) = match context.beginnings {
            None => attention::forward(&q, &k, &v, self.heads, &context.row.documents)?, // (T, H*D), (H, T)
            Some(beginnings) => beginnings.attend(&q, &k, &v, self.heads)?,
        };
        let y = self.output.forward(&o)?;
        Ok((y, Saved { raw, q, k, v, o, lse }))
    }

    /// One more token of each of several texts, over the cached keys and values of each, which grow by it.
    /// Shapes: x (texts, C) -> (texts, C).
    pub(crate) fn append(&self, x: &Tensor, caches: &mut [&mut Cache], context: &Context) -> Result<Tensor> {
        let Projected { q, k, v, .. } = self.project(x, context)?;
        let mut attended = Vec::with_capacity(caches.len());
        for (index, cache) in caches.iter_mut().enumerate() {
            cache.push(&k.narrow(0, index, 1)?, &v.narrow(0, index, 1)?)?;
            let (keys, values) = cache.get()?;
            attended.push(attention::decode(&q.narrow(0, index, 1)?, &keys, &values, self.heads)?);
        }
        let attended = match attended.as_slice() {
            [one] => one.clone(),
            several => Tensor::cat(several, 0)?,
        };
        self.output.forward(&attended)
    }

    /// Adds the weights' gradients and returns dx. Shapes: dy, x (T, C) -> (T, C).
    pub(crate) fn backward(
        &self,
        dy: &Tensor,
        x: &Tensor,
        saved: &Saved,
        context: &Context,
        grads: &mut Gradients,
    ) -> Result<Tensor> {
        self.output.backward_weights(dy, &saved.o, grads)?;
        let d_o = self.output.backward_input(dy)?; // (T, H*D)
        let inputs = attention::Saved { q: &saved.q, k: &saved.k, v: &saved.v, o: &saved.o, lse: &saved.lse };
        let (mut dq, mut dk, dv) = attention::backward(&d_o, &inputs, self.heads, &context.row.documents)?;
        if let Some(rotation) = self.rope.map(|rope| &context.rotations[rope]) {
            dq = rope::backward(&dq, self.heads.query, &rotation.positions, &rotation.tables)?;
            dk = rope::backward(&dk, self.heads.key_value, &rotation.positions, &rotation.tables)?;
        }
        if let (Some((query, key)), Some([q, k])) = (&self.norms, &saved.raw) {
            dq = self.norm_backward(query, &dq, q, grads)?;
            dk = self.norm_backward(key, &dk, k, grads)?;
        }
        match &self.projections {
            Projections::Separate(linears) => {
                let [query, key, value] = &**linears;
                for (d, linear) in [(&dq, query), (&dk, key), (&dv, value)] {
                    linear.backward_weights(d, x, grads)?;
                }
                let keys_values = residual::add(&key.backward_input(&dk)?, &value.backward_input(&dv)?)?;
                Ok(residual::add(&query.backward_input(&dq)?, &keys_values)?)
            }
            Projections::Stacked(linear) => {
                let d = Tensor::cat(&[dq, dk, dv], 1)?; // (T, (H + 2K)*D)
                linear.backward_weights(&d, x, grads)?;
                linear.backward_input(&d)
            }
            Projections::PerHead(linear) => {
                let (t, heads, dim) = (dq.dim(0)?, self.heads.query, self.heads.dim);
                let split = |x: &Tensor| x.reshape((t, heads, 1, dim));
                let d = Tensor::cat(&[split(&dq)?, split(&dk)?, split(&dv)?], 2)?.reshape((t, heads * 3 * dim))?;
                linear.backward_weights(&d, x, grads)?;
                linear.backward_input(&d)
            }
        }
    }

    /// Queries, keys and values, normalised and rotated. Shapes: x (T, C) -> (T, H*D), (T, K*D), (T, K*D).
    /// Cost: where one matrix makes all three, its product is copied once into the three.
    fn project(&self, x: &Tensor, context: &Context) -> Result<Projected> {
        let (t, Heads { query, key_value, dim, .. }) = (x.dim(0)?, self.heads);
        let [mut q, mut k, v] = match &self.projections {
            Projections::Separate(linears) => [linears[0].forward(x)?, linears[1].forward(x)?, linears[2].forward(x)?],
            Projections::Stacked(linear) => {
                let (all, q, kv) = (linear.forward(x)?, query * dim, key_value * dim);
                let part = |start, size| all.narrow(1, start, size)?.contiguous();
                [part(0, q)?, part(q, kv)?, part(q + kv, kv)?]
            }
            Projections::PerHead(linear) => {
                let all = linear.forward(x)?.reshape((t, query, 3, dim))?;
                let part = |index| all.narrow(2, index, 1)?.contiguous()?.reshape((t, query * dim));
                [part(0)?, part(1)?, part(2)?]
            }
        };
        let mut raw = None;
        if let Some((query_norm, key_norm)) = &self.norms {
            let (normed_q, q_statistics) = self.norm_forward(query_norm, &q)?;
            let (normed_k, k_statistics) = self.norm_forward(key_norm, &k)?;
            raw = Some([(q, q_statistics), (k, k_statistics)]);
            (q, k) = (normed_q, normed_k);
        }
        if let Some(rotation) = self.rope.map(|rope| &context.rotations[rope]) {
            q = rope::forward(&q, query, &rotation.positions, &rotation.tables)?;
            k = rope::forward(&k, key_value, &rotation.positions, &rotation.tables)?;
        }
        Ok(Projected { q, k, v, raw })
    }

    /// Rows that a norm of queries or keys takes: all heads of a token, or each.
    fn norm_rows(&self, x: &Tensor) -> Result<Tensor> {
        Ok(if self.whole_width { x.clone() } else { x.reshape(((), self.heads.dim))? })
    }

    fn norm_forward(&self, norm: &Norm, x: &Tensor) -> Result<(Tensor, Statistics)> {
        let (y, statistics) = norm.forward(&self.norm_rows(x)?)?;
        Ok((y.reshape(x.shape())?, statistics))
    }

    fn norm_backward(
        &self,
        norm: &Norm,
        dy: &Tensor,
        (x, statistics): &(Tensor, Statistics),
        grads: &mut Gradients,
    ) -> Result<Tensor> {
        let dx = norm.backward(&self.norm_rows(dy)?, &self.norm_rows(x)?, statistics, None, grads)?;
        Ok(dx.reshape(dy.shape())?)
    }
}
