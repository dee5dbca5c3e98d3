"""Trains the 6,400-token vocabulary: `python -m tokenizer.train_tokenizer --text FILE [--out DIR]`.

FILE is UTF-8, one text per line. U+001F marks boundaries that no token may cross, such as those of Chinese
words; it is not part of the text. The same file gives the same vocabulary, byte for byte. 20 MB take seconds.

The 6,400 ids are, in order: 4 special tokens, 256 bytes, every hanzi of GB2312 level 1 and the punctuation
below (with the two-byte prefixes that byte-level merges need to build them), other characters that are
frequent in the text, words and parts of words by decreasing frequency, and, if the text has too few of
those, hanzi of GB2312 level 2.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from itertools import chain, repeat
from pathlib import Path

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as FastTokenizer

from tokenizer.template import DEFAULT_SYSTEM
from tokenizer.tokenizer import (
    CONFIG_FILE,
    END,
    IMAGE_TOKEN,
    PAD,
    SPECIALS,
    START,
    TOKENIZER_FILE,
    TokenizerError,
    byte_characters,
    default_folder,
)

VOCAB_SIZE = 6400
SEPARATOR = "\x1f"
TEMPLATE_WORDS = SEPARATOR.join((DEFAULT_SYSTEM, "system", "user", "assistant"))  # added to every training text
MAX_TOKEN_BYTES = 12  # four hanzi, or a word of twelve letters
PUNCTUATION = "，。、；：？！“”‘’（）《》【】…—·～"
RARE = 20_000  # a character outside GB2312 level 1 that is rarer than one in this many gets no token
MAX_OTHER_CHARACTERS = 200

# Pre-tokenization: runs of hanzi, other words with the space before them, single digits, runs of punctuation,
# white space. Merges within a run are applied by rank, so plain Chinese needs no word boundaries.
PIECES = (
    r"\p{Han}+"
    r"|'(?:s|t|d|m|ll|re|ve)(?!\p{L})"
    r"| ?(?:(?!\p{Han})[\p{L}\p{M}])+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+"
    r"|\s+(?!\S)|\s+"
)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", type=Path, required=True, help="training text, one text per line")
    parser.add_argument("--out", type=Path, default=default_folder(), help="folder (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        lines = read_lines(args.text)
    except TokenizerError as error:
        sys.exit(f"error: {error}")
    tokenizer, counts = train(lines)
    write(tokenizer, args.out)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    print(f"{args.out / TOKENIZER_FILE}: {VOCAB_SIZE} tokens from {len(lines)} texts: {kinds}")


def read_lines(file: Path) -> list[str]:
    """The texts of a training file, or TokenizerError."""
    if not file.is_file():
        raise TokenizerError(f"There is no training text {file}. Expected one text per line: check the path.")
    try:
        lines = [line for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{file} is not UTF-8 ({error}). Save the text as UTF-8.") from error
    if not lines:
        raise TokenizerError(f"{file} holds no text. Expected one text per line: write some into it.")
    return lines


def train(lines: list[str]) -> tuple[FastTokenizer, dict[str, int]]:
    """The tokenizer trained on these texts, and its number of tokens by kind.

    Merges are learned over characters, not bytes: a token is always whole characters, or the start of one.
    """
    vocabulary = _Vocabulary()
    vocabulary.extend("hanzi and punctuation", hanzi(1) + list(PUNCTUATION))
    vocabulary.extend("other characters", _frequent_characters(lines))
    vocabulary.extend_words("words and parts of words", _word_merges(lines))
    vocabulary.extend("rarer hanzi to fill up", hanzi(2))
    tokenizer = _assemble(vocabulary)
    if tokenizer.get_vocab_size() != VOCAB_SIZE:
        raise AssertionError(f"the vocabulary has {tokenizer.get_vocab_size()} tokens, not {VOCAB_SIZE}")
    return tokenizer, vocabulary.counts


def hanzi(level: int) -> list[str]:
    """The hanzi of GB2312 level 1 (3,755, by sound) or 2 (3,008, by radical), in the standard's order."""
    rows = range(0xB0, 0xD8) if level == 1 else range(0xD8, 0xF8)
    cells = (bytes([row, cell]).decode("gb2312", "ignore") for row in rows for cell in range(0xA1, 0xFF))
    return [character for character in cells if character]


def write(tokenizer: FastTokenizer, folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TOKENIZER_FILE).write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    config = json.dumps(_config(), ensure_ascii=False, indent=2)
    (folder / CONFIG_FILE).write_text(config + "\n", encoding="utf-8")


