"""Pages of other origins, and what browsers are told."""

import aiohttp
import pytest

from server.transport.pages import Pages
from tests import sources
from tests.clients import start
from tests.security.people import KEYS, LINES, bearer

APP = "https://app.example"
EVIL = [
    "https://evil.example", "null", "https://app.example.evil.example", "https://app.example:444",
    "http://app.example", "https://sub.app.example", "https://app.example/", "http://127.0.0.1:1",
]  # fmt: skip

POLICY = "default-src 'none'; frame-ancestors 'none'"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types default dompurify"
)


@pytest.fixture
async def node(make_node):
    return await make_node({"paced": sources.paced}, keys=LINES, allow_origin=(APP,))


def asked(origin: str | None = None, site: str | None = None, cookie: bool = True) -> dict[str, str]:
    """Return what a browser sends for a page of that origin."""
    headers = {"Cookie": f"tokenwire={KEYS['alice']}"} if cookie else {}
    headers |= {"Origin": origin} if origin else {}
    return headers | ({"Sec-Fetch-Site": site} if site else {})


async def status(http, method: str, url: str, headers: dict[str, str]) -> int:
    body = {"json": {"prompt": "x"}} if method == "POST" else {}
    async with http.request(method, url, headers=headers, **body) as response:
        return response.status


@pytest.mark.parametrize("origin", EVIL)
async def test_a_foreign_page_gets_nothing_by_its_visitors_cookie(node, http, origin):
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/sessions"), ("GET", "/v1/stream?prompt=x")):
        assert await status(http, method, node.url(path), asked(origin)) == 403
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(node.url("/v1/ws"), headers=asked(origin))
    assert refused.value.status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/stream?prompt=x"), ("POST", "/v1/sessions")])
async def test_an_image_of_a_foreign_page_starts_nothing(node, make_node, http, site, method, path):
    assert await status(http, method, node.url(path), asked(site=site)) == 403
    open_to_all = await make_node({"paced": sources.paced})
    assert await status(http, method, open_to_all.url(path), asked(site=site, cookie=False)) == 403
    assert await open_to_all.node.sessions(0, 10) == []


async def test_the_own_page_and_those_on_the_list_use_the_cookie(node, http):
    for headers in (
        asked(node.url("")),
        asked(APP),
        asked(site="same-origin"),
        asked(site="none"),
    ):
        assert await status(http, "POST", node.url("/v1/sessions"), headers) == 201
        async with http.ws_connect(node.url("/v1/ws"), headers=headers) as ws:
            assert not ws.closed


async def test_a_cookie_without_a_word_of_its_page_only_looks(node, http):
    assert await status(http, "GET", node.url("/v1/models"), asked()) == 200
    assert await status(http, "POST", node.url("/v1/sessions"), asked()) == 403
    assert await status(http, "GET", node.url("/v1/stream?prompt=x"), asked()) == 403
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await http.ws_connect(node.url("/v1/ws"), headers=asked())


@pytest.mark.parametrize("origin", EVIL)
async def test_a_preflight_of_a_foreign_page_is_refused(node, http, origin):
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    async with http.options(node.url("/v1/sessions"), headers=headers) as response:
        assert response.status == 403
        assert not [name for name in response.headers if name.startswith("Access-Control")]


async def test_a_preflight_of_a_page_on_the_list_is_answered_for_hours(node, http):
    headers = {"Origin": APP, "Access-Control-Request-Method": "DELETE"}
    async with http.options(node.url("/v1/sessions/x"), headers=headers) as response:
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (204, APP)
        assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
        assert int(response.headers["Access-Control-Max-Age"]) >= 3600


async def test_openais_client_in_a_browser_may_say_what_it_says_of_itself(node, http):
    """These are the headers that openai-js 6 sends from a page, and some that nobody should."""
    ours = "authorization,content-type,openai-organization,openai-project,traceparent,x-request-id"
    theirs = "x-stainless-arch,x-stainless-lang,x-stainless-package-version, x-stainless-retry-count"
    bad = f"x-evil,x-stainless-a:b,my-x-stainless-b,x-stainless-{'a' * 50},x-stainless-"
    headers = {
        "Origin": APP,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": f"{ours},{theirs},{bad}",
    }
    async with http.options(node.url("/v1/responses"), headers=headers) as response:
        allowed = set(response.headers["Access-Control-Allow-Headers"].lower().split(", "))
    names = {name.strip() for name in f"{ours},{theirs},{bad}".split(",")}
    assert names & allowed == {name.strip() for name in f"{ours},{theirs}".split(",")}


