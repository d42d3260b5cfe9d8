// The official Node client against an edge: `node openai_client.mjs BASE_URL MODEL KEY` prints one
// JSON object of what it got. The test that runs it judges.
import OpenAI from "openai";

const [baseURL, model, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Say hello." }];
const common = { model, messages, max_tokens: 8, temperature: 0 };

async function whole() {
  const answer = await client.chat.completions.create({ ...common, n: 2 });
  return {
    requestId: answer._request_id,
    object: answer.object,
    model: answer.model,
    usage: answer.usage,
    choices: answer.choices.map((choice) => ({
      index: choice.index,
      role: choice.message.role,
      content: choice.message.content,
      refusal: choice.message.refusal,
      finish: choice.finish_reason,
    })),
  };
}

async function streamed() {
  const stream = await client.chat.completions.create({
    ...common,
    stream: true,
    stream_options: { include_usage: true },
    logprobs: true,
    top_logprobs: 2,
  });
  let text = "";
  const roles = [];
  const finishes = [];
  const bytes = [];
  let usage = null;
  const ids = new Set();
  for await (const chunk of stream) {
    ids.add(chunk.id);
    if (chunk.usage) usage = chunk.usage;
    for (const choice of chunk.choices) {
      if (choice.delta.role) roles.push(choice.delta.role);
      text += choice.delta.content ?? "";
      for (const entry of choice.logprobs?.content ?? []) bytes.push(...entry.bytes);
      if (choice.finish_reason) finishes.push(choice.finish_reason);
    }
  }
  return { ids: ids.size, roles, text, finishes, usage, spelt: Buffer.from(bytes).toString() };
}

// The client's own helper, which gathers a stream into a whole answer.
async function gathered() {
  const stream = client.chat.completions.stream({ ...common });
  const answer = await stream.finalChatCompletion();
  return { content: answer.choices[0].message.content, finish: answer.choices[0].finish_reason };
}

async function aborted() {
  const stream = await client.chat.completions.create({ ...common, max_tokens: 400, stream: true });
  let chunks = 0;
  for await (const chunk of stream) {
    chunks += chunk.choices.length;
    if (chunks > 2) stream.controller.abort();
  }
  return { aborted: stream.controller.signal.aborted };
}

async function failure(change, options = {}) {
  try {
    await client.withOptions(options).chat.completions.create({ ...common, ...change });
    return null;
  } catch (error) {
    return {
      kind: error.constructor.name,
      status: error.status,
      type: error.type,
      param: error.param,
      code: error.code,
      requestId: error.requestID,
    };
  }
}

async function models() {
  const ids = [];
  for await (const entry of client.models.list()) ids.push(entry.id);
  return ids;
}

console.log(
  JSON.stringify({
    whole: await whole(),
    streamed: await streamed(),
    gathered: await gathered(),
    aborted: await aborted(),
    wrongKey: await failure({}, { apiKey: "not-a-key-of-anybody" }),
    outOfRange: await failure({ temperature: 3 }),
    tooLong: await failure({ messages: [{ role: "user", content: "water ".repeat(20_000) }] }),
    models: await models(),
  }),
);
