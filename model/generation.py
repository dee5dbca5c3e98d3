"""Text generation in left-padded batches with a preallocated KV cache: greedy decoding or sampling."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.vlm import VLM


@dataclass(frozen=True)
class Generated:
    """The generated tokens of each row, and whether the row ended by itself."""

    ids: list[list[int]]  # without the end token
    stopped: list[bool]  # False: cut off at max_new_tokens


def check_sampling(temperature: float, top_p: float, repetition_penalty: float) -> None:
    """ValueError for values that no next token can be chosen by."""
    if not temperature >= 0:
        raise ValueError(f"temperature: found {temperature}, expected 0 (greedy) or more")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p: found {top_p}, expected more than 0 and at most 1")
    if not repetition_penalty > 0:
        raise ValueError(f"repetition_penalty: found {repetition_penalty}, expected more than 0")


def choose(
    logits: Tensor, seen: Tensor | None = None, temperature: float = 0.0, top_p: float = 1.0,
    repetition_penalty: float = 1.0, generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """The next token (B,) from logits (B, V); temperature 0 is greedy decoding.

    top_p: sample from the likeliest tokens that together have this probability. repetition_penalty divides the positive
    logits of the tokens marked in `seen`, bool (B, V), and multiplies the negative ones.
    """
    logits = logits.float()
    if seen is not None:
        penalised = torch.where(logits > 0, logits / repetition_penalty, logits * repetition_penalty)
        logits = torch.where(seen, penalised, logits)
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits / temperature).softmax(-1)
    if top_p < 1:
        ordered, order = probabilities.sort(-1, descending=True)
        before = ordered.cumsum(-1) - ordered  # probability of all likelier tokens; 0 for the first
        probabilities = torch.zeros_like(ordered).scatter(-1, order, ordered * (before < top_p))
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)


def _check_prompt(vlm: VLM, ids: Tensor, attention_mask: Tensor, max_new_tokens: int) -> None:
    if ids.dim() != 2 or ids.shape != attention_mask.shape:
        raise ValueError(
            f"ids {tuple(ids.shape)} and attention_mask {tuple(attention_mask.shape)}: expected the same shape (B, T)"
        )
    if not bool(attention_mask[:, -1].all()):
        raise ValueError("a prompt ends with padding; pad prompts on the left for generation")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens: found {max_new_tokens}, expected at least 1")
    longest = vlm.config.lm.max_position_embeddings
    if ids.shape[1] + max_new_tokens > longest:
        raise ValueError(
            f"a prompt of {ids.shape[1]} tokens and {max_new_tokens} new ones exceed the model's {longest} "
            "positions; shorten the prompt or lower max_new_tokens"
        )


@torch.no_grad()  # not inference_mode, under which autocast casts every weight again at every step
def generate(
    vlm: VLM, batch, *, max_new_tokens: int, end_id: int | Collection[int], min_new_tokens: int = 0,
    temperature: float = 0.0, top_p: float = 1.0, repetition_penalty: float = 1.0,
    generator: torch.Generator | None = None, stream: Callable[[int, int], None] | None = None,
) -> Generated:  # fmt: skip
    """Generates an answer to each prompt of a left-padded batch, whose labels are not used.

    Each row stops at its first end token (any one of `end_id`), none of which is chosen before min_new_tokens others;
    finished rows leave the batch once they make up half of it. The repetition penalty covers a row's real text, prompt
    included, but not its images. stream(row, token) is called for every new token except end tokens. A temperature
    above 0 needs a generator on the model's device.
    ValueError for a right-padded prompt or one that is too long, FloatingPointError for logits that are not finite.
    """
    end_ids = [end_id] if isinstance(end_id, int) else list(end_id)
    check_sampling(temperature, top_p, repetition_penalty)
    if temperature > 0 and generator is None:
        raise ValueError("sampling (temperature above 0) needs a torch.Generator, for reproducibility")
    ids, attention_mask = batch.ids, batch.attention_mask.bool()
    _check_prompt(vlm, ids, attention_mask, max_new_tokens)
    embeddings = vlm.embed_batch(batch)  # (B, T, D)

    answers: list[list[int]] = [[] for _ in ids]
    stopped = [False] * len(ids)
    length = ids.shape[1]
    padded = not bool(attention_mask.all())
    rows = list(range(len(ids)))  # those still in the batch, as are the rows of all tensors from here on
    positions = attention_mask.sum(1)  # (B,) of the next token
    mask = F.pad(attention_mask, (0, max_new_tokens), value=True) if padded else None  # (B, T + max_new_tokens)
    seen = None  # bool (B, V), tokens to penalise
    if repetition_penalty != 1:
        vocab_size = vlm.config.lm.vocab_size
        seen = torch.zeros(len(ids), vocab_size + 1, dtype=torch.bool, device=ids.device)
        seen.scatter_(1, ids.masked_fill(batch.image_mask | ~attention_mask, vocab_size), True)
        seen = seen[:, :vocab_size].contiguous()  # the extra column took what does not count
    cache = vlm.llm.new_cache(length + max_new_tokens)
    hidden = vlm.llm(embeddings, attention_mask if padded else None, cache)
    logits = vlm.llm.logits(hidden[:, -1])
    for step in range(max_new_tokens):
        if not bool(logits.sum(dtype=torch.float32).isfinite()):
            raise FloatingPointError(f"the logits of new token {step + 1} are not finite")
        if step < min_new_tokens:
            logits = logits.index_fill(1, torch.tensor(end_ids, device=ids.device), -torch.inf)
        tokens = choose(logits, seen, temperature, top_p, repetition_penalty, generator)  # (B,)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if stopped[row] or token in end_ids:
                stopped[row] = True
                continue
            answers[row].append(token)
            if stream is not None:
                stream(row, token)
        alive = [index for index, row in enumerate(rows) if not stopped[row]]
        if not alive or step + 1 == max_new_tokens:
            break
        if 2 * len(alive) <= len(rows):
            kept = torch.tensor(alive, device=ids.device)
            rows = [rows[index] for index in alive]
            tokens, positions = tokens[kept], positions[kept]
            mask, seen = (None if part is None else part[kept] for part in (mask, seen))
            cache.keep(kept)
        if seen is not None:
            seen.scatter_(1, tokens[:, None], True)
        attended = None if mask is None else mask[:, : length + step + 1]
        logits = vlm.llm.next_logits(tokens, positions + step, attended, cache)  # finished rows too, unused
    return Generated(answers, stopped)
