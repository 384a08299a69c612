"""Writes templates.json: what Hugging Face makes of our conversations with the templates of real models.

usage: templates.py FOLDER > templates.json        needs: tokenizers, transformers, jinja2

FOLDER is what fetch_templates.py wrote. The templates themselves are not ours and are not kept: the
file has the SHA-256 of each, and for each of our conversations the text without a generation prompt
and the one with it, or `as`, another conversation that gives the same; or what the template says when
it refuses the conversation. Dates are frozen.

Where transformers leaves it to its caller, the form is the one that the template was written for:
- `arguments`: templates that write them as JSON want an object, those that join them to a string want
  a string. Both forms of a file are given to the template as the one that it wants; a template that
  can do with either gets what the file has.
- `null_is`: null content is null for a template that renders it; for one that refuses it or writes
  "None" or "null" the key is missing, which is what transformers 5 makes of every null.
"""
import datetime
import hashlib
import json
import sys
from pathlib import Path

import transformers.utils.chat_template_utils as rendering
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

NOW = 1_722_000_000  # 26 July 2024, 13:20 UTC
FAMILIES = {
    "trl": ["cohere", "cohere2", "deepseekv3", "deepseek_r1_distill", "gemma", "gemma3", "gemma4_v5", "glm4moe", "glm4moe_training", "gptoss",
            "lfm2", "lfm2_v2", "lfm2_2_5_v2", "llama3", "llama3_1", "llama3_2", "nemotron_3_nano", "nemotron_3_super", "phi3", "phi3_5", "qwen2_5",
            "qwen3", "qwen3_training", "qwen3_vl", "qwen3_5_think", "qwen3_8", "qwen3_instruct_2507", "muse_glimmer"],
    "axolotl": ["alpaca", "aya", "chatml", "command_a", "command_a_tool_use", "deepseek_v2", "deepseek_v3", "exaone", "exaone4", "falcon_h1",
                "gemma4", "jamba", "llama3_2_vision", "llama4", "metharme", "mistral_v1", "mistral_v2v3", "mistral_v3_tekken", "mistral_v7_tekken",
                "phi_4", "qwen3_5"],
}
TOOLS = [{"type": "function", "function": {
    "name": "area", "description": "The area of a rectangle <a × b>",
    "parameters": {"type": "object", "properties": {"a": {"type": "number", "description": "metres"}, "b": {"type": "number"}}, "required": ["a", "b"]}}}]
def call(id, **arguments):
    return {"id": id, "type": "function", "function": {"name": "area", "arguments": arguments}}


def say(role, content, **more):
    return {"role": role, "content": content, **more}


def answer(id, content):
    return say("tool", content, name="area", tool_call_id=id)


CALL = call("call00001", a=3, b=0.5)
PARALLEL = [call("aaaaaaaa1", a=3, b=0.5), call("bbbbbbbb2", b=7, a=2, unit="m², é")]
CONVERSATIONS = {
    "system": [say("system", "Answer briefly."), say("user", "3 + 5?"), say("assistant", "8"), say("user", "And \"7 < 9\"?")],
    "turns": [say("user", "  小明有3个苹果\n\n{{ x }} & 'y' "), say("assistant", "\n3 个 👋 "), say("user", "谢谢"), say("assistant", "不客气")],
    "reasoning": [say("user", "1 + 1?"), say("assistant", "<think>\neasy\n</think>\n\n2"), say("user", "2 + 2?"), say("assistant", "<think>\nhm\n</think>\n\n4")],
    "tools": [say("system", "Use the tool."), say("user", "3 m by 0.5 m?"), say("assistant", "", tool_calls=[CALL]),
              answer("call00001", "1.5"), say("assistant", "1.5 m²"), say("user", "Thanks")],
    # Two calls at once, whose answers come in the other order.
    "parallel": [say("user", "Both areas?"), say("assistant", "", tool_calls=PARALLEL), answer("bbbbbbbb2", "14 m²"), answer("aaaaaaaa1", "1.5"),
                 say("assistant", "1.5 and 14 m²")],
    "text_and_call": [say("user", "3 m by 0.5 m?"), say("assistant", "Let me see.", tool_calls=[CALL]), answer("call00001", "1.5"), say("assistant", "1.5 m²")],
    "null": [say("user", "3 m by 0.5 m?"), say("assistant", None, tool_calls=[CALL]), answer("call00001", "1.5"), say("assistant", "1.5 m²")],
    "null_parallel": [say("user", "Both?"), say("assistant", None, tool_calls=PARALLEL), answer("bbbbbbbb2", "14 m²"), answer("aaaaaaaa1", "1.5"),
                      say("assistant", "1.5 and 14 m²"), say("user", "Once more"), say("assistant", None, tool_calls=[CALL])],
    # Arguments as OpenAI writes them.
    "arguments_text": [say("user", "Both?"), say("assistant", "", tool_calls=[
        {**each, "function": {"name": "area", "arguments": text}}
        for each, text in zip(PARALLEL, ['{"b":0.5,"a":3}', '{"a": 2, "deep": {"é": [null, true, "x\\"y"]}}'])]),
        answer("aaaaaaaa1", "1.5"), answer("bbbbbbbb2", "14 m²"), say("assistant", "1.5 and 14 m²")],
    "reasoning_content": [say("user", "1 + 1?"), say("assistant", "2", reasoning_content="easy\n"), say("user", "2 + 2?"),
                          say("assistant", "4", reasoning_content="hm, 四")],
    # Its other names.
    "thinking": [say("user", "1 + 1?"), say("assistant", "2", thinking="easy\n"), say("user", "2 + 2?"), say("assistant", "4", reasoning="hm, 四")],
    "reasoning_call": [say("user", "3 m by 0.5 m?"), say("assistant", "", reasoning_content="a tool", tool_calls=[CALL]), answer("call00001", "1.5"),
                       say("assistant", "1.5 m²", reasoning_content="done")],
    # Keys that no template knows.
    "unknown": [say("system", "Answer briefly.", lang="en"), say("user", "3 + 5?", mood={"deep": ["x", 1, {"y": True}]}), say("assistant", "8", score=0.5),
                say("user", "And \"7 < 9\"?", lang="en")],
}
WITH_TOOLS = ["tools", "parallel", "text_and_call", "null", "null_parallel", "arguments_text", "reasoning_call"]

