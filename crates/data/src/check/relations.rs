//! What records are to each other: repeated, nearly repeated, contradicting, leaked.

use std::collections::HashMap;
use std::io;

use serde::Serialize;

use super::findings::{Findings, Hit, Place};
use super::labels::Labels;
use super::near::{Clusters, NONE, RecordInfo};
use super::rules;
use super::spill::{Spill, Triple};

/// Records with the same prompt that are looked at one by one; further ones are only counted.
const MOST_ALIKE: usize = 1 << 20;

/// How often records repeat each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Repetition {
    /// Records that repeat an earlier one exactly.
    pub exact: u64,
    /// Records that are nearly the same as an earlier one.
    pub near: u64,
    /// Records in the largest cluster of near-duplicates.
    pub largest_cluster: u64,
    /// Records that near-duplicates were looked for among, and those beyond the bound.
    pub searched: u64,
    /// Records beyond the bound of memory.
    pub left_out: u64,
}

/// Names of the files, and how many of them are trained on; these come first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'a> {
    pub(crate) names: &'a [String],
    pub(crate) training: u32,
}

impl Files<'_> {
    pub(crate) fn show(&self, place: Place) -> String {
        format!("{}:{}", self.names.get(place.file as usize).map_or("", String::as_str), place.line)
    }

    fn is_training(&self, place: u64) -> bool {
        Place::unpack(place).file < self.training
    }
}

/// Exact duplicates, prompts with different completions, leaked prompts. Triples are prompt hash, place, completion hash.
pub(crate) fn check_exact(records: Spill, files: Files<'_>, findings: &mut Findings) -> io::Result<u64> {
    let mut duplicates = 0;
    records.groups(MOST_ALIKE, |group, beyond| {
        duplicates += beyond;
        findings.count_more(&rules::DUPLICATE, beyond);
        if group.len() == 1 {
            return Ok(());
        }
        // places of training files come first
        let (training, evaluation) = group.split_at(group.partition_point(|triple| files.is_training(triple[1])));
        for part in [training, evaluation] {
            duplicates += repeated(part, files, findings);
        }
        if let Some(first) = training.first() {
            let message = format!("at {}", files.show(Place::unpack(first[1])));
            for leaked in evaluation {
                findings.add(Hit::new(&rules::LEAK_PROMPT, Place::unpack(leaked[1]), message.clone(), ""));
            }
        }
        Ok(())
    })?;
    Ok(duplicates)
}

fn repeated(part: &[Triple], files: Files<'_>, findings: &mut Findings) -> u64 {
    let mut first: HashMap<u64, u64> = HashMap::new();
    let mut duplicates = 0;
    for [_, place, completion] in part {
        if let Some(earlier) = first.get(completion) {
            let message = format!("the same as {}", files.show(Place::unpack(*earlier)));
            findings.add(Hit::new(&rules::DUPLICATE, Place::unpack(*place), message, ""));
            duplicates += 1;
            continue;
        }
        if !first.is_empty() {
            let message = format!("completed otherwise at {}", files.show(Place::unpack(part[0][1])));
            findings.add(Hit::new(&rules::TWO_COMPLETIONS, Place::unpack(*place), message, ""));
        }
        first.insert(*completion, *place);
    }
    duplicates
}

/// Near-duplicates, labels that disagree, leaks.
pub(crate) fn check_near(
    clusters: &Clusters,
    labels: &Labels,
    files: Files<'_>,
    findings: &mut Findings,
) -> Repetition {
    let mut repetition =
        Repetition { searched: clusters.records.len() as u64, left_out: clusters.left_out, ..Repetition::default() };
    if clusters.left_out > 0 {
        let message = format!("{} records fit, {} don't", clusters.records.len(), clusters.left_out);
        findings.add(Hit::new(&rules::NEAR_LIMIT, Place { file: 0, line: 0 }, message, "-"));
    }
    let with_labels = labels.are_labels();
    for group in clusters.groups() {
        let mut members: Vec<RecordInfo> = group.iter().map(|record| clusters.records[*record as usize]).collect();
        members.sort_by_key(|member| member.place);
        let (training, evaluation) =
            members.split_at(members.partition_point(|member| files.is_training(member.place)));
        repetition.largest_cluster = repetition.largest_cluster.max(training.len() as u64);
        repetition.near += near(training, files, findings) + near(evaluation, files, findings);
        if with_labels {
            disagreeing(training, labels, files, findings);
        }
        leaked(training, evaluation, files, findings);
    }
    repetition
}

fn near(members: &[RecordInfo], files: Files<'_>, findings: &mut Findings) -> u64 {
    let Some(head) = members.first() else { return 0 };
    let message = format!("like {}", files.show(Place::unpack(head.place)));
    let mut seen = std::collections::HashSet::from([head.exact]);
    for member in members {
        // what repeats exactly is told elsewhere
        if seen.insert(member.exact) {
            findings.add(Hit::new(&rules::NEAR_DUPLICATE, Place::unpack(member.place), message.clone(), ""));
        }
    }
    seen.len() as u64 - 1
}

/// The label that most have is taken for right, the first one where as many have another.
fn disagreeing(members: &[RecordInfo], labels: &Labels, files: Files<'_>, findings: &mut Findings) {
    let labelled: Vec<_> = members.iter().filter(|member| member.label != NONE).collect();
    let mut counts: HashMap<u32, u64> = HashMap::new();
    labelled.iter().for_each(|member| *counts.entry(member.label).or_default() += 1);
    let most = counts.values().max().copied().unwrap_or(0);
    let Some(right) = labelled.iter().find(|member| counts[&member.label] == most) else { return };
    let name = |label: u32| super::findings::excerpt_of(labels.name(label));
    for member in labelled.iter().filter(|member| member.label != right.label) {
        let message =
            format!("`{}`; `{}` at {}", name(member.label), name(right.label), files.show(Place::unpack(right.place)));
        findings.add(Hit::new(&rules::LABEL_DISAGREES, Place::unpack(member.place), message, ""));
    }
}

fn leaked(training: &[RecordInfo], evaluation: &[RecordInfo], files: Files<'_>, findings: &mut Findings) {
    let Some(first) = training.first() else { return };
    for member in evaluation {
        // the same prompt is told as that
        if training.iter().all(|other| other.exact != member.exact) {
            let message = format!("like {}", files.show(Place::unpack(first.place)));
            findings.add(Hit::new(&rules::LEAK_NEAR, Place::unpack(member.place), message, ""));
        }
    }
}
