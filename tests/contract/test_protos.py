"""The protos, and what is generated, tabled and documented from them: nothing without a reader."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor

from headrace.common.v1 import errors_pb2, finish_pb2, frames_pb2
from headrace.digest import block_digests, root_digest
from headrace.rpc.errors import _FALLBACK, ERROR_TABLE
from headrace.tokenizer.v1 import (
    detokenize_pb2,
    encoding_pb2,
    render_pb2,
)
from headrace.tokenizer.v1 import model_pb2 as tokenizer_model_pb2
from headrace.tokenizer.v1 import service_pb2 as tokenizer_service_pb2
from headrace.worker.v1 import attach_pb2, generate_pb2, generation_pb2
from headrace.worker.v1 import model_pb2 as worker_model_pb2
from headrace.worker.v1 import service_pb2 as worker_service_pb2

ROOT = Path(__file__).parents[2]
FILES: list[FileDescriptor] = [
    module.DESCRIPTOR
    for module in (
        errors_pb2,
        finish_pb2,
        frames_pb2,
        detokenize_pb2,
        encoding_pb2,
        render_pb2,
        tokenizer_model_pb2,
        tokenizer_service_pb2,
        attach_pb2,
        generate_pb2,
        generation_pb2,
        worker_model_pb2,
        worker_service_pb2,
    )
]
ATTACH = "tests/contract/test_attach.py"
ATTACH_LIFE = "tests/contract/test_attach_life.py"
EDGE = "tests/contract/test_edge_streams.py"
GENERATE = "tests/contract/test_generate.py"
MESSAGES = "tests/contract/test_tokenizer_messages.py"
MAPPING = "tests/unit/worker/test_request_mapping.py"
TOOLS = "tests/contract/test_tokenizer_tools.py"
UNARY = "tests/contract/test_tokenizer_unary.py"
DETOKENIZE = "tests/contract/test_tokenizer_detokenize.py"
GUIDES = "tests/contract/test_tokenizer_guides.py"
FORMATS = "tests/contract/test_tokenizer_formats.py"
CHANGES = f"{MAPPING}::test_each_field_changes_the_engine_request"
REFUSED = f"{MAPPING}::test_a_use_of_what_is_not_honoured_is_refused_by_name"
BIAS = f"{MAPPING}::test_logit_bias_is_bounded"

# For every field of every message that a caller sends: the test that shows what its reader does.
READERS: dict[str, str] = {
    "common.v1.FrameHeader.sequence": f"{ATTACH}::test_a_gap_in_the_numbering_ends_the_stream",
    "common.v1.FrameHeader.last_received_sequence": (
        f"{ATTACH_LIFE}::test_an_acknowledgement_of_what_was_not_sent_ends_the_stream"
    ),
    "common.v1.FrameHeader.hello": f"{ATTACH_LIFE}::test_a_missing_hello_ends_the_stream",
    "common.v1.FrameHeader.draining": (
        "tests/contract/test_edge_stream_silence.py"
        "::test_a_draining_worker_gets_nothing_new_and_what_runs_ends"
    ),
    "common.v1.Hello.protocol_version": f"{ATTACH}::test_another_protocol_is_refused_by_name",
    "common.v1.Hello.build": f"{EDGE}::test_hello_is_logged_with_build_instance_and_features",
    "common.v1.Hello.instance_id": f"{EDGE}::test_hello_is_logged_with_build_instance_and_features",
    "common.v1.Hello.features": f"{EDGE}::test_hello_is_logged_with_build_instance_and_features",
    "common.v1.Hello.max_message_bytes": (
        f"{EDGE}::test_a_request_too_large_for_the_worker_is_refused_before_sending"
    ),
    "worker.v1.AttachRequest.header": f"{ATTACH}::test_a_gap_in_the_numbering_ends_the_stream",
    "worker.v1.AttachRequest.submissions": f"{ATTACH}::test_order_per_handle",
    "worker.v1.AttachRequest.aborted_handles": (
        f"{ATTACH}::test_abort_is_ended_by_the_servicer_when_the_engine_is_silent"
    ),
    "worker.v1.AttachRequest.abort_reasons": (
        "tests/contract/test_worker_traces.py::test_why_an_output_is_aborted_is_told"
    ),
    "worker.v1.Submission.first_handle": f"{ATTACH}::test_n_outputs_take_handles_in_a_row",
    "worker.v1.Submission.request": f"{ATTACH}::test_a_refused_request_is_its_own_terminal",
    "worker.v1.GenerateRequest.request": (
        f"{GENERATE}::test_events_come_in_order_with_one_terminal_an_output"
    ),
    "worker.v1.GetModelRequest.model": (
        f"{GENERATE}::test_a_very_long_name_does_not_break_the_status"
    ),
    "worker.v1.GenerationRequest.model": f"{MAPPING}::test_bounds_are_refused_by_name",
    "worker.v1.GenerationRequest.guide": REFUSED,
    "worker.v1.GenerationRequest.remaining_ms": (
        f"{ATTACH}::test_the_deadline_is_a_remaining_duration"
    ),
    "worker.v1.GenerationRequest.traceparent": (
        f"{GENERATE}::test_trace_context_comes_from_the_request_or_the_metadata"
    ),
    "worker.v1.GenerationRequest.tracestate": f"{MAPPING}::test_bounds_are_refused_by_name",
    "worker.v1.LogitBias.token_id": BIAS,
    "worker.v1.LogitBias.bias": BIAS,
    **dict.fromkeys(
        (f"worker.v1.Guide.{field.name}" for field in generation_pb2.Guide.DESCRIPTOR.fields),
        REFUSED,
    ),
    "worker.v1.Choice.alternatives": REFUSED,
    **dict.fromkeys(
        (
            f"worker.v1.SamplingParams.{field.name}"
            for field in generation_pb2.SamplingParams.DESCRIPTOR.fields
        ),
        CHANGES,
    ),
    **{
        f"worker.v1.GenerationRequest.{name}": CHANGES
        for name in (
            "request_id",
            "prompt_token_ids",
            "output_prefix_token_ids",
            "output_index",
            "sampling",
            "stop_token_ids",
            "ignore_eos",
            "min_tokens",
            "max_tokens",
            "n",
            "logprobs",
            "cache_salt",
            "priority",
        )
    },
    "tokenizer.v1.RenderRequest.model": UNARY,
    "tokenizer.v1.RenderRequest.messages": UNARY,
    "tokenizer.v1.RenderRequest.max_prompt_tokens": UNARY,
    "tokenizer.v1.RenderRequest.block_digests": UNARY,
    "tokenizer.v1.RenderRequest.output_format": f"{FORMATS}::test_render_names_the_format",
    **dict.fromkeys(
        (
            *(f"tokenizer.v1.RenderRequest.{name}" for name in ("tool_choice", "content_guide")),
            "tokenizer.v1.Function.strict",
            *(f"tokenizer.v1.ToolChoice.{f.name}" for f in render_pb2.ToolChoice.DESCRIPTOR.fields),
        ),
        f"{GUIDES}::test_what_is_asked_is_in_the_guide",
    ),
    **dict.fromkeys(
        (
            "tokenizer.v1.RenderRequest.tools",
            *(f"tokenizer.v1.Function.{name}" for name in ("name", "description", "parameters")),
        ),
        f"{TOOLS}::test_tools_reach_the_template",
    ),
    "tokenizer.v1.RenderRequest.thinking": f"{TOOLS}::test_thinking_is_switched",
    "tokenizer.v1.Conversation.tools": f"{TOOLS}::test_counting_counts_the_tools",
    "tokenizer.v1.Message.role": UNARY,
    "tokenizer.v1.Message.content": UNARY,
    "tokenizer.v1.Message.name": UNARY,
    "tokenizer.v1.Message.tool_calls": f"{MESSAGES}::test_calls_and_results_reach_the_template",
    "tokenizer.v1.Message.tool_call_id": f"{MESSAGES}::test_results_are_known_by_their_ids",
    "tokenizer.v1.Message.refusal": f"{MESSAGES}::test_a_refusal_is_what_the_assistant_said",
    "tokenizer.v1.Message.reasoning_content": (
        f"{MESSAGES}::test_thoughts_are_where_the_template_reads_them"
    ),
    "tokenizer.v1.ToolCall.id": f"{MESSAGES}::test_results_are_known_by_their_ids",
    "tokenizer.v1.ToolCall.name": f"{MESSAGES}::test_calls_and_results_reach_the_template",
    "tokenizer.v1.ToolCall.arguments": f"{MESSAGES}::test_calls_and_results_reach_the_template",
    "tokenizer.v1.BlockDigestParams.block_size": UNARY,
    "tokenizer.v1.BlockDigestParams.model": UNARY,
    "tokenizer.v1.BlockDigestParams.lora": UNARY,
    "tokenizer.v1.BlockDigestParams.cache_salt": UNARY,
    "tokenizer.v1.EncodeRequest.model": UNARY,
    "tokenizer.v1.EncodeRequest.text": UNARY,
    "tokenizer.v1.EncodeRequest.allow_special_tokens": UNARY,
    "tokenizer.v1.DecodeRequest.model": UNARY,
    "tokenizer.v1.DecodeRequest.token_ids": UNARY,
    "tokenizer.v1.DecodeRequest.keep_special_tokens": UNARY,
    "tokenizer.v1.CountTokensRequest.model": UNARY,
    "tokenizer.v1.CountTokensRequest.text": UNARY,
    "tokenizer.v1.CountTokensRequest.conversation": UNARY,
    "tokenizer.v1.Conversation.messages": UNARY,
    "tokenizer.v1.GetModelRequest.model": UNARY,
    "tokenizer.v1.DetokenizeRequest.header": DETOKENIZE,
    "tokenizer.v1.DetokenizeRequest.opens": DETOKENIZE,
    "tokenizer.v1.DetokenizeRequest.handles": DETOKENIZE,
    "tokenizer.v1.DetokenizeRequest.counts": DETOKENIZE,
    "tokenizer.v1.DetokenizeRequest.token_ids": DETOKENIZE,
    "tokenizer.v1.DetokenizeRequest.closes": DETOKENIZE,
    "tokenizer.v1.DetokenizeRequest.alternatives": DETOKENIZE,
    "tokenizer.v1.DetokenizeOpen.handle": DETOKENIZE,
    "tokenizer.v1.DetokenizeOpen.decoder": DETOKENIZE,
    "tokenizer.v1.DetokenizeOpen.stop_strings": DETOKENIZE,
    "tokenizer.v1.DetokenizeOpen.prior_token_ids": DETOKENIZE,
    "tokenizer.v1.DetokenizeOpen.released_tokens": DETOKENIZE,
    "tokenizer.v1.DetokenizeOpen.token_bytes": DETOKENIZE,
    "tokenizer.v1.DetokenizeOpen.prior_alternatives": DETOKENIZE,
    "tokenizer.v1.DetokenizeOpen.functions": f"{FORMATS}::test_values_are_of_their_types",
    **dict.fromkeys(
        ("tokenizer.v1.DetokenizeOpen.request_id", "tokenizer.v1.DetokenizeOpen.traceparent"),
        "tests/contract/test_tokenizer_output_log.py::test_each_end_of_an_output_is_a_line",
    ),
    "tokenizer.v1.FunctionSchema.name": f"{FORMATS}::test_values_are_of_their_types",
    "tokenizer.v1.FunctionSchema.parameters": f"{FORMATS}::test_values_are_of_their_types",
    "tokenizer.v1.TokenAlternatives.handle": DETOKENIZE,
    "tokenizer.v1.TokenAlternatives.counts": DETOKENIZE,
    "tokenizer.v1.TokenAlternatives.token_ids": DETOKENIZE,
    "tokenizer.v1.DetokenizeClose.handle": DETOKENIZE,
    "tokenizer.v1.DetokenizeClose.finish_reason": DETOKENIZE,
    "tokenizer.v1.Decoder.model": DETOKENIZE,
    "tokenizer.v1.Decoder.tokenizer_fingerprint": DETOKENIZE,
    "tokenizer.v1.Decoder.stop_token_ids": DETOKENIZE,
    "tokenizer.v1.Decoder.output_format": DETOKENIZE,
    "tokenizer.v1.Decoder.begins_in_reasoning": f"{FORMATS}::test_thoughts_opened_by_the_prompt",
}


def _reached(message: Descriptor, found: dict[str, FieldDescriptor]) -> None:
    for field in message.fields:
        name = field.full_name.removeprefix("headrace.")
        if name not in found:
            found[name] = field
            if field.message_type is not None:
                _reached(field.message_type, found)


def request_fields() -> dict[str, FieldDescriptor]:
    """Every field that a caller can set, over all RPCs, nested messages included."""
    found: dict[str, FieldDescriptor] = {}
    for file in FILES:
        for service in file.services_by_name.values():
            for method in service.methods:
                _reached(method.input_type, found)
    return found


def test_all_files_are_walked() -> None:
    """No proto is left out of these tests."""
    protos = {str(p.relative_to(ROOT / "protos")) for p in ROOT.glob("protos/headrace/**/*.proto")}

    assert protos == {file.name for file in FILES}


def test_every_field_that_a_caller_sets_has_a_reader() -> None:
    """A new field of a request fails here until a test shows what reads or refuses it."""
    assert set(request_fields()) == set(READERS)


@pytest.mark.parametrize("place", sorted(set(READERS.values())))
def test_the_readers_tests_exist(place: str) -> None:
    """Each entry of the table names a test that is there, or a file in which each field occurs."""
    path, _, test = place.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    if test:
        names = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }

        assert test in names


@pytest.mark.parametrize(
    "name", sorted(name for name, place in READERS.items() if place in (UNARY, DETOKENIZE))
)
def test_the_tokenizer_reads_the_field(name: str) -> None:
    """The tokenizer's own code reads the field by name, and its tests set it."""
    field = name.rpartition(".")[2]
    source = "".join(p.read_text() for p in ROOT.glob("tokenizer_svc/*.py"))
    source += (ROOT / "headrace/rpc/frame_stream.py").read_text()
    tests = "".join(p.read_text() for p in ROOT.glob("tests/contract/test_tokenizer*.py"))
    tests += (ROOT / "tests/support/raw_detokenize.py").read_text()

    assert re.search(rf"[.\"]{field}\b", source)
    assert re.search(rf"\b{field}\b", tests)


