"""Names of spans, attributes and events: the only table of them, so that a rename is one edit.

HTTP: OpenTelemetry's semantic conventions 1.44 (stable). GenAI: semantic-conventions-genai, whose
status is Development; its own constants are in no package yet. RPC: release candidate of 1.40 to
1.44, whose `rpc.response.status_code` becomes `rpc.status_code` in the release after. What no
convention knows is `headrace.*`. No attribute ever holds a key; prompts and answers only where the
operator switched that on.
"""

from typing import Final

# Spans. The edge's server span is `{method} {route}`, its model span `chat {model}`.
CHAT_OPERATION: Final = "chat"
RENDER_METHOD: Final = "headrace.tokenizer.v1.TokenizerService/Render"
GENERATE_METHOD: Final = "headrace.worker.v1.GenerationService/Generate"
"""Also the name of a request's spans on Attach: the stream is shared, the request is not."""
QUEUE_PHASE: Final = "queue"
PREFILL_PHASE: Final = "prefill"
DECODE_PHASE: Final = "decode"

# Every span that failed.
ERROR_TYPE: Final = "error.type"
"""A reason's label of the error table, such as `worker_lost`; `client_cancelled` for who left,
`slow_reader` for who was dropped, `edge_lost` on spans of a worker whose edge is gone."""

# HTTP, server span.
HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
URL_PATH: Final = "url.path"
URL_SCHEME: Final = "url.scheme"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
CLIENT_ADDRESS: Final = "client.address"
USER_AGENT: Final = "user_agent.original"
PROTOCOL_VERSION: Final = "network.protocol.version"

# RPC, client and server spans.
RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS: Final = "rpc.response.status_code"
"""The status code's name, such as `DEADLINE_EXCEEDED`; on shared streams that of the reason."""

# GenAI, model span.
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
OUTPUT_TYPE: Final = "gen_ai.output.type"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_CHOICES: Final = "gen_ai.request.choice.count"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
FIRST_TOKEN_EVENT: Final = "first_token"  # noqa: S105 (no password)

# Ours.
REQUEST_ID: Final = "headrace.request.id"
"""What the client got as x-request-id; on every span of the request but the phases."""
TENANT: Final = "headrace.tenant"
PROFILE: Final = "headrace.profile"
CLAMPED_FIELDS: Final = "headrace.request.clamped"
"""Fields whose value was changed to what is allowed, as the client is told in a header."""
ADMISSION_SECONDS: Final = "headrace.admission.seconds"
"""How long the request waited at the edge for others to end."""
ATTEMPT: Final = "headrace.attempt"
"""From 1; one more after each loss or refusal."""
PEER_ADDRESS: Final = "headrace.peer.address"
TEXT_CHARACTERS: Final = "headrace.text.characters"
"""Of the texts that a call of the tokenizer brought, schemas included."""
TEXT_TOKENS: Final = "headrace.text.tokens"
"""Of those texts' tokens, or of the prompt that was made of them."""
THREAD_WAIT_SECONDS: Final = "headrace.render.thread_wait_seconds"
TEMPLATE_SECONDS: Final = "headrace.render.template_seconds"
ENCODING_SECONDS: Final = "headrace.render.encoding_seconds"
GUIDE_SECONDS: Final = "headrace.render.guide_seconds"
"""Where rendering's time went: waiting for a thread, the template, encoding, the answer's guide."""
FIRST_TEXT_SECONDS: Final = "headrace.detokenize.first_text_seconds"
"""From the worker's first tokens to the first text made of them, at the edge."""
FLUSH_SECONDS: Final = "headrace.detokenize.flush_seconds"
"""From the worker's last end to the last text, at the edge."""
OUTPUTS: Final = "headrace.outputs"
"""Of an attempt: all of the request's at first, later those that went on elsewhere together."""
COMPUTED_TOKENS: Final = "headrace.prefill.computed_tokens"
CACHED_TOKENS: Final = "headrace.prefill.cached_tokens"
"""Of the prompt's tokens those that prefill computed, and those that it did not need to."""
OUTPUT_TOKENS: Final = "headrace.decode.output_tokens"
OUTCOMES: Final = "headrace.outcomes"
"""How each output ended, as in the worker's log line."""
