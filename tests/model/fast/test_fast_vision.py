"""The tests of model/vision.py, on the fast model."""

from __future__ import annotations

import pytest
import test_vision
from test_vision import *  # noqa: F403

from model import fast


@pytest.fixture(autouse=True)
def on_the_fast_model(monkeypatch):
    make = test_vision.seeded
    monkeypatch.setattr(test_vision, "seeded", lambda *given, **named: fast.enable(make(*given, **named)))
