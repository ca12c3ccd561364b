//! What a decoder is, apart from its weights: sizes, kinds of layers, rotation, names of tensors.
//!
//! Every family is one value of [`Spec`]; `decoder` and `block` read it and know no family by name.

use crate::rotary::Rope;
pub use outcrop_kernels::gated_mlp::Activation;
pub use outcrop_kernels::gelu::Form;

/// Sizes and constants of a decoder. A family maps its `config.json` to one of these.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// `model_type` of the config.
    pub family: String,
    /// V, rows of the embedding and of the head.
    pub vocab_size: usize,
    /// C.
    pub hidden_size: usize,
    /// F, channels inside the MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// H, query heads.
    pub num_attention_heads: usize,
    /// K, key and value heads.
    pub num_key_value_heads: usize,
    /// D, channels of a head.
    pub head_dim: usize,
    /// The kind of all norms.
    pub norm: NormKind,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// The context, in tokens.
    pub max_position_embeddings: usize,
    /// True where the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Factor of the embedding's rows, rounded to the dtype of the weights as transformers does (Gemma).
    pub embedding_scale: Option<f64>,
    /// Factor of the attention scores.
    pub attention_scale: f64,
    /// Bounds the attention scores: `cap * tanh(score / cap)`.
    pub attention_softcap: Option<f32>,
    /// Bounds the logits in the same way.
    pub final_softcap: Option<f32>,
    /// True where attention and MLP read the same input and both are added to it (GPT-NeoX).
    pub parallel_residual: bool,
    /// True where matrices are stored as (in, out), as GPT-2's Conv1D has them.
    pub transposed: bool,
    /// Which projections have a bias.
    pub biases: Biases,
    /// Rotary embeddings that layers choose from: none, one, or one for each kind of layer.
    pub ropes: Vec<Rope>,
    /// What differs between blocks; one for each.
    pub layers: Vec<Layer>,
    /// Standard deviation of random initial weights.
    pub initializer_range: f64,
    /// Token that begins a text, where the config names one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text.
    pub eos_token_ids: Vec<u32>,
    /// Names of the tensors.
    pub names: Names,
}

/// What differs between the blocks of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Tokens that a token sees, itself included; None for all before it.
    pub window: Option<usize>,
    /// Which of [`Spec::ropes`] turns queries and keys; None leaves them.
    pub rope: Option<usize>,
}

/// Kinds of norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / rms(x) * w`.
    Rms,
    /// `x / rms(x) * (1 + w)` (Gemma).
    RmsOffset,
    /// `(x - mean(x)) / deviation(x) * w + b`.
    Layer,
}

/// Which projections have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Queries, keys and values.
    pub query_key_value: bool,
    /// Attention's output.
    pub output: bool,
    /// All of the MLP's.
    pub mlp: bool,
}

/// Names of the tensors outside and inside the blocks, as the Hugging Face layout has them. A bias has the name of its
/// weight, ending in `bias`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Token embedding (V, C).
    pub embedding: &'static str,
    /// Learned position embedding (positions, C).
    pub positions: Option<&'static str>,
    /// Norm behind the last block (C).
    pub final_norm: &'static str,
    /// Output projection (V, C), where it isn't tied.
    pub head: &'static str,
    /// What the names of all but the head begin with; files of the model without a head lack it.
    pub prefix: &'static str,
    /// What the names of a block's tensors begin with, before its index.
    pub block_prefix: &'static str,
    /// The names inside a block.
    pub block: BlockNames,
}

/// Names of a block's tensors, behind `{prefix}{index}.`. A norm without a name isn't there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockNames {
    /// Norm before attention (C).
    pub attention_norm: Option<&'static str>,
    /// Queries, keys and values.
    pub query_key_value: QueryKeyValue,
    /// Norms of queries and keys, before the rotation.
    pub query_key_norm: Option<QueryKeyNorm>,
    /// Attention's output (C, H*D).
    pub output: &'static str,
    /// Norm of attention's output, before it is added (C).
    pub post_attention_norm: Option<&'static str>,
    /// Norm before the MLP (C).
    pub mlp_norm: Option<&'static str>,
    /// The MLP's first projections and its activation.
    pub mlp: Mlp,
    /// The MLP's last projection (C, F).
    pub down: &'static str,
    /// Norm of the MLP's output, before it is added (C).
    pub post_mlp_norm: Option<&'static str>,
}

/// How queries, keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKeyValue {
    /// Three matrices: (H*D, C), (K*D, C), (K*D, C).
    Separate {
        /// Queries.
        query: &'static str,
        /// Keys.
        key: &'static str,
        /// Values.
        value: &'static str,
    },
    /// One matrix ((H + 2K)*D, C): all queries, all keys, all values.
    Stacked(&'static str),
    /// One matrix (H*3*D, C): a head's query, key and value, then the next head's.
    PerHead(&'static str),
}

/// Norms of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryKeyNorm {
    /// Of the queries.
    pub query: &'static str,
    /// Of the keys.
    pub key: &'static str,
    /// True where all heads together are normalised (H*D and K*D), false where each is (D).
    pub whole_width: bool,
}

/// How the MLP begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mlp {
    /// `activation(gate) * up`, two matrices (F, C).
    Gated {
        /// Gate.
        gate: &'static str,
        /// Up.
        up: &'static str,
        /// What the gate goes through.
        activation: Activation,
    },
    /// The same, as one matrix (2F, C): the gate, then up.
    Fused {
        /// Gate and up.
        gate_up: &'static str,
        /// What the gate goes through.
        activation: Activation,
    },
    /// `gelu(up)`, one matrix (F, C).
    Plain {
        /// Up.
        up: &'static str,
        /// Form of GELU.
        form: Form,
    },
}