def _enums() -> list[EnumDescriptor]:
    return [enum for file in FILES for enum in file.enum_types_by_name.values()]


@pytest.mark.parametrize("enum", _enums(), ids=lambda enum: enum.name)
def test_enums_start_at_unspecified(enum: EnumDescriptor) -> None:
    """Zero is never a legal value: forgetting a field cannot look like an answer."""
    assert enum.values_by_number[0].name.endswith("_UNSPECIFIED")


def test_every_reason_has_a_row() -> None:
    """All reasons but UNSPECIFIED are in the table, and nothing else is."""
    reasons = set(errors_pb2.ErrorReason.values()) - {errors_pb2.ERROR_REASON_UNSPECIFIED}

    assert reasons == set(ERROR_TABLE)


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
def test_every_status_code_has_a_fallback(code: grpc.StatusCode) -> None:
    """A status without ErrorInfo still has a reason, and that reason a row."""
    assert _FALLBACK[code] in ERROR_TABLE


# Who calls each RPC: the product where it does, else the test that is its client.
CALLERS = {
    "GenerationService.Attach": "headrace/client/worker_link.py",
    "GenerationService.Generate": GENERATE,
    "GenerationService.GetModel": "headrace/client/worker_link.py",
    "TokenizerService.Render": "headrace/client/tokenizer_link.py",
    "TokenizerService.Encode": UNARY,
    "TokenizerService.Decode": UNARY,
    "TokenizerService.CountTokens": UNARY,
    "TokenizerService.Detokenize": "headrace/client/tokenizer_link.py",
    "TokenizerService.GetModel": "headrace/client/tokenizer_link.py",
}


