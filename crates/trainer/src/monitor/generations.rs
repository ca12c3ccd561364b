//! A few fixed prompts, answered greedily by the model as it stands: whether it ends its answers and says anything at all,
//! seen while it trains. Prompts are of validation records, else of training records; text documents give their beginning.

use crate::Result;
use crate::job::Job;
use outcrop_data::{Example, Order, Prepared};
use outcrop_job::event::{Sample, SampleEnd, Samples};
use outcrop_model::generate::{Finish, Options, generate};

/// Most new tokens of an answer.
const MOST_TOKENS: usize = 64;
/// Fewest tokens that an answer may take, so that a short expected one doesn't hide a model that never stops.
const FEWEST_TOKENS: usize = 8;
/// Tokens of a document that stand as its prompt.
const BEGINNING: usize = 16;

/// The prompts of a run, drawn by its seed.
#[derive(Debug)]
pub(crate) struct Generations {
    prompts: Vec<Prompt>,
}

#[derive(Debug)]
struct Prompt {
    tokens: Vec<u32>,
    expected: Vec<u32>,
}

impl Generations {
    /// Draws the prompts; fewer where there are fewer records with a prompt that leaves room in the context.
    pub(crate) fn new(job: &Job) -> Self {
        let settings = &job.plan.hyperparameters;
        let all: Vec<usize>;
        let (prepared, units): (&Prepared, &[usize]) = match job.data.validation.first() {
            Some(set) => (&set.prepared, &set.units),
            None => {
                all = (0..job.data.training.shard.num_units()).collect();
                (&job.data.training, &all)
            }
        };
        let order = Order::new(units.len(), settings.seed, true);
        let context = job.decoder.spec().max_position_embeddings;
        let drawn = (0..units.len()).filter_map(|place| {
            let document = prepared.shard.unit(units[order.index(0, place)]).start;
            prompt(&prepared.shard.document(document).to_example(), context)
        });
        Self { prompts: drawn.take(settings.sample_generations as usize).collect() }
    }

    /// Answers every prompt with the decoder as it stands. Cost: the prompts in one pass each, then a pass a token.
    /// Errors: the model gives no number for a token.
    pub(crate) fn answer(&self, job: &Job, step: u64, epoch: u64) -> Result<Option<Samples>> {
        if self.prompts.is_empty() {
            return Ok(None);
        }
        let end = job.tokenizer.eos();
        let decode = |tokens: &[u32]| job.tokenizer.decode(tokens).map_err(outcrop_data::DataError::from);
        let mut samples = Vec::new();
        for Prompt { tokens, expected } in &self.prompts {
            let max_tokens = (2 * expected.len()).clamp(FEWEST_TOKENS, MOST_TOKENS);
            let options = Options { max_tokens, stop: vec![end], ..Options::default() };
            let mut made = Vec::new();
            let finish = generate(&job.decoder, tokens, &options, |token| {
                made.push(token);
                true
            })?;
            let end = match finish {
                Finish::Stop => SampleEnd::Stop,
                Finish::Length | Finish::Context | Finish::Cancelled => SampleEnd::Length,
            };
            let text = decode(&made)?;
            samples.push(Sample { prompt: decode(tokens)?, expected: decode(expected)?, text, end });
        }
        let share = |which: &dyn Fn(&Sample) -> bool| {
            samples.iter().filter(|sample| which(sample)).count() as f64 / samples.len() as f64
        };
        let stop_rate = share(&|sample| sample.end == SampleEnd::Stop);
        let empty_rate = share(&|sample| sample.text.trim().is_empty());
        Ok(Some(Samples { step, epoch, stop_rate, empty_rate, samples }))
    }
}

/// What stands before the first counted token and what should follow, without an end token; of a document without a
/// prompt its beginning. None where nothing stands before, or no room is left.
fn prompt(example: &Example, context: usize) -> Option<Prompt> {
    let tokens = &example.tokens;
    let &(first, end) = example.targets.first()?;
    let is_document = first <= 1; // its first token, or that behind BOS, counts already
    let at = if is_document { BEGINNING.min(tokens.len() / 2) } else { first as usize };
    let end = if is_document { tokens.len() } else { end as usize };
    let expected = tokens.get(at..end.saturating_sub(1).max(at))?;
    let fits = at > 0 && at + FEWEST_TOKENS < context;
    fits.then(|| Prompt { tokens: tokens[..at].to_vec(), expected: expected.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(length: u32, targets: &[(u32, u32)], context: usize) -> Option<(usize, usize)> {
        let example = Example { tokens: (0..length).collect(), targets: targets.to_vec() };
        prompt(&example, context).map(|prompt| (prompt.tokens.len(), prompt.expected.len()))
    }

    #[test]
    fn a_prompt_is_what_stands_before_the_first_counted_token() {
        assert_eq!(of(20, &[(12, 20)], 128), Some((12, 7)), "without the end token");
        assert_eq!(of(30, &[(5, 9), (20, 30)], 128), Some((5, 3)), "of a conversation the first answer");
        assert_eq!(of(100, &[(1, 100)], 128), Some((16, 83)), "a document's beginning");
        assert_eq!(of(10, &[(1, 10)], 128), Some((5, 4)));
        assert_eq!(of(20, &[(12, 20)], 20), None, "no room in the context");
        assert_eq!(of(20, &[], 128), None);
        assert_eq!(of(1, &[(0, 1)], 128), None);
    }
}