# Of our own writing: what Python writes in ways of its own.
SNIPPETS = [
    "{{ tools }}", "{{ messages[2].tool_calls }} {{ messages[2].nothing }}", "{{ [none, true, 1, 2.0, 1e16, 1.5e-05, 'it\\'s', 'a\\n'] }}",
    "{{ tools | tojson(indent=2) }}", "{{ {'b': [], 'a': {}, 'c': [1, [2]]} | tojson(indent=3) }}", "{{ {'b': 1e20, 'a': 1e-7} | tojson(sort_keys=true) }}",
    "{{ tools | tojson(separators=(',', ':')) }}", "{{ [1, 'é<'] | tojson(ensure_ascii=true, indent=1, separators=(';', '=')) }}",
    "{{ (tools[0].function.parameters | string).split(',') }}", "{{ ' \\x1fa \\x1c' | trim }}|{{ 'a\\x0bb\\r\\nc\\n'.splitlines() }}|{{ ' a  b '.split() }}",
    "line\r\n{% if true %}\r\nnext\r{% endif %}end\n", "{{ 'x{}y'.format(tools[0].type) }} {{ 'ab cd'.title() }} {{ dict(a=1).get('b', 2) }}",
    "{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}{% generation %}{{ m.role }}{% endgeneration %} {% endfor %}{{ messages[1:3] | length }}{{ messages[::-1][0].content }}",
    "{% set ns = namespace(n=0, last=none) %}{% for m in messages if m.content is string and m.content %}{% set ns.n = ns.n + 1 %}{% set ns.last = m.role %}{% endfor %}{{ ns.n }} {{ ns.last }} {{ tools is iterable }} {{ tools[0] is mapping }} {{ x is defined }} {{ ns.last is none }}",
    "{{ messages[3].tool_call_id }} {{ messages[2].tool_calls[0].id }} {{ messages[3].get('name') }} {{ messages[1].name }}|{{ messages[1].tool_calls is defined }}",
    "{{ none | trim }}|{{ nothing | trim }}|{{ [1, 'a'] | trim }}|{{ ' b ' | trim }}|{{ none is string }} {{ messages[2].content is none }}",
    "{%- macro show(m, sep=': ') -%}{{ m.role ~ sep ~ m.content | replace('a', 'A') | upper | lower }}{%- endmacro -%}{{ show(messages[1]) }} {{ strftime_now('%d %B %Y, %H:%M') }} {{ '%s-%d' | format('a', 3) }}",
]

# The same for other conversations.
MORE_SNIPPETS = [
    ("unknown", "{{ messages[1].mood.deep }} {{ messages[1].mood.deep[2].y }} {{ messages[2]['score'] + 1 }} {{ messages[3].lang }} {{ messages[2].lang is defined }} {{ messages[0].lang }}"),
    ("reasoning_content", "{{ messages[1].reasoning_content }}{{ messages[3].get('reasoning_content') }} {{ messages[0].reasoning_content is defined }}"),
    ("thinking", "{% for m in messages %}{{ m.reasoning_content }}|{{ m.thinking }}|{% endfor %}"),
    ("parallel", "{% for m in messages if m.role == 'tool' %}{{ m.tool_call_id }}={{ m.content }} {% endfor %}{{ messages[1].tool_calls | map(attribute='id') | join(',') }}"),
]

