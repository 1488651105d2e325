"""The libraries of tests are told what the libraries of a worker are told."""

from __future__ import annotations

import os

from engine.launch import ENVIRONMENT

for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)  # before anything imports torch
