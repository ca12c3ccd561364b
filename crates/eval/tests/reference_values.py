"""Reference values of the statistics in crates/eval, by scipy and numpy, statsmodels (random data sets) and scikit-learn (macro F1).

Run `python3 reference_values.py` where scipy, statsmodels and scikit-learn are installed; it prints the numbers that the Rust tests quote
and writes random_statistics.json beside itself. The tests themselves
need no Python. Formulas are written out where scipy has no function for them, with their source.
"""

import numpy as np
from scipy import stats

DIFFERENCES = np.array([0.12, -0.05, 0.30, 0.08, -0.11, 0.22, 0.04, 0.19, -0.02, 0.15, 0.07, 0.26])
GROUPS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 4])
BASE = np.array([12.0, 7.5, 30.2, 4.4, 18.1, 9.9, 22.3, 5.0, 14.7, 11.2])
TUNED = np.array([10.9, 7.9, 26.0, 4.1, 17.0, 9.1, 20.8, 5.3, 12.9, 10.0])
TOKENS = np.array([6, 4, 15, 2, 9, 5, 11, 3, 7, 6])


def show(name, *values):
    print(f"{name:34}", *(f"{value:.12g}" for value in values))


def paired(differences):
    """Mean, standard error, 95 % interval and two-sided p of a one-sample t test."""
    test = stats.ttest_1samp(differences, 0.0)
    low, high = test.confidence_interval(0.95)
    return differences.mean(), stats.sem(differences), low, high, test.pvalue


def paired_in_groups(differences, groups):
    """CR1 sandwich of an intercept-only model (Liang and Zeger 1986), t with G - 1 degrees of freedom."""
    n, mean = len(differences), differences.mean()
    names = np.unique(groups)
    sums = np.array([(differences[groups == name] - mean).sum() for name in names])
    count = len(names)
    error = np.sqrt(count / (count - 1) * (sums**2).sum()) / n
    half = stats.t.ppf(0.975, count - 1) * error
    return mean, error, mean - half, mean + half, 2 * stats.t.sf(abs(mean / error), count - 1)


def bonett_price(fixed, broke, n):
    """Adjusted Wald interval of a difference of paired proportions (Bonett and Price 2012)."""
    p_fixed, p_broke = (fixed + 1) / (n + 2), (broke + 1) / (n + 2)
    centre = p_fixed - p_broke
    error = np.sqrt((p_fixed + p_broke - centre**2) / (n + 2))
    half = stats.norm.ppf(0.975) * error
    return centre, error, centre - half, centre + half


def token_weighted_bootstrap(resamples):
    """Percentile intervals of (sum tuned - sum base) / sum tokens and of sum tuned / sum base, items resampled in pairs."""
    rng = np.random.default_rng(7)
    picks = rng.integers(0, len(BASE), (resamples, len(BASE)))
    base, tuned, tokens = BASE[picks].sum(1), TUNED[picks].sum(1), TOKENS[picks].sum(1)
    return [*np.percentile((tuned - base) / tokens, [2.5, 97.5]), *np.percentile(tuned / base, [2.5, 97.5])]


def holm(values):
    """Holm 1979, step-down adjusted p values."""
    order = np.argsort(values)
    adjusted, running = np.empty(len(values)), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = running
    return adjusted


show("paired", *paired(DIFFERENCES))
show("paired in groups", *paired_in_groups(DIFFERENCES, GROUPS))
for broke, fixed in [(0, 5), (5, 68), (14, 31), (3, 3), (120, 161)]:
    show(f"mcnemar broke {broke} fixed {fixed}", stats.binomtest(min(broke, fixed), broke + fixed, 0.5).pvalue)
show("bonett price 68/5/150", *bonett_price(68, 5, 150))
show("bonett price 0/0/168", *bonett_price(0, 0, 168))
for freedom in [1, 2, 4, 11, 29, 167, 5000]:
    show(f"t quantile {freedom}", stats.t.ppf(0.975, freedom))