rendering.datetime = type("Frozen", (datetime.datetime,), {"now": classmethod(lambda cls, tz=None: datetime.datetime.fromtimestamp(NOW, datetime.UTC))})
words = {"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 3}
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")), unk_token="<unk>",
                                    bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def with_arguments(messages, form):
    """The messages with the arguments of calls in a form: `object`, `string`, or as they are."""
    def change(arguments):
        match form, arguments:
            case "object", str():
                return json.loads(arguments)
            case "string", dict():
                return json.dumps(arguments, ensure_ascii=False)
        return arguments

    def function(one):
        return {**one, "function": {**one["function"], "arguments": change(one["function"]["arguments"])}}

    return [{**m, "tool_calls": [function(one) for one in m["tool_calls"]]} if "tool_calls" in m else m for m in messages]


def apply(template, messages, tools, prompt=False, null="absent"):
    """What the template makes of messages; null content is null or a key that is missing."""
    if null == "absent":
        return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, tools=tools, add_generation_prompt=prompt)
    given = dict(tools=tools, chat_template=template, add_generation_prompt=prompt, **tokenizer.special_tokens_map)
    return rendering.render_jinja_template([messages], **given)[0][0]


def attempt(*given, **more):
    try:
        return apply(*given, **more)
    except Exception:
        return None


def null_for(template):
    """What null content is to a template."""
    probe = with_arguments(CONVERSATIONS["null"], arguments_for(template))
    empty = attempt(template, [{**m, "content": m["content"] or ""} for m in probe], TOOLS) or ""
    text = attempt(template, probe, TOOLS, null="null")
    writes_it = lambda word: text.count(word) > empty.count(word)
    return "absent" if text is None or writes_it("None") or writes_it("null") else "null"


def arguments_for(template):
    """The form in which a template wants the arguments of a call: `object`, `string` or `either`."""
    wanted = set()
    for content, null in (("", "absent"), (None, "null"), (None, "absent")):
        probe = lambda arguments: [say("user", "?"), say("assistant", content, tool_calls=[call("call00001") | {"function": {"name": "area", "arguments": arguments}}]),
                                   answer("call00001", "1.5"), say("assistant", "!")]
        written = '{"a":3,"b":"x"}'
        from_object, from_string = (attempt(template, probe(form), TOOLS, null=null) for form in (json.loads(written), written))
        if from_object is None and from_string is None or from_object == from_string:
            continue
        if from_object is None or "{'a': 3" in from_object:
            wanted.add("string")
        # A string that is written as JSON has its quotes escaped.
        elif from_string is None or json.dumps(written)[1:-1] in from_string:
            wanted.add("object")
        else:
            wanted.add("either")
    assert len(wanted) <= 1, wanted
    return (wanted or {"either"}).pop()


def render(template, name, form, null):
    tools = TOOLS if name in WITH_TOOLS else None
    messages = with_arguments(CONVERSATIONS[name], form)
    try:
        text, prompt = (apply(template, messages, tools, prompt, null) for prompt in (False, True))
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    # The prompt is mostly the text and a header: then only the header is kept.
    return {"text": text, "header": prompt[len(text):]} if prompt.startswith(text) else {"text": text, "prompt": prompt}


def render_all(source):
    """What a template makes of all conversations; what two have in common is written once."""
    form, null = arguments_for(source), null_for(source)
    made = {}
    for name in CONVERSATIONS:
        this = render(source, name, form, null)
        same = next((before for before, that in made.items() if that == this), None)
        made[name] = {"as": same} if same and "text" in this else this
    return {"arguments": form, "null_is": null, **made}


templates = {}
for package, names in FAMILIES.items():
    for name in names:
        source = (Path(sys.argv[1]) / package / f"{name}.jinja").read_bytes()
        templates[f"{package}/{name}"] = {"sha256": hashlib.sha256(source).hexdigest(), **render_all(source.decode())}
snippets = [{"template": source, "conversation": name, "text": apply(source, CONVERSATIONS[name], TOOLS)}
            for name, source in [("tools", source) for source in SNIPPETS] + MORE_SNIPPETS]
json.dump({"now": NOW, "tokens": words, "tools": TOOLS, "with_tools": WITH_TOOLS, "conversations": CONVERSATIONS, "templates": templates, "snippets": snippets},
          sys.stdout, ensure_ascii=False, indent=1)
print()
