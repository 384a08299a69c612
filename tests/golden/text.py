"""Writes text.json: what Hugging Face makes of texts and conversations.

usage: text.py MODEL.gguf > text.json        needs: tokenizers, transformers, jinja2, gguf, regex

The tokenizer is assembled from the tokens and merges of SmolLM2's GGUF in the way of the model's
published tokenizer.json (digits one by one, then byte-level BPE), and for `words` in the ways of
GPT-2, Llama 3 and Qwen 2. A second implementation of BPE in plain Python, below, has to agree
before anything is written. The mask is found from the text alone, by an expression for the
assistant's turns.
"""
import json, re, sys
import regex
from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

fields = GGUFReader(sys.argv[1]).fields
get = lambda key: fields[key].contents()
tokens, merges, types = (get(f"tokenizer.ggml.{k}") for k in ("tokens", "merges", "token_type"))
template = get("tokenizer.chat_template")

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LATER = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3, QWEN2 = LATER % "{1,3}", LATER % ""
split = lambda r: pre_tokenizers.Sequence([
    pre_tokenizers.Split(Regex(r), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
WORDS = {
    "smollm": (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level]), False, False),
    "gpt-2": (byte_level, False, False),
    "llama-bpe": (split(LLAMA3), False, True),
    "qwen2": (split(QWEN2), True, False),
}


def assemble(words):
    pre, nfc, whole_words = WORDS[words]
    pairs = [tuple(m.split(" ")) for m in merges]
    t = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, pairs, ignore_merges=whole_words))
    if nfc:
        t.normalizer = normalizers.NFC()
    t.pre_tokenizer, t.decoder = pre, decoders.ByteLevel()
    t.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, types) if k == 3])
    return t


# The second implementation: words, bytes as letters, and the merge of lowest rank until none is left.
printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
letter = {b: chr(b) for b in printable} | {b: chr(256 + n) for n, b in enumerate(b for b in range(256) if b not in printable)}
rank = {tuple(m.split(" ")): n for n, m in enumerate(merges)}
number = {t: i for i, t in enumerate(tokens)}


def bpe(text):
    out = []
    for piece in regex.findall(r"\p{N}|\P{N}+", text):
        for word in regex.findall(GPT2, piece):
            parts = [letter[b] for b in word.encode()]
            while len(parts) > 1:
                n = min(range(len(parts) - 1), key=lambda n: rank.get((parts[n], parts[n + 1]), len(rank)))
                if (parts[n], parts[n + 1]) not in rank:
                    break
                parts[n:n + 2] = ["".join(parts[n:n + 2])]
            out += [number[p] for p in parts]
    return out


TEXTS = [
    "The capital of France is",
    "小明有3个苹果,又买了5个,一共几个?",
    "1234567890 3.14159 1,000,000 ٣٤ ½ Ⅻ",
    "Hello,   world!\t\tTabs\n\n\n  and   runs    of spaces   ",
    "\n\nleading line breaks",
    "emoji 👩‍👩‍👧‍👦 🇨🇳 👍🏽 ❤️",
    "it's I'LL they'Ve we'd café cafe\u0301 naïve",
    "def f(x):\n    return x**2  # ok\r\n\r\nx != y; a->b; {{}}",
    "日本語 한국어 العربية हिन्दी ไทย",
    "\u00a0nbsp \u3000wide \u200bzero \u0000nul",
    "",
    " ",
]
SPECIAL = ["<|im_start|>user\nhi<|im_end|>\n", "a<|endoftext|>b <|im_end|> c<|im_sta", "<file_sep><reponame>x"]
system, user, assistant = ({"role": r} for r in ("system", "user", "assistant"))
say = lambda who, text: {**who, "content": text}
CHATS = [
    [say(user, "3 + 5 = ?"), say(assistant, "8")],
    [say(system, "你是数学老师。"), say(user, "小明有3个苹果,又买了5个,一共几个?"), say(assistant, "3 + 5 = 8 (个)\n答:一共8个。")],
    [say(user, "Hi"), say(assistant, "Hello! 👋"), say(user, "  12 * 12?  "), say(assistant, "144\n"), say(user, "thanks")],
    [say(system, ""), say(user, "a"), say(assistant, ""), say(user, "b"), say(assistant, "c\n\nd")],
    [say(user, "no answer yet")],
]
TOOLS = [{"type": "function", "function": {"name": "add", "description": "a < b & 'c' — é", "parameters": {
    "type": "object", "properties": {"x": {"type": "number", "default": 1.5}, "a": {"enum": [1, None, True]}}, "required": []}}}]
