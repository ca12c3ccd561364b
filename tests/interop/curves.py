"""Trains the same thing with Outcrop and with benches/peer.py (PyTorch + transformers) and compares every step's loss.

Usage: curves.py full --binary B --model DIR --text FILE  --seq N --batch N --steps N --lr X
       curves.py head --binary B --model DIR --jsonl FILE --limit N --epochs N --batch N --lr X
--base PATH is what Outcrop starts from where that isn't the peer's model (the same weights as GGUF).
Both take rows in the file's order, at a constant rate, with AdamW, no decay, and gradients clipped at 1.0.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import job_data

PEER = pathlib.Path(__file__).parents[2] / "benches/peer.py"
# Relative, at every step.
TOLERANCE = 1e-4
SETTINGS = {
    "learningRateWarmupSteps": "0",
    "schedule": "constant",
    "shuffle": "false",
    "weightDecay": "0",
    "clipNorm": "1",
    "generalData": "none",
}


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["full", "head"])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--base", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--jsonl", type=pathlib.Path)
    for name in ("seq", "batch", "steps", "limit", "epochs"):
        parser.add_argument(f"--{name}", type=int, default=1)
    parser.add_argument("--lr", required=True)
    return parser.parse_args()


def command(line, **extra):
    result = subprocess.run(list(map(str, line)), capture_output=True, text=True, **extra)
    if result.returncode:
        sys.exit(f"curves: {line[0]} {line[1]} failed: {result.stderr}")
    return result.stdout


def peer(a, work):
    model = a.model
    if not (model / "tokenizer_config.json").exists():
        # without it transformers' tokenizer knows no end token, which config.json has
        model = shutil.copytree(model, work / "model")
        end = json.loads((model / "config.json").read_text())["eos_token_id"]
        vocabulary = json.loads((model / "tokenizer.json").read_text(encoding="utf8"))["model"]["vocab"]
        (token,) = (token for token, id in vocabulary.items() if id == end)
        (model / "tokenizer_config.json").write_text(json.dumps({"eos_token": token}))
    line = [sys.executable, PEER, a.mode, "--model", model, "--batch", a.batch, "--lr", a.lr]
    if a.mode == "full":
        result = json.loads(command([*line, "--text", a.text, "--seq", a.seq, "--steps", a.steps]))
        seconds = sorted(result["seconds_per_step"][1:])
        return result["losses"], seconds[len(seconds) // 2]
    result = json.loads(command([*line, "--jsonl", a.jsonl, "--limit", a.limit, "--epochs", a.epochs]))
    losses = result["trials"][0]["losses"]
    return losses, result["seconds"] / len(losses)


def request(a, work):
    settings = {**SETTINGS, "batchSize": str(a.batch), "learningRate": a.lr}
    if a.mode == "full":
        kind, data = "CONTINUED_PRE_TRAINING", a.text.resolve()
        settings |= {"maxSequenceLength": str(a.seq), "maxSteps": str(a.steps), "epochCount": "1"}
    else:
        kind, data = "FINE_TUNING", work / "rows.jsonl"
        lines = a.jsonl.read_text(encoding="utf8").splitlines(keepends=True)
        data.write_text("".join(lines[: a.limit]), encoding="utf8")
        settings |= {"epochCount": str(a.epochs)}
    return {
        "customizationType": kind,
        "baseModelIdentifier": str((a.base or a.model).resolve()),
        "trainingDataConfig": {"s3Uri": str(data)},
        "hyperParameters": settings,
    }


def ours(a, work):
    file = work / "request.json"
    file.write_text(json.dumps(request(a, work)))
    command([a.binary, "train", file], env={**os.environ, "OUTCROP_HOME": str(work / "home")})
    (job,) = (work / "home/jobs").iterdir()
    steps = job_data.events_of(job, "step")
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1)), "steps are missing"
    seconds = sorted(step["seconds"] for step in steps[1:])
    return [step["loss"] for step in steps], seconds[len(seconds) // 2]


def main():
    a = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        (theirs, their_seconds), (found, our_seconds) = peer(a, work), ours(a, work)
    differences = [abs(x - y) / abs(y) for x, y in zip(found, theirs)]
    for step, (x, y, difference) in enumerate(zip(found, theirs, differences), 1):
        print(f"step {step:3}  outcrop {x:.7f}  peer {y:.7f}  relative difference {difference:.1e}")
    if len(found) != len(theirs):
        sys.exit(f"curves: outcrop made {len(found)} steps, the peer {len(theirs)}")
    if not max(differences) <= TOLERANCE:
        first = next(step for step, difference in enumerate(differences, 1) if not difference <= TOLERANCE)
        sys.exit(f"curves: losses differ by more than {TOLERANCE} from step {first} on")
    print(f"{len(found)} losses within {max(differences):.1e}; "
          f"seconds per step: outcrop {our_seconds:.2f}, peer {their_seconds:.2f}")


if __name__ == "__main__":
    main()
