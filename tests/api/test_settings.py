import pytest

from api.errors import StartError
from api.settings import ServiceSettings, cores, table, variable
from charrnn.errors import CharRNNError, ConfigError

KEY = "k3y" * 8


def test_an_empty_environment_gives_the_defaults():
    settings = ServiceSettings.from_environment({})
    assert settings == ServiceSettings()
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, cores())


def test_every_setting_is_read_from_its_variable():
    environ = {
        "CHARRNN_HOST": "::1",
        "CHARRNN_PORT": "80",
        "CHARRNN_WEIGHTS": "/srv/weights",
        "CHARRNN_MODEL": "2024",
        "CHARRNN_MAX_COUNT": "7",
        "CHARRNN_MAX_LENGTH": "8",
        "CHARRNN_MAX_CHARACTERS": "9",
        "CHARRNN_MAX_BODY": "1000",
        "CHARRNN_READ_TIMEOUT": "6",
        "CHARRNN_BLOCKLIST": "/srv/words",
        "CHARRNN_TIME_LIMIT": "5",
        "CHARRNN_MAX_REQUESTS": "2",
        "CHARRNN_LOG_FORMAT": "json",
        "CHARRNN_ACCESS_LOG": "off",
        "CHARRNN_PROXIES": "2",
        "CHARRNN_WORKERS": "3",
        "CHARRNN_THREADS": "4",
        "CHARRNN_API_KEYS": KEY,
        "CHARRNN_API_KEYS_FILE": "/srv/keys",
        "CHARRNN_OPEN_PATHS": "/healthz",
        "CHARRNN_CORS_ORIGINS": "https://example.org",
        "PATH": "/bin",
    }
    settings = ServiceSettings.from_environment(environ)
    environ["CHARRNN_API_KEYS"] = "<1 keys>"  # all that can be seen of them
    assert {variable(name): str(value) for name, value in settings} == {
        name: text for name, text in environ.items() if name != "PATH"
    }
    assert settings.model == "2024", "a name of digits stays a name"


def test_what_the_library_reads_is_no_wrong_setting_and_brackets_are_no_part_of_a_host():
    environ = {"CHARRNN_CACHE": "/srv/cache", "CHARRNN_HOST": "[::1]"}
    assert ServiceSettings.from_environment(environ) == ServiceSettings(host="::1")


