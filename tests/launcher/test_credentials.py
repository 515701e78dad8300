"""Credentials are found in the client's own order, and never shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from launcher.errors import CredentialsError
from launcher.targets import credentials, target


def _kaggle_json(home: Path, text: str) -> None:
    (home / ".kaggle").mkdir()
    (home / ".kaggle" / "kaggle.json").write_text(text)


def test_token_in_the_environment_wins_over_every_file(home: Path) -> None:
    _kaggle_json(home, json.dumps({"username": "alice", "key": "k" * 32}))
    found = credentials.find({"KAGGLE_API_TOKEN": "KGAT_x"}, home)
    assert found is not None
    assert (found.token, found.username) == ("KGAT_x", None)


def test_variable_may_name_a_file_that_holds_the_token(home: Path) -> None:
    (home / "token").write_text("KGAT_in_file\n")
    found = credentials.find({"KAGGLE_API_TOKEN": str(home / "token")}, home)
    assert found is not None
    assert found.token == "KGAT_in_file"


def test_token_file_wins_over_user_and_key(home: Path) -> None:
    (home / ".kaggle").mkdir()
    (home / ".kaggle" / "access_token").write_text("KGAT_file")
    found = credentials.find({"KAGGLE_USERNAME": "alice", "KAGGLE_KEY": "k"}, home)
    assert found is not None
    assert found.token == "KGAT_file"


def test_half_a_pair_is_no_credential(home: Path) -> None:
    assert credentials.find({"KAGGLE_USERNAME": "alice"}, home) is None


@pytest.mark.parametrize("text", ["", "[]", '{"username": "alice"}', "{"])
def test_broken_kaggle_json_is_an_error_that_names_the_file(home: Path, text: str) -> None:
    _kaggle_json(home, text)
    with pytest.raises(CredentialsError, match=r"kaggle\.json"):
        credentials.find({}, home)


def _login(home: Path, **values: object) -> None:
    (home / ".kaggle").mkdir(exist_ok=True)
    (home / ".kaggle" / "credentials.json").write_text(json.dumps(values))


def test_what_the_official_login_left_is_used_after_everything_else(home: Path) -> None:
    ends = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    _login(
        home, refresh_token="r" * 20, access_token="a" * 20, access_token_expiration=ends, username="alice", scopes=[]
    )
    found = credentials.find({}, home)
    assert found is not None
    assert (found.token, found.secrets) == ("a" * 20, ("a" * 20, "r" * 20))
    assert "credentials.json, from `kaggle auth login`" in str(found.source)
    assert "r" * 20 not in repr(found)
    assert "a" * 20 not in repr(found)
    (home / ".kaggle" / "kaggle.json").write_text(json.dumps({"username": "alice", "key": "k"}))
    legacy = credentials.find({}, home)
    assert legacy is not None
    assert legacy.key == "k"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"access_token": "a", "access_token_expiration": "2020-01-01T00:00:00+00:00"},
            "a token until 2020-01-01 00:00 UTC",
        ),
        ({"access_token": "a", "access_token_expiration": "2020-01-01T00:00:00"}, "a token until 2020-01-01 00:00 UTC"),
        ({"access_token": "", "access_token_expiration": ""}, "holds no token that is valid"),
        ({"refresh_token": "r"}, "holds no token that is valid"),
        ({"access_token": "a", "access_token_expiration": "soon"}, "is not what `kaggle auth login` writes"),
    ],
)
def test_a_login_that_cannot_be_used_is_named_with_the_way_out(
    values: dict[str, object], said: str, home: Path
) -> None:
    _login(home, **values)
    with pytest.raises(CredentialsError) as caught:
        credentials.find({}, home)
    assert said in str(caught.value)
    assert "KAGGLE_API_TOKEN" in str(caught.value)


def test_the_official_client_reads_the_login_that_is_read_here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kagglesdk import KaggleClient, KaggleCredentials

    monkeypatch.setenv("HOME", str(home))
    ends = datetime.now(UTC) + timedelta(hours=2)
    KaggleCredentials(KaggleClient(), "refresh", "access", ends, "alice", []).save()
    found = credentials.find({}, home)
    assert found is not None
    assert (found.token, found.renewal) == ("access", "refresh")


def test_secrets_are_not_in_the_repr(home: Path) -> None:
    _kaggle_json(home, json.dumps({"username": "alice", "key": "topsecretkey"}))
    found = credentials.find({}, home)
    assert found is not None
    assert "topsecretkey" not in repr(found)
    assert found.secrets == ("topsecretkey",)


def test_target_is_local_without_credentials_and_says_why(home: Path) -> None:
    chosen = target.choose(None)
    assert chosen.name is target.TargetName.local
    assert "no Kaggle credentials found" in str(chosen)


def test_target_is_kaggle_when_credentials_are_found_and_says_where(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_x")
    chosen = target.choose(None)
    assert chosen.name is target.TargetName.kaggle
    assert "KAGGLE_API_TOKEN" in str(chosen)
    assert "KGAT_x" not in str(chosen)


def test_forcing_kaggle_without_credentials_names_the_three_ways(home: Path) -> None:
    with pytest.raises(CredentialsError) as caught:
        target.choose(target.TargetName.kaggle)
    for way in ("access_token", "KAGGLE_API_TOKEN", "kaggle.json"):
        assert way in str(caught.value)
