"""Benchmarks are run by hand: that each can at least be loaded is seen here."""

import importlib

import pytest
from benchmarks.__main__ import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_measures(name):
    assert callable(importlib.import_module(f"benchmarks.{name}").measure)
