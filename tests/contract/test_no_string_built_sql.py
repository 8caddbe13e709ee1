"""SQL is a constant: what varies is a parameter, and names are composed by psycopg's own tools.

The walk reads every module of every package and refuses text put together where a statement is run: directly,
or in a variable assigned in the same function or at the top of the module. Constants may be joined. What a
function is given as an argument is judged where it is called.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("mestore", "accounts", "sessions_security", "finance", "monitoring")
COMPOSER = ROOT / "mestore" / "lib" / "sql.py"
RUNS_SQL = {"execute", "executemany", "fetch_all", "fetch_one", "stream", "compose", "copy", "raw", "extra"}
RUNS_SQL |= {"RunSQL", "RawSQL", "SQL"}
BUILDS_TEXT = {"format", "join", "replace", "format_map", "str", "sub", "Template"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
STATEMENT_ARGUMENTS = {"sql", "query", "reverse_sql", "template", "raw_query", "where", "tables", "select"}


@dataclass(frozen=True)
class Scope:
    """What is known of names: everything assigned to them, and which hold nothing but constants."""

    assigned: Mapping[str, list[ast.expr]] = field(default_factory=dict)
    constant: frozenset[str] = frozenset()

    def inside(self, nodes: Iterable[ast.AST], parameters: frozenset[str] = frozenset()) -> Scope:
        """The scope of a function in this one, or of a module in an empty one."""
        own = _assignments(nodes)
        assigned = {name: given for name, given in self.assigned.items() if name not in parameters} | own
        constant = self.constant - parameters - own.keys()
        while True:
            scope = Scope(assigned, constant)
            more = {
                name
                for name, given in own.items()
                if name not in parameters and not any(_built(value, scope, strict=True) for value in given)
            }
            if more <= constant:
                return scope
            constant |= more


def violations(source: str) -> list[int]:
    """The lines on which text that is not constant is handed to something that runs SQL."""
    return sorted(_violations_in(ast.parse(source), Scope()))


def _violations_in(node: ast.AST, outer: Scope) -> Iterator[int]:
    own = list(_own_nodes(node))
    scope = outer.inside(own, _parameters(node))
    for part in own:
        if isinstance(part, ast.Call) and _called(part) in RUNS_SQL:
            yield from (given.lineno for given in _statements(part) if _built(given, scope))
        if isinstance(part, FUNCTIONS):
            yield from _violations_in(part, scope)


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Everything in a scope, without what belongs to functions inside it."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, FUNCTIONS):
            yield from _own_nodes(child)


def _parameters(scope: ast.AST) -> frozenset[str]:
    if not isinstance(scope, FUNCTIONS):
        return frozenset()
    return frozenset(argument.arg for argument in ast.walk(scope.args) if isinstance(argument, ast.arg))


def _assignments(nodes: Iterable[ast.AST]) -> dict[str, list[ast.expr]]:
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    found.setdefault(ast.unparse(target), []).append(value)
            case (
                ast.AnnAssign(target=target, value=ast.expr() as value)
                | ast.NamedExpr(target=target, value=value)
            ):
                found.setdefault(ast.unparse(target), []).append(value)
            case ast.AugAssign(target=target, op=op, value=value):
                joined = ast.BinOp(ast.Constant(""), op, value)
                found.setdefault(ast.unparse(target), []).append(joined)
    return found


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _statements(call: ast.Call) -> list[ast.expr]:
    given = [keyword.value for keyword in call.keywords if keyword.arg in STATEMENT_ARGUMENTS]
    # The second argument of RunSQL is the statement that takes it back.
    return call.args[: 2 if _called(call) == "RunSQL" else 1] + given


def _built(node: ast.expr, scope: Scope, *, strict: bool = False) -> bool:
    """Whether text is put together here from anything but constants.

    A name alone is judged by what was assigned to it; one that was assigned nowhere here was given to us.
    Strict, as part of a text that is put together, only constants and names of constants will do.
    """
    match node:
        case ast.Constant():
            return False
        case ast.Name() | ast.Attribute():
            return _name_is_built(ast.unparse(node), scope, strict=strict)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _built(left, scope, strict=True) or _built(right, scope, strict=True)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return any(_built(part, scope, strict=strict) for part in parts)
        case ast.JoinedStr(values=parts):
            return any(
                _built(part.value, scope, strict=True)
                for part in parts
                if isinstance(part, ast.FormattedValue)
            )
        case ast.IfExp(body=body, orelse=orelse):
            return _built(body, scope, strict=strict) or _built(orelse, scope, strict=strict)
        case ast.NamedExpr(value=value):
            return _built(value, scope, strict=strict)
        case ast.BinOp():
            return True
        case ast.Call():
            return strict or (_called(node) in BUILDS_TEXT and not _is_composed(node))
        case _:
            return strict


def _name_is_built(name: str, scope: Scope, *, strict: bool) -> bool:
    if name in scope.constant:
        return False
    if strict:
        return True
    # Without the name itself, so that `query = query + …` ends.
    others = {other: given for other, given in scope.assigned.items() if other != name}
    return any(_built(value, Scope(others, scope.constant)) for value in scope.assigned.get(name, []))


def _is_composed(call: ast.Call) -> bool:
    """`sql.SQL("…").format(…)`: psycopg quotes what it is given."""
    return (
        isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Call)
        and _called(call.func.value) == "SQL"
        and call.func.attr in {"format", "join"}
    )


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path != COMPOSER)


def test_no_module_builds_sql_from_text() -> None:
    found = {str(path.relative_to(ROOT)): violations(path.read_text()) for path in modules()}

    assert len(found) > 100
    built = {path: lines for path, lines in found.items() if lines}
    assert not built, "use parameters and mestore.lib.sql.compose"


@pytest.mark.parametrize(
    "line",
    [
        'cursor.execute(f"SELECT * FROM {name}")',
        'cursor.execute("SELECT " + name)',
        'cursor.execute("SELECT %s" % name)',
        'cursor.execute("SELECT {}".format(name))',
        'cursor.execute(" ".join(parts))',
        'cursor.execute("SELECT x".replace("x", name))',
        'cursor.executemany(f"INSERT INTO {name} VALUES (1)", rows)',
        'User.objects.raw("SELECT " + name)',
        'User.objects.extra(where=[f"id = {name}"])',
        'RawSQL(f"{name}", [])',
        'migrations.RunSQL("SELECT 1", reverse_sql="DROP TABLE " + name)',
        'migrations.RunSQL("SELECT 1", f"DROP TABLE {name}")',
        'sql.fetch_all(f"SELECT {name}")',
        'sql.compose("SELECT " + name)',
        'psycopg.sql.SQL(f"{name}")',
        'cursor.execute(query if good else "x" + name)',
        'cursor.execute(sql=f"{name}")',
        'query = f"{name}"; cursor.execute(query)',
        'query = "SELECT 1"; query += name; cursor.execute(query)',
        'query = "SELECT 1"; query = query + name; cursor.execute(query)',
        'self.query = "x" + name; cursor.execute(self.query)',
        'cursor.execute(query := "x" + name)',
        'sql.SQL("x" + name).format(a=1)',
    ],
)
def test_the_walk_sees_text_that_was_built(line: str) -> None:
    assert violations(f"def f(name, parts, rows, query, good):\n    {line}\n") == [2]


def test_a_function_inside_a_function_knows_its_names() -> None:
    source = "def f(name):\n  query = 'x' + name\n  def g():\n    cursor.execute(query)\n"

    assert violations(source) == [4]


def test_a_parameter_hides_a_constant_of_the_same_name() -> None:
    assert violations('T = "x"\ndef f(T):\n    cursor.execute("SELECT " + T)\n') == [3]


@pytest.mark.parametrize(
    "line",
    [
        'cursor.execute("SELECT 1")',
        'cursor.execute("SELECT %s", [name])',
        "cursor.execute(QUERY, [name])",
        'migrations.RunSQL(QUERY + " WHERE true", migrations.RunSQL.noop)',
        'cursor.execute(f"SELECT * FROM {TABLE}")',
        'sql.fetch_all(sql.compose("SELECT 1 FROM {t}", t=name))',
        "session.execute(job)",
        'connection.execute(psycopg.sql.SQL("DROP ROLE {}").format(psycopg.sql.Identifier(name)))',
        'text = "SELECT 1"; text += " WHERE true"; cursor.execute(text)',
    ],
)
def test_the_walk_lets_constants_through(line: str) -> None:
    top = 'TABLE = "audit_event"\nQUERY = "SELECT 1 FROM " + TABLE'

    assert violations(f"{top}\ndef f(name, job):\n    {line}\n") == []
