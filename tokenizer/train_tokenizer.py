"""Trains a byte-level vocabulary: `python -m tokenizer.train_tokenizer --text FILE [--out DIR] [--vocab_size N]`.

FILE is UTF-8, one text per line. U+001F marks boundaries that no token may cross, such as those of Chinese
words; it is not part of the text. The same file gives the same vocabulary, byte for byte. 20 MB take seconds.

The ids, by default 6,400, are, in order: 4 special tokens, 256 bytes, every hanzi of GB2312 level 1 and the
punctuation below (with the two-byte prefixes that byte-level merges need to build them), other characters that
are frequent in the text, words and parts of words by decreasing frequency, and, if the text has too few of
those, hanzi of GB2312 level 2. A vocabulary of another size is of this text only: hanzi and punctuation that it
does not use are left out, and any text can be spelled in bytes still.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import chain, repeat
from pathlib import Path

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as FastTokenizer

from tokenizer.template import DEFAULT_SYSTEM
from tokenizer.tokenizer import CONFIG_FILE, SPECIALS, TOKENIZER_FILE, TokenizerError, default_folder

Merge = tuple[bytes, bytes]
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
    parser.add_argument("--vocab_size", type=int, default=VOCAB_SIZE, help="ids at most (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        lines = read_lines(args.text)
        tokenizer, counts = train(lines, args.vocab_size)
    except TokenizerError as error:
        sys.exit(f"error: {error}")
    write(tokenizer, args.out)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    print(f"{args.out / TOKENIZER_FILE}: {sum(counts.values())} tokens from {len(lines)} texts: {kinds}")


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


def train(lines: list[str], size: int = VOCAB_SIZE) -> tuple[FastTokenizer, dict[str, int]]:
    """The tokenizer of `size` tokens, or fewer for want of text, trained on these texts, and its tokens by kind.

    Merges are learned over characters, not bytes: a token is always whole characters, or the start of one.
    TokenizerError for a size with no room beside the special tokens and bytes.
    """
    if size <= len(SPECIALS) + 256:
        raise TokenizerError(f"--vocab_size {size}, expected more than {len(SPECIALS)} special tokens and 256 bytes.")
    vocabulary = _Vocabulary(size)
    used = set().union(*lines)
    needed = [c for c in [*hanzi(1), *PUNCTUATION] if size == VOCAB_SIZE or c in used]
    vocabulary.extend("hanzi and punctuation", _spelled(needed))
    vocabulary.extend("other characters", _spelled(_frequent_characters(lines)))
    vocabulary.extend("words and parts of words", [[merge] for merge in _word_merges(lines, size)])
    if size == VOCAB_SIZE:
        vocabulary.extend("rarer hanzi to fill up", _spelled(hanzi(2)))
    return _assemble(vocabulary), vocabulary.counts


def hanzi(level: int) -> list[str]:
    """The hanzi of GB2312 level 1 (3,755, by sound) or 2 (3,008, by radical), in the standard's order."""
    rows = range(0xB0, 0xD8) if level == 1 else range(0xD8, 0xF8)
    cells = (bytes([row, cell]).decode("gb2312", "ignore") for row in rows for cell in range(0xA1, 0xFF))
    return [character for character in cells if character]


def write(tokenizer: FastTokenizer, folder: Path) -> None:
    """Writes tokenizer.json and a copy of the project's tokenizer_config.json, which no training changes."""
    config = (default_folder() / CONFIG_FILE).read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TOKENIZER_FILE).write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    (folder / CONFIG_FILE).write_bytes(config)


class _Vocabulary:
    """Tokens as bytes, in the order of their ids, and the merges that build them."""

    def __init__(self, size: int):
        self.size = size
        self.tokens: dict[bytes, None] = dict.fromkeys(bytes([b]) for b in range(256))  # an ordered set
        self.merges: list[Merge] = []
        self.counts = {"special": len(SPECIALS), "bytes": 256}

    def extend(self, kind: str, chains: list[list[Merge]]) -> None:
        """Adds chains of merges, each of which builds on the one before it, leaving out what are tokens already.

        Skips those that there is no room for, that are too long or that begin with what are no tokens.
        """
        before = len(self.tokens)
        for merges in chains:
            new = [(left, right) for left, right in merges if left + right not in self.tokens]
            room = self.size - len(SPECIALS) - len(self.tokens)
            short = all(len(left + right) <= MAX_TOKEN_BYTES for left, right in new)
            if new and short and len(new) <= room and all(half in self.tokens for half in new[0]):
                self.tokens.update((left + right, None) for left, right in new)
                self.merges += new
        self.counts[kind] = len(self.tokens) - before


def _spelled(characters: Iterable[str]) -> list[list[Merge]]:
    """For each character the merges, byte by byte from the left, that make it one token."""
    return [[(data[:end], data[end : end + 1]) for end in range(1, len(data))] for data in map(str.encode, characters)]


def _frequent_characters(lines: list[str]) -> list[str]:
    """Characters beyond ASCII by decreasing frequency; ties in Unicode order."""
    counts = Counter(chain.from_iterable(lines))
    least = max(2, sum(counts.values()) // RARE)
    found = [c for c, n in counts.items() if ord(c) > 127 and n >= least]
    return sorted(found, key=lambda c: (-counts[c], c))[:MAX_OTHER_CHARACTERS]


def _word_merges(lines: list[str], size: int) -> list[Merge]:
    """Merges of characters into words, most frequent first, from the library's BPE trainer."""
    learner = FastTokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(SEPARATOR, "removed"), pre_tokenizers.Split(Regex(PIECES), "isolated")]
    )
    alphabet = len(set(TEMPLATE_WORDS).union(*lines))
    trainer = trainers.BpeTrainer(
        vocab_size=alphabet + size,  # more than needed: some will be too long
        min_frequency=2, max_token_length=MAX_TOKEN_BYTES, show_progress=False,
    )  # fmt: skip
    learner.train_from_iterator(chain(lines, repeat(TEMPLATE_WORDS, len(lines))), trainer)
    return [(left.encode(), right.encode()) for left, right in json.loads(learner.to_str())["model"]["merges"]]


def byte_characters() -> list[str]:
    """The printable character that stands for each of the 256 bytes in a byte-level vocabulary, as in GPT-2.

    Printable Latin-1 stands for itself; the other bytes map to U+0100, U+0101, ... in order.
    """
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte) if byte in plain else chr(next(spare)) for byte in range(256)]


def _assemble(vocabulary: _Vocabulary) -> FastTokenizer:
    """The library's tokenizer with these tokens, in byte-level spelling."""
    table = byte_characters()

    def spell(data: bytes) -> str:
        return "".join(table[byte] for byte in data)

    names = [*SPECIALS, *(spell(token) for token in vocabulary.tokens)]
    merges = [(spell(left), spell(right)) for left, right in vocabulary.merges]
    tokenizer = FastTokenizer(models.BPE({name: index for index, name in enumerate(names)}, merges))
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PIECES), "isolated"), as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIALS])
    return tokenizer


if __name__ == "__main__":
    main()
