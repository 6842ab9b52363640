"""The command `igmpconf`: finds the verb, and turns every error into one message and one exit code.

Verbs are imported when they are used, so that `igmpconf validate` does not wait for SSH.  Data goes to stdout, talk to
stderr.  Exit codes: 0 done, 1 other, 2 there are changes, 3 bad input, 4 stale plan, 5 unreachable or refused,
6 device refused the change, 7 rolled back, 8 in doubt, 9 kernel, 64 usage.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback

import click

from igmpconf.errors import IgmpconfError, InputError

USAGE = 64  # EX_USAGE of sysexits.h

# verb -> (module below igmpconf.cli, attribute)
_VERBS = {
    "validate": ("validate", "validate"),
    "render": ("validate", "render"),
    "plan": ("plan", "plan"),
    "apply": ("apply", "apply"),
    "confirm": ("apply", "confirm"),
    "cancel": ("apply", "cancel"),
    "discard": ("discard", "discard"),
    "merge": ("merge", "merge"),
    "drift": ("plan", "drift"),
    "history": ("history", "history"),
    "rollback": ("history", "rollback"),
    "show": ("show", "show"),
    "sniff": ("sniff", "sniff"),
    "doctor": ("doctor", "doctor"),
    "logs": ("logs", "logs"),
    "import": ("import_", "import_"),
    "adopt": ("adopt", "adopt"),
    "export": ("export", "export"),
    "report": ("report", "report"),
    "replay": ("replay", "replay"),
    "agent": ("agent", "agent"),
    "schema": ("schema", "schema"),
    "explain": ("schema", "explain"),
    "lab": ("lab", "lab"),
    "demo": ("demo", "demo"),
}


class _Verbs(click.Group):
    """A group whose commands are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module, attribute = _VERBS[cmd_name]
        command = getattr(importlib.import_module(f"igmpconf.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchOption:
            raise
        except click.UsageError as error:
            import difflib  # noqa: PLC0415 - only for those who mistyped

            near = difflib.get_close_matches(args[0], _VERBS, n=1)
            raise click.UsageError(f"no command {args[0]!r}" + (f"; did you mean {near[0]!r}?" if near else "")) from error


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="igmpconf", prog_name="igmpconf")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def cli(ctx: click.Context, *, debug: bool) -> None:
    """Declarative configuration of IGMP/MLD proxies: YAML, plan, transactional apply over SSH."""
    ctx.ensure_object(dict)
    ctx.obj["debug"] = debug


def report(error: IgmpconfError) -> None:
    """The message, every diagnostic it carries, and the hint, on stderr."""
    if isinstance(error, InputError):
        for diagnostic in error.diagnostics:
            text = getattr(diagnostic, "text", None)
            click.echo(text() if callable(text) else str(diagnostic), err=True)
    if error.message:
        click.echo(f"igmpconf: {error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)


def run(arguments: list[str] | None = None) -> int:
    """Run one command line inside a program that goes on afterwards, and return its exit code."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _run(arguments)
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _run(arguments: list[str] | None) -> int:
    is_debugging = "--debug" in (arguments if arguments is not None else sys.argv[1:])
    try:
        result = cli.main(args=arguments, prog_name="igmpconf", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.ClickException as error:  # a file that click could not open
        click.echo(f"igmpconf: {error.format_message()}", err=True)
        return InputError.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):  # click takes any end of file for that of a person's input
            return _mistake(error.__cause__, is_debugging=is_debugging)
        click.echo("igmpconf: stopped; nothing was changed", err=True)
        return 1
    except IgmpconfError as error:
        report(error)
        if is_debugging:
            traceback.print_exc()
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that flushing at exit does not complain again
        return 0
    except Exception as error:  # noqa: BLE001 - the last stop
        return _mistake(error, is_debugging=is_debugging)
    return result if isinstance(result, int) else 0


def _mistake(error: BaseException, *, is_debugging: bool) -> int:
    """One of ours: said in one line, not in forty."""
    if is_debugging:
        traceback.print_exception(error)
    else:
        click.echo(f"igmpconf: {type(error).__name__}: {error}", err=True)
        click.echo("hint: this is a mistake in igmpconf; run it again with `igmpconf --debug ...` and report the traceback", err=True)
    return 1


def main() -> None:
    """Entry point of the program.

    Once every device of an apply has ended, Ctrl-C is ignored until the process has said so and is gone; it would claim
    that nothing was changed, or end in silence.
    """
    sys.exit(_run(None))


if __name__ == "__main__":
    main()