def test_an_empty_variable_counts_as_unset():
    environ = {"CHARRNN_MODEL": "", "CHARRNN_PORT": "  "}
    assert ServiceSettings.from_environment(environ) == ServiceSettings()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("CHARRNN_PORT", "99999", "CHARRNN_PORT must be from 0 to 65535, got '99999'"),
        ("CHARRNN_PORT", "tcp://10.0.0.1:80", "CHARRNN_PORT must be a whole number, got 'tcp://"),
        ("CHARRNN_PORT", "9" * 5000, "CHARRNN_PORT must be a whole number, got '999"),
        ("CHARRNN_PORT", "8000.5", "CHARRNN_PORT must be a whole number, got '8000.5'"),
        ("CHARRNN_WORKERS", "0", "CHARRNN_WORKERS must be from 1 to 1024, got '0'"),
        ("CHARRNN_THREADS", "-1", "CHARRNN_THREADS must be from 1 to 1024, got '-1'"),
        ("CHARRNN_MAX_COUNT", "100001", "CHARRNN_MAX_COUNT must be from 1 to 100000, got"),
        ("CHARRNN_MAX_CHARACTERS", "0", "CHARRNN_MAX_CHARACTERS must be at least 1, got '0'"),
        (
            "CHARRNN_API_KEYS",
            "s3cret",
            "CHARRNN_API_KEYS must have keys of 16 to 256 characters; key 1 has 6 (`openssl rand -"
            "hex 24` makes a good one), got a value that is not shown",
        ),
        ("CHARRNN_API_KEYS", f"{KEY},s3cret", "CHARRNN_API_KEYS must have keys of 16 to 256 char"),
        ("CHARRNN_API_KEYS", f"{KEY} s3cret", "CHARRNN_API_KEYS must have keys of ASCII letters"),
        ("CHARRNN_API_KEYS", "s3cretsécret1234", "CHARRNN_API_KEYS must have keys of ASCII lett"),
        ("CHARRNN_API_KEYS", " , ,", "CHARRNN_API_KEYS must have at least one key; `openssl"),
        ("CHARRNN_API_KEYS", "s3cret" * 99, "CHARRNN_API_KEYS must have keys of 16 to 256 charac"),
        (
            "CHARRNN_API_KEYS",
            ",".join(f"{n:020}" for n in range(1001)),
            "CHARRNN_API_KEYS must have at most 1000 keys, and has 1001",
        ),
        (
            "CHARRNN_API_KEY",
            KEY,
            "CHARRNN_API_KEY is not a setting (did you mean CHARRNN_API_KEYS",
        ),
        ("CHARRNN_OPEN_PATHS", "healthz", "CHARRNN_OPEN_PATHS must be paths that begin with /, s"),
        ("CHARRNN_CORS_ORIGINS", "example.org", "CHARRNN_CORS_ORIGINS must be * or origins such"),
        ("CHARRNN_CORS_ORIGINS", "https://a.org/x", "CHARRNN_CORS_ORIGINS must be * or origins s"),
        ("CHARRNN_CORS_ORIGINS", "*,https://a.org", "CHARRNN_CORS_ORIGINS must be * or origins s"),
        ("CHARRNN_CORS_ORIGINS", "null", "CHARRNN_CORS_ORIGINS must be * or origins such as"),
        ("CHARRNN_LOG_FORMAT", "xml", "CHARRNN_LOG_FORMAT must be"),
        ("CHARRNN_ACCESS_LOG", "1", "CHARRNN_ACCESS_LOG must be"),
        ("CHARRNN_PROT", "80", "CHARRNN_PROT is not a setting (did you mean CHARRNN_PORT?); the k"),
        ("CHARRNN_XYZZY", "1", "CHARRNN_XYZZY is not a setting; the known ones are CHARRNN_HOST,"),
    ],
)
def test_a_wrong_variable_is_one_line_that_names_it(name, text, message):
    with pytest.raises(CharRNNError) as caught:
        ServiceSettings.from_environment({name: text})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    if "KEY" in name:
        assert not any(
            part in f"{caught.value}{caught.value!r}" for part in (KEY, "s3cret", "0999")
        )


def test_every_wrong_variable_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        ServiceSettings.from_environment({"CHARRNN_PORT": "x", "CHARRNN_THREADS": "y"})
    assert [each.field for each in caught.value.problems] == ["CHARRNN_PORT", "CHARRNN_THREADS"]


def test_the_value_of_an_unknown_variable_is_not_shown():
    with pytest.raises(StartError) as caught:
        ServiceSettings.from_environment({"CHARRNN_SECRET": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_keys_are_nowhere_to_be_seen():
    settings = ServiceSettings(api_keys=f"{KEY}, {KEY}x")
    assert len(settings.api_keys) == 2
    copy = settings.changed(port=80)
    assert (copy.api_keys, copy.port) == (settings.api_keys, 80)
    for shown in (settings, copy, vars(settings), settings.values(), settings.said(), table()):
        assert "k3y" not in f"{shown} {shown!r}"


@pytest.mark.parametrize("value", [7, b"k" * 20, ["k" * 20], True])
def test_keys_of_another_type_are_refused_unseen(value):
    with pytest.raises(ConfigError) as caught:
        ServiceSettings(api_keys=value)
    assert str(caught.value) == "api_keys must be text, got a value that is not shown"


def test_origins_are_read_as_browsers_send_them():
    settings = ServiceSettings(cors_origins=" https://Example.org , http://localhost:3000")
    assert settings.cors_origins == "https://example.org,http://localhost:3000"


def test_the_table_has_every_setting_with_its_default_and_meaning():
    rows = {name: (default, meaning) for name, default, meaning in table()}
    assert set(rows) == {variable(name) for name in ServiceSettings.fields()}
    assert rows["CHARRNN_PORT"][0] == "8000"
    assert rows["CHARRNN_WORKERS"][0] == "cores"
    assert rows["CHARRNN_WEIGHTS"][0] == "unset"
    assert all(meaning for _, meaning in rows.values())
