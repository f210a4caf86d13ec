"""Every snippet of the README runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def test_python_snippets_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snippets = [text for language, text in BLOCKS if language == "python"]
    assert len(snippets) >= 2
    names = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert names["out"].shape == (1, 64)
    assert names["path"].shape == (17, 64)
    assert (tmp_path / "vae.safetensors").exists()


@pytest.mark.parametrize("line", [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()])
def test_shell_snippets_name_targets_of_the_makefile(line):
    command, target = line.split()[:2]
    assert command == "make"
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_files_that_it_names_exist():
    named = {name for name in re.findall(r"`((?:csrc|latentcore|tests|bench)/[\w/.]*)`", README) if "<" not in name}
    assert len(named) > 8
    assert not [name for name in sorted(named) if not (ROOT / name).exists()]
