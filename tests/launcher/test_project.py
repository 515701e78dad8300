"""Which of a researcher's files go into the bundle: those that were meant, and nothing that gives them away."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.contract.config import Configuration, RunConfig, SessionConfig
from launcher.cli import main
from launcher.config import RunSettings
from launcher.errors import BundleError, ConfigError, SecretFound
from launcher.packing import bundle, project, secrets

CONFIG = Configuration(RunConfig("quick-abcdef", 100, 10, env="signals:make"), SessionConfig())
KEY = "KGAT_" + "0123456789abcdef" * 2


def _write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def _names(folder: Path, *include: str, env: str = "signals:make") -> list[str]:
    return list(project.collect(RunSettings(env=env, include=include), folder).files)


def _payload(script: bytes) -> dict[str, bytes]:
    """What a session would unpack."""
    text = re.search(rb'PAYLOAD = """\n(.*?)\n"""', script, re.DOTALL)
    assert text is not None
    packed = base64.b85decode(text[1].replace(b"\n", b""))
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:xz") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def test_a_folder_lands_under_its_own_name_and_a_dot_is_the_folder_itself(tmp_path: Path) -> None:
    _write(tmp_path, {"src/signals/a.py": "", "src/signals/net/b.toml": "", "road.py": "", "other/c.py": ""})
    assert _names(tmp_path, "src/signals", "road.py") == ["road.py", "signals/a.py", "signals/net/b.toml"]
    assert _names(tmp_path, ".") == ["other/c.py", "road.py", "src/signals/a.py", "src/signals/net/b.toml"]


def test_without_include_the_module_of_the_environment_goes(tmp_path: Path) -> None:
    _write(tmp_path, {"signals.py": "", "recipes/__init__.py": "", "recipes/x.py": "", "notes.txt": ""})
    assert _names(tmp_path) == ["signals.py"]
    assert _names(tmp_path, env="recipes.x:make") == ["recipes/__init__.py", "recipes/x.py"]
    assert _names(tmp_path, env="CartPole-v1") == []
    assert _names(tmp_path, env="gymnasium.envs:Any") == []


def test_without_include_the_modules_that_the_recipe_names_go_too(tmp_path: Path) -> None:
    for name in ("signals.py", "networks.py", "schedules.py", "other.py"):
        (tmp_path / name).write_text("")
    recipe = {
        "learning_rate": "schedules:warm_up",
        "clip_range": "lin_0.2",
        "policy_kwargs": {"features_extractor_class": "networks:Extractor", "activation_fn": "torch.nn:ELU"},
    }
    settings = RunSettings(env="signals:make", policy="networks:Policy", hyperparameters=recipe)
    assert set(project.collect(settings, tmp_path).files) == {"signals.py", "networks.py", "schedules.py"}


def test_an_environment_in_a_package_that_is_called_as_one_of_ours_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel" / "envs.py").write_text("")
    with pytest.raises(ConfigError, match=r"hide the kernel's own kernel\.\nRename it"):
        project.collect(RunSettings(env="kernel.envs:make"), tmp_path)


def test_what_is_never_meant_stays(tmp_path: Path) -> None:
    _write(
        tmp_path,
        {
            "signals.py": "",
            "kaglaunch.toml": "",
            ".git/config": "",
            "__pycache__/signals.pyc": "",
            "venv/pyvenv.cfg": "",
            "venv/lib/x.py": "",
            "runs/quick-abcdef/session-1.py": "",
        },
    )
    assert _names(tmp_path, ".") == ["signals.py"]


PATTERNS = ("*.csv", "!keep.csv", "data/", "/a.py", "b*.py", "pkg/*.py", "**/deep", "!pkg/b.py", "pkg/data/*.csv")
TREE = (
    "a.py",
    "b.py",
    "x.csv",
    "keep.csv",
    "pkg/a.py",
    "pkg/b.py",
    "pkg/data/x.csv",
    "pkg/data/keep.csv",
    "p/deep/a.py",
)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.sampled_from(PATTERNS), max_size=4),
    st.lists(st.sampled_from(PATTERNS), max_size=3),
)
def test_ignore_files_mean_what_git_takes_them_to_mean(
    tmp_path_factory: pytest.TempPathFactory, top: list[str], nested: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    _write(folder, dict.fromkeys(TREE, "") | {".gitignore": "\n".join(top), "pkg/.gitignore": "\n".join(nested)})
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    listed = ["git", "ls-files", "--others", "--exclude-standard"]
    by_git = subprocess.run(listed, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()
    assert _names(folder, ".") == sorted(name for name in by_git if not name.endswith(".gitignore"))


def test_kaglaunchignore_leaves_out_what_git_keeps(tmp_path: Path) -> None:
    _write(tmp_path, {"signals.py": "", "big/data.npy": "", ".kaglaunchignore": "big/\n"})
    assert _names(tmp_path, ".") == ["signals.py"]


def test_ignore_files_above_an_included_folder_count(tmp_path: Path) -> None:
    _write(tmp_path, {"src/signals/a.py": "", "src/signals/a.log": "", ".gitignore": "*.log\n"})
    assert _names(tmp_path, "src/signals") == ["signals/a.py"]


@pytest.mark.parametrize("path", ["..", "../elsewhere", "/etc/hostname", "sub/../../x"])
def test_a_path_outside_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "here").mkdir()
    with pytest.raises(ConfigError, match="outside"):
        _names(tmp_path / "here", path)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'nowhere'"):
        _names(tmp_path, "nowhere")


@pytest.mark.parametrize("inside", [True, False])
def test_a_symbolic_link_is_refused_wherever_it_leads(tmp_path: Path, inside: bool) -> None:
    _write(tmp_path, {"signals/a.py": "", "outside.txt": "secret"})
    (tmp_path / "signals" / "link.py").symlink_to(tmp_path / "outside.txt" if inside else "/etc/passwd")
    with pytest.raises(BundleError, match=r"link\.py is a symbolic link"):
        _names(tmp_path, "signals")
    _write(tmp_path, {".kaglaunchignore": "link.py"})
    assert _names(tmp_path, "signals") == ["signals/a.py"]


def test_an_included_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="outside"):
        _names(here, "link")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    _write(tmp_path, {"signals/a.py": ""})
    os.mkfifo(tmp_path / "signals" / "pipe")
    with pytest.raises(BundleError, match="neither a file nor a folder"):
        _names(tmp_path, "signals")


@pytest.mark.parametrize("name", ["kernel/x.py", "torch.py", "json.py", "run.json", "arz_model.py"])
def test_a_name_that_hides_what_the_session_needs_is_refused(tmp_path: Path, name: str) -> None:
    _write(tmp_path, {name: ""})
    with pytest.raises(ConfigError, match="hide"):
        _names(tmp_path, ".")


def test_too_much_is_refused_before_it_is_read_with_the_largest_named(tmp_path: Path) -> None:
    _write(tmp_path, {"signals/a.py": "", "signals/small.npy": b"x"})
    with (tmp_path / "signals" / "huge.npy").open("wb") as file:
        file.truncate(80_000_000_000)
    with pytest.raises(BundleError, match=r"80,000,000,000 bytes  signals/huge\.npy"):
        _names(tmp_path, "signals")


def test_what_does_not_compress_into_a_script_is_refused_with_the_largest_named(tmp_path: Path) -> None:
    _write(tmp_path, {"signals/a.py": "", "signals/weights.bin": os.urandom(900_000)})
    found = project.collect(RunSettings(env="signals.a:make", include=("signals",)), tmp_path)
    with pytest.raises(BundleError, match=r"900,000 bytes  signals/weights\.bin"):
        bundle.build(CONFIG, found)


def _notebook(source: str) -> str:
    return json.dumps({"cells": [{"cell_type": "code", "source": [source]}]}, indent=1)


PLANTED = {
    "token in source": ("signals.py", f"TOKEN = '{KEY}'\ndef make(): ...\n"),
    "token in a notebook": ("explore.ipynb", _notebook(f'token = "{KEY}"\n')),
    "key in a notebook": ("explore.ipynb", _notebook('creds = {"key": "0123456789abcdef0123456789abcdef"}\n')),
    "AWS key in a notebook": ("explore.ipynb", _notebook('aws = "AKIAIOSFODNN7EXAMPLE"\n')),
    "token in UTF-16": ("notes.txt", f"token {KEY}\n".encode("utf-16")),
    "token in a binary file": ("cache.bin", b"\0\1" + KEY.encode() + b"\0"),
    "private key": ("deploy.txt", "-----BEGIN OPENSSH PRIVATE KEY-----\n"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_secret_stops_the_push_and_is_not_quoted(
    home: Path, capsys: pytest.CaptureFixture[str], planted: str
) -> None:
    name, content = PLANTED[planted]
    _write(home, {"signals.py": "def make(): ...\n", **{name: content}})
    try:
        arguments = ["push", "--quick", "--env", "signals:make", "--include", "."]
        assert main(arguments) == 3
        seen = capsys.readouterr()
        assert name in seen.err + seen.out
        assert not re.search("0123456789|AKIA", seen.err + seen.out)
        assert main(["runs", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == []
    finally:
        main(["local", "stop"])


LETTERS = "abcdefGHIJKLmnopQRSTuvwxYZ0123456789"
TREE = {
    "discord.py": f'URL = "https://discord.com/api/webhooks/1234567890/{LETTERS}-{LETTERS}"\n',
    "teams.py": f'URL = "https://contoso.webhook.office.com/webhookb2/11111111/IncomingWebhook/{LETTERS}/1"\n',
    "slack.ipynb": _notebook(f'"https://hooks.slack.com/services/T0000{LETTERS[:5]}/B0000/{LETTERS[:24]}"\n'),
    "chat/notify.toml": f'notify_webhook = "https://ntfy.example/{LETTERS}"\n',
    "hugging.py": f'login("hf_{LETTERS}")\n',
    "github.py": f'x = "github_pat_{LETTERS}"\n',
    "google.py": f'x = "AIza{LETTERS[:35]}"\n',
    "model.py": f'x = "sk-ant-{LETTERS}"\n',
    "weights.py": f'WANDB_API_KEY = "{LETTERS}"\n',
    "start.sh": f"export MY_TOKEN={LETTERS}\n",
    "conf.yaml": "kaggle_key: 0123456789abcdef0123456789abcdef\n",
    "basic.py": 'U = "https://alice:s3cr3t-0123456789@example.com/x"\n',
}
STAYS = {".env": f"A={LETTERS}\n", "kaggle.json": f'{{"key": "{LETTERS}"}}\n', ".git/config": f"{LETTERS}\n"}


def test_of_a_tree_full_of_secrets_none_reaches_a_bundle_a_log_or_an_error(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _write(home / "project", {"signals.py": "def make(): ...\n", **TREE, **STAYS})
    monkeypatch.chdir(home / "project")
    caplog.set_level("DEBUG")
    try:
        assert main(["--verbose", "push", "--quick", "--env", "signals:make", "--include", "."]) == 3
        told = capsys.readouterr()
        said = told.out + told.err
        assert [name for name in TREE if f"{name}:" not in said] == []
        assert main(["preflight", "--quick", "--env", "signals:make", "--include", ".", "--json"]) == 3
        told = capsys.readouterr()
        said += told.out + told.err + caplog.text
    finally:
        main(["local", "stop"])
    kept = [path.read_bytes() for path in (home / "state").rglob("*") if path.is_file()]
    assert kept, "the embedded Kaggle keeps a log and a store"
    secret = re.compile(rb"abcdefGHIJ|0123456789")
    assert not secret.search(said.encode())
    assert not [content for content in kept if secret.search(content)]
    assert not (home / "project" / "runs").exists()


def test_addresses_and_names_that_are_no_secrets_are_left_alone() -> None:
    lines = [
        "TOKEN = os.environ['KAGGLE_API_TOKEN']",
        "url = 'https://pre-commit.com/hooks.html'",
        "notify_webhook: str = ''",
        "See https://docs.github.com/en/webhooks for more.",
        "KAGGLE_API_TOKEN=<that token>",
    ]
    assert secrets.scan({"a.py": "\n".join(lines).encode()}) == []


def test_credential_files_of_the_folder_stay_at_home(tmp_path: Path) -> None:
    files = {
        ".env": f"KAGGLE_API_TOKEN={KEY}",
        "kaggle.json": f'{{"key": "{KEY}"}}',
        "sub/.env.local": KEY,
        "id_rsa": KEY,
    }
    _write(tmp_path, {"signals.py": "", **files})
    found = project.collect(RunSettings(env="signals:make", include=(".",)), tmp_path)
    assert list(found.files) == ["signals.py"]
    assert set(found.left_out) == set(files)
    assert not any(KEY.encode() in content for content in _payload(bundle.build(CONFIG, found).script).values())


@pytest.mark.parametrize("name", [".env", "kaggle.json"])
def test_a_credential_file_that_is_named_is_refused(tmp_path: Path, name: str) -> None:
    _write(tmp_path, {name: "A=1"})
    with pytest.raises((ConfigError, SecretFound), match=re.escape(name)):
        _names(tmp_path, name)


def test_a_session_unpacks_exactly_the_files_and_knows_their_modules(tmp_path: Path) -> None:
    long = "signals/" + "a" * 120 + "/" + "b" * 120 + ".py"
    _write(tmp_path, {"signals/__init__.py": "X = 'é'\n", "signals/road.npy": b"\0\xff", long: "", "plain.txt": ""})
    found = project.collect(RunSettings(include=(".",)), tmp_path)
    unpacked = _payload(bundle.build(CONFIG, found).script)
    assert {name: unpacked[name] for name in found.files} == dict(found.files)
    assert json.loads(unpacked["packages.json"]) == ["signals"]


def test_what_the_first_session_packed_is_what_later_ones_pack(tmp_path: Path) -> None:
    _write(tmp_path, {"work/signals/a.py": "one\n", "work/signals/b.bin": b"\0"})
    first = project.collect(RunSettings(include=("signals",)), tmp_path / "work")
    first.save(tmp_path / "kept")
    _write(tmp_path, {"work/signals/a.py": "two\n"})
    assert project.Project.saved(tmp_path / "kept").files == first.files
    assert project.Project.saved(tmp_path / "nothing").files == {}
