"""Measure how many of the calls that were demanded are valid against their schemas.

Edge, tokenizer and worker run as processes with the real model. For `required` with one call, for
`required` with as many as the model likes, and for a named function, requests at temperature 1 with
different seeds ask for calls of functions with schemas of all kinds. An answer counts where it ends
by itself with one call or more and the arguments of all of them are accepted by an independent
validator. One that max_tokens cut counts as cut, if all its calls but the last are valid: a model
that likes to call may go on until then.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema

from bench.engine.load import percentile
from bench.services import running_services
from bench.tool_schemas import PROMPTS, SCHEMAS

_FINISHED = {"required": "tool_calls", "required, several": "tool_calls", "named": "stop"}
_CUT = "cut"


@dataclass
class Outcome:
    """What became of all answers to one kind of choice; `faults` says what was wrong."""

    num_valid: int = 0
    num_cut: int = 0
    num_calls: int = 0
    faults: list[str] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.tool_calls", description=__doc__)
    parser.add_argument("--requests", type=int, default=100, help="of each kind (%(default)s)")
    parser.add_argument("--concurrency", type=int, default=8, help="at once (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first request (%(default)s)")
    parser.add_argument("--max-tokens", type=int, default=7000, help="of an answer (%(default)s)")
    parser.add_argument(
        "--kinds", nargs="+", choices=_FINISHED, default=list(_FINISHED), help="(%(default)s)"
    )
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder to write")
    return parser.parse_args()


def _body(model: str, choice: str, number: int) -> dict[str, Any]:
    """A request; the schema changes from one to the next, the other functions are drawn."""
    names = list(SCHEMAS)
    name = names[number % len(names)]
    others = random.Random(number).sample([each for each in names if each != name], number % 3)
    tools = [
        {"type": "function", "function": {"name": each, "parameters": SCHEMAS[each]}}
        for each in (name, *others)
    ]
    named = {"type": "function", "function": {"name": name}}
    return {
        "model": model,
        "messages": [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}],
        "tools": tools,
        "tool_choice": named if choice == "named" else "required",
        "parallel_tool_calls": choice == "required, several",
        "temperature": 1,
        "seed": number,
    }


def _fault(choice: str, body: dict[str, Any], answer: dict[str, Any]) -> str:
    """What is wrong with an answer; empty for nothing, `cut` where its last call is not whole."""
    if "error" in answer:
        return f"refused: {answer['error']['message']}"
    [given] = answer["choices"]
    calls = given["message"].get("tool_calls") or []
    is_cut = given["finish_reason"] == "length"
    if is_cut:
        calls = calls[:-1]
    elif given["finish_reason"] != _FINISHED[choice]:
        return f"ended by {given['finish_reason']} in call {len(calls)}"
    elif not calls or given["message"].get("content"):
        return f"{len(calls)} calls beside {given['message'].get('content')!r}"
    allowed = [tool["function"]["name"] for tool in body["tools"]]
    for call in calls:
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        if name not in (allowed[:1] if choice == "named" else allowed):
            return f"calls {name}"
        try:
            jsonschema.validate(json.loads(arguments), SCHEMAS[name])
        except (ValueError, jsonschema.ValidationError) as error:
            return f"{name}: {str(error).splitlines()[0]}"
    return _CUT if is_cut else ""


async def _measure(arguments: argparse.Namespace, port: int) -> dict[str, Outcome]:
    places = asyncio.Semaphore(arguments.concurrency)
    outcomes = {choice: Outcome() for choice in arguments.kinds}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=timeout) as session:

        async def ask(choice: str, number: int) -> None:
            body = _body(arguments.model, choice, number) | {"max_tokens": arguments.max_tokens}
            async with places:
                began = time.monotonic()
                async with session.post("/v1/chat/completions", json=body) as response:
                    answer = await response.json()
            _count(outcomes[choice], choice, body, answer)
            outcomes[choice].seconds.append(time.monotonic() - began)

        numbers = range(arguments.seed, arguments.seed + arguments.requests)
        await asyncio.gather(*(ask(choice, each) for each in numbers for choice in outcomes))
    return outcomes


def _count(outcome: Outcome, choice: str, body: dict[str, Any], answer: dict[str, Any]) -> None:
    fault = _fault(choice, body, answer)
    tokens = answer.get("usage", {}).get("completion_tokens", 0)
    print(f"{choice} {body['seed']}: {fault or 'valid'} ({tokens} tokens)", file=sys.stderr)
    if fault == _CUT:
        outcome.num_cut += 1
    elif fault:
        outcome.faults.append(f"seed {body['seed']}: {fault}")
    else:
        outcome.num_valid += 1
    if "choices" in answer:
        [given] = answer["choices"]
        outcome.num_calls += len(given["message"].get("tool_calls") or [])
        outcome.ends[given["finish_reason"]] += 1
        outcome.tokens.append(answer["usage"]["completion_tokens"])


def _report(outcomes: dict[str, Outcome], out: Path) -> None:
    print("| tool_choice | valid | cut | calls | tokens, median | p99 | p99.9 | s, median | p99 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for choice, outcome in outcomes.items():
        total = outcome.num_valid + outcome.num_cut + len(outcome.faults)
        figures = [
            f"{percentile(values, share):.1f}" if len(values) > 1 else "-"
            for values, shares in (
                (outcome.tokens, (0.5, 0.99, 0.999)),
                (outcome.seconds, (0.5, 0.99)),
            )
            for share in shares
        ]
        counts = [f"{outcome.num_valid} of {total}", str(outcome.num_cut), str(outcome.num_calls)]
        cells = [choice, *counts, *figures]
        print(f"| {' | '.join(cells)} |")
    for choice, outcome in outcomes.items():
        for fault in outcome.faults[:20]:
            print(f"{choice}: {fault}")
    out.mkdir(parents=True, exist_ok=True)
    figures_text = json.dumps({name: vars(each) for name, each in outcomes.items()}, indent=2)
    (out / "tool_calls.json").write_text(figures_text + "\n", encoding="utf-8")
    print(f"written: {out}/tool_calls.json")


def main() -> int:
    """Measure and report; 1 when a call was not valid."""
    arguments = _arguments()
    tables = {"worker.openvino": {"max_num_sequences": max(arguments.concurrency, 1)}}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_services(arguments.model, tables, Path(folder)) as services,
    ):
        outcomes = asyncio.run(_measure(arguments, services.edge_port))
    _report(outcomes, arguments.out)
    return 1 if any(outcome.faults for outcome in outcomes.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
