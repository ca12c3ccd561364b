#!/usr/bin/env python3
"""Prints every field of the families' config classes in the installed `transformers`, with the value that a model of two layers has.

crates/model/src/families/fields.json holds what it printed: a test goes through it, so that no field is ignored unseen, and
tests/interop/run compares the two. Usage: config_fields.py [FILE], which then must be what would be printed.
"""
import json, pathlib, sys
import transformers as tf

CLASSES = [tf.Gemma2Config, tf.Gemma3TextConfig, tf.GPT2Config, tf.GPTNeoXConfig, tf.LlamaConfig, tf.MistralConfig,
           tf.Olmo2Config, tf.Phi3Config, tf.Qwen2Config, tf.Qwen3Config, tf.SmolLM3Config]


def fields(cls):
    layers = "n_layer" if cls is tf.GPT2Config else "num_hidden_layers"
    written = cls(**{layers: 2}).to_dict()
    del written["transformers_version"]
    return written


families = {cls.model_type: fields(cls) for cls in CLASSES}
text = "{\n" + ",\n".join(f'"{name}": {json.dumps(own, sort_keys=True)}' for name, own in families.items()) + "\n}\n"
if len(sys.argv) > 1:
    held = json.loads(pathlib.Path(sys.argv[1]).read_text())
    for name, own in families.items():
        new = {field for field in own if held.get(name, {}).get(field, ...) != json.loads(json.dumps(own[field]))}
        assert not new, f"{name}: {sorted(new)} are new or have another value; print the file anew and classify them"
    print(f"{sum(map(len, families.values()))} fields of {len(families)} families are known")
else:
    print(text, end="")
