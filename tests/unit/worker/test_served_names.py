"""Names of a worker: what a caller may choose, and what it is told of the others."""

from dataclasses import replace

import pytest

from headrace.access.caller import ANYBODY, Caller
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.worker.v1.generation_pb2 import GenerationRequest
from tests.support.models import fake_model
from worker.engine.paced import PacedEngine
from worker.engine.paced_settings import PacedSettings
from worker.request_mapping import engine_request
from worker.served_names import admitted_names, chosen_name

INFO = replace(PacedEngine(fake_model(), PacedSettings()).info, adapters=("sql", "tone"))


def _caller(*names: str) -> Caller:
    return Caller(tenant="acme", key_id="1", models=frozenset(names))


@pytest.mark.parametrize(
    ("caller", "admitted"),
    [
        (ANYBODY, ("tiny", "sql", "tone")),
        (_caller("tone", "tiny", "other"), ("tiny", "tone")),
        (_caller("other"), ()),
    ],
)
def test_names_that_a_key_admits(caller: Caller, admitted: tuple[str, ...]) -> None:
    """The base model first, then adapters in their order, and nothing that is not served."""
    assert admitted_names(INFO, caller) == admitted


@pytest.mark.parametrize(
    ("caller", "name", "chosen"),
    [
        (ANYBODY, "", "tiny"),
        (ANYBODY, "sql", "sql"),
        (_caller("tone", "sql"), "", "sql"),
        (_caller("tone"), "tone", "tone"),
    ],
)
def test_the_name_that_is_meant(caller: Caller, name: str, chosen: str) -> None:
    """None at all means the first that is admitted."""
    assert chosen_name(INFO, caller, name) == chosen


def test_an_unknown_name_is_told_what_is_served() -> None:
    """Who may use everything may know of everything, of many names the first."""
    many = replace(INFO, adapters=tuple(f"a{index}" for index in range(30)))
    for info, told in ((INFO, "serves `tiny`, `sql`, `tone`."), (many, "`a18` and 11 more.")):
        with pytest.raises(ServiceError, match="`other` is not served here") as refused:
            chosen_name(info, ANYBODY, "other")

        assert refused.value.reason == errors_pb2.ERROR_REASON_MODEL_NOT_FOUND
        assert refused.value.message.endswith(told)


@pytest.mark.parametrize("name", ["sql", "nothing", ""])
def test_a_key_learns_nothing_of_what_it_does_not_admit(name: str) -> None:
    """A name that is served and one that is not are refused alike."""
    with pytest.raises(ServiceError) as refused:
        chosen_name(INFO, _caller("other"), name)

    assert refused.value.message == (
        f"The model `{name or 'tiny'}` does not exist or you do not have access to it."
    )


@pytest.mark.parametrize(
    ("name", "adapter"), [("", ""), ("tiny", ""), ("sql", "sql"), ("tone", "tone")]
)
def test_the_engine_is_told_the_adapter(name: str, adapter: str) -> None:
    """Nothing for the base model, under whichever of its names."""
    wire = GenerationRequest(request_id="r", model=name, prompt_token_ids=[1], max_tokens=1)

    assert engine_request(wire, 0, INFO).adapter == adapter


def test_another_adapter_has_another_fingerprint() -> None:
    """Whatever changes the text changes the fingerprint."""
    assert len({INFO.fingerprint_of(name) for name in INFO.served_models}) == 3
    assert INFO.fingerprint_of("tiny") == INFO.system_fingerprint
