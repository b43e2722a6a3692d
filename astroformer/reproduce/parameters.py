"""What papermill gave a page. The names and types are those of the page's parameters cell, or the
page stops before anything else runs.

papermill writes what it was given into a cell of its own behind the parameters cell. It knows no
types (`-p data_dir 2024` is a number to it), and of a name that the page does not have it only
warns. `check`, the first call of every page, finds both cells among those that the kernel has
executed. Where papermill gave nothing there is nothing to check.
"""

import ast
import difflib
import math
from collections.abc import Iterable, Mapping

from ..recipes.recipe import converted

INJECTED = "# Parameters"  # the first line of papermill's cell
OWN = "PAPERMILL_"  # begins the names that papermill --inject-paths adds
KINDS: dict[str, type] = {kind.__name__: kind for kind in (str, int, float, bool)}
NEAR = 0.5  # a name less alike is not called the nearest


class ParameterError(ValueError):
    """A parameter that the page does not have, or a value that is not of its type."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook prints of it: one line."""
        return [f"{type(self).__name__}: {self}"]


def check() -> None:
    """Holds what papermill gave this page to the page's parameters, and gives each value its
    parameter's type. To be called by a page's first cell behind its parameters.

    ParameterError in one line for a name that the page does not have, with the nearest one, and
    for a value that is not of the type.
    """
    try:
        from IPython import get_ipython
    except ImportError:
        return
    shell = get_ipython()
    if shell is None:  # a page that is run as a plain program
        return
    cells = [cell.strip() for cell in shell.history_manager.input_hist_raw]
    injected = [cell for cell in cells if cell.startswith(INJECTED)]
    if not injected:
        return
    kinds: dict[str, type | None] = {}
    for cell in cells:
        kinds |= {} if cell.startswith(INJECTED) else declared(cell)
    names = [name for name in assigned(injected[-1]) if not name.startswith(OWN)]
    shell.user_ns.update(checked({name: shell.user_ns[name] for name in names}, kinds))


def declared(source: str) -> dict[str, type | None]:
    """Names and types of the typed lines of a cell, such as `epochs: int = 3`. None for a type
    that is not in KINDS, whose values are left as they are.
    """
    return {
        statement.target.id: KINDS.get(ast.unparse(statement.annotation))
        for statement in _statements(source)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }


def assigned(source: str) -> list[str]:
    """The names that a cell gives values, in order."""
    return [
        target.id
        for statement in _statements(source)
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    ]


def _statements(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except SyntaxError:  # a cell of another purpose, with a magic
        return []


def checked(
    values: Mapping[str, object], kinds: Mapping[str, type | None], whose: str = "this page"
) -> dict[str, object]:
    """The values as their parameters' types. ParameterError for the first that has none."""
    unknown = [name for name in values if name not in kinds]
    if unknown:
        raise ParameterError(
            f"{whose} has no parameter {'; no parameter '.join(_named(unknown, kinds))}. "
            f"It has: {', '.join(kinds) or 'none'}"
        )
    return {name: _typed(name, value, kinds[name], whose) for name, value in values.items()}


def _named(unknown: Iterable[str], known: Iterable[str]) -> list[str]:
    """Each unknown name with the nearest known one."""
    near = {name: difflib.get_close_matches(name, [*known], 1, NEAR) for name in unknown}
    return [
        f"{name} (the nearest is {found[0]})" if found else name for name, found in near.items()
    ]


def _typed(name: str, value: object, kind: type | None, whose: str) -> object:
    if kind is None:
        return value
    if kind is str:
        return _text(name, value, whose)
    try:
        if kind is not bool and isinstance(value, bool):
            raise ValueError(f"{whose}: {name} {value} is no number")
        return converted(kind, value, whose, name)
    except ValueError as error:
        raise ParameterError(str(error)) from None


def _text(name: str, value: object, whose: str) -> str:
    """The words that were typed. papermill has made a number of those that look like one, which
    gives back the words only if it is a plain one.
    """
    if isinstance(value, str):
        return value
    plain = str(value)
    if isinstance(value, (bool, int)) or (
        isinstance(value, float) and math.isfinite(value) and "e" not in plain
    ):
        return plain
    raise ParameterError(
        f"{whose}: {name} is a text, and papermill read {value!r} from what was typed; write "
        f"-r {name} in place of -p {name}, which takes the words as they are"
    )
