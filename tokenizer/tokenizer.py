"""Text to token ids and back; no text can forge a special token.

A tokenizer is a folder with Hugging Face's `tokenizer.json` and, optionally, `tokenizer_config.json`,
`chat_template.jinja` and `generation_config.json`. No code in it is run. Any byte-level BPE with the markers of a
known chat template loads: ours and those of MiniMind2, Qwen2 and 2.5, Llama 3 to 3.2.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import tokenizers

from tokenizer.template import TokenizerError, recognise

PAD, IMAGE_TOKEN = "<|endoftext|>", "<|image|>"
SPECIALS = (PAD, "<|im_start|>", "<|im_end|>", IMAGE_TOKEN)  # ours have the ids 0, 1, 2, 3
PAD_NAMES = (PAD, "<|finetune_right_pad_id|>", "<|end_of_text|>")  # the last two are Llama 3's
# ours; MiniMind-3V's and Qwen2.5's; a reserved one that Llama 3 was never trained on
IMAGE_NAMES = (IMAGE_TOKEN, "<|image_pad|>", "<|reserved_special_token_0|>")
MINIMIND2_IMAGE_ID = 34  # "@": MiniMind2 has no image token of its own

TOKENIZER_FILE, CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
TEMPLATE_FILE, GENERATION_FILE, MODEL_FILE = "chat_template.jinja", "generation_config.json", "config.json"
BESIDE = (CONFIG_FILE, TEMPLATE_FILE, GENERATION_FILE)


def default_folder() -> Path:
    """The folder of the tokenizer that ships with the project."""
    return Path(__file__).resolve().parent


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """Reads a tokenizer from a folder, or raises TokenizerError."""
    folder = Path(folder)
    expected = f"Expected a folder with {TOKENIZER_FILE}, such as {default_folder()}"
    if not folder.is_dir():
        found = "is a file" if folder.is_file() else "does not exist"
        raise TokenizerError(f"The tokenizer folder {folder} {found}. {expected}: give the folder that holds it.")
    if not (folder / TOKENIZER_FILE).is_file():
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise TokenizerError(
            f"{folder} has no {TOKENIZER_FILE} (found: {found}). {expected}. An older tokenizer (vocab.json with "
            "merges.txt, tokenizer.model) must first be saved as a fast one by transformers."
        )
    files = [folder / name for name in (TOKENIZER_FILE, *BESIDE, MODEL_FILE)]
    try:
        texts = {file.name: file.read_text(encoding="utf-8") for file in files if file.is_file()}
    except UnicodeDecodeError as error:
        raise TokenizerError(
            f"{folder} holds a file that is not text ({error}). Expected JSON in UTF-8: copy it again."
        ) from error
    text, rows = texts.pop(TOKENIZER_FILE), _rows(texts.pop(MODEL_FILE, "{}"))
    return Tokenizer(text, texts, rows, where=str(folder / TOKENIZER_FILE))


def _rows(model_text: str) -> int:
    """The embedding's number of rows by the config.json beside a tokenizer; 0 if unknown."""
    try:
        config = json.loads(model_text)
        rows = config.get("lm", config).get("vocab_size", 0)  # ours has it under lm, Hugging Face's at the top
    except (ValueError, AttributeError, RecursionError):
        return 0  # loading the model reports what is wrong with it
    return rows if isinstance(rows, int) else 0