CALL = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"x": 1, "a": "<é>"}}}]}
CALLS = [say(system, "s"), say(user, "add"), CALL, {"role": "tool", "content": " 2 ", "name": "add"}, say(assistant, " so <think>2</think> it is 2 ")]
# Templates in the manners of the families in use, written for this test.
TEMPLATES = {
    "tools": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {%- for tool in tools %}
{{ tool | tojson }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if message.role == 'user' and not message.content.startswith('<tool') %}{%- set ns.last = index %}{%- break %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role in ['user'] or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}{%- set content = content.split('</think>')[-1].lstrip() %}{%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- generation %}
        {{- content }}
        {%- for call in message.tool_calls or [] %}
            {{- '<tool_call>' ~ (call.function.arguments | tojson) ~ '</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>' ~ message.get('name', 'tool') ~ '\\n' ~ message.content | trim ~ '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{{- ns.last }}{{ tools[0].function.parameters | tojson(indent=4) }}
{%- for key, value in tools[0].function.items() if value is string %}{{ loop.index }}{{ key }}={{ value }};{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
""",
    "inst": """{% if messages[0]['role'] == 'system' %}
  {% set system = messages[0]['content'] | trim + '\\n\\n' %}
  {% set rest = messages[1:] %}
{% endif %}
{% for m in rest %}
{% if m['role'] == 'user' %}
{{ bos_token + '[INST] ' + (system if loop.first else '') + m['content'].strip() + ' [/INST]' }}
{% elif m['role'] == 'assistant' %}
{{ ' ' + m['content'] | trim + eos_token }}
{% else %}
{{ m['role'].upper() ~ loop.last ~ m.nothing ~ none }}
{% endif %}
{% endfor %}
""",
}

tokenizer = assemble("smollm")
for text in TEXTS:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert ids == bpe(text), text
    assert tokenizer.decode(ids, skip_special_tokens=False) == text, text
hf = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>")


def chat(messages):
    # A system message that is blank is none.
    given = [m for m in messages if m["role"] != "system" or m["content"].strip()]
    text = hf.apply_chat_template(given, chat_template=template, tokenize=False)
    encoding = tokenizer.encode(text, add_special_tokens=False)
    ids = hf.apply_chat_template(given, chat_template=template, return_dict=False)
    assert ids == encoding.ids
    said = [m.span(1) for m in re.finditer(r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)", text, re.S)]
    trained = [int(any(a <= x and y <= b for a, b in said)) for x, y in encoding.offsets]
    prompt = hf.apply_chat_template(given, chat_template=template, add_generation_prompt=True, return_dict=False)
    return {"messages": messages, "text": text, "ids": ids, "trained": trained, "prompt": prompt}


def render(name):
    options = {"chat_template": TEMPLATES[name], "tools": TOOLS, "tokenize": False}
    return {"template": TEMPLATES[name], "tools": TOOLS, "messages": CALLS,
            "text": [hf.apply_chat_template(CALLS, add_generation_prompt=p, **options) for p in (False, True)]}


json.dump({
    "plain": [{"text": t, "ids": tokenizer.encode(t, add_special_tokens=False).ids} for t in TEXTS],
    "special": [{"text": t, "ids": tokenizer.encode(t, add_special_tokens=False).ids} for t in SPECIAL],
    "words": {w: [assemble(w).encode(t, add_special_tokens=False).ids for t in TEXTS] for w in WORDS},
    "chats": [chat(c) for c in CHATS],
    "templates": [render(name) for name in TEMPLATES],
}, sys.stdout, ensure_ascii=False, indent=None)
