"""What an upstream can do wrong, through all of the server (U1, U2, U4 to U11)."""

from tests.clients import start, text_of
from tests.fake_upstream import expected_text
from tests.faults.readers import Reader
from tests.waiting import until

TOKENS = 20
REJECTED = {"script": "failing", "status": 401}
OVERLOADED = {"script": "failing", "status": 429, "retry_after": 0}
# What the upstream does: how many of its tokens are delivered, and how the session ends.
ENDS = [
    ({"script": "whole", "split": 1}, TOKENS, ("done", None)),
    ({"script": "no_done"}, TOKENS, ("done", None)),
    ({"script": "junk_after_done"}, TOKENS, ("done", None)),
    ({"script": "odd_chunks"}, TOKENS, ("done", None)),
    ({"script": "truncated"}, TOKENS, ("error", "upstream_truncated")),
    ({"script": "reset", "rate": 500}, TOKENS, ("error", "upstream_truncated")),
    ({"script": "malformed"}, TOKENS, ("error", "upstream_invalid")),
    ({"script": "bad_text"}, TOKENS, ("error", "upstream_invalid")),
    ({"script": "giant"}, TOKENS, ("error", "upstream_invalid")),
    ({"script": "error"}, TOKENS, ("error", "upstream_error")),
    ({"script": "stall"}, TOKENS, ("error", "upstream_stall")),
    (REJECTED, 0, ("error", "upstream_rejected")),
    (OVERLOADED, 0, ("error", "upstream_rate_limited")),
    (OVERLOADED | {"failures": 2}, TOKENS, ("done", None)),
    ({"tokens": 10**9, "rate": 400}, 50, ("aborted", None)),
]


async def test_whatever_an_upstream_does_the_prefix_is_kept_and_the_end_is_typed(
    make_process, upstream, http
):
    node = await make_process(upstream=f"{upstream.url}/v1", model="m", upstream_stall=0.5, max_tokens=50)
    for number, (script, tokens, end) in enumerate(ENDS):
        seed = f"u{number}"
        sid = await start(http, node, **({"seed": seed, "tokens": TOKENS} | script))
        reader = Reader(sid)
        *events, last = await reader.read(http, lambda: node.url(""))
        assert (last["type"], last.get("code")) == end, script
        assert text_of(events) == expected_text(seed, tokens), script
        assert "sk-" not in str(last)
    # The last one, which never ends, was hung up on.
    await until(lambda: upstream.hung_up(seed))
