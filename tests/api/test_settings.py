import pytest

from api.errors import StartError
from api.settings import ServiceSettings, cores, table, variable
from charrnn.errors import CharRNNError, ConfigError


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
        "CHARRNN_LOG_FORMAT": "json",
        "CHARRNN_ACCESS_LOG": "off",
        "CHARRNN_WORKERS": "3",
        "CHARRNN_THREADS": "4",
        "PATH": "/bin",
    }
    settings = ServiceSettings.from_environment(environ)
    assert {variable(name): str(value) for name, value in settings} == {
        name: text for name, text in environ.items() if name != "PATH"
    }
    assert settings.model == "2024", "a name of digits stays a name"


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


def test_every_wrong_variable_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        ServiceSettings.from_environment({"CHARRNN_PORT": "x", "CHARRNN_THREADS": "y"})
    assert [each.field for each in caught.value.problems] == ["CHARRNN_PORT", "CHARRNN_THREADS"]


def test_the_value_of_an_unknown_variable_is_not_shown():
    with pytest.raises(StartError) as caught:
        ServiceSettings.from_environment({"CHARRNN_SECRET": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_the_table_has_every_setting_with_its_default_and_meaning():
    rows = {name: (default, meaning) for name, default, meaning in table()}
    assert set(rows) == {variable(name) for name in ServiceSettings.fields()}
    assert rows["CHARRNN_PORT"][0] == "8000"
    assert rows["CHARRNN_WORKERS"][0] == "cores"
    assert rows["CHARRNN_WEIGHTS"][0] == "unset"
    assert all(meaning for _, meaning in rows.values())
