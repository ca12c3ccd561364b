//! Name to tensor, and the check against what a spec needs.

use crate::spec::Spec;
use crate::{ModelError, Result};
use candle_core::{DType, Tensor};
use std::collections::BTreeMap;

/// The tensors of a model by name.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    by_name: BTreeMap<String, Tensor>,
}

impl Weights {
    /// The tensor of that name. Errors: there is none.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.by_name.get(name).ok_or_else(|| ModelError::Unsupported(format!("tensor `{name}` is missing")))
    }

    /// Puts a tensor, over one of the same name.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.by_name.insert(name.into(), tensor);
    }

    /// Takes a tensor out, if it is there.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.by_name.remove(name)
    }

    /// Names without the prefix, as files of the model without a head have them (`h.0.` for `transformer.h.0.`), get it.
    pub(crate) fn with_prefix(mut self, spec: &Spec) -> Self {
        let prefix = spec.names.prefix;
        if self.by_name.keys().any(|name| name.starts_with(prefix)) {
            return self;
        }
        let full = |(name, tensor): (String, Tensor)| match name == spec.names.head {
            true => (name, tensor),
            false => (format!("{prefix}{name}"), tensor),
        };
        self.by_name = self.by_name.into_iter().map(full).collect();
        self
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.by_name.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Errors: what `spec` needs is missing or misshapen, a tensor is left over that it would ignore, or a tied head
    /// is there a second time with other values; the first five problems are named.
    pub fn check(&self, spec: &Spec) -> Result<()> {
        let expected: BTreeMap<String, Vec<usize>> = spec.tensors().into_iter().collect();
        let mut problems = Vec::new();
        for (name, shape) in &expected {
            match self.by_name.get(name) {
                None => problems.push(format!("`{name}` is missing")),
                Some(tensor) if tensor.dims() != shape => {
                    problems.push(format!("`{name}` has shape {:?}, config.json needs {shape:?}", tensor.dims()));
                }
                Some(_) => {}
            }
        }
        let ignorable = |name: &str| {
            // buffers old exports carry, and the tied head some write a second time (compared below)
            is_buffer(name) || (spec.tie_word_embeddings && name == spec.names.head)
        };
        let extra = self.by_name.keys().filter(|name| !expected.contains_key(*name) && !ignorable(name));
        problems.extend(extra.map(|name| format!("`{name}` is not a tensor of this {} model", spec.family)));
        if spec.tie_word_embeddings
            && let (Some(head), Some(embedding)) =
                (self.by_name.get(spec.names.head), self.by_name.get(spec.names.embedding))
            && !same_values(head, embedding)?
        {
            let (head, embedding) = (spec.names.head, spec.names.embedding);
            problems.push(format!("`{head}` differs from `{embedding}`, though config.json ties them"));
        }
        if problems.is_empty() {
            return Ok(());
        }
        let more = problems.len().saturating_sub(5);
        problems.truncate(5);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        Err(ModelError::Unsupported(format!("tensors don't fit config.json: {}{more}", problems.join("; "))))
    }
}

/// Ends of the names of buffers, no weights, that older exports have: frequencies, and the causal masks of GPT-2 and
/// GPT-NeoX.
const BUFFERS: [&str; 5] =
    ["rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"];

/// True for a tensor of an older export that is no weight.
pub(crate) fn is_buffer(name: &str) -> bool {
    BUFFERS.iter().any(|buffer| name.ends_with(buffer))
}

fn same_values(a: &Tensor, b: &Tensor) -> Result<bool> {
    Ok(a.dims() == b.dims() && a.ne(b)?.to_dtype(DType::U32)?.max_all()?.to_scalar::<u32>()? == 0)
}

impl FromIterator<(String, Tensor)> for Weights {
    fn from_iter<T: IntoIterator<Item = (String, Tensor)>>(tensors: T) -> Self {
        Self { by_name: tensors.into_iter().collect() }
    }
}
