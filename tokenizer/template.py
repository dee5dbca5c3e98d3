"""Recognises the chat template of a tokenizer's folder by the text it writes around a turn; it is never executed.

A chat template is a Jinja program. The families known here render a turn as fixed text around role and content, so
that labels can be built along with the ids. A template that does anything else is an error that says what it does.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from dataclasses import dataclass

DEFAULT_SYSTEM = "You are a helpful assistant"
LLAMA3_DATE = "26 Jul 2024"  # the fallback in Llama 3.1's and 3.2's templates


class TokenizerError(ValueError):
    """A folder holds no tokenizer that this project can use; the message says what to do."""


@dataclass(frozen=True)
class ChatTemplate:
    """A turn is start, role, after_role, gap, content, end, after_end; markers are special tokens, one id each."""

    name: str
    start: str  # marker
    after_role: str  # marker, or empty
    gap: str  # text between the role and the content
    end: str  # marker, which ends an answer
    after_end: str  # text
    begin: str = ""  # marker before the first turn, or empty
    default_system: str | None = None  # for a conversation without a system turn; None: no system block then
    system_prefix: str = ""  # text before the content of every system turn
    trims: bool = False  # strips white space from both ends of a content
    opens_answers: bool = False  # every user turn is followed by the opening of an answer, as in MiniMind2

    @property
    def markers(self) -> tuple[str, ...]:
        return tuple(marker for marker in (self.begin, self.start, self.after_role, self.end) if marker)

    def opening(self, role: str) -> str:
        return self.start + role + self.after_role + self.gap

    @property
    def closing(self) -> str:
        return self.end + self.after_end


CHATML = ChatTemplate("ChatML", "<|im_start|>", "", "\n", "<|im_end|>", "\n")
LLAMA3 = ChatTemplate("Llama 3", "<|start_header_id|>", "<|end_header_id|>", "\n\n", "<|eot_id|>", "",
                      begin="<|begin_of_text|>", trims=True)  # fmt: skip
MINIMIND2 = dataclasses.replace(CHATML, name="MiniMind2", default_system=DEFAULT_SYSTEM, opens_answers=True)
FAMILIES = (CHATML, LLAMA3)
TOOL_MARKERS = ("<|python_tag|>", "<|eom_id|>")  # in Llama 3's template, for tool calls only

# Expressions are replaced by these characters before a template is matched, so that spelling does not matter.
ROLE, CONTENT, TRIMMED = "\ue000", "\ue001", "\ue002"
_ROLE = r"\b\w+(?:\[['\"]role['\"]\]|\.role)"
_CONTENT = r"\b(?:\w+(?:\[0\])?(?:\[['\"]content['\"]\]|\.content\b)|content\b|system_message\b)"
_CHANGES = (  # what other templates do to a content, which fixed text cannot express
    (r"</?think|reasoning_content|enable_thinking", "thinking"),
    (r"\.(?:split|[lr]?strip|replace|upper|lower|title|capitalize)\(|\|\s*(?:replace|upper|lower|title)\b", "edits"),
    (r"\beos_token\b", "an end-of-text token after a turn"),
)
_ADVICE = (
    "use a tokenizer whose template is one of those (Qwen2, Qwen2.5, Llama 3 to 3.2, MiniMind2), or remove the "
    "template from the folder to use its family's plain form"
)


def recognise(text: str | None, specials: Collection[str], bos: str, where: str) -> ChatTemplate:
    """The template with the Jinja source `text`; without one (None), the plain form of the family.

    Without a source, ChatML's markers mean MiniMind2's template, and Llama 3's have no default system block. The
    date in a Llama 3.1 or 3.2 template is its own fallback, never today's: the same conversation gives the same
    ids every day. TokenizerError for markers or a source of no known family.
    """
    families = [family for family in FAMILIES if set(family.markers) <= set(specials)]
    if not families:
        raise _without_markers(specials, where)
    if text is None:
        return MINIMIND2 if families[0] is CHATML else families[0]
    flat = _flat(text)
    for family in families:
        if family.start in flat:
            return _read(flat, family, bos, where)
    raise TokenizerError(
        f"{where}: found a chat template with the markers {', '.join(_markers(flat)) or 'none'}, expected one of "
        f"{' or '.join(family.name for family in families)}, whose special tokens it has; {_ADVICE}"
    )


def _without_markers(specials: Collection[str], where: str) -> TokenizerError:
    wanted = min(FAMILIES, key=lambda family: len(set(family.markers) - set(specials)))
    forms = " or ".join(f"{', '.join(family.markers)} ({family.name})" for family in FAMILIES)
    return TokenizerError(
        f"{where} lacks the special tokens {', '.join(m for m in wanted.markers if m not in specials)} (found: "
        f"{', '.join(specials) or 'none'}). Expected those of a chat template, {forms}: use a tokenizer that has "
        "them, or train one with `python -m tokenizer.train_tokenizer`."
    )


def _flat(text: str) -> str:
    """A template's source without comments, string concatenations joined, role and content one character each."""
    text = re.sub(r"\{#.*?#\}", "", text, flags=re.DOTALL)
    text = re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t"}.get(match[1], match[1]), text)
    for expression, sign in ((_ROLE, ROLE), (_CONTENT + r"\s*\|\s*trim\b", TRIMMED), (_CONTENT, CONTENT)):
        text = re.sub(r"\{\{ ?" + expression + r" ?\}\}", sign, text)
        text = re.sub(r"(?:['\"]\s*[+~]\s*)?" + expression + r"(?:\s*[+~]\s*['\"])?", sign, text)
    return re.sub(r"['\"]\s*[+~]\s*['\"]", "", text)


