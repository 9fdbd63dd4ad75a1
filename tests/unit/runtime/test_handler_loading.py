"""Finding the handler, with the contract's own runtime interface client as the oracle."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import awslambdaric.bootstrap as ric
import pytest

from lambent.dataplane.runtime.handler import HandlerNotLoaded, load_handler

FILES = {
    "good_app.py": "def handler(e, c): return 1\nclass Kind:\n    def __init__(self, e, c): pass\nnumber = 5\n",
    "broken_app.py": "import nothing_here\n",
    "halved_app.py": "def handler(:\n",
    "tabbed_app.py": "if 1:\n\tx = 1\n        y = 2\n",
    "asking_app.py": "def __getattr__(name): raise AttributeError(name)\n",
    "pack_app/__init__.py": "",
    "pack_app/inner.py": "handler = lambda e, c: 2\n",
    "raising_app.py": "def fail():\n    raise ValueError('at import')\nfail()\n",
}


@pytest.fixture(autouse=True)
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, source in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0].endswith("_app")]:
        del sys.modules[name]


def ask_oracle(reference: str) -> Any:
    try:
        return ric._get_handler(reference)
    except ric.FaultException as exc:
        return exc.exception_type, exc.msg, exc.trace or []
    finally:
        _forget()


@pytest.mark.parametrize(
    "reference",
    [
        "no_dot_app",
        "absent_app.handler",
        "broken_app.handler",
        "halved_app.handler",
        "tabbed_app.handler",
        "good_app.absent",
        "asking_app.handler",
        "sys.handler",
        "sys/inner.handler",
        "pack_app/absent.handler",
        "pack_app.inner.absent",
    ],
)
def test_a_handler_that_is_not_found_is_the_error_of_the_contracts_own_runtime(reference: str) -> None:
    with pytest.raises(HandlerNotLoaded) as failed:
        load_handler(reference)
    fault = failed.value.fault
    _forget()
    assert (fault.error_type, fault.message, fault.stack) == ask_oracle(reference)


@pytest.mark.parametrize(
    "reference", ["good_app.handler", "good_app.Kind", "pack_app/inner.handler", "good_app.number"]
)
def test_whatever_has_the_name_is_the_handler(reference: str) -> None:
    found = load_handler(reference)
    _forget()
    assert repr(found).split(" at ")[0] == repr(ask_oracle(reference)).split(" at ")[0]


@pytest.mark.parametrize("reference", ["raising_app.handler", ".handler"])
def test_what_a_module_raises_is_described_as_by_the_contracts_own_runtime(reference: str) -> None:
    try:
        ric._get_handler(reference)
    except ValueError:
        expected = ric.build_fault_result(sys.exc_info(), None)
    _forget()
    with pytest.raises(HandlerNotLoaded) as failed:
        load_handler(reference)
    own = [
        frame for frame in expected["stackTrace"] if "test_handler_loading" not in frame and "bootstrap.py" not in frame
    ]
    assert failed.value.fault.as_document() == {**expected, "stackTrace": own}


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_is_no_exception_is_not_the_runtimes_to_describe(tmp_path: Path, kind: type[BaseException]) -> None:
    (tmp_path / "ending_app.py").write_text(f"raise {kind.__name__}(3)\n")
    with pytest.raises(kind):
        load_handler("ending_app.handler")