class _Vocabulary:
    """Tokens as bytes, in the order of their ids, and the merges that build them."""

    def __init__(self):
        self.tokens: dict[bytes, None] = dict.fromkeys(bytes([b]) for b in range(256))  # an ordered set
        self.merges: list[tuple[bytes, bytes]] = []
        self.counts = {"special": len(SPECIALS), "bytes": 256}

    @property
    def room(self) -> int:
        return VOCAB_SIZE - len(SPECIALS) - len(self.tokens)

    def extend(self, kind: str, characters: list[str]) -> None:
        """Gives each character its own token, merged byte by byte from the left, while there is room."""
        before = self.room
        for character in characters:
            data = character.encode()
            steps = [(data[:end], data[end : end + 1]) for end in range(1, len(data))]
            new = [(left, right) for left, right in steps if left + right not in self.tokens]
            if len(new) <= self.room:
                for left, right in new:
                    self._add(left, right)
        self.counts[kind] = before - self.room

    def extend_words(self, kind: str, merges: list[tuple[str, str]]) -> None:
        """Adds learned merges in order; skips those that are too long or whose halves are not tokens."""
        before = self.room
        for pair in merges:
            left, right = (part.encode() for part in pair)
            known = left in self.tokens and right in self.tokens and left + right not in self.tokens
            if known and len(left + right) <= MAX_TOKEN_BYTES and self.room > 0:
                self._add(left, right)
        self.counts[kind] = before - self.room

    def _add(self, left: bytes, right: bytes) -> None:
        self.tokens[left + right] = None
        self.merges.append((left, right))


def _frequent_characters(lines: list[str]) -> list[str]:
    """Characters beyond ASCII by decreasing frequency; ties in Unicode order."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(line)
    least = max(2, sum(counts.values()) // RARE)
    found = [c for c, n in counts.items() if ord(c) > 127 and n >= least]
    return sorted(found, key=lambda c: (-counts[c], c))[:MAX_OTHER_CHARACTERS]


def _word_merges(lines: list[str]) -> list[tuple[str, str]]:
    """Merges of characters into words, most frequent first, from the library's BPE trainer."""
    learner = FastTokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(SEPARATOR, "removed"),
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
        ]
    )
    alphabet = len(set(TEMPLATE_WORDS).union(*lines))
    trainer = trainers.BpeTrainer(
        vocab_size=alphabet + VOCAB_SIZE,  # more than needed: some will be too long
        min_frequency=2,
        max_token_length=MAX_TOKEN_BYTES,
        show_progress=False,
    )
    learner.train_from_iterator(chain(lines, repeat(TEMPLATE_WORDS, len(lines))), trainer)
    return [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]


def _assemble(vocabulary: _Vocabulary) -> FastTokenizer:
    """The library's tokenizer with these tokens, in byte-level spelling."""
    table = byte_characters()

    def spell(data: bytes) -> str:
        return "".join(table[byte] for byte in data)

    names = [*SPECIALS, *(spell(token) for token in vocabulary.tokens)]
    merges = [(spell(left), spell(right)) for left, right in vocabulary.merges]
    tokenizer = FastTokenizer(models.BPE({name: index for index, name in enumerate(names)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIALS])
    return tokenizer


def _config() -> dict:
    """tokenizer_config.json: what transformers needs to load the folder, with chat.py's template in Jinja."""
    template = (
        "{% if messages[0].role != 'system' %}"
        "{{ '" + START + "system\\n" + DEFAULT_SYSTEM + END + "\\n' }}"
        "{% endif %}"
        "{% for turn in messages %}"
        "{% if turn.role == 'assistant' %}{{ turn.content + '" + END + "\\n' }}"
        "{% elif turn.role == 'user' or loop.first %}"
        "{{ '" + START + "' + turn.role + '\\n' + turn.content + '" + END + "\\n' }}"
        "{% if turn.role == 'user' %}{{ '" + START + "assistant\\n' }}{% endif %}"
        "{% endif %}{% endfor %}"
    )
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "bos_token": START,
        "eos_token": END,
        "unk_token": PAD,
        "additional_special_tokens": [IMAGE_TOKEN],
        "added_tokens_decoder": {
            str(index): {
                "content": name,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for index, name in enumerate(SPECIALS)
        },
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8192,
        "chat_template": template,
    }


if __name__ == "__main__":
    main()
