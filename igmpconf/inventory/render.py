"""Templates to text: desired states of hosts, written once with variables in place of what differs.

Jinja2 in its sandbox, and an unknown variable is an error, never an empty string.  What comes out is YAML for
`schema/load.py`; bytes for a device never come from a template.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import SandboxedEnvironment

from igmpconf.errors import InputError

SUFFIX = ".j2"


def rendered(path: Path, variables: Mapping[str, Any]) -> str:
    """The text of a template for one host.  Raises InputError with file and line."""
    environment = SandboxedEnvironment(loader=FileSystemLoader([path.parent, path.parent.parent]), undefined=StrictUndefined, keep_trailing_newline=True)
    try:
        return environment.get_template(path.name).render(variables)
    except TemplateSyntaxError as error:
        raise InputError(f"{error.filename or path}:{error.lineno}: {error.message}") from None
    except UndefinedError as error:
        host = variables.get("inventory_hostname", "this host")
        raise InputError(
            f"{path}{_line(error)}: {error.message} for {host}", hint="set it in group_vars, host_vars or the inventory, or use | default(...)"
        ) from None
    except TemplateError as error:
        raise InputError(f"{path}{_line(error)}: {error.message or type(error).__name__}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def _line(error: Exception) -> str:
    """`:12`, the line of the template that was being rendered."""
    line = ""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith(SUFFIX):
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line