def _markers(flat: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"<[|｜][^|｜<>\n]+[|｜]>|\[/?INST\]|<\w+_of_turn>", flat)))


def _read(flat: str, family: ChatTemplate, bos: str, where: str) -> ChatTemplate:
    """The family's template, adapted to this source; TokenizerError for anything that is not known."""
    changes = [f"{what} ({match[0]!r})" for pattern, what in _CHANGES if (match := re.search(pattern, flat))]
    strange = [marker for marker in _markers(flat) if marker not in family.markers + TOOL_MARKERS]
    user, answer = (_turn(flat, family, role) for role in ("user", "assistant"))
    bare = re.search(r"\{\{-? ?" + CONTENT + re.escape(family.closing) + "['\"]", flat)  # opened by the user's turn
    opening, turn = family.opening("assistant"), family.opening("ROLE") + "CONTENT" + family.closing
    prefix, texts = _dates(flat), _system_texts(flat, family)
    for wrong, found in (
        (changes, "".join(changes[:1])),
        (strange, f"the markers {', '.join(strange)}"),
        (not user or not (answer or bare), f"turns that are not {turn!r}"),
        (TRIMMED in flat and user != TRIMMED, "contents that are trimmed in some turns only"),
        (not re.search(re.escape(opening) + r"(?:['\"]|\{%|$)", flat), f"answers that do not begin after {opening!r}"),
        (len(texts) > 1, f"several default system texts {sorted(texts)}"),
    ):
        if wrong:
            raise TokenizerError(f"{where}: found a chat template with {found}, expected {family.name}'s; {_ADVICE}")
    default = "" if prefix else None
    begins = "bos_token" in flat or (family.begin and family.begin in flat)
    return dataclasses.replace(
        family, default_system=texts.pop() if texts else default, system_prefix=prefix, trims=user == TRIMMED,
        opens_answers=bool(bare), begin=(bos or family.begin) if begins else "",
    )  # fmt: skip


def _turn(flat: str, family: ChatTemplate, role: str) -> str | None:
    """CONTENT or TRIMMED, whichever the template writes in a turn of this role; None if it writes no such turn."""
    opening = f"{re.escape(family.start)}(?:{ROLE}|{role}){re.escape(family.after_role + family.gap)}"
    match = re.search(f"{opening}([{CONTENT}{TRIMMED}]){re.escape(family.closing)}", flat)
    return match[1] if match else None


def _dates(flat: str) -> str:
    """The lines that Llama 3.1 and later put before every system text, or an empty text."""
    knowledge = re.search(r"Cutting Knowledge Date: ([^\n'\"]+)\n", flat)
    if not knowledge or "Today Date: " not in flat:
        return ""
    today = re.search(r"date_string\s*=\s*['\"]([^'\"]+)['\"]", flat)
    return f"Cutting Knowledge Date: {knowledge[1]}\nToday Date: {today[1] if today else LLAMA3_DATE}\n\n"


def _system_texts(flat: str, family: ChatTemplate) -> set[str]:
    """The system texts that a template writes if the conversation has none; a sound template has at most one."""
    code = r"\{\{|\}\}|\{%|%\}|<\||[" + ROLE + CONTENT + TRIMMED + "]"
    block = re.escape(family.opening("system")) + f"((?:(?!{code}).)*)" + re.escape(family.closing)
    literal = "|".join(f"{quote}([^<{CONTENT}{TRIMMED}{quote}]+){quote}" for quote in "'\"")
    assigned = re.findall(f"set {CONTENT} = (?:{literal})", flat)
    return {*re.findall(block, flat, re.DOTALL)} | {single or double for single, double in assigned}
