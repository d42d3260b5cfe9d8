// The client object of PolarGrid's page, as little of it as its example uses: `chatCompletionStream`
// posts with `stream: true` and yields the JSON of each event until `[DONE]`. Everything below the
// line is the page's own loop, whose output the test reads from stdout.
import process from "node:process";

const [baseURL, apiKey] = process.argv.slice(2);

const client = {
  async *chatCompletionStream(body) {
    const response = await fetch(`${baseURL}/chat/completions`, {
      method: "POST",
      headers: { Authorization: `Bearer ${apiKey}`, "Content-Type": "application/json" },
      body: JSON.stringify({ ...body, stream: true }),
    });
    if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
    const decoder = new TextDecoder();
    let rest = "";
    for await (const part of response.body) {
      const events = (rest + decoder.decode(part, { stream: true })).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const data = event.slice("data: ".length);
        if (data === "[DONE]") return;
        yield JSON.parse(data);
      }
    }
    throw new Error("the stream ended without [DONE]");
  },
};

// ---------------------------------------------------------------------------------------------
for await (const chunk of client.chatCompletionStream({
  model: 'llama-3.1-8b',
  messages: [{ role: 'user', content: 'Tell me a story' }],
})) {
  const content = chunk.choices[0]?.delta?.content;
  if (content) {
    process.stdout.write(content);
  }
}
