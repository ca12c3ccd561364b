//! How much memory a job takes, by part, and what the machine has (R16, R24).

use outcrop_job::hyperparameters::Recompute;
use outcrop_job::plan::MemoryPlan;
use outcrop_kernels::head_loss;
use outcrop_model::Spec;

const F32: u64 = 4;

/// What a plan's memory depends on beside the model.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Weights that train.
    pub trainable_parameters: u64,
    /// Those of them whose gradient is written down.
    pub gradient_parameters: u64,
    /// The optimizer's state beside them, masters not counted.
    pub optimizer_bytes: u64,
    /// Bytes of a weight and of a value that is kept; below 4 the weights that train have f32 masters.
    pub value_bytes: u64,
    /// Copies beside the model: an untied head.
    pub extra_parameters: u64,
    /// Most tokens of a forward and backward pass.
    pub micro_batch_tokens: u64,
    /// Tokens of the longest document.
    pub longest: u64,
    /// Blocks that run backwards.
    pub trained_blocks: u64,
    /// What these keep.
    pub recompute: Recompute,
    /// Of the forgetting monitor.
    pub monitor_bytes: u64,
}

/// Memory by part, in bytes, of a run.
pub fn estimate(spec: &Spec, load: &Load) -> MemoryPlan {
    let masters = if load.value_bytes < F32 { load.trainable_parameters * F32 } else { 0 };
    let weights_bytes = (spec.num_parameters() as u64 + load.extra_parameters) * load.value_bytes + masters;
    let gradient_bytes = load.gradient_parameters * F32;
    let optimizer_bytes = load.optimizer_bytes;
    let tokens = load.micro_batch_tokens.max(load.longest);
    let (c, f, q) = (spec.hidden_size as u64, spec.intermediate_size as u64, spec.query_size() as u64);
    let block = tokens * spec.kept_values() as u64 * load.value_bytes;
    let input = tokens * c * load.value_bytes;
    let trained = load.trained_blocks;
    let group = outcrop_model::group_size(trained as usize) as u64;
    let kept = match load.recompute {
        Recompute::None | Recompute::Auto => trained.max(1) * block,
        Recompute::Block => trained * input + block,
        Recompute::Group => (trained.div_ceil(group) + group) * input + block,
    };
    let passing = tokens * (3 * f + 3 * c + 3 * q) * F32; // gradients of the block that is running
    let logits = head_loss::chunk_bytes(spec.vocab_size) as u64;
    // an op on 16-bit weights widens them one at a time; the head is the largest
    let widened = if load.value_bytes < F32 { (spec.vocab_size as u64).max(f) * c * F32 } else { 0 };
    let activation_bytes = kept + passing + logits + widened;
    let monitor_bytes = load.monitor_bytes;
    let total_bytes = weights_bytes + gradient_bytes + optimizer_bytes + activation_bytes + monitor_bytes;
    MemoryPlan { weights_bytes, gradient_bytes, optimizer_bytes, activation_bytes, monitor_bytes, total_bytes }
}

/// Memory of this machine that is free for a run now, in bytes; None where the platform doesn't say.
pub fn available() -> Option<u64> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    let limit = system.cgroup_limits().map_or(u64::MAX, |limits| limits.free_memory);
    Some(system.available_memory().min(limit))
}

/// Memory that is free on a device: a GPU's own, else the machine's.
pub fn available_on(device: &candle_core::Device) -> Option<u64> {
    if device.is_cpu() { available() } else { outcrop_kernels::device::free_memory(device) }
}

/// Memory that this process holds, in bytes; 0 where the platform doesn't say.
pub fn in_use() -> u64 {
    memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem as u64)
}

/// Bytes free on the disk that holds `path`, or None where that can't be told.
pub fn disk_available(path: &std::path::Path) -> Option<u64> {
    fs4::available_space(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        let config = serde_json::json!({"model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
            "tie_word_embeddings": true});
        outcrop_model::families::spec(&config).unwrap()
    }

    fn load() -> Load {
        Load {
            trainable_parameters: 134_515_008,
            gradient_parameters: 134_515_008,
            optimizer_bytes: 8 * 134_515_008,
            value_bytes: 4,
            extra_parameters: 0,
            micro_batch_tokens: 512,
            longest: 512,
            trained_blocks: 30,
            recompute: Recompute::None,
            monitor_bytes: 0,
        }
    }

    #[test]
    fn r24_a_135m_model_takes_what_its_parts_say() {
        let memory = estimate(&spec(), &load());
        assert_eq!(memory.weights_bytes, 134_515_008 * 4);
        assert_eq!(memory.gradient_bytes + memory.optimizer_bytes, 134_515_008 * 12);
        let gib = memory.total_bytes as f64 / f64::from(1 << 30);
        assert!((2.2..3.2).contains(&gib), "{gib} GiB");
    }

    #[test]
    fn r24_sixteen_bits_halve_the_weights_and_add_their_masters() {
        let (wide, narrow) = (estimate(&spec(), &load()), estimate(&spec(), &Load { value_bytes: 2, ..load() }));
        assert_eq!(narrow.weights_bytes, 134_515_008 * (2 + 4));
        assert_eq!(narrow.gradient_bytes, wide.gradient_bytes);
        assert!(narrow.activation_bytes < wide.activation_bytes);
        let head = Load { trainable_parameters: 49_152 * 576, trained_blocks: 0, value_bytes: 2, ..load() };
        assert_eq!(estimate(&spec(), &head).weights_bytes, 134_515_008 * 2 + 49_152 * 576 * 4);
    }

    #[test]
    fn recomputation_and_fewer_tokens_take_less() {
        let full = estimate(&spec(), &load()).activation_bytes;
        let with = |recompute| estimate(&spec(), &Load { recompute, ..load() }).activation_bytes;
        assert!(with(Recompute::Block) < full / 2);
        let inputs = |count: u64| count * 512 * 576 * 4;
        assert_eq!(with(Recompute::Block) - with(Recompute::Group), inputs(30) - inputs(5 + 6));
        let shorter = Load { micro_batch_tokens: 128, longest: 128, ..load() };
        assert!(estimate(&spec(), &shorter).activation_bytes < full / 2);
        assert!(available().is_none_or(|bytes| bytes > 0) && in_use() > 0);
    }
}
