"""The tests of model/language.py, on the fast model."""

from __future__ import annotations

import pytest
import test_language
from test_language import *  # noqa: F403

from model import fast


@pytest.fixture(autouse=True)
def on_the_fast_model(monkeypatch):
    make = test_language.small_model
    monkeypatch.setattr(test_language, "small_model", lambda *given, **named: fast.enable(make(*given, **named)))
