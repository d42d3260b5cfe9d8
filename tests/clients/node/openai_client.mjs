// OpenAI's own package.
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import * as tasks from "./tasks.mjs";

const { baseURL, key, model, MAX_TOKENS, QUESTION, FUNCTIONS, TOOL_RESULT } = tasks;
const client = new OpenAI({ baseURL, apiKey: key, maxRetries: 0 });
const asked = [{ role: "user", content: QUESTION }];
const common = { model, max_tokens: MAX_TOKENS, temperature: 0 };
const entries = Object.entries(FUNCTIONS);

// As they stand in OpenAI's requests, not strict.
const tools = entries.map(([name, { description, parameters }]) => ({
  type: "function",
  function: { name, description, parameters: z.toJSONSchema(parameters) },
}));
const oneCall = { ...common, tools, parallel_tool_calls: false };

// Text in chunks, then the usage.
async function stream() {
  const chunks = await client.chat.completions.create({
    ...common,
    max_tokens: tasks.STORY_TOKENS,
    messages: [{ role: "user", content: tasks.STORY }],
    stream: true,
    stream_options: { include_usage: true },
  });
  const texts = [];
  let finish = null;
  let usage = null;
  for await (const chunk of chunks) {
    usage = chunk.usage ?? usage;
    for (const choice of chunk.choices) {
      if (choice.delta.content) texts.push(choice.delta.content);
      finish = choice.finish_reason ?? finish;
    }
  }
  return {
    texts,
    finish,
    prompt_tokens: usage.prompt_tokens,
    completion_tokens: usage.completion_tokens,
  };
}

const callsOf = (message) =>
  message.tool_calls.map(({ id, function: called }) => ({
    name: called.name,
    arguments: JSON.parse(called.arguments),
    id,
  }));

async function forced(tool_choice) {
  const { choices } = await client.chat.completions.create({
    ...oneCall,
    messages: asked,
    tool_choice,
  });
  const [{ message, finish_reason: finish }] = choices;
  return { calls: callsOf(message), finish, content: message.content };
}

const required = () => forced("required");
const chosen = () => forced({ type: "function", function: { name: "set_alarm" } });

// A forced call, gathered by the client's helper, which parses strict arguments itself.
async function streamed_call() {
  const deltas = [];
  const events = client.chat.completions.stream({
    ...oneCall,
    messages: asked,
    tools: entries.map(([name, each]) => zodFunction({ name, ...each })),
    tool_choice: "required",
  });
  events.on("tool_calls.function.arguments.delta", (event) => deltas.push(event.arguments_delta));
  const [{ message, finish_reason: finish }] = (await events.finalChatCompletion()).choices;
  const calls = message.tool_calls.map(({ id, function: called }) => ({
    name: called.name,
    arguments: called.parsed_arguments,
    id,
  }));
  return { calls, deltas, finish };
}

// An object of a type of ours.
async function structured() {
  const answer = await client.chat.completions.parse({
    ...common,
    messages: asked,
    response_format: zodResponseFormat(tasks.Report, "report"),
  });
  return answer.choices[0].message.parsed;
}

// A forced call, its result, and what the model makes of it.
async function loop() {
  const first = await client.chat.completions.create({
    ...oneCall,
    messages: asked,
    tool_choice: "required",
  });
  const { message } = first.choices[0];
  const results = message.tool_calls.map(({ id }) => ({
    role: "tool",
    tool_call_id: id,
    content: TOOL_RESULT,
  }));
  const second = await client.chat.completions.create({
    ...oneCall,
    messages: [...asked, message, ...results],
  });
  const { content: text, tool_calls: again = [] } = second.choices[0].message;
  return { calls: callsOf(message), text, again: again.map((each) => each.function.name) };
}

async function errors() {
  const attempt = (change, options = {}) =>
    tasks.failure(
      () =>
        client
          .withOptions(options)
          .chat.completions.create({ ...common, messages: asked, ...change }),
      ({ status, param, code, type }) => ({ status_code: status, param, code, type }),
    );
  return {
    wrong_key: await attempt({}, { apiKey: tasks.WRONG_KEY }),
    unknown_model: await attempt({ model: tasks.UNKNOWN_MODEL }),
    bad_value: await attempt({ temperature: 3 }),
  };
}

await tasks.tell(["openai"], {
  stream,
  required,
  chosen,
  streamed_call,
  structured,
  loop,
  errors,
});
