// The same as official_clients.py with OpenAI's client for Node.js: URL MODEL KEY REPEATS.

import { createInterface } from "node:readline";
import OpenAI from "openai";

const [url, model, apiKey, repeats] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, timeout: 30_000, maxRetries: Number(repeats) });
const asked = { model, max_tokens: 20, messages: [{ role: "user", content: "Say something." }] };
const found = {};
let phase = "start";
let isOver = false;
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => (phase = line.trim()));
lines.on("close", () => (isOver = true));

async function plain() {
  const answer = await client.chat.completions.create(asked);
  if (!answer.choices[0].message.content) throw new Error("no content");
}

async function streamed(seen) {
  let reason = null;
  for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
    for (const choice of chunk.choices) {
      if (choice.delta.content) seen();
      reason = choice.finish_reason ?? reason;
    }
  }
  if (!reason) throw new Error("unfinished");
}

while (!isOver) {
  for (const kind of [plain, streamed]) {
    const began = performance.now();
    let first = null;
    const counts = (found[phase] ??= { asked: 0, before: 0, after: 0, slowest: 0, said: [] });
    counts.asked += 1;
    try {
      await kind(() => (first ??= performance.now() - began));
    } catch (error) {
      counts[first === null ? "before" : "after"] += 1;
      if (counts.said.length < 3) counts.said.push(`${kind.name}: ${error}`.slice(0, 300));
      await new Promise((done) => setTimeout(done, 50));
    }
    counts.slowest = Math.max(counts.slowest, (first ?? performance.now() - began) / 1000);
  }
}
console.log(JSON.stringify(found));
