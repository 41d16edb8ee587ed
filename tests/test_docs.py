"""The documentation is complete and its examples work, or the suite is red."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import timedelta
from pathlib import Path

import click
import pytest

import bridge.cli
from bridge.cli import main
from bridge.credentials import A2A_FROM, A2A_TO, KNOWN, mastodon_token, peer_token
from bridge.settings import load, names
from policies.document import PolicyDocument, Unreadable, read, schema
from policies.grant import Grant
from policies.grant import schema as grant_schema

DOCS = Path(__file__).parent.parent / "docs"


def _page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", _page(page), flags=re.MULTILINE | re.DOTALL)


def _commands(group: click.Group, prefix: str = "hearth") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= _commands(command, f"{prefix} {name}")
        else:
            found[f"{prefix} {name}"] = command
    return found


def _as_written(default: object) -> str:
    match default:
        case None:
            return "unset"
        case timedelta():
            seconds = int(default.total_seconds())
            unit, size = next((u, s) for u, s in (("h", 3600), ("m", 60), ("s", 1)) if seconds % s == 0)
            return f'`"{seconds // size}{unit}"`'
        case bool() | int() | float():
            return f"`{str(default).lower()}`"
        case tuple():
            return f"`{json.dumps(list(default))}`"
        case dict():
            return f"`{json.dumps(default)}`"
        case _:
            return "required" if default is ... else f'`"{default}"`'


@pytest.mark.parametrize(("name", "meaning", "default"), list(names()))
def test_every_setting_is_documented_with_its_default_and_meaning(
    name: str, meaning: str, default: object
) -> None:
    """docs/settings.md has exactly the row that the code would write."""
    assert f"| `{name}` | {_as_written(default)} | {meaning} |" in _page("settings.md").splitlines()


def test_no_setting_is_documented_that_does_not_exist() -> None:
    """A setting that is gone is gone from the page too."""
    table = _page("settings.md").partition("## Every setting")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z0-9_.]+)` \|", table, flags=re.MULTILINE)) == {n for n, _, _ in names()}


@pytest.mark.parametrize("number", range(len(_blocks("settings.md", "toml"))))
def test_the_examples_of_a_settings_file_are_accepted(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever copies an example starts with settings that are read without a complaint."""
    monkeypatch.delenv("HEARTH_CONFIG", raising=False)
    file = tmp_path / "hearth.toml"
    file.write_text(_blocks("settings.md", "toml")[number], encoding="utf-8")
    assert load(file).need_matrix().user == "@hearth:example.org"


def test_the_full_example_has_every_setting() -> None:
    """Nothing that can be set is missing from the example (commented out where it excludes another)."""
    full = max(_blocks("settings.md", "toml"), key=len)
    said = tomllib.loads(full)
    said |= {name: said[name][0] for name in ("mastodon", "a2a_peers")}
    for table in ("model", "speech"):
        said[table] |= {"base_url": "", "name": ""}
    assert full.count("# base_url = ") == full.count("# name = ") == 2
    for name, _, _ in names():
        table, _, key = name.rpartition(".")
        assert key in (said[table] if table else said), name


def test_the_variables_of_the_examples_are_settings() -> None:
    """`HEARTH_...` in a page is a name that works."""
    known = {"HEARTH_CONFIG", "HEARTH_MASTODON"} | {
        f"HEARTH_{name.upper().replace('.', '__')}" for name, _, _ in names()
    }
    for page in ("settings.md", "cli.md"):
        for variable in re.findall(r"\bHEARTH_[A-Z_]+[A-Z]", _page(page)):
            assert variable in known


def test_every_credential_file_is_documented() -> None:
    """An operator finds each secret's name, and that of no other."""
    table = _page("settings.md").partition("## Secrets")[2]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, flags=re.MULTILINE)) == set(KNOWN)
    assert f"`{mastodon_token('@name@server')}`" in table
    for begins in (A2A_TO, A2A_FROM):
        assert f"`{peer_token(begins, 'hearth:city.example')}`" in table


@pytest.mark.parametrize("name", sorted(_commands(main)))
def test_every_command_is_documented_with_an_example(name: str) -> None:
    """docs/cli.md names the command and shows it in use; its own help has an example too."""
    assert f"`{name}" in re.sub(r"\s+", " ", _page("cli.md"))
    shown = "".join(_blocks("cli.md", "sh"))
    words = name.removeprefix("hearth ")
    assert re.search(rf"hearth (--config \S+ )?{words}\b", shown)
    assert words in (_commands(main)[name].help or "").partition("\b")[2]


@pytest.mark.parametrize("name", sorted(_commands(main)))
def test_every_option_is_documented(name: str) -> None:
    """Options of a command, and those of `hearth` itself, stand in docs/cli.md and explain themselves."""
    for parameter in [*_commands(main)[name].params, *main.params]:
        if isinstance(parameter, click.Option):
            assert max(parameter.opts, key=len) in _page("cli.md")
            assert parameter.help


@pytest.mark.parametrize("page", ["cli.md", "settings.md"])
def test_the_commands_of_the_examples_exist(page: str) -> None:
    """Every `hearth ...` line of a page is a command with options that it has."""
    commands = _commands(main)
    for line in "".join(_blocks(page, "sh")).splitlines():
        for said in re.findall(r"\bhearth ((?:--config \S+ )?[a-z]+(?: [a-z]+)?)", line):
            words = re.sub(r"--config \S+ ", "", said)
            assert f"hearth {words}" in commands or f"hearth {words.split()[0]}" in commands, line


def test_exit_statuses_are_documented() -> None:
    """Each status of the module's table stands in the page, so that a script can rely on it."""
    told = set(re.findall(r"(?:^| )(\d+)  +\w", bridge.cli.__doc__ or "", flags=re.MULTILINE))
    page = set(re.findall(r"^\| (\d+) \|", _page("cli.md"), flags=re.MULTILINE))
    assert told | {"130"} == page


def test_the_policy_document_is_documented_as_it_is() -> None:
    """Every field stands in docs/policy.md with its meaning, and the schema there is the one that holds."""
    for name, field in PolicyDocument.model_fields.items():
        assert f"| `{name}` |" in _page("policy.md")
        assert f"| {field.description} |" in _page("policy.md")
    assert _page("policy.schema.json") == schema(), "write policies.document.schema() to it"
    for name, field in Grant.model_fields.items():
        assert f"| `{name}` |" in _page("policy.md")
        assert f"| {field.description} |" in _page("policy.md")
    assert _page("grant.schema.json") == grant_schema(), "write policies.grant.schema() to it"
    example = _page("policy.md").partition("```json\n")[2].partition("```")[0]
    assert not isinstance(read(example), Unreadable)
