"""An application on Lambent under requests that are generated from its own OpenAPI, with a fixed seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import Deploy
from tests.integration.gateway.test_function_urls import Site

from lambent.testing.packages import collect_package

MAIN = """
from typing import Annotated
from fastapi import FastAPI, Form, Header, HTTPException, Path, Query
from pydantic import BaseModel

app = FastAPI()
items: dict[int, str] = {}

class Item(BaseModel):
    name: str
    tags: list[str] = []

@app.put("/items/{number}", status_code=204)
async def put(number: Annotated[int, Path(ge=0, le=1000)], item: Item, x_trace: Annotated[str, Header()] = "") -> None:
    items[number] = item.name

@app.get("/items/{number}", responses={404: {}})
async def get(number: Annotated[int, Path(ge=0, le=1000)], fields: Annotated[list[str], Query()] = []) -> Item:
    if number not in items:
        raise HTTPException(404)
    return Item(name=items[number], tags=fields)

@app.post("/forms", status_code=201)
async def form(who: Annotated[str, Form(max_length=50)], count: Annotated[int, Form()] = 1) -> dict[str, str | int]:
    return {"who": who, "count": count}
"""


def test_no_generated_request_makes_anything_fail(deploy: Deploy, tmp_path: Path) -> None:
    files = collect_package("fastapi", "python-multipart")
    site = Site(deploy({**files, "main.py": MAIN}, Handler="main:app", Timeout=10, MemorySize=512))
    url = f"{site.client.meta.endpoint_url}/_lambent/url/{site.host.split('.')[0]}"
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json", "--url", url]
    command += ["--checks", "not_a_server_error,status_code_conformance,response_schema_conformance"]
    command += ["--seed", "7", "--max-examples", "20", "--phases", "examples,coverage,fuzzing", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
