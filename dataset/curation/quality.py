"""Text quality rules: degenerate loops, mojibake, unfinished answers. Each rule is a function of the text.

A rule returns "" for a good text, else a description of what it found. The rules favour precision: they spare short
answers that repeat, lists, code, Chinese.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

import numpy as np

HAN = "㐀-䶿一-鿿豈-﫿"
UNITS = re.compile(rf"[{HAN}]|[^\W_{HAN}]+(?:['’-][^\W_{HAN}]+)*")
CODE_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
SENTENCES = re.compile(r"[.!?;。！？；\n]+")

RUN = 24  # minimum letters of consecutive repeats
TIMES = 4  # minimum number of consecutive repeats
SAME_SENTENCES, SENTENCE_SHARE = 3, 0.3  # minimum repeats of one sentence, and its share of the text
DENSE, DISTINCT = 240, 0.35  # minimum letters of a text to judge, and share of its 8-letter sequences that must differ
SHORT = 20  # units; a shorter answer needs no full stop


def is_chinese(text: str) -> bool:
    """Whether the text has a Chinese character."""
    return re.search(f"[{HAN}]", text) is not None


def units(text: str) -> list[str]:
    """The Chinese characters and words of a text, lower-cased and NFKC-normalised, without punctuation."""
    return UNITS.findall(unicodedata.normalize("NFKC", text).lower())


def looping(text: str) -> str:
    """Detect a degenerate loop: consecutive repeats, one sentence over and over, or few distinct sequences of letters.

    Fenced code and texts with many symbols are not judged; repeats that differ only in numbers count.
    """
    prose = CODE_FENCE.sub(" ", text)
    dense = "".join(unicodedata.normalize("NFKC", prose).split())
    if sum(letter in "{}[]()<>=;/\\|_+*&#%$" for letter in dense) > len(dense) / 5:
        return ""
    letters = "".join(letter for letter in dense.lower() if letter.isalpha())
    sequences = [letters[i : i + 8] for i in range(len(letters) - 7)]
    distinct = len(set(sequences))
    period, start = _repeats(letters) if len(sequences) - distinct >= 10 else (0, 0)  # with fewer, nothing can repeat
    if period:
        return f"repeats {letters[start : start + period][:40]!r} in a row"
    sentences = Counter("".join(units(sentence)) for sentence in SENTENCES.split(prose))
    for sentence, count in sentences.most_common(1):
        share = len(sentence) * count / max(len(letters), 1)
        if len(sentence) >= 6 and count >= SAME_SENTENCES and share >= SENTENCE_SHARE:
            return f"says {sentence[:40]!r} {count} times"
    if len(letters) >= DENSE and distinct < DISTINCT * len(sequences):
        return f"only {distinct / len(sequences):.0%} of its 8-letter sequences are distinct"
    return ""


def _repeats(letters: str) -> tuple[int, int]:
    """(period, start) of a unit that fills RUN letters, TIMES times or more in a row; (0, 0) if there is none.

    A run of one letter must be twice as long, to allow for laughter.
    """
    codes = np.array([ord(letter) for letter in letters], np.int32)
    for period in range(1, len(codes) // TIMES + 1):
        needed = max(RUN * (2 if period == 1 else 1), TIMES * period) - period
        same = codes[period:] == codes[:-period]
        if same.sum() < needed:
            continue
        edges = np.flatnonzero(np.diff(np.concatenate(([0], same.view(np.int8), [0]))))
        starts, spans = edges[::2], edges[1::2] - edges[::2]
        if spans.max() >= needed:
            return period, int(starts[spans.argmax()])
    return 0, 0


# The characters that the bytes of UTF-8 become when decoded as Windows-1252, in runs of two to four
_WESTERN = {bytes([code]).decode("cp1252", "ignore") or chr(code): code for code in range(0x80, 0x100)}
_WESTERN_RUN = re.compile(f"[{re.escape(''.join(_WESTERN))}\x80-\x9f]{{2,}}")
_UTF8 = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_UTF8_HAN = re.compile(rb"(?:[\xe3-\xe9\xef][\x80-\xbf]{2}){2,}")
_LATIN_RUN = re.compile("[\xa1-\xfe]{4,}")
_CJK_RUN = re.compile(r"[^\x00-\x7f]{2,}")
_LIKELY = re.compile(r"[\u00a0-\u017f\u0370-\u045f\u2010-\u203a\u20ac\u2190-\u22ff\u3000-\u30ff\u4e00-\u9fff"
                     r"\uac00-\ud7a3\uff00-\uffef\U0001f300-\U0001faff]")  # fmt: skip
_COMMON = re.compile(rf"[{HAN}\u3000-\u303f\uff00-\uffef]")
KNOWN_DEBRIS = ("锟斤拷", "烫烫烫", "屯屯屯", "ï»¿", "ï¿½")


def mojibake(text: str) -> str:
    """Detect text decoded with the wrong codec: UTF-8 as Latin-1, Windows-1252 or GBK, GBK as Latin-1, U+FFFD."""
    if "\ufffd" in text:
        return f"{text.count(chr(0xFFFD))} × U+FFFD"
    for debris in KNOWN_DEBRIS:
        if debris in text:
            return f"has {debris!r}"
    controls = [letter for letter in text if 0x80 <= ord(letter) < 0xA0 and ord(letter) != 0x85]
    return _western(text) or _as_gbk(text) or _from_gbk(text) or (f"{len(controls)} × control" if controls else "")


def _western(text: str) -> str:
    """UTF-8 decoded as Latin-1 or Windows-1252: 'cafÃ©', 'ä½ å¥½'."""
    found = []
    for run in _WESTERN_RUN.findall(text):
        raw = bytes(_WESTERN.get(letter, ord(letter) & 0xFF) for letter in run)
        found += [match.group() for match in _UTF8.finditer(raw) if _LIKELY.fullmatch(match.group().decode())]
    # one pair may be chance (É’), but not with the lead bytes of nearly all Western text
    if len(found) >= 2 or any(len(raw) > 2 or raw[:1] in b"\xc2\xc3" for raw in found):
        return f"{len(found)} × UTF-8 read as Latin-1, as {b''.join(found)[:12].decode('utf-8', 'ignore')!r}"
    return ""


def _as_gbk(text: str) -> str:
    """UTF-8 decoded as GBK: '浣犲ソ' for '你好'."""
    for run in _CJK_RUN.findall(text):
        raw = run.encode("gbk", "replace")
        good = [match.group() for match in _UTF8_HAN.finditer(raw)]
        read = b"".join(good).decode("utf-8", "replace")
        if sum(map(len, good)) >= 0.6 * len(raw) and all(map(_COMMON.match, read)):
            return f"UTF-8 read as GBK, as {read[:12]!r}"
    return ""


def _from_gbk(text: str) -> str:
    """GBK decoded as Latin-1: 'ÄãºÃ' for '你好'."""
    for run in _LATIN_RUN.findall(text):
        raw = run.encode("latin-1")
        if len(raw) % 2 == 0 and all(0xB0 <= lead <= 0xF7 for lead in raw[::2]):
            try:
                return f"GBK read as Latin-1, as {raw.decode('gb2312')[:12]!r}"
            except UnicodeDecodeError:
                continue
    return ""


_CLOSERS = "”’」』）)》】\\]\"'*"
_FULL_STOP = re.compile(rf"(?:[。！？!?…]+|\.+(?=[\s{_CLOSERS}]|\Z))[{_CLOSERS}]*")
_ABBREVIATION = re.compile(r"(?:\b(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|No|Fig|vs|e\.g|i\.e|approx)|(?:^|\n)\s*\d+)\.$")
_OPEN = re.compile(r"[,，、:：\-–—(（\[“‘「『《]$")
_LIST_LINE = re.compile(r"\s*(?:[-*•·|#>]|\d+[.)、]|[(（]?[a-zA-Z一二三四五六七八九十][.)）、])\s*\S")


def unfinished(text: str) -> str:
    """Detect a text that breaks off in mid-sentence: no full stop where one belongs.

    Exempt are phrases (fewer than 20 words or Chinese characters), lists and tables whose other lines have no full stop
    either, code, arithmetic, and texts that end with a closing bracket or an emoji. A final comma, colon or opening
    bracket is unfinished however short the text is.
    """
    text = text.rstrip()
    if not text:
        return ""
    if text.count("```") % 2:
        return "code block is not closed"
    if _OPEN.search(text):
        return f"ends with {text[-1]!r}"
    if len(units(text)) < SHORT or _is_end(text):
        return ""
    return f"ends with {text[-12:]!r}"


def _is_end(text: str) -> bool:
    """Whether the text may end with its last line."""
    if text.endswith(("```", "；", ";")) or text[-1] in _CLOSERS.replace("\\", "") + "}>$~～" or _ends_whole(text):
        return True
    lines = [line for line in text.splitlines() if line.strip()]
    last = lines[-1]
    if re.search(r"=|https?://|www\.", last) or unicodedata.category(text[-1]) in ("So", "Mn", "Cf"):
        return True
    items = [line for line in lines[:-1] if _LIST_LINE.match(line)]
    return bool(_LIST_LINE.match(last)) and len(items) > 0 and sum(map(_ends_whole, items)) <= len(items) / 2


def _ends_whole(text: str) -> bool:
    stops = list(_FULL_STOP.finditer(text.rstrip()))
    return bool(stops) and stops[-1].end() == len(text.rstrip())


def cut_unfinished(text: str) -> str:
    """The text up to its last full stop; "" if it has none. Abbreviations and list numbers do not count."""
    for stop in reversed(list(_FULL_STOP.finditer(text))):
        start = text[: stop.end()]
        if not _ABBREVIATION.search(start) and start.count("```") % 2 == 0:
            return start.strip()
    return ""


def cut_if_unfinished(text: str) -> str:
    """The text, truncated to its last full stop if it is unfinished and has one."""
    return (cut_unfinished(text) or text) if unfinished(text) else text
