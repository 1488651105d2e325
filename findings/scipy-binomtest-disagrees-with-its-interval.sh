#!/usr/bin/env bash
# scipy 1.17.1: the p-value and the confidence interval of one binomtest result contradict each other.
#
# Expected: `binomtest(k, n, p)` returns a two-sided p-value, and `proportion_ci()` of the same result
# is "exact", too. A test at 5 % and a 95 % interval should agree: p-value < 0.05 exactly when p is
# outside the interval.
# Seen: 7 right of 16 questions with five choices give p-value 0.027 against chance (p = 0.2), and a
# 95 % interval that starts at 0.198 and so contains 0.2. The p-value adds up all counts that are at
# most as likely as k; the interval (Clopper-Pearson) inverts two one-sided tests at 2.5 %. Twice the
# smaller one-sided p-value, 0.053, agrees with the interval.
# Why it matters: a report that prints "better than chance, p = 0.03" beside an interval that includes
# chance looks wrong, and which of the two decides changes the verdict.
# Documentation: the pages of `binomtest` and `BinomTestResult.proportion_ci` do not mention it, nor
# which two-sided test is meant. statsmodels issue 2735 notes that the p-value is of the "minlike" kind,
# and not the central one that the interval inverts.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6

cd "$folder"
venv/bin/python - <<'END'
import platform
import sys

import numpy
import scipy
from scipy.stats import binomtest

print(f"Python {platform.python_version()}, scipy {scipy.__version__}, numpy {numpy.__version__}")

k, n, chance = 7, 16, 0.2
result = binomtest(k, n, chance)
interval = result.proportion_ci(confidence_level=0.95, method="exact")
doubled = 2 * min(
    binomtest(k, n, chance, alternative=side).pvalue for side in ("less", "greater")
)
print(f"binomtest({k}, {n}, {chance})")
print("expected: p-value < 0.05 exactly when the 95 % interval excludes 0.2")
print(f"seen:     p-value {result.pvalue:.4f}, interval [{interval.low:.4f}, {interval.high:.4f}]")
print(f"          twice the smaller one-sided p-value: {doubled:.4f}")


def contradicts(k: int, n: int, chance: float) -> bool:
    result = binomtest(k, n, chance)
    interval = result.proportion_ci()
    return bool((result.pvalue < 0.05) == (interval.low <= chance <= interval.high))


cases = [(k, n) for n in range(1, 51) for k in range(n + 1)]
count = sum(contradicts(k, n, chance) for k, n in cases)
print(f"          up to 50 questions: {count} of {len(cases)} results contradict themselves")

same = (
    round(result.pvalue, 4) == 0.0267
    and interval.low < chance < interval.high
    and doubled > 0.05
    and count > 0
)
sys.exit(None if same else "scipy behaves differently now")
END