def test_every_rpc_has_a_caller() -> None:
    """Each RPC is called by the client or, where only others call it, by a contract test."""
    methods = {
        f"{service.name}.{method.name}"
        for file in FILES
        for service in file.services_by_name.values()
        for method in service.methods
    }

    assert methods == set(CALLERS)
    for method, path in CALLERS.items():
        call = rf"stub\.{method.partition('.')[2]}\("
        assert re.search(call, (ROOT / path).read_text()), f"{path} does not call {method}"


def test_the_protos_pass_buf_lint() -> None:
    """STANDARD and COMMENTS, as buf.yaml says."""
    buf = Path(sys.executable).with_name("buf")
    done = subprocess.run(
        [buf, "lint"], check=False, cwd=ROOT / "protos", capture_output=True, text=True
    )

    assert (0, "") == (done.returncode, done.stdout + done.stderr)


def test_the_stubs_are_what_the_protos_say() -> None:
    """Generating again changes nothing."""
    command = [sys.executable, "protos/generate.py", "--check"]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)

    assert (0, "") == (done.returncode, done.stderr)


def test_the_stubs_accept_the_oldest_protobuf() -> None:
    """Generated code is of protobuf 6.30 and grpc 1.72, the floors of pyproject.toml."""
    floors = (ROOT / "pyproject.toml").read_text()
    stubs = sorted(ROOT.glob("headrace/*/v1/*_pb2.py"))
    grpc_stubs = sorted(ROOT.glob("headrace/*/v1/*_pb2_grpc.py"))

    assert '"protobuf>=6.30,<8"' in floors
    assert '"grpcio>=1.72.2,<2"' in floors
    assert len(FILES) == len(stubs)
    assert 2 == len(grpc_stubs)
    for stub in stubs:
        assert "# Protobuf Python Version: 6.30.0\n" in stub.read_text()
    for stub in grpc_stubs:
        assert "GRPC_GENERATED_VERSION = '1.72." in stub.read_text()


def _vectors() -> list[tuple[str, ...]]:
    text = (ROOT / "protos/README.md").read_text(encoding="utf-8")
    section = text.partition("## Block digests")[2].partition("\n## ")[0]
    rows = [line.strip("|\n").split("|") for line in section.splitlines() if line.startswith("|")]
    return [tuple(cell.strip().replace("`", "") for cell in row) for row in rows[2:]]


def test_the_readme_has_digest_vectors() -> None:
    """Roots and chains are both there."""
    assert len(_vectors()) >= 4
    assert {True, False} == {row[5].startswith("root ") for row in _vectors()}


@pytest.mark.parametrize("row", _vectors(), ids=lambda row: "-".join(row[:5]))
def test_the_digests_are_those_of_the_readme(row: tuple[str, ...]) -> None:
    """Every vector of protos/README.md holds."""
    size, model, lora, salt, ids, expected = row
    root = root_digest(int(size), model, lora, salt)
    if expected.startswith("root "):
        assert expected.removeprefix("root ") == root.hex()
        return
    first, last = (int(number) for number in ids.split(" … "))
    digests = block_digests(root, int(size), range(first, last + 1))

    assert expected.split(", ") == [digest.hex() for digest in digests]
