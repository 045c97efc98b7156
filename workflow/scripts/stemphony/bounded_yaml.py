"""YAML of bounded size: aliases and nesting cannot make a small file fill the memory."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import yaml

LARGEST_CHARACTERS: Final = 5_000_000
"""Most characters of a config. The largest real configs have about 100 kB."""
LARGEST_NODES: Final = 200_000
"""Most values and keys of a file. An alias counts as many as the block that it repeats."""
DEEPEST: Final = 50
"""Most levels of nested blocks. A config has at most 5 levels."""
LONGEST_NUMBER: Final = 400
"""Most characters of a number. YAML reads 1:1:1 in base 60. The time for that grows with the square of the length."""
_NUMBERS: Final = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def load(text: str, loader: type[Any] | None = None) -> Any:
    """Return the content of a YAML text.

    Parameters
    ----------
    text : str
        The whole text, at most `LARGEST_CHARACTERS` long.
    loader : class, optional
        Loader of PyYAML; by default the safe one, in C where PyYAML has it.

    Returns
    -------
    object
        Content of the text; None for an empty text.

    Raises
    ------
    yaml.YAMLError
        The text is no YAML, or it exceeds one of the limits above. The attribute `problem` quotes no value.
    """
    if len(text) > LARGEST_CHARACTERS:
        raise yaml.MarkedYAMLError(problem=f"it has {len(text)} characters; allowed are {LARGEST_CHARACTERS}")
    fastest: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    kind: Any = loader or fastest
    _refuse_depth(text, fastest)
    reader = kind(text)
    try:
        node = reader.get_single_node()
        if node is None:
            return None
        _nodes(node, {}, 0)
        return reader.construct_document(node)
    except RecursionError:
        raise yaml.MarkedYAMLError(problem=_too_deep()) from None
    except yaml.YAMLError:
        raise
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError):
        # For example, a date that does not exist, or a number of thousands of digits. The text of this error may quote
        # the value, so it is not passed on.
        raise yaml.MarkedYAMLError(
            problem="a value looks like a date or a number, but is not a valid one. If it is text, put it in quotes"
        ) from None
    finally:
        reader.dispose()


def _refuse_depth(text: str, loader: Any) -> None:
    """Refuse deep nesting before nodes are made. The loader in C recurses, so deep nesting would crash the process."""
    depth = 0
    with suppress(yaml.YAMLError):  # the caller's loader reports other mistakes
        for event in yaml.parse(text, loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                break
    if depth > DEEPEST:
        raise yaml.MarkedYAMLError(problem=_too_deep())


def _nodes(node: Any, known: dict[int, int], depth: int) -> int:
    """Number of values of a node and below it. An alias counts as many as the block that it repeats."""
    if depth > DEEPEST:
        raise yaml.MarkedYAMLError(problem=_too_deep(), problem_mark=node.start_mark)
    if id(node) in known:
        return known[id(node)]
    total = 1
    if node.tag in _NUMBERS and isinstance(node, yaml.ScalarNode) and len(node.value) > LONGEST_NUMBER:
        raise yaml.MarkedYAMLError(
            problem=f"a number has more than {LONGEST_NUMBER} characters. Put it in quotes if it is text",
            problem_mark=node.start_mark,
        )
    if isinstance(node, yaml.MappingNode):
        total += sum(_nodes(part, known, depth + 1) for pair in node.value for part in pair)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_nodes(part, known, depth + 1) for part in node.value)
    if total > LARGEST_NODES:
        raise yaml.MarkedYAMLError(
            problem=f"with its aliases written out it has more than {LARGEST_NODES} values",
            problem_mark=node.start_mark,
        )
    known[id(node)] = total
    return total


def _too_deep() -> str:
    return f"its blocks are nested more than {DEEPEST} deep"
