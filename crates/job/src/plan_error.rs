//! How far a plan was from its run (R24): the time of the steps and the memory. Both are read off the plan and the events,
//! so that every view of a finished run says the same. Left out: validation, looks at forgetting, checkpoints and the
//! comparison, whose time no plan foretells.

use serde::Serialize;

use crate::describe::{bytes, duration};
use crate::plan::TimePlan;
use crate::{Event, Plan, Record};

/// A plan against its run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanError {
    /// Seconds of all steps.
    pub seconds: f64,
    /// What the plan said of them.
    pub planned: TimePlan,
    /// `seconds` over the nearest end of the plan's interval, 1 within it: below 1 the plan said too much, above 1 too
    /// little.
    pub seconds_ratio: f64,
    /// Most memory of the process after any step, in bytes.
    pub memory_bytes: u64,
    /// What the plan said of it, in bytes.
    pub planned_memory_bytes: u64,
    /// `memory_bytes` over `planned_memory_bytes`.
    pub memory_ratio: f64,
}

impl PlanError {
    /// Of a run that did all its steps; None where one of them is missing, as in a run that ended early, or where the
    /// plan has no time.
    pub fn of(plan: &Plan, records: &[Record]) -> Option<Self> {
        let planned = plan.time?;
        let steps = records.iter().filter_map(|record| match &record.event {
            Event::Step(step) => Some(step),
            _ => None,
        });
        let (mut seconds, mut memory_bytes, mut last) = (0.0, 0, 0);
        for step in steps {
            seconds += step.seconds;
            memory_bytes = memory_bytes.max(step.memory_bytes);
            last = step.step;
        }
        if last != plan.steps.total || plan.memory.total_bytes == 0 {
            return None;
        }
        let nearest = seconds.clamp(planned.seconds_low, planned.seconds_high.max(planned.seconds_low));
        let planned_memory_bytes = plan.memory.total_bytes;
        Some(Self {
            seconds,
            planned,
            seconds_ratio: if nearest > 0.0 { seconds / nearest } else { 1.0 },
            memory_bytes,
            planned_memory_bytes,
            memory_ratio: memory_bytes as f64 / planned_memory_bytes as f64,
        })
    }

    /// The time on one line.
    #[must_use]
    pub fn time_in_words(&self) -> String {
        let [took, low, high] = [self.seconds, self.planned.seconds_low, self.planned.seconds_high].map(duration);
        let off = match self.seconds_ratio {
            1.0 => "as planned".to_string(),
            ratio if ratio > 1.0 => format!("{ratio:.2} times the longest planned"),
            ratio => format!("{ratio:.2} times the shortest planned"),
        };
        format!("steps took {took}, planned {low} to {high}: {off}")
    }

    /// The memory on one line.
    #[must_use]
    pub fn memory_in_words(&self) -> String {
        let [most, planned] = [self.memory_bytes, self.planned_memory_bytes].map(bytes);
        format!("at most {most} in use, planned {planned}: {:.2} times", self.memory_ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::step;
    use crate::plan::tests::plan;

    /// A run of twenty steps of 0.064 s each, with 8.6 GB in use, against a plan of these seconds.
    fn error(seconds_low: f64, seconds_high: f64) -> PlanError {
        let mut plan = plan();
        plan.time = Some(TimePlan { seconds_low, seconds_high });
        let record = |number| Record { time: crate::timestamp::now(), event: step(number, 0, 2.0) };
        let records: Vec<Record> = (1..=20).map(record).collect();
        assert_eq!(PlanError::of(&plan, &records[..19]), None, "a step is missing");
        let error = PlanError::of(&plan, &records).unwrap();
        plan.time = None;
        assert_eq!(PlanError::of(&plan, &records), None);
        error
    }

    #[test]
    fn r24_the_time_is_held_against_the_nearest_end() {
        let within = error(1.0, 2.0);
        assert!((within.seconds - 1.28).abs() < 1e-9, "{within:?}");
        assert_eq!((within.seconds_ratio, within.time_in_words().ends_with("as planned")), (1.0, true));
        let long = error(0.32, 0.64);
        assert!((long.seconds_ratio - 2.0).abs() < 1e-9, "{long:?}");
        assert!(long.time_in_words().ends_with("planned 0.3 s to 0.6 s: 2.00 times the longest planned"));
        assert!(error(2.56, 3.0).time_in_words().ends_with("0.50 times the shortest planned"));
    }

    #[test]
    fn r24_the_memory_is_the_most_of_any_step() {
        let error = error(1.0, 2.0);
        assert_eq!((error.memory_bytes, error.planned_memory_bytes), (1 << 33, 4000));
        assert!(error.memory_in_words().starts_with("at most 8.6 GB in use, planned 4 kB: "), "{error:?}");
    }
}
