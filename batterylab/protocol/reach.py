"""Which ways lead through a protocol: every jump lands further on, every step can be reached.

Ends lead to marks that stand further on, in the same list or in one around it. So nothing but
`repeat` and `until` goes back, both are bounded, and every protocol comes to an end.
"""

import difflib
from collections.abc import Iterator

from batterylab.protocol.form import If, Mark, Node, Repeat, Step, Until, children, walk
from batterylab.protocol.steps import WORDS_THEN

#: path of a step, keys below it, what is wrong, the remedy
Found = tuple[str, tuple[str | int, ...], str, str]


def reach_problems(nodes: tuple[Node, ...]) -> list[Found]:
    """Return what is wrong with the ways through a protocol."""
    targets = {then for step in walk(nodes) for then in exits(step)} - set(WORDS_THEN)
    return [
        *_marks(nodes),
        *_jumps(nodes, frozenset()),
        *_unreached(nodes, targets),
        *_measures(nodes, set()),
    ]


def exits(step: Step) -> list[str]:
    """Return every way out of a step: ``next``, ``finish``, ``fail`` or a mark."""
    return [step.on_time, *(end.then for end in (*step.ends, *step.stops))]


def _first_path(nodes: tuple[Node, ...]) -> str:
    return next((step.path for step in walk(nodes)), "steps[0]")


def _marks(nodes: tuple[Node, ...]) -> Iterator[Found]:
    """Marks of one list that ends lead to must differ."""
    targets = {then for step in walk(nodes) for then in exits(step)}
    seen: set[str] = set()
    for i, node in enumerate(nodes):
        if isinstance(node, Mark):
            if node.name in seen & targets:
                before = [step.path for step in walk(nodes[:i])]
                yield before[-1], (), f"the mark {node.name!r} stands twice", "two names"
            seen.add(node.name)
        for body in children(node):
            yield from _marks(body)


def _jumps(nodes: tuple[Node, ...], around: frozenset[str]) -> Iterator[Found]:
    for i, node in enumerate(nodes):
        ahead = around | {n.name for n in nodes[i + 1 :] if isinstance(n, Mark)}
        if isinstance(node, Step):
            for then in dict.fromkeys(exits(node)):
                if then not in ahead and then not in WORDS_THEN:
                    near = difflib.get_close_matches(then, ahead, n=1)
                    yield (
                        node.path, (), f"there is no mark {then!r} further on",
                        f"did you mean {near[0]!r}?" if near
                        else f"- mark: {then}, after this step and not inside another block",
                    )  # fmt: skip
        for body in children(node):
            yield from _jumps(body, ahead)


def goes_on(nodes: tuple[Node, ...], targets: set[str]) -> bool:
    """Return whether a way leads from the begin of a list of nodes to its end."""
    return next(_dead(nodes, targets), None) is None and (not nodes or _passes(nodes[-1], targets))


def _passes(node: Node, targets: set[str]) -> bool:
    if isinstance(node, Step):
        return "next" in exits(node)
    if isinstance(node, If):
        return goes_on(node.body, targets) or goes_on(node.otherwise, targets)
    return goes_on(node.body, targets) if isinstance(node, Repeat | Until) else True


def _dead(nodes: tuple[Node, ...], targets: set[str]) -> Iterator[int]:
    """Yield the places in a list that no way leads to."""
    is_open = True
    for i, node in enumerate(nodes):
        if isinstance(node, Mark) and node.name in targets:
            is_open = True
        if not is_open:
            yield i
            is_open = True
        is_open = is_open and _passes(node, targets)


def _unreached(nodes: tuple[Node, ...], targets: set[str]) -> Iterator[Found]:
    for i in _dead(nodes, targets):
        yield (_first_path(nodes[i:]), (), "no way leads to this step",
               "let an end before it say then: next, or remove it")  # fmt: skip
    for node in nodes:
        for body in children(node):
            yield from _unreached(body, targets)


def _measures(nodes: tuple[Node, ...], known: set[str]) -> Iterator[Found]:
    """What is a share of a measure comes after that measure; `known` grows on the way."""
    for node in nodes:
        if isinstance(node, Step):
            names = [end.of for end in (*node.ends, *node.stops) if end.of]
            names += [node.rate_of] if node.rate_of else []
            for name in dict.fromkeys(names):
                if name not in known:
                    yield _unknown(node.path, name, known)
            if node.measure:
                known.add(node.measure)
        elif isinstance(node, If):
            path = _first_path(node.body)
            for name in {node.measure, node.limit.of} - {"", "first"}:
                if name not in known:
                    yield _unknown(path, name, known)
            branches = [set(known), set(known)]
            yield from _measures(node.body, branches[0])
            yield from _measures(node.otherwise, branches[1])
            known |= branches[0] & branches[1]
        elif isinstance(node, Repeat | Until):
            yield from _measures(node.body, known)
            of = node.limit.of if isinstance(node, Until) and node.limit else ""
            if of not in known | {"", "first"}:
                yield _unknown(_first_path(node.body), of, known)


def _unknown(path: str, name: str, known: set[str]) -> Found:
    near = difflib.get_close_matches(name, known, n=1)
    return (
        path, (), f"nothing before this step measures {name!r}",
        f"did you mean {near[0]!r}?" if near else f"measure: {name}, beside an earlier step",
    )  # fmt: skip
