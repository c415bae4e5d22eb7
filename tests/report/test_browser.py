"""The page in a real Chromium: it fetches nothing, runs nothing that an answer says, and can be searched and marked.

Chromium and its driver are Debian's; axe-core is npm's, and is loaded by the test alone. Where one of them is missing
these tests say so and skip.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.door import SCRIPTS
from tests.engine_process import RunningEngine, engine_with_upstream
from tests.report.test_page import HOSTILE, NOW, gathered, shown
from tests.report.test_report import User

from doubleword.report.answer_table import OPEN
from doubleword.report.page import page
from doubleword.system import Disk

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
AXE = SCRIPTS.parent / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE_S = 30

pytestmark = [
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no chromium with its chromedriver"),
    pytest.mark.usefixtures("quick_looks"),
]


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads: Path) -> Iterator[Chrome]:
    """A browser that keeps what it was asked to load and what it complains of, and saves without asking."""
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@contextmanager
def watched(browser: Chrome) -> Iterator[None]:
    """In this block the browser asks no address for anything, and complains of nothing."""
    logged(browser, "browser"), logged(browser, "performance")
    yield
    assert logged(browser, "browser") == []
    messages = [json.loads(one["message"])["message"] for one in logged(browser, "performance")]
    asked = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert asked and not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


def logged(browser: Chrome, kind: str) -> list[dict[str, Any]]:
    """What the browser noted since it was asked last."""
    found: list[dict[str, Any]] = browser.get_log(kind)  # type: ignore[no-untyped-call]
    return found


def opened(browser: Chrome, path: Path, width: int = 1600, scheme: str = "light") -> None:
    """Open a page at a width, in a colour scheme, with nothing kept of an earlier visit."""
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},  # a click hits what stands still
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(path.as_uri())
    run(browser, "addEventListener('pagehide', () => { localStorage.clear(); sessionStorage.clear(); })")
    browser.refresh()


def run(browser: Chrome, script: str, *given: Any) -> Any:
    return browser.execute_script(script, *given)


def until(browser: Chrome, script: str) -> Any:
    """The first true value of a script."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, PATIENCE_S, 0.02).until(lambda one: one.execute_script(script))


def shown_ids(browser: Chrome) -> list[str]:
    """The rows that stand in the page now."""
    found: list[str] = run(browser, "return [...document.querySelectorAll('#rows h3')].map(one => one.textContent)")
    return found


def typed(browser: Chrome, text: str) -> list[str]:
    """The rows that a search leaves."""
    field = browser.find_element("id", "find")
    field.clear()
    field.send_keys(text)
    return shown_ids(browser)


def chosen(browser: Chrome, key: str, value: str) -> list[str]:
    """The rows that a filter leaves."""
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("id", f"filter-{key}")).select_by_visible_text(value)
    return shown_ids(browser)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    with engine_with_upstream(tmp_path_factory.mktemp("engine")) as running:
        yield running


@pytest.fixture(scope="module")
def user(engine: RunningEngine, tmp_path_factory: pytest.TempPathFactory) -> User:
    """Someone with a job whose answers are of every sort: failed, cut off, structured, hostile, long."""
    made = User(tmp_path_factory.mktemp("user"), engine)
    for number, said in enumerate(HOSTILE):
        engine.upstream.say(f"City 1{number}", said)
    for number in range(20, 30):
        answer = {"mood": "good" if number % 3 else "bad", "stars": number % 5, "note": f"n{number}"}
        engine.upstream.say(f"City {number}", json.dumps(answer))
    engine.upstream.say("City 31", "long " * 2000)
    engine.upstream.fail("City 05", 400)
    engine.upstream.reply("City 06", {"content": "cut"}, finish_reason="length")
    made.submitted()
    made.run("poll", "cities.job.json", "--wait", "60")
    assert made.run("report", "cities.job.json").code == 0
    return made


@pytest.fixture
def report(user: User) -> Path:
    return user.folder / "cities.report.html"


def test_the_page_opens_without_a_network_and_runs_no_answer(browser: Chrome, report: Path) -> None:
    """Hostile answers stand there as they are; nothing of them became an element or ran."""
    with watched(browser):
        opened(browser, report)
        texts = run(browser, "return [...document.querySelectorAll('#rows .text')].map(one => one.textContent)")
        assert set(HOSTILE) <= set(texts)
        assert run(browser, "return [window.pwned === undefined, document.images.length, document.scripts.length]") == [
            True,
            0,
            2,
        ]


def test_what_went_wrong_leads_to_its_answers(browser: Chrome, report: Path) -> None:
    """The id of a failed request, and the flaw, are buttons that filter."""
    opened(browser, report)
    browser.find_element("css selector", "[data-find=c05]").click()
    assert shown_ids(browser) == ["c05"]
    browser.find_element("css selector", "[data-flaw=truncated]").click()
    assert shown_ids(browser) == ["c06"]


def test_answers_are_searched_and_filtered(browser: Chrome, report: Path) -> None:
    """In ids, cells, prompts and answers, word by word; by state, flaw, field and mark, together."""
    opened(browser, report)
    assert typed(browser, "CITY 31") == ["c31"]
    assert typed(browser, "answer to where 33?") == ["c33"]
    assert typed(browser, "no such word") == []
    assert run(browser, "return document.getElementById('shown').textContent") == "0 of 40 rows match"
    typed(browser, " ")
    assert chosen(browser, "state", "failed") == ["c05"]
    chosen(browser, "state", "any")
    assert chosen(browser, "field mood", "bad") == ["c21", "c24", "c27"]
    assert chosen(browser, "field stars", "2") == ["c27"]
    assert browser.find_elements("id", "filter-field note") == [], "each note is another, so nobody chooses by them"


