"""Read the YAML files that people write, and say every mistake with its line.

Safe YAML only. A file is refused when it is not UTF-8, larger than 1 MiB, repeats a key, uses
a tab for indentation, or expands through its aliases into more than 100,000 nodes.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from batterylab.errors import BatterylabError, Problem, ProblemsError

LARGEST_BYTES = 1 << 20
MOST_NODES = 100_000
DEEPEST = 60
MOST_BRACKETS = 500

Model = TypeVar("Model", bound=BaseModel)
Path_ = tuple[str | int, ...]


@dataclass
class YamlDocument:
    """A file as plain Python, and where each of its keys stands.

    Attributes
    ----------
    path : Path
        The file.
    data : object
        Dicts, lists, strings, numbers, booleans and None.
    """

    path: Path
    data: Any
    lines: dict[Path_, int] = field(default_factory=dict)

    def line(self, *keys: str | int) -> int:
        """Return the line of the key, or of the nearest parent that stands in the file."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return self.lines.get(keys, 1)

    def where(self, *keys: str | int) -> str:
        """Return file, line and dotted key, as a `Problem` wants it."""
        dotted = ".".join(str(key) for key in keys)
        return f"{self.path.name}:{self.line(*keys)}" + (f" ({dotted})" if dotted else "")


def _refuse(path: Path, line: int, what: str, remedy: str = "") -> ProblemsError:
    return ProblemsError([Problem(f"{path.name}:{line}", what, remedy)])


