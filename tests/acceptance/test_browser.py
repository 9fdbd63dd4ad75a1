"""The examples that people use in a browser, used in a real one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.acceptance.test_examples import load
from tests.conftest import is_ci

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")
"""Without its own sandbox, which root cannot have; it opens nothing but our own pages."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        assert not is_ci(), "apt-get install chromium"
        pytest.skip("needs a browser: apt-get install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=list(QUIET))
        yield opened
        opened.close()


@pytest.fixture
def complaints() -> list[str]:
    """What pages write to their consoles as errors."""
    return []


def open_page(browser: Browser, url: str, complaints: list[str]) -> Page:
    """In a window of its own: no cookies and no storage with the others."""
    page = browser.new_context().new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(url)
    return page


def test_a_form_of_the_site_is_filled_in_and_its_style_applies(browser: Browser, complaints: list[str]) -> None:
    site = load("site")
    with site.open_stage() as stage:
        url = site.make_site(stage)
        page = open_page(browser, url, complaints)
        expect(page.get_by_role("heading")).to_have_text("Guest book")
        assert "system-ui" in page.evaluate("getComputedStyle(document.body).fontFamily")
        for name in ("Ada", "<b>Grace</b>"):
            page.get_by_label("Your name").fill(name)
            page.get_by_role("button", name="Sign").click()
        expect(page.get_by_role("listitem")).to_have_text(["Ada", "<b>Grace</b>"])
        # Nothing is sent: the browser itself asks for a name.
        page.get_by_label("Your name").fill("")
        page.get_by_role("button", name="Sign").click()
        expect(page.get_by_role("listitem")).to_have_count(2)
        assert page.url == url
    assert [text for text in complaints if "favicon" not in text and "404" not in text] == []


def test_people_in_the_chat_read_each_other_in_their_browsers(browser: Browser, complaints: list[str]) -> None:
    chat = load("chat")
    with chat.open_stage() as stage:
        url = f"{chat.make_page(stage)}#{chat.make_chat(stage)}"
        pages = {name: open_page(browser, url, complaints) for name in ("Ada", "Grace")}
        for name, page in pages.items():
            page.get_by_label("Your name").fill(name)
            page.get_by_role("button", name="Enter").click()
            expect(page.get_by_label("Message")).to_be_focused()
            expect(page.get_by_role("button", name="Enter")).to_be_hidden()
        pages["Ada"].get_by_label("Message").fill("Hello <i>you</i>")
        pages["Ada"].get_by_role("button", name="Say").click()
        for page in pages.values():
            expect(page.get_by_role("listitem")).to_have_text(["AdaHello <i>you</i>"])
        pages["Grace"].close()
        expect(pages["Ada"].get_by_role("listitem").last).to_have_text("Grace has left.")
    # The node has stopped, and said so.
    expect(pages["Ada"].get_by_role("listitem").last).to_have_text("The connection has ended.")
    assert [text for text in complaints if "favicon" not in text and "404" not in text] == []
