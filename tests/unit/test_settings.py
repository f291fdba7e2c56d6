"""Unknown settings and placeholder secrets are refused, in words that help."""

import pytest

from cloister.core.errors import SettingsError
from cloister.platform.settings import explain, load

KEY = "x8Jq2mVb7Rk4Zt9Lw3Ns6Pd1Gf5Hc0Ya"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_an_unknown_variable_is_an_error_with_a_suggestion(monkeypatch):
    monkeypatch.setenv("CLOISTER_DATABSE_URL", "x")
    with pytest.raises(SettingsError, match="CLOISTER_DATABSE_URL is no setting. Did you mean database_url?"):
        load(mode="demo")


def test_an_unknown_key_in_the_file_is_an_error(tmp_path):
    (tmp_path / "cloister.toml").write_text('mode = "demo"\nlisten_prt = 1\n')
    with pytest.raises(SettingsError, match="listen_prt is no setting. Did you mean listen_port?"):
        load()


@pytest.mark.parametrize("key", [None, "changeme", "secret" * 10, "short"])
def test_outside_the_demo_a_real_secret_is_needed(key):
    with pytest.raises(SettingsError, match="openssl rand"):
        load(mode="production", **({} if key is None else {"secret_key": key}))


def test_the_environment_comes_before_the_file_and_secrets_are_masked(tmp_path, monkeypatch):
    (tmp_path / "cloister.toml").write_text(f'listen_port = 1\nsecret_key = "{KEY}"\n')
    monkeypatch.setenv("CLOISTER_LISTEN_PORT", "2")
    rows = {name: (value, source) for name, value, source in explain(load())}
    assert rows["listen_port"] == ("2", "environment CLOISTER_LISTEN_PORT")
    assert rows["secret_key"] == ("(set)", "cloister.toml")
    assert rows["log_level"] == ("info", "default")


def test_the_fake_backend_is_refused_in_production():
    with pytest.raises(SettingsError, match="fake"):
        load(secret_key=KEY, sandbox_backend="fake")


@pytest.mark.parametrize("role", ["boss", "course:operator", "member", "course:", ""])
def test_a_directory_group_maps_to_a_role_that_exists(role):
    provider = {
        "name": "idp",
        "title": "T",
        "issuer": "https://i.example",
        "client_id": "c",
        "group_roles": {"g": role},
    }
    with pytest.raises(SettingsError, match="write “operator” or “SPACE:ROLE”"):
        load(mode="demo", oidc_providers=[provider])
