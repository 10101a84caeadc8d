"""The lock files hold what the project asks for."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def asked(*extras: str) -> list[Requirement]:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    texts = [config["options"]["install_requires"]]
    texts += [config["options.extras_require"][extra] for extra in extras]
    found = [Requirement(line) for text in texts for line in text.split("\n") if line]
    return [requirement for requirement in found if requirement.name != "tokenwire"]


def locked(name: str) -> dict[str, str]:
    text = (ROOT / name).read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)(?:\[[^\]]*\])?==([^ ]+)", text, re.M))


@pytest.mark.parametrize(
    ("name", "extras"),
    [("requirements.lock", ("otel",)), ("requirements-test.lock", ("otel", "test", "loadtest"))],
)
def test_everything_that_is_asked_for_is_locked_at_a_good_version(name, extras):
    versions = locked(name)
    missing = [str(r) for r in asked(*extras) if r.name.lower() not in versions]
    assert missing == [], "run `make lock`"
    assert [str(r) for r in asked(*extras) if versions[r.name.lower()] not in r.specifier] == []


def test_what_is_tested_is_what_is_shipped():
    tested = locked("requirements-test.lock")
    shipped = locked("requirements.lock")
    assert shipped.items() <= tested.items()
    assert len(shipped) > 20


def test_every_locked_version_has_a_hash():
    for name in ("requirements.lock", "requirements-test.lock"):
        text = (ROOT / name).read_text()
        assert len(re.findall(r"^[a-z].*==.* \\\n    --hash=", text, re.M)) == len(
            re.findall(r"^[a-z].*==", text, re.M)
        )
