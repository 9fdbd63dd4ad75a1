"""A guest book: a FastAPI application as anybody would write it, with a form and a style sheet."""

from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Form
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from html import escape

app = FastAPI()
app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
guests: list[str] = []
"""As long as this environment lives; examples/chat shows state that lasts."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Guest book</title>
<link rel="stylesheet" href="/static/style.css"></head>
<body><h1>Guest book</h1><ul>{guests}</ul>
<form method="post" action="/sign"><input name="name" aria-label="Your name" required>
<button>Sign</button></form></body></html>"""


@app.get("/", response_class=HTMLResponse)
async def index() -> str:
    return PAGE.format(guests="".join(f"<li>{escape(guest)}</li>" for guest in guests))


@app.post("/sign")
async def sign(name: Annotated[str, Form(min_length=1, max_length=50)]) -> RedirectResponse:
    guests.append(name)
    return RedirectResponse("/", status_code=303)
