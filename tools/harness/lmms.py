"""lmms-eval with a Glimpse model called "glimpse"; the flags are lmms-eval's own.

    python -m tools.harness.lmms --model glimpse --model_args pretrained=out/sft3 --tasks pope --batch_size 16

lmms-eval must be installed or on PYTHONPATH; it is not modified. Further --model_args: vision=, tokenizer= (for a
MiniMind2-V .pth), device=, dtype=, max_new_tokens=. A model exported by tools.export_llava needs no adapter.
"""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import sys
import warnings

from engine.command import guarded
from tools.harness.answers import Answerer, cut, load_answerer

NAME = "glimpse"
CLASS = "tools.harness.lmms.Glimpse"


def glimpse_class() -> type:
    """A subclass of lmms-eval's `lmms`; created on demand, since lmms-eval is not one of our requirements."""
    from lmms_eval.api.model import lmms
    from lmms_eval.api.registry import register_model

    @register_model(NAME)
    class Glimpse(lmms):
        """Answers requests whose pictures come before the question, in left-padded batches."""

        def __init__(self, pretrained: str, batch_size: int = 16, answerer: Answerer | None = None, **parts):
            super().__init__()
            parts.pop("max_batch_size", None)  # set by lmms-eval, not used here
            if parts.get("device") == "cuda":
                parts["device"] = "auto"  # lmms-eval's default
            self.answerer = answerer or load_answerer(pretrained, batch_size=batch_size, **parts)

        def question(self, context: str, doc_to_visual, doc_id, task: str, split: str) -> list:
            pictures = doc_to_visual(self.task_dict[task][split][doc_id]) or []
            return [*pictures, context.replace("<image>", "").strip()]

        def generate_until(self, requests) -> list[str]:
            """One answer per request, cut at its `until`; requests with the same settings are batched together."""
            answers: list[str] = [""] * len(requests)
            groups: dict[str, list[int]] = {}
            for i, request in enumerate(requests):
                groups.setdefault(repr(sorted(request.args[1].items(), key=str)), []).append(i)
            for rows in groups.values():
                settings = requests[rows[0]].args[1]
                questions = [self.question(requests[i].args[0], *requests[i].args[2:6]) for i in rows]
                made = self.answerer.answer(questions, **decoding(settings))
                until = settings.get("until") or []
                for i, text in zip(rows, made, strict=True):
                    answers[i] = cut(text, [until] if isinstance(until, str) else until)
                    self.cache_hook.add_partial("generate_until", (requests[i].args[0], settings), answers[i])
            return answers

        def loglikelihood(self, requests) -> list[tuple[float, bool]]:
            """(mean cross entropy, whether greedy): what lmms-eval's own LLaVA returns, so lower is better."""
            results = []
            for context, target, doc_to_visual, doc_id, task, split in (request.args for request in requests):
                if callable(target):
                    target = target(self.task_dict[task][split][doc_id])
                question = self.question(context, doc_to_visual, doc_id, task, split)
                results.append(self.answerer.continuation(question, target))
            return results

        def generate_until_multi_round(self, requests) -> list[str]:
            raise NotImplementedError("multi-round tasks are not supported; choose others")

    return Glimpse


def __getattr__(name: str):
    if name == "Glimpse":  # lmms-eval looks the class up by CLASS
        return glimpse_class()
    raise AttributeError(name)


def decoding(settings: dict) -> dict:
    """lmms-eval's generation settings as ours; warns of those that we do not have."""
    if settings.get("num_beams", 1) not in (None, 1):
        warnings.warn(f"num_beams {settings['num_beams']}: no beam search here, decoding greedily", stacklevel=2)
    chosen: dict = {}
    if settings.get("max_new_tokens"):
        chosen["max_new_tokens"] = int(settings["max_new_tokens"])
    if settings.get("do_sample", True) and settings.get("temperature"):
        chosen["temperature"] = float(settings["temperature"])
        chosen["top_p"] = float(settings.get("top_p") or 1.0)
    return chosen


def register() -> None:
    """Register `--model glimpse` with lmms-eval: in its registry from 0.7 on, in its table before."""
    from lmms_eval import models

    if hasattr(models, "MODEL_REGISTRY_V2"):
        from lmms_eval.models.registry_v2 import ModelManifest

        models.MODEL_REGISTRY_V2.register_manifest(ModelManifest(NAME, simple_class_path=CLASS), overwrite=True)
    else:
        models.AVAILABLE_MODELS[NAME] = CLASS


def main() -> None:
    register()
    from lmms_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    sys.exit(guarded(main))
