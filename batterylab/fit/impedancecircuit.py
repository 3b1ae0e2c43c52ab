r"""Circuits written as text: ``R0-p(R1,CPE1)-W1`` is R0 in series with R1 beside CPE1, and W1.

``-`` joins in series, ``p(a,b,...)`` in parallel; they nest. An element is one of the names
below with a number or a name of its own, such as ``R0`` or ``CPEdl``:

=======  ===============================  ==============================================
``R``    resistor                         R
``C``    capacitor                        1 / (iωC)
``L``    inductor                         iωL
``CPE``  constant-phase element           1 / (Q (iω)^α)
``W``    Warburg, semi-infinite           A (1 - i) / √ω
``Wo``   Warburg, blocked at its end      Z coth(√(iωτ)) / √(iωτ)
``Ws``   Warburg, shorted at its end      Z tanh(√(iωτ)) / √(iωτ)
=======  ===============================  ==============================================

The text is parsed, never executed. Sources: M. E. Orazem, B. Tribollet, *Electrochemical
Impedance Spectroscopy*, 2nd ed. (2017), chapters 9, 11 and 14; the notation is that of
impedance.py.
"""

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batterylab._kernels import _impedance
from batterylab.errors import BatterylabError
from batterylab.fit.impedancespme import complex_of, positive_frequencies
from batterylab.fit.solve import checked

Array = NDArray[np.float64]

SERIES, PARALLEL = 0, 1
#: element -> the kernel's number, and the endings of its parameters' names
ELEMENTS: dict[str, tuple[int, tuple[str, ...]]] = {
    "R": (2, ("_mOhm",)),
    "C": (3, ("_F",)),
    "L": (4, ("_nH",)),
    "CPE": (5, ("_Q", "_alpha")),
    "W": (6, ("_mOhm_per_root_s",)),
    "Wo": (7, ("_mOhm", "_tau_s")),
    "Ws": (8, ("_mOhm", "_tau_s")),
}
#: from the kernel's SI units to those of a name's ending
UNITS = {"_mOhm": 1e3, "_mOhm_per_root_s": 1e3, "_nH": 1e9}
MOST_NODES, MOST_PARAMETERS, MOST_DEPTH, MOST_TEXT = 64, 16, 12, 400
_ELEMENT = re.compile(r"(CPE|Wo|Ws|[RCLW])([A-Za-z0-9_]*)")


@dataclass(frozen=True)
class Node:
    """A node of a circuit's tree.

    Attributes
    ----------
    kind : str
        ``series``, ``parallel`` or an element's name.
    name : str
        The element as written, such as ``R1``.
    children : tuple of Node
        Of a series or parallel node.
    """

    kind: str
    name: str = ""
    children: tuple["Node", ...] = ()

    @property
    def shape(self) -> str:
        """The tree without the elements' own names."""
        inner = ",".join(child.shape for child in self.children)
        return f"{self.kind}({inner})" if inner else self.kind


