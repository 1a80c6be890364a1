"""The server of the page."""

import asyncio
import logging
import socket
from ipaddress import ip_address
from typing import Any

from mmreid_text.page.gallery_search import GallerySearch
from mmreid_text.page.gradio_library import load_gradio
from mmreid_text.page.guard import App, Guard
from mmreid_text.page.query import Query

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_MAX_CONNECTIONS = 512


def page_app(
    search: GallerySearch, title: str, login: tuple[str, str] | None = None, hosts: tuple[str, ...] | None = None
) -> App:
    """The page as an ASGI application.

    Args:
        search: What its visitors do.
        title: Said in its head.
        login: Name and password that visitors need; None for none.
        hosts: Names by which the page may be called, as in :class:`~mmreid_text.page.guard.Guard`.

    Raises:
        ImportError: Gradio is not installed.
    """
    gr = load_gradio()
    from fastapi import FastAPI

    from mmreid_text.page.layout import build_page, style

    font = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]  # of the visitor's machine
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        app,
        build_page(search, title),
        path="/",
        auth=login,
        auth_message="This gallery asks for a login.",
        allowed_paths=[],
        show_error=False,
        max_file_size=0,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        theme=gr.themes.Default(
            primary_hue="blue", spacing_size="sm", font=font, font_mono=["ui-monospace", "monospace"], radius_size="md"
        ),
        css=style(),
    )
    return Guard(app, hosts)


class PageServer:
    """The page, open on an address.

    Args:
        search: What its visitors do.
        title: Said in its head.
        host: Address to listen on; any but loopback needs a login.
        port: Port to listen on; 0 for any that is free.
        login: Name and password that visitors need; None for none.

    Attributes:
        url: Where the page is.

    Raises:
        ImportError: Gradio is not installed.
        OSError: The address is taken, or not this machine's.
        ValueError: A public host without a login.
    """

    def __init__(
        self,
        search: GallerySearch,
        title: str,
        host: str = "127.0.0.1",
        port: int = 7860,
        login: tuple[str, str] | None = None,
    ) -> None:
        check_host(host, login)
        name = f"[{host}]" if ":" in host else host
        app = page_app(search, title, login, (*LOOPBACK, name) if is_loopback(host) else None)
        import uvicorn

        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server((host, port), family=family)
        except OSError as error:
            raise OSError(f"The page cannot listen on {host} port {port} ({error}): choose another --port.") from error
        # Its own configuration of logs would close the files that others, such as a Runner, write theirs to.
        settings: dict[str, Any] = dict(
            log_config=None, log_level="warning", limit_concurrency=_MAX_CONNECTIONS, timeout_keep_alive=20
        )
        self._server = uvicorn.Server(uvicorn.Config(app, server_header=False, timeout_graceful_shutdown=2, **settings))
        logging.getLogger("uvicorn.error").addFilter(_is_no_farewell)
        self.url = f"http://{name}:{self._listener.getsockname()[1]}"
        search.find(Query(("a person",)))  # the first search of a process is slow, and no visitor's

    def run(self) -> None:
        """Serve until the process is interrupted, or :meth:`stop` is called."""
        with self._listener:
            self._server.run(sockets=[self._listener])

    def stop(self) -> None:
        """End :meth:`run`, which another thread is in."""
        self._server.should_exit = True


def _is_no_farewell(record: logging.LogRecord) -> bool:
    """Whether a record is anything but the end of the connections that open browsers keep, when the server ends."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def check_host(host: str, login: tuple[str, str] | None) -> None:
    """Refuse to open a gallery to a network without a login.

    Raises:
        ValueError: As said.
    """
    if login is None and not is_loopback(host):
        raise ValueError(
            f"--host {host} opens the gallery to everybody who can reach this machine: give --login as well, or leave "
            "--host out and come through a tunnel (ssh -L 7860:127.0.0.1:7860 ...)."
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