@pytest.mark.parametrize(
    ("origin", "scheme", "status"),
    [
        ("https://app.test", "https", 201),
        ("https://app.test", "https, http", 201),
        ("https://app.test", "http", 201),  # TLS ends in front of the proxy that says so
        ("http://app.test", "http", 201),
        ("http://app.test", None, 201),
        ("http://app.test", "https", 403),
        ("http://app.test", "HTTPS, http", 403),
    ],
)
async def test_a_page_without_tls_is_foreign_to_a_host_that_has_it(node, http, origin, scheme, status):
    """Anybody on the way may have written it."""
    headers = asked(origin) | {"Host": "app.test"} | ({"X-Forwarded-Proto": scheme} if scheme else {})
    async with http.post(node.url("/v1/sessions"), headers=headers, json={"prompt": "x"}) as response:
        assert response.status == status


@pytest.mark.parametrize(("origin", "allowed"), [(APP, APP), (EVIL[0], None), (None, None)])
async def test_who_may_read_an_answer_is_said_on_every_answer(node, http, origin, allowed):
    headers = bearer("alice") | ({"Origin": origin} if origin else {})
    for path in ("/v1/models", "/nothing", "/", "/v1/sessions/x"):
        async with http.get(node.url(path), headers=headers) as response:
            told = response.headers
            assert told.get("Access-Control-Allow-Origin") == allowed
            assert told.getall("Vary") == ["Accept-Encoding, Origin" if path == "/" else "Origin"]
            assert told.get("Access-Control-Allow-Credentials") == ("true" if allowed else None)


async def test_without_a_list_no_origin_is_ever_named(make_node, http):
    node = await make_node({"paced": sources.paced})
    async with http.get(node.url("/v1/models"), headers={"Origin": APP}) as response:
        assert not [name for name in response.headers if name.startswith("Access-Control")]


async def test_every_answer_tells_the_browser_to_be_careful(make_node, http):
    node = await make_node({"paced": sources.paced})
    sid = await start(http, node, tokens=1)
    policies = {
        "/": PAGE_POLICY,
        "/inspect": PAGE_POLICY,
        "/app.js": PAGE_POLICY,
        "/nothing": POLICY,
        "/v1/models": POLICY,
        f"/v1/sessions/{sid}": POLICY,
        f"/v1/sessions/{sid}/events": POLICY,
    }
    for path, policy in policies.items():
        async with http.get(node.url(path)) as response:
            told = response.headers
            assert (told["X-Content-Type-Options"], told["Referrer-Policy"]) == ("nosniff", "no-referrer")
            assert told["Cross-Origin-Resource-Policy"] == "same-origin"
            assert told["Content-Security-Policy"] == policy
            assert "no-" in told["Cache-Control"]


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("127.0.0.1:8080", True),
        ("localhost:8080", True),
        ("LOCALHOST", True),
        ("page.localhost", True),
        ("tokenwire:8080", True),
        ("[::1]:8080", True),
        ("192.0.2.1", True),
        ("app.example", True),
        ("app.example:81", False),
        ("evil.example:8080", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
async def test_a_server_that_asks_nobody_goes_by_few_names(make_node, http, host, named):
    """Else a page at evil.example, which says it lives at 127.0.0.1, could use it as its own."""
    assert Pages((APP,), any_host=False)._is_named(host) == named
    node = await make_node({"paced": sources.paced}, allow_origin=(APP,))
    if host:
        headers = {"Host": host, "Origin": f"http://{host}"}
        assert await status(http, "POST", node.url("/v1/sessions"), headers) == (201 if named else 403)
    trusting = await make_node({"paced": sources.paced}, insecure=True)
    assert await status(http, "GET", trusting.url("/v1/models"), {"Host": "evil.example"}) == 200
