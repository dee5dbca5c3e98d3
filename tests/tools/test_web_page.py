"""The page in a browser: upload, chat, switch, maps, curves, hostile uploads, two visitors, nothing from elsewhere."""

from __future__ import annotations

import io
import json
import shutil
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import pytest
import torch
from tiny import png

from engine.checkpoint import Run
from engine.inference import Answer
from tools.web.__main__ import address, application, listening, server_of
from tools.web.models import Models
from tools.web.page import Acts
from tools.web.talk import Talk

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # of gradio with pandas
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 60_000  # milliseconds to wait at most: the machine may be busy
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>document.title="pwned"</script></svg>'
SAID = "A dancer and a dog."
ENTRY = {"step": 1, "loss": 3.0, "lr": 1e-3, "tokens_per_s": 90, "seconds": 1.0}


def tell(model, tokenizer, batch, decoding, generator=None, stream=None) -> list[Answer]:
    """In a random model's place: an answer that is known, token by token."""
    ids = tokenizer.encode(SAID)
    for token in ids:
        time.sleep(0.01)
        stream(0, token)
    return [Answer(SAID, len(ids), True)]


@pytest.fixture(scope="module")
def site(tiny_run, tmp_path_factory):
    """(address, folder of uploads, a live run's folder, addresses beyond this machine that were called)."""
    pytest.importorskip("gradio", reason="gradio is not installed: pip install -r requirements-web.txt")
    folder = tmp_path_factory.mktemp("web")
    live, uploads = folder / "live", folder / "uploads"
    live.mkdir()
    uploads.mkdir()
    (live / "log.jsonl").write_text(json.dumps(ENTRY) + "\n", "utf-8")
    other = shutil.copytree(tiny_run, folder / "other")
    models = Models({"first": tiny_run, "second": other}, torch.device("cpu"), torch.float32)
    called: list = []
    connect = socket.socket.connect

    def watched(self, place):
        if self.family in (socket.AF_INET, socket.AF_INET6) and place[0] not in ("127.0.0.1", "::1", "localhost"):
            called.append(place)
        return connect(self, place)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", watched)
    patch.setattr("engine.inference.generate_batch", tell)
    listener = listening("127.0.0.1", 0)
    server = server_of(application(models, Run(live), str(uploads), "127.0.0.1"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://{address(listener)}", uploads, live, called
    server.should_exit = True
    thread.join(10)
    patch.undo()


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with sync.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def visit(site, browser):
    """Opens the page as a visitor of its own; at the end nothing may have come from elsewhere."""
    asked: list[str] = []
    contexts = []

    def open_page():
        context = browser.new_context()
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SECONDS)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(site[0])
        page.wait_for_selector("#picture img")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert asked and not [url for url in asked if not url.startswith((site[0], "data:", "blob:"))]
    assert not site[3]


def ask(page, question: str = "") -> None:
    if question:
        page.fill("#prompt textarea", question)
    before = page.locator("#talk .asked").count()
    page.click("#ask")
    page.wait_for_function(
        "before => document.querySelectorAll('#talk .asked').length > before && "
        "[...document.querySelectorAll('#talk .answers')].at(-1).querySelector('.word')",
        arg=before,
    )
    page.wait_for_function("document.querySelector('#prompt textarea').value === ''")


def upload(page, name: str, content: bytes) -> None:
    kind = "image/svg+xml" if name.endswith(".svg") else "image/png"
    page.set_input_files("#file input[type=file]", {"name": name, "mimeType": kind, "buffer": content})


def test_a_picture_is_uploaded_and_talked_about_and_a_word_has_its_map(visit, site):
    page = visit()
    upload(page, "mine.png", png(size=(40, 30)))
    page.wait_for_selector("#picture figcaption >> text=mine.png")
    ask(page, "What colour?")
    ask(page, "And where?")
    assert page.locator("#talk .said mark").count() == 0  # nothing is known of the picture
    assert [one.strip() for one in page.locator("#talk .asked").all_inner_texts()] == ["What colour?", "And where?"]
    assert "tokens/s" in page.inner_text("#talk .speed >> nth=0")
    page.click("#talk .word >> nth=0")
    page.wait_for_selector("#map img")
    page.wait_for_selector("#map .speed >> text=first token")
    assert "log-probability" in page.inner_text("#map") and page.locator("#talk .chosen").count() >= 1
    assert not [path for path in site[1].rglob("*") if path.is_file() and path.suffix == ".png"]  # read and deleted


def test_two_models_answer_side_by_side_a_switch_begins_anew_and_facts_mark_what_is_said(visit):
    page = visit()
    page.click("#eight button >> nth=7")
    page.wait_for_selector("#picture figcaption >> text=dance")
    page.click("#other input")
    page.click("ul[role=listbox] >> text=second")
    page.wait_for_function("document.querySelector('#other input').value === 'second'")
    ask(page, "What is it?")
    assert page.locator("#talk .answer h3").all_inner_texts() == ["first", "second"]
    assert page.locator("#talk .said").all_inner_texts() == [SAID, SAID]
    right, wrong = (" ".join(page.locator(f"#talk .said mark.{one}").all_inner_texts()) for one in ("right", "wrong"))
    assert "dancer" in right and "dog" in wrong and "Facts:" in page.inner_text("#picture")
    page.click("#run input")
    page.click("ul[role=listbox] >> text=second")
    page.wait_for_function("document.querySelectorAll('#talk .asked').length === 0")
    ask(page, "What is it?")
    assert page.locator("#talk .answer h3").all_inner_texts() == ["second"]
    page.click("#scene")
    page.wait_for_selector("#picture >> text=test scene")


def bomb(side: int = 30_000) -> bytes:
    """A PNG of side x side pixels in a few kilobytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packed = zlib.compress(bytes(1_000_000), 9)
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_a_bomb_an_svg_50_megabytes_and_what_is_no_picture_are_refused_and_the_talk_goes_on(visit, site, tmp_path):
    page = visit()
    for name, content, reason in (
        ("bomb.png", bomb(), "too large"),
        ("drawing.png", SVG, "not an image"),
        ("empty.png", b"", "zero bytes"),
        ("cut.png", png()[:50], "damaged"),
    ):
        upload(page, name, content)
        page.wait_for_selector(f"#picture .itself >> text={reason}")
        assert page.title() == "Glimpse" and page.locator("#picture img").count() == 1
    upload(page, "x.svg", SVG)
    page.wait_for_selector("text=/[Ii]nvalid file type|not (an image|supported)/")
    big = tmp_path / "big.png"
    big.write_bytes(bytes(50_000_000))
    page.set_input_files("#file input[type=file]", big)
    page.wait_for_selector("text=exceed the maximum allowed size")
    with pytest.raises(urllib.error.URLError):  # 413, or cut off before all is sent
        post(site[0], "big.png", bytes(50_000_000))
    assert not [file for file in site[1].rglob("*") if file.is_file() and file.stat().st_size > 21_000_000]
    ask(page, "What?")


def post(url: str, name: str, content: bytes) -> str:
    """An upload as no browser would send it; the path that the server tells."""
    edge = "edge"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = io.BytesIO(head.encode() + content + f"\r\n--{edge}--\r\n".encode()).read()
    kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/gradio_api/upload", body, kind)) as answer:
        return json.load(answer)[0]


def test_a_name_that_leads_out_of_the_folder_stays_in_it(site):
    for name in ("../../../out.png", "..\\..\\out.png", "/etc/out.png", "a/../../out.png"):
        assert Path(post(site[0], name, png())).resolve().is_relative_to(site[1].resolve())
    assert not list(site[1].parent.glob("*.png"))


@pytest.mark.parametrize("path", ["/etc/passwd", "{run}/model.safetensors", "{uploads}/../live/log.jsonl"])
def test_no_file_of_the_machine_is_served(site, tiny_run, path):
    wanted = path.format(run=tiny_run, uploads=site[1])
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{site[0]}/gradio_api/file={wanted}")
    assert refused.value.code in (403, 404)


def test_a_file_of_the_machine_is_neither_read_nor_deleted_by_a_forged_upload(site, tiny_run):
    mine = site[1].parent / "mine.png"
    mine.write_bytes(png())
    file = {"path": str(mine), "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [file, None, "first", "(none)"], "session_hash": "forged"}).encode()
    call = urllib.request.Request(f"{site[0]}/gradio_api/call/upload", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(call) as answer:
        number = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{site[0]}/gradio_api/call/upload/{number}") as told:
        assert "error" in told.read().decode()
    assert mine.read_bytes() == png()
    acts = Acts(Models({"first": tiny_run}, torch.device("cpu"), torch.float32), site[1])
    assert acts.upload(str(mine), Talk(), "first", "(none)")[-1] is None and mine.is_file()


def test_a_site_that_leads_here_under_its_own_name_is_refused(site):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(site[0], headers={"Host": "evil.example"}))
    assert refused.value.code == 400
    with urllib.request.urlopen(site[0]) as good:
        assert "default-src 'self'" in good.headers["Content-Security-Policy"]


def test_two_visitors_talk_at_once_about_their_own_pictures_and_see_the_curves_grow(visit, site):
    pages = [visit(), visit()]
    for number, page in enumerate(pages):
        upload(page, f"of_{number}.png", png((250 * number, 60, 40)))
        page.wait_for_selector(f"#picture figcaption >> text=of_{number}.png")
        page.fill("#prompt textarea", f"question {number}")
    for page in pages:
        page.click("#ask")
    for number, page in enumerate(pages):
        page.wait_for_selector("#talk .word")
        assert page.locator("#talk .asked").all_inner_texts() == [f"question {number}"]
        assert f"of_{1 - number}.png" not in page.inner_text("#picture")
    page.click("button[role=tab] >> text=Training")
    page.wait_for_selector("#live >> text=step 1")
    with (site[2] / "log.jsonl").open("a", encoding="utf-8") as file:
        for entry in (ENTRY | {"step": 2}, {"step": 2, "val_loss": 2.5, "seconds": 2.0}):
            file.write(json.dumps(entry) + "\n")
    page.wait_for_selector("#live >> text=validation loss 2.500")
    page.wait_for_selector("#curves svg >> text=validation")
