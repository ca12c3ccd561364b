"""Holds multiple choice to lm-evaluation-harness: the same choice on nearly every item, by all three measures.

Usage: lm_eval_choices.py CHOICES_BINARY MODEL_FOLDER LIMIT FOLDER
CHOICES_BINARY is the example `choices` of crates/trainer; LIMIT is the number of items of each set, 0 for all; FOLDER
holds arc_easy.jsonl, openbook_qa.jsonl and piqa.jsonl, lines of `query`, `choices`, `gold`. Needs lm_eval 0.4.13 in
the running Python; nothing is downloaded. Both sides compute in f32 on the CPU; lm_eval goes through its `hf` backend.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

# What lm_eval's tasks put between the question and a choice.
DELIMITERS = {"openbook_qa": " ", "arc_easy": "\nAnswer: ", "piqa": "\nAnswer: "}
LEAST_AGREEMENT = 0.995
BATCH = 8


def outcrop(binary, model, name, items, folder):
    """NLLs of the choices, and what the model answers by the suite's own measures."""
    header = {"suite": name, "kind": "multiple_choice", "delimiter": DELIMITERS[name]}
    suite = pathlib.Path(folder, f"{name}.jsonl")
    lines = [json.dumps(line) for line in [header, *items]]
    suite.write_text("\n".join(lines) + "\n", encoding="utf8")
    output = subprocess.run([binary, model, suite], check=True, capture_output=True).stdout
    return [json.loads(line)["answer"] for line in output.decode("utf8").splitlines()]


def harness(model, name, items):
    """NLLs of the choices, and how many requests would be other tokens with prompt and choice tokenized apart."""
    requests, apart = [], 0
    for item in items:
        # lm_eval's default target_delimiter is one space
        context = item["query"].strip() + DELIMITERS[name].removesuffix(" ")
        for choice in item["choices"]:
            request = (context, " " + choice)
            requests.append(Instance(request_type="loglikelihood", doc={}, arguments=request, idx=0))
            joint = model._encode_pair(*request)
            alone = [model.tok_encode(text, add_special_tokens=False) for text in request]
            apart += [list(part) for part in joint] != [list(part) for part in alone]
    values = iter(model.loglikelihood(requests, disable_tqdm=True))
    return [[-next(values)[0] for _ in item["choices"]] for item in items], apart, len(requests)


def choose(nll, item, length):
    return int(numpy.argmin(numpy.array(nll) / [length(choice) for choice in item["choices"]]))


def compare(name, items, ours, theirs):
    lengths = {
        "acc": (lambda choice: 1, "right"),
        "acc_norm": (len, "right_per_character"),
        "acc_bytes": (lambda choice: len(choice.encode()), "right_per_byte"),
    }
    largest = max(
        abs(a - b) for answer, nll in zip(ours, theirs) for a, b in zip(map(float, answer["candidates"]), nll)
    )
    print(f"{name}: {len(items)} items, largest difference of an NLL {largest:.2e}")
    agreed = True
    for measure, (length, field) in lengths.items():
        nlls = [[float(value) for value in answer["candidates"]] for answer in ours]
        own = [choose(nll, item, length) for nll, item in zip(nlls, items)]
        other = [choose(nll, item, length) for nll, item in zip(theirs, items)]
        same = sum(a == b for a, b in zip(own, other)) / len(items)
        right = [sum(choice == item["gold"] for choice, item in zip(side, items)) / len(items) for side in (own, other)]
        said = sum(answer[field] for answer in ours) / len(items)
        print(f"  {measure}: same choice {same:.2%}, ours {said:.4f}, lm_eval {right[1]:.4f}")
        agreed &= same >= LEAST_AGREEMENT and said == right[0]
    return agreed


def main():
    binary, folder, limit, data = sys.argv[1], sys.argv[2], int(sys.argv[3]), pathlib.Path(sys.argv[4])
    model = HFLM(pretrained=folder, device="cpu", dtype="float32", batch_size=BATCH)
    agreed = True
    with tempfile.TemporaryDirectory() as work:
        for name in DELIMITERS:
            lines = (data / f"{name}.jsonl").read_text(encoding="utf8").splitlines()
            items = [json.loads(line) for line in lines[: limit or None]]
            ours = outcrop(binary, folder, name, items, work)
            theirs, apart, requests = harness(model, name, items)
            agreed &= compare(name, items, ours, theirs)
            print(f"  tokenized apart {apart} of {requests} requests would be other tokens", flush=True)
    if not agreed:
        sys.exit(f"fewer than {LEAST_AGREEMENT:.1%} of the choices agree")
    print("lm_eval chooses the same")


if __name__ == "__main__":
    main()
