"""How the commands read their flags."""

import argparse
from typing import Any, NoReturn

from server.settings import SettingsError


class Parser(argparse.ArgumentParser):
    """A parser that knows no abbreviations, and raises `SettingsError` for what it does not like."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise it, in argparse's words."""
        raise SettingsError(message)
