from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lambent.cli.failures import USAGE, Failure
from lambent.cli.output import note, paint, say, show_bytes, step, write_json
from lambent.cli.project.archive import write_zip
from lambent.cli.project.dependencies import REQUIREMENTS, has_requirements, install, installed_files
from lambent.cli.project.files import PackageFile
from lambent.cli.project.handlers import STATIC, check_handler, find_handler
from lambent.cli.project.languages import (
    check_available,
    choose_runtime,
    family_of,
    find_family,
    find_pin,
    missing_modules,
)
from lambent.cli.project.project import Project, read_project
from lambent.cli.session import complete_runtime, json_option, with_client
from lambent.cli.url import open_url
from lambent.client.client import Client
from lambent.client.shapes import FunctionConfiguration

_APPLICATION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(?:\(\))?")
_CONCURRENCY = "LAMBENT_CONCURRENCY"
_VARIABLE = re.compile("[a-zA-Z][a-zA-Z0-9_]+")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Wishes:
    """What the options say; None and empty for what they do not."""

    runtime: str | None
    handler: str | None
    memory: int | None
    timeout: int | None
    env: Mapping[str, str]
    unset_env: tuple[str, ...]
    layers: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    action: str
    """`created`, `updated` or `unchanged`."""
    changes: Mapping[str, Any]
    configuration: FunctionConfiguration
    published: str


def _read_pairs(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for value in values:
        name, separator, text = value.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"'{value}' must have the form KEY=VALUE.", ctx, option)
        pairs[name] = text
    return pairs


def _read_variables(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = _read_pairs(ctx, option, values)
    for name in pairs:
        if _VARIABLE.fullmatch(name) is None:
            fix = "it must begin with a letter and have two or more letters, digits and _."
            raise click.BadParameter(f"'{name}' cannot be the name of a variable: {fix}", ctx, option)
    return pairs


@click.command("deploy")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="The function's name. [the folder's]")
@click.option(
    "--runtime",
    metavar="NAME",
    shell_complete=complete_runtime,
    help="Such as python3.12, nodejs22.x. [what the code asks for, else the newest]",
)
@click.option("--handler", metavar="NAME", help="Such as app.handler. [found in the code]")
@click.option("--static", "is_static", is_flag=True, help="A folder of files: no code, served over HTTP as they are.")
@click.option("--memory", metavar="MB", type=click.IntRange(128, 10_240), help="128 to 10240. [128]")
@click.option("--timeout", metavar="SECONDS", type=click.IntRange(1, 900), help="1 to 900. [3]")
@click.option(
    "--env", metavar="KEY=VALUE", multiple=True, callback=_read_variables, help="Set a variable; more than once."
)
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(1, 1_000),
    help="Requests that an environment of an ASGI application takes at a time. [1]",
)
@click.option("--unset-env", metavar="KEY", multiple=True, help="Remove a variable.")
@click.option("--layer", "layers", metavar="ARN", multiple=True, help="A layer version, in this order; more than once.")
@click.option(
    "--tag", "tags", metavar="KEY=VALUE", multiple=True, callback=_read_pairs, help="Set a tag; more than once."
)
@click.option("--publish", is_flag=True, help="Publish a version of the result.")
@click.option("--url", "wants_url", is_flag=True, help="Give it an HTTP address that everybody may use.")
@json_option
@with_client
def command(
    client: Client,
    *,
    path: Path,
    name: str | None,
    tags: dict[str, str],
    publish: bool,
    wants_url: bool,
    is_static: bool,
    concurrency: int | None,
    as_json: bool,
    **wishes: Any,
) -> None:
    """Deploy a file or a folder as a function, or update it.

    Nothing needs to be configured: name, runtime and handler are found in the code, requirements.txt is installed into
    the package, and .lambentignore says what to leave out. Settings that are not named stay as they are.

    \b
      lambent deploy hello.py
      lambent deploy ./shop --memory 512 --timeout 30 --env STAGE=prod
      lambent deploy ./site --static --url
      lambent deploy main:app --url        (FastAPI, Flask, Django, ...: the app of the folder)
    """
    path, named = _split_application(path)
    if named and wishes["handler"]:
        raise Failure(f"--handler and {named} name two handlers: leave one out.", code=USAGE)
    wishes["handler"] = wishes["handler"] or named
    if is_static and wishes["handler"]:
        raise Failure("--static serves files and has no handler: leave one out.", code=USAGE)
    if is_static:
        wishes["handler"] = STATIC + "."
    if concurrency is not None:
        wishes["env"] = {**wishes["env"], _CONCURRENCY: str(concurrency)}
    project = read_project(path, name=name)
    result = _deploy(client, project, _Wishes(**wishes), tags=tags, publish=publish)
    url = open_url(client, project.name, is_public=True, streams=False)["FunctionUrl"] if wants_url else ""
    if as_json:
        write_json(
            {
                "action": result.action,
                "changes": result.changes,
                "published": result.published or None,
                "url": url or None,
                "function": result.configuration,
            }
        )
        return
    _tell(result, url)


