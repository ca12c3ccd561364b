"""Reference values of the measures of texts in crates/eval: chrF by sacrebleu, ROUGE-L by rouge_score, the F1 of typed
spans by seqeval, SQuAD's normalisation by the functions of its evaluation script, which are written out here, and the
paired bootstrap of groups by numpy over sacrebleu's own statistics.

Run `python3 reference_texts.py` where sacrebleu, rouge-score and seqeval are installed; it writes reference_texts.json
beside itself, which the Rust tests read. Everything random comes from the seeds below.
"""

import collections
import json
import pathlib
import random
import re
import string

import numpy as np
from rouge_score import rouge_scorer
from sacrebleu.metrics import CHRF
from seqeval.metrics import f1_score

SEED = 20261127
WORDS = ("the a an of river stone winter house in on and Mill mill's café naïve 12 3.5 x-ray e.g. größer Straße Zürich "
         "москва 東京 日本語 don't 'quoted' [note] re-entry a.m. it's").split()
FIXED = [
    ("", ["something"]), ("something", ["something"]), ("   ", ["a b c"]), ("a", ["b"]), ("ab", ["abc"]),
    ("The cat sat on the mat.", ["The cat is on the mat.", "There is a cat on the mat."]),
    ("the the the the", ["the cat"]), ("abcabcabc", ["abc"]), ("aaaaaa", ["aaa", "aaaaaaaa"]),
    ("line\nbreak\tand\u00a0space", ["line break and space"]), ("x\x1cy", ["xy"]), ("日本語", ["日本語です"]),
    ("Nothing in common", ["zzz qqq"]), ("1,000 apples", ["1000 apples", "a thousand apples"]),
]
ANSWERS = ["The Cat", "  an   Apple a day ", "U.S.A.", "the-end", "a", "theatre", "Beyoncé's album", "the’s", "“The” end",
           "don't", "A.B. the C", "3.5 %", "ÄPFEL und an Birnen", "an_a the_b", "", "what?! the… end"]


def squad(text):
    """normalize_answer of SQuAD 1.1's evaluate-v1.1.py."""
    def remove_articles(text):
        return re.sub(r"\b(a|an|the)\b", " ", text)

    def remove_punctuation(text):
        return "".join(letter for letter in text if letter not in set(string.punctuation))

    return " ".join(remove_articles(remove_punctuation(text.lower())).split())


def texts(rng):
    for answer, references in FIXED:
        yield answer, references
    for _ in range(120):
        reference = rng.choices(WORDS, k=rng.randint(1, 14))
        answer = [word for word in reference if rng.random() < 0.8]
        for _ in range(rng.randint(0, 3)):
            answer.insert(rng.randint(0, len(answer)), rng.choice(WORDS))
        references = [" ".join(reference)] + [" ".join(rng.choices(WORDS, k=4)) for _ in range(rng.randint(0, 2))]
        rng.shuffle(references)
        yield " ".join(answer), references


def spans(rng):
    """Random typed spans as BIO tags of separate places, which seqeval scores, with the counts that they amount to."""
    types = ["person", "place", "date", "sum"][: rng.randint(1, 4)]
    truth, given = [], []
    counts = collections.defaultdict(lambda: [0, 0, 0])
    for _ in range(rng.randint(3, 40)):
        right = rng.choice(types) if rng.random() < 0.7 else None
        answer = right if rng.random() < 0.6 else rng.choice([*types, "other", None])
        if right:
            counts[right][2] += 1
        if answer:
            counts[answer][1] += 1
        if right and right == answer:
            counts[right][0] += 1
        truth += [f"B-{right}" if right else "O", "O"]
        given += [f"B-{answer}" if answer else "O", "O"]
    if not any(tag != "O" for tag in truth):
        return spans(rng)
    return {
        "counts": [counts[tag] for tag in sorted(counts)],
        "micro": float(f1_score([truth], [given], average="micro", zero_division=0)),
        "macro": float(f1_score([truth], [given], average="macro", zero_division=0)),
    }


def drawn(groups, base, tuned, value, resamples=20_000):
    """2.5th and 97.5th percentile of value(tuned) - value(base) over sums of whole groups, drawn with replacement."""
    names = sorted(set(groups))
    sums = [np.array([np.sum([row for row, group in zip(rows, groups) if group == name], axis=0) for name in names])
            for rows in (base, tuned)]
    picks = np.random.default_rng(SEED).integers(0, len(names), (resamples, len(names)))
    differences = [value(sums[1][pick].sum(0)) - value(sums[0][pick].sum(0)) for pick in picks]
    return [float(end) for end in np.percentile(differences, [2.5, 97.5])]


def bootstrap(rng, chrf):
    """Two models on the same items in groups: their corpus chrF and their micro F1 with intervals of the differences."""
    references = [" ".join(rng.choices(WORDS, k=rng.randint(3, 12))) for _ in range(60)]
    worse = [" ".join(word for word in text.split() if rng.random() < 0.5) or "x" for text in references]
    better = [" ".join(word for word in text.split() if rng.random() < 0.6) or "y" for text in references]
    groups = [rng.randint(0, 24) for _ in references]
    groups = [sorted(set(groups)).index(group) for group in groups]
    statistics = [chrf._extract_corpus_statistics(answers, [references]) for answers in (worse, better)]

    def counts():
        right = rng.randint(1, 4)
        given = [rng.randint(0, 4) for _ in range(2)]
        return [[rng.randint(0, min(right, given[side])), given[side], right] for side in range(2)]

    pairs = [counts() for _ in references]
    base, tuned = [[pair[side] for pair in pairs] for side in range(2)]
    return {
        "references": references, "base": worse, "tuned": better, "groups": groups,
        "chrf": [chrf.corpus_score(answers, [references]).score for answers in (worse, better)],
        "chrf_interval": drawn(groups, *statistics, lambda sums: chrf._compute_f_score(sums)),
        "base_counts": base, "tuned_counts": tuned,
        "micro_interval": drawn(groups, base, tuned, lambda sums: 2 * sums[0] / (sums[1] + sums[2])),
    }


rng = random.Random(SEED)
chrf = CHRF()
rouge = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
pairs = list(texts(rng))
most = max(len(references) for _, references in pairs)
# sacrebleu wants as many references everywhere: the first again where there are fewer, which changes no best one
streams = [[(references * most)[i] if i < len(references) else references[0] for _, references in pairs] for i in range(most)]
reference = {
    "texts": [
        {
            "answer": answer,
            "references": references,
            "chrf": chrf.sentence_score(answer, references).score,
            "rouge_l": rouge.score_multi(references, answer)["rougeL"].fmeasure,
        }
        for answer, references in pairs
    ],
    "corpus_chrf": chrf.corpus_score([answer for answer, _ in pairs], streams).score,
    "normalised": [[text, squad(text)] for text in ANSWERS],
    "spans": [spans(rng) for _ in range(20)],
    "bootstrap": bootstrap(rng, chrf),
}
pathlib.Path(__file__).with_name("reference_texts.json").write_text(json.dumps(reference, ensure_ascii=False) + "\n")
