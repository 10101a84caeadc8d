"""Settings: where they come from, what is refused and what is shown."""

import dataclasses
import tomllib
from pathlib import Path

import pytest

from server.settings import SETTINGS, ModelRoute, Settings, SettingsError, flag, variables
from server.sources import as_markdown, as_toml, load


@pytest.fixture
def toml(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "tokenwire.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("file", "env", "flags", "port", "source"),
    [
        ("", {}, {}, 8080, None),
        ("port = 1", {}, {}, 1, "tokenwire.toml: port"),
        ("port = 1", {"PORT": "2"}, {}, 2, "PORT"),
        ("port = 1", {"PORT": "2", "TOKENWIRE_PORT": "3"}, {}, 3, "TOKENWIRE_PORT"),
        ("port = 1", {"PORT": "2", "TOKENWIRE_PORT": "3"}, {"port": "4"}, 4, "--port"),
        ("port = 1", {"PORT": ""}, {}, 1, "tokenwire.toml: port"),
    ],
)
def test_the_strongest_source_wins(toml, monkeypatch, file, env, flags, port, source):
    config = Path(toml(file))
    monkeypatch.chdir(config.parent)
    loaded = load(flags, env, config.name)
    assert (loaded.settings.port, loaded.sources.get("port")) == (port, source)


@pytest.mark.parametrize(
    ("variable", "name", "value"),
    [
        ("HOST", "host", "0.0.0.0"),
        ("REDIS_URL", "redis", "rediss://u:p@db:6380/1"),
        ("REDIS_URL", "redis", "redis+sentinel://u:p@a:26379,[::1]:26380/main/1"),
        ("REDIS_URL", "redis", "rediss+cluster://u:p@a:7000,b"),
        ("OPENAI_BASE_URL", "upstream", "http://llm:8000/v1"),
        ("OPENAI_API_KEY", "api_key", "sk-1"),
    ],
)
def test_the_usual_variables_are_understood(variable, name, value):
    assert getattr(load({}, {variable: value}).settings, name) == value


def test_every_setting_has_a_variable_and_every_open_one_a_flag():
    for name, setting in SETTINGS.items():
        expected = f"TOKENWIRE_{name.upper()}" if setting.text else None
        assert (*variables(name), None)[-1 if not setting.text else -2] == expected
    assert [name for name in SETTINGS if flag(name) is None] == [
        "api_key",
        "models",
        "jwt_secret",
        "secret",
        "log_keys",
    ]


def test_a_config_file_may_be_named_by_the_environment(toml):
    assert load({}, {"TOKENWIRE_CONFIG": toml("workers = 2")}).settings.workers == 2


def test_lists_come_as_a_list_or_with_commas(toml):
    origins = ("https://a.example", "http://b.example:81")
    listed = toml('allow_origin = ["https://A.example", "http://b.example:81"]')
    assert load({}, {}, listed).settings.allow_origin == origins
    texts = {"allow_origin": "https://a.example, http://b.example:81"}
    assert load(texts, {}).settings.allow_origin == origins


def test_models_are_tables_of_the_file(toml):
    config = toml(
        '[models.fast]\nbase_url = "http://a/v1"\napi_key_env = "A_KEY"\nmodel = "x/fast-1"\n'
        '[models.toy]\nupstream = "demo"\n'
        '[models.claude]\nupstream = "anthropic"\n'
        '[models.any]\nupstream = "http"\nbase_url = "http://b/run"\nmethod = "GET"\n'
    )
    assert load({}, {}, config).settings.models == {
        "fast": ModelRoute(base_url="http://a/v1", api_key_env="A_KEY", model="x/fast-1"),
        "toy": ModelRoute(upstream="demo"),
        "claude": ModelRoute(upstream="anthropic"),
        "any": ModelRoute(upstream="http", base_url="http://b/run", method="GET"),
    }


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ({}, "demo"),
        ({"upstream": "http://a"}, None),
        ({"upstream": "http://a", "model": "m"}, "m"),
    ],
)
def test_the_model_is_the_demo_only_without_an_upstream(given, model):
    assert Settings(**given).model == model


@pytest.mark.parametrize(
    ("env", "home"),
    [
        ({}, "~/.local/share/tokenwire"),
        ({"XDG_DATA_HOME": "/data"}, "/data/tokenwire"),
        ({"XDG_DATA_HOME": "/data", "TOKENWIRE_DATA_DIR": "/other"}, "/other"),
    ],
)
def test_the_data_are_where_the_desktop_says(env, home):
    assert load({}, env).settings.data_dir == Path(home)


