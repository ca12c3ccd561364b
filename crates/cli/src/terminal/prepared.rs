//! A prepared input in a few lines: what it holds, what was lost or set aside, and where its shard lies.

use super::{bytes, count, counted};
use outcrop_data::{Prepared, SourceKind};

/// What `data prepare` says of an input.
pub(crate) fn prepared(input: &str, prepared: &Prepared, max_length: usize) -> String {
    let (shard, summary) = (&prepared.shard, prepared.shard.summary());
    let state = if prepared.reused { "ready already" } else { "prepared" };
    let mut text = format!(
        "{input}: {state}, {}, {} tokens, {} of them targets\n",
        counted(summary.records, "record"),
        count(summary.tokens),
        count(summary.target_tokens)
    );
    let lengths = summary.lengths;
    text += &format!(
        "  lengths  half up to {}, 95 % up to {}, 99 % up to {}, longest kept {} of {max_length}\n",
        lengths.p50, lengths.p95, lengths.p99, summary.longest
    );
    if shard.kind() != SourceKind::Pairs {
        let capacity = summary.units * max_length as u64;
        let waste = 100.0 * summary.unfilled_tokens as f64 / capacity.max(1) as f64;
        text += &format!("  rows     {} of up to {max_length} tokens, {waste:.1} % unfilled\n", count(summary.units));
    }
    for (count, what) in [
        (summary.dropped_records, "records dropped as too long"),
        (summary.truncated_records, "prompts shortened from the left"),
        (summary.empty_completions, "empty completions"),
        (summary.untargeted_first_tokens + summary.cut_targets, "first tokens of rows are nobody's target"),
    ] {
        if count > 0 {
            text += &format!("  note     {count} {what}\n");
        }
    }
    for note in &prepared.notes {
        text += &format!("  note     {note}\n");
    }
    let size = fs_err::metadata(shard.path()).map_or(0, |metadata| metadata.len());
    text + &format!("  shard    {} ({})\n", shard.path().display(), bytes(size))
}
