"""Exports a job's model by the binary and loads it with `transformers` (R28, R30, R31).

Usage: export_loads.py BINARY JOB_FOLDER, with OUTCROP_HOME set to the home of the job
f32: the tensors that were trained differ from the base and no others do; the loss of the job's last validation comes
out again; greedy text is what `outcrop generate` says. bf16: every tensor is the f32 one rounded. In shards: transformers gives the
logits of the whole file, and its own shards have the same index but for where they are cut. All: the tokenizer gives the base's
ids, the end of a generation is the model's, the head is tied or not as it was trained, the card's header is YAML.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import job_data

NEW_TOKENS = 20
PROMPTS = [
    "The weather was cold, and",
    "The drill arrived late and without its charger.\nSentiment:",
    "To calibrate the instrument,",
    "“Größe 4 µm”, he said:",
]
INDEX, SHARD = "model.safetensors.index.json", "2MB"
# Both sides add in f32, in another order.
LOSS_TOLERANCE = 1e-5
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def run(binary, *arguments):
    result = subprocess.run([binary, *map(str, arguments)], capture_output=True)
    if result.returncode:
        sys.exit(f"`outcrop {arguments[0]}` failed: {result.stderr.decode()}")
    return result.stdout.decode("utf8")


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()


def check_tensors(folder, base, trained):
    """`trained` is `head` or `all`; the bases here are tied."""
    ours, theirs = load_file(folder / "model.safetensors"), load_file(base / "model.safetensors")
    tied = load(folder).config.tie_word_embeddings
    if trained == "head":
        assert tied is False and HEAD in ours, f"the head was trained alone, but tie_word_embeddings is {tied}"
        assert not torch.equal(ours[HEAD], ours[EMBEDDING]), "the trained head equals the embedding"
        changed = {HEAD}
        theirs[HEAD] = theirs[EMBEDDING]
    else:
        assert tied is True and HEAD not in ours, f"a tied model is exported with {sorted(ours)}"
        changed = set(theirs)
    assert set(ours) == set(theirs), f"tensors differ: {set(ours) ^ set(theirs)}"
    for name, tensor in ours.items():
        assert tensor.dtype == torch.float32, f"{name} is {tensor.dtype}"
        same = torch.equal(tensor, theirs[name].float())
        assert same != (name in changed), f"`{name}` {'is as in the base' if same else 'differs from the base'}"


def check_rounding(folder, exact):
    model = load(folder)
    assert model.dtype == torch.bfloat16, f"transformers loads the bf16 export as {model.dtype}"
    rounded, exact = load_file(folder / "model.safetensors"), load_file(exact / "model.safetensors")
    assert set(rounded) == set(exact), f"tensors differ: {set(rounded) ^ set(exact)}"
    for name, tensor in rounded.items():
        assert torch.equal(tensor, exact[name].to(torch.bfloat16)), f"`{name}` isn't the f32 tensor rounded"


@torch.no_grad()
def check_shards(folder, whole, tokenizer):
    """Returns the number of shards."""
    model = load(folder)
    for prompt in PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt")["input_ids"]
        assert torch.equal(model(inputs).logits, whole(inputs).logits), f"other logits in shards after {prompt!r}"
    ours = json.loads((folder / INDEX).read_text())
    with tempfile.TemporaryDirectory() as theirs:
        whole.save_pretrained(theirs, max_shard_size=SHARD)
        theirs = json.loads((pathlib.Path(theirs) / INDEX).read_text())
    assert ours["metadata"] == theirs["metadata"], f"metadata {ours['metadata']}, transformers {theirs['metadata']}"
    assert set(ours["weight_map"]) == set(theirs["weight_map"]), "the index lists other tensors than transformers'"
    shards = set(ours["weight_map"].values())
    assert len(shards) > 1 and all((folder / name).is_file() for name in shards), f"shards {sorted(shards)}"
    return len(shards)


def check_companions(folder, base):
    """The model card and what a generation ends with."""
    import yaml

    _, header, text = (folder / "README.md").read_text().split("---\n", 2)
    header = yaml.safe_load(header)
    assert header["library_name"] == "transformers" and "outcrop" in header["tags"], header
    assert header["base_model"] == base.name and "## Lineage" in text, header
    generation, config = (GenerationConfig.from_pretrained(folder), json.loads((folder / "config.json").read_text()))
    ends = generation.eos_token_id if isinstance(generation.eos_token_id, list) else [generation.eos_token_id]
    assert config["eos_token_id"] in ends, f"a generation ends with {ends}, the model with {config['eos_token_id']}"


def check_tokenizer(folder, base, texts):
    ours, theirs = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(base)
    for text in texts:
        assert ours(text)["input_ids"] == theirs(text)["input_ids"], f"other token ids of {text!r}"
    same = (folder / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert same, "tokenizer.json isn't a copy of the base's"
    end = json.loads((base / "config.json").read_text())["eos_token_id"]
    assert ours.eos_token_id == end, f"the tokenizer ends texts with {ours.eos_token_id}, the model with {end} (R30)"


@torch.no_grad()
def loss_of(model, documents):
    total, count = 0.0, 0
    for tokens, first in documents:
        log_p = torch.log_softmax(model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].float(), -1)
        of_targets = log_p[first - 1 : -1].gather(1, torch.tensor(tokens[first:])[:, None])
        total, count = total - float(of_targets.double().sum()), count + len(of_targets)
    return total / count


def check_loss(model, tokenizer, job, plan):
    """The loss of the job's last validation, which is that of the model it left. Returns the largest difference."""
    last = {event["set"]: event for event in job_data.events_of(job, "validation")}
    assert last, "the job has no validation event"
    largest = 0.0
    for number, event in last.items():
        data_set = plan["data"]["validation"][number]
        end, length = model.config.eos_token_id, plan["maxSequenceLength"]
        loss = loss_of(model, job_data.documents(data_set, tokenizer, end, length))
        difference = abs(loss - event["loss"]) / event["loss"]
        message = f"{data_set['location']}: the job says loss {event['loss']}, transformers {loss}"
        assert difference <= LOSS_TOLERANCE, message
        assert event["step"] == plan["steps"]["total"], "the last validation isn't of the last step"
        largest = max(largest, difference)
    return largest