class _Parser:
    """Reads a circuit by recursive descent."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.names: set[str] = set()

    def fail(self, what: str, hint: str = "as in R0-p(R1,CPE1)-W1") -> BatterylabError:
        return BatterylabError(
            f"circuit {self.text[:80]!r}, character {self.place + 1}: {what}", hint=hint
        )

    def skip(self) -> str:
        """Return the next character that is no space, or nothing."""
        while self.place < len(self.text) and self.text[self.place] in " \t":
            self.place += 1
        return self.text[self.place : self.place + 1]

    def series(self, depth: int) -> Node:
        items = [self.item(depth)]
        while self.skip() == "-":
            self.place += 1
            items.append(self.item(depth))
        return items[0] if len(items) == 1 else Node("series", children=_flat(items, "series"))

    def item(self, depth: int) -> Node:
        if depth > MOST_DEPTH:
            raise self.fail(f"nested deeper than {MOST_DEPTH}")
        if self.skip() == "p" and self.text[self.place + 1 : self.place + 2] == "(":
            self.place += 2
            return self.parallel(depth)
        match = _ELEMENT.match(self.text, self.place)
        if not match:
            found = self.text[self.place : self.place + 8]
            raise self.fail(
                f"an element is wanted, not {found!r}" if found else "it ends too early",
                f"elements: {', '.join(ELEMENTS)}; in parallel: p(a,b)",
            )
        if match[0] in self.names:
            raise self.fail(f"{match[0]!r} stands there twice", "number the elements: R0, R1")
        self.names.add(match[0])
        self.place = match.end()
        return Node(match[1], match[0])

    def parallel(self, depth: int) -> Node:
        branches = [self.series(depth + 1)]
        while self.skip() == ",":
            self.place += 1
            branches.append(self.series(depth + 1))
        if self.skip() != ")":
            raise self.fail("')' or ',' is wanted")
        self.place += 1
        if len(branches) < 2:
            raise self.fail("p() joins two branches or more")
        return Node("parallel", children=_flat(branches, "parallel"))


def _flat(nodes: list[Node], kind: str) -> tuple[Node, ...]:
    """Return nodes with those of the same kind opened."""
    return tuple(
        child for node in nodes for child in (node.children if node.kind == kind else (node,))
    )


@dataclass(frozen=True)
class CircuitText:
    """A circuit as the kernel reads it.

    Attributes
    ----------
    text : str
        As written.
    root : Node
        Its tree.
    elements : tuple of Node
        In the order of the text.
    names : tuple of str
        Of the parameters, with their units as endings.
    """

    text: str
    root: Node
    elements: tuple[Node, ...]
    names: tuple[str, ...]

    @cached_property
    def kernel(self) -> _impedance.Tree:
        """The tree, its nodes after their children."""
        kind: list[int] = []
        parent: list[int] = []
        first: list[int] = []

        def put(node: Node) -> int:
            own = [put(child) for child in node.children]
            number = len(kind)
            fixed = {"series": SERIES, "parallel": PARALLEL}
            kind.append(fixed[node.kind] if node.children else ELEMENTS[node.kind][0])
            first.append(0 if node.children else self.place(node.name))
            parent.append(-1)
            for child in own:
                parent[child] = number
            return number

        put(self.root)
        a, b, c = (np.array(values, np.int32) for values in (kind, parent, first))
        return _impedance.Tree(a, b, c, len(self.names))

    def place(self, name: str) -> int:
        """Return where an element's first parameter stands."""
        place = 0
        for node in self.elements:
            if node.name == name:
                return place
            place += len(ELEMENTS[node.kind][1])
        raise KeyError(name)

    @cached_property
    def is_logarithm(self) -> NDArray[np.bool_]:
        """Which of the kernel's parameters are logarithms: all but the exponents."""
        return np.array([not name.endswith("_alpha") for name in self.names])

    @cached_property
    def factors(self) -> Array:
        """From the kernel's units to those of the names."""
        endings = [end for node in self.elements for end in ELEMENTS[node.kind][1]]
        return np.array([UNITS.get(end, 1.0) for end in endings])

    def to_kernel(self, values: ArrayLike) -> Array:
        """Return the kernel's parameters for values in the units of their names.

        Raises
        ------
        BatterylabError
            If there are too few or too many, or one is not above 0.
        """
        own = checked(values, "parameters", length=len(self.names)) / self.factors
        bad = np.flatnonzero(own <= 0)
        if len(bad):
            raise BatterylabError(f"{self.names[bad[0]]} is not above 0")
        result: Array = np.where(self.is_logarithm, np.log(own), own)
        return result

    def from_kernel(self, parameters: Array) -> Array:
        """Return values in the units of their names."""
        own = np.where(self.is_logarithm, np.exp(np.minimum(parameters, 700.0)), parameters)
        return np.asarray(own * self.factors)


def parse_circuit(text: str) -> CircuitText:
    """Return the circuit that a text describes; see the module.

    Raises
    ------
    BatterylabError
        With the character, if it describes none, an element stands there twice, or there are
        more than 16 parameters.
    """
    if len(text) > MOST_TEXT:
        raise BatterylabError(f"a circuit of {len(text)} characters", hint=f"at most {MOST_TEXT}")
    parser = _Parser(text)
    root = parser.series(0)
    if parser.skip():
        raise parser.fail(f"{text[parser.place :][:8]!r} is too much")
    elements = tuple(_leaves(root))
    names = tuple(node.name + end for node in elements for end in ELEMENTS[node.kind][1])
    if len(names) > MOST_PARAMETERS or _count(root) > MOST_NODES:
        raise BatterylabError(
            f"circuit {text[:80]!r}: {len(names)} parameters",
            hint=f"a fit has at most {MOST_PARAMETERS}",
        )
    return CircuitText(text, root, elements, names)


def _leaves(node: Node) -> list[Node]:
    return [leaf for child in node.children for leaf in _leaves(child)] or [node]


def _count(node: Node) -> int:
    return 1 + sum(_count(child) for child in node.children)


def circuit_impedance(
    circuit: CircuitText | str, frequency_Hz: ArrayLike, values: ArrayLike
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Return a circuit's impedance and its derivatives.

    Parameters
    ----------
    circuit : CircuitText or str
        As `parse_circuit` reads it.
    frequency_Hz : array_like, shape (n,)
        Above 0.
    values : array_like, shape (p,)
        In the order and the units of `CircuitText.names`, above 0.

    Returns
    -------
    impedance_ohm : ndarray of complex128, shape (n,)
    jacobian : ndarray of complex128, shape (n, p)
        By the natural logarithms of the values, but for an exponent, which is taken as it is.

    Examples
    --------
    >>> circuit_impedance("R0-p(R1,C1)", [1e-6, 1e9], [10.0, 20.0, 1.0])[0].real.round(4)
    array([0.03, 0.01])
    """
    tree = parse_circuit(circuit) if isinstance(circuit, str) else circuit
    hertz = positive_frequencies(frequency_Hz)
    parameters = tree.to_kernel(values)
    ohm, slopes = np.empty((2, len(hertz))), np.empty((2 * len(hertz), len(tree.names)))
    _impedance.circuit(tree.kernel, 2.0 * np.pi * hertz, parameters, ohm, slopes)
    return complex_of(*ohm), complex_of(slopes[: len(hertz)], slopes[len(hertz) :])

