#!/bin/sh
# docker/build-wheel.sh FOLDER: builds this project's wheel into FOLDER, with locked tools that are
# gone afterwards. Runs in the project's folder, by the Python that PYTHON names, or python3.
set -eu
folder=$1
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

"${PYTHON:-python3}" -m venv "$tools/venv"
pip() {
	"$tools/venv/bin/python" -m pip --disable-pip-version-check --no-input --no-cache-dir "$@"
}

pip install --quiet --no-deps --require-hashes --only-binary :all: -r requirements/wheel.lock
pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir "$folder" .
ls "$folder"/headrace-*.whl