@torch.no_grad()
def check_text(binary, name, model, tokenizer):
    for prompt in PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt")
        output = model.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=False,
                                max_new_tokens=NEW_TOKENS, pad_token_id=0)
        new = output[0, inputs["input_ids"].shape[1] :].tolist()
        if new[-1:] == [model.config.eos_token_id]:
            new.pop()
        theirs = tokenizer.decode(new, skip_special_tokens=False) + "\n"
        ours = run(binary, "generate", "--model", name, "--prompt", prompt, "--max-tokens", NEW_TOKENS)
        assert ours == theirs, f"after {prompt!r} outcrop says {ours!r}, transformers {theirs!r}"


def check_differs(model, base, tokenizer):
    inputs = tokenizer(PROMPTS[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert not torch.equal(model(inputs).logits, load(base).float()(inputs).logits), "logits are the base's (R31)"


def main():
    binary, job = sys.argv[1], pathlib.Path(sys.argv[2])
    plan = job_data.plan_of(job)
    base, name = pathlib.Path(plan["base"]["path"]), plan["customModelName"]
    with tempfile.TemporaryDirectory() as temporary:
        exact, rounded, sharded = (pathlib.Path(temporary) / name for name in ("f32", "bf16", "sharded"))
        for folder, options in [
            (exact, ["--dtype", "f32"]),
            (rounded, ["--dtype", "bf16"]),
            (sharded, ["--max-shard-size", SHARD]),
        ]:
            run(binary, "models", "export", name, folder, *options)
            check_tokenizer(folder, base, PROMPTS)
            check_companions(folder, base)
        check_tensors(exact, base, plan["trainable"]["kind"])
        check_rounding(rounded, exact)
        model, tokenizer = load(exact), AutoTokenizer.from_pretrained(exact)
        largest = check_loss(model, tokenizer, job, plan)
        check_text(binary, name, model, tokenizer)
        check_differs(model, base, tokenizer)
        shards = check_shards(sharded, model, tokenizer)
    print(f"{name}: validation loss within {largest:.1e}, {len(PROMPTS)} greedy texts equal, the same logits of {shards} shards")


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        sys.exit(f"export_loads: {error}")
