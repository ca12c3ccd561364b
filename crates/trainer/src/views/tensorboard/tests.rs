//! Tests of TensorBoard's file, which decode its records and check every CRC.

use std::path::PathBuf;

use outcrop_job::event::{Step, Validation};
use outcrop_job::{EventLog, read_events};
use serde_json::json;

use super::messages::{Content, masked_crc32c};
use super::*;

fn step(number: u64, loss: f64) -> Event {
    Event::Step(Step {
        step: number,
        epoch: 0,
        loss,
        tokens: 64,
        target_tokens: 32,
        grad_norm: 1.5,
        clip_factor: 1.0,
        learning_rate: 1e-5,
        tokens_per_second: 1000.0,
        seconds: 0.064,
        memory_bytes: 1,
    })
}

fn validation(number: u64, set: u64, loss: f64) -> Event {
    Event::Validation(Validation { step: number, epoch: 0, set, loss, perplexity: loss.exp(), target_tokens: 32 })
}

fn warning(message: &str) -> Event {
    Event::Warning { message: message.into() }
}

fn record(event: Event) -> Record {
    Record { time: "2026-11-22T07:20:00.125Z".parse().unwrap(), event }
}

/// The messages of the framed records in `bytes`, every CRC checked.
fn decode(mut bytes: &[u8]) -> Vec<TensorBoardEvent> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(bytes[8..12], masked_crc32c(&bytes[..8]).to_le_bytes(), "crc of the length");
        let message = &bytes[12..12 + length];
        assert_eq!(bytes[12 + length..16 + length], masked_crc32c(message).to_le_bytes(), "crc of the message");
        events.push(TensorBoardEvent::decode(message).unwrap());
        bytes = &bytes[16 + length..];
    }
    events
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn only_file(folder: &Path) -> Vec<u8> {
    let files = files(folder);
    assert_eq!(files.len(), 1, "{files:?}");
    fs_err::read(&files[0]).unwrap()
}

/// (step, number) of every scalar of `tag`.
fn scalars(events: &[TensorBoardEvent], tag: &str) -> Vec<(i64, f32)> {
    let mut found = Vec::new();
    for event in events {
        let Some(What::Summary(summary)) = &event.what else { continue };
        for value in summary.value.iter().filter(|value| value.tag == tag) {
            let Some(Content::SimpleValue(number)) = value.value else { panic!("{value:?}") };
            found.push((event.step, number));
        }
    }
    found
}

/// (step, text) of every text of `tag`.
fn texts(events: &[TensorBoardEvent], tag: &str) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    for event in events {
        let Some(What::Summary(summary)) = &event.what else { continue };
        for value in summary.value.iter().filter(|value| value.tag == tag) {
            let Some(Content::Tensor(tensor)) = &value.value else { panic!("{value:?}") };
            assert_eq!(value.metadata.clone().unwrap().plugin_data.unwrap().plugin_name, "text");
            found.push((event.step, String::from_utf8(tensor.string_val[0].clone()).unwrap()));
        }
    }
    found
}

#[test]
fn masked_crc_matches_tensorboards() {
    // From tensorboard 2.21's `masked_crc32c`; the unmasked CRC of the digits is RFC 3720's 0xe3069283.
    assert_eq!(masked_crc32c(b"123456789"), 0xc78a_b0e5);
    assert_eq!(masked_crc32c(b""), 0xa282_ead8);
}

#[test]
fn records_are_tensorboards_byte_for_byte() {
    // Each as tensorboard 2.21's `RecordWriter` writes the same `event_pb2.Event`.
    let value = |value| Some(What::Summary(Summary { value: vec![value] }));
    for (step, what, expected) in [
        (
            0,
            Some(What::FileVersion("brain.Event:2".into())),
            "1800000000000000a37f4b220900002040fc54d9411a0d627261696e2e4576656e743a322b353110",
        ),
        (
            3,
            value(scalar("train/loss", 2.5)),
            "200000000000000029eda9500900002040fc54d94110032a130a110a0a747261696e2f6c6f7373150000204041342927",
        ),
        (
            3,
            value(text("warnings", "one")),
            "2e00000000000000c5cb57fa0900002040fc54d94110032a210a1f0a087761726e696e677342090807120042036f6e654a080a06\
             0a0474657874d9ed4394",
        ),
    ] {
        let mut bytes = Vec::new();
        let event = TensorBoardEvent { wall_time: 1_700_000_000.5, step, what };
        put_record(&mut bytes, &event.encode_to_vec());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }
}

