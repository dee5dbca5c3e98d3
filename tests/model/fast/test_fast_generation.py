"""The tests of model/generation.py, on the fast model."""

from __future__ import annotations

import pytest
import test_generation
from test_generation import *  # noqa: F403

from model import fast


@pytest.fixture(autouse=True)
def on_the_fast_model(monkeypatch):
    make = test_generation.seeded
    monkeypatch.setattr(test_generation, "seeded", lambda *given, **named: fast.enable(make(*given, **named)))
