#!/usr/bin/env python3
"""Short rows for `outcrop data check`: prompts of 8 to 24 words with a label, of which every tenth is nearly an earlier one.

usage: short_rows.py ROWS > rows.jsonl      (1000000 rows: about 170 MB; the same bytes each time)
"""

import random
import sys

random.seed(7)
syllables = ["ba", "co", "di", "fu", "ge", "ha", "ki", "lo", "mu", "ne", "pa", "ri", "so", "tu", "ve", "wi"]
vocabulary = sorted({"".join(random.choices(syllables, k=random.randint(1, 4))) for _ in range(40_000)})
weights = [1 / (rank + 10) for rank in range(len(vocabulary))]
random.shuffle(vocabulary)
rows = int(sys.argv[1])
recent = []
for number in range(rows):
    if number % 10 == 9 and recent:
        row = list(random.choice(recent))
        row[random.randrange(len(row))] = "changed"
    else:
        row = random.choices(vocabulary, weights, k=random.randint(8, 24))
        recent.append(row)
        recent = recent[-1000:]
    label = ("Positive", "Negative", "Neutral")[number % 3]
    print('{"prompt": "Classify this message: ' + " ".join(row) + '", "completion": "' + label + '"}')