#[test]
fn every_measure_is_a_scalar_at_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let past = [record(validation(0, 0, 3.0)), record(step(1, 2.5)), record(validation(1, 0, 2.0))];
    let mut board = TensorBoard::create(folder.path(), &past).unwrap();
    board.append(&record(validation(1, 1, 1.0))).unwrap();
    board.append(&record(Event::Resumed { step: 1 })).unwrap();
    board.append(&record(step(2, 0.0))).unwrap();

    let events = decode(&only_file(folder.path()));
    assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".into())));
    assert_eq!(events.len(), 1 + 5, "a resume is not shown");
    assert!(events[1..].iter().all(|event| event.wall_time == 1_795_332_000.125), "{:?}", events[1]);

    assert_eq!(scalars(&events, "train/loss"), [(1, 2.5), (2, 0.0)]);
    assert_eq!(scalars(&events, "train/perplexity"), [(1, 2.5f64.exp() as f32), (2, 1.0)]);
    assert_eq!(scalars(&events, "train/learning_rate"), [(1, 1e-5), (2, 1e-5)]);
    assert_eq!(scalars(&events, "train/grad_norm"), [(1, 1.5), (2, 1.5)]);
    assert_eq!(scalars(&events, "train/tokens_per_second"), [(1, 1000.0), (2, 1000.0)]);
    assert_eq!(scalars(&events, "validation/loss"), [(0, 3.0), (1, 2.0)]);
    assert_eq!(scalars(&events, "validation/perplexity"), [(0, 3f64.exp() as f32), (1, 2f64.exp() as f32)]);
    assert_eq!(scalars(&events, "validation/loss_1"), [(1, 1.0)]);
    assert_eq!(scalars(&events, "validation/perplexity_1"), [(1, 1f64.exp() as f32)]);
}

#[test]
fn r12_a_loss_that_is_not_finite_is_written_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let past = [record(step(1, f64::NAN)), record(step(2, f64::INFINITY)), record(step(3, 800.0))];
    TensorBoard::create(folder.path(), &past).unwrap();
    let events = decode(&only_file(folder.path()));
    let losses = scalars(&events, "train/loss");
    assert!(losses[0].1.is_nan() && losses[1].1 == f32::INFINITY && losses[2].1 == 800.0, "{losses:?}");
    let perplexities = scalars(&events, "train/perplexity");
    assert!(perplexities[0].1.is_nan() && perplexities[2].1 == f32::INFINITY, "{perplexities:?}");
}

#[test]
fn r25_a_resumed_run_has_each_step_once() {
    let folder = tempfile::tempdir().unwrap();
    let board_folder = folder.path().join("tensorboard");
    let path = folder.path().join("events.jsonl");
    let mut log = EventLog::create(&path).unwrap();
    let mut board = TensorBoard::create(&board_folder, &[]).unwrap();
    let checkpoint = Event::Checkpoint { step: 2, path: "checkpoints/2".into(), bytes: 1 };
    for event in [step(1, 4.0), step(2, 3.0), checkpoint, step(3, 9.0), step(4, 9.0)] {
        board.append(&log.write(event).unwrap()).unwrap();
    }
    let first = files(&board_folder);
    assert_eq!(scalars(&decode(&only_file(&board_folder)), "train/loss").len(), 4);
    drop((log, board));

    let others = board_folder.join("events.out.tfevents.1700000000.host.1.0");
    fs_err::write(&others, "another writer's").unwrap();
    let mut log = EventLog::resume(&path, 2).unwrap();
    let mut board = TensorBoard::create(&board_folder, &read_events(&path).unwrap()).unwrap();
    for event in [step(3, 2.0), step(4, 1.0)] {
        board.append(&log.write(event).unwrap()).unwrap();
    }
    let second = files(&board_folder);
    assert_eq!(second.len(), 2, "{second:?}");
    assert_eq!(second[0], others);
    assert!(second[1] > first[0], "an open TensorBoard goes on to a later name only: {first:?} {second:?}");
    let events = decode(&fs_err::read(&second[1]).unwrap());
    assert_eq!(scalars(&events, "train/loss"), [(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0)]);
}

