"""Writes expected.json: what transformers makes of the conversations here with each template beside it.

Usage: python generate.py, with transformers and jinja2 installed. `strftime_now` tells the day that the engine tells."""

import json
from datetime import datetime
from pathlib import Path

import transformers
from transformers.utils import chat_template_utils

FOLDER = Path(__file__).parent
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


class Fixed(datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


chat_template_utils.datetime = Fixed


def turns(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


CONVERSATIONS = {
    "one": turns("Hello there", "Good day."),
    "two": turns("What is 2 + 2?", " Four.\n", "And “3 × 3”?  ", "Nine: naïve <b>café</b> & co."),
    "system": [{"role": "system", "content": "Be brief. "}, *turns("Who?", "Me.", "Why?", "x")],
    "thought": turns("Think.", "<think>\nhm\n</think>\n\nDone.", "Again?", "<think>\nso\n</think>\n\nYes."),
}


def rendered(template, messages, prompt):
    try:
        text, _ = chat_template_utils.render_jinja_template(
            [messages], chat_template=template, add_generation_prompt=prompt, **SPECIAL)
        return text[0]
    except Exception as error:
        return {"error": str(error)}


expected = {"transformers": transformers.__version__, "special": SPECIAL, "conversations": CONVERSATIONS, "texts": {}}
for file in sorted(FOLDER.glob("*.jinja")):
    template = file.read_text()
    texts = {name: [rendered(template, messages, False), rendered(template, messages[:-1], True)]
             for name, messages in CONVERSATIONS.items()}
    expected["texts"][file.stem] = texts
(FOLDER / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")