class Tokenizer:
    """Encodes and decodes text; knows the chat template, its special tokens and what ends an answer.

    Built from the contents of tokenizer.json and, by name, of the files beside it; `save` writes all unchanged.
    rows: of the model's embedding, if known; one beyond the vocabulary can serve as the image token.
    """

    def __init__(
        self, json_text: str, beside: Mapping[str, str] | None = None, rows: int = 0, where: str = TOKENIZER_FILE
    ):
        data = _parse(json_text, where)
        self._source = (json_text, dict(beside or {}), rows, where)
        for token in data["added_tokens"]:
            # Qwen2.5 does not mark all of these as special, <|file_sep|> for one, so that they could be typed.
            token["special"] = token.get("special", False) or bool(re.fullmatch(r"<\|.*\|>", token["content"]))
        try:
            self._fast = tokenizers.Tokenizer.from_str(json.dumps(data))
        except Exception as error:  # the library raises plain Exception
            raise TokenizerError(
                f"{where} cannot be read as a tokenizer ({error}). Expected a byte-level BPE tokenizer "
                f"that tokenizers {tokenizers.__version__} understands: copy it again, or upgrade those."
            ) from error
        # Without this the text "<|im_end|>" in a user's message would become the real end marker.
        self._fast.encode_special_tokens = True
        self._fast.no_padding()
        self._fast.no_truncation()

        self._specials = {token["content"]: token["id"] for token in data["added_tokens"] if token["special"]}
        config, generation = (_beside(name, self._source[1], where) for name in (CONFIG_FILE, GENERATION_FILE))
        source = self._source[1].get(TEMPLATE_FILE) or _template_in(config, where)
        bos = _token(config, "bos_token")
        self.template = recognise(source, self._specials, bos if bos in self._specials else "", where)
        self.start_id, self.end_id = self._specials[self.template.start], self._specials[self.template.end]
        pads = (_token(config, "pad_token"), *PAD_NAMES, self.template.end)
        self.pad_id = next(self._specials[name] for name in pads if name in self._specials)
        self.end_ids = self._end_ids(_token(config, "eos_token"), generation.get("eos_token_id"), where)
        self.vocab_size = max(self._fast.get_vocab(with_added_tokens=True).values()) + 1
        self.image_id = self._image_id(rows)
        self.vocab_size = max(self.vocab_size, self.image_id + 1)  # rows that the model's embedding needs

    def _end_ids(self, eos_token: str, eos_ids: object, where: str) -> tuple[int, ...]:
        """Ids that end an answer: the template's end marker, which is trained on, then those that the files name."""
        named = [self._specials[eos_token]] if eos_token in self._specials else []
        listed = eos_ids if isinstance(eos_ids, list) else [] if eos_ids is None else [eos_ids]
        if not all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i < 1 << 31 for i in listed):
            raise TokenizerError(
                f"{GENERATION_FILE} beside {where} has the eos_token_id {eos_ids!r:.60}, expected a token id or a list "
                "of them; correct it."
            )
        return tuple(dict.fromkeys([self.end_id, *named, *listed]))

    def _image_id(self, rows: int) -> int:
        """The id at image positions. It can be any id, since a mask marks these positions."""
        for name in IMAGE_NAMES:
            if name in self._specials:
                return self._specials[name]
        if self.vocab_size == 6400 and self._fast.id_to_token(MINIMIND2_IMAGE_ID) == "@":
            return MINIMIND2_IMAGE_ID
        return self.vocab_size if rows > self.vocab_size else self.pad_id  # Qwen2's embedding has rows to spare

    def special(self, name: str) -> int:
        """The id of a special token, such as "<|im_end|>"; KeyError lists those there are."""
        if name not in self._specials:
            raise KeyError(f"no special token {name!r}; this tokenizer has {', '.join(self._specials)}")
        return self._specials[name]

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, never special tokens: "<|im_end|>" in the text becomes ordinary characters.

        A lone surrogate (half a character, from a broken terminal or JSON) is not valid text and becomes U+FFFD.
        """
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return self._fast.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of ids; special tokens are skipped, or shown by name. Invalid UTF-8 becomes U+FFFD."""
        return self._fast.decode([int(i) for i in ids], skip_special_tokens=skip_special)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with the vocabulary or the merges; stored in checkpoints."""
        data = json.loads(self._source[0])
        vocabulary = {**data["model"]["vocab"], **{t["content"]: t["id"] for t in data["added_tokens"]}}
        merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in data["model"]["merges"]]
        canonical = json.dumps([sorted(vocabulary.items()), merges], ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def save(self, folder: Path | str) -> None:
        """Writes the files that this tokenizer was read from, byte for byte."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in {TOKENIZER_FILE: self._source[0], **self._source[1]}.items():
            (folder / name).write_text(text, encoding="utf-8")

    def __reduce__(self):
        # The library's own pickling loses encode_special_tokens: in a worker, text could forge markers.
        return Tokenizer, self._source


class TextStream:
    """Decodes ids one by one, never half a character: `push` returns the text that can now be shown."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = 0  # characters

    def push(self, token: int) -> str:
        """The characters that this id completes, often one word, sometimes none."""
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids)
        return "" if text.endswith("\ufffd") else self.finish()

    def finish(self) -> str:
        """The rest, with U+FFFD for an incomplete last character."""
        text = self._tokenizer.decode(self._ids)[self._shown :]
        self._shown += len(text)
        return text


def _parse(json_text: str, where: str) -> dict:
    """The tokenizer.json as a dict that has all parts needed here, or TokenizerError."""
    what = "Expected the tokenizer.json of a byte-level BPE tokenizer: give another folder, or copy it again."
    try:
        data = json.loads(json_text)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{where} is not JSON ({error}). {what}") from error
    model = data.get("model") if isinstance(data, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict) or "merges" not in model:
        raise TokenizerError(f"{where} is JSON, but holds no BPE vocabulary with merges. {what}")
    decoder = data.get("decoder")
    kind = decoder.get("type") if isinstance(decoder, dict) else decoder
    if kind != "ByteLevel":
        raise TokenizerError(f"{where} has the decoder {kind!r}, not 'ByteLevel'. {what}")
    data["added_tokens"] = data.get("added_tokens") or []
    for token in data["added_tokens"] if isinstance(data["added_tokens"], list) else [data["added_tokens"]]:
        if not (isinstance(token, dict) and isinstance(token.get("content"), str) and isinstance(token.get("id"), int)):
            raise TokenizerError(f"{where} has the added token {token!r:.60}, which has no content and id. {what}")
    return data


def _beside(name: str, texts: Mapping[str, str], where: str) -> dict:
    """The JSON object in a file beside tokenizer.json; empty if there is no such file."""
    try:
        value = json.loads(texts.get(name, "{}"))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{name} beside {where} is not JSON ({error}); copy it again.") from error
    if not isinstance(value, dict):
        raise TokenizerError(f"{name} beside {where} holds {type(value).__name__}, expected an object; copy it again.")
    return value


def _token(config: dict, name: str) -> str:
    """The text of a token in tokenizer_config.json, given as a string or an object; empty if it is absent."""
    token = config.get(name)
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else ""


def _template_in(config: dict, where: str) -> str | None:
    """The source of the chat template in tokenizer_config.json: a single one, or the one named default in a list."""
    source = config.get("chat_template")
    if isinstance(source, list):
        named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
        if not isinstance(named.get("default"), str):
            raise TokenizerError(
                f"{CONFIG_FILE} beside {where} has chat templates named {sorted(map(str, named))}, expected one named "
                "'default'; leave only the one to use"
            )
        source = named["default"]
    if source is not None and not isinstance(source, str):
        raise TokenizerError(f"{CONFIG_FILE} beside {where} has a chat_template that is not a string; copy it again.")
    return source
