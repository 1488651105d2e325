#!/usr/bin/env bash
# math-verify 0.9.0, latex2sympy2_extended 1.11.0: a product of two numbers in parentheses is a sum,
# and the setting that should prevent it is never read.
#
# Expected: `2(3)` and `(2)(3)` are 6. Mixed numbers, `2\frac{1}{2}` = 5/2, are a setting of their own:
# `ConversionConfig(interpret_as_mixed_fractions=False)` reads `2\frac{1}{2}` as a product.
# Seen: `2(3)` and `(2)(3)` are 5, because an integer followed by any positive rational number counts
# as a mixed number. `2(x)`, `2(3+4)`, `2(3)^2` and `2(-3)` are products. With the setting off,
# everything is as before: the package declares the field and reads it nowhere.
# Why it matters: `verify` accepts 5 for a known answer of 2(3) and rejects 6. Whoever finds this and
# turns the setting off believes that it is solved.
# Documentation: the docstring of ConversionConfig describes the setting as if it worked, and speaks of
# `2 \frac{1}{2}` only. The README and Math-Verify issue 34 ("More mixed fractions") mention neither.
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

from latex2sympy2_extended import latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from math_verify import parse, verify

packages = ("math-verify", "latex2sympy2_extended", "sympy")
print(f"Python {platform.python_version()},", ", ".join(f"{name} {version(name)}" for name in packages))

expected = {  # with the setting off
    "2(3)": "6",
    "(2)(3)": "6",
    r"2\frac{1}{2}": "1",
    "2(x)": "2*x",
    "2(3+4)": "2*(3 + 4)",
    "2(3)^2": "2*3**2",
    "2(-3)": "2*(-3)",
}
seen = {}
print(f"{'':14}{'expected, off':>15}{'seen, off':>15}{'seen, on':>15}")
for latex, product in expected.items():
    off, on = (
        str(latex2sympy(latex, conversion_config=ConversionConfig(interpret_as_mixed_fractions=mixed)))
        for mixed in (False, True)
    )
    seen[latex] = (off, on)
    print(f"{latex:14}{product:>15}{off:>15}{on:>15}")

accepted = {value: verify(parse("$2(3)$"), parse(f"${value}$")) for value in ("6", "5")}
print("expected: verify of the known answer 2(3): {'6': True, '5': False}")
print(f"seen:     verify of the known answer 2(3): {accepted}")

same = (
    seen["2(3)"] == seen["(2)(3)"] == ("5", "5")
    and seen[r"2\frac{1}{2}"] == ("5/2", "5/2")
    and all(seen[latex] == (expected[latex],) * 2 for latex in ("2(x)", "2(3+4)", "2(3)^2", "2(-3)"))
    and accepted == {"6": False, "5": True}
)
sys.exit(None if same else "math-verify or latex2sympy2_extended behaves differently now")
END
