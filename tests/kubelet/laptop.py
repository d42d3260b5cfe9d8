"""The example of a laptop, rendered so that several pods fit on one machine's addresses."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from headrace.models.cache import DEFAULT_CACHE_DIR
from tests.helm.chart import ROOT, Rendered, render

_EXAMPLE = Path("examples", "helm", "laptop.yaml")
_CHART = Path("helm", "headrace")
MODELS_ON_HOST = "/srv/models"


def laptop(
    folder: Path,
    *,
    tree: Path = ROOT,
    worker: Mapping[str, Any] | None = None,
    **values: Any,
) -> Rendered:
    """Render it to listen on pods' addresses, `values` laid over it, and `worker` over its pool.

    Example and chart are those of `tree`.
    """
    example = yaml.safe_load((tree / _EXAMPLE).read_text(encoding="utf-8"))
    chosen = _laid_over(example, {"listen": "podIP", **values})
    chosen["workers"] = [_laid_over(pool, worker or {}) for pool in chosen["workers"]]
    return render(chosen, folder, chart=tree / _CHART)


def host_paths() -> Mapping[str, Path]:
    """The node's folder of models: this machine's cache."""
    return {MODELS_ON_HOST: DEFAULT_CACHE_DIR.expanduser()}


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        name: _laid_over(below[name], above[name])
        for name in below.keys() & above.keys()
        if isinstance(below[name], Mapping)
    }
    return {**below, **above, **both}
