"""Say which locked packages have known vulnerabilities; without a database to ask, say so, and fail nobody's build.

Usage: audit.py PIP-AUDIT ARGUMENTS...
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence

# How pip-audit ends when the database is not there, answers with an error or with something else than an answer.
_OUT_OF_REACH = re.compile(r"requests\.exceptions\.|\bServiceError\b|network may be blocking this service")


def main(pip_audit: Sequence[str]) -> int:
    """Run pip-audit and return the exit status: 1 for findings, 0 without any, and when nothing could be audited."""
    done = subprocess.run(
        [*pip_audit, "--format", "json", "--progress-spinner", "off"], capture_output=True, text=True, check=False
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        if not _OUT_OF_REACH.search(done.stderr):
            _say(done.stderr.strip())
            return done.returncode or 1
        _say(f"audit skipped: the database cannot be asked; {done.stderr.strip().splitlines()[-1]}")
        return 0
    audited = [package for package in packages if "vulns" in package]
    if not audited:
        # As behind a mirror that has packages and nothing else: pip-audit itself then finds no vulnerability.
        _say(f"audit skipped: the database knows none of the {len(packages)} packages")
        return 0
    found = [(package, vulnerability) for package in audited for vulnerability in package["vulns"]]
    for package, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        _say(f"{package['name']} {package['version']}: {vulnerability['id']}, mended in {fixed}")
    for package in packages:
        if "vulns" not in package:
            _say(f"{package['name']}: not audited: {package['skip_reason']}")
    _say(f"{len(audited)} of {len(packages)} packages audited, {len(found)} known vulnerabilities")
    return 1 if found else 0


def _say(line: str) -> None:
    print(line)  # noqa: T201 - it talks to a person at a terminal


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
