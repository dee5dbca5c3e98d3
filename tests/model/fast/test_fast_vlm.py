"""The tests of model/vlm.py, on the fast model."""

from __future__ import annotations

import pytest
import test_vlm
from test_vlm import *  # noqa: F403

from model import fast


@pytest.fixture(autouse=True)
def on_the_fast_model(monkeypatch):
    make = test_vlm.seeded
    monkeypatch.setattr(test_vlm, "seeded", lambda *given, **named: fast.enable(make(*given, **named)))
