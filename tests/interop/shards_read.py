"""Reads the shards of a job with `safetensors.numpy.load_file` and compares them with `transformers`' tokens.

Usage: shards_read.py JOB_FOLDER, with OUTCROP_HOME set to the home of the job
Of every data set in the job's plan there must be a shard with the same tokens, documents and counted spans: records in the
order of their files, rows of text in any order, since packing lays them out.
"""

import itertools
import json
import os
import pathlib
import sys

import numpy
from safetensors.numpy import load_file
from transformers import AutoTokenizer

import job_data


def expected(documents):
    spans = [[(first, len(tokens))] if first < len(tokens) else [] for tokens, first in documents]
    return {
        "tokens": list(itertools.chain.from_iterable(tokens for tokens, _ in documents)),
        "offsets": [0, *itertools.accumulate(len(tokens) for tokens, _ in documents)],
        "targets": list(itertools.chain.from_iterable(spans)),
        "target_offsets": [0, *itertools.accumulate(len(of_one) for of_one in spans)],
    }


def difference(shard, wanted):
    """What differs first, in words; None where nothing does."""
    for name, values in wanted.items():
        found, values = shard[name].astype(numpy.int64), numpy.array(values, numpy.int64).reshape(shard[name].shape)
        if (found != values).any():
            index = int(numpy.flatnonzero((found != values).ravel())[0])
            return f"`{name}` at {index}: the shard has {found.ravel()[index]}, transformers {values.ravel()[index]}"
    return None


def by_content(columns):
    """The same documents, sorted by their tokens and spans."""
    tokens, offsets = list(map(int, columns["tokens"])), list(map(int, columns["offsets"]))
    targets = [tuple(map(int, span)) for span in columns["targets"]]
    firsts = list(map(int, columns["target_offsets"]))
    documents = sorted(
        (tokens[offsets[i] : offsets[i + 1]], targets[firsts[i] : firsts[i + 1]]) for i in range(len(offsets) - 1)
    )
    return {
        "tokens": numpy.array(list(itertools.chain.from_iterable(tokens for tokens, _ in documents))),
        "offsets": numpy.array([0, *itertools.accumulate(len(tokens) for tokens, _ in documents)]),
        "targets": numpy.array(list(itertools.chain.from_iterable(spans for _, spans in documents))),
        "target_offsets": numpy.array([0, *itertools.accumulate(len(spans) for _, spans in documents)]),
    }


def shape(shard):
    return len(shard["offsets"]) - 1, len(shard["tokens"]), len(shard["targets"])


def main():
    job = pathlib.Path(sys.argv[1])
    plan = job_data.plan_of(job)
    base = pathlib.Path(plan["base"]["path"])
    tokenizer = AutoTokenizer.from_pretrained(base)
    end = json.loads((base / "config.json").read_text())["eos_token_id"]
    cache = pathlib.Path(os.environ["OUTCROP_HOME"]) / "cache/shards"
    shards = [load_file(path) for path in cache.glob("*/shard.safetensors")]
    data = plan["data"]
    for data_set in [data["training"], *data["validation"]]:
        wanted = expected(job_data.documents(data_set, tokenizer, end, plan["maxSequenceLength"]))
        alike = [shard for shard in shards if shape(shard) == shape(wanted)]
        if not alike:
            found = f"there are {sorted(map(shape, shards))}"
            sys.exit(f"{data_set['location']}: no shard has (documents, tokens, spans) {shape(wanted)}; {found}")
        if not all(file["path"].endswith(".jsonl") for file in data_set["files"]):
            wanted, alike = by_content(wanted), [by_content(shard) for shard in alike]
        differences = [difference(shard, wanted) for shard in alike]
        if None not in differences:
            sys.exit(f"{data_set['location']}: {differences[0]}")
        if int(sum(end - first for first, end in wanted["targets"])) != data_set["targetTokens"]:
            sys.exit(f"{data_set['location']}: the plan counts {data_set['targetTokens']} targets, the spans don't")
        print(f"{data_set['location']}: {len(wanted['tokens'])} tokens, {data_set['targetTokens']} targets agree")


if __name__ == "__main__":
    main()
