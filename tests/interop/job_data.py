"""The data of a finished job as `transformers` sees it: what its plan names, tokenized by an `AutoTokenizer`.

Written from Outcrop's documents, not from its code: a pair is prompt + " " + completion + end token, the two tokenized
apart, the targets being the completion and the end token; a text file is one document with an end token, cut into rows
of the longest sequence; the first token of a document or row is nobody's target. Other formats aren't covered.
"""

import json
import pathlib


def plan_of(job):
    return json.loads((pathlib.Path(job) / "plan.json").read_text(encoding="utf8"))["plan"]


def events_of(job, kind):
    lines = (pathlib.Path(job) / "events.jsonl").read_text(encoding="utf8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def pairs(tokenizer, end, path):
    for line in path.read_text(encoding="utf8").splitlines():
        record = json.loads(line)
        prompt, completion = record["prompt"], record["completion"]
        if prompt[-1:].isspace() or completion[:1].isspace():
            raise ValueError(f"{path}: a record whose white space at the boundary isn't covered here: {line}")
        prompt, completion = ids(tokenizer, prompt), ids(tokenizer, " " + completion)
        yield prompt + completion + [end], len(prompt)


def rows(tokenizer, end, path, length):
    document = ids(tokenizer, path.read_bytes().decode("utf8")) + [end]
    for start in range(0, len(document), length):
        yield document[start : start + length], 1


def documents(data_set, tokenizer, end, length):
    """[(tokens, first target)] of one data set of a plan, in the order of its files."""
    found = []
    for file in data_set["files"]:
        path = pathlib.Path(file["path"])
        found += pairs(tokenizer, end, path) if path.suffix == ".jsonl" else rows(tokenizer, end, path, length)
    return found
