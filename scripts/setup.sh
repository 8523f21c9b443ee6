#!/usr/bin/env bash
# Finds or makes a Python that satisfies requirements.txt. The other scripts source this file and use
# "$PYTHON"; run by itself it only sets up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# True if the Python in $1 is 3.10 or newer and satisfies requirements.txt.
has_everything() {
    "$1" - <<'EOF' 2>/dev/null
import sys
from importlib.metadata import distributions
from packaging.requirements import Requirement  # installed with tensorboard
from packaging.utils import canonicalize_name

have = {canonicalize_name(d.metadata['Name']): d.version for d in distributions()}
if 'opencv-python-headless' in have:
    have['opencv-python'] = have['opencv-python-headless']
for line in open('requirements.txt'):
    line = line.partition('#')[0].strip()
    if not line or line.startswith('-'):  # an option of pip
        continue
    wanted = Requirement(line)
    version = have.get(canonicalize_name(wanted.name), '')
    is_needed = not wanted.marker or wanted.marker.evaluate()
    if is_needed and not (version and wanted.specifier.contains(version, prereleases=True)):
        sys.exit(1)
sys.exit(sys.version_info < (3, 10))
EOF
}

# opencv-python needs a display library; on a server without one it installs but does not import.
fix_opencv() {
    if ! "$1" -c 'import cv2' 2>/dev/null; then
        echo 'opencv-python cannot be imported here: installing opencv-python-headless instead'
        "$1" -m pip uninstall --quiet --yes opencv-python
        "$1" -m pip install --quiet "$(sed -n 's/^opencv-python/opencv-python-headless/p' requirements.txt)"
    fi
}

PYTHON=$(command -v python3 || command -v python) || {
    echo 'error: there is no python3: install Python 3.10 or newer' >&2
    exit 1
}
if ! has_everything "$PYTHON"; then
    PYTHON=.venv/bin/python
    if ! "$PYTHON" -m pip --version >/dev/null 2>&1; then # none, or one that was left half made
        python3 -m venv --clear .venv
    fi
    if ! has_everything "$PYTHON"; then
        echo 'installing requirements.txt into .venv (some minutes, once)'
        "$PYTHON" -m pip install --quiet -r requirements.txt
    fi
fi
fix_opencv "$PYTHON"
