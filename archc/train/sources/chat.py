"""Chats as text: a template for each role, or a Jinja chat template; what is learnt is the assistant's answers.

A message is `{"role": ..., "content": ...}`. An answer reaches to the end of what the template writes of it, so that
its end is learnt too.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from archc.kernels.errors import ArchcError, UnknownName, listed, quoted
from archc.train.sources.base import Document, Piece

ASSISTANT = "assistant"
CONTENT = "{content}"

TEMPLATES: dict[str, dict[str, str]] = {
    "plain": {
        "system": "{content}\n\n",
        "user": "User: {content}\n",
        "assistant": "Assistant: {content}\n",
    },
    "chatml": {role: f"<|im_start|>{role}\n{CONTENT}<|im_end|>\n" for role in ("system", "user", "assistant", "tool")},
}

Message = Mapping[str, Any]


class NoAnswer(Exception):
    """Reason and detail of messages that give no document."""


class ChatTemplate(ABC):
    """Turns messages into a document whose answers are learnt."""

    def document(self, messages: object) -> Document:
        """The document of messages; raises NoAnswer where they are not messages, or nothing of them is learnt."""
        checked = _checked(messages)
        if not any(message["role"] == ASSISTANT for message in checked):
            raise NoAnswer("no answer", f"no message of role `{ASSISTANT}`")
        return self.render(checked)

    @abstractmethod
    def render(self, messages: Sequence[Message]) -> Document:
        """The document of messages that have a role and a content."""

    @property
    @abstractmethod
    def hash(self) -> str:
        """Identity of the template."""


class RoleTemplate(ChatTemplate):
    """A text for each role, around `{content}`."""

    def __init__(self, roles: Mapping[str, str]) -> None:
        self.roles = dict(roles)
        for role, text in self.roles.items():
            if text.count(CONTENT) != 1:
                raise ArchcError(f"the chat template of `{role}` must have {CONTENT} once: got {quoted(text)}")
        if ASSISTANT not in self.roles:
            raise ArchcError(f"a chat template needs a text for `{ASSISTANT}`: got {listed(list(self.roles))}")

    def render(self, messages: Sequence[Message]) -> Document:
        """The messages one after the other, between the tokenizer's begin and end."""
        pieces: list[Piece] = []
        for message in messages:
            role = message["role"]
            if role not in self.roles:
                raise NoAnswer("unknown role", f"{quoted(role)}, known are {listed(list(self.roles))}")
            before, _, after = self.roles[role].partition(CONTENT)
            learn = role == ASSISTANT
            pieces += [Piece(before, False), Piece(message["content"] + after, learn)]
        return Document(_joined(pieces))

    @property
    def hash(self) -> str:
        """sha256 of the texts."""
        return hashlib.sha256(json.dumps(self.roles, sort_keys=True).encode()).hexdigest()


class JinjaTemplate(ChatTemplate):
    """A Hugging Face chat template. What it writes after the prompt of an answer is the answer."""

    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self.text, self.variables = text, dict(variables)
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
        environment.globals["raise_exception"] = _refuse
        try:
            self._template = environment.from_string(text)
        except TemplateError as error:
            raise ArchcError(f"the chat template does not parse: {error}") from error

    def render(self, messages: Sequence[Message]) -> Document:
        """What the template writes; it has begin and end of its own."""
        pieces: list[Piece] = []
        done = ""
        for number, message in enumerate(messages):
            if message["role"] != ASSISTANT:
                continue
            prompt = self._write(messages[:number], add_generation_prompt=True)
            answered = self._write(messages[: number + 1], add_generation_prompt=False)
            if not (prompt.startswith(done) and answered.startswith(prompt)):
                raise NoAnswer("unlike its template", "an answer does not follow the text before it unchanged")
            pieces += [Piece(prompt[len(done) :], False), Piece(answered[len(prompt) :])]
            done = answered
        return Document(_joined(pieces), marks=False)

    def _write(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        try:
            return self._template.render(
                messages=list(messages), add_generation_prompt=add_generation_prompt, **self.variables
            )
        except Exception as error:  # a template may do anything with a message that it does not expect
            raise NoAnswer("unlike its template", str(error)) from error

    @property
    def hash(self) -> str:
        """sha256 of the template and of what it is given."""
        return hashlib.sha256(json.dumps([self.text, self.variables], sort_keys=True).encode()).hexdigest()


def chat_template(name: str | Mapping[str, str]) -> ChatTemplate:
    """The template of texts by role, of a name in TEMPLATES, of a file, or of a folder that a tokenizer lies in."""
    if not isinstance(name, str):
        return RoleTemplate(name)
    if name in TEMPLATES:
        return RoleTemplate(TEMPLATES[name])
    path = Path(name)
    if not path.exists():
        raise UnknownName("chat template", name, TEMPLATES)
    folder = path if path.is_dir() else path.parent
    config = _read_config(folder / "tokenizer_config.json")
    file = folder / "chat_template.jinja" if path.is_dir() else path
    text = file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template")
    if not isinstance(text, str):
        raise ArchcError(f"{name}: no chat template: looked for chat_template.jinja and in tokenizer_config.json")
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    return JinjaTemplate(text, {key: _spelt(config[key]) for key in names if config.get(key)})


def _read_config(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ArchcError(f"{path} is not JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _spelt(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _refuse(message: str) -> NoReturn:
    """What a template calls `raise_exception`."""
    from jinja2 import TemplateError

    raise TemplateError(message)


def _checked(messages: object) -> list[Message]:
    if not isinstance(messages, list) or not messages:
        raise NoAnswer("not a chat", "expected a list of messages")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping):
            raise NoAnswer("not a chat", f"message {number} is no object")
        for field in ("role", "content"):
            if not isinstance(message.get(field), str):
                raise NoAnswer("missing field", f"message {number} has no text `{field}`")
    return messages


def _joined(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Neighbours that are learnt or not alike as one, empty ones left out: fewer seams between tokens."""
    made: list[Piece] = []
    for piece in pieces:
        if not piece.text:
            continue
        if made and made[-1].learn == piece.learn:
            made[-1] = Piece(made[-1].text + piece.text, piece.learn)
        else:
            made.append(piece)
    return tuple(made)