#[test]
fn warnings_of_one_step_are_one_text() {
    let folder = tempfile::tempdir().unwrap();
    let past = [record(warning("a")), record(step(1, 1.0)), record(warning("b"))];
    let mut board = TensorBoard::create(folder.path(), &past).unwrap();
    board.append(&record(warning("c"))).unwrap();
    board.append(&record(step(2, 1.0))).unwrap();
    board.append(&record(warning("d"))).unwrap();
    // Not shown, but it tells the step.
    board.append(&record(Event::Resumed { step: 4 })).unwrap();
    board.append(&record(warning("e"))).unwrap();
    let events = decode(&only_file(folder.path()));
    let expected = [(0, "- a\n"), (1, "- b\n"), (1, "- b\n- c\n"), (2, "- d\n"), (4, "- e\n")];
    assert_eq!(texts(&events, "warnings"), expected.map(|(step, text)| (step, text.to_string())));
}

#[test]
fn r32_the_headline_of_the_comparison_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let headline = |value| record(Event::Comparison { comparison: json!({"headline": value, "tasks": []}) });
    let past = [record(step(7, 1.0)), headline(json!("forgot; better on the task")), headline(json!(3))];
    TensorBoard::create(folder.path(), &past).unwrap();
    let events = decode(&only_file(folder.path()));
    assert_eq!(texts(&events, "comparison"), [(7, "forgot; better on the task".to_string())]);
}

#[test]
fn names_of_other_writers_are_not_ours() {
    assert_eq!(own_time(OsStr::new("events.out.tfevents.1700000000.outcrop")), Some(1_700_000_000));
    for name in ["events.out.tfevents.1700000000.host.1.outcrop", "events.out.tfevents.+1.outcrop", "events.jsonl", ""]
    {
        assert_eq!(own_time(OsStr::new(name)), None, "{name}");
    }
}

#[test]
fn a_failed_append_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let mut board = TensorBoard::create(folder.path(), &[record(warning("a"))]).unwrap();
    let path = files(folder.path()).remove(0);
    let writable = std::mem::replace(&mut board.file, fs_err::File::open(&path).unwrap());
    let error = board.append(&record(warning("b"))).unwrap_err().to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
    board.file = writable;
    board.append(&record(warning("b"))).unwrap();
    let events = decode(&only_file(folder.path()));
    assert_eq!(texts(&events, "warnings"), [(0, "- a\n".to_string()), (0, "- a\n- b\n".to_string())]);
}

#[test]
fn errors_name_the_place_and_leave_the_file_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("taken");
    fs_err::write(&file, "").unwrap();
    let error = TensorBoard::create(&file, &[]).unwrap_err().to_string();
    assert!(error.contains(&file.display().to_string()), "{error}");

    let board_folder = folder.path().join("tensorboard");
    let mut board = TensorBoard::create(&board_folder, &[record(step(1, 1.0))]).unwrap();
    let error = board.append(&record(step(1 << 63, 1.0))).unwrap_err();
    assert_eq!(error.to_string(), "step 9223372036854775808 is over 2^63 - 1, TensorBoard's largest");
    board.append(&record(step(2, 1.0))).unwrap();
    let events = decode(&only_file(&board_folder));
    assert_eq!(scalars(&events, "train/loss"), [(1, 1.0), (2, 1.0)]);
}
