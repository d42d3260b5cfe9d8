"""Every command of every container is one that its program takes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.cli.model import _parser as model_parser
from headrace.cli.service import main as service
from headrace.cli.smoke import _arguments as smoke_arguments
from tests.helm.chart import Rendered
from tests.helm.objects import config_text, is_selected, main_container
from tests.helm.scenes import SCENES


@pytest.mark.parametrize("scene", SCENES)
def test_services_take_their_arguments(
    scene: str,
    rendered: Callable[[str], Rendered],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Flags are there, and the file is read: `--print-config` shows what it says."""
    for pod in (item["spec"]["template"] for item in rendered(scene).of("Deployment")):
        program, name, flag, path, *rest = main_container(pod)["command"]
        assert (program, flag, path) == (
            "headrace",
            "--config",
            "/etc/headrace/config/headrace.toml",
        )
        file = tmp_path / "headrace.toml"
        file.write_text(config_text(rendered(scene), pod))

        assert service(name, [flag, str(file), *rest, "--print-config"]) == 0
        assert f"[{name}.telemetry.health]" in capsys.readouterr().out


def test_downloads_take_their_arguments(rendered: Callable[[str], Rendered]) -> None:
    """In tokenizers and workers alike, into the name by which the model is served."""
    pulls = [
        container["command"]
        for _, container in rendered("downloads").containers()
        if container["name"].startswith("pull-")
    ]

    assert len(pulls) == 2
    for program, name, *rest in pulls:
        assert (program, name) == ("headrace", "model")
        parsed = model_parser().parse_args(rest)
        assert (parsed.action, parsed.name) == ("pull", "Qwen2.5-0.5B-Instruct")
        assert parsed.model == "OpenVINO/Qwen2.5-0.5B-Instruct-fp16-ov"
        assert parsed.config == Path("/etc/headrace/config/headrace.toml")


@pytest.mark.parametrize("scene", SCENES)
def test_the_test_takes_its_arguments(scene: str, rendered: Callable[[str], Rendered]) -> None:
    """The pod asks the edge's Service for a model that is served, and shows a key if it must."""
    for pod in rendered(scene).of("Pod"):
        *_, module = main_container(pod)["command"][:3]
        parsed = smoke_arguments(main_container(pod)["command"][3:])

        assert module == "headrace.cli.smoke"
        assert parsed.base_url == "http://headrace-edge.serving.svc:80/v1"
        tokenizer = rendered(scene).named("ConfigMap", "headrace-tokenizer")
        assert f'"{parsed.model}"' in tokenizer["data"]["headrace.toml"]
        has_keys = (
            "[edge.keys]"
            in rendered(scene).named("ConfigMap", "headrace-edge")["data"]["headrace.toml"]
        )
        assert (parsed.api_key_file is not None) == has_keys


def test_there_is_no_test_without_its_key(rendered: Callable[[str], Rendered]) -> None:
    """It could only be refused."""
    assert not list(rendered("keys-without-a-test-key").of("Pod"))
    assert len(list(rendered("tls").of("Pod"))) == 1


def test_the_test_is_let_in(rendered: Callable[[str], Rendered]) -> None:
    """Also where only some may reach the edge."""
    policy = rendered("eight-h100").named("NetworkPolicy", "headrace-edge")
    [pod] = rendered("eight-h100").of("Pod")
    selectors = [
        peer.get("podSelector", {}).get("matchLabels", {})
        for peer in policy["spec"]["ingress"][0]["from"]
    ]

    assert len(selectors) == 2
    assert any(is_selected(selector, pod["metadata"]["labels"]) for selector in selectors)
