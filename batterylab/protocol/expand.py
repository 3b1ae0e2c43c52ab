"""Write out what a protocol file says in short: calls with parameters, repetitions for each value.

This happens on the plain YAML, before anything is checked, so that every mistake is found with
the values that it happens for; each entry remembers where it stands in the file.
"""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from batterylab.errors import BatterylabError, Problem
from batterylab.yamlfile import YamlDocument

EACH = ("each_soc", "each_temperature", "each_rate")
MOST_ENTRIES = 20_000
DEEPEST = 20
_PARAMETER = re.compile(r"\$([a-z][a-z0-9_]*)")
Keys = tuple[str | int, ...]
Origin = tuple[YamlDocument, Keys]


@dataclass
class Expanded(YamlDocument):
    """A file written out, that knows where each entry came from.

    Attributes
    ----------
    origins : dict
        By place in `data`, the document and the place there.
    """

    origins: dict[Keys, Origin] = field(default_factory=dict)

    def origin(self, *keys: str | int) -> Origin:
        """Return the document that a place came from, and the place there."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.origins:
                document, start = self.origins[keys[:length]]
                return document, (*start, *keys[length:])
        return YamlDocument(self.path, self.data, self.lines), keys

    def where(self, *keys: str | int) -> str:
        """Return file, line and dotted key, as a `Problem` wants it."""
        document, own = self.origin(*keys)
        return document.where(*own)


def substitute(value: Any, values: dict[str, Any], unknown: set[str]) -> Any:
    """Return a copy with ``$name`` and ``each_…`` replaced; names without a value are collected.

    A text that is nothing but a name becomes the value itself, so that a number stays one.
    """
    if isinstance(value, dict):
        return {key: substitute(item, values, unknown) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, values, unknown) for item in value]
    if not isinstance(value, str):
        return value
    if value in EACH and value in values:
        return values[value]
    for word in EACH:
        if word in values:
            value = str(values[word]).join(re.split(rf"\b{word}\b", value))
    whole = _PARAMETER.fullmatch(value)
    if whole and whole[1] in values:
        return values[whole[1]]

    def one(match: re.Match[str]) -> str:
        if match[1] in values:
            return str(values[match[1]])
        unknown.add(match[1])
        return match[0]

    return _PARAMETER.sub(one, value)


class Expander:
    """Writes out one file.

    Parameters
    ----------
    document : YamlDocument
        As read.
    other : callable
        Returns another protocol's document by name, or raises `BatterylabError`.
    """

    def __init__(self, document: YamlDocument, other: Callable[[str], YamlDocument]) -> None:
        self.document = document
        self.other = other
        self.problems: list[Problem] = []
        self.origins: dict[Keys, Origin] = {}
        self.called: set[str] = set()
        self._count = 0

    def expand(self) -> Expanded:
        """Return the file written out; mistakes are in `problems`."""
        data = self.document.data
        if not isinstance(data, dict) or not isinstance(data.get("steps"), list):
            return Expanded(self.document.path, data, self.document.lines)
        values = self._parameters(self.document, data, ())
        steps = self._list(data["steps"], (self.document, ("steps",)), ("steps",), values, ())
        rest: dict[str, Any] = {}
        for key, value in data.items():
            if key not in ("steps", "procedures", "parameters"):
                rest[key] = self._filled(value, (self.document, (key,)), values)
        procedures = data.get("procedures")
        if isinstance(procedures, dict):
            for name in procedures:
                if name not in self.called:
                    self._tell((self.document, ("procedures", name)),
                               f"the procedure {name!r} is never called",
                               f"call: {name}, or remove it")  # fmt: skip
        return Expanded(self.document.path, {**rest, "steps": steps}, self.document.lines,
                        origins=self.origins)  # fmt: skip

    def _tell(self, origin: Origin, what: str, remedy: str = "") -> None:
        document, keys = origin
        problem = Problem(document.where(*keys), what, remedy)
        if problem not in self.problems:
            self.problems.append(problem)

    def _parameters(
        self, document: YamlDocument, data: dict[str, Any], keys: Keys
    ) -> dict[str, Any]:
        """Return the parameters' own values; one without a value must be given by a call."""
        given = data.get("parameters")
        if given is None:
            return {}
        if not isinstance(given, dict):
            self._tell((document, (*keys, "parameters")), "parameters must be names and values",
                       "parameters: {rate: C/3}")  # fmt: skip
            return {}
        for name, value in given.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]*", str(name), re.ASCII) or name in EACH:
                self._tell((document, (*keys, "parameters", name)),
                           f"{name!r} is no name of a parameter", "a-z, 0-9 and _")  # fmt: skip
            elif isinstance(value, dict | list | bool):
                self._tell((document, (*keys, "parameters", name)),
                           f"{name}: a parameter is one text or number", "rate: C/3")  # fmt: skip
        return dict(given)

    def _filled(self, value: Any, origin: Origin, values: dict[str, Any]) -> Any:
        unknown: set[str] = set()
        filled = substitute(value, {k: v for k, v in values.items() if v is not None}, unknown)
        for name in sorted(unknown):
            if name in values:
                self._tell(origin, f"the parameter {name!r} has no value",
                           f"parameters: {{{name}: …}}, or with: {{{name}: …}}")  # fmt: skip
            else:
                near = difflib.get_close_matches(name, values, n=1)
                hint = f"did you mean ${near[0]}?" if near else f"parameters: {{{name}: …}}"
                self._tell(origin, f"there is no parameter {name!r}", hint)
        return filled

    def _list(
        self, entries: list[Any], origin: Origin, to: Keys, values: dict[str, Any],
        calls: tuple[str, ...],
    ) -> list[Any]:  # fmt: skip
        """Return entries written out, to stand at `to`."""
        result: list[Any] = []
        for i, entry in enumerate(entries):
            place = (origin[0], (*origin[1], i))
            if len(to) > 2 * DEEPEST:
                self._tell(place, "steps are nested too deeply", f"at most {DEEPEST} levels")
                break
            for made, source, inner, trail in self._entry(entry, place, values, calls):
                self._count += 1
                if self._count > MOST_ENTRIES:
                    self._tell(place, f"the file expands to more than {MOST_ENTRIES} steps",
                               "repeat: {times: …} where the values are the same")  # fmt: skip
                    return result
                at = (*to, len(result))
                self.origins[at] = source
                result.append(self._filled_entry(made, source, at, inner, trail))
        return result

    def _filled_entry(
        self, entry: Any, origin: Origin, at: Keys, values: dict[str, Any], calls: tuple[str, ...]
    ) -> Any:
        if not isinstance(entry, dict):
            return self._filled(entry, origin, values)
        lists = [key for key in ("steps", "else") if isinstance(entry.get(key), list)]
        filled = self._filled({k: v for k, v in entry.items() if k not in lists}, origin, values)
        for key in lists:
            filled[key] = self._list(entry[key], (origin[0], (*origin[1], key)), (*at, key),
                                     values, calls)  # fmt: skip
        return filled

    def _entry(
        self, entry: Any, place: Origin, values: dict[str, Any], calls: tuple[str, ...]
    ) -> list[tuple[Any, Origin, dict[str, Any], tuple[str, ...]]]:
        """Return what one entry stands for: entries, their places, their values, their calls."""
        if isinstance(entry, dict) and isinstance(entry.get("call"), str) and "steps" not in entry:
            return self._call(entry, place, values, calls)
        repeat = entry.get("repeat") if isinstance(entry, dict) else None
        words = [w for w in EACH if isinstance(repeat, dict) and isinstance(repeat.get(w), list)]
        if len(words) != 1 or len(repeat or {}) != 1 or not (repeat or {})[words[0]]:
            return [(entry, place, values, calls)]
        assert isinstance(repeat, dict)  # noqa: S101  (a word was found in it)
        return [
            ({**entry, "repeat": {"times": 1}}, place, {**values, words[0]: value}, calls)
            for value in self._filled(repeat[words[0]], place, values)
        ]

    def _call(
        self, entry: dict[str, Any], place: Origin, values: dict[str, Any], calls: tuple[str, ...]
    ) -> list[tuple[Any, Origin, dict[str, Any], tuple[str, ...]]]:
        name = entry["call"]
        given = self._filled(entry.get("with") or {}, place, values)
        extra = sorted(set(entry) - {"call", "with"})
        if extra or not isinstance(given, dict):
            self._tell(place, f"a call has a name and with, not {', '.join(extra) or given!r}",
                       "call: name, with: {rate: C/3}")  # fmt: skip
            return []
        found = self._procedure(name, place)
        if found is None:
            return []
        document, keys, body = found
        mark = f"{document.path}:{'.'.join(map(str, keys))}"
        if mark in calls:
            self._tell(place, f"{name!r} calls itself", "repeat: {times: …}")
            return []
        own = self._parameters(document, body, keys)
        for unknown in sorted(set(given) - set(own)):
            near = difflib.get_close_matches(unknown, own, n=1)
            self._tell(place, f"{name} has no parameter {unknown!r}",
                       f"did you mean {near[0]!r}?" if near else
                       f"it has {', '.join(own) or 'none'}")  # fmt: skip
        inner = {**own, **given}
        for missing in [n for n, v in inner.items() if v is None]:
            self._tell(place, f"{name} needs {missing}", f"with: {{{missing}: …}}")
            return []
        steps = body.get("steps")
        if not isinstance(steps, list) or not steps:
            self._tell((document, keys), f"{name!r} has no steps", "steps: [...]")
            return []
        made = []
        for i, step in enumerate(steps):
            source = (document, (*keys, "steps", i))
            for item in self._entry(step, source, inner, (*calls, mark)):
                made.append(item)
                if len(made) > MOST_ENTRIES:
                    return made
        return made

    def _procedure(
        self, name: str, place: Origin
    ) -> tuple[YamlDocument, Keys, dict[str, Any]] | None:
        """Return a procedure of the same file, or another protocol."""
        document = place[0]
        known = document.data.get("procedures")
        known = known if isinstance(known, dict) else {}
        if name in known:
            if document is self.document:
                self.called.add(name)
            if not isinstance(known[name], dict):
                self._tell((document, ("procedures", name)), "a procedure has steps",
                           "steps: [...]")  # fmt: skip
                return None
            return document, ("procedures", name), known[name]
        try:
            other = self.other(name)
        except BatterylabError as error:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else error.hint or ""
            self._tell(place, f"there is no procedure or protocol {name!r}", hint)
            return None
        if not isinstance(other.data, dict):
            self._tell(place, f"{other.path.name} is no protocol", "a file with schema: and steps:")
            return None
        return other, (), other.data


def expand(
    document: YamlDocument, other: Callable[[str], YamlDocument]
) -> tuple[Expanded, list[Problem]]:
    """Return a file written out, and the mistakes found on the way."""
    expander = Expander(document, other)
    return expander.expand(), expander.problems
