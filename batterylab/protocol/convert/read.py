"""Read other programs' protocols: PyBaMM's sentences and aurora-unicycler's JSON."""

import io
import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from batterylab.errors import BatterylabError
from batterylab.protocol.convert.pybammstrings import from_pybamm
from batterylab.protocol.convert.unicycler import from_unicycler
from batterylab.protocol.language import ProtocolFile
from batterylab.yamlfile import YamlDocument, validate

LARGEST_bytes = 5_000_000


def read_protocol(path: Path, name: str) -> str:
    """Return a protocol file for a JSON file of another program.

    Parameters
    ----------
    path : Path
        A list of PyBaMM's sentences, the arguments of `pybamm.Experiment` as `convert` writes
        them, or unicycler's JSON.
    name : str
        What the protocol shall be called.

    Returns
    -------
    str
        YAML, checked.

    Raises
    ------
    BatterylabError
        If the file cannot be read, or holds what has no counterpart here.
    """
    return to_yaml(_content(_json(path), path, name), path)


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > LARGEST_bytes:
            raise BatterylabError(f"{path}: larger than {LARGEST_bytes} bytes")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BatterylabError(f"{path}: not JSON: {error}") from None


def _content(data: Any, path: Path, name: str) -> dict[str, Any]:
    if isinstance(data, dict) and "method" in data:
        try:
            return from_unicycler(data, name)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BatterylabError(f"{path}: not unicycler's JSON: {error!r}") from None
    sentences = data.get("operating_conditions") if isinstance(data, dict) else data
    if not isinstance(sentences, list) or not all(isinstance(s, str) for s in sentences):
        raise BatterylabError(
            f"{path}: neither PyBaMM's sentences nor unicycler's JSON",
            hint='["Charge at 1 A for 600 seconds or until 4.2 V", …] or {"method": […]}',
        )
    content = from_pybamm(sentences, name)
    degC = str(data.get("temperature", "")) if isinstance(data, dict) else ""
    if degC.endswith("oC"):
        content["chamber"] = {"temperature": f"{degC.removesuffix('oC')} degC"}
    return content


def to_yaml(content: dict[str, Any], path: Path) -> str:
    """Return a protocol file's content as text that the language accepts.

    Raises
    ------
    ProblemsError
        With every part that it does not.
    """
    validate(YamlDocument(path, content, {}), ProtocolFile)
    stream = io.StringIO()
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(content, stream)
    return stream.getvalue()