/// What a tensor is, for its initial value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An embedding or a projection.
    Matrix,
    /// The projection that ends a residual branch.
    BranchEnd,
    /// A norm's weight.
    Norm,
    /// A bias.
    Bias,
}

/// A tensor of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its full name.
    pub name: String,
    /// Its shape as stored.
    pub shape: Vec<usize>,
    /// What it is.
    pub role: Role,
}

impl Spec {
    /// Every tensor of the model, in the order of the forward pass.
    pub fn parameters(&self) -> Vec<Parameter> {
        let matrix =
            |name: &str, rows| Parameter { name: name.into(), shape: vec![rows, self.hidden_size], role: Role::Matrix };
        let mut parameters = vec![matrix(self.names.embedding, self.vocab_size)];
        parameters.extend(self.names.positions.map(|name| matrix(name, self.max_position_embeddings)));
        for index in 0..self.num_hidden_layers {
            self.block_parameters(index, &mut parameters);
        }
        self.norm_parameters(self.names.final_norm.into(), self.hidden_size, &mut parameters);
        if !self.tie_word_embeddings {
            parameters.push(matrix(self.names.head, self.vocab_size));
        }
        parameters
    }

    fn block_parameters(&self, index: usize, parameters: &mut Vec<Parameter>) {
        let (c, f, block, biases) = (self.hidden_size, self.intermediate_size, &self.names.block, self.biases);
        let (q, kv) = (self.query_size(), self.key_value_size());
        let norm = |name: Option<&str>, size, parameters: &mut Vec<Parameter>| {
            if let Some(name) = name {
                self.norm_parameters(self.block_tensor(index, name), size, parameters);
            }
        };
        let linear = |name: &str, out, inner, bias: bool, role, parameters: &mut Vec<Parameter>| {
            let name = self.block_tensor(index, name);
            let shape = if self.transposed { vec![inner, out] } else { vec![out, inner] };
            let bias = bias.then(|| Parameter { name: bias_name(&name), shape: vec![out], role: Role::Bias });
            parameters.push(Parameter { name, shape, role });
            parameters.extend(bias);
        };
        norm(block.attention_norm, c, parameters);
        let qkv = biases.query_key_value;
        match block.query_key_value {
            QueryKeyValue::Separate { query, key, value } => {
                for (name, out) in [(query, q), (key, kv), (value, kv)] {
                    linear(name, out, c, qkv, Role::Matrix, parameters);
                }
            }
            QueryKeyValue::Stacked(name) | QueryKeyValue::PerHead(name) => {
                linear(name, q + 2 * kv, c, qkv, Role::Matrix, parameters);
            }
        }
        if let Some(QueryKeyNorm { query, key, whole_width }) = block.query_key_norm {
            for (name, width) in [(query, q), (key, kv)] {
                norm(Some(name), if whole_width { width } else { self.head_dim }, parameters);
            }
        }
        linear(block.output, c, q, biases.output, Role::BranchEnd, parameters);
        norm(block.post_attention_norm, c, parameters);
        norm(block.mlp_norm, c, parameters);
        let up: &[(&str, usize)] = match block.mlp {
            Mlp::Gated { gate, up, .. } => &[(gate, f), (up, f)],
            Mlp::Fused { gate_up, .. } => &[(gate_up, 2 * f)],
            Mlp::Plain { up, .. } => &[(up, f)],
        };
        for &(name, out) in up {
            linear(name, out, c, biases.mlp, Role::Matrix, parameters);
        }
        linear(block.down, c, f, biases.mlp, Role::BranchEnd, parameters);
        norm(block.post_mlp_norm, c, parameters);
    }

    fn norm_parameters(&self, name: String, size: usize, parameters: &mut Vec<Parameter>) {
        let bias = Parameter { name: bias_name(&name), shape: vec![size], role: Role::Bias };
        parameters.push(Parameter { name, shape: vec![size], role: Role::Norm });
        if self.norm == NormKind::Layer {
            parameters.push(bias);
        }
    }

    /// Every tensor of the model with its shape, in the order of the forward pass.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.parameters().into_iter().map(|parameter| (parameter.name, parameter.shape)).collect()
    }

    /// Channels of all queries, H*D.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Channels of all keys, or of all values, K*D.
    pub fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Values that a block keeps for each token in training, without the rows' statistics: those of `block::Saved`.
    pub fn kept_values(&self) -> usize {
        let (c, f, block) = (self.hidden_size, self.intermediate_size, &self.names.block);
        let (q, kv) = (self.query_size(), self.key_value_size());
        let mlp = if matches!(block.mlp, Mlp::Plain { .. }) { f } else { 2 * f };
        let norms = [block.post_attention_norm, block.post_mlp_norm].iter().flatten().count();
        let raw = if block.query_key_norm.is_some() { q + kv } else { 0 };
        let inputs = if self.parallel_residual { 1 } else { 2 };
        (inputs + norms) * c + 2 * q + 2 * kv + raw + mlp
    }

    /// Full name of a block's tensor.
    pub fn block_tensor(&self, index: usize, name: &str) -> String {
        format!("{}{index}.{name}", self.names.block_prefix)
    }

    /// Name of the tensor that the head is: its own, or the embedding's where they are tied.
    pub fn head_name(&self) -> &'static str {
        if self.tie_word_embeddings { self.names.embedding } else { self.names.head }
    }

    /// Number of weights.
    pub fn num_parameters(&self) -> usize {
        self.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}

/// The name of the bias beside a weight.
pub(crate) fn bias_name(weight: &str) -> String {
    format!("{}bias", weight.trim_end_matches("weight"))
}
