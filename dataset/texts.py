"""The answers of a data file as plain text, one a line, for a tokenizer of its words.

    python -m dataset.texts --data captions.token@train.txt --out out/captions.txt
    python -m tokenizer.train_tokenizer --text out/captions.txt --out out/tokenizer --vocab_size 3000

Words that captions use often become one token each: texts get shorter, and an encoder learns to name whole words.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from dataset.atomic import encoded, replacing
from dataset.bad_rows import BadRow, BadRows, DataError
from dataset.batching import Records
from dataset.console import FlagParser
from dataset.mixture import open_sources


def answers_of(records: Records, bad: BadRows) -> Iterator[str]:
    """The lines of all answers, or of all captions of each picture; bad rows are counted in `bad` and skipped."""
    for i in range(len(records)):
        bad.seen()
        try:
            record = records[i]
        except BadRow as error:
            bad.add(error.row_id or f"row {i}", error)
            continue
        for text in record.references or record.answers:
            yield from filter(None, map(str.strip, text.splitlines()))


def main(argv: list[str] | None = None) -> None:
    parser = FlagParser(__doc__)
    parser.add_argument("--data", required=True, metavar="FILE", help="FILE[@SUBSET],..., as for training")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the text file to write")
    args = parser.parse_args(argv)
    bad = BadRows(1.0)
    _, parts = open_sources(args.data, "", bad, text_only=True)
    count = 0
    with replacing(args.out) as file:
        for text in (text for part in parts for text in answers_of(part, bad)):
            file.write(encoded(f"{text}\n"))
            count += 1
        if not count:
            raise DataError(f"--data {args.data}: no row has an answer.\n{bad.report()}")
    print(f"{args.out}: {count:,} texts")
    if bad.bad:
        print(bad.report())


if __name__ == "__main__":
    try:
        main()
    except (DataError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:  # nothing half-written is left
        sys.exit(130)