def _read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise BatterylabError(f"{path}: there is no such file") from None
    except OSError as error:
        raise BatterylabError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > LARGEST_BYTES:
        raise _refuse(path, 1, f"the file holds {len(raw)} bytes", f"at most {LARGEST_BYTES}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise _refuse(path, line, "not UTF-8", "save the file as UTF-8") from None
    depth = 0
    for number, content in enumerate(text.splitlines(), 1):
        if re.match(r" *\t", content):
            raise _refuse(path, number, "a tab in the indentation", "indent with spaces")
        depth += sum(map(content.count, "[{")) - sum(map(content.count, "]}"))
        if depth > MOST_BRACKETS:
            raise _refuse(path, number, "the file is nested too deeply")
    return text


class _Builder:
    """Turn YAML nodes into plain Python, counting what aliases expand to."""

    def __init__(self, path: Path, scalars: Any) -> None:
        self.path = path
        self.scalars = scalars
        self.lines: dict[Path_, int] = {}
        self.problems: list[Problem] = []
        self.nodes = 0

    def build(self, node: Node, keys: Path_) -> Any:
        self.nodes += 1
        line = node.start_mark.line + 1
        if self.nodes > MOST_NODES or len(keys) > DEEPEST:
            raise _refuse(self.path, line, "the file expands to too many values",
                          "write it without nested anchors and aliases")  # fmt: skip
        self.lines.setdefault(keys, line)
        if not str(node.tag).startswith("tag:yaml.org,2002:") or "python/" in str(node.tag):
            raise _refuse(self.path, line, f"the tag {node.tag} is not read", "plain values only")
        if isinstance(node, MappingNode):
            return self._mapping(node, keys)
        if isinstance(node, SequenceNode):
            return [self.build(item, (*keys, i)) for i, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: MappingNode, keys: Path_) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                raise _refuse(self.path, line, "a key must be a word")
            if str(key_node.tag).endswith(":merge"):
                raise _refuse(self.path, line, "'<<' merges are not read", "repeat the keys")
            key = str(key_node.value)
            if key in result:
                self.problems.append(
                    Problem(f"{self.path.name}:{line}", f"the key {key!r} stands twice", "keep one")
                )
                continue
            self.lines[(*keys, key)] = line
            result[key] = self.build(value_node, (*keys, key))
        return result

    def _scalar(self, node: Node) -> Any:
        tag = str(node.tag)
        line = node.start_mark.line + 1
        text = str(node.value)
        if tag.endswith((":int", ":float")) and len(text) > 40:
            raise _refuse(self.path, line, f"the number {text[:40]}… is too long")
        if tag.endswith(":timestamp"):
            return text
        try:
            return self.scalars.construct_object(node)
        except (YAMLError, ValueError, OverflowError, AttributeError) as error:
            raise _refuse(self.path, line, f"{text[:60]!r} cannot be read: {error}") from None


def load_yaml(path: Path) -> YamlDocument:
    """Read a YAML file into plain Python.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    YamlDocument
        The data, with the line of every key.

    Raises
    ------
    BatterylabError
        If the file is missing or unreadable.
    ProblemsError
        If it is not safe YAML in UTF-8.
    """
    path = Path(path)
    text = _read_text(path)
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
        if node is None:
            raise _refuse(path, 1, "the file is empty")
        _cycle_free(node, path)
        builder = _Builder(path, yaml.constructor)
        data = builder.build(node, ())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        what = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise _refuse(path, line, f"not YAML: {what}", "check indentation and quotes") from None
    except YAMLError as error:
        raise _refuse(path, 1, f"not YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise _refuse(path, 1, "the file is nested too deeply") from None
    if builder.problems:
        raise ProblemsError(builder.problems)
    return YamlDocument(path, data, builder.lines)


def _cycle_free(node: Node, path: Path) -> None:
    """Refuse an anchor that contains itself."""
    active: set[int] = set()
    done: set[int] = set()

    def visit(current: Node) -> None:
        if id(current) in active:
            line = current.start_mark.line + 1
            raise _refuse(path, line, "an anchor contains itself", "remove the alias")
        if id(current) in done or isinstance(current, ScalarNode):
            return
        active.add(id(current))
        for item in current.value:
            for child in item if isinstance(item, tuple) else (item,):
                visit(child)
        active.discard(id(current))
        done.add(id(current))

    visit(node)


def read_model(path: Path, model: type[Model]) -> Model:
    """Read a YAML file into a pydantic model.

    Parameters
    ----------
    path : Path
        The file.
    model : type
        The model. If it has a field named ``schema_``, the file's ``schema`` is held against
        the field's default, such as ``batterylab.study/1``, and a newer one is refused by name.

    Returns
    -------
    model
        The validated content.

    Raises
    ------
    ProblemsError
        With every mistake: file, line, key, the offending text, the remedy.
    """
    document = load_yaml(path)
    return validate(document, model)


def validate(document: YamlDocument, model: type[Model]) -> Model:
    """Hold a loaded document against a model; see `read_model`."""
    if not isinstance(document.data, dict):
        what = "the file must hold keys and values"
        raise _refuse(document.path, 1, what, "start with 'schema:'")
    _check_schema(document, model)
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        raise ProblemsError(problems_of(error, document, model)) from None


def _check_schema(document: YamlDocument, model: type[BaseModel]) -> None:
    schema_field = model.model_fields.get("schema_")
    if schema_field is None:
        return
    wanted = str(schema_field.default)
    found = document.data.get("schema")
    if found == wanted:
        return
    kind, _, number = wanted.partition("/")
    found_kind, _, found_number = str(found).partition("/")
    if found is None:
        what = "there is no schema"
    elif found_kind == kind and found_number.isdigit() and int(found_number) > int(number):
        what = f"schema {found!r} is newer than this batterylab reads"
    else:
        what = f"schema {found!r} is not the one of this file"
    problem = Problem(document.where("schema"), what, f"write 'schema: {wanted}'")
    raise ProblemsError([problem])


def problems_of(
    error: ValidationError, document: YamlDocument, model: type[BaseModel]
) -> list[Problem]:
    """Return pydantic's errors as problems with line and remedy."""
    problems: list[Problem] = []
    for item in error.errors(include_url=False):
        keys = _keys_in_file(item["loc"], document)
        text = item["msg"].removeprefix("Value error, ")
        what, _, remedy = text.partition("\n  hint: ")
        offending = item.get("input")
        if item["type"] == "extra_forbidden":
            what, remedy = f"unknown key {keys[-1]!r}", _near(str(keys[-1]), keys, model)
        elif item["type"] == "missing":
            what = f"the key {keys[-1]!r} is missing"
        elif isinstance(offending, str | int | float) and str(offending) not in what:
            what = f"{str(offending)[:60]!r}: {what}"
        problems.append(Problem(document.where(*keys), what, remedy))
    return problems


def _keys_in_file(location: tuple[str | int, ...], document: YamlDocument) -> Path_:
    """Drop what pydantic adds to a location (union branches), keep what the file holds."""
    keys: Path_ = ()
    data = document.data
    for position, key in enumerate(location):
        if isinstance(data, dict) and key in data:
            data, keys = data[str(key)], (*keys, key)
        elif isinstance(data, list) and isinstance(key, int) and key < len(data):
            data, keys = data[key], (*keys, key)
        elif position == len(location) - 1 and isinstance(data, dict):
            keys = (*keys, key)
    return keys


def _near(word: str, keys: Sequence[str | int], model: type[BaseModel]) -> str:
    beside = [info.alias or name for part in _models_at(keys[:-1], model)
              for name, info in part.model_fields.items()]  # fmt: skip
    for names in (beside, _field_names(model)):
        others = [name for name in names if name != word]
        near = difflib.get_close_matches(word, others, n=1, cutoff=0.5)
        if near:
            return f"did you mean {near[0]!r}?"
    return "remove it"


def _models_at(keys: Sequence[str | int], model: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the models that may stand at a place of a file."""
    models = [model]
    for key in keys:
        if isinstance(key, str):
            models = [
                inner for part in models for name, info in part.model_fields.items()
                if key in (info.alias, name) for inner in _models_in(info.annotation)
            ]  # fmt: skip
    return models


def _field_names(model: type[BaseModel], seen: set[type] | None = None) -> list[str]:
    seen = seen if seen is not None else set()
    if model in seen:
        return []
    seen.add(model)
    names: list[str] = []
    for name, info in model.model_fields.items():
        names.append(info.alias or name)
        for part in _models_in(info.annotation):
            names += _field_names(part, seen)
    return names


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _models_in(part)]
