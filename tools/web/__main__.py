"""A page in the browser to try trained models: pictures, questions, streamed answers, where a word came from.

python -m tools.web                        the finished stages under out/, the last first
python -m tools.web out/sft3 out/sft2      these; any two answer side by side
python -m tools.web --live out/sft1        the curves of a run that is training, in a tab of the same page

It needs gradio (pip install -r requirements-web.txt). The page is served on this machine alone unless --host says
otherwise, loads nothing from elsewhere, and reports nothing to anyone. What a visitor uploads is kept in memory only.
"""

from __future__ import annotations

if __name__ == "__main__":
    from engine.start import begin

    begin()

import argparse
import importlib.util
import ipaddress
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from engine.arguments import UsageError
from engine.command import guarded
from engine.console import Parser
from engine.device import pick_device, pick_dtype, prepare
from engine.plugin import load_plugin
from tools.web.live import opened
from tools.web.models import Models, named

PORT = 7860
LARGEST = "20mb"  # of an upload
VISITORS = 8  # whose requests are taken at once; the others wait
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("run", nargs="*", help="a run's folder, or MiniMind2-V's .pth (default: the finished stages in --runs)")
    add("--runs", default="out", metavar="DIR", help="folder of the stages' runs (default: out)")
    add("--live", metavar="RUN", help="show the curves of this run, which may be training")
    add("--host", default="127.0.0.1", help="address to serve on (default: 127.0.0.1, this machine alone); 0.0.0.0 "
        "opens the page, which has no password, to the network")  # fmt: skip
    add("--port", type=int, default=PORT, help=f"port to serve on; 0: any free one (default: {PORT})")
    add("--vision", default="", metavar="DIR", help="the encoder of a .pth, or of a run if it was moved")
    add("--tokenizer", default="", metavar="DIR", help="the tokenizer of a .pth, if not beside it")
    add("--plugin", default="", metavar="FILE", help="the file that registers a run's projector, if it is your own")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--dtype", default="auto", choices=("auto", "float32", "bfloat16"), help="dtype of matmuls")
    add("--fast", default="on", choices=("on", "off"), help="the fused passes of model/fast, or the plain model")
    args = parser.parse_args(argv)
    if not 0 <= args.port <= 65535:
        parser.error(f"--port {args.port}: expected 0 to 65535")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    for name in ("gradio", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"{name} is not installed; pip install -r requirements-web.txt")
    load_plugin(args.plugin)
    live = opened(Path(args.live)) if args.live else None
    device = pick_device(args.device)
    prepare(device)
    models = Models({}, device, pick_dtype(args.dtype, device), args.fast, args.vision, args.tokenizer)
    try:
        models.paths.update(named(args.run, args.runs))
    except UsageError:
        if live is None:
            raise
    for name in args.run or list(models.paths)[:1]:
        models.get(name)  # so that what is wrong with it is told here and now
    with listening(args.host, args.port) as server, tempfile.TemporaryDirectory(prefix="glimpse-web-") as uploads:
        app = application(models, live, uploads, args.host)
        print(f"http://{address(server)}", flush=True)
        server_of(app).run(sockets=[server])


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; UsageError where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((host, port))
        server.listen(128)
    except OSError as error:
        server.close()
        raise UsageError(
            f"cannot serve on {host} port {port}: {error.strerror or error}; give another --port (0: any free one) or "
            "--host"
        ) from error
    return server


def address(server: socket.socket) -> str:
    host, port = server.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def application(models: Models, live: Any, uploads: str, host: str) -> Any:
    """The page as an ASGI application that keeps uploads in a folder until they are read."""
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=uploads, HF_HUB_DISABLE_TELEMETRY="1")
    import gradio as gr
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from tools.web.page import build

    blocks = build(models, live, Path(uploads))
    blocks.queue(default_concurrency_limit=VISITORS, api_open=False)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    if is_loopback(host) and ":" not in host:  # against a site whose name is made to lead here
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", host])

    app.add_middleware(Guarded)
    served = gr.mount_gradio_app(
        app, blocks, path="/", footer_links=[], run_history=False, max_file_size=LARGEST, ssr_mode=False,
        mcp_server=False, enable_monitoring=False, pwa=False, show_error=False,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css_paths=Path(__file__).with_name("page.css"),
    )  # fmt: skip
    blocks.has_launched = True  # without it gradio takes any file of the machine for an upload
    return served


class Guarded:
    """ASGI middleware: a header that lets the browser load nothing from elsewhere."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, sending)


def server_of(app: Any) -> Any:
    """What serves the application until SIGINT or SIGTERM; silent, as gradio prints what goes wrong in an event."""
    import uvicorn

    return uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))


if __name__ == "__main__":
    sys.exit(guarded(main))
