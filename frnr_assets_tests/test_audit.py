"""`make audit`: what it says of pip-audit's answers, which are those of pip-audit 2.10.1."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PIP_AUDIT = CHECKOUT / ".audit-venv" / "bin" / "pip-audit"

FINE = {"name": "av", "version": "18.1.0", "vulns": []}
UNKNOWN = {"name": "polars", "skip_reason": "Dependency not found on PyPI and could not be audited: polars (1.30.0)"}
VULNERABLE = {"name": "idna", "version": "3.6", "vulns": [{"id": "PYSEC-2024-60", "fix_versions": ["3.7"]}]}
UNREACHABLE = "Traceback (most recent call last):\nrequests.exceptions.ConnectionError: Max retries exceeded"
BLOCKED = "ERROR:pip_audit._cli:Tip: your network may be blocking this service. Try another service with `-s SERVICE`"
BAD_LOCK = "ERROR:pip_audit._cli:requirement file bad.txt contains invalid specifier at line 1"


def audit(*command: str | Path) -> tuple[int, str]:
    script = CHECKOUT / "tools" / "audit.py"
    done = subprocess.run([sys.executable, script, *command], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("packages", "error", "status", "said"),
    [
        ([FINE, UNKNOWN], "", 0, "1 of 2 packages audited, 0 known vulnerabilities"),
        ([FINE, UNKNOWN], "", 0, "polars: not audited"),
        ([FINE, VULNERABLE], "", 1, "idna 3.6: PYSEC-2024-60, mended in 3.7"),
        ([UNKNOWN, UNKNOWN], "", 0, "audit skipped: the database knows none of the 2 packages"),
        (None, UNREACHABLE, 0, "audit skipped: the database cannot be asked; requests.exceptions.ConnectionError: Max"),
        (None, BLOCKED, 0, "audit skipped: the database cannot be asked; ERROR:pip_audit._cli:Tip: your network"),
        (None, BAD_LOCK, 1, "contains invalid specifier"),
    ],
    ids=["fine", "not known", "vulnerable", "nothing known", "unreachable", "blocked", "broken lock"],
)
def test_a_vulnerability_fails_the_audit_and_a_database_that_is_away_is_named_and_does_not(
    packages: list[object] | None, error: str, status: int, said: str, tmp_path: Path
) -> None:
    report = "" if packages is None else json.dumps({"dependencies": packages, "fixes": []})
    (tmp_path / "stdout").write_text(report)
    (tmp_path / "stderr").write_text(error)
    failed = int(bool(error) or status)
    stand_in = tmp_path / "pip-audit"
    stand_in.write_text(f"#!/bin/sh\ncat {tmp_path}/stdout\ncat {tmp_path}/stderr >&2\nexit {failed}\n")
    stand_in.chmod(0o755)
    found, printed = audit(stand_in)
    assert found == status
    assert said in printed


@pytest.mark.skipif(not PIP_AUDIT.exists(), reason="pip-audit is not installed; `make audit` installs it")
def test_pip_audit_itself_without_a_database_is_a_skipped_audit(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("idna==3.6\n")
    nowhere = ("--vulnerability-service", "osv", "--osv-url", "http://127.0.0.1:9/")
    status, printed = audit(PIP_AUDIT, "--requirement", lock, "--no-deps", "--disable-pip", *nowhere)
    assert status == 0
    assert printed.startswith("audit skipped: ")


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-audit.lock"])
def test_a_lock_pins_every_package_and_names_no_place_to_get_it_from(lock: str) -> None:
    lines = [line for line in (CHECKOUT / lock).read_text().splitlines() if not line.lstrip().startswith("#")]
    assert lines
    assert [line for line in lines if "==" not in line or "://" in line or line.startswith("-")] == []
