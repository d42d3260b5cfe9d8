#!/bin/sh
# docker/install.sh IMAGE TARGET FOLDER: installs what IMAGE holds for the interpreter TARGET, with the
# wheel in FOLDER. What TARGET has already is left as it is; what is missing comes from the image's
# lock file, by hash. Ends with an error if a package changed, a requirement is unmet or something
# cannot be imported. pip is that of the Python that PYTHON names, or python3: TARGET needs none.
set -eu
image=$1 target=$2 folder=$3
here=$(cd "$(dirname "$0")" && pwd)
lock=$here/../requirements/$image.lock
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

case $image in
edge | tokenizer) extra=$image command=$image ;;
worker-openvino) extra=openvino command=worker ;;
worker-tensorrt-llm) extra=tensorrt-llm command=worker ;;
*)
	echo "install.sh: no image $image" >&2
	exit 2
	;;
esac

# A base image may constrain pip to versions of its own: nothing that it has is installed anew, and
# the rest is chosen by the lock file. Debian's and Ubuntu's Pythons ask to be told that it is meant.
unset PIP_CONSTRAINT PIP_TARGET PIP_PREFIX PIP_USER
export PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore
pip() {
	"${PYTHON:-python3}" -m pip --disable-pip-version-check --no-input --no-cache-dir \
		--python "$target" "$@"
}

"$target" -P "$here/packages.py" list >"$work/packages"
pip check >"$work/complaints" || true

"$target" -P "$here/packages.py" missing "$lock" >"$work/missing.lock"
if [ -s "$work/missing.lock" ]; then
	pip install --quiet --no-deps --require-hashes --only-binary :all: -r "$work/missing.lock"
fi
# With its extra and without an index: pip installs this one wheel if everything that it needs is
# there in a version that it accepts, and names the first that is not.
wheel=$(echo "$folder"/headrace-*.whl)
if ! pip install --quiet --no-index "$wheel[$extra]"; then
	echo "install.sh: what $target has does not meet the ranges of pyproject.toml (above)" >&2
	exit 1
fi

"$target" -P "$here/packages.py" unchanged "$work/packages"
# A base image may have complaints of its own; ours must add none.
pip check >"$work/complaints.after" || true
if grep -v '^No broken requirements' "$work/complaints.after" | grep -vxF -f "$work/complaints"; then
	echo "install.sh: pip check complains of the above" >&2
	exit 1
fi
cd /
PYTHONSAFEPATH=1 "$target" "$here/imports.py" "$image"
PYTHONSAFEPATH=1 "$target" -m headrace "$command" --help >/dev/null
if [ "$image" = worker-tensorrt-llm ]; then
	PYTHONSAFEPATH=1 "$target" -m headrace doctor --help >/dev/null
fi