URL = "expected a URL like redis://… or rediss://… or unix://…"


@pytest.mark.parametrize(
    ("flags", "env", "line"),
    [
        ({"port": "abc"}, {}, "--port: expected int, not 'abc'"),
        ({"port": "70000"}, {}, "--port: expected int <= 65535, not '70000'"),
        ({"port": "-1"}, {}, "--port: expected int >= 0, not '-1'"),
        ({"workers": "0"}, {}, "--workers: expected int >= 1, not '0'"),
        ({"host": ""}, {}, "--host: expected str of length >= 1, not ''"),
        ({"lease": "0.1"}, {}, "--lease: expected float >= 0.2, not '0.1'"),
        ({"ttl": "nan"}, {}, "--ttl: expected float > 0.0, not 'nan'"),
        ({"ttl": "0"}, {}, "--ttl: expected float > 0.0, not '0'"),
        ({"linger": "inf"}, {}, "--linger: expected float <= 315360000.0, not 'inf'"),
        ({"max_body": "0"}, {}, "--max-body: expected int >= 1, not '0'"),
        ({"data_dir": ""}, {}, "--data-dir: expected a path, not ''"),
        (
            {"log_level": "loud"},
            {},
            "--log-level: expected one of debug, info, warning, error, not 'loud'",
        ),
        (
            {"allow_origin": "*"},
            {},
            "--allow-origin: expected an origin like https://app.example.com, not '*'",
        ),
        ({}, {"PORT": "x"}, "PORT: expected int, not 'x'"),
        ({"port": "1"}, {"PORT": "x"}, "PORT: expected int, not 'x'"),
        ({}, {"REDIS_URL": "db:6379"}, f"REDIS_URL: no scheme is not supported; {URL}"),
        ({}, {"REDIS_URL": "http://db"}, f"REDIS_URL: http is not supported; {URL}"),
        (
            {},
            {"REDIS_URL": "redis+sentinel://:pw@a,b"},
            "REDIS_URL: expected a URL like redis+sentinel://host:port,host:port/service",
        ),
        (
            {},
            {"REDIS_URL": "redis+gossip://a"},
            f"REDIS_URL: redis+gossip is not supported; {URL}",
        ),
        ({}, {"REDIS_URL": "redis://:pw@"}, f"REDIS_URL: {URL}"),
        ({}, {"REDIS_URL": "redis+cluster://a:1,b:pw"}, f"REDIS_URL: {URL}"),
        ({}, {"REDIS_URL": "redis://a:pw"}, f"REDIS_URL: {URL}"),
        ({}, {"REDIS_URL": "unix://"}, f"REDIS_URL: {URL}"),
        (
            {},
            {"TOKENWIRE_PROT": "1"},
            "TOKENWIRE_PROT: unknown variable; did you mean TOKENWIRE_PORT?",
        ),
        (
            {},
            {"TOKENWIRE_MODELS": "{}"},
            "TOKENWIRE_MODELS: unknown variable; did you mean TOKENWIRE_MODEL?",
        ),
    ],
)
def test_a_bad_value_is_one_line_that_names_its_source(flags, env, line):
    with pytest.raises(SettingsError) as raised:
        load(flags, env)
    assert str(raised.value) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("prot = 1", "prot: unknown key; did you mean port?"),
        ("zzz = 1", "zzz: unknown key"),
        ('port = "8080"', "port: expected int, not '8080'"),
        ("port = true", "port: expected int, not True"),
        ("port = 1.5", "port: expected int, not 1.5"),
        ('lease = "3"', "lease: expected float, not '3'"),
        ("host = 5", "host: expected str, not 5"),
        ('allow_origin = "https://a"', "allow_origin: expected array, not 'https://a'"),
        ("api_key = 5", "api_key: expected str"),
        ("models = 1", "models: expected table"),
        ("models.a = 1", "models.a: expected table"),
        ("[models.a]\nurl = 1", "models.a: table contains unknown field url"),
        (
            '[models.a]\nbase_url = "ftp://u:pw@a"',
            "models.a: ftp is not supported; expected a URL like http://… or https://…",
        ),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_key(toml, text, line):
    path = toml(text)
    with pytest.raises(SettingsError) as raised:
        load({}, {}, path)
    assert str(raised.value) == f"{path}: {line}"


def test_a_model_needs_some_place_to_come_from(toml):
    config = toml("[models.a]")
    with pytest.raises(SettingsError, match=r"^models\.a: needs a base_url, since upstream is not set$"):
        load({}, {}, config)
    assert load({"upstream": "http://a"}, {}, config).settings.models == {"a": ModelRoute()}
    config = toml('[models.a]\nupstream = "http"')
    with pytest.raises(SettingsError, match=r"^models\.a: needs a base_url$"):
        load({"upstream": "http://a"}, {}, config)


