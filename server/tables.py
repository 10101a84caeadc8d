"""What a table `[models.NAME]` of a settings file may say (pure)."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from server import urls

Text = Annotated[str, Meta(min_length=1)]


class ModelRoute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the tokens of one model come from.

    `base_url` is by default the setting `upstream`, or Anthropic's own; for `http` the whole address,
    asked with `method`. `model`, as the upstream knows it, is by default the table's own. The key is in
    the variable `api_key_env`; by default it is `api_key`, for Anthropic's in
    `ANTHROPIC_API_KEY`, and for any other server none.
    `takeover` says what becomes of an answer whose node died: its end, its rest (by an `openai` server
    that knows `continue_final_message`) or another one. For the latter two, prompts are kept in Redis.
    """

    upstream: Literal["openai", "anthropic", "http", "demo"] = "openai"
    takeover: Literal["error", "continue", "restart"] = "error"
    base_url: Text | None = None
    api_key_env: Text | None = None
    model: Text | None = None
    method: Literal["POST", "GET"] | None = None

    def __post_init__(self) -> None:
        if self.base_url is not None:
            urls.http(self.base_url)