def test_a_long_answer_is_folded_until_it_is_asked_for(browser: Chrome, report: Path) -> None:
    """And is there whole; the prompt too is drawn when it is opened."""
    opened(browser, report)
    typed(browser, "c31")
    text = browser.find_element("css selector", "#rows .text")
    assert "folded" in (text.get_attribute("class") or "")
    browser.find_element("css selector", "#rows .unfold").click()
    assert "folded" not in (text.get_attribute("class") or "") and len(text.text) >= 9_990
    browser.find_element("css selector", "#rows summary").click()
    assert until(browser, "return document.querySelector('#rows details pre')?.textContent") == "Where is City 31?"


def test_marks_outlive_a_reload_and_are_asked_again(browser: Chrome, user: User, report: Path, downloads: Path) -> None:
    """Saved as marks.csv, of which retry_failed.py takes the wrong ones; a note is no formula."""
    opened(browser, report)
    for identifier, mark in (("c33", "Wrong"), ("c34", "Right"), ("c35", "Unsure")):
        typed(browser, identifier)
        browser.find_element("xpath", f"//*[@id='rows']//button[text()='{mark}']").click()
    browser.find_element("css selector", "#rows .note").send_keys('=1+1, "so"')
    browser.refresh()
    assert run(browser, "return document.getElementById('find').value") == "c35"
    assert browser.find_element("css selector", "#rows .note").get_attribute("value") == '=1+1, "so"'
    typed(browser, " ")
    assert chosen(browser, "mark", "wrong") == ["c33"]
    with watched_download(downloads) as saved:
        browser.find_element("id", "save-0").click()
        until_there(browser, saved)
    with saved.open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [
            {"custom_id": "c33", "mark": "wrong", "note": ""},
            {"custom_id": "c34", "mark": "right", "note": ""},
            {"custom_id": "c35", "mark": "unsure", "note": '\'=1+1, "so"'},
        ]
    retried = user.run("retry_failed", "cities.job.json", "--ids", str(saved), "--dry-run")
    assert retried.code == 0 and [one["status"] for one in retried.json["batches"]] == ["1 to retry"]


@contextmanager
def watched_download(folder: Path) -> Iterator[Path]:
    """Where the marks are saved, with nothing of an earlier saving."""
    (saved := folder / "marks.csv").unlink(missing_ok=True)
    yield saved


def until_there(browser: Chrome, path: Path) -> None:
    """Wait for a file that the browser saves."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, PATIENCE_S, 0.02).until(lambda _: path.exists() and path.stat().st_size)


def test_a_page_on_a_running_job_reloads_itself_and_stays_where_it_was(browser: Chrome, tmp_path: Path) -> None:
    """What was typed, marked and opened is there again, in the page written meanwhile; or it stays, if told."""
    place = tmp_path / "r.html"

    def write(answer: str) -> None:
        rows = [shown(1, answer), shown(2, None, OPEN)]
        content, _ = page([gathered(rows, status="in_progress")], 1, NOW, 1, Disk())
        place.write_bytes(content)

    write("before")
    opened(browser, place)
    with watched(browser):
        chosen(browser, "state", "pending")
        chosen(browser, "state", "any")
        write("after")
        until(browser, "return document.querySelector('#rows .text')?.textContent === 'after'")
        chosen(browser, "state", "succeeded")
        write("once more")
        until(browser, "return document.querySelector('#rows .text')?.textContent === 'once more'")
        assert shown_ids(browser) == ["r1"] and run(browser, "return document.getElementById('reload').checked")
        browser.find_element("id", "reload").click()
        browser.refresh()
        assert not run(browser, "return document.getElementById('reload').checked")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_the_page_fits_and_axe_finds_nothing_serious(browser: Chrome, report: Path, width: int, scheme: str) -> None:
    """At both widths, in both schemes, with prompts open: no sideways scrolling, and all has names and contrast."""
    opened(browser, report, width, scheme)
    run(browser, "document.querySelectorAll('#rows details').forEach(one => (one.open = true))")
    wide, room = run(browser, "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= room
    if not AXE.exists():
        pytest.skip("there is no axe-core: npm install axe-core")
    run(browser, AXE.read_text(encoding="utf-8"))
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    told = [(one["id"], one["impact"], one["nodes"][0]["html"][:200]) for one in found["violations"]]
    assert [one for one in told if one[1] in ("serious", "critical")] == []


def test_the_page_can_be_used_by_keyboard_alone(browser: Chrome, report: Path) -> None:
    """The first stop skips to the answers; a search, a filter and a mark are reached by Tab and set by keys."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    opened(browser, report)
    focus = "return [document.activeElement.id, document.activeElement.textContent.trim()]"

    def press(*keys: str) -> Any:
        ActionChains(browser).send_keys(*keys).perform()
        return run(browser, focus)

    assert press(Keys.TAB)[1] == "Skip to the answers"
    press(Keys.ENTER)
    assert press(Keys.TAB)[0] == "find"
    press("c33", Keys.TAB)
    while press(Keys.TAB)[1] != "Wrong":
        assert run(browser, "return document.activeElement !== document.body"), "the page ends before the mark"
    assert shown_ids(browser) == ["c33"]
    assert press(Keys.SPACE)[1] == "Wrong"
    assert run(browser, "return document.activeElement.getAttribute('aria-pressed')") == "true"
