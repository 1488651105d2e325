#!/usr/bin/env bash
# math-verify 0.9.0, latex2sympy2_extended 1.11.0: numbers in different bases are equal if their digits
# are.
#
# Expected: `1011_2` and `1011_3` differ: they are 11 and 31. Either the index is read as a base, or it
# stays part of the expression, as it does in `x_1`, which is not `x_2`.
# Seen: an index is dropped after a number and kept after a letter, so `1011_2` equals `1011_3` and
# 1011, and it does not equal 11, its value.
# Why it matters: questions about number bases have known answers like `204_5`. An answer in the wrong
# base, or without any, is counted as correct: an accuracy is too high and wrong answers become
# training data. An answer converted to base ten is counted as wrong.
# Documentation: the README of math-verify does not mention it, and its issues do not (14 and 64 list
# other pairs that are equal by mistake). The README of latex2sympy2_extended lists "Subscript (x_1)"
# as supported; only a comment in its source says that the index of a number is ignored.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  math-verify==0.9.0 latex2sympy2_extended==1.11.0 sympy==1.14.0 antlr4-python3-runtime==4.13.2

cd "$folder"
venv/bin/python - <<'END'
import platform
import sys
from importlib.metadata import version

from math_verify import parse, verify

packages = ("math-verify", "latex2sympy2_extended", "sympy")
print(f"Python {platform.python_version()},", ", ".join(f"{name} {version(name)}" for name in packages))

pairs = [  # known answer, answer, equal as expected, equal as seen
    ("1011_2", "1011_3", False, True),
    ("1011_2", "1011", False, True),
    ("1011_2", "1011_{2}", True, True),
    ("1011_2", "11", True, False),
    ("x_1", "x_2", False, False),
    ("x_1", "x", False, False),
]
changed = False
for gold, answer, expected, before in pairs:
    equal = verify(parse(f"${gold}$"), parse(f"${answer}$"))
    print(f"{gold:6} and {answer:8} expected equal: {expected!s:6} seen: {equal}")
    changed |= equal != before
sys.exit("math-verify behaves differently now" if changed else None)
END
