"""Templates to text: desired states of hosts, written once with variables in place of what differs.

Jinja2 in its sandbox, and an unknown variable is an error, never an empty string.  What comes out is YAML for
`schema/load.py`; bytes for a device never come from a template.  `Origins` leads from a line of what came out back to
the line of the template that made it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

from igmpconf.errors import InputError
from igmpconf.inventory.variables import Environment, Variables, environment

SUFFIX = ".j2"
_MARK = re.compile("\ue000([^\ue000\ue001]*):(\\d+)\ue001")  # private use: in no template of anybody


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a template; `is_literal` if it came out as it is written, so that its columns are those of the template."""

    file: Path
    line: int
    is_literal: bool


def rendered(path: Path, variables: Variables) -> str:
    """The text of a template for one host.  Raises InputError with file and line."""
    return _rendered(environment(*_search(path)), path, variables)


def _search(path: Path) -> tuple[str, str]:
    return str(path.parent), str(path.parent.parent)


def _rendered(made_by: Environment, path: Path, variables: Variables) -> str:
    host = variables.get("inventory_hostname", "this host")
    try:
        return made_by.get_template(path.name).render(variables.context())
    except TemplateSyntaxError as error:
        raise InputError(f"{error.filename or path}:{error.lineno}: {error.message}") from None
    except UndefinedError as error:
        hint = "set it in group_vars, host_vars or the inventory, or use | default(...)"
        raise InputError(f"{_place(error, path)}: {error.message} for {host}", hint=hint) from None
    except TemplateError as error:
        raise InputError(f"{_place(error, path)}: {error.message or type(error).__name__} for {host}") from None
    except InputError as error:  # a variable that is a template itself
        raise InputError(f"{error.message}, used in {_place(error, path)}", hint=error.hint) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # an expression that cannot be computed
        raise InputError(f"{_place(error, path)}: {error} for {host}") from None


def _place(error: Exception, path: Path) -> str:
    """`floor.yaml.j2:12`, the line that was being rendered, in the template or in one that it includes."""
    found = str(path)
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith(SUFFIX):
            found = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


class _Marking(Extension):
    """Writes before the text of every template line where it comes from."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        name = stream.filename or stream.name or ""
        for token in stream:
            if token.type != "data":
                yield token
                continue
            lines = token.value.split("\n")
            # The token begins within a line: what a line begins with marks it, and so does the first piece after a tag.
            marked = [f"\ue000{name}:{token.lineno + i}\ue001{line}" for i, line in enumerate(lines)]
            yield Token(token.lineno, "data", "\n".join(marked))


class Origins:
    """For one rendered text, the template line of each of its lines."""

    def __init__(self, path: Path, variables: Variables, text: str) -> None:
        marked = _rendered(Environment(loader=environment(*_search(path)).loader, extensions=[_Marking]), path, variables)
        self._places: list[Place | None] = []
        self._path = path
        if _MARK.sub("", marked) != text:
            return  # a filter has read the marks: better no place than a wrong one
        sources: dict[str, list[str]] = {}
        before: tuple[str, int] | None = None
        for line in marked.split("\n"):
            said = list(_MARK.finditer(line))
            # What the line begins with, behind the empty rests of tags, is where it comes from.
            telling = next((mark for mark in reversed(said) if not _MARK.sub("", line[: mark.start()]).strip()), None)
            at = (telling[1], int(telling[2])) if telling is not None else before
            before = (said[-1][1], int(said[-1][2])) if said else before
            self._places.append(None if at is None else self._made(at, _MARK.sub("", line), sources))

    @staticmethod
    def _made(at: tuple[str, int], line: str, sources: dict[str, list[str]]) -> Place:
        name, number = at
        if name not in sources:
            sources[name] = Path(name).read_text(encoding="utf-8").splitlines()
        written = sources[name][number - 1] if 0 < number <= len(sources[name]) else ""
        return Place(Path(name), number, is_literal=written == line)

    def place(self, line: int) -> Place | None:
        """Where line `line` (from 1) comes from; None when nobody can tell."""
        return self._places[line - 1] if 0 < line <= len(self._places) else None
