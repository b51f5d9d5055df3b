"""Foreign config.json files: reading them with care, and the two-way bindings of their fields to spec fields."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archc.kernels.errors import UnknownName, UnsupportedError, WeightError, suggestion

Config = dict[str, Any]

MAX_CONFIG_BYTES = 16 * 2**20
REQUIRED: Any = object()

# What transformers writes into every config and what only training, sampling or loading look at: none of it changes
# the function that the weights compute. Such fields travel along unread.
CARRIED = frozenset(
    {
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "auto_map",
        "bos_token_id",
        "chunk_size_feed_forward",
        "decoder_start_token_id",
        "dtype",
        "eos_token_id",
        "finetuning_task",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "hidden_dropout",
        "id2label",
        "is_decoder",
        "is_encoder_decoder",
        "keys_to_ignore_at_inference",
        "label2id",
        "max_position_embeddings",
        "model_type",
        "num_hidden_layers",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "pad_token_id",
        "pretraining_tp",
        "problem_type",
        "return_dict",
        "router_aux_loss_coef",
        "sep_token_id",
        "tokenizer_class",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "use_cache",
        "use_return_dict",
    }
)

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "relu2": "relu2",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}


def read_config(source: Path | str | Mapping[str, Any]) -> Config:
    """The config of a checkpoint folder, a config.json file, or one already read.

    Raises WeightError when there is none, when it is not a JSON object, or when it names no model_type."""
    if isinstance(source, Mapping):
        return _checked(dict(source), "config")
    path, file = Path(source), config_file(source)
    if not file.is_file():
        raise WeightError(f"`{path}` has no config.json")
    if file.stat().st_size > MAX_CONFIG_BYTES:
        raise WeightError(f"`{file}` is too large for a config: {file.stat().st_size} bytes")
    try:
        config = json.loads(file.read_text(encoding="utf-8"), object_hook=_special_floats)
    except (ValueError, RecursionError) as error:
        raise WeightError(f"`{file}` is not JSON: {error}") from None
    return _checked(config, str(file))


def config_file(source: Path | str) -> Path:
    """The config of a folder, or the file itself."""
    path = Path(source)
    return path / "config.json" if path.is_dir() else path


@contextlib.contextmanager
def named_in_errors(file: Path | None) -> Iterator[None]:
    """Put the file before every line of an error about a config; a config without one has no name."""
    try:
        yield
    except (WeightError, UnsupportedError, UnknownName) as error:
        if file is not None:
            error.args = ("\n".join(f"{file}: {line}" for line in str(error).splitlines()),)
        raise


def write_config(config: Config, file: Path) -> None:
    """Write a config as Hugging Face does: sorted, and infinity as Python's JSON spells it."""
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _special_floats(record: Config) -> Any:
    """transformers 5 writes infinity as {"__float__": "Infinity"}, which is still JSON."""
    return float(record["__float__"]) if set(record) == {"__float__"} else record


def _checked(config: Any, name: str) -> Config:
    if not isinstance(config, dict):
        raise WeightError(f"`{name}` must be a JSON object: got {type(config).__name__}")
    if not isinstance(config.get("model_type"), str):
        raise WeightError(f"`{name}` names no `model_type`")
    return config


Converter = Callable[[Any], Any]


@dataclass(frozen=True)
class Bind:
    """One config field and the spec fields that it gives, both ways.

    `to` are paths `kind.field` (`attention.head_dim`), `norm.eps`, or a field of the spec (`d_model`).
    `default` is transformers' own for an absent or null field, perhaps computed from the config. `aliases` are older
    or newer spellings of `key`. `values` translates strings. `absent` is the path to write from where the spec
    leaves the field out.
    """

    key: str
    to: tuple[str, ...]
    type: type = int
    default: Any = REQUIRED
    aliases: tuple[str, ...] = ()
    values: Mapping[str, str] | None = None
    absent: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key, *self.aliases)

    def word(self, config: Config) -> str:
        """The spelling that a config has for the field; the first where it leaves the field out."""
        return next((k for k in self.keys if config.get(k) is not None), self.key)

    def read(self, config: Config) -> Any:
        """The value that the spec fields take. Raises WeightError for a missing or impossible one."""
        found = {k: config[k] for k in self.keys if config.get(k) is not None}
        if len({repr(v) for v in found.values()}) > 1:
            raise WeightError(f"the config says one thing twice and differently: {_listed(found)}")
        if found:
            key, value = next(iter(found.items()))
            return self._translated(key, _typed(key, value, self.type))
        if self.default is REQUIRED:
            raise WeightError(f"the config has no `{self.key}`")
        return self.default(config) if callable(self.default) else self.default

    def _translated(self, key: str, value: Any) -> Any:
        if self.values is None:
            return value
        if value not in self.values:
            raise UnsupportedError(f"`{key}`: `{value}` is not supported{suggestion(value, self.values)}")
        return self.values[value]

    def write(self, value: Any) -> Any:
        """The config's value of a spec field."""
        if self.values is None or value is None:
            return value
        back = {spec: foreign for foreign, spec in reversed(list(self.values.items()))}
        if value not in back:
            raise UnsupportedError(f"`{self.key}` has no word for `{value}`{suggestion(value, back)}")
        return back[value]


def bind(key: str, *to: str, **more: Any) -> Bind:
    """`bind("hidden_size", "d_model")`: see `Bind`."""
    return Bind(key, to, **more)


def check_neutral(config: Config, neutral: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise UnsupportedError, listing all, where a field asks for maths that archc does not have."""
    wrong = {k: config[k] for k, allowed in neutral.items() if config.get(k) is not None and config[k] not in allowed}
    if wrong:
        only = _listed({k: neutral[k][0] for k in wrong})
        raise UnsupportedError(f"the config asks for what archc does not have: {_listed(wrong)} (only {only})")


def check_packing(config: Config, model_type: str, readable: tuple[str, ...]) -> None:
    """Raise UnsupportedError where a config says that its weights are packed as archc cannot read them."""
    given = config.get("quantization_config")
    method = given.get("quant_method") if isinstance(given, dict) else None
    if not given or method in readable:
        return
    known = f"only {', '.join(readable)} and unpacked weights are" if readable else "import unpacked weights"
    how = f" by {json.dumps(method)}" if method else ""
    raise UnsupportedError(
        f"`quantization_config` packs weights{how}, which archc does not read for `{model_type}`: {known}"
    )


def unread(config: Config, known: Iterable[str]) -> list[str]:
    """Fields that no table reads or names as carried."""
    return sorted(set(config) - set(known) - CARRIED)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={json.dumps(v, default=str)}" for k, v in values.items())


def _typed(key: str, value: Any, wanted: type) -> Any:
    """`value` as `wanted`; sizes must be positive and every number finite."""
    good = isinstance(value, bool) if wanted is bool else isinstance(value, wanted) and not isinstance(value, bool)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value, good = float(value), True
    if not good:
        raise WeightError(f"`{key}` must be {wanted.__name__}: got {value!r}")
    if wanted is int and not 0 < value < 2**40:
        raise WeightError(f"`{key}` must be between 1 and 2^40: got {value}")
    if wanted is float and not math.isfinite(value):
        raise WeightError(f"`{key}` must be finite: got {value}")
    return value
