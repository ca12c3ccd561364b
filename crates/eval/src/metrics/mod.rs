//! Measures of a text against a reference: chrF, ROUGE-L and SQuAD's normalisation, each as its reference implementation
//! has it. Pure functions of texts; what they are taken over, and against what, is left to `kinds`.

pub(crate) mod chrf;
pub(crate) mod f1;
pub(crate) mod rouge;
pub(crate) mod squad;

#[cfg(test)]
mod reference_tests;
