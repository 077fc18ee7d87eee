# Read by scripts/test and scripts/check: finds a Python and makes or reuses .venv.
#
# After `use_environment EXTRAS`, $python is the interpreter of .venv, where the package
# (editable) and those extras are installed. Stamps of what decides the content of .venv
# make reuse instant. $PYTHON names the Python to make it with.

# Every worker and every program that a test starts would compile all modules anew.
unset PYTHONDONTWRITEBYTECODE

find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "No Python 3.11 or newer found; name one: PYTHON=/path/to/python3 $0" >&2
    return 1
}

use_environment() {
    base=$(find_python) || exit 1
    python=$PWD/.venv/bin/python

    made="$PWD $("$base" -c 'import sys; print(sys.version, sys.base_prefix)')"
    if [ "$(cat .venv/made 2>/dev/null)" != "$made" ] || ! "$python" -c '' 2>/dev/null; then
        "$base" -m venv --clear .venv || exit 1
        printf '%s\n' "$made" >.venv/made
    fi

    installed=$(cat setup.cfg setup.py | cksum)
    stamp=.venv/installed-$1
    if [ "$(cat "$stamp" 2>/dev/null)" != "$installed" ]; then
        echo "Installing resource_server[$1] into .venv ..." >&2
        "$python" -m pip install --quiet --disable-pip-version-check --use-pep517 \
            --editable ".[$1]" || exit 1
        printf '%s\n' "$installed" >"$stamp"
    fi
}