def _split_application(path: Path) -> tuple[Path, str | None]:
    """`main:app` and `shop/main:app`: the folder, and what in it is the web application."""
    folder, module = path.parent, path.name
    matched = _APPLICATION.fullmatch(module)
    if matched is None or path.exists():
        return path, None
    return folder, module


def _deploy(client: Client, project: Project, wishes: _Wishes, *, tags: Mapping[str, str], publish: bool) -> _Result:
    existing = client.find_function(project.name)
    old = existing["Configuration"] if existing is not None else None
    family = family_of(wishes.runtime) if wishes.runtime else _find_family(project, wishes, old)
    if wishes.runtime:
        check_available(wishes.runtime, client.runtimes())
    runtime = wishes.runtime or _find_runtime(client, project, family, old)
    handler = _find_handler(project, family, wishes, old)
    note(f"{paint('✓', stream=sys.stderr, fg='green')} Found {handler} for {runtime}")
    package = _pack(project, "" if handler.startswith(STATIC) else family, runtime)
    members = _members(runtime, handler, wishes, old)
    if old is None:
        result = _create(client, project, package, members, tags)
    else:
        result = _update(client, old, package, members)
        if tags:
            client.tag(old["FunctionArn"], tags)
    if not publish:
        return result
    version = client.publish_version(project.name)["Version"]
    note(f"{paint('✓', stream=sys.stderr, fg='green')} Published version {version}")
    return dataclasses.replace(result, published=version)


def _find_family(project: Project, wishes: _Wishes, old: FunctionConfiguration | None) -> str:
    handler = wishes.handler or (old.get("Handler", "") if old is not None else "")
    return "python" if handler.startswith(STATIC) else find_family(project.files)


def _find_runtime(client: Client, project: Project, family: str, old: FunctionConfiguration | None) -> str:
    if family == "provided":
        return "provided.al2023"
    _, pinned_by = find_pin(family, project.folder)
    # A newer interpreter on the node is no reason to move a running function to it.
    if old is not None and not pinned_by and family_of(old["Runtime"]) == family:
        return old["Runtime"]
    return choose_runtime(family, project.folder, client.runtimes())


def _find_handler(project: Project, family: str, wishes: _Wishes, old: FunctionConfiguration | None) -> str:
    if wishes.handler:
        check_handler(family, wishes.handler, project.files)
        return wishes.handler
    if old is not None and old.get("Handler") and family_of(old["Runtime"]) == family:
        try:
            check_handler(family, old["Handler"], project.files)
            return old["Handler"]
        except Failure:
            return find_handler(family, project.files)
    return find_handler(family, project.files)


def _pack(project: Project, family: str, runtime: str) -> bytes:
    missing = missing_modules(project.folder) if family == "nodejs" else []
    if missing:
        note(f"! package.json needs {', '.join(missing[:5])}, but there is no node_modules: run npm install first.")
    with tempfile.TemporaryDirectory(prefix="lambent-deploy-") as folder:
        files = {file.name: file for file in _install(project, family, runtime, Path(folder))}
        files |= {file.name: file for file in project.files}
        with step("Packing") as packing:
            package = write_zip(files.values())
            packing.done(f"Packed {len(files)} file{'s' * (len(files) != 1)}, {show_bytes(len(package))}")
    return package


def _install(project: Project, family: str, runtime: str, target: Path) -> list[PackageFile]:
    if family != "python" or not has_requirements(project.folder):
        return []
    with step(f"Installing {REQUIREMENTS}") as installing:
        count = install(project.folder, target, runtime=runtime, progress=installing.update)
        installing.done(f"Installed {REQUIREMENTS}: {count} package{'s' * (count != 1)}", timed=True)
    return installed_files(target)


