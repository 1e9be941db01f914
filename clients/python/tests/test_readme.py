"""The README's examples, with the built wheel in a fresh environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fleet import Fleet

README = (Path(__file__).parents[1] / "README.md").read_text()
DIST = Path(__file__).parents[2] / "dist"


def examples(fleet: Fleet) -> list[str]:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    return [b.replace("nats://127.0.0.1:4222", fleet.url).replace('"demo"', '"shop"') for b in blocks]


def test_from_pip_install_to_a_first_result_in_five_lines(fleet: Fleet, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (wheel,) = DIST.glob("dbrunner-*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile", str(wheel)]
    install = subprocess.run(pip, capture_output=True, text=True, check=False)
    if install.returncode and os.environ.get("REQUIRE_SERVICES") != "1" and "onnection" in install.stderr:
        pytest.skip("no package index answers")
    assert install.returncode == 0, install.stderr
    first = examples(fleet)[0]
    assert len([line for line in first.splitlines() if line]) + 1 == 5
    run = subprocess.run([python, "-c", first], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr, run.returncode) == ("{'n': 1}\n", "", 0)


def test_the_example_with_an_event_loop(fleet: Fleet, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", examples(fleet)[1]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.stderr, run.returncode) == ("", "", 0)
    assert (tmp_path / "paid.parquet").read_bytes()[:4] == b"PAR1"
