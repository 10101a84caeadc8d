"""Events as Hypothesis draws them: what an answer may be made of, and how it may end."""

from hypothesis import strategies as st

from server.events import Aborted, AbortReason, Bytes, Content, Done, Error, Reasoning, ToolCall

_WORDS = st.text(max_size=5)
_CALLS = st.builds(
    ToolCall,
    st.integers(0, 2),
    st.none() | st.sampled_from(["c1", "c2"]),
    st.none() | st.just("search"),
    st.none() | _WORDS,
)
PIECES = st.one_of(
    st.builds(Content, _WORDS),
    st.builds(Reasoning, _WORDS),
    _CALLS,
    st.builds(Bytes, st.binary(max_size=5), st.none() | st.just("image/png")),
)
FINALS = st.one_of(
    st.builds(
        Done, st.sampled_from(["stop", "length", "tool_calls", "x"]), st.none() | st.just({"a": 1})
    ),
    st.builds(Aborted, st.sampled_from(AbortReason)),
    st.builds(Error, _WORDS, _WORDS, st.booleans()),
)