show("token weighted", (TUNED.sum() - BASE.sum()) / TOKENS.sum(), TUNED.sum() / BASE.sum())
show("bootstrap 2,000,000", *token_weighted_bootstrap(2_000_000))
show("holm", *holm(np.array([0.01, 0.04, 0.03, 0.005])))
show("holm ties and cap", *holm(np.array([0.6, 0.6, 0.02])))
show("one-sided above margin", stats.t.sf((0.05 - 0.02) / 0.01, 11), stats.t.sf((-0.01 - 0.02) / 0.01, 11))
show("power quantiles", stats.norm.ppf(0.975), stats.norm.ppf(0.8))

# crates/eval/src/wilcoxon.rs: one-sided, zeros dropped, no continuity correction
DISTINCT = np.array([0.31, -0.12, 0.47, 0.05, 0.22, -0.08, 0.61, 0.19])
TIED = np.array([1.0, 2.0, -1.0, 3.0, 2.0, 0.0, -2.0, 4.0, 1.0, 5.0])
LONG = np.array([np.sin(0.7 * i) + 0.3 for i in range(1, 61)])
for name, values, method in [("distinct", DISTINCT, "exact"), ("tied", TIED, "approx"), ("long", LONG, "approx"),
                             ("25 exact", LONG[:25], "exact"), ("26 approximated", LONG[:26], "approx")]:
    test = lambda v: stats.wilcoxon(v, zero_method="wilcox", correction=False, alternative="greater", method=method)
    show(f"wilcoxon {name}, and negated", test(values).pvalue, test(-values).pvalue)

# crates/eval/src/macro_f1.rs
from sklearn.metrics import f1_score

LABELS = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3])
ANSWERS = [np.array([0, 1, 0, 2, 0, 0, 1, 0, 2, 1, 0, 1, 0, 2, 0, 2, 0, 1, 0, 0]),
           np.array([0, 0, 0, 0, 0, 0, 1, 0, 2, 1, 1, 1, 0, 1, 1, 2, 2, 1, 2, 0])]


def macro_f1(labels, answers):
    """Rows of resamples; f1_score(average="macro") of each, which takes the labels that occur."""
    both, either = (np.stack([f(labels == label, answers == label).sum(1) for label in range(4)])
                    for f in (np.logical_and, lambda right, answered: right.astype(int) + answered))
    return np.nanmean(np.where(either > 0, 2 * both / np.maximum(either, 1), np.nan), axis=0)


for answers in ANSWERS:
    show("macro F1", f1_score(LABELS, answers, average="macro"), macro_f1(LABELS[None], answers[None])[0])
picks = np.random.default_rng(11).integers(0, 20, (200_000, 20))
show("macro F1, bootstrap 200,000", *np.percentile(
    macro_f1(LABELS[picks], ANSWERS[1][picks]) - macro_f1(LABELS[picks], ANSWERS[0][picks]), [2.5, 97.5]))

# crates/eval/src/reference_tests.rs: ten random data sets, written with what scipy and statsmodels say of them
import json
import pathlib

import statsmodels.api as sm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

cases = []
for seed in range(10):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 200))
    base, tuned = rng.integers(0, 2, n), rng.integers(0, 2, n)
    tuned[: n // 2] = base[: n // 2]
    groups = rng.integers(0, max(2, n // 4), n)
    differences = rng.normal(0.1, 1.0, n).round(6)
    plain = stats.ttest_1samp(differences, 0.0)
    low, high = plain.confidence_interval(0.95)
    robust = sm.OLS(differences, np.ones(n)).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": True}, use_t=True
    )
    # statsmodels' small-sample factor has (n - 1) / (n - k), which is 1 here: G / (G - 1) remains
    table = [[int(((base == a) & (tuned == b)).sum()) for b in (1, 0)] for a in (1, 0)]
    p_values = rng.uniform(0, 0.2, 6).round(6)
    cases.append({
        "differences": differences.tolist(),
        "groups": groups.tolist(),
        "t": [*map(float, (differences.mean(), stats.sem(differences), low, high, plain.pvalue))],
        "cluster": [float(robust.params[0]), float(robust.bse[0]), *map(float, robust.conf_int()[0]), float(robust.pvalues[0])],
        "base": base.tolist(),
        "tuned": tuned.tolist(),
        "mcnemar": float(mcnemar(table, exact=True).pvalue),
        "p_values": p_values.tolist(),
        "holm": multipletests(p_values, method="holm")[1].tolist(),
    })
pathlib.Path(__file__).with_name("random_statistics.json").write_text(json.dumps({"cases": cases}) + "\n")
