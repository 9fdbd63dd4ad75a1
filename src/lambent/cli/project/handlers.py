"""Which function in the code is the handler, found by reading it, never by running it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from lambent.cli.failures import USAGE, Failure
from lambent.cli.project.files import PackageFile

STATIC = "lambent_static:"
"""A folder of files as the handler."""
SERVER_SCRIPT = "run.sh"
"""Starts an HTTP server on $PORT; a folder that has one is such a server."""
_USUAL = (
    "lambda_function.lambda_handler",
    "app.handler",
    "handler.handler",
    "main.handler",
    "index.handler",
    "app.lambda_handler",
    "handler.lambda_handler",
    "main.lambda_handler",
)
_SURE_NAMES = ("handler", "lambda_handler")
_USUAL_NAMES = ("handler", "lambda_handler", "main")
_USUAL_MODULES = ("main", "app", "asgi", "wsgi", "api", "server", "function_app")
_APPLICATIONS = frozenset(
    (
        "FastAPI",
        "Starlette",
        "Litestar",
        "Quart",
        "BlackSheep",
        "Flask",
        "Bottle",
        "Falcon",
        "get_asgi_application",
        "get_wsgi_application",
        "FunctionApp",
        "AsgiFunctionApp",
        "WsgiFunctionApp",
    )
)
"""What makes one: frameworks by the class or function that people call."""
_NODE_SUFFIXES = (".mjs", ".js", ".cjs")
_NODE_MODULES = ("index", "app", "handler", "main", "lambda_function")
_NODE_EXPORT = re.compile(
    r"^\s*(?:export\s+(?:const|let|var|async\s+function|function)\s+|(?:module\.)?exports\.)(\w+)"
    r"|^\s*(?:export|module\.exports\s*=)\s*\{([^}]*)\}",
    re.MULTILINE,
)


def find_handler(family: str, files: Sequence[PackageFile]) -> str:
    """Raises Failure that lists the candidates when there is not exactly one."""
    script = next((file for file in files if file.name == SERVER_SCRIPT), None)
    if script is not None:
        _check_script(script)
        return SERVER_SCRIPT
    if family == "provided":
        return "bootstrap"
    found = find_handlers(family, files)
    if not found and family == "python":
        found = find_applications(files)
    if len(found) == 1:
        return found[0]
    if found:
        raise Failure(
            f"Several could be the handler: {', '.join(found[:8])}{' ...' if len(found) > 8 else ''}.",
            code=USAGE,
            hint=f"Choose one: --handler {found[0]}",
        )
    raise Failure(_explain_none(family, files), code=USAGE, hint="Or name it: --handler MODULE.FUNCTION")


def find_handlers(family: str, files: Sequence[PackageFile]) -> list[str]:
    """One when it is clear which; else all that it could be."""
    names = list(_node_handlers(files) if family == "nodejs" else _python_handlers(files))
    usual = [name for name in _USUAL if name in names]
    if usual:
        return usual[:1]
    top = [name for name in names if "/" not in name and name.count(".") == 1]
    named = [name for name in top or names if name.rpartition(".")[2] in _USUAL_NAMES]
    return named if len(named) == 1 else top or names


def find_applications(files: Sequence[PackageFile]) -> list[str]:
    """Web applications, as `module:name`: those in the usual modules, else all."""
    found = [name for file in files for name in _applications(file)]
    usual = [name for name in found if name.partition(":")[0] in _USUAL_MODULES]
    return usual or found


def _applications(file: PackageFile) -> Iterator[str]:
    parts = file.name.removesuffix(".py").split("/")
    is_test = parts[-1].startswith("test_") or any(part in ("tests", "test") for part in parts)
    if not file.name.endswith(".py") or is_test or not all(part.isidentifier() for part in parts):
        return
    tree = _parse(file)
    for node in tree.body if tree is not None else ():
        if isinstance(node, ast.Assign) and _called_name(node.value) in _APPLICATIONS:
            yield from (f"{'.'.join(parts)}:{each.id}" for each in node.targets if isinstance(each, ast.Name))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and any(map(_is_googles, node.decorator_list)):
            yield f"{'.'.join(parts)}:{node.name}"


def _is_googles(decorator: ast.expr) -> bool:
    """`@functions_framework.http`, `@functions_framework.typed(Order)`, `@functions_framework.aio.http`."""
    named = ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)
    return named.startswith("functions_framework.") and named.rpartition(".")[2] in ("http", "cloud_event", "typed")


def _called_name(value: ast.expr) -> str:
    """`FastAPI(...)` and `fastapi.FastAPI(...)` call FastAPI."""
    if not isinstance(value, ast.Call):
        return ""
    called = value.func
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def check_handler(family: str, handler: str, files: Sequence[PackageFile]) -> None:
    """Raises Failure when the file or the function that `handler` names is not in the package."""
    if handler.startswith(STATIC):
        folder = handler[len(STATIC) :].strip("/.")
        if not any(file.name.startswith(folder + "/" if folder else "") for file in files):
            raise Failure(f"The folder {folder}, which the handler {handler} names, has no files.", code=USAGE)
        return
    if handler.endswith(".sh"):
        script = next((file for file in files if file.name == handler), None)
        if script is None:
            raise Failure(f"The handler {handler} needs a file of that name, which there is not.", code=USAGE)
        _check_script(script)
        return
    if family == "provided":
        return
    module, _, function = handler.rpartition(":" if ":" in handler else ".")
    if ":" in handler:
        # `make()` and `holder.app` begin with a name of the module's.
        function = re.split(r"[.(]", function)[0]
    if not module:
        raise Failure(f"--handler {handler} must have the form MODULE.FUNCTION, such as app.handler.", code=USAGE)
    suffixes = _NODE_SUFFIXES if family == "nodejs" else (".py", "/__init__.py")
    path = module if family == "nodejs" else module.replace(".", "/")
    by_name = {file.name: file for file in files}
    file = next((by_name[path + suffix] for suffix in suffixes if path + suffix in by_name), None)
    candidates = find_handlers(family, files)
    hint = f"Could it be {', '.join(candidates[:8])}?" if candidates else ""
    if file is None:
        raise Failure(
            f"The handler {handler} needs a file {path}{suffixes[0]}, which there is not.", code=USAGE, hint=hint
        )
    if family == "python" and not _has_name(file, function):
        raise Failure(
            f"{file.name} has no function {function}, which the handler {handler} names.", code=USAGE, hint=hint
        )


def _check_script(script: PackageFile) -> None:
    if not script.is_executable:
        raise Failure(f"{script.name} is not executable.", code=USAGE, hint=f"chmod +x {script.path}")


def _python_handlers(files: Sequence[PackageFile]) -> Iterator[str]:
    for file in files:
        parts = file.name.removesuffix(".py").split("/")
        if not file.name.endswith(".py") or any(part in ("tests", "test", "node_modules") for part in parts):
            continue
        if parts[-1].startswith("test_") or not all(part.isidentifier() for part in parts):
            continue
        tree = _parse(file)
        for node in tree.body if tree is not None else ():
            name = _handler_name(node)
            if name:
                yield f"{'/'.join(parts)}.{name}"


def _handler_name(node: ast.stmt) -> str:
    """What a statement defines that could be called with an event and a context; empty for nothing."""
    if isinstance(node, ast.FunctionDef) and _takes_an_event(node):
        return node.name
    if isinstance(node, ast.Assign):
        # handler = Mangum(app)
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return next((name for name in names if name in _SURE_NAMES), "")
    return ""


def _takes_an_event(function: ast.FunctionDef) -> bool:
    arguments = [*function.args.posonlyargs, *function.args.args]
    if len(arguments) != 2 or function.name.startswith("_"):
        return False
    if function.name in _SURE_NAMES:
        return True
    event, context = (argument.arg.strip("_") for argument in arguments)
    return context in ("context", "ctx", "") and (event in ("event", "") or function.name in _USUAL_NAMES)


def _node_handlers(files: Sequence[PackageFile]) -> Iterator[str]:
    for file in files:
        module, dot, suffix = file.name.rpartition(".")
        if dot + suffix not in _NODE_SUFFIXES or "node_modules/" in file.name or "test" in module.split("/"):
            continue
        names = _exported(file)
        is_usual = module.rpartition("/")[2] in _NODE_MODULES
        for name in names:
            if name == "handler" or (is_usual and name in _USUAL_NAMES):
                yield f"{module}.{name}"


def _exported(file: PackageFile) -> list[str]:
    try:
        text = file.path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    names: list[str] = []
    for single, several in _NODE_EXPORT.findall(text):
        names += [single] if single else [part.split(" as ")[-1].split(":")[0].strip() for part in several.split(",")]
    return list(dict.fromkeys(name for name in names if name))


def _has_name(file: PackageFile, name: str) -> bool:
    """Also what is assigned or imported; all of it when a star import hides what there is."""
    tree = _parse(file)
    if tree is None:
        return True
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name == name:
            return True
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name:
            return True
        if isinstance(node, (ast.Import, ast.ImportFrom)) and any(
            (alias.asname or alias.name) in (name, "*") for alias in node.names
        ):
            return True
    return False


def _parse(file: PackageFile) -> ast.Module | None:
    """None for what this Python cannot read; the function's own may be newer."""
    try:
        return ast.parse(file.path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return None


def _explain_none(family: str, files: Sequence[PackageFile]) -> str:
    if family == "nodejs":
        return "No handler was found: no .js, .mjs or .cjs file exports a `handler`."
    broken = [file for file in files if file.name.endswith(".py") and "/" not in file.name and _parse(file) is None]
    if broken:
        try:
            ast.parse(broken[0].path.read_bytes())
        except (SyntaxError, ValueError) as exc:
            where, why = (f" line {exc.lineno}", exc.msg) if isinstance(exc, SyntaxError) else ("", str(exc))
            return f"No handler was found, and {broken[0].name}{where} cannot be read: {why}."
    return (
        "No handler was found: no module has a function that takes (event, context), or a web application "
        "(app = FastAPI(), Flask(...), ...)."
    )
