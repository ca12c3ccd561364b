"""Reads an Outcrop run's TensorBoard file with TensorBoard itself and compares it with the run's `events.jsonl`.

Usage: python tensorboard_reads.py EVENTS_FOLDER EVENTS_JSONL
Every scalar and text must be there once, at its step and time, and nothing else may be. Prints one line and exits 1 on
any difference. Needs the packages `tensorboard` and `numpy`; TensorFlow is not needed.
"""

import datetime
import json
import math
import os
import sys

import numpy
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util import tensor_util


def records(path):
    """The events; a torn last line is dropped, as Outcrop's own reader does."""
    with open(path, encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


def exponential(value):
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def expected(events):
    """{tag: [(step, wall time, f32 or text)]} of what TensorBoard should show."""
    scalars, texts = {}, {}
    step, warnings = 0, ""
    for event in events:
        kind = event["event"]
        time = datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()
        if event.get("step", step) != step:
            step, warnings = event["step"], ""
        values = {}
        if kind == "step":
            for name in ("loss", "learning_rate", "grad_norm", "tokens_per_second"):
                values[f"train/{name}"] = float(event[name])
            values["train/perplexity"] = exponential(float(event["loss"]))
        elif kind == "validation":
            suffix = f"_{event['set']}" if event["set"] else ""
            values[f"validation/loss{suffix}"] = float(event["loss"])
            values[f"validation/perplexity{suffix}"] = float(event["perplexity"])
        elif kind == "monitor":
            values["forgetting/nll_rise"] = float(event["nll"]) - float(event["nll_base"])
            values["forgetting/kl"] = float(event["kl"])
        elif kind == "samples":
            values["samples/stop_rate"] = float(event["stop_rate"])
            values["samples/empty_rate"] = float(event["empty_rate"])
        elif kind == "warning":
            warnings += f"- {event['message']}\n"
            texts.setdefault("warnings", []).append((step, time, warnings))
        elif kind == "comparison" and isinstance(event["comparison"].get("headline"), str):
            texts.setdefault("comparison", []).append((step, time, event["comparison"]["headline"]))
        for tag, value in values.items():
            with numpy.errstate(over="ignore"):
                scalars.setdefault(tag, []).append((step, time, numpy.float32(value)))
    return scalars, texts


def same(tag, found, wanted):
    if isinstance(wanted, str):
        return found == wanted
    found = numpy.float32(found)
    if numpy.isnan(wanted):
        return bool(numpy.isnan(found))
    if tag == "train/perplexity" and numpy.isfinite(wanted):
        # `exp` may differ in its last digit between math libraries, and the f32 in its own.
        return bool(abs(found - wanted) <= numpy.spacing(wanted))
    return bool(found == wanted)


def compare(tag, found, wanted):
    """The first difference between two lists of (step, wall time, value)."""
    for index, (f, w) in enumerate(zip(found, wanted)):
        if f[0] != w[0] or abs(f[1] - w[1]) > 1e-6 or not same(tag, f[2], w[2]):
            return f"`{tag}` number {index}: TensorBoard has (step, time, value) {f}, events.jsonl {w}"
    if len(found) != len(wanted):
        return f"`{tag}`: TensorBoard has {len(found)} values, events.jsonl {len(wanted)}"
    return None


def text_of(event):
    return tensor_util.make_ndarray(event.tensor_proto).item().decode("utf-8")


def difference(folder, path):
    scalars, texts = expected(records(path))
    reader = event_accumulator.EventAccumulator(folder, event_accumulator.STORE_EVERYTHING_SIZE_GUIDANCE)
    reader.Reload()
    if reader.file_version != 2.0:
        return f"`{folder}` has no event file of version 2 (found {reader.file_version})", 0
    count = 0
    for kind, wanted in (("scalars", scalars), ("tensors", texts)):
        tags = set(reader.Tags()[kind])
        if tags != set(wanted):
            return f"{kind}: TensorBoard has {sorted(tags)}, events.jsonl {sorted(wanted)}", 0
        for tag, values in wanted.items():
            if kind == "scalars":
                found = [(e.step, e.wall_time, e.value) for e in reader.Scalars(tag)]
            else:
                found = [(e.step, e.wall_time, text_of(e)) for e in reader.Tensors(tag)]
            message = compare(tag, found, values)
            if message:
                return message, 0
            count += len(values)
    if count == 0:
        return f"`{path}` has nothing that TensorBoard would show; give a run with steps", 0
    return None, count


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: tensorboard_reads.py EVENTS_FOLDER EVENTS_JSONL")
    if not os.path.isdir(sys.argv[1]):
        sys.exit(f"tensorboard_reads: `{sys.argv[1]}` is not a folder")
    try:
        message, count = difference(sys.argv[1], sys.argv[2])
    except (OSError, KeyError, TypeError, ValueError) as error:
        sys.exit(f"tensorboard_reads: `{sys.argv[2]}` can't be compared: {error!r}")
    if message:
        sys.exit(f"tensorboard_reads: {message}")
    print(f"tensorboard_reads: {count} values of {sys.argv[1]} agree with {sys.argv[2]}")


if __name__ == "__main__":
    main()
