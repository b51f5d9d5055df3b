"""A tokenizer with some of its tokens: what goes with `prune-vocab`, where the kept tokens can stand by themselves.

Byte-pair encoding builds each token of others in one way, whatever stands around it. Where the kept tokens are closed,
every one made of kept ones only, a text that was cut into kept tokens is cut in the same way: the merges that are gone
never took place in it. `keep_tokens` refuses what is not closed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from archc.kernels.errors import ArchcError, UnsupportedError, listed, quoted
from archc.train.bytes import ByteTokenizer
from archc.train.tokenizers.base import Tokenizer, load_tokenizer, read_json
from archc.train.tokenizers.huggingface import GENERATION_CONFIG, HF_FILE, TOKENIZER_CONFIG, HFTokenizer

Json = dict[str, Any]
Place = Mapping[int, int]  # new id by old id

_PROCESSORS = ("TemplateProcessing", "ByteLevel", "Sequence")
_NAMED = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")


def keep_tokens(folder: Path, ids: Sequence[int], out: Path) -> Tokenizer:
    """The tokenizer of `folder` with the tokens `ids` only, whose new ids are their positions, written into `out`.

    Byte-pair encoding in a Hugging Face `tokenizer.json` can be rewritten; ids that it does not have (the padding of a
    model's vocabulary) mean nothing there either. Raises UnsupportedError with all reasons, and writes nothing, for
    other kinds, for tokens without those that they are made of, for letters that texts may need, and where a special
    is gone that a file refers to.
    """
    tokenizer = load_tokenizer(folder)
    if isinstance(tokenizer, ByteTokenizer) and list(ids)[: tokenizer.vocab_size] == list(range(tokenizer.vocab_size)):
        out.mkdir(parents=True, exist_ok=True)
        tokenizer.save(out)
        return tokenizer
    if not isinstance(tokenizer, HFTokenizer):
        kind = f"only byte-pair encoding in {HF_FILE} can, and bytes are kept all, in their order"
        raise UnsupportedError(f"the tokenizer of {folder} cannot lose tokens: {kind}")
    files = _rewritten(folder, {old: new for new, old in enumerate(ids)})
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(out)
    for name, content in files.items():
        (out / name).write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return load_tokenizer(out)


def closed_ids(folder: Path, ids: Iterable[int]) -> list[int]:
    """`ids` with those that they cannot do without, in order: what tokens are made of, letters, and named specials.

    Raises UnsupportedError where the tokenizer of `folder` cannot lose tokens at all.
    """
    bpe = _BPE(read_json(folder / HF_FILE))
    beside = {name: read_json(folder / name) for name in (GENERATION_CONFIG, TOKENIZER_CONFIG)}
    names = {i: token for token, i in bpe.vocab.items()}
    found = {*ids, *(bpe.ids[token] for token in bpe.alphabet), *_special_ids(beside[GENERATION_CONFIG])}
    found |= {bpe.ids[token] for token in _named(bpe, beside).values() if token in bpe.ids}
    made = (bpe.parts(names[i]) for i in found if i in names and names[i] not in bpe.specials)
    return sorted(found.union(*({bpe.vocab[part] for part in parts if part in bpe.vocab} for parts in made)))


def read_ids(file: Path) -> list[int]:
    """Token ids of a text file: an id or a range such as `0-255` a line, in their order; `#` begins a comment.

    Raises ArchcError with the line that is neither."""
    found: list[int] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        first, dash, last = line.partition("#")[0].strip().partition("-")
        if not first and not dash:
            continue
        if not first.strip().isdecimal() or (dash and not last.strip().isdecimal()):
            raise ArchcError(f"{file}:{number}: expected an id or a range such as 0-255, got {quoted(line)}")
        found += range(int(first), int(last if dash else first) + 1)
    return found


def _rewritten(folder: Path, place: Place) -> dict[str, Json]:
    """The files that hold ids, by name, with the new ones."""
    stored = read_json(folder / HF_FILE)
    beside = {name: read_json(folder / name) for name in (GENERATION_CONFIG, TOKENIZER_CONFIG)}
    bpe = _BPE(stored)
    problems = [*bpe.unmade(place), *bpe.letters(place), *_referred(bpe, beside, place)]
    if problems:
        said = f"{folder / HF_FILE} cannot do with these tokens alone (`closed_ids` adds what is missing):"
        raise UnsupportedError("\n".join([said, *problems]))
    made = {HF_FILE: bpe.kept(place)}
    if beside[GENERATION_CONFIG]:
        made[GENERATION_CONFIG] = _with_new_ids(beside[GENERATION_CONFIG], place)
    if "added_tokens_decoder" in beside[TOKENIZER_CONFIG]:
        decoder = beside[TOKENIZER_CONFIG]["added_tokens_decoder"]
        renumbered = {str(place[int(i)]): one for i, one in decoder.items() if int(i) in place}
        made[TOKENIZER_CONFIG] = beside[TOKENIZER_CONFIG] | {"added_tokens_decoder": renumbered}
    return made


class _BPE:
    """The content of a `tokenizer.json` of byte-pair encoding. Raises UnsupportedError for other kinds."""

    def __init__(self, stored: Json) -> None:
        self.stored, self.model = stored, stored.get("model") or {}
        if self.model.get("type") != "BPE":
            raise UnsupportedError(f"{HF_FILE} is of kind {self.model.get('type')}: only BPE can lose tokens")
        odd = [k for k in ("continuing_subword_prefix", "end_of_word_suffix") if self.model.get(k)]
        odd += [p["type"] for p in _processors(stored.get("post_processor")) if p["type"] not in _PROCESSORS]
        if odd:
            raise UnsupportedError(f"{HF_FILE} has {listed(odd)}, which cannot lose tokens")
        self.vocab: dict[str, int] = self.model["vocab"]
        self.added: list[Json] = stored.get("added_tokens") or []
        self.specials = {one["content"] for one in self.added}
        self.ids = self.vocab | {one["content"]: one["id"] for one in self.added}
        self.merges = [_pair(merge) for merge in self.model["merges"]]
        self.rank = {pair: rank for rank, pair in reversed(list(enumerate(self.merges)))}

    @property
    def alphabet(self) -> list[str]:
        """The letters that every text can be written in: none where there is something for unknown ones."""
        if self.model.get("unk_token") or self.model.get("byte_fallback"):
            return []
        return [t for t in self.vocab if len(t) == 1 and t not in self.specials]

    def kept(self, place: Place) -> Json:
        """The same with kept tokens only."""
        names = {token for token, i in self.vocab.items() if i in place}
        merges = [
            merge for merge, (a, b) in zip(self.model["merges"], self.merges, strict=True) if {a, b, a + b} <= names
        ]
        # The reader numbers added tokens itself, unless the vocabulary has them too.
        vocab = {token: place[i] for token, i in self.ids.items() if i in place}
        added = [one | {"id": place[one["id"]]} for one in self.added if one["id"] in place]
        return self.stored | {
            "model": self.model | {"vocab": vocab, "merges": merges},
            "added_tokens": sorted(added, key=lambda one: one["id"]),
            "post_processor": _renumbered(self.stored.get("post_processor"), place),
        }

    def unmade(self, place: Place) -> Iterator[str]:
        """Kept tokens that are made of others."""
        kept = {token for token, i in self.vocab.items() if i in place}
        lacking = {t: made for t in kept - self.specials if (made := self.parts(t)) - kept and t in made}
        if lacking:
            shown = [f"{t!r} (of {min(made - kept)!r})" for t, made in sorted(lacking.items())]
            yield f"  kept tokens are made of tokens that are not kept ({len(lacking)}): {listed(shown)}"

    def letters(self, place: Place) -> Iterator[str]:
        """Letters that are not kept, of which a text may have any."""
        gone = [t for t in self.alphabet if self.vocab[t] not in place]
        if gone:
            yield f"  letters of the alphabet are not kept ({len(gone)}): {listed([repr(t) for t in gone])}"

    def parts(self, token: str) -> set[str]:
        """What encoding the token's own letters goes through: the letters, what merges make of them, itself."""
        symbols, seen = list(token), set(token)
        while pairs := [p for p in itertools.pairwise(symbols) if p in self.rank]:
            best = min(pairs, key=self.rank.__getitem__)
            at = next(i for i, p in enumerate(itertools.pairwise(symbols)) if p == best)
            symbols[at : at + 2] = ["".join(best)]
            seen.add(symbols[at])
        return seen


def _pair(merge: Any) -> tuple[str, str]:
    """A merge, stored as `a b` or as [a, b]."""
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second


def _referred(bpe: _BPE, beside: Mapping[str, Json], place: Place) -> Iterator[str]:
    """Tokens that the files name and that are not kept."""
    named = _named(bpe, beside)
    gone = [f"{token!r} ({why})" for why, token in named.items() if token in bpe.ids and bpe.ids[token] not in place]
    lost = [i for i in _special_ids(beside[GENERATION_CONFIG]) if i not in place]
    gone += [f"{i} ({GENERATION_CONFIG})" for i in lost]
    if gone:
        yield f"  tokens that are referred to are not kept: {listed(gone)}"


def _named(bpe: _BPE, beside: Mapping[str, Json]) -> dict[str, str | None]:
    """Tokens that the files name, by what they are there."""
    named = {"unk_token": bpe.model.get("unk_token")}
    for processor in _processors(bpe.stored.get("post_processor")):
        named |= {f"template, {token}": token for token in processor.get("special_tokens") or {}}
    for key in _NAMED:
        told = beside[TOKENIZER_CONFIG].get(key)
        named[key] = told.get("content") if isinstance(told, dict) else told
    return named


def renumbered_config(config: Json, ids: Sequence[int], vocab: int, where: str) -> Json:
    """A model's or a generation's config that names tokens (`eos_token_id`), over the tokens `ids` of `vocab` only.

    Raises UnsupportedError, which says `where` they are named, for tokens that are not kept."""
    place = {old: new for new, old in enumerate(ids)}
    gone = [i for i in _special_ids(config) if 0 <= i < vocab and i not in place]
    if gone:
        raise UnsupportedError(f"{where} names tokens that are not kept: {listed([str(i) for i in gone])}")
    return _with_new_ids(config, place)


def _with_new_ids(stored: Json, place: Place) -> Json:
    """A config whose tokens have new ids; what is no token stays as it is."""
    ids = {key: value for key, value in stored.items() if key.endswith("_token_id")}
    new = {k: [place.get(i, i) for i in v] if isinstance(v, list) else place.get(v, v) for k, v in ids.items()}
    return stored | new


def _special_ids(config: Json) -> list[int]:
    """The ids that a config names."""
    values = [value for key, value in config.items() if key.endswith("_token_id")]
    return [i for value in values for i in (value if isinstance(value, list) else [value]) if isinstance(i, int)]


def _processors(processor: Any) -> Iterator[Json]:
    """A post-processor and those that it is a sequence of."""
    if processor:
        yield processor
        for one in processor.get("processors") or ():
            yield from _processors(one)


def _renumbered(processor: Any, place: Place) -> Any:
    """A post-processor with the new ids of the tokens that it puts into texts."""
    if not processor:
        return processor
    made: Json = dict(processor)
    if "processors" in made:
        made["processors"] = [_renumbered(one, place) for one in made["processors"]]
    if "special_tokens" in made:
        tokens: Iterable[tuple[str, Json]] = made["special_tokens"].items()
        made["special_tokens"] = {name: one | {"ids": [place[i] for i in one["ids"]]} for name, one in tokens}
    return made
