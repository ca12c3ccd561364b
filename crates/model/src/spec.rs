//! What a decoder is, apart from its weights: sizes, rotation, names of tensors.

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
    /// Epsilon of the RMS norms.
    pub norm_eps: f32,
    /// The context, in tokens.
    pub max_position_embeddings: usize,
    /// True where the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Rotary embedding.
    pub rope: Rope,
    /// Standard deviation of random initial weights.
    pub initializer_range: f64,
    /// Token that begins a text, where the config names one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text.
    pub eos_token_ids: Vec<u32>,
    /// Names of the tensors.
    pub names: Names,
}

/// Rotary embedding: base and scaling of its frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// `rope_theta`.
    pub theta: f64,
    /// How frequencies are stretched for longer contexts.
    pub scaling: RopeScaling,
}

/// Stretching of the rotary frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    Default,
    /// All frequencies divided by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high kept, a smooth ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The context the base was first trained with.
        original_max_position_embeddings: f64,
    },
}

impl Rope {
    /// Inverse frequencies, one per pair of channels. Source: transformers' modeling_rope_utils.
    pub fn inverse_frequencies(&self, head_dim: usize) -> Vec<f64> {
        let half = head_dim / 2;
        let plain = (0..half).map(|i| self.theta.powf(-(2.0 * i as f64) / head_dim as f64));
        match self.scaling {
            RopeScaling::Default => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|f| f / factor).collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                plain
                    .map(|frequency| {
                        let wavelength = std::f64::consts::TAU / frequency;
                        let turns = original_max_position_embeddings / wavelength;
                        let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                        let smooth = smooth.clamp(0.0, 1.0); // 0: divided, 1: kept
                        (1.0 - smooth) * frequency / factor + smooth * frequency
                    })
                    .collect()
            }
        }
    }
}

/// Names of the tensors outside and inside the blocks, as the Hugging Face layout has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Token embedding (V, C).
    pub embedding: &'static str,
    /// Norm behind the last block (C).
    pub final_norm: &'static str,
    /// Output projection (V, C), where it isn't tied.
    pub head: &'static str,
    /// What the names of a block's tensors begin with, before its index.
    pub block_prefix: &'static str,
    /// The names inside a block.
    pub block: BlockNames,
}

/// Names of a block's tensors, behind `{prefix}{index}.`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockNames {
    /// Norm before attention (C).
    pub attention_norm: &'static str,
    /// Queries (H*D, C).
    pub query: &'static str,
    /// Keys (K*D, C).
    pub key: &'static str,
    /// Values (K*D, C).
    pub value: &'static str,
    /// Attention's output (C, H*D).
    pub output: &'static str,
    /// Norm before the MLP (C).
    pub mlp_norm: &'static str,
    /// Gate (F, C).
    pub gate: &'static str,
    /// Up (F, C).
    pub up: &'static str,
    /// Down (C, F).
    pub down: &'static str,
}

impl Spec {
    /// Every tensor of the model with its shape, in the order of the forward pass.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (c, f) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        let names = &self.names.block;
        let mut tensors = vec![(self.names.embedding.to_string(), vec![self.vocab_size, c])];
        for index in 0..self.num_hidden_layers {
            let block = [
                (names.attention_norm, vec![c]),
                (names.query, vec![q, c]),
                (names.key, vec![kv, c]),
                (names.value, vec![kv, c]),
                (names.output, vec![c, q]),
                (names.mlp_norm, vec![c]),
                (names.gate, vec![f, c]),
                (names.up, vec![f, c]),
                (names.down, vec![c, f]),
            ];
            tensors.extend(block.map(|(name, shape)| (self.block_tensor(index, name), shape)));
        }
        tensors.push((self.names.final_norm.to_string(), vec![c]));
        if !self.tie_word_embeddings {
            tensors.push((self.names.head.to_string(), vec![self.vocab_size, c]));
        }
        tensors
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