def test_only_who_knows_how_goes_on_with_an_answer(toml):
    config = toml('[models.a]\nupstream = "anthropic"\ntakeover = "continue"')
    with pytest.raises(SettingsError, match=r"^models\.a: anthropic cannot continue an answer$"):
        load({}, {}, config)
    config = toml('[models.a]\nupstream = "anthropic"\ntakeover = "restart"')
    assert load({}, {}, config).settings.models["a"].takeover == "restart"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"port = ", r"Invalid value \(at end of document\)"),
        (b"\xff", r".* can't decode byte 0xff .*"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, content, reason):
    path = tmp_path / "a.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=rf"^{path}: {reason}$"):
        load({}, {}, str(path))


SECRETS = {
    "api_key": "sk-hush1",
    "secret": "hush2",
    "redis": "redis://me:hush3@db:1/0?password=hush4",
    "upstream": "https://me:hu@sh5@llm/v1",
    "models": {"m": ModelRoute(base_url="https://hush6@llm/v1?key=hush7")},
}


def test_nothing_secret_is_ever_shown(toml):
    settings = Settings(**SECRETS)
    config = toml('[models.m]\nbase_url = "https://hush6@llm/v1?key=hush7"')
    env = {
        "OPENAI_API_KEY": SECRETS["api_key"],
        "TOKENWIRE_SECRET": SECRETS["secret"],
        "REDIS_URL": SECRETS["redis"],
        "OPENAI_BASE_URL": SECRETS["upstream"],
    }
    loaded = load({}, env, config)
    assert loaded.settings == settings
    for text in (repr(settings), repr(loaded), as_toml(loaded)):
        assert "hush" not in text
        assert "sh5" not in text
        assert "redis://***@db:1/0?password=***" in text


@pytest.mark.parametrize("name", ["api_key", "secret", "redis", "upstream"])
def test_a_bad_secret_is_not_shown_either(toml, name):
    for value in ('["http://u:hush@a"]', '"ftp://u:hush@a"'):
        with pytest.raises(SettingsError) as raised:
            load({}, {}, toml(f"{name} = {value}\nport = -1"))
        assert "hush" not in str(raised.value)


def test_the_effective_settings_are_toml_with_their_sources(toml):
    config = toml('model = "tést\\"\\n"\n[models."a b"]\nupstream = "demo"')
    text = as_toml(load({"port": "1", "allow_origin": "https://a"}, {"TOKENWIRE_LEASE": "1"}, config))
    assert [line for line in text.splitlines() if not line.endswith("# default")] == [
        "port = 1  # --port",
        "# redis is not set",
        "# upstream is not set",
        "# api_key is not set",
        f'model = "tést\\"\\n"  # {config}: model',
        f'models = {{"a b" = {{"upstream" = "demo", "takeover" = "error"}}}}  # {config}: models',
        'allow_origin = ["https://a"]  # --allow-origin',
        "# keys_file is not set",
        "# jwt_secret is not set",
        "# jwks is not set",
        "# jwt_issuer is not set",
        "# jwt_audience is not set",
        "lease = 1.0  # TOKENWIRE_LEASE",
        "# secret is not set",
        "# metrics_port is not set",
        "# traces is not set",
        "# log_keys is not set",
    ]
    assert tomllib.loads(text)["models"] == {"a b": {"upstream": "demo", "takeover": "error"}}


def test_the_shown_settings_can_be_used_as_a_file(toml):
    loaded = load({"port": "1", "lease": "0.5"}, {"REDIS_URL": "redis://a"})
    assert load({}, {}, toml(as_toml(loaded))).settings == loaded.settings


def test_settings_made_by_hand_are_checked_and_frozen():
    with pytest.raises(SettingsError, match=r"^port: expected int <= 65535, not 65536$"):
        Settings(port=65536)
    with pytest.raises(SettingsError, match=r"^redis: http is not supported"):
        Settings(redis="http://a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        Settings().models["a"] = ModelRoute()  # type: ignore[index]


def test_the_docs_table_has_a_row_for_each_setting():
    rows = as_markdown().splitlines()
    assert [row.split("`")[1] for row in rows[2:]] == list(SETTINGS)
    assert (
        "| `port` | `8080` | `--port`, `TOKENWIRE_PORT`, `PORT` | port to listen on; 0 picks a free one |"
        in rows
    )
