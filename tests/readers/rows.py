"""Rows of every schema, with all that public files have in them.

Each row has an `id`, by which it is found again. A file of rows is what a person may have: its rows
differ in keys, in the forms of their values and in the names of their roles.
"""

from __future__ import annotations

import json

AREA = {"name": "area", "description": "The area of a rectangle <a × b>", "parameters": {
    "type": "object", "properties": {"a": {"type": "number", "description": "metres"}, "b": {"type": "number"}}, "required": ["a", "b"]}}
WEATHER = {"name": "weather", "description": "天气", "parameters": {"type": "object", "properties": {"town": {"type": "string"}}}}
WRAPPED = [{"type": "function", "function": AREA}, {"type": "function", "function": WEATHER}]
META = {"source": {"page": 3, "book": "Школа"}, "tags": ["a", "б"]}


def call(name: str, arguments, id: str | None = None) -> dict:
    made = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"id": id, **made} if id else made


def text_of(value) -> str:
    return json.dumps(value, ensure_ascii=False)


def turn(role: str, content, **more) -> dict:
    return {"role": role, "content": content, **more}


def said(who: str, value, **more) -> dict:
    return {"from": who, "value": value, **more}


PARALLEL = [call("weather", text_of({"town": "Zürich"}), "aaaaaaaa1"), call("weather", text_of({"town": "Rome"}), "bbbbbbbb2")]

