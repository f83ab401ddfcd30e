"""The event `ask`: which questions there are, and who answers each.

`{"ask": {"question": "next", ...}}` -> `{"answer": {...}}`, or `{"problem": "<one sentence>"}`. In every mode, without
a write, a lease, an effect or a metric. A module for each question, loaded when it is asked: a look needs none of them.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, Protocol, cast

import msgspec

from autoscaler.ask.looking import NoAnswer, Service
from autoscaler.ports import PortError

QUESTIONS: Final[Mapping[str, str]] = {
    "next": "autoscaler.ask.next_decision",
    "reach": "autoscaler.ask.reach",
    "explain": "autoscaler.ask.explain",
    "removal": "autoscaler.ask.removal",
    "pods": "autoscaler.ask.pods",
}
"""Question -> its module, which has `Arguments` (a Struct that refuses unknown fields) and `answer`."""


class _Module(Protocol):
    """What a question's module holds."""

    Arguments: type[msgspec.Struct]

    def answer(self, service: Service, arguments: Any) -> dict[str, Any]:
        """JSON-able. Raises NoAnswer, PortError."""
        ...


def answer(service: Service, asked: object) -> dict[str, Any]:
    """`{"answer": ...}` or `{"problem": ...}`; only a fault of the program is raised."""
    try:
        module, arguments = _read(asked)
        return {"answer": module.answer(service, arguments)}
    except NoAnswer as error:
        return {"problem": str(error)}
    except PortError as error:
        return {"problem": _sentence(f"The service could not look: {error}")}


def _read(asked: object) -> tuple[_Module, msgspec.Struct]:
    """The question's module and its arguments. Raises NoAnswer for what is no question."""
    if not isinstance(asked, Mapping) or not isinstance(asked.get("question"), str):
        raise NoAnswer(f'`ask` is to be {{"question": "<name>", ...}}; names: {", ".join(QUESTIONS)}.')
    name = asked["question"]
    if name not in QUESTIONS:
        raise NoAnswer(
            f"There is no question {name[:40]!r}: {', '.join(QUESTIONS)} are known. Of another version than the "
            "function's? Deploy it again, or install the command line of its version."
        )
    module = cast("_Module", import_module(QUESTIONS[name]))
    given = {key: value for key, value in asked.items() if key != "question"}
    try:
        return module, msgspec.convert(given, module.Arguments)
    except msgspec.ValidationError as error:
        allowed = ", ".join(module.Arguments.__struct_fields__) or "none"
        raise NoAnswer(_sentence(f"The question {name} is not understood: {error}; arguments: {allowed}")) from None


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
