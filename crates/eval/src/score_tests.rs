//! Tests of `score` with a model whose answers can be computed by hand.

use super::*;
use crate::fixtures::{Bigram, END, mixed, mixed_sum, tokenizer, tokenizer_that_straddles, tokenizer_with_bos};
use std::path::Path;

fn suite(name: &str, content: &str) -> Suite {
    Suite::from_bytes(Path::new(name), content.as_bytes()).unwrap()
}

fn run(suite: &Suite, context: usize, max_batch_tokens: usize) -> Scores {
    score(suite, &tokenizer(), context, &mut Bigram::new(mixed), max_batch_tokens, &mut |_, _| {}).unwrap()
}

fn refusal(suite: &Suite, tokenizer: &TextTokenizer, context: usize) -> String {
    score(suite, tokenizer, context, &mut Bigram::new(mixed), 100, &mut |_, _| {}).unwrap_err().to_string()
}

/// Tokens of a text with one token a byte.
fn ids(text: &str) -> Vec<u32> {
    tokenizer().encode(text).unwrap()
}

const QUESTIONS: &str = concat!(
    r#"{"query": "Sky is", "choices": ["red", "blue", "a deep green"], "gold": 1}"#,
    "\n",
    r#"{"query": "Grass is\n", "choices": ["green", "red"], "gold": 0}"#,
    "\n",
    r#"{"query": "Snow is ", "choices": ["white", "black", "brown", "violet"], "gold": 0}"#,
    "\n",
);

#[test]
fn r5_a_pair_counts_its_completion_and_the_end_token() {
    let suite =
        suite("a.jsonl", "{\"prompt\": \"one\", \"completion\": \"two\"}\n{\"prompt\": \"x \", \"completion\": \"y\"}");
    let scores = run(&suite, 64, 100);
    let mut row = ids("one two");
    row.push(END);
    let item = &scores.items[0];
    assert_eq!((item.nll, item.targets, item.bytes), (mixed_sum(&row, 3), 5, 4.0 * 5.0 / 5.0));
    let mut row = ids("x y");
    row.push(END);
    assert_eq!((scores.items[1].nll, scores.items[1].targets), (mixed_sum(&row, 1), 3));
    let total: f64 = scores.items.iter().map(|item| item.nll).sum();
    assert_eq!(scores.nll_per_token(), total / 8.0);
    assert_eq!(item.answer, None);
}

#[test]
fn choices_follow_the_query_without_an_end_token() {
    let scores = run(&suite("a.jsonl", QUESTIONS), 64, 1000);
    let rows: [(usize, &[&str]); 3] = [
        (6, &["Sky is red", "Sky is blue", "Sky is a deep green"]),
        (9, &["Grass is\ngreen", "Grass is\nred"]),
        (7, &["Snow is white", "Snow is black", "Snow is brown", "Snow is violet"]),
    ];
    for (item, (start, texts)) in scores.items.iter().zip(rows) {
        let expected: Vec<f64> = texts.iter().map(|text| mixed_sum(&ids(text), start)).collect();
        assert_eq!(item.answer.as_ref().unwrap().candidates, expected);
    }
    assert_eq!((scores.items[0].targets, scores.items[1].targets), (5, 5));
    assert_eq!(scores.items[0].bytes, 5.0, "the space in front belongs to the choice");
}

#[test]
fn summed_and_per_character_choices_can_differ() {
    // Every token costs 1: the shortest choice has the smallest sum, and per character, counting the space in front as
    // a token but not as a character, the longest has the smallest mean.
    let content = r#"{"query": "q", "choices": ["ab", "abcdef", "a"], "gold": 1}"#;
    let mut model = Bigram::new(|_, _| 1.0);
    let scores = score(&suite("a.jsonl", content), &tokenizer(), 64, &mut model, 100, &mut |_, _| {}).unwrap();
    let answer = scores.items[0].answer.as_ref().unwrap();
    assert_eq!(answer.candidates, [3.0, 7.0, 2.0]);
    assert_eq!((answer.choice, answer.right, answer.right_per_character), (2, false, Some(true)));
    assert_eq!(scores.items[0].nll, 7.0, "the NLL is the right choice's");
}

