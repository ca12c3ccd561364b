"""Exports models as GGUF by the binary and loads them with llama.cpp (`llama-cpp-python`): R30, R31.

Usage: gguf_loads.py BINARY MODEL..., a custom model's name, a folder or `pebble`
Each as f32, f16 and q8_0. The ids of every prompt are those that `tokenizers` gives from the base's own file, and the greedy
continuation of the f32 file is, token for token, what `outcrop generate` says of the model; of the narrower files it is what
`outcrop generate` says of the very file, or leaves it where two tokens are nearly as likely.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy
from llama_cpp import Llama
from llama_cpp import llama_cpp as bindings

NEW_TOKENS = 40
PROMPTS = [
    "The weather was cold, and",
    "Question: What do people use to cut bread?\nAnswer:",
    "To calibrate the instrument,",
    "“Größe 4 µm”, he said: 12345",
    "I've  been\n\n told she'll go; WE'RE 我想",
]
# llama.cpp rounds what it multiplies a q8_0 or f16 matrix with, too, so a choice between tokens this near (nats) is chance.
NEAR = {"f32": 0.001, "f16": 0.02, "q8_0": 0.1}


def without_extra_buffers(default=bindings.llama_model_default_params):
    """Defaults without weights laid out anew for AMX, whose q8_0 of pebble ends llama.cpp with a segmentation fault."""
    parameters = default()
    parameters.use_extra_bufts = False
    return parameters


bindings.llama_model_default_params = without_extra_buffers


def run(binary, *arguments):
    result = subprocess.run([binary, *map(str, arguments)], capture_output=True)
    if result.returncode:
        sys.exit(f"`outcrop {arguments[0]}` failed: {result.stderr.decode()}")
    return result.stdout.decode("utf8")


def greedy(model, prompt):
    """The prompt's tokens, the new ones, and how much likelier each of them, or the end, was than the next, in nats."""
    tokens = model.tokenize(prompt.encode(), add_bos=model.metadata["tokenizer.ggml.add_bos_token"] == "true", special=True)
    model.reset()
    model.eval(tokens)
    new, gaps = [], []
    while len(new) < NEW_TOKENS:
        logits = model.scores[model.n_tokens - 1]
        best = int(numpy.argmax(logits))
        gaps.append(float(logits[best] - numpy.partition(logits, -2)[-2]))
        if best == model.token_eos():
            break
        new.append(best)
        model.eval([best])
    return tokens, new, gaps


def text_of(model, tokens):
    return model.detokenize(tokens, special=True).decode("utf8", errors="replace")


def check(binary, name, folder):
    near = 0
    for dtype in NEAR:
        file = folder / f"{pathlib.Path(name).name}-{dtype}.gguf"
        run(binary, "models", "export", name, "--format", "gguf", "--dtype", dtype, "--out", file)
        model = Llama(str(file), n_ctx=256, n_threads=2, logits_all=True, verbose=False)
        for prompt in PROMPTS:
            ids, new, gaps = greedy(model, prompt)
            theirs = text_of(model, new)
            source = name if dtype == "f32" else file
            ours = run(binary, "generate", "--model", source, "--prompt", prompt, "--max-tokens", NEW_TOKENS)[:-1]
            printable = ours.rstrip("\ufffd")
            if theirs.rstrip("\ufffd") == printable:
                continue
            parts = (text_of(model, new[: i + 1]).rstrip("\ufffd") for i in range(len(new)))
            same = next((i for i, text in enumerate(parts) if not printable.startswith(text)), len(new))
            message = f"{dtype}: after {prompt!r} ({ids}) llama.cpp says {theirs!r}, outcrop {ours!r}; gap {gaps[same:same + 1]}"
            assert same < len(gaps) and gaps[same] < NEAR[dtype], message
            near += 1
        del model
    return near


def check_ids(name, folder):
    import tokenizers

    path = pathlib.Path(name) / "tokenizer.json"
    if not path.is_file():
        return
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    model = Llama(str(next(folder.glob("*-f16.gguf"))), vocab_only=True, verbose=False)
    for prompt in PROMPTS:
        theirs = model.tokenize(prompt.encode(), add_bos=False, special=True)
        assert theirs == tokenizer.encode(prompt, add_special_tokens=False).ids, f"other ids of {prompt!r}: {theirs}"


def main():
    binary, names = sys.argv[1], sys.argv[2:]
    total = 0
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            total += check(binary, name, pathlib.Path(temporary))
            check_ids(name, pathlib.Path(temporary))
    count = len(names) * len(NEAR) * len(PROMPTS)
    print(f"{len(names)} models: {count - total} of {count} greedy texts equal, the rest part at a near tie")


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        sys.exit(f"gguf_loads: {error}")