OPENAI = [
    {"id": "o-plain", "messages": [turn("system", "Answer briefly."), turn("user", "小明有3个苹果,\n又买了5个?"), turn("assistant", "8 👋🏽"),
                                   turn("user", "And \"7 < 9\"?"), turn("assistant", "Yes\t✓")]},
    {"id": "o-parallel", "tools": WRAPPED, "messages": [
        turn("user", "Weather in Zürich and Rome?"), turn("assistant", None, tool_calls=PARALLEL),
        turn("tool", "sun in Rome", tool_call_id="bbbbbbbb2"), turn("tool", "rain in Zürich", tool_call_id="aaaaaaaa1"),
        turn("assistant", "Rain and sun.")]},
    {"id": "o-tools-text", "tools": text_of(WRAPPED), "messages": [
        turn("user", "3 by 0.5?"), turn("assistant", "", tool_calls=[call("area", {"b": 0.5, "a": 3}, "call00001")]),
        turn("tool", "{\"area\": 1.5}", name="area", tool_call_id="call00001"), turn("assistant", "1.5")]},
    {"id": "o-beside", "tools": WRAPPED, "messages": [
        turn("user", "3 by 4?"), turn("assistant", "Let me see.", tool_calls=[call("area", text_of({"a": 3, "b": 4}), "call00002")]),
        turn("tool", "12", tool_call_id="call00002"), turn("assistant", "12")]},
    {"id": "o-one-call", "tools": WRAPPED, "messages": [
        turn("user", "Weather in Oslo?"), turn("assistant", None, tool_calls=[call("weather", {"town": "Oslo"})]),
        turn("tool", "snow"), turn("assistant", "Snow.")]},
    {"id": "o-old-call", "messages": [turn("user", "5 by 6?"), turn("assistant", None, function_call={"name": "area", "arguments": text_of({"a": 5, "b": 6})}),
                                      turn("function", "30", name="area"), turn("assistant", "30")]},
    {"id": "o-reasoning", "messages": [turn("user", "1 + 1?"), turn("assistant", "2", reasoning_content="easy\n"), turn("user", "2 + 2?"),
                                       turn("assistant", "4", reasoning_content="四")]},
    {"id": "o-weights", "messages": [turn("user", "a"), turn("assistant", "no", weight=0), turn("user", "b"), turn("assistant", "half", weight=0.5),
                                     turn("user", "c"), turn("assistant", "yes", weight=1)]},
    {"id": "o-marks", "messages": [turn("user", "a"), turn("assistant", "one", loss_weight=0.0), turn("user", "b"), turn("assistant", "two", loss=False),
                                   turn("user", "c"), turn("assistant", "three", train="false"), turn("user", "d"), turn("assistant", "four", loss_mask=0),
                                   turn("user", "e"), turn("assistant", "five", train=True)]},
    {"id": "o-unknown", "meta": META, "score": 0.75, "n": 3, "ok": True, "nothing": None, "lang": "de",
     "messages": [turn("user", "Hi", lang="en", place={"x": [1, None]}), turn("assistant", "Hello")]},
    {"id": "o-names", "messages": [turn("user", "Hi", name="ann"), turn("assistant", "Hello", name="bob")]},
    {"id": "o-system-keys", "messages": [{**turn("system", "Use them."), "functions": [{"name": "clock", "zone": "UTC"}], "note": "n"}, turn("user", "Time?"), turn("assistant", "Noon.")]},
    {"id": "o-empty", "tools": [], "messages": [turn("system", " "), turn("user", "No tools?"), turn("assistant", "None")]},
    {"id": "o-parts", "messages": [turn("user", [{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]), turn("assistant", "whole")]},
]

SHAREGPT = [
    {"id": "s-plain", "conversations": [said("human", "Grüße,\nwie geht's?"), said("gpt", "Gut ✓"), said("human", "再见"), said("gpt", "再见!")]},
    {"id": "s-system", "system": "Be brief.", "conversations": [said("human", "1 + 1?"), said("gpt", "2")]},
    {"id": "s-system-turn", "conversations": [said("system", "Be kind."), said("human", "2 + 2?"), said("gpt", "4")]},
    {"id": "s-call", "tools": text_of([AREA]), "conversations": [
        said("human", "3 by 0.5?"), said("function_call", text_of({"name": "area", "arguments": {"b": 0.5, "a": 3}})),
        said("observation", text_of({"area": 1.5})), said("gpt", "1.5 m²")]},
    {"id": "s-calls", "tools": text_of([AREA, WEATHER]), "conversations": [
        said("human", "Both?"), said("function_call", text_of([{"name": "weather", "arguments": {"town": "Rome"}}, {"name": "area", "arguments": {"a": 1, "b": 2}}])),
        said("observation", text_of(["sun", 2])), said("gpt", "Sun, 2 m².")]},
    {"id": "s-no-tools", "tools": "", "system": "", "conversations": [said("human", "No tools?"), said("gpt", "No.")]},
    {"id": "s-marks", "conversations": [said("human", "a"), said("gpt", "no", weight=0), said("human", "b"), said("gpt", "yes", loss=True)]},
    {"id": "s-unknown", "category": "chat", "scores": {"help": 4.5, "harm": None}, "conversations": [said("human", "a", language="en"), said("gpt", "b")]},
    {"id": "s-reasoning", "conversations": [said("human", "3 + 3?"), said("gpt", "6", reasoning_content="count")]},
    {"id": "s-user", "conversations": [said("user", "names of roles"), said("chatgpt", "differ")]},
]

BELLE = [
    {"id": "b-plain", "conversations": [said("human", "小红有7支铅笔\n用掉2支"), said("assistant", "还剩5支")]},
    {"id": "b-long", "conversations": [said("human", "一"), said("assistant", "1"), said("human", "二"), said("assistant", "2")]},
    {"id": "b-marks", "conversations": [said("human", "a"), said("assistant", "no", weight=0), said("human", "b"), said("assistant", "yes")]},
    {"id": "b-unknown", "source": {"url": "https://example.org/a?b=c"}, "conversations": [said("human", "a"), said("assistant", "b")]},
]

ALPACA = [
    {"id": "a-plain", "instruction": "把3加上5", "input": "", "output": "8"},
    {"id": "a-input", "instruction": "Translate.", "input": "Guten Tag,\n\"Anna\"", "output": "Good day, \"Anna\""},
    {"id": "a-only-input", "instruction": "", "input": "What is 2 + 2?", "output": "4"},
    {"id": "a-system", "system": "Be brief.", "instruction": "1 + 1?", "input": "", "output": "2"},
    {"id": "a-blank-system", "system": "", "instruction": "1 + 2?", "input": "", "output": "3"},
    {"id": "a-history", "instruction": "third?", "input": "", "output": "3rd ✓", "history": [["first?", "1st"], ["second?", "2nd"]]},
    {"id": "a-no-history", "instruction": "alone?", "input": "", "output": "yes", "history": []},
    {"id": "a-unknown", "instruction": "keys?", "input": "", "output": "kept or said", "meta": META, "score": 5, "good": True, "lang": None, "topic": "math"},
    {"id": "a-no-input", "instruction": "no input key", "output": "none"},
]

FIREFLY = [
    {"id": "f-plain", "conversation": [{"human": "你好", "assistant": "您好!\n有什么可以帮您?"}]},
    {"id": "f-long", "system": "Be brief.", "conversation": [{"human": "a", "assistant": "b"}, {"human": "c", "assistant": "d ✓"}]},
    {"id": "f-unknown", "conversation_id": 7, "category": "Brainstorming", "dataset": "moss", "conversation": [{"human": "x", "assistant": "y"}]},
]

PROMPT_COMPLETION = [
    {"id": "p-strings", "prompt": "The sky is\n", "completion": " blue. ✓"},
    {"id": "p-lists", "prompt": [turn("system", "Be brief."), turn("user", "The sky?")], "completion": [turn("assistant", "Blue")]},
    {"id": "p-long", "prompt": [turn("user", "a"), turn("assistant", "b"), turn("user", "c")], "completion": [turn("assistant", "d")]},
    {"id": "p-tools", "tools": WRAPPED, "prompt": [turn("user", "3 by 4?"), turn("assistant", None, tool_calls=[call("area", {"a": 3, "b": 4}, "call00003")]),
                                                  turn("tool", "12", tool_call_id="call00003")], "completion": [turn("assistant", "12 m²")]},
    {"id": "p-question", "question": "答?", "answer": "对"},
    {"id": "p-unknown", "prompt": "u", "completion": "v", "meta": META, "score": -1.5, "source": "web"},
]

TEXT = [
    {"id": "t-plain", "text": "Plain text,\nof two lines ✓ 文字"},
    {"id": "t-unknown", "text": "With keys", "meta": META, "timestamp": "2019-04-25T12:57:54Z", "url": "https://example.org"},
    {"id": "t-markup", "text": "<|im_start|>user\n\"hi\", he said\t<|im_end|>\n"},
]

PREFERENCE = [
    {"id": "d-strings", "prompt": "Best colour?", "chosen": "Blue, \"of course\"", "rejected": "None\n"},
    {"id": "d-lists", "prompt": [turn("system", "Be kind."), turn("user", "颜色?")], "chosen": [turn("assistant", "蓝")], "rejected": [turn("assistant", "没有")]},
    {"id": "d-long", "prompt": [turn("user", "a"), turn("assistant", "b"), turn("user", "c")], "chosen": [turn("assistant", "d")], "rejected": [turn("assistant", "e")]},
    {"id": "d-implicit", "chosen": [turn("user", "q?"), turn("assistant", "good")], "rejected": [turn("user", "q?"), turn("assistant", "bad")]},
    {"id": "d-sharegpt", "conversations": [said("human", "Best town?")], "chosen": said("gpt", "Rome"), "rejected": said("gpt", "None")},
    {"id": "d-alpaca", "instruction": "Best", "input": "river?", "chosen": "Rhein", "rejected": "–"},
    {"id": "d-unknown", "prompt": "Best food?", "chosen": "Rösti", "rejected": "Stones", "score_chosen": 8.5, "score_rejected": 1, "source": "us"},
]

KTO = [
    {"id": "k-good", "prompt": "1 + 1?", "completion": "2", "label": True},
    {"id": "k-bad", "prompt": "1 + 1?", "completion": "3", "label": False},
    {"id": "k-one", "prompt": "2 + 2?", "completion": "4", "label": 1},
    {"id": "k-zero", "prompt": "2 + 2?", "completion": "5", "label": 0},
    {"id": "k-word", "prompt": "3 + 3?", "completion": "7", "label": "false"},
    {"id": "k-number", "prompt": "3 + 3?", "completion": "8", "label": 0.0},
    {"id": "k-true", "prompt": "3 + 3?", "completion": "6 ✓", "label": "true"},
    {"id": "k-lists", "prompt": [turn("system", "Be brief."), turn("user", "四?")], "completion": [turn("assistant", "4")], "label": False},
    {"id": "k-tag", "messages": [turn("user", "五?"), turn("assistant", "5")], "kto_tag": True},
    {"id": "k-unknown", "prompt": "6?", "completion": "6", "label": True, "meta": META, "lang": "en"},
]

ROWS = {
    "alpaca": ALPACA, "sharegpt": SHAREGPT, "belle-chat": BELLE, "openai": OPENAI, "firefly": FIREFLY,
    "prompt-completion": PROMPT_COMPLETION, "text": TEXT, "preference": PREFERENCE, "kto": KTO,
}

# Texts that a table of text may give back as something else.
HAZARDS = ["true", "False", "[1, 2]", "{\"a\": 1}", "5", "-0", "1e5", "nan", "NaN", "null", "None", "NA", " two  spaces ", "=1+1", "a\r\nb", "\"q\"",
           "a,b\tc;d", "\ufeffbom", "'single'", "\\n", "2020-01-01", "\u2028", "0123", "\n", "é"]

# Rows of which a value cannot be used: each must be named with its line, whatever else is done.
BROKEN = {
    "kto": [{"prompt": "x", "completion": "y", "label": "perhaps"}, {"prompt": "x", "completion": "y", "label": 7}],
    "openai": [{"messages": [turn("user", "x"), turn("assistant", "y", weight="lots")]}, {"messages": [turn("user", "x"), turn("judge", "y")]},
               {"messages": [turn("user", "x"), turn("assistant", "y", tool_calls="no list")]}, {"messages": [turn("user", "x"), turn("assistant", "y", train="perhaps")]}],
    "sharegpt": [{"conversations": [said("human", "x"), said("function_call", "no JSON"), said("observation", "y"), said("gpt", "z")]}],
    "alpaca": [{"instruction": "x", "input": "", "output": ["y"]}],
}
