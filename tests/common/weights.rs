//! Weights of a test's base, changed in its file.

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::path::Path;

/// Shape and f32 bytes by name.
pub(crate) type Tensors = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

/// Changes the weights of the base in `folder`.
pub(crate) fn change_weights(folder: &Path, change: impl FnOnce(&mut Tensors)) {
    let file = folder.join("model.safetensors");
    let bytes = fs_err::read(&file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let read = |(name, view): (String, TensorView)| (name, (view.shape().to_vec(), view.data().to_vec()));
    let mut tensors: Tensors = tensors.tensors().into_iter().map(read).collect();
    change(&mut tensors);
    let views =
        tensors.iter().map(|(name, (shape, data))| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    fs_err::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Makes the first norm overflow on one token alone, with weights that are all numbers: that token is the only one with a value
/// in a channel, which the norm scales beyond f32 and which no projection of another token reads.
pub(crate) fn break_token(folder: &Path, token: usize) {
    const CHANNEL: usize = 5;
    change_weights(folder, |tensors| {
        let mut set = |name: &str, value: &dyn Fn(usize, usize) -> Option<f32>| {
            let (shape, data) = tensors.get_mut(name).unwrap();
            let width = *shape.last().unwrap();
            for (index, bytes) in data.chunks_exact_mut(4).enumerate() {
                if let Some(value) = value(index / width, index % width) {
                    bytes.copy_from_slice(&value.to_le_bytes());
                }
            }
        };
        let nothing = |_, column| (column == CHANNEL).then_some(0.0);
        set("model.embed_tokens.weight", &|row, column| match (row == token, column == CHANNEL) {
            (true, true) => Some(1.0),
            (false, false) => None,
            _ => Some(0.0),
        });
        set("model.layers.0.input_layernorm.weight", &|_, column| (column == CHANNEL).then_some(3e38));
        for projection in ["q", "k", "v"] {
            set(&format!("model.layers.0.self_attn.{projection}_proj.weight"), &nothing);
        }
    });
}
