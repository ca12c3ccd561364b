"""A short training on a GPU with Outcrop, and the same with PyTorch on the same GPU: losses of every step, tokens a second.

Usage: curves.py --binary B --model DIR --text FILE --device cuda:0 [--dtype float32|bfloat16] [--seq N --batch N --steps N --lr X]

Needs torch and nothing else. The model is written out below in plain PyTorch (a Llama: pre-norm, rotate-half rope, grouped
heads, SwiGLU, tied head), in f32; the tokens are those of the shard that Outcrop made, so no tokenizer is needed.
Outcrop in bfloat16 is compared with PyTorch in float32, whose weights its masters are.
"""

import argparse
import json
import os
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn.functional as F

# Relative, at every step; bf16 against f32.
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True, type=pathlib.Path)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--text", required=True, type=pathlib.Path)
    parser.add_argument("--device", required=True)
    parser.add_argument("--dtype", choices=sorted(TOLERANCE), default="float32")
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--lr", type=float, default=1e-3)
    return parser.parse_args()


def read_safetensors(path, wanted=None):
    """Name to tensor; Outcrop's files and Hugging Face's have the types below."""
    kinds = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "U16": torch.uint16, "U32": torch.uint32,
             "U64": torch.uint64}
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__" and (wanted is None or name in wanted):
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            flat = torch.frombuffer(bytearray(data[start:end]), dtype=kinds[entry["dtype"]])
            tensors[name] = flat.reshape(entry["shape"])
    return tensors


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def loss_of(weights, config, tokens):
    """Mean NLL of every token but each row's first. Shapes: tokens (B, T)."""
    heads, groups, dim = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    batch, length = tokens.shape
    base = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    frequencies = base ** (-torch.arange(0, dim, 2, device=tokens.device).float() / dim)
    angles = torch.arange(length, device=tokens.device).float()[:, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    norm = lambda x, name: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + config["rms_norm_eps"]) * weights[name]
    x = F.embedding(tokens, weights["model.embed_tokens.weight"])
    for layer in range(config["num_hidden_layers"]):
        w = lambda name: weights[f"model.layers.{layer}.{name}.weight"]
        normed = norm(x, f"model.layers.{layer}.input_layernorm.weight")
        split = lambda y, count: y.view(batch, length, count, dim).transpose(1, 2)
        q = rotate(split(normed @ w("self_attn.q_proj").T, heads), cos, sin)
        k = rotate(split(normed @ w("self_attn.k_proj").T, groups), cos, sin)
        v = split(normed @ w("self_attn.v_proj").T, groups)
        k, v = (y.repeat_interleave(heads // groups, 1) for y in (k, v))
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, heads * dim)
        x = x + o @ w("self_attn.o_proj").T
        normed = norm(x, f"model.layers.{layer}.post_attention_layernorm.weight")
        x = x + (F.silu(normed @ w("mlp.gate_proj").T) * (normed @ w("mlp.up_proj").T)) @ w("mlp.down_proj").T
    head = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    logits = norm(x, "model.norm.weight") @ weights[head].T
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def theirs(a, rows):
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    config = json.loads((a.model / "config.json").read_text())
    device = torch.device("cuda", int(a.device.partition(":")[2] or 0))
    weights = {name: tensor.float().to(device).requires_grad_()
               for name, tensor in read_safetensors(a.model / "model.safetensors").items()}
    optimizer = torch.optim.AdamW(weights.values(), lr=a.lr, weight_decay=0.0, fused=True)
    losses, seconds = [], []
    for step in range(a.steps):
        tokens = torch.tensor(rows[step * a.batch : (step + 1) * a.batch], device=device)
        torch.cuda.synchronize(device)
        begin = time.perf_counter()
        loss = loss_of(weights, config, tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss))
        seconds.append(time.perf_counter() - begin)
    return losses, statistics.median(seconds[1:])


def ours(a, work):
    """Losses, seconds of a step, and the rows of tokens that were trained."""
    settings = {"maxSequenceLength": a.seq, "batchSize": a.batch, "maxSteps": a.steps, "epochCount": 1, "learningRate": a.lr,
                "learningRateWarmupSteps": 0, "schedule": "constant", "shuffle": "false", "weightDecay": 0, "clipNorm": 1,
                "generalData": "none", "dtype": a.dtype}
    request = {"customizationType": "CONTINUED_PRE_TRAINING", "baseModelIdentifier": str(a.model.resolve()),
               "trainingDataConfig": {"s3Uri": str(a.text.resolve())},
               "hyperParameters": {key: str(value) for key, value in settings.items()}}
    (work / "request.json").write_text(json.dumps(request))
    home = work / "home"
    result = subprocess.run([a.binary.resolve(), "train", work / "request.json", "--device", a.device], text=True,
                            capture_output=True, env={**os.environ, "OUTCROP_HOME": str(home)})
    if result.returncode:
        sys.exit(f"curves: outcrop train failed: {result.stderr}")
    (job,) = (home / "jobs").iterdir()
    events = [json.loads(line) for line in (job / "events.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    columns = [read_safetensors(path, ("tokens", "offsets")) for path in (home / "cache/shards").rglob("*.safetensors")]
    columns = max(columns, key=lambda shard: shard["tokens"].numel())
    tokens, offsets = columns["tokens"].tolist(), columns["offsets"].tolist()
    ends = [*offsets[1:], len(tokens)] if offsets[-1] != len(tokens) else offsets[1:]
    rows = [tokens[start:end] for start, end in zip(offsets, ends) if end - start == a.seq]
    return [step["loss"] for step in steps], statistics.median(step["seconds"] for step in steps[1:]), rows


def main():
    a = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        found, our_seconds, rows = ours(a, pathlib.Path(temporary))
    if len(rows) < a.steps * a.batch:
        sys.exit(f"curves: {a.text} has {len(rows)} whole rows of {a.seq} tokens, {a.steps * a.batch} are needed")
    expected, their_seconds = theirs(a, rows)
    differences = [abs(x - y) / abs(y) for x, y in zip(found, expected)]
    for step, (x, y, difference) in enumerate(zip(found, expected, differences), 1):
        print(f"step {step:3}  outcrop {x:.6f}  PyTorch {y:.6f}  relative difference {difference:.1e}")
    if len(found) != len(expected) or not max(differences) <= TOLERANCE[a.dtype]:
        sys.exit(f"curves: {len(found)} of {len(expected)} losses; allowed are {TOLERANCE[a.dtype]}")
    rate = lambda seconds: a.batch * a.seq / seconds
    print(f"{a.dtype}: {len(found)} losses within {max(differences):.1e}; tokens/s: outcrop {rate(our_seconds):.0f}, "
          f"PyTorch f32 {rate(their_seconds):.0f}; ratio {their_seconds / our_seconds:.2f}")


if __name__ == "__main__":
    main()
