"""Writes templates.json: what Hugging Face makes of our conversations with the templates of real models.

usage: templates.py FOLDER > templates.json        needs: tokenizers, transformers, jinja2

FOLDER is what fetch_templates.py wrote. The templates themselves are not ours and are not kept: the
file has the SHA-256 of each, and for each of our conversations the text without a generation prompt
and the one with it; or what the template says when it refuses the conversation. Dates are frozen.
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
            "lfm2_v2", "llama3", "llama3_1", "llama3_2", "nemotron_3_nano", "phi3", "phi3_5", "qwen2_5", "qwen3",
            "qwen3_training", "qwen3_5_think", "qwen3_instruct_2507", "muse_glimmer"],
    "axolotl": ["alpaca", "aya", "chatml", "command_a", "command_a_tool_use", "deepseek_v2", "exaone", "exaone4", "falcon_h1",
                "jamba", "llama4", "metharme", "mistral_v1", "mistral_v2v3", "mistral_v3_tekken", "mistral_v7_tekken", "phi_4"],
}
TOOLS = [{"type": "function", "function": {
    "name": "area", "description": "The area of a rectangle <a × b>",
    "parameters": {"type": "object", "properties": {"a": {"type": "number", "description": "metres"}, "b": {"type": "number"}}, "required": ["a", "b"]}}}]
CALL = {"id": "call00001", "type": "function", "function": {"name": "area", "arguments": {"a": 3, "b": 0.5}}}
say = lambda role, content, **more: {"role": role, "content": content, **more}
CONVERSATIONS = {
    "system": [say("system", "Answer briefly."), say("user", "3 + 5?"), say("assistant", "8"), say("user", "And \"7 < 9\"?")],
    "turns": [say("user", "  小明有3个苹果\n\n{{ x }} & 'y' "), say("assistant", "\n3 个 👋 "), say("user", "谢谢"), say("assistant", "不客气")],
    "reasoning": [say("user", "1 + 1?"), say("assistant", "<think>\neasy\n</think>\n\n2"), say("user", "2 + 2?"), say("assistant", "<think>\nhm\n</think>\n\n4")],
    "tools": [say("system", "Use the tool."), say("user", "3 m by 0.5 m?"), say("assistant", "", tool_calls=[CALL]),
              say("tool", "1.5", name="area", tool_call_id="call00001"), say("assistant", "1.5 m²"), say("user", "Thanks")],
}

# Of our own writing: what Python writes in ways of its own.
SNIPPETS = [
    "{{ tools }}", "{{ messages[2].tool_calls }} {{ messages[2].nothing }}", "{{ [none, true, 1, 2.0, 1e16, 1.5e-05, 'it\\'s', 'a\\n'] }}",
    "{{ tools | tojson(indent=2) }}", "{{ {'b': [], 'a': {}, 'c': [1, [2]]} | tojson(indent=3) }}", "{{ {'b': 1e20, 'a': 1e-7} | tojson(sort_keys=true) }}",
    "{{ tools | tojson(separators=(',', ':')) }}", "{{ [1, 'é<'] | tojson(ensure_ascii=true, indent=1, separators=(';', '=')) }}",
    "{{ (tools[0].function.parameters | string).split(',') }}", "{{ ' \\x1fa \\x1c' | trim }}|{{ 'a\\x0bb\\r\\nc\\n'.splitlines() }}|{{ ' a  b '.split() }}",
    "line\r\n{% if true %}\r\nnext\r{% endif %}end\n", "{{ 'x{}y'.format(tools[0].type) }} {{ 'ab cd'.title() }} {{ dict(a=1).get('b', 2) }}",
    "{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}{% generation %}{{ m.role }}{% endgeneration %} {% endfor %}{{ messages[1:3] | length }}{{ messages[::-1][0].content }}",
    "{% set ns = namespace(n=0, last=none) %}{% for m in messages if m.content is string and m.content %}{% set ns.n = ns.n + 1 %}{% set ns.last = m.role %}{% endfor %}{{ ns.n }} {{ ns.last }} {{ tools is iterable }} {{ tools[0] is mapping }} {{ x is defined }} {{ ns.last is none }}",
    "{%- macro show(m, sep=': ') -%}{{ m.role ~ sep ~ m.content | replace('a', 'A') | upper | lower }}{%- endmacro -%}{{ show(messages[1]) }} {{ strftime_now('%d %B %Y, %H:%M') }} {{ '%s-%d' | format('a', 3) }}",
]

rendering.datetime = type("Frozen", (datetime.datetime,), {"now": classmethod(lambda cls, tz=None: datetime.datetime.fromtimestamp(NOW, datetime.UTC))})
words = {"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 3}
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")), unk_token="<unk>",
                                    bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def render(template, name):
    options = {"chat_template": template, "tokenize": False, "tools": TOOLS if name == "tools" else None}
    try:
        text, prompt = (tokenizer.apply_chat_template(CONVERSATIONS[name], add_generation_prompt=add, **options) for add in (False, True))
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    # The prompt is mostly the text and a header: then only the header is kept.
    return {"text": text, "header": prompt[len(text):]} if prompt.startswith(text) else {"text": text, "prompt": prompt}


def render_own(source):
    return tokenizer.apply_chat_template(CONVERSATIONS["tools"], chat_template=source, tokenize=False, tools=TOOLS)


templates = {}
for package, names in FAMILIES.items():
    for name in names:
        source = (Path(sys.argv[1]) / package / f"{name}.jinja").read_bytes()
        templates[f"{package}/{name}"] = {
            "sha256": hashlib.sha256(source).hexdigest(), **{name: render(source.decode(), name) for name in CONVERSATIONS}}
json.dump({"now": NOW, "tokens": words, "tools": TOOLS, "conversations": CONVERSATIONS, "templates": templates,
           "snippets": [{"template": source, "text": render_own(source)} for source in SNIPPETS]},
          sys.stdout, ensure_ascii=False, indent=1)
print()