#[test]
fn characters_and_bytes_of_a_choice_can_differ() {
    // NLL 3 and 4 with the space: two letters of one byte against one of three, so 1.5 and 4 per character but 1.5 and
    // 1.33 per byte.
    let content = "{\"query\": \"q\", \"choices\": [\"ab\", \"\u{20ac}\"], \"gold\": 1}";
    let mut model = Bigram::new(|_, _| 1.0);
    let scores = score(&suite("a.jsonl", content), &tokenizer(), 64, &mut model, 100, &mut |_, _| {}).unwrap();
    let answer = scores.items[0].answer.as_ref().unwrap();
    assert_eq!(answer.candidates, [3.0, 4.0]);
    let right = (answer.right, answer.right_per_character, answer.right_per_byte);
    assert_eq!(right, (false, Some(false), Some(true)));
}

#[test]
fn labels_are_scored_with_the_end_token_and_ties_go_to_the_first_in_order() {
    let lines: Vec<String> = ["ba", "ab", "cde"]
        .iter()
        .cycle()
        .take(9)
        .map(|label| format!(r#"{{"prompt": "p", "completion": "{label}"}}"#))
        .collect();
    let suite = suite("a.jsonl", &lines.join("\n"));
    let mut model = Bigram::new(|_, token| if token == END { 2.0 } else { 1.0 });
    let scores = score(&suite, &tokenizer(), 64, &mut model, 1000, &mut |_, _| {}).unwrap();
    let answers: Vec<&Answer> = scores.items.iter().map(|item| item.answer.as_ref().unwrap()).collect();
    assert_eq!(answers[0].candidates, [5.0, 5.0, 6.0], "ab, ba, cde: space, letters, end");
    assert!(answers.iter().all(|answer| answer.choice == 0 && answer.right_per_character.is_none()));
    assert_eq!(answers[..3].iter().map(|answer| answer.right).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!((scores.items[2].nll, scores.items[2].targets), (6.0, 5));
}

#[test]
fn r13_scores_do_not_depend_on_the_batching() {
    let suite = suite("a.jsonl", QUESTIONS);
    let reference = run(&suite, 64, 1000);
    for max_batch_tokens in [0, 1, 13, 20, 40, 77] {
        let other = run(&suite, 64, max_batch_tokens);
        for (one, two) in reference.items.iter().zip(&other.items) {
            assert!((one.nll - two.nll).abs() < 1e-5);
        }
        assert_eq!(reference.items, other.items, "bound {max_batch_tokens}");
    }
}

#[test]
fn batches_are_packed_best_fit_so_that_rows_of_512_are_at_least_95_percent_full() {
    let datasets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets");
    let path = datasets.join("sentiment/train.jsonl");
    let suite = Suite::from_bytes(&path, &fs_err::read(&path).unwrap()).unwrap();
    let special = outcrop_data::SpecialTokens { bos: None, add_bos: false, eos: 0 };
    let tokenizer = TextTokenizer::from_file(&datasets.join("base/pebble/tokenizer.json"), special, 4096).unwrap();
    let (mut heard, mut model) = (Vec::new(), Bigram::new(mixed));
    let scores = score(&suite, &tokenizer, 512, &mut model, 512, &mut |done, total| heard.push((done, total)));
    let packing = scores.unwrap().packing;
    assert!(packing.tokens > 50_000 && packing.waste() < 0.05, "{packing:?}");
    let items = suite.len();
    assert_eq!(heard, (1..=items).map(|done| (done, items)).collect::<Vec<_>>(), "each item is heard of once");
}

#[test]
fn r13_scores_do_not_depend_on_the_order_of_the_items() {
    let lines: Vec<&str> = QUESTIONS.lines().collect();
    let permuted = suite("a.jsonl", &[lines[2], lines[0], lines[1]].join("\n"));
    let (reference, other) = (run(&suite("a.jsonl", QUESTIONS), 64, 30), run(&permuted, 64, 30));
    for (at, from) in [(0, 2), (1, 0), (2, 1)] {
        assert_eq!(ItemScore { item: from, ..other.items[at].clone() }, reference.items[from]);
    }
}

#[test]
fn batches_keep_their_bound_and_a_longer_row_goes_alone() {
    let suite = suite("a.jsonl", QUESTIONS);
    let mut model = Bigram::new(mixed);
    score(&suite, &tokenizer(), 64, &mut model, 18, &mut |_, _| {}).unwrap();
    assert!(model.seen.iter().all(|&(tokens, documents)| tokens <= 18 || documents == 1), "{:?}", model.seen);
    assert!(model.seen.iter().any(|&(tokens, _)| tokens > 18));
    assert_eq!(model.seen.iter().map(|(_, documents)| documents).sum::<usize>(), 9);
    let mut model = Bigram::new(mixed);
    score(&suite, &tokenizer(), 64, &mut model, 30, &mut |_, _| {}).unwrap();
    assert!(model.seen.iter().any(|&(_, documents)| documents > 1));
}

#[test]
fn texts_are_cut_into_rows_whose_first_token_is_not_counted() {
    let suite = suite("a.jsonl", "{\"input\": \"abcdefg\"}\n{\"input\": \"xy\"}");
    let scores = run(&suite, 4, 100);
    // abcd efg</s> | xy</s>
    let (mut first, mut second) = (ids("abcdefg"), ids("xy"));
    first.push(END);
    second.push(END);
    let expected = [mixed_sum(&first[..4], 1), mixed_sum(&first[4..], 1), mixed_sum(&second, 1)];
    assert_eq!(scores.items.iter().map(|row| row.nll).collect::<Vec<_>>(), expected);
    assert_eq!(scores.items.iter().map(|row| (row.item, row.targets)).collect::<Vec<_>>(), [(0, 3), (0, 3), (1, 2)]);
    assert_eq!(scores.lost_targets, 3, "a, e and x have no prediction");
    assert_eq!(scores.items[0].bytes, 7.0 * 3.0 / 8.0);
}

#[test]
fn r9_a_begin_token_makes_the_first_token_of_a_text_a_target() {
    let suite = suite("a.txt", "abc");
    let mut model = Bigram::new(|_, _| 1.0);
    let scores = score(&suite, &tokenizer_with_bos(), 16, &mut model, 100, &mut |_, _| {}).unwrap();
    assert_eq!((scores.items[0].targets, scores.items[0].bytes, scores.lost_targets), (4, 3.0, 0));
}

#[test]
fn a_row_that_holds_only_the_end_token_is_not_scored() {
    // abcd </s>: the second row has one token and so no target.
    let scores = run(&suite("a.txt", "abcd"), 4, 100);
    assert_eq!((scores.items.len(), scores.lost_targets), (1, 2));
}

#[test]
fn items_that_cannot_be_scored_are_refused_by_line() {
    let questions = suite("q.jsonl", QUESTIONS);
    assert_eq!(
        refusal(&questions, &tokenizer(), 14),
        "q.jsonl:1: the item is 19 tokens long, the context holds 14; shorten it or use a longer context"
    );
    let pairs = suite("p.jsonl", "{\"prompt\": \"one\", \"completion\": \"two\"}");
    let message = refusal(&pairs, &tokenizer(), 7);
    assert!(message.starts_with("p.jsonl:1: the item is 8 tokens long"), "{message}");
    assert_eq!(run(&pairs, 8, 100).items.len(), 1);
    let message = refusal(&suite("a.txt", "abc"), &tokenizer(), 1);
    assert_eq!(message, "suite `a.txt`: a context of 1 tokens predicts nothing; use 2 or more");
}

#[test]
fn r6_a_token_across_the_boundary_is_refused_by_line() {
    let pairs =
        suite("p.jsonl", "{\"prompt\": \"b\", \"completion\": \"c\"}\n{\"prompt\": \"a\", \"completion\": \"c\"}");
    let message = refusal(&pairs, &tokenizer_that_straddles(), 64);
    assert!(message.starts_with("p.jsonl:2: ") && message.contains("share a token"), "{message}");
}

#[test]
fn a_completion_without_a_prediction_is_refused() {
    // An empty prompt and no begin token: the one token of the choice begins the row. Only a pair can be so.
    let mut row = suite("p.jsonl", "{\"prompt\": \"\", \"completion\": \"c\"}");
    assert_eq!(run(&row, 64, 100).items[0].targets, 1, "the end token is left");
    let (query, choices) = (String::new(), vec!["c".into(), "d".into()]);
    let item = crate::suite::ChoiceItem { line: 1, query, choices, gold: 0, group: None };
    row.items = Items::MultipleChoice { items: vec![item], delimiter: None };
    let message = refusal(&row, &tokenizer(), 64);
    assert_eq!(message, "p.jsonl:1: `c` has no token that can be predicted; give a longer one");
}

#[test]
fn what_is_no_nll_is_refused() {
    struct Short;
    impl Scorer for Short {
        fn nll(&mut self, batch: &Batch) -> Result<Vec<f32>, EvalError> {
            Ok(vec![1.0; batch.targets.len() - 1])
        }

        fn ranks(&mut self, batch: &Batch) -> Result<Vec<(f32, u32)>, EvalError> {
            Ok(vec![(1.0, 1); batch.targets.len() + 1])
        }

        fn generate(
            &mut self,
            _: &[Vec<u32>],
            _: &Options,
            _: &mut dyn FnMut(usize, u32) -> bool,
        ) -> Result<Vec<Finish>, EvalError> {
            Ok(vec![Finish::Stop; 3])
        }
    }
    let questions = suite("q.jsonl", QUESTIONS);
    let message = score(&questions, &tokenizer(), 64, &mut Short, 1000, &mut |_, _| {}).unwrap_err().to_string();
    assert_eq!(message, "the model failed while scoring: it gave 54 values for 55 targets");
    let cloze = suite("c.jsonl", "{\"suite\": \"s\", \"kind\": \"cloze\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}");
    let message = score(&cloze, &tokenizer(), 64, &mut Short, 1000, &mut |_, _| {}).unwrap_err().to_string();
    assert_eq!(message, "the model failed while scoring: it gave 3 values for 2 targets");
    let mut broken = Bigram::new(|_, token| if token == ids("w")[0] { f32::NAN } else { 1.0 });
    let message = score(&questions, &tokenizer(), 64, &mut broken, 1000, &mut |_, _| {}).unwrap_err().to_string();
    assert_eq!(message, "q.jsonl:3: the model gives a target the NLL NaN; its weights or its input are broken");
}

#[test]
fn progress_counts_items() {
    let mut heard = Vec::new();
    let suite = suite("a.jsonl", QUESTIONS);
    score(&suite, &tokenizer(), 64, &mut Bigram::new(mixed), 20, &mut |done, all| heard.push((done, all))).unwrap();
    assert_eq!(heard, [(1, 3), (2, 3), (3, 3)]);
}

#[test]
fn a_right_answer_that_is_no_candidate_is_refused() {
    let mut questions = suite("q.jsonl", QUESTIONS);
    let Items::MultipleChoice { items, .. } = &mut questions.items else { panic!("not questions") };
    items[1].gold = 2;
    assert_eq!(refusal(&questions, &tokenizer(), 64), "q.jsonl:2: `gold` is 2, but there are 2 choices");
    let mut pairs = suite("p.jsonl", "{\"prompt\": \"one\", \"completion\": \"two\"}");
    let Items::Pairs { labels, .. } = &mut pairs.items else { panic!("not pairs") };
    *labels = Some(vec!["three".into()]);
    let message = refusal(&pairs, &tokenizer(), 64);
    assert_eq!(message, "p.jsonl:1: completion `two` is none of the labels; name it among them");
}

#[test]
fn the_rank_of_a_continuation_is_its_worst_tokens_and_it_has_no_end_token() {
    let content = concat!(
        "{\"suite\": \"s\", \"kind\": \"cloze\"}\n",
        "{\"prompt\": \"a\", \"completion\": \"bc\"}\n",
        "{\"prompt\": \"a\", \"completion\": \"b\"}\n",
    );
    let [space, b, c] = [" ", "b", "c"].map(|text| ids(text)[0]);
    // behind `a` nothing is likelier than the space, behind that two tokens than `b`, behind `b` four than `c`
    let cost = move |before: u32, token: u32| match (before, token) {
        (_, token) if token == space => 0.5,
        (before, token) if before == space && token == b => 1.25,
        (before, token) if before == space && token < 2 => 1.0,
        (before, token) if before == b && token == c => 2.0,
        (before, token) if before == b && token < 5 => 1.5,
        _ => 3.0,
    };
    let suite = suite("c.jsonl", content);
    let scores = score(&suite, &tokenizer(), 64, &mut Bigram::new(cost), 1000, &mut |_, _| {}).unwrap();
    let found: Vec<_> = scores.items.iter().map(|item| (item.rank, item.targets, item.nll)).collect();
    assert_eq!(found, [(Some(7), 3, 3.75), (Some(4), 2, 1.75)]);
    assert_eq!(scores.items[0].bytes, 3.0, "the space in front belongs to it");
}
