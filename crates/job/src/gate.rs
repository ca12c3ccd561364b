//! A gate: what a model's comparison with its base must show, as text such as `task>0,general>-0.01`. Whether it holds is
//! decided in `outcrop-eval`.

use std::fmt;
use std::str::FromStr;

/// Conditions that all have to hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate(Vec<Condition>);

/// The gain of some suites must lie above a bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// `task` for every task suite, `general` for every general suite, else the name of a suite.
    pub suites: String,
    /// Whether the bound itself is enough.
    pub or_equal: bool,
    /// The bound, in units of the measure that decides on the suite, above zero where the tuned model is better.
    pub bound: f64,
}

impl Gate {
    /// The conditions, one or more.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.0
    }
}

impl Condition {
    /// Whether a gain fulfils it.
    #[must_use]
    pub fn holds(&self, gain: f64) -> bool {
        if self.or_equal { gain >= self.bound } else { gain > self.bound }
    }
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("`{}` is no condition; write such as `task>0` or `general>=-0.01`", text.trim());
        let (suites, rest) = text.split_once('>').ok_or_else(refuse)?;
        let (or_equal, number) = rest.strip_prefix('=').map_or((false, rest), |number| (true, number));
        let bound: f64 = number.trim().parse().map_err(|_| refuse())?;
        let suites = suites.trim().to_owned();
        if suites.is_empty() || !bound.is_finite() {
            return Err(refuse());
        }
        Ok(Self { suites, or_equal, bound: bound + 0.0 })
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let conditions: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        formatter.write_str(&conditions.join(","))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let sign = if self.or_equal { ">=" } else { ">" };
        write!(formatter, "{}{sign}{}", self.suites, self.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_written_as_it_is_read() {
        let gate: Gate = " task > 0, general>=-0.01,general/prose>1e-3".parse().unwrap();
        assert_eq!(gate.to_string(), "task>0,general>=-0.01,general/prose>0.001");
        assert_eq!(gate.to_string().parse(), Ok(gate.clone()));
        let [task, general, _] = gate.conditions() else { panic!("three conditions") };
        assert!(!task.holds(0.0) && task.holds(1e-300) && !task.holds(f64::NAN));
        assert!(general.holds(-0.01) && !general.holds(-0.011));
    }

    #[test]
    fn what_is_no_condition_is_named() {
        for text in
            ["", "task", "task>", "task<0", ">0", "task=0", "task>x", "task>nan", "task>inf", "task>0,", "task>>0"]
        {
            let error = text.parse::<Gate>().unwrap_err();
            assert!(error.contains("is no condition; write such as `task>0`"), "{text}: {error}");
        }
    }
}