def _members(runtime: str, handler: str, wishes: _Wishes, old: FunctionConfiguration | None) -> dict[str, Any]:
    """The settings that the function shall have, as the API names them."""
    members: dict[str, Any] = {"Runtime": runtime, "Handler": handler}
    if wishes.memory is not None:
        members["MemorySize"] = wishes.memory
    if wishes.timeout is not None:
        members["Timeout"] = wishes.timeout
    if wishes.layers:
        members["Layers"] = list(wishes.layers)
    if wishes.env or wishes.unset_env:
        variables = dict(old.get("Environment", {}).get("Variables", {})) if old is not None else {}
        unknown = [name for name in wishes.unset_env if name not in variables]
        if unknown:
            raise Failure(f"--unset-env {unknown[0]}: the function has no such variable.", code=USAGE)
        kept = {name: value for name, value in variables.items() if name not in wishes.unset_env}
        members["Environment"] = {"Variables": {**kept, **wishes.env}}
    return members


def _create(
    client: Client, project: Project, package: bytes, members: dict[str, Any], tags: Mapping[str, str]
) -> _Result:
    role = f"arn:aws:iam::{client.status()['account']}:role/lambent"
    with step(f"Creating {project.name}") as creating:
        wanted = {"FunctionName": project.name, "Role": role, **members, **({"Tags": dict(tags)} if tags else {})}
        client.create_function(package=package, members=wanted)
        configuration = client.wait_until_ready(project.name)
        creating.done(f"Created {project.name}", timed=True)
    return _Result(action="created", changes={}, configuration=configuration, published="")


def _update(client: Client, old: FunctionConfiguration, package: bytes, members: dict[str, Any]) -> _Result:
    name = old["FunctionName"]
    changes = _changes(old, members)
    digest = base64.b64encode(hashlib.sha256(package).digest()).decode()
    new_code = digest != old.get("CodeSha256")
    if not changes and not new_code:
        note(f"{paint('✓', stream=sys.stderr, fg='green')} {name} has this code and these settings already")
        return _Result(action="unchanged", changes={}, configuration=old, published="")
    with step(f"Updating {name}") as updating:
        client.wait_until_ready(name)
        if changes:
            client.update_configuration(name, {member: members[member] for member in changes})
            client.wait_until_ready(name)
        if new_code:
            client.update_code(name, package)
        configuration = client.wait_until_ready(name)
        updating.done(f"Updated {name}", timed=True)
    if new_code:
        changes["Code"] = {"from": show_bytes(old.get("CodeSize", 0)), "to": show_bytes(len(package))}
    return _Result(action="updated", changes=changes, configuration=configuration, published="")


def _changes(old: FunctionConfiguration, members: Mapping[str, Any]) -> dict[str, Any]:
    before: Mapping[str, Any] = old
    changes: dict[str, Any] = {}
    for member, value in members.items():
        was = before.get(member)
        if member == "Layers":
            was = [layer["Arn"] for layer in was or []]
        if member == "Environment":
            was, value_shown = (was or {}).get("Variables", {}), value["Variables"]
        else:
            value_shown = value
        if was != value_shown:
            changes[member] = {"from": was, "to": value_shown}
    return changes


def _tell(result: _Result, url: str) -> None:
    configuration = result.configuration
    name = configuration["FunctionName"]
    for member, change in result.changes.items():
        say(f"  {member}: {_show_change(member, change)}")
    about = (
        f"{configuration.get('Runtime')}, {configuration.get('Handler')}, {configuration.get('MemorySize')} MB, "
        f"{configuration.get('Timeout')} s"
    )
    word = {"created": "is deployed", "updated": "is updated", "unchanged": "is unchanged"}[result.action]
    version = f", version {result.published}" if result.published else ""
    say(f"{paint(name, stream=sys.stdout, bold=True)} {word}: {about}{version}")
    if url:
        say(f"  {url}")
    is_web = ":" in configuration.get("Handler", "") or configuration.get("Handler", "").endswith(".sh")
    invoke = f"lambent url {name}" if is_web else f'lambent invoke {name} -d \'{{"name": "you"}}\''
    first = "" if is_web and url else f"\n  {invoke}"
    say(f"\nNext:{first}\n  lambent logs {name} --follow")


def _show_change(member: str, change: Mapping[str, Any]) -> str:
    before, after = change["from"], change["to"]
    if member != "Environment":
        return f"{_show(before)} -> {_show(after)}"
    # Names only: what a variable holds may be a secret.
    names = sorted({*before, *after})
    marks = [
        f"{'+' if name not in before else '-' if name not in after else '~'}{name}"
        for name in names
        if before.get(name) != after.get(name)
    ]
    return " ".join(marks)


def _show(value: Any) -> str:
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)
