// What every client is asked to do, and how a program tells what it got: it is called with base URL,
// key and model and prints one JSON object. The same tasks as in ../python/tasks.py, in zod's types.
import process from "node:process";
import { readFileSync } from "node:fs";
import { z } from "zod";

export const [baseURL, key, model] = process.argv.slice(2);
export const WRONG_KEY = "hr-a-key-of-nobody";
export const UNKNOWN_MODEL = "gpt-9";
export const QUESTION = "What is the weather in Oslo?";
export const STORY = "Tell me a story about a river.";
export const TOOL_RESULT = "Rain, 7 degrees.";
export const MAX_TOKENS = 96;
export const STORY_TOKENS = 24;

const City = z.enum(["Paris", "Oslo", "Lima"]);

export const FUNCTIONS = {
  get_weather: {
    description: "Look up the weather of a city.",
    parameters: z.strictObject({ city: City, days: z.int().min(1).max(7) }),
  },
  set_alarm: {
    description: "Set an alarm.",
    parameters: z.strictObject({ hour: z.int().min(0).max(23), is_daily: z.boolean() }),
  },
};

export const Report = z.strictObject({
  city: City,
  degrees: z.int().min(-40).max(50),
  is_raining: z.boolean(),
  remark: z.string().max(30),
});

// What an attempt throws: its kind, and what `describe` takes out of it.
export async function failure(attempt, describe) {
  try {
    await attempt();
  } catch (error) {
    return { kind: error.constructor.name, ...describe(error) };
  }
  return { kind: null };
}

const installed = (name) =>
  JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;

// Do the tasks and print what came of each; one that fails leaves the others alone.
export async function tell(packages, tasks) {
  const told = { packages: Object.fromEntries(packages.map((name) => [name, installed(name)])) };
  for (const [name, task] of Object.entries(tasks)) {
    try {
      told[name] = await task();
    } catch (error) {
      told[name] = { failed: `${error.stack}\n${JSON.stringify(error)}` };
    }
  }
  console.log(JSON.stringify(told));
}
