//! `outcrop doctor`: the devices there are, whether every op is right on each, and how near to its limits each runs.

mod examination;
mod report;

use clap::Args;
use examination::{Examination, examine};
use outcrop_kernels::case::{self, Set};
use outcrop_kernels::device::{self, Listed};

/// Arguments of `doctor`.
#[derive(Args)]
pub(crate) struct Doctor {
    /// Examine this device alone: cpu, cuda:0 or metal; more than once for several [default: all that can be opened]
    #[arg(long)]
    device: Vec<String>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let devices = self.devices()?;
        let show = |text: &str| if self.json { Ok(()) } else { crate::terminal::print(text) };
        show(&report::machine(&devices))?;
        let checked = || case::all(Set::Small).into_iter().chain(case::all(Set::Odd)).collect::<Vec<_>>();
        let mut examinations = Vec::new();
        for listed in &devices {
            let Ok(device) = &listed.device else { continue };
            show(&format!("\n{}\n", report::heading(listed)))?;
            let examination = examine(&listed.name, device, &checked(), &case::all(Set::Model))?;
            show(&report::tables(&examination))?;
            examinations.push(examination);
        }
        if self.json {
            crate::terminal::print(&format!("{:#}\n", report::json(&devices, &examinations)))?;
        }
        verdict(&examinations)
    }

    /// The devices asked for, each of which must open; else every one, openable or not.
    fn devices(&self) -> anyhow::Result<Vec<Listed>> {
        if self.device.is_empty() {
            return Ok(device::list());
        }
        let listed: Vec<Listed> = self.device.iter().cloned().map(device::listed).collect();
        match listed.iter().find_map(|listed| listed.device.as_ref().err()) {
            Some(error) => anyhow::bail!("{error}"),
            None => Ok(listed),
        }
    }
}

/// Errors: an op differs from its reference somewhere.
fn verdict(examinations: &[Examination]) -> anyhow::Result<()> {
    let all = examinations.iter().flat_map(|examination| &examination.ops);
    let failures: Vec<&String> = all.flat_map(|op| &op.failures).collect();
    match failures.first() {
        None => Ok(()),
        Some(first) if failures.len() == 1 => anyhow::bail!("{first}"),
        Some(first) => anyhow::bail!("{first}; and {} more", failures.len() - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Result, Tensor};
    use outcrop_kernels::case::{Cost, OpCase};

    /// Doubles its input, or nearly.
    struct Doubled(f64);

    impl OpCase for Doubled {
        fn op(&self) -> &'static str {
            "doubled"
        }
        fn shape(&self) -> String {
            format!("(3) by {}", self.0)
        }
        fn inputs(&self) -> Result<Vec<Tensor>> {
            Ok(vec![case::random(&[3], 1)?])
        }
        fn forward(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
            Ok(vec![(&x[0] * self.0)?])
        }
        fn reference(&self, x: &[Tensor]) -> Result<Vec<Tensor>> {
            Ok(vec![(&x[0] * 2.0)?])
        }
        fn is_differentiable(&self) -> bool {
            false
        }
        fn cost(&self) -> [Cost; 2] {
            [Cost { bytes: 24, flops: 0 }, Cost::default()]
        }
    }

    fn examined(factors: &[f64]) -> Examination {
        let cases: Vec<Box<dyn OpCase>> =
            factors.iter().map(|&factor| Box::new(Doubled(factor)) as Box<dyn OpCase>).collect();
        examine("cpu", &Device::Cpu, &cases, &cases[..1]).unwrap()
    }

    #[test]
    fn a_case_that_differs_is_named_counted_and_an_error() {
        assert!(verdict(&[examined(&[2.0])]).is_ok());
        let examination = examined(&[2.0, 2.1]);
        let op = &examination.ops[0];
        assert_eq!((op.name, op.cases, op.failures.len()), ("doubled", 2, 2), "{:?}", op.failures);
        let message = verdict(&[examination]).unwrap_err().to_string();
        assert!(
            message.starts_with("doubled (3) by 2.1 on cpu in f32: differs by 5.0e-2, allowed are 2e-5"),
            "{message}"
        );
        assert!(message.ends_with("; and 1 more"), "{message}");
        let text = report::tables(&examined(&[2.0, 2.1]));
        assert!(text.contains("FAIL doubled (3) by 2.1 on cpu in bf16"), "{text}");
    }
}
