"""The rules by which LLaMA-Factory and TRL read their formats, from their documentation.

LLaMA-Factory: https://llamafactory.readthedocs.io/en/latest/getting_started/data_preparation.html and data/README.md of its repository.
TRL: https://huggingface.co/docs/trl/dataset_formats. Nothing of their code is here.
"""

from __future__ import annotations

import json
from typing import Any, Iterator

USER_SIDE = {"human", "observation"}
MODEL_SIDE = {"gpt", "function_call"}


def json_of(value: Any) -> Any:
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return None


def is_call(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("name"), str) and "arguments" in value


def optional_text(row: dict, keys: tuple[str, ...]) -> Iterator[str]:
    for key in keys:
        if not isinstance(row.get(key, ""), str):
            yield f"{key} is no string: {row[key]!r:.60}"


def llama_factory_tools(row: dict) -> Iterator[str]:
    """`tools`: a string; empty, or JSON of a list of tools, bare or wrapped in `function`."""
    tools = row.get("tools", "")
    if not isinstance(tools, str):
        yield f"tools is no string: {tools!r:.60}"
    elif tools.strip():
        listed = json_of(tools)
        if not isinstance(listed, list) or any(not isinstance(tool, dict) or not (tool.get("function") or tool).get("name") for tool in listed):
            yield f"tools is no JSON list of tools: {tools:.60}"


def llama_factory_alpaca(row: dict) -> Iterator[str]:
    if not isinstance(row.get("instruction"), str) or not isinstance(row.get("output"), str):
        yield "instruction or output is no string"
    yield from optional_text(row, ("input", "system"))
    yield from llama_factory_tools(row)
    history = row.get("history", [])
    if not isinstance(history, list) or any(not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair) for pair in history):
        yield f"history is no list of pairs of texts: {history!r:.60}"


def alternates(turns: list[dict], sides: tuple[set, set], even: bool) -> Iterator[str]:
    for n, turn in enumerate(turns):
        if turn["from"] not in sides[n % 2]:
            yield f"turn {n + 1} is {turn['from']}, after {turns[n - 1]['from'] if n else 'nothing'}: the sides do not alternate"
            return
    if even and len(turns) % 2:
        yield f"{len(turns)} turns: the last one is no answer"


def llama_factory_sharegpt(row: dict, model: str = "gpt") -> Iterator[str]:
    """human or observation, then gpt or function_call, and so on; a system turn may come first."""
    turns = row.get("conversations")
    if not isinstance(turns, list) or any(not isinstance(turn, dict) or not isinstance(turn.get("value"), str) or "from" not in turn for turn in turns):
        yield f"conversations is no list of from and value, both strings: {turns!r:.100}"
        return
    if turns and turns[0]["from"] == "system":
        turns = turns[1:]
    yield from alternates(turns, (USER_SIDE, (MODEL_SIDE - {"gpt"}) | {model}), True)
    for turn in turns:
        if turn["from"] == "function_call":
            value = json_of(turn["value"])
            calls = value if isinstance(value, list) else [value]
            if not calls or not all(is_call(call) for call in calls):
                yield f"a function_call is not JSON of name and arguments: {turn['value']:.80}"
    yield from optional_text(row, ("system",))
    yield from llama_factory_tools(row)


def belle(row: dict) -> Iterator[str]:
    yield from llama_factory_sharegpt(row, "assistant")


def firefly(row: dict) -> Iterator[str]:
    pairs = row.get("conversation")
    if not isinstance(pairs, list) or not pairs or any(not isinstance(pair, dict) or not isinstance(pair.get("human"), str) or not isinstance(pair.get("assistant"), str) for pair in pairs):
        yield f"conversation is no list of human and assistant: {pairs!r:.80}"


def trl_messages(value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{where} is no list of messages: {value!r:.60}"
        return
    for n, message in enumerate(value):
        here = f"{where}[{n}]"
        if not isinstance(message, dict) or message.get("role") not in ("system", "user", "assistant", "tool"):
            yield f"{here} has no role of system, user, assistant, tool: {message!r:.80}"
            continue
        calls = message.get("tool_calls")
        if not isinstance(message.get("content"), str) and not (calls and message.get("content") is None):
            yield f"{here} has no content: {message!r:.80}"
        if "tool_calls" in message and not isinstance(calls, list):
            yield f"tool_calls of {here} is no list: {calls!r:.60}"
            continue
        for call in calls or []:
            function = call.get("function") if isinstance(call, dict) else None
            if not isinstance(call, dict) or call.get("type") != "function" or not is_call(function):
                yield f"a call of {here} is not type and function of name and arguments: {call!r:.80}"
            elif not isinstance(function["arguments"], dict) and not isinstance(json_of(function["arguments"]), dict):
                yield f"arguments of {here} are no object: {function['arguments']!r:.60}"
        if not isinstance(message.get("tool_call_id", ""), str) or not isinstance(message.get("name", ""), str):
            yield f"tool_call_id or name of {here} is no string"


def trl_tools(row: dict) -> Iterator[str]:
    """`tools`: a list of JSON schemas."""
    tools = row.get("tools")
    if tools is not None and (not isinstance(tools, list) or any(not isinstance(tool, dict) or tool.get("type") != "function" or not isinstance(tool.get("function"), dict) for tool in tools)):
        yield f"tools is no list of type and function: {tools!r:.80}"


def trl_openai(row: dict) -> Iterator[str]:
    yield from trl_messages(row.get("messages"), "messages")
    yield from trl_tools(row)


def trl_parts(*keys: str):
    """Rows of texts, or of lists of messages, under these keys."""

    def rule(row: dict) -> Iterator[str]:
        values = [row.get(key) for key in keys]
        if not all(isinstance(value, str) for value in values):
            for key, value in zip(keys, values):
                yield from trl_messages(value, key)
        yield from trl_tools(row)

    return rule


def trl_kto(row: dict) -> Iterator[str]:
    if not isinstance(row.get("label"), bool):
        yield f"label is not true or false: {row.get('label')!r}"
    yield from trl_parts("prompt", "completion")(row)


def text(row: dict) -> Iterator[str]:
    if not isinstance(row.get("text"), str):
        yield f"text is no string: {row.get('text')!r:.60}"


RULES = {
    "alpaca": llama_factory_alpaca, "sharegpt": llama_factory_sharegpt, "belle-chat": belle, "openai": trl_openai, "firefly": firefly,
    "prompt-completion": trl_parts("prompt", "completion"), "text": text, "preference": trl_parts("prompt", "chosen", "rejected"), "kto": trl_kto,
}


def faults(schema: str, rows: list[dict]) -> list[str]:
    """What the readers of a schema stumble on in a file of it."""
    found = [f"{row.get('id')}: {fault}" for row in rows for fault in RULES[schema](row)]
    for key in ("prompt", "completion", "chosen", "rejected"):
        kinds = {type(row[key]).__name__ for row in rows if key in row}
        if schema in ("prompt-completion", "preference", "kto") and len(kinds) > 1:
            found.append(f"the file: {key} is {' and '.join(sorted(kinds))}: a column has one type")
    return found
