"""What a model can be exported to, known before it is trained."""

from __future__ import annotations

import re

from model.checkpoints.files import WeightsError
from model.checkpoints.llava import llava_config
from model.checkpoints.minimind import check_minimind_encoder, check_minimind_v
from model.vlm import VLM


def _check_llava(vlm: VLM) -> None:
    llava_config(vlm, 0, {}, vlm.config.lm.vocab_size)


def _check_minimind_v(vlm: VLM) -> None:
    check_minimind_v(vlm)
    if vlm.config.vision is not None:
        check_minimind_encoder(vlm.config.vision)


FORMATS = {"LLaVA (tools.export_llava)": _check_llava, "MiniMind-V (tools.export_minimind)": _check_minimind_v}


def describe_exports(vlm: VLM, in_full: bool = False) -> str:
    """A line for each format: whether tools/ can export the model to it, and if not, why; in full with what to do."""
    lines = []
    for name, check in FORMATS.items():
        try:
            check(vlm)
            lines.append(f"export to {name}: yes")
        except WeightsError as error:
            reason = str(error) if in_full else re.split(r"[:;.] ", str(error))[0]
            lines.append(f"export to {name}: no, {reason}")
    return "\n".join(lines)
