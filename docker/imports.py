"""Imports every module that an image may run: `imports.py IMAGE`, with the image's interpreter.

Modules import libraries late, so a service that starts says little; this finds what is missing.
Engines and conversions of other images are left out: their libraries are not there.
"""

import importlib
import pkgutil
import sys

_SHARED = (
    "headrace.access",
    "headrace.client",
    "headrace.common",
    "headrace.rpc",
    "headrace.runtime",
    "headrace.tokenizer",
    "headrace.worker",
)
_PACKAGES = {
    "edge": (*_SHARED, "edge"),
    "tokenizer": (*_SHARED, "headrace.models", "tokenizer_svc"),
    "worker-openvino": (*_SHARED, "headrace.models", "tokenizer_svc", "worker"),
    "worker-tensorrt-llm": (*_SHARED, "headrace.models", "headrace.doctor", "worker"),
}
_OPENVINO_ALONE = (
    "headrace.models.gguf_conversion",
    "headrace.models.rotary_frequencies",
    "worker.engine.openvino",
)
_OPENVINO_SETTINGS = ("worker.engine.openvino.settings",)


def modules(image: str) -> list[str]:
    """The names of the image's modules, packages before what they hold."""
    names: list[str] = []
    for package in _PACKAGES[image]:
        path = importlib.import_module(package).__path__
        names += [package, *(found.name for found in pkgutil.walk_packages(path, f"{package}."))]
    if image == "worker-openvino":
        return names
    return [name for name in names if not name.startswith(_OPENVINO_ALONE)] + [
        name for name in names if name in _OPENVINO_SETTINGS
    ]


def main(image: str) -> None:
    """Import them all; the first that cannot be ends the process with its traceback."""
    for name in modules(image):
        importlib.import_module(name)


if __name__ == "__main__":
    main(sys.argv[1])
