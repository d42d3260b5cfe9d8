// Vercel's `ai` with its provider for servers that speak OpenAI's wire.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, isStepCount, Output, streamText, tool } from "ai";
import * as tasks from "./tasks.mjs";

const { baseURL, key, model, MAX_TOKENS, QUESTION, FUNCTIONS, TOOL_RESULT } = tasks;

function provider(apiKey = key) {
  return createOpenAICompatible({
    name: "headrace",
    baseURL,
    apiKey,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
}

const common = {
  model: provider()(model),
  prompt: QUESTION,
  maxOutputTokens: MAX_TOKENS,
  temperature: 0,
  maxRetries: 0,
};
// Without `execute` a call ends the run, and the program sees it.
const tools = Object.fromEntries(
  Object.entries(FUNCTIONS).map(([name, { description, parameters }]) => [
    name,
    tool({ description, inputSchema: parameters }),
  ]),
);
const oneCall = {
  ...common,
  tools,
  providerOptions: { headrace: { parallel_tool_calls: false } },
};

// Text in chunks, then the usage.
async function stream() {
  const result = streamText({
    ...common,
    prompt: tasks.STORY,
    maxOutputTokens: tasks.STORY_TOKENS,
  });
  const texts = [];
  for await (const text of result.textStream) texts.push(text);
  const usage = await result.usage;
  return {
    texts,
    finish: await result.finishReason,
    prompt_tokens: usage.inputTokens,
    completion_tokens: usage.outputTokens,
  };
}

const callsOf = (calls) =>
  calls.map(({ toolName, input, toolCallId, invalid }) => ({
    name: toolName,
    arguments: invalid ? `invalid: ${JSON.stringify(input)}` : input,
    id: toolCallId,
  }));

async function forced(toolChoice) {
  const result = await generateText({ ...oneCall, toolChoice });
  return {
    calls: callsOf(result.toolCalls),
    finish: result.finishReason,
    content: result.text || null,
  };
}

const required = () => forced("required");
const chosen = () => forced({ type: "tool", toolName: "set_alarm" });

// A forced call in parts.
async function streamed_call() {
  const result = streamText({ ...oneCall, toolChoice: "required" });
  const deltas = [];
  for await (const part of result.fullStream) {
    if (part.type === "tool-input-delta") deltas.push(part.delta);
    if (part.type === "error") throw part.error;
  }
  return {
    calls: callsOf(await result.toolCalls),
    deltas,
    finish: await result.finishReason,
  };
}

// An object of a type of ours, whole and as it grows.
async function structured() {
  const output = Output.object({ schema: tasks.Report });
  return (await generateText({ ...common, output })).output;
}

async function streamed_object() {
  let failed = null;
  const result = streamText({
    ...common,
    output: Output.object({ schema: tasks.Report }),
    onError: ({ error }) => (failed = error),
  });
  const partials = [];
  for await (const partial of result.partialOutputStream) partials.push(partial);
  if (failed) throw failed;
  return { partials };
}

// The package's own loop: a forced call, its result, and what the model makes of it.
async function loop() {
  const execute = () => TOOL_RESULT;
  const result = await generateText({
    ...oneCall,
    tools: Object.fromEntries(
      Object.entries(tools).map(([name, each]) => [name, { ...each, execute }]),
    ),
    stopWhen: isStepCount(2),
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "auto" }),
  });
  const [first, second] = result.steps;
  const again = second.toolCalls.map(({ toolName }) => toolName);
  return { calls: callsOf(first.toolCalls), text: second.text, again };
}

async function errors() {
  const attempt = (change) =>
    tasks.failure(
      () => generateText({ ...common, ...change }),
      (error) => ({
        is_call_error: APICallError.isInstance(error),
        status_code: error.statusCode,
        ...error.data?.error,
      }),
    );
  return {
    wrong_key: await attempt({ model: provider(tasks.WRONG_KEY)(model) }),
    unknown_model: await attempt({ model: provider()(tasks.UNKNOWN_MODEL) }),
    bad_value: await attempt({ temperature: 3 }),
  };
}

await tasks.tell(["ai", "@ai-sdk/openai-compatible"], {
  stream,
  required,
  chosen,
  streamed_call,
  structured,
  streamed_object,
  loop,
  errors,
});
