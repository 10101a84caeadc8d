"""The command line: `tokenwire [flags]` serves, `tokenwire check-config [flags]` tells how it would.

Other first words are tools, each a function of its arguments. It ends with 0 after a graceful stop,
with 1 if it cannot serve and with 2 for a bad setting, and says why in one line.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from server.errors import TokenwireError
from server.ops import embedded, files, logs, workers
from server.ops.arguments import Parser
from server.ops.auth import demand_identity
from server.settings import SETTINGS, Settings, SettingsError, flag, is_list, is_switch, shown
from server.sources import Loaded, as_toml, load

if TYPE_CHECKING:
    from aiohttp import web

    from server.counts import Levels
    from server.session.node import Node

VERSION = "0.1.0"
COMMANDS = ("serve", "check-config")
TOOLS = {
    "sessions": "server.ops.operator:sessions",
    "inspect": "server.ops.operator:inspect",
    "tail": "server.ops.operator:tail",
    "abort": "server.ops.operator:abort",
    "token": "server.ops.token:run",
    "loadtest": "server.ops.loadtest.command:main",
}
BACKLOG = 1024  # connections waiting to be accepted, when all clients of a lost node come at once
HANGUP = (signal.SIGHUP,) if sys.platform != "win32" else ()
GC_YOUNG = 20_000  # objects; nearly all of ours go by reference count
FAREWELL = 0.5  # seconds in which busy connections are closed behind their answers
LEFTOVER = 5.0  # seconds for requests that are still there after every stream was told to end
_CARE: dict[str, Any] = {"handler_cancellation": True, "access_log": None, "shutdown_timeout": LEFTOVER}


class Failure(RuntimeError):
    """It cannot serve, or not stop as it should; the message is one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv and (tool := TOOLS.get(argv[0])):
            module, _, name = tool.partition(":")
            code: int = getattr(import_module(module), name)(argv[1:])
            return code
        command, loaded = _parse(argv)
        if command == "check-config":
            print(as_toml(loaded), flush=True)
            return 0
        return _serve(loaded.settings)
    except (SettingsError, Failure, embedded.EmbeddedError, TokenwireError) as error:
        print(f"tokenwire: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1
    except BrokenPipeError:
        # Whoever read our output has enough; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parse(argv: Sequence[str]) -> tuple[str, Loaded]:
    parser = Parser(prog="tokenwire", description="Serve token streams over SSE and WebSocket.")
    parser.add_argument("command", nargs="?", default="serve", help=" or ".join((*COMMANDS, *TOOLS)))
    parser.add_argument("--version", action="version", version=f"tokenwire {VERSION}")
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings")
    for name, setting in SETTINGS.items():
        if option := flag(name):
            if is_switch(name):
                parser.add_argument(
                    option, dest=name, action="store_const", const="true", help=setting.help
                )
                continue
            action = "append" if is_list(name) else "store"
            parser.add_argument(option, dest=name, action=action, metavar="X", help=setting.help)
    known, unknown = parser.parse_known_args(argv)
    given = vars(known)
    command, config = given.pop("command"), given.pop("config")
    # The flag first: what follows an unknown one looks like a command.
    if unknown or command not in COMMANDS:
        raise SettingsError(f"{(*unknown, command)[0].partition('=')[0]}: unknown flag or command")
    texts = {k: v if isinstance(v, str) else ",".join(v) for k, v in given.items() if v is not None}
    return command, load(texts, os.environ, config)


def _serve(settings: Settings) -> int:
    demand_identity(settings)
    logs.configure(settings.log_level, settings.log_format)
    if post := workers.Post.of(os.environ):
        post.take()
        metrics_port = settings.metrics_port and settings.metrics_port + post.place
        settings = replace(settings, port=post.port, metrics_port=metrics_port)
        return _run(_node(settings, lambda port: post.report(), shared=True))
    if settings.redis:
        return _serve_all(settings, shown("redis", settings.redis), nullcontext())
    valkey = embedded.start(settings.data_dir)
    try:
        return _serve_all(replace(settings, redis=valkey.url), "embedded", valkey.kept())
    finally:
        valkey.stop()


def _serve_all(settings: Settings, redis: str, kept: AbstractAsyncContextManager[None]) -> int:
    def announce(port: int) -> None:
        url = f"http://{_in_url(settings.host)}:{port}"
        print(f"tokenwire: {url} (redis: {redis}, model: {settings.model or 'any'})", flush=True)

    if settings.workers == 1:
        return _run(_within(kept, _node(settings, announce)))
    with _listening(settings.host, settings.port):
        held = workers.hold(settings.host, settings.port)
    with held:
        port = held.getsockname()[1]
        env = {**os.environ, "REDIS_URL": settings.redis or ""}
        crew = workers.Crew(settings.workers, port, env, lambda: announce(port))
        return asyncio.run(_within(kept, crew.run(settings.drain + 3 * LEFTOVER)))


async def _within(kept: AbstractAsyncContextManager[None], work: Coroutine[Any, Any, int]) -> int:
    async with kept:
        return await work


async def _node(settings: Settings, announce: Callable[[int], None], shared: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; `announce` gets the port once connections are accepted."""
    # Not before they are needed: check-config and a parent of workers do without.
    from aiohttp import web

    from server.app import create_app
    from server.transport.context import CONTEXT
    from server.transport.doorstep import Runner

    asyncio.get_running_loop().set_exception_handler(logs.tell_failure)
    stop, relieved = asyncio.Event(), asyncio.Event()
    asked = {signal.SIGTERM: (stop,), signal.SIGINT: (stop,)} | dict.fromkeys(HANGUP, (relieved, stop))
    for number, events in asked.items():
        with suppress(NotImplementedError):  # Windows: Ctrl-C cancels this task instead
            asyncio.get_running_loop().add_signal_handler(number, _set, events)
    files.allow_all()
    app = create_app(settings)
    runner = Runner(app, **_CARE, keepalive_timeout=settings.idle_timeout)
    watched = AsyncExitStack()
    try:
        await runner.setup()
        await _watch(watched, settings, lambda: app[CONTEXT].node.levels(), shared)
        site = web.TCPSite(
            runner, settings.host, settings.port, backlog=BACKLOG, reuse_port=shared or None
        )
        with _listening(settings.host, settings.port):
            await site.start()
        announce(runner.addresses[0][1])
        # What is here now stays: walking through it would stop all streams for 40 ms now and then.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_YOUNG, 10, 10)
        await stop.wait()
        if relieved.is_set() and shared:
            await _make_way(app[CONTEXT].node, runner, site)
        # Before the port is closed: who asks meanwhile is answered, and told to go elsewhere.
        await app[CONTEXT].node.drain(settings.drain)
    finally:
        await _clean_up(runner, settings.drain + 2 * LEFTOVER)
        await watched.aclose()
    return 0


async def _make_way(node: "Node", runner: "web.AppRunner", site: "web.TCPSite") -> None:
    """Leave who asks from now on to a successor, also those whose connection was kept open.

    Who uses one is still answered, and finds it closed then; one that nobody uses is closed after that.
    """
    await site.stop()
    node.leaving = True
    await asyncio.sleep(FAREWELL)
    assert runner.server is not None
    runner.server.pre_shutdown()


def _set(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        event.set()


async def _watch(
    watched: AsyncExitStack, settings: Settings, look: "Callable[[], Levels]", shared: bool
) -> None:
    """Begin to tell what is going on, as far as it is asked for."""
    if settings.traces is not None:
        from server.ops import spans

        watched.callback(spans.export(settings.traces))
    if settings.metrics_port is not None:
        from server.ops import metrics

        host, port = settings.metrics_host, settings.metrics_port
        with _listening(host, port):
            served = metrics.served(host, port, look, VERSION, patient=shared)
            await watched.enter_async_context(served)


async def _clean_up(runner: "web.AppRunner", seconds: float) -> None:
    """Stop in good order, but not for ever: Valkey still wants its own good end."""
    try:
        await asyncio.wait_for(runner.cleanup(), seconds)
    except TimeoutError:
        raise Failure(f"still busy after {seconds:g} s; stopped by force") from None


@contextmanager
def _listening(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        known = error.errno is not None and error.errno > 0  # the resolver's are negative
        reason = os.strerror(error.errno or 0) if known else error.strerror
        raise Failure(f"cannot listen on {_in_url(host)}:{port}: {reason}") from None


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _run(node: Coroutine[Any, Any, int]) -> int:
    try:
        import uvloop
    except ImportError:  # Windows has none
        return asyncio.run(node)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(node)
